"""The ATen ops that Sterna imports: a table from op to a function that emits it as IR. Here, the elementwise ones.

An emitter takes the `Lowering` and the op's arguments in the order of its schema, and returns the IR value.
Ops that are only a name for others (silu, softmax, ...) are composed, in the order that their docstrings state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from torch.fx import Node
from xdsl.dialects import arith, math
from xdsl.ir import Operation, SSAValue

from sterna.frontends.lowering import UNSIGNED, Lowering, Unsupported, Value

aten: Any = torch.ops.aten
Emitter: TypeAlias = Callable[..., Value]
E = TypeVar("E", bound=Emitter)


class EmitterTable(dict[object, Emitter]):
    """Which function emits which ATen op."""

    def of(self, *targets: object) -> Callable[[E], E]:
        """Enters a function in the table for each of these ops."""

        def enter(emitter: E) -> E:
            self.update(dict.fromkeys(targets, emitter))
            return emitter

        return enter


EMITTERS = EmitterTable()
emits = EMITTERS.of


UNARY: dict[object, type[Operation]] = {
    aten.ceil.default: math.CeilOp,
    aten.exp.default: math.ExpOp,
    aten.floor.default: math.FloorOp,
    aten.round.default: math.RoundEvenOp,
    aten.rsqrt.default: math.RsqrtOp,
    aten.sqrt.default: math.SqrtOp,
    aten.trunc.default: math.TruncOp,
}
"""On floats, which integers become first; `round` rounds half to even, as torch does."""

ROUNDINGS = (math.CeilOp, math.FloorOp, math.RoundEvenOp, math.TruncOp)
"""On integers they are nothing."""

Choices: TypeAlias = tuple[type[Operation] | None, type[Operation] | None, type[Operation] | None]
"""An op on floats, on signed integers, and on unsigned ones if they need no more width for it."""

ADD: Choices = (arith.AddfOp, arith.AddiOp, arith.AddiOp)
SUB: Choices = (arith.SubfOp, arith.SubiOp, arith.SubiOp)
MUL: Choices = (arith.MulfOp, arith.MuliOp, arith.MuliOp)
MAXIMUM: Choices = (arith.MaximumfOp, arith.MaxSIOp, None)
MINIMUM: Choices = (arith.MinimumfOp, arith.MinSIOp, None)

BINARY: dict[object, Choices] = {
    aten.mul: MUL,
    aten.maximum: MAXIMUM,
    aten.minimum: MINIMUM,
    aten.bitwise_and: (None, arith.AndIOp, arith.AndIOp),
    aten.bitwise_or: (None, arith.OrIOp, arith.OrIOp),
    aten.bitwise_xor: (None, arith.XOrIOp, arith.XOrIOp),
    aten.bitwise_left_shift: (None, arith.ShLIOp, arith.ShLIOp),
    aten.bitwise_right_shift: (None, arith.ShRSIOp, arith.ShRUIOp),
    aten.__and__: (None, arith.AndIOp, arith.AndIOp),
    aten.__or__: (None, arith.OrIOp, arith.OrIOp),
    aten.__lshift__: (None, arith.ShLIOp, arith.ShLIOp),
    aten.__rshift__: (None, arith.ShRSIOp, arith.ShRUIOp),
    aten.logical_and: (None, arith.AndIOp, arith.AndIOp),
    aten.logical_or: (None, arith.OrIOp, arith.OrIOp),
    aten.logical_xor: (None, arith.XOrIOp, arith.XOrIOp),
}
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


def _overloads(packet: Any) -> list[object]:
    names = ("default", "Tensor", "Scalar", "Tensor_Scalar")
    return [getattr(packet, name) for name in names if name in packet.overloads()]


def combine(to: Lowering, choices: Choices, x: Node | float, y: Node | float) -> SSAValue:
    """x op y, elementwise, in the result's dtype."""
    return choose(to, choices, to.operand(x), to.operand(y))


def choose(to: Lowering, choices: Choices, left: SSAValue, right: SSAValue) -> SSAValue:
    """The op for the result's dtype; unsigned integers without one of their own take the signed one in 32 bits."""
    dtype = to.result.dtype
    floats, signed, unsigned = choices
    op = floats if dtype.is_floating_point else unsigned if dtype in UNSIGNED else signed
    if op is not None:
        return to.binary(op, left, right)
    if dtype is not torch.uint8 or signed is None:
        raise Unsupported(f"on {dtype}")
    wide = (to.cast(value, torch.uint8, torch.int32) for value in (left, right))
    return to.cast(to.binary(signed, *wide), torch.int32, torch.uint8)


def _unary(op: type[Operation]) -> Emitter:
    def emit(to: Lowering, x: Node) -> SSAValue:
        if to.result.dtype.is_floating_point:
            return to.unary(op, to.operand(x))
        if op in ROUNDINGS:
            return to.value(x)
        raise Unsupported(f"on {to.meta(x).dtype}")

    return emit


def _binary(choices: Choices) -> Emitter:
    def emit(to: Lowering, x: Node | float, y: Node | float) -> SSAValue:
        return combine(to, choices, x, y)

    return emit


def _comparison(predicate: str) -> Emitter:
    def emit(to: Lowering, x: Node, y: Node | float) -> SSAValue:
        fake = y.meta["val"] if isinstance(y, Node) else y
        dtype = torch.result_type(x.meta["val"], fake)
        like = type(to.result)(to.result.shape, dtype)
        return to.compare(predicate, to.operand(x, like), to.operand(y, like), signed=dtype not in UNSIGNED)

    return emit


EMITTERS.update({target: _unary(op) for target, op in UNARY.items()})
EMITTERS.update({target: _binary(ops) for packet, ops in BINARY.items() for target in _overloads(packet)})
for _name in COMPARISONS:
    EMITTERS.update(dict.fromkeys(_overloads(getattr(aten, _name)), _comparison(_name)))


def _scaled(to: Lowering, y: Node | float, alpha: float) -> SSAValue:
    value = to.operand(y)
    if alpha == 1:
        return value
    return choose(to, MUL, to.operand(alpha), value)


@emits(aten.add.Tensor, aten.add.Scalar)
def add(to: Lowering, x: Node | float, y: Node | float, alpha: float) -> SSAValue:
    return choose(to, ADD, to.operand(x), _scaled(to, y, alpha))


@emits(aten.sub.Tensor, aten.sub.Scalar)
def sub(to: Lowering, x: Node | float, y: Node | float, alpha: float) -> SSAValue:
    return choose(to, SUB, to.operand(x), _scaled(to, y, alpha))


@emits(aten.rsub.Scalar, aten.rsub.Tensor)
def rsub(to: Lowering, x: Node, y: Node | float, alpha: float) -> SSAValue:
    return sub(to, y, x, alpha)


@emits(aten.div.Tensor, aten.div.Scalar)
def div(to: Lowering, x: Node | float, y: Node | float) -> SSAValue:
    return to.binary(arith.DivfOp, to.operand(x), to.operand(y))


@emits(aten.div.Tensor_mode, aten.div.Scalar_mode)
def div_mode(to: Lowering, x: Node, y: Node | float, mode: str | None) -> SSAValue:
    if mode is None:
        return div(to, x, y)
    if to.result.dtype.is_floating_point:
        rounding = math.FloorOp if mode == "floor" else math.TruncOp
        return to.unary(rounding, to.binary(arith.DivfOp, to.operand(x), to.operand(y)))
    return combine(to, (None, arith.FloorDivSIOp if mode == "floor" else arith.DivSIOp, None), x, y)


@emits(aten.floor_divide.default, aten.floor_divide.Scalar)
def floor_divide(to: Lowering, x: Node, y: Node | float) -> SSAValue:
    return div_mode(to, x, y, "floor")


@emits(aten.remainder.Scalar, aten.remainder.Tensor, aten.remainder.Scalar_Tensor)
def remainder(to: Lowering, x: Node | float, y: Node | float) -> SSAValue:
    """x - floor(x / y) * y"""
    if to.result.dtype.is_floating_point:
        return _remainder(to, math.FloorOp, x, y)
    quotient = combine(to, (None, arith.FloorDivSIOp, None), x, y)
    return to.binary(arith.SubiOp, to.operand(x), to.binary(arith.MuliOp, quotient, to.operand(y)))


@emits(aten.fmod.Scalar, aten.fmod.Tensor)
def fmod(to: Lowering, x: Node, y: Node | float) -> SSAValue:
    """x - trunc(x / y) * y"""
    if to.result.dtype.is_floating_point:
        return _remainder(to, math.TruncOp, x, y)
    return combine(to, (None, arith.RemSIOp, None), x, y)


def _remainder(to: Lowering, rounding: type[Operation], x: Node | float, y: Node | float) -> SSAValue:
    left, right = to.operand(x), to.operand(y)
    whole = to.unary(rounding, to.binary(arith.DivfOp, left, right))
    return to.binary(arith.SubfOp, left, to.binary(arith.MulfOp, whole, right))


@emits(aten.neg.default)
def neg(to: Lowering, x: Node) -> SSAValue:
    if to.result.dtype.is_floating_point:
        return to.unary(arith.NegfOp, to.value(x))
    return combine(to, SUB, 0, x)


@emits(aten.abs.default)
def absolute(to: Lowering, x: Node) -> SSAValue:
    if to.result.dtype in UNSIGNED:
        return to.value(x)
    return to.unary(math.AbsFOp if to.result.dtype.is_floating_point else math.AbsIOp, to.value(x))


@emits(aten.reciprocal.default)
def reciprocal(to: Lowering, x: Node) -> SSAValue:
    return to.binary(arith.DivfOp, to.operand(1.0), to.operand(x))


@emits(aten.square.default)
def square(to: Lowering, x: Node) -> SSAValue:
    return combine(to, MUL, x, x)


def power(to: Lowering, x: Node, exponent: float) -> SSAValue:
    """The exponents that are products and roots: -1, -1/2, 1/2, 1, 2, 3."""
    base = to.operand(x)
    match float(exponent):
        case 1.0:
            return base
        case 2.0:
            return to.binary(arith.MulfOp, base, base)
        case 3.0:
            return to.binary(arith.MulfOp, to.binary(arith.MulfOp, base, base), base)
        case 0.5:
            return to.unary(math.SqrtOp, base)
        case -0.5:
            return to.unary(math.RsqrtOp, base)
        case -1.0:
            return to.binary(arith.DivfOp, to.operand(1.0), base)
        case _:
            raise Unsupported(f"the exponent {exponent}")


@emits(aten.addcmul.default)
def addcmul(to: Lowering, x: Node, y: Node, z: Node, value: float) -> SSAValue:
    product = to.binary(arith.MulfOp, to.operand(y), to.operand(z))
    if value != 1:
        product = to.binary(arith.MulfOp, to.operand(value), product)
    return to.binary(arith.AddfOp, to.operand(x), product)


@emits(
    aten.clamp.default,
    aten.clamp.Tensor,
    aten.clamp_min.default,
    aten.clamp_min.Tensor,
    aten.hardtanh.default,
)
def clamp(to: Lowering, x: Node, low: Node | float | None, high: Node | float | None = None) -> SSAValue:
    value = to.operand(x)
    if low is not None:
        value = choose(to, MAXIMUM, value, to.operand(low))
    if high is not None:
        value = choose(to, MINIMUM, value, to.operand(high))
    return value


@emits(aten.clamp_max.default, aten.clamp_max.Tensor)
def clamp_max(to: Lowering, x: Node, high: Node | float) -> SSAValue:
    return clamp(to, x, None, high)


@emits(aten.relu.default)
def relu(to: Lowering, x: Node) -> SSAValue:
    return clamp(to, x, 0)


@emits(aten.sigmoid.default)
def sigmoid(to: Lowering, x: Node) -> SSAValue:
    """1 / (1 + exp(-x))"""
    one = to.operand(1.0)
    exp = to.unary(math.ExpOp, to.unary(arith.NegfOp, to.operand(x)))
    return to.binary(arith.DivfOp, one, to.binary(arith.AddfOp, one, exp))


@emits(aten.silu.default)
def silu(to: Lowering, x: Node) -> SSAValue:
    """x * sigmoid(x)"""
    return to.binary(arith.MulfOp, to.operand(x), sigmoid(to, x))


@emits(aten.where.self, aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar)
def where(to: Lowering, condition: Node, x: Node | float, y: Node | float) -> SSAValue:
    mask = to.broadcast(to.value(condition), to.meta(condition).shape, to.result.shape)
    return to.select(mask, to.operand(x), to.operand(y))


@emits(aten.sign.default)
def sign(to: Lowering, x: Node) -> SSAValue:
    """1 where x > 0, -1 where x < 0, else 0, as clamp(ceil(x), 0, 1) + clamp(floor(x), -1, 0)."""
    if not to.result.dtype.is_floating_point:
        return clamp(to, x, -1, 1)
    zero, value = to.operand(0.0), to.operand(x)
    above = to.binary(arith.MinimumfOp, to.unary(math.CeilOp, value), to.operand(1.0))
    below = to.binary(arith.MaximumfOp, to.unary(math.FloorOp, value), to.operand(-1.0))
    positive, negative = to.binary(arith.MaximumfOp, above, zero), to.binary(arith.MinimumfOp, below, zero)
    return to.binary(arith.AddfOp, positive, negative)


@emits(aten.logical_not.default, aten.bitwise_not.default)
def logical_not(to: Lowering, x: Node) -> SSAValue:
    if to.meta(x).dtype != torch.bool and to.result.dtype == torch.bool:
        return to.compare("eq", to.value(x), to.build.splat(0, to.meta(x).ir_shape, to.meta(x).element))
    return to.binary(arith.XOrIOp, to.value(x), to.operand(1 if to.result.dtype == torch.bool else -1))


def every(axes: Sequence[int] | int | None, rank: int) -> list[int]:
    """Torch's argument for axes: one, several, or all of them."""
    if isinstance(axes, int):
        return [axes]
    return list(axes) if axes else list(range(rank))
