"""Products with ternary weights, and thresholds: what the operations mean, against sums written out."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sterna.dialects import numerics
from sterna.dialects.context import parse
from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import run
from sterna.dialects.semantics.ternary import decompose

Array = npt.NDArray[Any]
FLOATS = st.floats(-1e4, 1e4, width=32)


def trits(seed: int, m: int, k: int) -> npt.NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-1, 2, (m, k)).astype(np.int8)


def accumulate(x: Array, w: Array, groups: int) -> Array:
    """The operation on an array whose first axis is dynamic."""
    element, total = ("f32", "f32") if x.dtype == np.float32 else ("i8", "i32")
    rows = "".join(f"x{size}" for size in x.shape[1:-1])
    weight, given = (
        f"tensor<{w.shape[0]}x{w.shape[1]}x!ternary.trit>",
        f"tensor<?{rows}x{x.shape[-1]}x{element}>",
    )
    result = f"tensor<?{rows}x{len(w)}x{total}>"
    text = f"""
      func.func @forward(%x : {given}, %w : {weight}) -> {result} {{
        %y = ternary.accumulate %x, %w groups = {groups} : {given}, {weight} -> {result}
        func.return %y : {result}
      }}"""
    (y,) = run(parse(text), [x, w])
    return y


@st.composite
def products(draw: st.DrawFn, elements: st.SearchStrategy[Any], dtype: Any) -> tuple[Array, Array, int]:
    groups, channels, k = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 35))
    rows = draw(st.sampled_from(((0,), (2,), (2, 3), (1, 2, 2))))
    x = draw(arrays(dtype, (*rows, groups * k), elements=elements))
    return x, trits(draw(st.integers(0, 99)), groups * channels, k), groups


@given(products(st.integers(-128, 127), np.int8))
def test_each_group_of_channels_adds_its_own_columns(product: tuple[Array, Array, int]) -> None:
    x, w, groups = product
    by_group = x.astype(int).reshape(*x.shape[:-1], groups, 1, w.shape[1])
    expected = (
        (by_group * w.astype(int).reshape(groups, len(w) // groups, w.shape[1]))
        .sum(-1)
        .reshape(*x.shape[:-1], len(w))
    )
    assert np.array_equal(accumulate(x, w, groups), expected)


@given(products(FLOATS, np.float32))
def test_floats_are_added_as_a_dense_product_adds_them(product: tuple[Array, Array, int]) -> None:
    """With finite numbers, x times 1, -1 and 0 is what is added, in the order of a `linalg.matmul`."""
    x, w, groups = product
    found = accumulate(x, w, groups)
    for m, row in enumerate(w):
        g = m // (len(w) // groups)
        expected = numerics.lane_sum(x[..., g * w.shape[1] : (g + 1) * w.shape[1]] * row.astype(np.float32))
        assert found.dtype == np.float32 and np.array_equal(found[..., m], expected)


def test_a_zero_trit_leaves_out_what_is_not_finite() -> None:
    x = np.array([[np.inf, 2, np.nan]], np.float32)
    w = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.int8)
    y = accumulate(x, w, 1)[0]
    assert y[0] == -2 and y[1] == np.inf and np.isnan(y[2])


@given(st.data())
def test_a_threshold_counts_the_steps_that_are_reached(data: st.DataObject) -> None:
    m, n, base = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 5)), data.draw(st.integers(-128, 122))
    small = st.integers(-20, 20)
    x, steps = (
        data.draw(arrays(np.int32, (2, 3, m), elements=small)),
        data.draw(arrays(np.int32, (m, n), elements=small)),
    )
    text = f"""
      func.func @forward(%x : tensor<?x3x{m}xi32>, %t : tensor<{m}x{n}xi32>) -> tensor<?x3x{m}xi8> {{
        %y = ternary.threshold %x, %t base = {base} : tensor<?x3x{m}xi32>, tensor<{m}x{n}xi32> -> tensor<?x3x{m}xi8>
        func.return %y : tensor<?x3x{m}xi8>
      }}"""
    (y,) = run(parse(text), [x, steps])
    assert y.dtype == np.int8
    for at in np.ndindex(x.shape):
        assert y[at] == base + sum(int(x[at] >= step) for step in steps[at[-1]])


def test_a_nan_reaches_no_threshold() -> None:
    x, steps = np.array([[np.nan, np.inf]], np.float32), np.array([[-np.inf, 0], [0, np.inf]], np.float32)
    assert numerics.threshold(x, steps, -1).tolist() == [[-1, 1]]


@given(
    arrays(np.int8, (4, 7), elements=st.integers(-1, 1)),
    st.lists(st.floats(0.125, 8, width=32), min_size=4, max_size=4),
)
def test_every_row_of_a_weight_may_have_its_own_scale(trits: Array, magnitudes: list[float]) -> None:
    scale = np.array(magnitudes, np.float32)
    types = "tensor<4x7xf32> -> tensor<4x7x!ternary.trit>, tensor<4xf32>"
    text = f"""
      func.func @forward(%w : tensor<4x7xf32>) -> (tensor<4x7x!ternary.trit>, tensor<4xf32>) {{
        %t, %s = ternary.ternarize %w : {types}
        func.return %t, %s : tensor<4x7x!ternary.trit>, tensor<4xf32>
      }}"""
    found, scales = run(parse(text), [trits * scale[:, None]])
    assert np.array_equal(found, trits)
    assert np.array_equal(scales, np.where(trits.any(axis=1), scale, 1))


def test_a_row_of_two_magnitudes_is_named() -> None:
    text = """
      func.func @forward(%w : tensor<2x2xf32>) -> tensor<2xf32> {
        %t, %s = ternary.ternarize %w : tensor<2x2xf32> -> tensor<2x2x!ternary.trit>, tensor<2xf32>
        func.return %s : tensor<2xf32>
      }"""
    try:
        run(parse(text), [np.array([[1, 0], [1, 2]], np.float32)])
    except CompileError as error:
        assert "row 1's non-zero elements have 2 distinct magnitudes" in str(error)
    else:
        raise AssertionError("the weight is not ternary")


def test_a_large_weight_is_decomposed_in_a_few_reads_of_it() -> None:
    """8 million elements in less than the time that sorting them takes, several seconds."""
    w = trits(0, 3200, 2560).astype(np.float32) * np.float32(0.37)
    start = time.perf_counter()
    for per_channel in (False, True):
        found, scale = decompose(w, per_channel=per_channel)
        assert np.array_equal(found, trits(0, 3200, 2560))
        assert np.all(scale == np.float32(0.37))
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.5, 1e-45])
def test_one_wrong_element_is_found(wrong: float, per_channel: bool) -> None:
    w = trits(0, 4, 9).astype(np.float32)
    w[2] = 1
    w[2, 8] = wrong
    with pytest.raises(CompileError, match="row 2's non-zero" if per_channel else "its non-zero"):
        decompose(w, per_channel=per_channel)
