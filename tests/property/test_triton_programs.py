"""Any program of the IR, of any rank and with T anywhere, gives the interpreter's bits on the GPU target.

Slow: Triton's interpreter takes milliseconds an operation of a program.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sterna.dialects.context import parse
from sterna.dialects.interpreter import run
from sterna.dialects.weights import ArrayStore
from sterna.in_memory import load_planned
from sterna.targets.triton.engine import INTERPRETER
from sterna.testing import inputs_of, ir_modules
from tests.cpu_programs import ENCODINGS, PlannedProgram, same_bits
from tests.gpu_programs import OPERATIONS, SMALL, check_any_on_gpu
from tests.property.test_cpu_general import MAX_ROWS, assert_equal_bits, planned, programs
from tests.property.test_cpu_sums import SPECIAL, WINDOWS, accumulate, convolve

pytestmark = pytest.mark.slow

Array = npt.NDArray[Any]

QUICK = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # to shrink a program would take an hour here
)


def on_triton(text: str) -> Any:
    return load_planned(planned(parse(text)), ArrayStore({}), "triton", isa=INTERPRETER)


def check(text: str, *inputs: Array) -> None:
    with np.errstate(all="ignore"):
        expected = run(parse(text), inputs)
        found = on_triton(text).run(inputs)
    for a, b in zip(found, expected, strict=True):
        assert same_bits(a, b), f"{a} != {b}"


@settings(QUICK, max_examples=20)
@given(text=programs(), seed=st.integers(0, 2**32), rows=st.sampled_from((0, 1, MAX_ROWS)))
def test_any_program_unfused(text: str, seed: int, rows: int) -> None:
    assert_equal_bits(on_triton(text), parse(text), rows, seed)


@settings(QUICK, max_examples=40)
@given(data=st.data())
def test_generated_programs(data: st.DataObject) -> None:
    program = data.draw(ir_modules(OPERATIONS, limits=SMALL))
    check_any_on_gpu(program, data.draw(inputs_of(program.module)), data.draw(st.sampled_from(ENCODINGS)))


GROUPS = (
    ("", 6, 9, 6),
    ("?x", 6, 300, 3),
    ("?x3x", 18, 20, 2),
    ("?x", 140, 5, 2),
    ("", 5, 257, 1),
    ("?x", 3, 2, 1),
)
"""Rows, channels, columns and groups: of one channel, of few, of enough for tensor cores, of more than a program has;
rows of more than a tile."""


@pytest.mark.parametrize("rows", [1, 3, 17])
@pytest.mark.parametrize("leading", ["2x?", "?x2", "2x?x?"])
def test_a_number_of_each_row_lies_where_its_axes_say(leading: str, rows: int) -> None:
    """Rows of tokens and of steps are padded, also where they are T long."""
    x, q, s, t, w = (f"tensor<{leading}{end}>" for end in ("x6xf32", "x6xi8", "xf32", "xi64", "x6xi32"))
    sizes = [rows if size == "?" else int(size) for size in leading.split("x")]
    random = np.random.default_rng(rows)
    check(
        f"""func.func @forward(%x : {x}, %t : {t}, %table : tensor<2x6xf32>, %acc : {w}, %scale : tensor<f32>)
            -> ({q}, {s}, {x}, {x}) {{
          %q, %s = ternary.quantize %x eps = 1.0e-05 : {x} -> {q}, {s}
          %y = ternary.embedding %t, %table : {t}, tensor<2x6xf32> -> {x}
          %z = ternary.dequantize %acc, %s, %scale : {w}, {s}, tensor<f32> -> {x}
          func.return %q, %s, %y, %z : {q}, {s}, {x}, {x}
        }}""",
        random.standard_normal((*sizes, 6), np.float32),
        random.integers(0, 2, sizes),
        random.standard_normal((2, 6), np.float32),
        random.integers(-99, 99, (*sizes, 6), np.int32),
        np.array(0.5, np.float32),
    )


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("element", ["i8", "f32"])
def test_accumulate_adds_each_group(element: str, encoding: str) -> None:
    for rows, channels, columns, groups in GROUPS:
        given = {"": (), "?x": (2,), "?x3x": (2, 3)}[rows]
        x = numbers((*given, groups * columns), element)
        with np.errstate(all="ignore"):
            accumulate(rows, channels, columns, groups, element, encoding).check_on_triton([x])


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("element", ["i8", "f32"])
@pytest.mark.parametrize("kind", sorted(WINDOWS))
def test_convolve_adds_each_window(kind: str, element: str, encoding: str) -> None:
    program = convolve(kind, element, encoding)
    for rows in (1, 3):
        with np.errstate(all="ignore"):
            program.check_on_triton([numbers((rows, *WINDOWS[kind][0]), element)])


def numbers(shape: tuple[int, ...], element: str) -> Array:
    """Any int8, the least among them; floats, some of them special."""
    generator = np.random.default_rng(len(shape))
    if element == "i8":
        return generator.choice(np.array([-128, -128, 127, 5, -3], np.int8), shape)
    x = generator.standard_normal(shape, np.float32)
    return np.where(generator.random(shape) < 0.02, generator.choice(np.array(SPECIAL, np.float32), shape), x)


def test_convolve_of_many_channels_and_positions() -> None:
    """More than a program of either has, and a last tile of each that is not full."""
    text = """
      ternary.weight @w : tensor<70x45x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>
      func.func @forward(%x : tensor<?x5x10x9xi8>) -> tensor<?x10x9x70xi32> {
        %w = ternary.load @w : tensor<70x45x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>
        %y = ternary.convolve %x, %w leading = 1 axes = [2, 3] sizes = [3, 3] strides = [1, 1]
          dilations = [1, 1] low = [1, 1] high = [1, 1] padding = 0 : i8
          : tensor<?x5x10x9xi8>, tensor<70x45x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>
          -> tensor<?x10x9x70xi32>
        func.return %y : tensor<?x10x9x70xi32>
      }"""
    w = np.random.default_rng(0).integers(-1, 2, (70, 45)).astype(np.int8)
    PlannedProgram(text, {"w": w}).check_on_triton([numbers((2, 5, 10, 9), "i8")])


@pytest.mark.parametrize("order", ["largest", "smallest"])
@pytest.mark.parametrize("element", ["f32", "i64", "i8"])
def test_top_k_of_rows_of_several_pieces(element: str, order: str) -> None:
    """Ties in another piece than the best, all numbers the least, infinities, NaN, zeros of both signs."""
    kind = {"f32": np.float32, "i64": np.int64, "i8": np.int8}[element]
    least = -np.inf if element == "f32" else np.iinfo(kind).min
    x = np.full((3, 1500), least, kind)
    x[0, [7, 1100, 1400]] = [3, 3, 4]
    x[1, [5, 1033]] = [0, 0]
    if element == "f32":
        x[1, [5, 1034, 1200]] = [-0.0, np.nan, np.inf]
    text = f"""
      func.func @forward(%x : tensor<?x1500x{element}>) -> (tensor<?x3x{element}>, tensor<?x3xi64>) {{
        %v, %i = ternary.top_k %x k = 3 order = "{order}"
          : tensor<?x1500x{element}> -> tensor<?x3x{element}>, tensor<?x3xi64>
        func.return %v, %i : tensor<?x3x{element}>, tensor<?x3xi64>
      }}"""
    check(text, x)


@pytest.mark.parametrize("name", ["divsi", "remsi", "floordivsi", "divui", "remui"])
@pytest.mark.parametrize("element", ["i8", "i32", "i64"])
def test_division_by_zero_and_of_the_least_number(name: str, element: str) -> None:
    kind = np.dtype(f"int{element[1:]}")
    edges = np.array([0, 1, -1, 2, -2, 7, -7, np.iinfo(kind).min, np.iinfo(kind).max], kind)
    a, b = (each.ravel() for each in np.meshgrid(edges, edges))
    type = f"tensor<81x{element}>"
    check(
        f"func.func @forward(%a : {type}, %b : {type}) -> {type} {{\n"
        f"  %c = arith.{name} %a, %b : {type}\n  func.return %c : {type}\n}}",
        a,
        b,
    )


@pytest.mark.parametrize("name", ["fptosi", "fptoui"])
@pytest.mark.parametrize("element", ["i1", "i8", "i32", "i64"])
def test_conversions_saturate(name: str, element: str) -> None:
    edges = [2.0**n * s for n in (7, 8, 31, 32, 63, 64, 70) for s in (1, -1)]
    x = np.array(
        [*edges, *np.nextafter(np.float32(edges), np.float32(0)), *SPECIAL, 1, -1, 0.9, -0.9, 127.9],
        np.float32,
    )
    before, after = f"tensor<{x.size}xf32>", f"tensor<{x.size}x{element}>"
    check(
        f"""
        func.func @forward(%a : {before}) -> {after} {{
          %b = ternary.elementwise(%a : {before}) {{
          ^bb0(%x : f32):
            %y = arith.{name} %x : f32 to {element}
            ternary.yield %y : {element}
          }} -> {after}
          func.return %b : {after}
        }}""",
        x,
    )


def test_roundings_of_small_and_large_numbers() -> None:
    x = np.array(
        [*SPECIAL, -1e-40, 1e-40, 0.5, -0.5, 1.5, 2.5, 8388607.5, -8388607.5, 8388609.0, 1e30], np.float32
    )
    type = f"tensor<{x.size}xf32>"
    names = ("floor", "ceil", "trunc", "round", "roundeven")
    lines = "\n".join(f"%{name} = math.{name} %x : {type}" for name in names)
    results = ", ".join(f"%{name}" for name in names)
    types = ", ".join([type] * len(names))
    check(f"func.func @forward(%x : {type}) -> ({types}) {{\n{lines}\nfunc.return {results} : {types}\n}}", x)


X = "tensor<?x4xf32>"
CONTROL = f"""
func.func private @scaled(%x : {X}, %by : f32) -> {X} {{
  %zero = arith.constant 0 : index
  %rows = tensor.dim %x, %zero : {X}
  %factor = tensor.splat %by[%rows] : {X}
  %y = arith.mulf %x, %factor : {X}
  func.return %y : {X}
}}
func.func @forward(%x : {X}, %turns : tensor<i64>, %table : tensor<6xf32>) -> ({X}, tensor<6xf32>, tensor<3xf32>) {{
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %int = tensor.extract %turns[] : tensor<i64>
  %end = arith.index_cast %int : i64 to index
  %start = arith.constant 1.0 : f32
  %y, %t, %product = scf.for %i = %zero to %end step %one iter_args(%a = %x, %b = %table, %c = %start)
      -> ({X}, tensor<6xf32>, f32) {{
    %element = tensor.extract %b[%i] : tensor<6xf32>
    %next = arith.mulf %c, %element : f32
    %scaled = func.call @scaled(%a, %next) : ({X}, f32) -> {X}
    %limit = arith.constant 4.0 : f32
    %large = arith.cmpf ogt, %next, %limit : f32
    %chosen, %range = scf.if %large -> ({X}, f32) {{
      %less = arith.subf %scaled, %x : {X}
      scf.yield %less, %start : {X}, f32
    }} else {{
      scf.yield %scaled, %next : {X}, f32
    }}
    %two = tensor.from_elements %range, %element : tensor<2xf32>
    %written = tensor.insert_slice %two into %b[%i] [2] [1] : tensor<2xf32> into tensor<6xf32>
    scf.yield %chosen, %written, %range : {X}, tensor<6xf32>, f32
  }}
  %part = tensor.extract_slice %t[%end] [3] [1] : tensor<6xf32> to tensor<3xf32>
  %last = tensor.splat %product : tensor<3xf32>
  %sum = arith.addf %part, %last : tensor<3xf32>
  func.return %y, %t, %sum : {X}, tensor<6xf32>, tensor<3xf32>
}}"""


@pytest.mark.parametrize("turns", [0, 1, 4, 6])
def test_control_flow_on_numbers_that_the_device_computes(turns: int) -> None:
    """A bound, a condition, offsets (one clamped), and numbers that go into a loop, a choice and a function; values
    that are called as what the emitted file needs for itself."""
    x = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
    table = np.array([1.5, 2.0, 3.0, 0.5, 1.25, 2.0], np.float32)
    check(CONTROL, x, np.array(turns, np.int64), table)
