"""ONNX Runtime's MatMulNBits: a float product with a weight of 2, 4 or 8 bits, each block of a row with its own scale.

The unpacking is said in operations on the weight, so that its numbers stay in the model's file until a pass wants them.
"""

from __future__ import annotations

from xdsl.dialects import arith
from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue

from sterna.frontends.onnx.contractions import matmul
from sterna.frontends.onnx.data_types import BY_NAME, FLOAT
from sterna.frontends.onnx.emitters import EmitterTable
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.shapes import transposed
from sterna.frontends.onnx.sizes import shape_text
from sterna.frontends.onnx.values import Tensor
from sterna.frontends.tensor_builder import Shape as IrShape
from sterna.frontends.tensor_builder import shape_of, without_units

EMITTERS = EmitterTable()
UINT8 = BY_NAME["uint8"]
LARGEST_MATRIX = 1 << 24
"""Rows or columns."""


@EMITTERS.of("MatMulNBits", domain="com.microsoft")
def matmul_nbits(
    to: Node,
    a: Tensor,
    packed: Tensor,
    scales: Tensor,
    zeros: Tensor | None = None,
    group_index: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """y = a @ w^T + bias, with w [N, K] = (q - zero) * scale; without zero points the zero is 2^(bits - 1)."""
    if group_index is not None:
        raise Unsupported("the input 'g_idx'")
    rows, columns, bits, block = (to.integer(name) for name in ("N", "K", "bits", "block_size"))
    if bits not in (2, 4, 8):
        raise Unsupported(f"{bits} bits")
    if (
        not (1 <= rows <= LARGEST_MATRIX and 1 <= columns <= LARGEST_MATRIX)
        or block < 16
        or block & (block - 1)
    ):
        raise OnnxError(f"{to.place}: N = {rows}, K = {columns} in blocks of {block} is no matrix in blocks")
    blocks = -(-columns // block)
    _expect(to, packed, (rows, blocks, block * bits // 8), "B")
    if scales.shape != (rows * blocks,):
        _expect(to, scales, (rows, blocks), "scales")
    whole = (rows, blocks, block)
    numbers = _as_floats(to, _unpacked(to, packed, bits, whole))
    table = (rows, blocks, 1)
    numbers = to.binary(arith.SubfOp, numbers, _zero_points(to, zeros, bits, rows, blocks, block))
    by_block = to.reshape(to.value(scales), table)
    numbers = to.binary(arith.MulfOp, numbers, to.stretch(by_block, table, whole))
    weight = to.reshape(numbers, (rows, blocks * block))
    if blocks * block != columns:
        weight = to.build.slice(weight, len(shape_of(weight)) - 1, 0, columns)
    y = matmul(to, a, transposed(to, Tensor((rows, columns), FLOAT, weight), [1, 0]))
    if bias is None:
        return y
    _expect(to, bias, (rows,), "bias")
    return to.result(to.binary(arith.AddfOp, to.value(y), to.broadcast(bias, y.shape)), y.shape, y.type)


def _expect(to: Node, tensor: Tensor, shape: tuple[int, ...], name: str) -> None:
    if tensor.shape != shape:
        raise OnnxError(
            f"{to.place}: input '{name}': expected {shape_text(shape)}, found {shape_text(tensor.shape)}"
        )


def _zero_points(to: Node, zeros: Tensor | None, bits: int, rows: int, blocks: int, block: int) -> SSAValue:
    """The zero point of each element, as floats."""
    table, whole = (rows, blocks, 1), (rows, blocks, block)
    if zeros is None:
        return to.splat(1 << bits - 1, whole, FLOAT)
    if zeros.type.is_float:
        _expect(to, zeros, (rows, blocks), "zero_points")
        return to.stretch(to.reshape(to.value(zeros), table), table, whole)
    taken = -(-blocks * bits // 8)
    if zeros.shape != (rows * taken,):
        _expect(to, zeros, (rows, taken), "zero_points")
    fields = 8 // bits
    q = _unpacked(
        to,
        Tensor((rows, taken), zeros.type, to.reshape(to.value(zeros), (rows, taken))),
        bits,
        (rows, taken * fields),
    )
    if taken * fields != blocks:
        q = to.build.slice(q, len(shape_of(q)) - 1, 0, blocks)
    return to.stretch(_as_floats(to, q), table, whole)


def _as_floats(to: Node, bytes_: SSAValue) -> SSAValue:
    return to.map(bytes_, f32, lambda x: arith.UIToFPOp(x, f32))


def _unpacked(to: Node, packed: Tensor, bits: int, shape: tuple[int, ...]) -> SSAValue:
    """The fields of bytes, the first in the lowest bits, as unsigned bytes of ONNX's `shape`."""
    if packed.type != UINT8:
        raise Unsupported(f"packed in {packed.type.name}")
    value = to.value(packed)
    if bits == 8:
        return to.reshape(value, shape)
    fields = 8 // bits
    apart: IrShape = (*shape_of(value), fields)
    together = to.build.empty(apart, UINT8.element)
    mask = to.build.splat((1 << bits) - 1, shape_of(value), UINT8.element)
    for field in range(fields):
        shift = to.build.splat(field * bits, shape_of(value), UINT8.element)
        part = to.binary(arith.AndIOp, to.binary(arith.ShRUIOp, value, shift), mask)
        together = to.build.insert_slice(part, together, len(apart) - 1, field)
    reshaped = to.build.reshape(together, without_units(shape))
    assert reshaped is not None
    return reshaped
