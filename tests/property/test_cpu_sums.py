"""Kernels of convolutions and of sums in groups give the interpreter's bits, for every instruction set and threads."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cpu_programs import ENCODINGS, MAX_ROWS, PlannedProgram, isa_names, trits

Array = npt.NDArray[Any]

ISA = pytest.mark.parametrize("isa", isa_names())
RUNS = settings(max_examples=6, deadline=None)
ROWS = st.sampled_from((0, 1, 3, MAX_ROWS, MAX_ROWS + 2))
THREADS = st.sampled_from((1, 3))
SPECIAL = (0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 3e38)


def random_trits(rows: int, columns: int) -> npt.NDArray[np.int8]:
    return np.random.default_rng([rows, columns]).integers(-1, 2, (rows, columns)).astype(np.int8)


@st.composite
def inputs(draw: st.DrawFn, shape: tuple[int, ...], element: str) -> Array:
    """int8: any, or the largest of one sign, where narrow sums would overflow. Floats: any magnitude, some special."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    if element == "i8":
        extreme = draw(st.sampled_from((None, None, -128, 127)))
        low, high = (-128, 128) if extreme is None else (extreme, extreme + 1)
        return generator.integers(low, high, shape).astype(np.int8)
    x = generator.standard_normal(shape, np.float32) * np.float32(draw(st.sampled_from((1.0, 1e-38, 1e18))))
    if x.size and draw(st.booleans()):
        x.flat[generator.integers(x.size, size=3)] = generator.choice(SPECIAL, 3)
    return x


ENCODING = st.sampled_from(ENCODINGS)


def sum_of(element: str) -> str:
    return "f32" if element == "f32" else "i32"


@cache
def accumulate(
    rows: str, channels: int, columns: int, groups: int, element: str, encoding: str
) -> PlannedProgram:
    w, x = trits(channels, columns, encoding), f"tensor<{rows}{groups * columns}x{element}>"
    y = f"tensor<{rows}{channels}x{sum_of(element)}>"
    text = f"""
      ternary.weight @w : {w}
      func.func @forward(%x : {x}) -> {y} {{
        %w = ternary.load @w : {w}
        %y = ternary.accumulate %x, %w groups = {groups} : {x}, {w} -> {y}
        func.return %y : {y}
      }}"""
    return PlannedProgram(text, {"w": random_trits(channels, columns)})


@ISA
@RUNS
@given(data=st.data())
def test_accumulate_adds_each_group(isa: str, data: st.DataObject) -> None:
    rows = data.draw(st.sampled_from(("", "?x", "?x3x")))
    shapes = ((5, 257, 1), (8, 20, 2), (6, 9, 6), (6, 300, 3))
    channels, columns, groups = data.draw(st.sampled_from(shapes))
    element = data.draw(st.sampled_from(("i8", "f32")))
    count = data.draw(ROWS)
    given = {"": (), "?x": (count,), "?x3x": (count, 3)}[rows]
    x = data.draw(inputs((*given, groups * columns), element))
    with np.errstate(all="ignore"):
        program = accumulate(rows, channels, columns, groups, element, data.draw(ENCODING))
        program.check([x], isa=isa, threads=data.draw(THREADS))


def lists(*numbers: list[int]) -> str:
    names = ("axes", "sizes", "strides", "dilations", "low", "high")
    return " ".join(f"{name} = {each}" for name, each in zip(names, numbers, strict=True))


WINDOWS = {
    "same": ((3, 6, 5), 1, lists([2, 3], [3, 3], [1, 1], [1, 1], [1, 1], [1, 1]), (6, 5), 27),
    "strided": ((2, 9, 8), 2, lists([2, 3], [3, 2], [2, 3], [2, 1], [0, 1], [2, 0]), (4, 3), 6),
    "channels last": ((7, 4), 1, lists([1], [3], [1], [1], [2], [0]), (7,), 12),
    "depthwise": ((6, 7), 6, lists([2], [4], [1], [1], [0], [0]), (4,), 4),
    "over T": ((3,), 1, lists([0], [3], [1], [1], [2], [0]), (), 9),
}
"""Sizes of x after T, groups, the windows, how many there are, and the columns of a group."""


@cache
def convolve(kind: str, element: str, encoding: str) -> PlannedProgram:
    shape, groups, windows, positions, columns = WINDOWS[kind]
    sizes = "".join(f"{size}x" for size in shape)
    x, w = f"tensor<?x{sizes}{element}>", trits(6, columns, encoding)
    y = f"tensor<?x{''.join(f'{size}x' for size in positions)}6x{sum_of(element)}>"
    padding = "3 : i8" if element == "i8" else "0.5 : f32"
    leading = 0 if kind == "over T" else 1
    text = f"""
      ternary.weight @w : {w}
      func.func @forward(%x : {x}) -> {y} {{
        %w = ternary.load @w : {w}
        %y = ternary.convolve %x, %w groups = {groups} leading = {leading} {windows} padding = {padding}
          : {x}, {w} -> {y}
        func.return %y : {y}
      }}"""
    return PlannedProgram(text, {"w": random_trits(6, columns)})


@ISA
@RUNS
@given(data=st.data())
def test_convolve_adds_each_window(isa: str, data: st.DataObject) -> None:
    kind, element = data.draw(st.sampled_from(sorted(WINDOWS))), data.draw(st.sampled_from(("i8", "f32")))
    count = data.draw(st.sampled_from((1, 3, MAX_ROWS)))
    x = data.draw(inputs((count, *WINDOWS[kind][0]), element))
    with np.errstate(all="ignore"):
        program = convolve(kind, element, data.draw(ENCODING))
        program.check([x], isa=isa, threads=data.draw(THREADS))
