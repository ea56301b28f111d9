"""Functions of f32 whose every bit is defined are identical to numpy's, as arrays, as IR, and on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna.dialects import exact_functions
from sterna.dialects.context import make_context, parse
from sterna.dialects.elementary import on_arrays
from sterna.dialects.interpreter import run
from sterna.passes import PASSES
from tests.cpu_programs import PlannedProgram, isa_names

Array = npt.NDArray[Any]

FLOATS = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 3.4e38, 1.0, 0.1])
PATTERNS = np.arange(0, 1 << 32, 4093, dtype=np.uint64).astype(np.uint32).view(np.float32)
"""All exponents and low bits: the stride is prime."""
HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
HALVES = np.sort(HALVES[np.isfinite(HALVES)])


@pytest.fixture(autouse=True)
def quiet() -> object:
    with np.errstate(all="ignore"):
        yield


def assert_same_bits(found: Array, expected: Array) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(found[numbers].view(np.int32), expected[numbers].view(np.int32))


def halfway() -> Array:
    """Every number of float16, halfway to the next, and one float32 to either side."""
    middle = HALVES[:-1] + (HALVES[1:] - HALVES[:-1]) / 2
    lower, upper = (np.nextafter(middle, np.float32(side)) for side in (-1e9, 1e9))
    return np.concatenate([HALVES, middle, lower, upper])


@pytest.mark.parametrize("x", [PATTERNS, halfway()], ids=["all exponents", "ties"])
def test_rounding_to_half_is_that_of_ieee_754(x: Array) -> None:
    found = on_arrays(exact_functions.round_to_half)(x)
    assert_same_bits(found, x.astype(np.float16).astype(np.float32))


@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=30))
def test_remainders_are_exact(pairs: list[tuple[float, float]]) -> None:
    x, y = np.array(pairs, np.float32).T
    assert_same_bits(on_arrays(exact_functions.remainder)(x, y), np.fmod(x, y))
    assert_same_bits(on_arrays(exact_functions.floored_remainder)(x, y), np.mod(x, y))


def test_remainders_are_exact_over_the_whole_range() -> None:
    x, y = (np.random.default_rng(seed).permutation(PATTERNS)[:50_000] for seed in (0, 1))
    assert_same_bits(on_arrays(exact_functions.remainder)(x, y), np.fmod(x, y))


ROUNDED = """
func.func @forward(%x : tensor<?x24xf32>) -> tensor<?x24xf32> {
  %y = ternary.elementwise(%x : tensor<?x24xf32>) {
  ^bb0(%a : f32):
    %h = arith.truncf %a : f32 to f16
    %s = arith.extf %h : f16 to f32
    ternary.yield %s : f32
  } -> tensor<?x24xf32>
  func.return %y : tensor<?x24xf32>
}"""


def test_a_pair_of_conversions_is_written_out_with_the_same_bits() -> None:
    module = parse(ROUNDED)
    PASSES["expand-math"]().apply(make_context(), module)
    module.verify()
    assert not {"arith.truncf", "arith.extf"} & {op.name for op in module.walk()}
    x = halfway()[: 24 * 1000].reshape(-1, 24)
    assert_same_bits(run(module, [x])[0], run(parse(ROUNDED), [x])[0])


@pytest.mark.parametrize("isa", isa_names())
def test_the_cpu_rounds_to_half(isa: str) -> None:
    module = parse(ROUNDED)
    PASSES["expand-math"]().apply(make_context(), module)
    x = halfway()[5::997][:168].reshape(-1, 24)
    PlannedProgram(str(module), {}).check([x], isa=isa, threads=1)
