"""Inputs and comparisons that the instruments make: sameness of bits, tolerances, seeds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sterna.dialects.context import parse
from sterna.dialects.weights import Array
from sterna.instruments.inputs import entry_function, generate_inputs
from sterna.instruments.verify_each import first_difference, same
from sterna.passes.tolerance import EXACT, Tolerance

FLOATS = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=0, max_dims=2, min_side=0), elements=st.floats(width=32)
)


@given(FLOATS)
def test_an_array_is_the_same_as_itself_nan_included(array: Array) -> None:
    assert same(array, array.copy(), EXACT).all()
    assert first_difference([array], [array.copy()]) is None


@given(FLOATS, st.data())
def test_one_bit_of_one_element_is_found_where_it_is(array: Array, data: st.DataObject) -> None:
    if not array.size:
        return
    at = data.draw(st.integers(0, array.size - 1))
    if not np.abs(array.reshape(-1)[at]) < 1e38:
        return
    other = np.array(array)
    other.reshape(-1)[at] = np.nextafter(other.reshape(-1)[at], np.float32(np.inf))
    place = [int(index) for index in np.unravel_index(at, array.shape)]
    difference = first_difference([array], [other])
    assert difference is not None
    assert difference.startswith(f"result 0 at {place} was ")


def test_zeros_of_either_sign_differ() -> None:
    plus, minus = np.array([0.0], np.float32), np.array([-0.0], np.float32)
    assert first_difference([plus], [minus]) is not None
    assert first_difference([plus], [minus], Tolerance(2**-10, "")) is None


@given(FLOATS, st.floats(0, 1))
def test_a_tolerance_counts_from_the_largest_finite_element(array: Array, part: float) -> None:
    tolerance = Tolerance(2**-6, "")
    finite = np.abs(array[np.isfinite(array)])
    largest = finite.max(initial=0.0)
    if not 1e-30 < largest < 1e30:
        return
    moved = (array.astype(np.float64) + part * 2**-7 * largest).astype(np.float32)
    assert first_difference([array], [moved], tolerance) is None
    far = (array.astype(np.float64) + 2**-5 * largest).astype(np.float32)
    assert first_difference([array], [far], tolerance) is not None


@given(st.integers(0, 2**32), st.integers(1, 5))
def test_generated_inputs_fit_the_function_and_its_vocabulary(seed: int, rows: int) -> None:
    module = parse("""
    ternary.weight @table : tensor<7x4xf32>
    func.func @forward(%tokens: tensor<?xi64>, %q: tensor<?x4xi8>, %s: tensor<4xf32>) -> tensor<?x4xf32>
        attributes {sterna.states = 1 : i64} {
      %table = ternary.load @table : tensor<7x4xf32>
      %x = ternary.embedding %tokens, %table : tensor<?xi64>, tensor<7x4xf32> -> tensor<?x4xf32>
      func.return %x : tensor<?x4xf32>
    }""")
    function = entry_function(module)
    tokens, q, state = generate_inputs(module, function, rows=rows, seed=seed, zero_states=True)
    assert (tokens.shape, tokens.dtype) == ((rows,), np.int64)
    assert ((tokens >= 0) & (tokens < 7)).all()
    assert (q.shape, q.dtype) == ((rows, 4), np.int8)
    assert not state.any()
    again = generate_inputs(module, function, rows=rows, seed=seed, zero_states=True)
    assert all((a == b).all() for a, b in zip((tokens, q, state), again, strict=True))
