"""ONNX Runtime's operators on quantized tensors, which its quantizer writes in the format QOperator.

Each is an operator of ONNX between a DequantizeLinear of its inputs and a QuantizeLinear of its output. ONNX Runtime
itself rounds some of them on another way: a result may differ by one step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from xdsl.dialects import arith

from sterna.frontends.onnx.activations import leaky_relu, sigmoid
from sterna.frontends.onnx.data_types import FLOAT, INT32
from sterna.frontends.onnx.elementwise import ADD, MUL, Choices, combine
from sterna.frontends.onnx.emitters import Emitter, EmitterTable
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.integer_products import matmul_integer, requantized, spread
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.pooling import average_pool, global_average_pool
from sterna.frontends.onnx.quantization import UINT8, as_floats, dequantize_linear, is_zero, quantized
from sterna.frontends.onnx.reductions import softmax
from sterna.frontends.onnx.shapes import transposed
from sterna.frontends.onnx.sizes import shape_text
from sterna.frontends.onnx.slicing import concat
from sterna.frontends.onnx.values import Tensor, known

EMITTERS = EmitterTable()

DOMAIN = "com.microsoft"


def emits(operator: str) -> Callable[[Emitter], Emitter]:
    return EMITTERS.of(operator, domain=DOMAIN)


def _quantize(to: Node, x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """By one step and one zero point."""
    zeros = None
    if zero is not None and not is_zero(to, zero):
        zeros = spread(to, as_floats(to, zero), x.shape, -1, "zero point")
    steps = spread(to, as_floats(to, scale), x.shape, -1, "scale")
    return quantized(to, x, steps, zeros, UINT8 if zero is None else zero.type)


def _elementwise(choices: Choices) -> Emitter:
    def emit(
        to: Node,
        a: Tensor,
        a_scale: Tensor,
        a_zero: Tensor,
        b: Tensor,
        b_scale: Tensor,
        b_zero: Tensor,
        scale: Tensor,
        zero: Tensor | None = None,
    ) -> Tensor:
        left, right = dequantize_linear(to, a, a_scale, a_zero), dequantize_linear(to, b, b_scale, b_zero)
        return _quantize(to, combine(to, choices, left, right), scale, zero)

    return emit


emits("QLinearAdd")(_elementwise(ADD))
emits("QLinearMul")(_elementwise(MUL))


def _of_floats(operator: Callable[[Node, Tensor], Tensor]) -> Emitter:
    def emit(
        to: Node, x: Tensor, x_scale: Tensor, x_zero: Tensor, scale: Tensor, zero: Tensor | None = None
    ) -> Tensor:
        if to.integer("channels_last", 0):
            raise Unsupported("channels_last")
        return _quantize(to, operator(to, dequantize_linear(to, x, x_scale, x_zero)), scale, zero)

    return emit


emits("QLinearSigmoid")(_of_floats(sigmoid))
emits("QLinearLeakyRelu")(_of_floats(leaky_relu))
emits("QLinearAveragePool")(_of_floats(average_pool))
emits("QLinearGlobalAveragePool")(_of_floats(global_average_pool))


@emits("QLinearSoftmax")
def qlinear_softmax(
    to: Node, x: Tensor, x_scale: Tensor, x_zero: Tensor, scale: Tensor, zero: Tensor
) -> Tensor:
    if to.integer("opset") < 13 and x.axis(to.integer("axis", -1)) != x.rank - 1:
        raise Unsupported("the softmax of an opset before 13, along another axis than the last")
    return _quantize(to, softmax(to, dequantize_linear(to, x, x_scale, x_zero)), scale, zero)


@emits("QLinearConcat")
def qlinear_concat(to: Node, scale: Tensor, zero: Tensor, *inputs: Tensor) -> Tensor:
    if not inputs or len(inputs) % 3:
        raise OnnxError(f"{to.place}: expected a tensor, its scale and its zero point, for each part")
    parts = [dequantize_linear(to, *inputs[n : n + 3]) for n in range(0, len(inputs), 3)]
    return _quantize(to, concat(to, *parts), scale, zero)


@emits("QGemm")
def qgemm(
    to: Node,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    zero: Tensor | None = None,
) -> Tensor:
    """alpha * (a @ b + bias), where a and b may come transposed; floats if no scale of the result is given."""
    if a.rank != 2 or b.rank != 2:
        raise OnnxError(
            f"{to.place}: expected matrices, found {shape_text(a.shape)} and {shape_text(b.shape)}"
        )
    a = transposed(to, a, [1, 0]) if to.integer("transA", 0) else a
    b = transposed(to, b, [1, 0]) if to.integer("transB", 0) else b
    sums = matmul_integer(to, a, b, a_zero, b_zero)
    if bias is not None:
        if to.broadcast_shape(sums, bias) != sums.shape:
            raise OnnxError(f"{to.place}: input 'C' of {shape_text(bias.shape)} does not fit")
        total = to.binary(arith.AddiOp, to.value(sums), to.broadcast(bias, sums.shape))
        sums = to.result(total, sums.shape, INT32)
    if (alpha := to.number("alpha", 1.0)) != 1:
        a_scale = combine(to, MUL, a_scale, known(np.array(alpha, np.float32), FLOAT))
    if scale is None:
        factor = combine(to, MUL, as_floats(to, a_scale), as_floats(to, b_scale))
        return combine(to, MUL, to.cast(sums, FLOAT), factor)
    zero = zero if zero is not None else known(np.array(0, np.uint8), UINT8)
    factors = [(a_scale, -2, "a_scale"), (b_scale, -1, "b_scale")]
    return requantized(to, sums, factors, scale, zero, -2)
