"""QuantizeLinear and its kin: floats to small integers and back, by steps and zero points.

    q = clamp(roundeven(x / scale) + zero_point)        x ~ (q - zero_point) * scale

Quantized tensors are integers in the IR; those of 2 and 4 bits are held in i8, unsigned ones in the same bits.
"""

from __future__ import annotations

from math import prod
from typing import cast

import numpy as np
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import IntegerType
from xdsl.ir import SSAValue

from sterna.frontends.onnx.data_types import BY_NAME, FLOAT, INT32, INT64, DataType
from sterna.frontends.onnx.elementwise import choose
from sterna.frontends.onnx.emitters import EmitterTable
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.node import LARGEST_FOLD, Node
from sterna.frontends.onnx.sizes import Dim, Shape, shape_text
from sterna.frontends.onnx.values import Tensor
from sterna.frontends.tensor_builder import shape_of

EMITTERS = EmitterTable()
emits = EMITTERS.of

UINT8 = BY_NAME["uint8"]
WIDEST = 16
"""Bits of the largest integers to which floats are quantized."""


def parameter(to: Node, tensor: Tensor, like: Tensor, name: str) -> SSAValue:
    """A scale or zero point, repeated to the shape of `like`: one number, one for each element of an axis, or one for
    each block of `block_size` elements along it."""
    block = to.integer("block_size", 0)
    if prod(size if isinstance(size, int) else 2 for size in tensor.shape) == 1 and not block:
        return to.broadcast(Tensor((), tensor.type, tensor.value, tensor.known, tensor.name), like.shape)
    axis = like.axis(to.integer("axis", 1))
    length = like.shape[axis]
    wanted = (length,)
    if block:
        if block < 0 or not isinstance(length, int):
            raise Unsupported(f"blocks of {block} along an axis of {length}")
        wanted = (*like.shape[:axis], -(-length // block), *like.shape[axis + 1 :])
    if tensor.shape != wanted:
        raise OnnxError(
            f"{to.place}: input '{name}': expected {shape_text(wanted)}, found {shape_text(tensor.shape)}"
        )
    if block:
        return _blocks(to, to.value(tensor), wanted, axis, block, like.shape)
    return to.stretch(to.value(tensor), (length, *([1] * (like.rank - axis - 1))), like.shape)


def _blocks(to: Node, value: SSAValue, shape: Shape, axis: int, block: int, target: Shape) -> SSAValue:
    """Each element repeated `block` times along the axis, the last one as often as the axis is long."""
    count, length = shape[axis], target[axis]
    assert isinstance(count, int) and isinstance(length, int)
    inner = shape[axis + 1 :]
    before: tuple[Dim, ...] = (*shape[:axis], count, 1, *inner)
    repeated = to.stretch(value, before, (*shape[:axis], count, block, *inner))
    merged = (*shape[:axis], count * block, *inner)
    value = to.reshape(repeated, merged)
    if count * block == length:
        return value
    place = Tensor(merged, FLOAT, value).ir_axis(axis)
    assert place is not None
    return to.build.slice(value, place, 0, length)


def is_zero(to: Node, tensor: Tensor) -> bool:
    """Whether a tensor is known to be all zeros."""
    if tensor.known is None or np.prod(tensor.known.shape, dtype=object) > LARGEST_FOLD:
        return False
    return not to.scope.read(tensor.known).any()


def clamped(to: Node, value: SSAValue, low: float, high: float) -> SSAValue:
    """min(max(value, low), high), on floats."""
    shape, element = shape_of(value), FLOAT.element
    value = to.binary(arith.MaximumfOp, value, to.build.splat(low, shape, element))
    return to.binary(arith.MinimumfOp, value, to.build.splat(high, shape, element))


def integer_element(type: DataType) -> IntegerType:
    element = type.element
    assert isinstance(element, IntegerType)
    return cast(IntegerType, element)


def narrowed(to: Node, value: SSAValue, type: DataType) -> SSAValue:
    """Whole floats that the type can hold, as that type: through a wider one where it is unsigned."""
    held, element = 8 * type.dtype.itemsize, integer_element(type)
    if type.largest < 1 << held - 1:
        return to.map(value, element, lambda x: arith.FPToSIOp(x, element))
    wide = integer_element(INT32 if held < 32 else INT64)
    value = to.map(value, wide, lambda x: arith.FPToSIOp(x, wide))
    return to.map(value, element, lambda x: arith.TruncIOp(x, element))


def quantized(to: Node, x: Tensor, scale: SSAValue, zero: SSAValue | None, type: DataType) -> Tensor:
    """x [...] by a scale and a zero point, floats of its shape."""
    value = to.unary(math.RoundEvenOp, to.binary(arith.DivfOp, to.value(x), scale))
    if zero is not None:
        value = to.binary(arith.AddfOp, value, zero)
    return to.result(narrowed(to, clamped(to, value, type.smallest, type.largest), type), x.shape, type)


@emits("QuantizeLinear")
def quantize_linear(to: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    type = zero.type if zero is not None else UINT8
    if zero is None and to.has("output_dtype") and to.integer("output_dtype"):
        type = to.data_type("output_dtype")
    if not type.is_integer or type.bits > WIDEST:
        raise Unsupported(f"to {type.name}")
    zeros = None
    if zero is not None and not is_zero(to, zero):
        zeros = parameter(to, as_floats(to, zero), x, "y_zero_point")
    return quantized(to, as_floats(to, x), parameter(to, as_floats(to, scale), x, "y_scale"), zeros, type)


def as_floats(to: Node, tensor: Tensor) -> Tensor:
    return to.cast(tensor, FLOAT)


@emits("DequantizeLinear")
def dequantize_linear(to: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    if not x.type.is_integer:
        raise Unsupported(f"of {x.type.name}")
    value = to.value(as_floats(to, x))
    if zero is not None and not is_zero(to, zero):
        value = to.binary(arith.SubfOp, value, parameter(to, as_floats(to, zero), x, "x_zero_point"))
    value = to.binary(arith.MulfOp, value, parameter(to, as_floats(to, scale), x, "x_scale"))
    type = (
        to.data_type("output_dtype", scale.type)
        if to.has("output_dtype") and to.integer("output_dtype")
        else scale.type
    )
    return to.result(value, x.shape, type)


@emits("DynamicQuantizeLinear")
def dynamic_quantize_linear(to: Node, x: Tensor) -> list[Tensor]:
    """To uint8 by a scale that spans the tensor and 0; of a tensor of zeros the scale is 1, as in ONNX Runtime."""
    value, axes, zero = to.value(x), list(range(len(x.ir_shape))), to.splat(0.0, (), FLOAT)
    high = (
        to.build.reduce(value, axes, arith.MaximumfOp, 0.0)
        if axes
        else to.binary(arith.MaximumfOp, value, zero)
    )
    low = (
        to.build.reduce(value, axes, arith.MinimumfOp, 0.0)
        if axes
        else to.binary(arith.MinimumfOp, value, zero)
    )
    span = to.binary(arith.SubfOp, high, low)
    step = to.binary(arith.DivfOp, span, to.splat(UINT8.largest, (), FLOAT))
    step = to.select(to.compare("eq", span, zero, FLOAT), to.splat(1.0, (), FLOAT), step)
    offset = to.binary(arith.DivfOp, to.unary(arith.NegfOp, low), step)
    offset = clamped(to, to.unary(math.RoundEvenOp, offset), UINT8.smallest, UINT8.largest)
    scale, zero_point = Tensor((), FLOAT, step), Tensor((), FLOAT, offset)
    steps, offsets = (to.broadcast(tensor, x.shape) for tensor in (scale, zero_point))
    return [quantized(to, x, steps, offsets, UINT8), scale, to.result(narrowed(to, offset, UINT8), (), UINT8)]


def without_zero_point(to: Node, x: Tensor, zero: SSAValue | None) -> Tensor:
    """x - zero in i32; `zero`, of x's shape, is i32 too."""
    wide = to.cast(x, INT32)
    if zero is None:
        return wide
    return to.result(choose(to, (None, arith.SubiOp, None), to.value(wide), zero, INT32), x.shape, INT32)
