"""`fuse-norm-quantize`: exact in rational numbers, and as far off in float32 as its docstring says.

The reciprocal root mean square r stands for any positive number: nothing else of it is used. So exact rational
arithmetic needs no square root.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sterna.dialects.numerics import LANES, norm_quantize, quantize, rms_norm

Row = list[Fraction]


def clamped(value: Fraction) -> int:
    return max(-128, min(127, round(value)))  # round is half to even


def quantized(row: Row, eps: Fraction) -> tuple[list[int], Fraction]:
    """`ternary.quantize`, without rounding."""
    d = max(max(map(abs, row)), eps)
    return [clamped(x * (127 / d)) for x in row], d / 127


def fused(row: Row, gain: Row, r: Fraction, eps: Fraction) -> tuple[list[int], Fraction]:
    """`ternary.norm_quantize`, without rounding."""
    y = [x * g for x, g in zip(row, gain, strict=True)]
    d = max(max(map(abs, y)) * r, eps)
    return [clamped(v * (r * (127 / d))) for v in y], d / 127


def normed(row: Row, gain: Row, r: Fraction) -> Row:
    return [(x * r) * g for x, g in zip(row, gain, strict=True)]


def mean_square(row: Row) -> Fraction:
    return sum((x * x for x in row), Fraction(0)) / len(row)


VALUES = [Fraction(n, 2) for n in (-4, -1, 0, 1, 3)]
GAINS = [Fraction(n, 3) for n in (-3, 0, 2)]
FACTORS = [Fraction(1, 7), Fraction(1), Fraction(5, 3)]
FLOORS = [Fraction(1, 10**5), Fraction(1, 2), Fraction(10)]


def test_every_small_case_is_equal() -> None:
    """Rows of three of five values, with three of three gains, three factors, three floors: 30 375 cases."""
    for row in product(VALUES, repeat=3):
        for gain in product(GAINS, repeat=3):
            for r, eps in product(FACTORS, FLOORS):
                assert quantized(normed([*row], [*gain], r), eps) == fused([*row], [*gain], r, eps)


RATIONALS = st.fractions(-1000, 1000, max_denominator=10**6)
POSITIVE = st.fractions(Fraction(1, 10**6), 1000, max_denominator=10**6)


@given(st.lists(st.tuples(RATIONALS, RATIONALS), min_size=1, max_size=12), POSITIVE, POSITIVE)
def test_any_rational_row_is_equal(
    pairs: list[tuple[Fraction, Fraction]], r: Fraction, eps: Fraction
) -> None:
    row, gain = map(list, zip(*pairs, strict=True))
    assert quantized(normed(row, gain, r), eps) == fused(row, gain, r, eps)


@given(st.lists(st.tuples(RATIONALS, RATIONALS), min_size=1, max_size=12), POSITIVE)
def test_a_norm_of_a_norm_has_one_root(pairs: list[tuple[Fraction, Fraction]], r: Fraction) -> None:
    """mean((x r a)^2) = r^2 mean((x a)^2): what stands under the second root from one read of x."""
    row, outer = map(list, zip(*pairs, strict=True))
    scaled = [x * a for x, a in zip(row, outer, strict=True)]
    assert mean_square(normed(row, outer, r)) == r * r * mean_square(scaled)


@given(st.lists(RATIONALS, min_size=1, max_size=12).filter(any), POSITIVE)
def test_a_positive_factor_of_a_row_leaves_its_integers(row: Row, factor: Fraction) -> None:
    eps = Fraction(0)
    assert quantized([x * factor for x in row], eps)[0] == quantized(row, eps)[0]


ULP = 2.0**-24
PRODUCT_ERROR = 127 * 18 * ULP
"""The docstring's bound of how far the two products that are rounded may be apart: 1.4e-4."""


@settings(max_examples=60)
@given(
    k=st.sampled_from((1, 2, 5, 16, 64, 300)),
    kind=st.sampled_from(("ties", "integers", "normal", "one large")),
    with_outer=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@example(k=64, kind="ties", with_outer=False, seed=0)
@example(k=64, kind="ties", with_outer=True, seed=0)
def test_in_float32_integers_move_by_one_and_only_where_the_product_is_that_near_a_half(
    k: int, kind: str, with_outer: bool, seed: int
) -> None:
    """Rows of ties are the worst there are: every element's exact product is a half or a whole number."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((40, k), np.float32)
    gain = np.ones(k, np.float32)
    match kind:
        case "ties":
            x = generator.integers(-254, 255, (40, k)).astype(np.float32) / np.float32(2)
            x[:, 0] = 127
            x *= np.float32(2.0) ** generator.integers(-8, 9, (40, 1)).astype(np.float32)
        case "integers":
            x = generator.integers(-9, 10, (40, k)).astype(np.float32)
            x[:, 0] = 9
        case "one large":
            x[:, generator.integers(k)] = 1e4
        case _:
            gain = generator.standard_normal(k, np.float32)
    outer = np.ones(k, np.float32) if with_outer else None
    (q, step), = norm_quantize(x, outer, [gain], outer_eps=1e-6, eps=1e-8, quantize_eps=1e-5)  # fmt: skip
    inner = rms_norm(x, np.ones(k, np.float32), 1e-6) if with_outer else x
    expected, expected_step = quantize(rms_norm(inner, gain, 1e-8), 1e-5)

    difference = np.abs(q.astype(np.int32) - expected)
    assert difference.max() <= 1
    y = x.astype(np.float64) * gain
    exact = np.abs(127 * y / np.abs(y).max(axis=1, keepdims=True))
    from_half = np.abs(exact - np.floor(exact) - 0.5)
    assert np.all(from_half[difference == 1] <= PRODUCT_ERROR)
    np.testing.assert_allclose(step, expected_step, rtol=(k / LANES + 16) * 2 * ULP)
