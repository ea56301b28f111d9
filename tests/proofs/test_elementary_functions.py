"""The transcendental functions against float64, for every float32 of a part of the line that is stated."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from sterna.dialects import elementary
from tests.proofs.test_rounding import F32, binades

F64 = npt.NDArray[np.float64]


def worst_error(function: Callable[[F32], F32], reference: Callable[[F64], F64], x: F32) -> float:
    """In units in the last place of the result, over the x whose result is finite."""
    with np.errstate(all="ignore"):
        y, exact = function(x), reference(x.astype(np.float64))
        nearest = exact.astype(np.float32)
        finite = np.isfinite(nearest)
        assert np.array_equal(y[~finite], nearest[~finite], equal_nan=True)
        ulps = np.abs(y[finite].astype(np.float64) - exact[finite]) / np.spacing(np.abs(nearest[finite]))
    return float(ulps.max(initial=0.0))


@pytest.mark.slow
def test_exp_of_every_float_from_a_half_to_two_and_from_64_to_128() -> None:
    """50 million: both signs, overflow and denormal results included."""
    for first, last in ((-1, 1), (6, 7)):
        for x in binades(first, last):
            assert worst_error(elementary.on_arrays(elementary.exp), np.exp, x) <= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "reference", "ulp", "exponents"),
    [
        (elementary.log, np.log, 1, (-1, 1)),
        (elementary.tanh, np.tanh, 2, (-1, 1)),
        (elementary.erf, np.vectorize(math.erf, otypes=[np.float64]), 2, (-1, 1)),
        (elementary.sin, np.sin, 1.5, (0, 1)),
        (elementary.cos, np.cos, 1.5, (0, 1)),
    ],
    ids=["log", "tanh", "erf", "sin", "cos"],
)
def test_every_float_where_the_formulas_meet(
    function: Callable[..., F32], reference: Callable[[F64], F64], ulp: float, exponents: tuple[int, int]
) -> None:
    """8 or 16 million positive ones: from a half to two, or from one to two."""
    for x in binades(*exponents):
        assert worst_error(elementary.on_arrays(function), reference, x[x > 0]) <= ulp
