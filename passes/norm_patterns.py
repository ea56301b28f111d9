"""What root mean square normalisation looks like in upstream ops.

It is x * r * w in any order, with r = 1 / sqrt(mean(x^2) + eps). r may be `rsqrt`, the reciprocal of `sqrt`, or a
division by `sqrt`; w may be missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import arith, math
from xdsl.ir import SSAValue

from sterna.dialects.ternary import tensor
from sterna.passes.matching import (
    Factor,
    Product,
    WeightOnly,
    all_axes,
    either_order,
    near,
    product_of,
    reduction,
    row_axes,
    splat_number,
)


@dataclass(frozen=True)
class RmsNorm:
    """rms_norm(x, product of weights), each weight one number a column."""

    x: SSAValue
    weights: Sequence[SSAValue]
    eps: float


def match_rms_norm(value: SSAValue, weight_only: WeightOnly) -> RmsNorm | None:
    for factor, power in product_of(value).powers.items():
        if factor.axes != row_axes(value) or (root := _reciprocal_root(factor.value, power)) is None:
            continue
        x, eps = root
        product = product_of(value, atoms=(x, factor.value)).without(factor)
        weights = _column_weights(product, x, value, weight_only)
        if weights is not None:
            return RmsNorm(x, weights, eps)
    return None


def _reciprocal_root(value: SSAValue, power: int) -> tuple[SSAValue, float] | None:
    """x and eps of the reciprocal of sqrt(mean(x^2) + eps) over the last axis, as a factor to that power."""
    match value.owner, power:
        case (math.RsqrtOp(operand=under), 1) | (math.SqrtOp(operand=under), -1):
            return _mean_square(under)
        case _:
            return None


def _mean_square(value: SSAValue) -> tuple[SSAValue, float] | None:
    if not isinstance(add := value.owner, arith.AddfOp):
        return None
    for mean, number in either_order(add):
        if (eps := splat_number(number)) is None:
            continue
        product = product_of(mean)
        factor = next(iter(product.powers), None)
        if len(product.powers) != 1 or factor is None or product.powers[factor] != 1:
            continue
        if (reduced := reduction(factor.value, arith.AddfOp)) is None:
            continue
        square, axes = reduced
        count = tensor(square).get_shape()[-1]
        if axes != all_axes(square)[-1:] or not near(product.coefficient * count, 1.0):
            continue
        match square.owner:
            case arith.MulfOp(lhs=x, rhs=same) if x == same:
                return x, eps
            case _:
                pass
    return None


def _column_weights(
    product: Product, x: SSAValue, value: SSAValue, weight_only: WeightOnly
) -> list[SSAValue] | None:
    """The factors beside x, if each is one number a column that depends on weights alone."""
    if product.power_of(x, all_axes(value)) != 1 or not near(product.coefficient, 1.0):
        return None
    rest = product.without(Factor(x, all_axes(value))).powers
    last = all_axes(value)[-1:]
    if any(
        power != 1 or factor.axes != last or factor.value not in weight_only for factor, power in rest.items()
    ):
        return None
    return [factor.value for factor in rest]
