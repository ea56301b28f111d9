"""Reads what a chain of SSA values computes, whichever way it was written.

The centre is `product_of`: a value as a coefficient times powers of factors, looking through multiplications,
divisions, square roots' reciprocals and broadcasts, so that `x * (127 / d)`, `x / (d / 127)` and `x * 127 * (1 / d)`
are one thing: 127 * x^1 * d^-1. A factor remembers along which axes of the value it lies, so that a number for
each row is not taken for one for each column.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from math import isclose
from typing import TypeAlias, cast

from xdsl.dialects import arith
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, FloatAttr, IntegerAttr
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.tensor import SplatOp
from xdsl.ir import BlockArgument, Operation, SSAValue

from sterna.dialects.ternary import tensor

Axes: TypeAlias = tuple[int, ...]

BinaryOp: TypeAlias = arith.AddfOp | arith.SubfOp | arith.MulfOp | arith.DivfOp


def near(found: float, expected: float) -> bool:
    """Equal but for the roundings of a few f32 operations."""
    return isclose(found, expected, rel_tol=1e-6)


def splat_number(value: SSAValue) -> float | None:
    """The number that every element of `value` is, if it is a constant."""
    match value.owner:
        case SplatOp(input=scalar):
            return splat_number(scalar)
        case linalg.BroadcastOp(input=smaller):
            return splat_number(smaller)
        case arith.ConstantOp(value=FloatAttr() | IntegerAttr() as attr):
            return float(attr.value.data)
        case arith.ConstantOp(value=DenseIntOrFPElementsAttr() as dense) if dense.is_splat():
            return float(cast(float, dense.get_values()[0]))
        case _:
            return None


def without_broadcasts(value: SSAValue, axes: Axes) -> tuple[SSAValue, Axes]:
    """What was broadcast, and which of `axes`, the axes of `value`, are its own."""
    while isinstance(op := value.owner, linalg.BroadcastOp):
        added = op.dimensions.get_values()
        axes = tuple(axis for place, axis in enumerate(axes) if place not in added)
        value = op.input
    return value, axes


def all_axes(value: SSAValue) -> Axes:
    return tuple(range(tensor(value).get_num_dims()))


def row_axes(value: SSAValue) -> Axes:
    """Every axis but the last."""
    return all_axes(value)[:-1]


def either_order(op: BinaryOp) -> Iterator[tuple[SSAValue, SSAValue]]:
    yield op.lhs, op.rhs
    yield op.rhs, op.lhs


@dataclass(frozen=True)
class Factor:
    """A value that lies along `axes` of a larger one."""

    value: SSAValue
    axes: Axes


@dataclass
class Product:
    """coefficient * factor^power * ..."""

    coefficient: float = 1.0
    powers: dict[Factor, int] = field(default_factory=dict[Factor, int])

    def without(self, *factors: Factor) -> Product:
        return Product(self.coefficient, {f: p for f, p in self.powers.items() if f not in factors})

    def times(self, other: Product, power: int = 1) -> Product:
        powers = dict(self.powers)
        for factor, exponent in other.powers.items():
            powers[factor] = powers.get(factor, 0) + power * exponent
        kept = {factor: exponent for factor, exponent in powers.items() if exponent}
        return Product(self.coefficient * other.coefficient**power, kept)

    def power_of(self, value: SSAValue, axes: Axes) -> int:
        return self.powers.get(Factor(value, axes), 0)


def product_of(value: SSAValue, axes: Axes | None = None, *, atoms: Collection[SSAValue] = ()) -> Product:
    """`value` as a product; the values in `atoms` are not taken apart."""
    value, axes = without_broadcasts(value, all_axes(value) if axes is None else axes)
    if value in atoms:
        return Product(powers={Factor(value, axes): 1})
    if (number := splat_number(value)) is not None:
        return Product(number) if number else Product(powers={Factor(value, axes): 1})
    match value.owner:
        case arith.MulfOp(lhs=lhs, rhs=rhs):
            return product_of(lhs, axes, atoms=atoms).times(product_of(rhs, axes, atoms=atoms))
        case arith.DivfOp(lhs=lhs, rhs=rhs):
            return product_of(lhs, axes, atoms=atoms).times(product_of(rhs, axes, atoms=atoms), -1)
        case _:
            return Product(powers={Factor(value, axes): 1})


def reduction(value: SSAValue, step: type[Operation]) -> tuple[SSAValue, Axes] | None:
    """What is reduced by the one operation `step`, and over which axes."""
    if not isinstance(op := value.owner, linalg.ReduceOp) or not isinstance(op.region.block.first_op, step):
        return None
    if len(op.region.block.ops) != 2:
        return None
    return op.input, tuple(int(axis) for axis in op.dimensions.get_values())


def pointwise(value: SSAValue, step: type[Operation]) -> SSAValue | None:
    """The input of a `linalg.generic` that applies `step` to every element."""
    op = value.owner
    if not isinstance(op, linalg.GenericOp) or len(op.inputs) != 1 or len(op.body.block.ops) != 2:
        return None
    return op.inputs[0] if isinstance(op.body.block.first_op, step) else None


def without_straight_through(value: SSAValue) -> SSAValue:
    """y, of the forms in which gradients pass y by: x + (y - x), x - (x - y), (x - x) + y.

    Once gradients are left out, each is y but for the roundings of its two operations.
    """
    match value.owner:
        case arith.AddfOp() as add:
            for x, change in either_order(add):
                match change.owner:
                    case arith.SubfOp(lhs=y, rhs=same) if same == x:
                        return y
                    case arith.SubfOp(lhs=one, rhs=same) if one == same:
                        return x
                    case _:
                        pass
        case arith.SubfOp(lhs=x, rhs=change):
            match change.owner:
                case arith.SubfOp(lhs=same, rhs=y) if same == x:
                    return y
                case _:
                    pass
        case _:
            pass
    return value


class WeightOnly:
    """Answers whether a value depends on weights and constants alone, each value looked at once."""

    def __init__(self) -> None:
        self._known: dict[SSAValue, bool] = {}

    def __contains__(self, value: SSAValue) -> bool:
        pending = [value]
        while pending:
            current = pending[-1]
            if current in self._known:
                pending.pop()
                continue
            if isinstance(current, BlockArgument) or not isinstance(current.owner, Operation):
                self._known[current] = False
                continue
            operands = current.owner.operands
            if unknown := [operand for operand in operands if operand not in self._known]:
                pending += unknown
                continue
            self._known[current] = all(self._known[operand] for operand in operands)
        return self._known[value]
