"""The tables of a fixed-point program: the error of every input that they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from sterna.dialects.fixed_numerics import interpolate, limits
from sterna.passes.fixed_tables import FUNCTIONS, RSQRT, SIGMOID, Function, build_table

FIRST = {"sigmoid": -(2**15), "rsqrt": 2**14, "reciprocal": 2**15}
"""The least input that is used: a mantissa has a bit at the top."""


def every_input(function: Function) -> np.ndarray:
    end = 2**15 if function.is_signed else 2**16
    return np.arange(FIRST[function.name], end)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_no_input_is_further_from_the_function_than_stated(function: Function) -> None:
    x = every_input(function)
    table = build_table(function)
    found = interpolate(x, function.input_width, table.values, is_signed=function.is_signed)
    exact = np.array([function.of(value) for value in x * 2.0**-function.input_point])
    error = np.abs(found * 2.0**-function.point - exact).max()
    assert function.bound / 2 < error <= function.bound


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_a_word_is_two_numbers_of_eighteen_bits(function: Function) -> None:
    table = build_table(function)
    table.verify()
    assert table.index_bits == 9
    assert table.result_width == 18
    assert table.delta_width <= 18


def test_a_sigmoid_is_monotone_and_within_its_limits() -> None:
    values = interpolate(every_input(SIGMOID), 16, build_table(SIGMOID).values, is_signed=True)
    assert (np.diff(values) >= 0).all()
    assert values.min() == 0
    assert values.max() == 2**16


def test_a_mantissa_is_read_without_a_sign() -> None:
    """Its top bit is set, so that as a signed number it is negative."""
    table = build_table(RSQRT)
    mantissa = np.array([2**15 + 5], np.int64)
    low, _ = limits(16)
    as_signed = mantissa - 2**16
    assert as_signed >= low
    both = (interpolate(each, 16, table.values, is_signed=False) for each in (mantissa, as_signed))
    assert len({int(value[0]) for value in both}) == 1
