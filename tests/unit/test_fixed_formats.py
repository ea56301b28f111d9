"""Formats, the ranges that they are chosen from, and the proof that nothing wraps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna.dialects.context import make_context, parse
from sterna.dialects.errors import CompileError
from sterna.dialects.weights import ArrayStore
from sterna.passes.fixed_calibration import inputs_for_tokens, measure_ranges
from sterna.passes.fixed_formats import FARTHEST_POINT, Format
from sterna.passes.integer_ranges import prove_no_wrapping
from sterna.passes.to_fixed_point import ToFixedPointPass, read_tokens
from sterna.targets.interface import find_entry
from tests.raised_models import RaisedModel


@given(st.floats(2.0**-60, 2.0**60), st.integers(2, 40))
def test_a_format_is_the_finest_that_holds_a_number(largest: float, width: int) -> None:
    found = Format.holding(largest, width)
    greatest = (1 << width - 1) - 1
    assert largest * 2.0**found.point <= greatest
    assert found.point == FARTHEST_POINT or largest * 2.0 ** (found.point + 1) > greatest


def test_a_format_for_nothing_but_zero_has_the_farthest_point() -> None:
    assert Format.holding(0.0, 18) == Format(18, FARTHEST_POINT)


@pytest.mark.parametrize("largest", [np.inf, np.nan])
def test_what_is_not_finite_has_no_format(largest: float) -> None:
    with pytest.raises(CompileError, match="not finite"):
        Format.holding(largest, 18)


PRODUCT = """
func.func @forward(%x : tensor<?x2xf32>) -> tensor<?x2xf32> {
  %y = ternary.elementwise(%x : tensor<?x2xf32>) {
  ^bb0(%a : f32):
    %b = arith.mulf %a, %a : f32
    %c = arith.negf %b : f32
    ternary.yield %c : f32
  } -> tensor<?x2xf32>
  func.return %y : tensor<?x2xf32>
}
"""


def test_ranges_are_of_inputs_and_of_what_is_inside_of_regions() -> None:
    module = parse(PRODUCT)
    inputs = [np.array([[1, -3]], np.float32), np.array([[0, 2], [np.inf, np.nan]], np.float32)]
    ranges = measure_ranges(module, None, [[each] for each in inputs])
    found = {value.name_hint: largest for value, largest in ranges.largest.items()}
    assert found["x"] == 3
    assert found["b"] == found["c"] == found["y"] == 9


def test_tokens_come_from_a_file(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("0 1\n2\n")
    bad.write_text("0 one")
    assert read_tokens(str(good)).tolist() == [0, 1, 2]
    for path in (bad, tmp_path / "none"):
        with pytest.raises(CompileError, match="not a file of calibration tokens"):
            read_tokens(str(path))


def test_tokens_are_for_programs_of_tokens() -> None:
    with pytest.raises(CompileError, match="whose only input is the tokens"):
        inputs_for_tokens(find_entry(parse(PRODUCT)), np.array([1]))
    model = parse(RaisedModel(layers=2, hidden=4, mlp=4, vocabulary=3).text())
    tokens, *states = inputs_for_tokens(find_entry(model), np.array([1, 2]))
    assert tokens.tolist() == [1, 2]
    assert [state.tolist() for state in states] == [[0.0] * 4] * 2


def region(line: str, types: str = "i8") -> str:
    return f"""
    func.func @forward(%x : tensor<?x{types}>) -> tensor<?x{types}> {{
      %y = ternary.elementwise(%x : tensor<?x{types}>) {{
      ^bb0(%a : {types}):
        {line}
        ternary.yield %a : {types}
      }} -> tensor<?x{types}>
      func.return %y : tensor<?x{types}>
    }}"""


@pytest.mark.parametrize(
    "line",
    [
        "%b = arith.addi %a, %a : i8",
        "%b = arith.subi %a, %a : i8",
        "%b = math.absi %a : i8",
        "%w = arith.extsi %a : i8 to i15\n%b = arith.muli %w, %w : i15",
        "%c = arith.constant 127 : i8\n%d = arith.constant 1 : i8\n%b = arith.addi %c, %d : i8",
        "%r = fixed.rescale %a by -1 : i8 to i9\n%b = arith.addi %r, %r : i9",
    ],
)
def test_what_might_wrap_is_not_proved(line: str) -> None:
    with pytest.raises(CompileError, match="do not fit"):
        prove_no_wrapping(find_entry(parse(region(line))))


@pytest.mark.parametrize(
    "line",
    [
        "%w = arith.extsi %a : i8 to i9\n%b = arith.addi %w, %w : i9",
        "%w = arith.extsi %a : i8 to i9\n%b = math.absi %w : i9",
        "%w = arith.extsi %a : i8 to i16\n%b = arith.muli %w, %w : i16",
        "%r = fixed.rescale %a by 1 : i8 to i7\n%w = arith.extsi %r : i7 to i8\n%b = arith.addi %w, %w : i8",
        "%m, %z = fixed.normalize %a step 1 : i8 to i4, i4\n%o = arith.constant 1 : i4\n"
        "%h = arith.shrui %z, %o : i4\n%b = arith.addi %h, %h : i4",
    ],
)
def test_what_cannot_wrap_is_proved(line: str) -> None:
    prove_no_wrapping(find_entry(parse(region(line))))


def test_one_function_is_rewritten() -> None:
    module = parse("func.func @a() {\n  func.return\n}\nfunc.func @b() {\n  func.return\n}")
    with pytest.raises(CompileError, match="rewrites one function, found 2"):
        ToFixedPointPass().apply(make_context(), module)


def test_a_weight_without_a_store_is_asked_for() -> None:
    model = parse(RaisedModel(layers=1, hidden=4, mlp=4, vocabulary=3).text())
    with pytest.raises(CompileError, match="no weight store"):
        ToFixedPointPass().apply(make_context(), model)


def test_a_weight_that_is_not_finite_is_refused() -> None:
    text = """
    ternary.weight @w : tensor<4xf32>
    func.func @forward(%x : tensor<?x4xf32>) -> tensor<?x4xf32> {
      %w = ternary.load @w : tensor<4xf32>
      %y = ternary.elementwise(%x, %w : tensor<?x4xf32>, tensor<4xf32>) {
      ^bb0(%a : f32, %b : f32):
        %c = arith.mulf %a, %b : f32
        ternary.yield %c : f32
      } -> tensor<?x4xf32>
      func.return %y : tensor<?x4xf32>
    }"""
    weights = ArrayStore({"w": np.array([1, np.inf, 0, 2], np.float32)})
    with pytest.raises(CompileError, match="not finite"):
        ToFixedPointPass().apply(make_context(weights), parse(text))
