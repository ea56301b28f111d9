"""ATen's functions of one element: transcendental ones and activations. See `aten` for what a table of emitters is."""

from __future__ import annotations

from math import log, pi, sqrt

from torch.fx import Node
from xdsl.dialects import arith, math
from xdsl.ir import Operation, SSAValue

from sterna.frontends.aten import EmitterTable, aten, power
from sterna.frontends.lowering import Lowering, Unsupported

EMITTERS = EmitterTable()
emits = EMITTERS.of

FUNCTIONS: dict[object, type[Operation]] = {
    aten.log.default: math.LogOp,
    aten.tanh.default: math.TanhOp,
    aten.erf.default: math.ErfOp,
    aten.sin.default: math.SinOp,
    aten.cos.default: math.CosOp,
}
"""Integers become floats first, as in torch."""


@emits(*FUNCTIONS)
def function(to: Lowering, x: Node) -> SSAValue:
    return to.unary(FUNCTIONS[to.node.target], to.operand(x))


def _add(to: Lowering, x: SSAValue, y: SSAValue) -> SSAValue:
    return to.binary(arith.AddfOp, x, y)


def _sub(to: Lowering, x: SSAValue, y: SSAValue) -> SSAValue:
    return to.binary(arith.SubfOp, x, y)


def _mul(to: Lowering, x: SSAValue, y: SSAValue) -> SSAValue:
    return to.binary(arith.MulfOp, x, y)


def _div(to: Lowering, x: SSAValue, y: SSAValue) -> SSAValue:
    return to.binary(arith.DivfOp, x, y)


def _exp(to: Lowering, x: SSAValue) -> SSAValue:
    return to.unary(math.ExpOp, x)


@emits(aten.log2.default)
def log2(to: Lowering, x: Node) -> SSAValue:
    return _mul(to, to.unary(math.LogOp, to.operand(x)), to.operand(1 / log(2)))


@emits(aten.log10.default)
def log10(to: Lowering, x: Node) -> SSAValue:
    return _mul(to, to.unary(math.LogOp, to.operand(x)), to.operand(1 / log(10)))


@emits(aten.log1p.default)
def log1p(to: Lowering, x: Node) -> SSAValue:
    """log(u) * (x / (u - 1)) with u = 1 + x, so that the rounding of u cancels (Goldberg 1991, theorem 4)."""
    value, one = to.operand(x), to.operand(1.0)
    u = _add(to, one, value)
    accurate = _mul(to, to.unary(math.LogOp, u), _div(to, value, _sub(to, u, one)))
    # Where u is 1, x is its own logarithm to the last bit; where it is infinite, so is the logarithm.
    tiny = to.compare("eq", u, one)
    large = to.compare("eq", u, to.operand(float("inf")))
    return to.select(tiny, value, to.select(large, u, accurate))


@emits(aten.expm1.default)
def expm1(to: Lowering, x: Node) -> SSAValue:
    return _expm1(to, to.operand(x))


def _expm1(to: Lowering, value: SSAValue) -> SSAValue:
    """tanh(x / 2) * (exp(x) + 1), which loses no digits near 0."""
    half = to.unary(math.TanhOp, _mul(to, value, to.operand(0.5)))
    return _mul(to, half, _add(to, _exp(to, value), to.operand(1.0)))


@emits(aten.exp2.default)
def exp2(to: Lowering, x: Node) -> SSAValue:
    return to.binary(math.PowFOp, to.operand(2.0), to.operand(x))


@emits(aten.tan.default)
def tan(to: Lowering, x: Node) -> SSAValue:
    value = to.operand(x)
    return _div(to, to.unary(math.SinOp, value), to.unary(math.CosOp, value))


@emits(aten.sinh.default)
def sinh(to: Lowering, x: Node) -> SSAValue:
    value = to.operand(x)
    grown = _expm1(to, value)
    fallen = _expm1(to, to.unary(arith.NegfOp, value))
    return _mul(to, _sub(to, grown, fallen), to.operand(0.5))


@emits(aten.cosh.default)
def cosh(to: Lowering, x: Node) -> SSAValue:
    value = to.operand(x)
    total = _add(to, _exp(to, value), _exp(to, to.unary(arith.NegfOp, value)))
    return _mul(to, total, to.operand(0.5))


@emits(aten.pow.Tensor_Scalar)
def pow_number(to: Lowering, x: Node, exponent: float) -> SSAValue:
    """Products and roots where the exponent is one; else the power function."""
    try:
        return power(to, x, exponent)
    except Unsupported:
        return pow_(to, x, exponent)


@emits(aten.pow.Tensor_Tensor, aten.pow.Scalar)
def pow_(to: Lowering, x: Node | float, y: Node | float) -> SSAValue:
    if not to.result.dtype.is_floating_point:
        raise Unsupported(f"on {to.result.dtype}")
    return to.binary(math.PowFOp, to.operand(x), to.operand(y))


@emits(aten.gelu.default)
def gelu(to: Lowering, x: Node, approximate: str) -> SSAValue:
    """0.5 x (1 + erf(x / sqrt 2)), or 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    value = to.operand(x)
    if approximate == "tanh":
        cube = _mul(to, _mul(to, _mul(to, value, value), value), to.operand(0.044715))
        inner = to.unary(math.TanhOp, _mul(to, _add(to, value, cube), to.operand(sqrt(2 / pi))))
    else:
        inner = to.unary(math.ErfOp, _mul(to, value, to.operand(sqrt(0.5))))
    return _mul(to, _mul(to, value, to.operand(0.5)), _add(to, inner, to.operand(1.0)))


@emits(aten.elu.default)
def elu(to: Lowering, x: Node, alpha: float, scale: float, input_scale: float) -> SSAValue:
    """scale * (x where x > 0, else alpha * (exp(input_scale * x) - 1))"""
    value, zero = to.operand(x), to.operand(0.0)
    bounded = to.binary(arith.MinimumfOp, value, zero)
    below = _mul(to, _expm1(to, _mul(to, bounded, to.operand(input_scale))), to.operand(alpha * scale))
    above = _mul(to, value, to.operand(scale))
    return to.select(to.compare("gt", value, zero), above, below)


@emits(aten.leaky_relu.default)
def leaky_relu(to: Lowering, x: Node, slope: float) -> SSAValue:
    value = to.operand(x)
    return to.select(to.compare("gt", value, to.operand(0.0)), value, _mul(to, value, to.operand(slope)))


@emits(aten.isnan.default)
def isnan(to: Lowering, x: Node) -> SSAValue:
    value = to.value(x)
    return to.compare("ne", value, value)


@emits(aten.isinf.default)
def isinf(to: Lowering, x: Node) -> SSAValue:
    meta = to.meta(x)
    infinite = to.build.splat(float("inf"), meta.ir_shape, meta.element)
    return to.compare("eq", to.unary(math.AbsFOp, to.value(x)), infinite)
