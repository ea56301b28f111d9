"""Products of quantized tensors: exact sums of integers in i32, and what scales them back."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import arith
from xdsl.ir import SSAValue

from sterna.frontends.onnx.contractions import matmul
from sterna.frontends.onnx.convolutions import channels_first, convolve
from sterna.frontends.onnx.data_types import FLOAT, INT32
from sterna.frontends.onnx.emitters import EmitterTable
from sterna.frontends.onnx.errors import OnnxError
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.quantization import as_floats, is_zero, quantized, without_zero_point
from sterna.frontends.onnx.sizes import Shape, shape_text
from sterna.frontends.onnx.values import Tensor

EMITTERS = EmitterTable()
emits = EMITTERS.of


def _less(to: Node, x: Tensor, zero: Tensor | None, along: int, name: str) -> Tensor:
    """x - its zero point, which is one number, or one for each element of the axis `along`; in i32."""
    if zero is None or is_zero(to, zero):
        return without_zero_point(to, x, None)
    return without_zero_point(to, x, spread(to, to.cast(zero, INT32), x.shape, along, name))


def spread(to: Node, tensor: Tensor, shape: Shape, axis: int, name: str) -> SSAValue:
    """A tensor of one number, of one for each element of that axis, or of one for each of several axes."""
    if all(size == 1 for size in tensor.shape):
        return to.broadcast(Tensor((), tensor.type, tensor.value, tensor.known, tensor.name), shape)
    axis %= len(shape)
    sizes = tensor.shape
    if tensor.rank == 1:
        sizes = (*sizes, *([1] * (len(shape) - axis - 1)))
    fits = len(sizes) <= len(shape) and all(
        size in (1, other) for size, other in zip(reversed(sizes), reversed(shape), strict=False)
    )
    if not fits:
        raise OnnxError(
            f"{to.place}: input '{name}' of {shape_text(tensor.shape)} does not fit {shape_text(shape)}"
        )
    return to.stretch(to.value(tensor), sizes, shape)


@emits("MatMulInteger")
def matmul_integer(
    to: Node, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    return matmul(to, _less(to, a, a_zero, -2, "a_zero_point"), _less(to, b, b_zero, -1, "b_zero_point"))


@emits("ConvInteger")
def conv_integer(
    to: Node, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
) -> Tensor:
    """The padding is the zero point, so that it adds nothing."""
    sums, shape = convolve(
        to, _less(to, x, x_zero, 0, "x_zero_point"), _less(to, w, w_zero, 0, "w_zero_point")
    )
    return channels_first(to, Tensor(shape, INT32, sums))


@emits("QLinearMatMul")
def qlinear_matmul(
    to: Node,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    sums = matmul_integer(to, a, b, a_zero, b_zero)
    factors = [(a_scale, -2, "a_scale"), (b_scale, -1, "b_scale")]
    return requantized(to, sums, factors, y_scale, y_zero, -2)


@emits("QLinearConv")
def qlinear_conv(
    to: Node,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    sums, shape = convolve(
        to, _less(to, x, x_zero, 0, "x_zero_point"), _less(to, w, w_zero, 0, "w_zero_point")
    )
    if bias is not None:
        if bias.shape != w.shape[:1]:
            raise OnnxError(
                f"{to.place}: input 'B': expected {shape_text(w.shape[:1])}, found {shape_text(bias.shape)}"
            )
        sums = to.binary(arith.AddiOp, sums, to.broadcast(bias, shape))
    factors = [(x_scale, -1, "x_scale"), (w_scale, -1, "w_scale")]
    return channels_first(to, requantized(to, Tensor(shape, INT32, sums), factors, y_scale, y_zero, -1))


def requantized(
    to: Node,
    sums: Tensor,
    factors: Sequence[tuple[Tensor, int, str]],
    y_scale: Tensor,
    y_zero: Tensor,
    along: int,
) -> Tensor:
    """round(sums * (a_scale * b_scale) / y_scale) + y_zero, saturated."""
    (first, first_axis, first_name), (second, second_axis, second_name) = factors
    shape = sums.shape
    scale = to.binary(
        arith.MulfOp,
        spread(to, as_floats(to, first), shape, first_axis, first_name),
        spread(to, as_floats(to, second), shape, second_axis, second_name),
    )
    scaled = to.binary(arith.MulfOp, to.value(to.cast(sums, FLOAT)), scale)
    zero = None
    if not is_zero(to, y_zero):
        zero = spread(to, as_floats(to, y_zero), shape, along, "y_zero_point")
    steps = spread(to, as_floats(to, y_scale), shape, along, "y_scale")
    return quantized(to, Tensor(shape, FLOAT, scaled), steps, zero, y_zero.type)
