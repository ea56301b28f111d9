"""Every CPU kernel gives the interpreter's bits, for each instruction set and any number of threads and rows."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterna.dialects.elements import from_bfloat16_bits
from tests.cpu_programs import ENCODINGS, MAX_ROWS, PlannedProgram, isa_names, trits

F32 = npt.NDArray[np.float32]

ISA = pytest.mark.parametrize("isa", isa_names())
RUNS = settings(max_examples=40, deadline=None)

ROWS = st.sampled_from((0, 1, 2, 3, MAX_ROWS - 1, MAX_ROWS, MAX_ROWS + 1, 3 * MAX_ROWS + 1))
THREADS = st.sampled_from((1, 2, 4))
COLUMNS = (1, 15, 16, 255, 256, 257, 300)
SPECIAL = (0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 3e38, 1.0)


@st.composite
def float_rows(draw: st.DrawFn, rows: int, columns: int) -> F32:
    """Rows of any magnitude; some all zero, some with one element far above the rest, some with special values."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = generator.standard_normal((rows, columns), np.float32)
    for row in x:
        match draw(st.sampled_from(("plain", "tiny", "large", "zero", "spike", "ties", "special"))):
            case "tiny":
                row *= np.float32(1e-38)
            case "large":
                row *= np.float32(1e18)
            case "zero":
                row[:] = 0
            case "spike":
                row[generator.integers(columns)] = 1e6
            case "ties":
                row[:] = generator.integers(-254, 255, columns) / np.float32(2)
                row[0] = 127
            case "special":
                row[generator.integers(columns)] = draw(st.sampled_from(SPECIAL))
            case _:
                pass
    return x


def gains(name: str, columns: int) -> F32:
    generator = np.random.default_rng([columns, *name.encode()])
    return generator.standard_normal(columns, np.float32)


@cache
def rms_norm(columns: int, lanes: int = 128) -> PlannedProgram:
    x, g = f"tensor<?x{columns}xf32>", f"tensor<{columns}xf32>"
    text = f"""
      ternary.weight @g : {g}
      func.func @forward(%x : {x}) -> {x} {{
        %g = ternary.load @g : {g}
        %y = ternary.rms_norm %x, %g eps = 1.0e-6 lanes = {lanes} : {x}, {g}
        func.return %y : {x}
      }}"""
    return PlannedProgram(text, {"g": gains("g", columns)})


@cache
def quantize(columns: int) -> PlannedProgram:
    x, q, s = f"tensor<?x{columns}xf32>", f"tensor<?x{columns}xi8>", "tensor<?xf32>"
    text = f"""
      func.func @forward(%x : {x}) -> ({q}, {s}) {{
        %q, %s = ternary.quantize %x eps = 1.0e-5 : {x} -> {q}, {s}
        func.return %q, %s : {q}, {s}
      }}"""
    return PlannedProgram(text, {})


@cache
def norm_quantize(columns: int, *, norm_of_norm: bool, lanes: int = 128) -> PlannedProgram:
    x, q, s, g = (
        f"tensor<{shape}>" for shape in (f"?x{columns}xf32", f"?x{columns}xi8", "?xf32", f"{columns}xf32")
    )
    of = f"of %outer : {g} outer_eps = 1.0e-6" if norm_of_norm else ""
    text = f"""
      ternary.weight @a : {g}
      ternary.weight @b : {g}
      ternary.weight @outer : {g}
      func.func @forward(%x : {x}) -> ({q}, {s}, {q}, {s}) {{
        %a = ternary.load @a : {g}
        %b = ternary.load @b : {g}
        %outer = ternary.load @outer : {g}
        %q0, %q1, %s0, %s1 = ternary.norm_quantize %x {of} gains(%a, %b : {g}, {g})
          eps = 1.0e-8 quantize_eps = 1.0e-5 lanes = {lanes} : {x} -> ({q}, {q}), ({s}, {s})
        func.return %q0, %s0, %q1, %s1 : {q}, {s}, {q}, {s}
      }}"""
    return PlannedProgram(text, {name: gains(name, columns) for name in ("a", "b", "outer")})


LANES = st.sampled_from((16, 32, 128))


def norms(columns: int, lanes: int) -> tuple[PlannedProgram, ...]:
    """Of the kernels that reduce rows, one each."""
    return (
        rms_norm(columns, lanes),
        quantize(columns),
        norm_quantize(columns, norm_of_norm=False, lanes=lanes),
        norm_quantize(columns, norm_of_norm=True, lanes=lanes),
    )


@cache
def scan(columns: int) -> PlannedProgram:
    x, s = f"tensor<?x{columns}xf32>", f"tensor<{columns}xf32>"
    text = f"""
      func.func @forward(%f : {x}, %i : {x}, %s : {s}) -> ({x}, {s}) attributes {{sterna.states = 1 : i64}} {{
        %y, %last = ternary.scan %f, %i, %s : {x}, {s}
        func.return %y, %last : {x}, {s}
      }}"""
    return PlannedProgram(text, {})


@cache
def embedding(columns: int, element: str) -> PlannedProgram:
    t, y = f"tensor<300x{columns}x{element}>", f"tensor<?x{columns}xf32>"
    text = f"""
      ternary.weight @t : {t}
      func.func @forward(%tokens : tensor<?xi64>) -> {y} {{
        %t = ternary.load @t : {t}
        %y = ternary.embedding %tokens, %t : tensor<?xi64>, {t} -> {y}
        func.return %y : {y}
      }}"""
    bits = np.random.default_rng(columns).integers(0, 1 << 16, (300, columns), np.uint16)
    half = bits.view(np.float16)
    tables = {"f16": half, "bf16": from_bfloat16_bits(bits), "f32": half.astype(np.float32)}
    return PlannedProgram(text, {"t": tables[element]})


@ISA
@RUNS
@given(data=st.data())
def test_norms_and_quantization(isa: str, data: st.DataObject) -> None:
    columns = data.draw(st.sampled_from(COLUMNS))
    program = data.draw(st.sampled_from(norms(columns, data.draw(LANES))))
    x = data.draw(float_rows(data.draw(ROWS), columns))
    with np.errstate(all="ignore"):
        program.check([x], isa=isa, threads=data.draw(THREADS))


@ISA
def test_no_bit_of_a_nan_is_left_in_int8(isa: str) -> None:
    """Of the usual NaN the low byte is 0 anyway."""
    x = np.ones((1, 20), np.float32)
    x.view(np.uint32)[0, 3] = 0x7FC00123
    with np.errstate(all="ignore"):
        quantize(20).check([x], isa=isa, threads=1)
        quantize(20).check_on_triton([x])


@ISA
@pytest.mark.parametrize("lanes", [16, 32, 128])
def test_a_norm_sums_in_its_lanes_and_nothing_past_the_last_column(isa: str, lanes: int) -> None:
    """Past it lie threes. Nineteen blocks of 16, the last of which has 12 columns."""
    columns = 300
    x, g = f"tensor<?x{columns}xf32>", f"tensor<{columns}xf32>"
    text = f"""
      ternary.weight @g : {g}
      func.func @forward(%x : {x}) -> {x} {{
        %g = ternary.load @g : {g}
        %s = ternary.elementwise (%x : {x}) {{
        ^bb0(%a : f32):
          %c = arith.constant 3.0 : f32
          %sum = arith.addf %a, %c : f32
          ternary.yield %sum : f32
        }} -> {x}
        %y = ternary.rms_norm %s, %g eps = 1.0e-6 lanes = {lanes} : {x}, {g}
        func.return %y : {x}
      }}"""
    rows = np.random.default_rng(lanes).standard_normal((8, columns), np.float32)
    PlannedProgram(text, {"g": gains("g", columns)}).check([rows], isa=isa, threads=1)


@ISA
@RUNS
@given(data=st.data())
def test_scan_carries_its_state_from_piece_to_piece(isa: str, data: st.DataObject) -> None:
    columns, rows = data.draw(st.sampled_from(COLUMNS)), data.draw(ROWS)
    f, i = data.draw(float_rows(rows, columns)), data.draw(float_rows(rows, columns))
    state = data.draw(float_rows(1, columns))[0]
    with np.errstate(all="ignore"):
        if rows:
            scan(columns).check([f, i, state], isa=isa, threads=data.draw(THREADS))


@ISA
@RUNS
@given(data=st.data())
def test_embedding_of_any_half(isa: str, data: st.DataObject) -> None:
    program = embedding(
        data.draw(st.sampled_from(COLUMNS[:4])), data.draw(st.sampled_from(("f16", "bf16", "f32")))
    )
    tokens = np.array(data.draw(st.lists(st.integers(0, 299), max_size=20)), np.int64)
    program.check([tokens], isa=isa, threads=data.draw(THREADS))


SHAPES = ((1, 1), (17, 255), (16, 256), (5, 257), (33, 2049), (64, 1024), (9, 80), (6, 961))
ENCODED = pytest.mark.parametrize("encoding", ENCODINGS)
WEIGHTS = ("random", "all +1", "all -1", "zero")


def trit_matrix(kind: str, rows: int, columns: int, name: str) -> npt.NDArray[np.int8]:
    match kind:
        case "all +1":
            return np.ones((rows, columns), np.int8)
        case "all -1":
            return np.full((rows, columns), -1, np.int8)
        case "zero":
            return np.zeros((rows, columns), np.int8)
        case _:
            return (
                np.random.default_rng([rows, *name.encode()]).integers(-1, 2, (rows, columns)).astype(np.int8)
            )


@cache
def project(rows: int, columns: int, kind: str, encoding: str = "i2") -> PlannedProgram:
    """Two weights that read the same rows, one that reads others, and extras that broadcast."""
    w, q, y, m = (
        trits(rows, columns, encoding),
        f"tensor<?x{columns}xi8>",
        f"tensor<?x{rows}xf32>",
        f"tensor<{rows}xf32>",
    )
    s = "tensor<?xf32>"
    text = f"""
      ternary.weight @a : {w}
      ternary.weight @b : {w}
      ternary.weight @c : {w}
      ternary.weight @scale : tensor<f32>
      ternary.weight @bias : {m}
      func.func @forward(%p : {q}, %q : {q}, %sp : {s}, %sq : {s}, %r : {y}) -> ({y}, {y}) {{
        %a = ternary.load @a : {w}
        %b = ternary.load @b : {w}
        %c = ternary.load @c : {w}
        %scale = ternary.load @scale : tensor<f32>
        %bias = ternary.load @bias : {m}
        %y0, %y1 = ternary.project quantized(%p, %q : {q}, {q}) steps(%sp, %sq : {s}, {s})
          weights(%a, %b, %c : {w}, {w}, {w})
          scales(%scale, %scale, %scale : tensor<f32>, tensor<f32>, tensor<f32>)
          reads = [0, 1, 0] with(%r, %bias, %scale : {y}, {m}, tensor<f32>) {{
        ^bb0(%u : f32, %v : f32, %x : f32, %e : f32, %o : f32, %k : f32):
          %0 = arith.addf %u, %e : f32
          %1 = arith.mulf %v, %o : f32
          %2 = arith.subf %1, %k : f32
          %3 = arith.addf %2, %x : f32
          ternary.yield %0, %3 : f32, f32
        }} -> {y}, {y}
        func.return %y0, %y1 : {y}, {y}
      }}"""
    weights: dict[str, Any] = {name: trit_matrix(kind, rows, columns, name) for name in ("a", "b", "c")}
    return PlannedProgram(text, {**weights, "scale": np.array(0.37, np.float32), "bias": gains("bias", rows)})


@st.composite
def quantized_rows(draw: st.DrawFn, rows: int, columns: int) -> npt.NDArray[np.int8]:
    """int8 rows: any values, or the largest of one sign, where narrow sums would overflow."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    q = generator.integers(-128, 128, (rows, columns)).astype(np.int8)
    for row in q:
        match draw(st.sampled_from(("any", -128, 127, 0))):
            case int(value):
                row[:] = value
            case _:
                pass
    return q


@ENCODED
@ISA
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_project_sums_exactly(isa: str, encoding: str, data: st.DataObject) -> None:
    rows, columns = data.draw(st.sampled_from(SHAPES))
    program = project(rows, columns, data.draw(st.sampled_from(WEIGHTS)), encoding)
    count = data.draw(ROWS)
    p, q = data.draw(quantized_rows(count, columns)), data.draw(quantized_rows(count, columns))
    steps = data.draw(float_rows(2, max(count, 1)))[:, :count]
    extra = data.draw(float_rows(count, rows))
    with np.errstate(all="ignore"):
        program.check([p, q, steps[0], steps[1], extra], isa=isa, threads=data.draw(THREADS))


@ENCODED
@ISA
def test_nothing_overflows_where_every_product_is_the_largest(isa: str, encoding: str) -> None:
    for kind in ("all +1", "all -1"):
        for value in (-128, 127):
            q = np.full((3, 2049), value, np.int8)
            ones, zeros = np.ones(3, np.float32), np.zeros((3, 33), np.float32)
            project(33, 2049, kind, encoding).check([q, q, ones, ones, zeros], isa=isa, threads=2)
