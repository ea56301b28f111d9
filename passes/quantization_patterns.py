"""What the quantizations of BitNet b1.58 look like in upstream ops, in the many ways in which people write them.

Activations, per row:    d = max(max|x|, eps)      q = clamp(round(x * (127 / d)))      x ~ q * (d / 127)
Weights, per tensor:     d = max(mean|w|, eps)     t = clamp(round(w * (1 / d)), -1, 1)  w ~ t * d

The divisor may be written as its reciprocal, with its constant anywhere; the floor may be put on d, on d / 127, or left
out (eps = 0); clamps may stand before or after the rounding; the integers may pass through int8; each step may be
wrapped in a straight-through form.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from xdsl.dialects import arith, math
from xdsl.ir import SSAValue

from sterna.dialects.ternary import tensor
from sterna.passes.matching import (
    Axes,
    Factor,
    Product,
    all_axes,
    near,
    pointwise,
    product_of,
    reduction,
    row_axes,
    splat_number,
    without_broadcasts,
    without_straight_through,
)

INT8_MAX = 127.0


@dataclass(frozen=True)
class Rounded:
    """clamp(round(argument), low, high)"""

    argument: SSAValue
    low: float
    high: float


def match_rounded(value: SSAValue) -> Rounded | None:
    low, high, rounds = -inf, inf, False
    while True:
        value, _ = without_broadcasts(value, all_axes(value))
        if (inner := without_straight_through(value)) is not value:
            value = inner
            continue
        match value.owner:
            case arith.MaximumfOp() as op if (bound := _bound(op)) is not None:
                value, low = bound[0], max(low, bound[1])
            case arith.MinimumfOp() as op if (bound := _bound(op)) is not None:
                value, high = bound[0], min(high, bound[1])
            case math.RoundEvenOp(operand=inner) if not rounds:
                value, rounds = inner, True
            case _ if (integer := pointwise(value, arith.SIToFPOp)) is not None:
                # The detour through int8 changes no integer that fits; one that does not fit was clamped before.
                if (inner := pointwise(integer, arith.FPToSIOp)) is None:
                    return None
                value = inner
            case _:
                return Rounded(value, low, high) if rounds else None


def _bound(op: arith.MaximumfOp | arith.MinimumfOp) -> tuple[SSAValue, float] | None:
    """A value and the number that bounds it."""
    for value, bound in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
        if (number := splat_number(bound)) is not None:
            return value, number
    return None


@dataclass(frozen=True)
class Divisor:
    """A factor that is coefficient * max(statistic, floor)."""

    factor: Factor
    statistic: SSAValue
    floor: float
    coefficient: float


def match_divisor(factor: Factor) -> Divisor:
    """Any factor is one; without a clamp its floor is 0."""
    value, coefficient, floor = factor.value, 1.0, 0.0
    if isinstance(op := value.owner, arith.MaximumfOp) and (bound := _bound(op)) is not None:
        inner = product_of(bound[0])
        whole = Factor(next(iter(inner.powers)).value, all_axes(value)) if len(inner.powers) == 1 else None
        if whole is not None and inner.powers.get(whole) == 1 and inner.coefficient > 0:
            value, coefficient, floor = whole.value, inner.coefficient, bound[1] / inner.coefficient
    return Divisor(factor, value, floor, coefficient)


@dataclass(frozen=True)
class QuantizedRows:
    """A value that is q * rest, with (q, step) = quantize(x, eps); `step` says the step as a product."""

    x: SSAValue
    eps: float
    step: Product
    rest: Product


def match_quantized_rows(value: SSAValue) -> QuantizedRows | None:
    value = without_straight_through(value)
    product = product_of(value)
    for factor, power in product.powers.items():
        rounded = match_rounded(factor.value) if power == 1 and factor.axes == all_axes(value) else None
        if rounded is None or rounded.low > -INT8_MAX or rounded.high < INT8_MAX:
            continue
        for divisor in _divisors(rounded.argument, row_axes(rounded.argument)):
            if (x := _absmax_input(divisor.statistic)) is None:
                continue
            scale = _scale_of(rounded.argument, x, divisor)
            if scale is not None and near(scale, INT8_MAX):
                step = Product(1 / (INT8_MAX * divisor.coefficient), {divisor.factor: 1})
                return QuantizedRows(x, divisor.floor, step, product.without(factor))
    return None


def _absmax_input(value: SSAValue) -> SSAValue | None:
    """x of max|x| over the last axis."""
    if (reduced := reduction(value, arith.MaximumfOp)) is None or not isinstance(
        absolute := reduced[0].owner, math.AbsFOp
    ):
        return None
    return absolute.operand if reduced[1] == all_axes(reduced[0])[-1:] else None


@dataclass(frozen=True)
class Absmean:
    """A value that is t * rest, with (t, scale) = absmean(w, eps); `scale` says the scale as a product."""

    w: SSAValue
    eps: float
    scale: Product
    rest: Product


def match_absmean(value: SSAValue) -> Absmean | None:
    product = product_of(value)
    for factor, power in product.powers.items():
        rounded = match_rounded(factor.value) if power == 1 and factor.axes == all_axes(value) else None
        if rounded is None or (rounded.low, rounded.high) != (-1.0, 1.0):
            continue
        for divisor in _divisors(rounded.argument, ()):
            if (w := _abs_sum_input(divisor.statistic)) is None:
                continue
            # The divisor is written with the sum; in terms of the mean it has `count` times the coefficient.
            count = float(tensor(w).element_count())
            coefficient, eps = divisor.coefficient * count, divisor.floor / count
            scale = _scale_of(rounded.argument, w, divisor)
            if scale is not None and near(scale, count):
                return Absmean(w, eps, Product(1 / coefficient, {divisor.factor: 1}), product.without(factor))
    return None


def _abs_sum_input(value: SSAValue) -> SSAValue | None:
    """w of the sum of |w| over every axis."""
    if (reduced := reduction(value, arith.AddfOp)) is None or not isinstance(
        absolute := reduced[0].owner, math.AbsFOp
    ):
        return None
    return absolute.operand if reduced[1] == all_axes(reduced[0]) else None


def _divisors(argument: SSAValue, axes: Axes) -> list[Divisor]:
    powers = product_of(argument).powers
    return [match_divisor(factor) for factor, power in powers.items() if power == -1 and factor.axes == axes]


def _scale_of(argument: SSAValue, x: SSAValue, divisor: Divisor) -> float | None:
    """s of argument = s * x / max(statistic, floor), or None if the argument is something else."""
    product = product_of(argument, atoms=(x, divisor.factor.value))
    if product.powers != {Factor(x, all_axes(argument)): 1, divisor.factor: -1}:
        return None
    return product.coefficient / divisor.coefficient
