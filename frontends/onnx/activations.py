"""Activation functions, each composed of elementwise ops in the order that its docstring states."""

from __future__ import annotations

from math import pi, sqrt

from xdsl.dialects import arith, math
from xdsl.ir import SSAValue

from sterna.frontends.onnx.elementwise import MAXIMUM, choose
from sterna.frontends.onnx.emitters import EmitterTable
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.sizes import shape_text
from sterna.frontends.onnx.values import Tensor

EMITTERS = EmitterTable()
emits = EMITTERS.of

SELU_ALPHA = 1.67326319217681884765625
SELU_GAMMA = 1.05070102214813232421875
"""ONNX's defaults: the f32 nearest to those of arXiv 1706.02515."""


class Elementwise:
    """Arithmetic on values of one shape, with numbers in the place of splats: what the functions below are made of."""

    def __init__(self, to: Node, x: Tensor) -> None:
        self.to = to
        self.like = x
        self.x = to.value(x)

    def number(self, number: float) -> SSAValue:
        return self.to.splat(number, self.like.shape, self.like.type)

    def _value(self, operand: SSAValue | float) -> SSAValue:
        return operand if isinstance(operand, SSAValue) else self.number(operand)

    def add(self, left: SSAValue | float, right: SSAValue | float) -> SSAValue:
        return self.to.binary(arith.AddfOp, self._value(left), self._value(right))

    def sub(self, left: SSAValue | float, right: SSAValue | float) -> SSAValue:
        return self.to.binary(arith.SubfOp, self._value(left), self._value(right))

    def mul(self, left: SSAValue | float, right: SSAValue | float) -> SSAValue:
        return self.to.binary(arith.MulfOp, self._value(left), self._value(right))

    def div(self, left: SSAValue | float, right: SSAValue | float) -> SSAValue:
        return self.to.binary(arith.DivfOp, self._value(left), self._value(right))

    def maximum(self, left: SSAValue | float, right: SSAValue | float) -> SSAValue:
        return self.to.binary(arith.MaximumfOp, self._value(left), self._value(right))

    def minimum(self, left: SSAValue | float, right: SSAValue | float) -> SSAValue:
        return self.to.binary(arith.MinimumfOp, self._value(left), self._value(right))

    def exp(self, value: SSAValue) -> SSAValue:
        return self.to.unary(math.ExpOp, value)

    def log(self, value: SSAValue) -> SSAValue:
        return self.to.unary(math.LogOp, value)

    def tanh(self, value: SSAValue) -> SSAValue:
        return self.to.unary(math.TanhOp, value)

    def absolute(self, value: SSAValue) -> SSAValue:
        return self.to.unary(math.AbsFOp, value)

    def where(self, predicate: str, bound: float, yes: SSAValue | float, no: SSAValue | float) -> SSAValue:
        """`yes` where x compares so with the bound, else `no`."""
        condition = self.to.compare(predicate, self.x, self.number(bound), self.like.type)
        return self.to.select(condition, self._value(yes), self._value(no))

    def sigmoid(self, value: SSAValue) -> SSAValue:
        """1 / (1 + exp(-v))"""
        return self.div(1.0, self.add(1.0, self.exp(self.to.unary(arith.NegfOp, value))))

    def softplus(self, value: SSAValue) -> SSAValue:
        """max(v, 0) + log(1 + exp(-|v|)), which does not overflow"""
        tail = self.log(self.add(1.0, self.exp(self.to.unary(arith.NegfOp, self.absolute(value)))))
        return self.add(self.maximum(value, 0.0), tail)

    def result(self, value: SSAValue) -> Tensor:
        return self.to.result(value, self.like.shape, self.like.type)


@emits("Relu")
def relu(to: Node, x: Tensor) -> Tensor:
    zero = to.splat(0, x.shape, x.type)
    return to.result(choose(to, MAXIMUM, to.value(x), zero, x.type), x.shape, x.type)


@emits("Sigmoid")
def sigmoid(to: Node, x: Tensor) -> Tensor:
    e = Elementwise(to, x)
    return e.result(e.sigmoid(e.x))


@emits("Swish")
def swish(to: Node, x: Tensor) -> Tensor:
    """x * sigmoid(alpha * x)"""
    e, alpha = Elementwise(to, x), to.number("alpha", 1.0)
    return e.result(e.mul(e.x, e.sigmoid(e.x if alpha == 1 else e.mul(alpha, e.x))))


@emits("LeakyRelu")
def leaky_relu(to: Node, x: Tensor) -> Tensor:
    """alpha * x where x < 0, else x"""
    e = Elementwise(to, x)
    return e.result(e.where("lt", 0.0, e.mul(to.number("alpha", 0.01), e.x), e.x))


@emits("PRelu")
def prelu(to: Node, x: Tensor, slope: Tensor) -> Tensor:
    """slope * x where x < 0, else x; the slope stretches to x"""
    if to.broadcast_shape(x, slope) != x.shape:
        raise OnnxError(f"{to.place}: slope of {shape_text(slope.shape)} does not fit {shape_text(x.shape)}")
    if not x.type.is_float:
        raise Unsupported(f"on {x.type.name}")
    e = Elementwise(to, x)
    return e.result(e.where("lt", 0.0, e.mul(to.broadcast(slope, x.shape), e.x), e.x))


@emits("ThresholdedRelu")
def thresholded_relu(to: Node, x: Tensor) -> Tensor:
    """x where x > alpha, else 0"""
    e = Elementwise(to, x)
    return e.result(e.where("gt", to.number("alpha", 1.0), e.x, 0.0))


@emits("Shrink")
def shrink(to: Node, x: Tensor) -> Tensor:
    """x + bias where x < -lambd, x - bias where x > lambd, else 0"""
    if not x.type.is_float:
        raise Unsupported(f"on {x.type.name}")
    e, bias, lambd = Elementwise(to, x), to.number("bias", 0.0), to.number("lambd", 0.5)
    return e.result(e.where("lt", -lambd, e.add(e.x, bias), e.where("gt", lambd, e.sub(e.x, bias), 0.0)))


def _expm1(e: Elementwise, alpha: float, value: SSAValue) -> SSAValue:
    """alpha * (exp(v) - 1)"""
    return e.mul(alpha, e.sub(e.exp(value), 1.0))


@emits("Elu")
def elu(to: Node, x: Tensor) -> Tensor:
    """alpha * (exp(x) - 1) where x < 0, else x"""
    e = Elementwise(to, x)
    return e.result(e.where("lt", 0.0, _expm1(e, to.number("alpha", 1.0), e.x), e.x))


@emits("Selu")
def selu(to: Node, x: Tensor) -> Tensor:
    """gamma * (alpha * (exp(x) - 1) where x <= 0, else x)"""
    e = Elementwise(to, x)
    inner = e.where("le", 0.0, _expm1(e, to.number("alpha", SELU_ALPHA), e.x), e.x)
    return e.result(e.mul(to.number("gamma", SELU_GAMMA), inner))


@emits("Celu")
def celu(to: Node, x: Tensor) -> Tensor:
    """max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)"""
    e, alpha = Elementwise(to, x), to.number("alpha", 1.0)
    below = e.minimum(_expm1(e, alpha, e.div(e.x, alpha)), 0.0)
    return e.result(e.add(e.maximum(e.x, 0.0), below))


@emits("HardSigmoid")
def hard_sigmoid(to: Node, x: Tensor) -> Tensor:
    """max(0, min(1, alpha * x + beta))"""
    e = Elementwise(to, x)
    return e.result(_hard_sigmoid(e, to.number("alpha", 0.2), to.number("beta", 0.5)))


def _hard_sigmoid(e: Elementwise, alpha: float, beta: float) -> SSAValue:
    return e.maximum(0.0, e.minimum(1.0, e.add(e.mul(alpha, e.x), beta)))


@emits("HardSwish")
def hard_swish(to: Node, x: Tensor) -> Tensor:
    """x * max(0, min(1, x / 6 + 1/2))"""
    e = Elementwise(to, x)
    return e.result(e.mul(e.x, _hard_sigmoid(e, 1 / 6, 0.5)))


@emits("Softplus")
def softplus(to: Node, x: Tensor) -> Tensor:
    e = Elementwise(to, x)
    return e.result(e.softplus(e.x))


@emits("Softsign")
def softsign(to: Node, x: Tensor) -> Tensor:
    """x / (1 + |x|)"""
    e = Elementwise(to, x)
    return e.result(e.div(e.x, e.add(1.0, e.absolute(e.x))))


@emits("Mish")
def mish(to: Node, x: Tensor) -> Tensor:
    """x * tanh(softplus(x))"""
    e = Elementwise(to, x)
    return e.result(e.mul(e.x, e.tanh(e.softplus(e.x))))


@emits("Gelu")
def gelu(to: Node, x: Tensor) -> Tensor:
    """x / 2 * (1 + erf(x / sqrt(2))), or with tanh(sqrt(2 / pi) * (x + 0.044715 x^3)) in the place of erf"""
    e = Elementwise(to, x)
    match to.text("approximate", "none"):
        case "none":
            inner = to.unary(math.ErfOp, e.mul(e.x, 1 / sqrt(2)))
        case "tanh":
            cube = e.mul(0.044715, e.mul(e.mul(e.x, e.x), e.x))
            inner = e.tanh(e.mul(sqrt(2 / pi), e.add(e.x, cube)))
        case other:
            raise OnnxError(f"{to.place}: approximate: expected none or tanh, found '{other}'")
    return e.result(e.mul(e.mul(0.5, e.x), e.add(1.0, inner)))


@emits("Tan")
def tan(to: Node, x: Tensor) -> Tensor:
    """sin(x) / cos(x)"""
    e = Elementwise(to, x)
    return e.result(e.div(to.unary(math.SinOp, e.x), to.unary(math.CosOp, e.x)))


@emits("Sinh")
def sinh(to: Node, x: Tensor) -> Tensor:
    """(exp(x) - exp(-x)) / 2"""
    e = Elementwise(to, x)
    return e.result(e.mul(0.5, e.sub(e.exp(e.x), e.exp(to.unary(arith.NegfOp, e.x)))))


@emits("Cosh")
def cosh(to: Node, x: Tensor) -> Tensor:
    """(exp(x) + exp(-x)) / 2"""
    e = Elementwise(to, x)
    return e.result(e.mul(0.5, e.add(e.exp(e.x), e.exp(to.unary(arith.NegfOp, e.x)))))
