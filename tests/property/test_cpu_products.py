"""The CPU's thresholds and products of float rows with trits are the interpreter's, bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cpu_programs import ENCODINGS, PlannedProgram, isa_names, trits

isas = st.sampled_from(isa_names())
ENCODING = st.sampled_from(ENCODINGS)
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3e38], np.float32)


def threshold_program(element: str, rows: str, channels: int, steps: int, base: int) -> str:
    x, bounds, y = (
        f"tensor<{rows}x{channels}x{element}>",
        f"tensor<{channels}x{steps}x{element}>",
        f"tensor<{rows}x{channels}xi8>",
    )
    return f"""
ternary.weight @bounds : {bounds}
func.func @forward(%x : {x}) -> {y} {{
  %bounds = ternary.load @bounds : {bounds}
  %y = ternary.threshold %x, %bounds base = {base} : {x}, {bounds} -> {y}
  func.return %y : {y}
}}"""


@settings(max_examples=12)
@given(st.data(), isas)
def test_thresholds_are_the_interpreters(data: st.DataObject, isa: str) -> None:
    channels, steps = data.draw(st.integers(2, 40)), data.draw(st.sampled_from([2, 3, 15, 16, 17, 200]))
    element, inner = data.draw(st.sampled_from(["f32", "i32"])), data.draw(st.sampled_from([(), (3,)]))
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    shape = (data.draw(st.integers(0, 9)), *inner, channels)
    x = generator.integers(-9, 9, shape).astype(np.int32)
    bounds = generator.integers(-9, 9, (channels, steps)).astype(np.int32)
    if element == "f32":
        is_special = generator.random(x.shape) < 0.2
        x = np.where(is_special, generator.choice(SPECIAL, x.shape), x.astype(np.float32))
        bounds = bounds.astype(np.float32)
    else:
        x[generator.random(x.shape) < 0.1] = np.iinfo(np.int32).min
    rows = "x".join(["?", *map(str, inner)])
    base = data.draw(st.integers(-3, 3)) if steps < 100 else -128
    text = threshold_program(element, rows, channels, steps, base)
    PlannedProgram(text, {"bounds": bounds}).check([x], isa=isa, threads=data.draw(st.integers(1, 3)))


@settings(max_examples=12)
@given(st.data(), isas)
def test_sums_of_float_rows_are_the_interpreters(data: st.DataObject, isa: str) -> None:
    channels, columns = (
        data.draw(st.integers(2, 21)),
        data.draw(st.sampled_from([2, 15, 16, 63, 64, 65, 200, 256, 300])),
    )
    inner = data.draw(st.sampled_from([(), (3,)]))
    rows = "x".join(["?", *map(str, inner)])
    x_type, y_type, w_type = (
        f"tensor<{rows}x{columns}xf32>",
        f"tensor<{rows}x{channels}xf32>",
        trits(channels, columns, data.draw(ENCODING)),
    )
    text = f"""
ternary.weight @w : {w_type}
func.func @forward(%x : {x_type}) -> {y_type} {{
  %w = ternary.load @w : {w_type}
  %y = ternary.accumulate %x, %w : {x_type}, {w_type} -> {y_type}
  func.return %y : {y_type}
}}"""
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = generator.standard_normal((data.draw(st.integers(0, 9)), *inner, columns)).astype(np.float32)
    if data.draw(st.booleans()):
        x = np.where(generator.random(x.shape) < 0.05, generator.choice(SPECIAL, x.shape), x)
    w = generator.integers(-1, 2, (channels, columns)).astype(np.int8)
    PlannedProgram(text, {"w": w}).check([x], isa=isa, threads=data.draw(st.integers(1, 3)))


@settings(max_examples=8)
@given(st.data(), isas)
def test_sums_in_groups_are_the_interpreters(data: st.DataObject, isa: str) -> None:
    groups, of_group = data.draw(st.sampled_from([2, 3, 8])), data.draw(st.integers(1, 5))
    columns = data.draw(st.sampled_from([2, 9, 64, 260]))
    channels = groups * of_group
    x_type, y_type = f"tensor<?x{groups * columns}xi8>", f"tensor<?x{channels}xi32>"
    w_type = trits(channels, columns, data.draw(ENCODING))
    text = f"""
ternary.weight @w : {w_type}
func.func @forward(%x : {x_type}) -> {y_type} {{
  %w = ternary.load @w : {w_type}
  %y = ternary.accumulate %x, %w groups = {groups} : {x_type}, {w_type} -> {y_type}
  func.return %y : {y_type}
}}"""
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = generator.integers(-128, 128, (data.draw(st.integers(0, 9)), groups * columns)).astype(np.int8)
    w = generator.integers(-1, 2, (channels, columns)).astype(np.int8)
    PlannedProgram(text, {"w": w}).check([x], isa=isa, threads=data.draw(st.integers(1, 3)))
