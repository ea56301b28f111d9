"""The numbers against their definitions: plain Python loops, float64 and exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sterna.dialects import numerics

F32 = npt.NDArray[np.float32]

FINITE = st.floats(-1e6, 1e6, width=32)
ANY = st.floats(width=32, allow_nan=True, allow_infinity=True)
ROWS = st.integers(0, 4)
COLUMNS = st.integers(1, 70)
EPSILONS = st.sampled_from([1e-8, 1e-6, 1e-5, 1e-2])


def rows(
    elements: st.SearchStrategy[float] = FINITE, columns: st.SearchStrategy[int] = COLUMNS
) -> st.SearchStrategy[F32]:
    return st.tuples(ROWS, columns).flatmap(lambda shape: arrays(np.float32, shape, elements=elements))


@pytest.fixture(autouse=True)
def quiet() -> object:
    with np.errstate(all="ignore"):
        yield


def plain_lane_sum(values: list[np.float32], lanes: int) -> np.float32:
    partial = [np.float32(0.0)] * lanes
    for n, value in enumerate(values):
        partial[n % lanes] = np.float32(partial[n % lanes] + value)
    while len(partial) > 1:
        half = len(partial) // 2
        partial = [np.float32(a + b) for a, b in zip(partial[:half], partial[half:], strict=True)]
    return partial[0]


@given(rows(columns=st.integers(0, 70)), st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_lane_sum_adds_in_the_stated_order(x: F32, lanes: int) -> None:
    total = numerics.lane_sum(x, lanes)
    assert total.dtype == np.float32
    assert total.tolist() == [plain_lane_sum(list(row), lanes) for row in x]


@given(rows(columns=st.integers(1, 70)), st.sampled_from([4, 16, 64]))
def test_block_sum_adds_sums_of_blocks_in_order(x: F32, block: int) -> None:
    def plain(values: list[np.float32]) -> np.float32:
        first, *others = (plain_lane_sum(values[n : n + block], 4) for n in range(0, len(values), block))
        for other in others:
            first = np.float32(first + other)
        return first

    assert numerics.block_sum(x, block, 4).tolist() == [plain(list(row)) for row in x]


@given(rows(st.floats(-1e3, 1e3, width=32)))
def test_lane_sum_is_near_the_exact_sum(x: F32) -> None:
    for row, total in zip(x, numerics.lane_sum(x), strict=True):
        bound = len(row) * 2.0**-23 * float(np.abs(row).sum(dtype=np.float64))
        assert abs(float(total) - float(sum(map(Fraction, row.tolist())))) <= bound


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (126.5, 126), (127.5, 127), (-127.5, -128), (-128.5, -128),
        (1e30, 127), (-1e30, -128), (math.inf, 127), (-math.inf, -128), (math.nan, 0), (0.49999997, 0), (-0.0, 0),
    ],
)  # fmt: skip
def test_round_to_int8(value: float, rounded: int) -> None:
    q = numerics.round_to_int8(np.array([value], np.float32))
    assert q.dtype == np.int8
    assert q.tolist() == [rounded]


@given(rows(), EPSILONS)
def test_quantize_is_its_definition(x: F32, eps: float) -> None:
    q, step = numerics.quantize(x, eps)
    assert (q.dtype, step.dtype, q.shape, step.shape) == (np.int8, np.float32, x.shape, x.shape[:1])
    for row, q_row, row_step in zip(x, q, step, strict=True):
        d = max(np.float32(max(abs(v) for v in row)), np.float32(eps))
        assert row_step == d / np.float32(127)
        assert [round(float(v * (np.float32(127) / d))) for v in row] == q_row.tolist()


@given(rows())
def test_quantize_keeps_half_a_step(x: F32) -> None:
    q, step = numerics.quantize(x, 1e-5)
    error = np.abs(q.astype(np.float64) * step[:, None].astype(np.float64) - x)
    assert np.all(error <= 0.501 * step[:, None].astype(np.float64))


def test_rows_of_zeros_quantize_to_zeros() -> None:
    q, step = numerics.quantize(np.zeros((2, 5), np.float32), 1e-5)
    assert not q.any()
    assert np.array_equal(step, np.full(2, np.float32(1e-5) / np.float32(127)))


@given(rows(ANY))
def test_a_row_that_is_not_finite_has_a_step_that_is_not(x: F32) -> None:
    """What is computed from it is NaN or infinite: NaN never becomes a number on the way."""
    q, step = numerics.quantize(x, 1e-5)
    assert np.array_equal(np.isnan(step), np.isnan(x).any(axis=-1))
    assert np.array_equal(np.isfinite(step), np.isfinite(x).all(axis=-1))
    assert not q[np.isnan(x)].any()


@given(rows(ANY))
def test_a_row_that_is_not_finite_has_a_step_that_is_not_after_a_norm(x: F32) -> None:
    gain = np.ones(x.shape[1], np.float32)
    (q, step), = numerics.norm_quantize(x, None, [gain], outer_eps=0.0, eps=1e-6, quantize_eps=1e-5)  # fmt: skip
    assert np.all(np.isnan(step[np.isnan(x).any(axis=-1)]))
    assert np.all(np.isnan(step[np.isinf(x).any(axis=-1)]))
    assert q.dtype == np.int8


@given(rows(columns=st.integers(1, 40)), EPSILONS)
def test_rms_norm_is_its_definition(x: F32, eps: float) -> None:
    weight = np.linspace(-2, 2, x.shape[1], dtype=np.float32)
    for row, out in zip(x, numerics.rms_norm(x, weight, eps), strict=True):
        mean = plain_lane_sum([v * v for v in row], 16) / np.float32(len(row))
        r = np.float32(1) / np.sqrt(mean + np.float32(eps))
        assert [(v * r) * w for v, w in zip(row, weight, strict=True)] == out.tolist()


@given(rows(st.floats(-1e3, 1e3, width=32), columns=st.integers(1, 40)), st.booleans())
def test_norm_quantize_is_its_definition(x: F32, nested: bool) -> None:
    """Every row and every gain by itself, in the scalars of the op's docstring."""
    k = x.shape[1]
    outer = np.linspace(0.5, 2, k, dtype=np.float32) if nested else None
    gains = [np.linspace(-1, 3, k, dtype=np.float32), np.ones(k, np.float32)]
    results = numerics.norm_quantize(x, outer, gains, outer_eps=1e-6, eps=1e-8, quantize_eps=1e-5)

    def reciprocal(mean: np.float32, eps: float) -> np.float32:
        return np.float32(1) / np.sqrt(mean + np.float32(eps))

    for t, row in enumerate(x):
        mean = plain_lane_sum([v * v for v in row], 16) / np.float32(k)
        if outer is None:
            r = reciprocal(mean, 1e-8)
        else:
            r_outer = reciprocal(mean, 1e-6)
            scaled = plain_lane_sum(
                [(v * a) * (v * a) for v, a in zip(row, outer, strict=True)], 16
            ) / np.float32(k)
            r = r_outer * reciprocal((r_outer * r_outer) * scaled, 1e-8)
        for gain, (q, step) in zip(gains, results, strict=True):
            y = [v * g for v, g in zip(row, gain, strict=True)]
            d = max(np.float32(max(abs(v) for v in y) * r), np.float32(1e-5))
            c = r * (np.float32(127) / d)
            assert [max(-128, min(127, round(float(v * c)))) for v in y] == q[t].tolist()
            assert step[t] == d / np.float32(127)


@given(rows(st.floats(-100, 100, width=32), columns=st.integers(1, 40)))
def test_norm_quantize_is_near_norm_then_quantize(x: F32) -> None:
    """The norm's scalar moves past the rounding to int8: a value on a tie may land one step away."""
    gain = np.linspace(0.5, 2, x.shape[1], dtype=np.float32)
    (q, step), = numerics.norm_quantize(x, None, [gain], outer_eps=0.0, eps=1e-6, quantize_eps=1e-5)  # fmt: skip
    expected, expected_step = numerics.quantize(numerics.rms_norm(x, gain, 1e-6), 1e-5)
    assert np.abs(q.astype(int) - expected).max(initial=0) <= 1
    assert np.allclose(step, expected_step, rtol=1e-6, atol=0)


@given(st.data())
def test_accumulate_is_the_integer_product(data: st.DataObject) -> None:
    t, m, k = data.draw(ROWS), data.draw(st.integers(1, 9)), data.draw(COLUMNS)
    q = data.draw(arrays(np.int8, (t, k)))
    w = data.draw(arrays(np.int8, (m, k), elements=st.integers(-1, 1)))
    acc = numerics.accumulate(q, w)
    assert acc.dtype == np.int32
    assert np.array_equal(acc, q.astype(np.int64) @ w.astype(np.int64).T)


def test_accumulate_is_exact_where_it_is_largest() -> None:
    k = (1 << 24) - 1
    q, w = np.full((1, k), -128, np.int8), np.ones((1, k), np.int8)
    assert numerics.accumulate(q, w).tolist() == [[-128 * k]]


@given(rows(st.floats(-10, 10, width=32)).filter(lambda w: w.size > 0))
def test_absmean_is_its_definition(w: F32) -> None:
    trits, scale = numerics.absmean(w, 1e-5)
    mean = math.fsum(abs(float(v)) for v in w.flat) / w.size
    assert scale.dtype == np.float32
    assert abs(float(scale) - max(mean, 1e-5)) <= 1e-6 * max(mean, 1e-5)
    multiplier = np.float32(1) / scale
    assert trits.ravel().tolist() == [max(-1, min(1, round(float(v * multiplier)))) for v in w.flat]


def test_absmean_of_zeros_is_zeros() -> None:
    trits, scale = numerics.absmean(np.zeros((3, 4), np.float32), 1e-5)
    assert not trits.any()
    assert scale == np.float32(1e-5)


@given(st.data())
def test_scan_in_chunks_is_the_whole_scan(data: st.DataObject) -> None:
    t, d = data.draw(st.integers(0, 12)), data.draw(st.integers(1, 8))
    values = arrays(np.float32, (t, d), elements=st.floats(-2, 2, width=32))
    f, i = data.draw(values), data.draw(values)
    state = data.draw(arrays(np.float32, d, elements=st.floats(-2, 2, width=32)))
    cut = data.draw(st.integers(0, t))
    whole, last = numerics.scan(f, i, state)
    first, middle = numerics.scan(f[:cut], i[:cut], state)
    second, end = numerics.scan(f[cut:], i[cut:], middle)
    assert np.array_equal(np.concatenate([first, second]), whole)
    assert np.array_equal(end, last)


@given(st.integers(1, 9), st.integers(1, 5))
def test_scan_is_one_multiplication_and_one_addition(t: int, d: int) -> None:
    generator = np.random.default_rng(t * 10 + d)
    f, i = generator.standard_normal((2, t, d)).astype(np.float32)
    state = generator.standard_normal(d).astype(np.float32)
    states, last = numerics.scan(f, i, state)
    for column in range(d):
        s = state[column]
        for step in range(t):
            s = np.float32(np.float32(f[step, column] * s) + i[step, column])
            assert states[step, column] == s
        assert last[column] == s
