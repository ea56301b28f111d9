"""Regions of scalar arithmetic give the interpreter's bits when they run on vectors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xdsl.dialects import arith

from tests.cpu_programs import MAX_ROWS, PlannedProgram, isa_names
from tests.property.test_cpu_kernels import float_rows

# Each example is a program to compile.
EXAMPLES = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.data_too_large])

FLOAT_BINARY = ("addf", "subf", "mulf", "divf", "maximumf", "minimumf", "maxnumf", "minnumf")
INTEGER_BINARY = ("addi", "subi", "muli", "andi", "ori", "xori", "maxsi", "minsi")
SHIFTS = ("shli", "shrsi", "shrui")


@dataclass
class Body:
    """The lines of a region, and the values so far by type."""

    floats: list[str]
    arguments: tuple[str, ...]
    integers: list[str] = field(default_factory=list[str])
    booleans: list[str] = field(default_factory=list[str])
    lines: list[str] = field(default_factory=list[str])

    def add(self, into: list[str], line: str) -> None:
        name = f"%v{len(self.lines)}"
        self.lines.append(f"{name} = {line}")
        into.append(name)


@st.composite
def bodies(draw: st.DrawFn, arguments: int) -> Body:
    names = tuple(f"%a{n}" for n in range(arguments))
    body = Body([*names], names)
    body.add(body.integers, f"arith.constant {draw(st.integers(-(2**31), 2**31 - 1))} : i32")
    body.add(body.floats, f"arith.constant {float(np.float32(draw(st.floats(-1e6, 1e6, width=32)))):e} : f32")

    def pick(values: list[str] | tuple[str, ...]) -> str:
        return draw(st.sampled_from(values))

    for _ in range(draw(st.integers(3, 20))):
        f, g, i, j = pick(body.floats), pick(body.floats), pick(body.integers), pick(body.integers)
        match draw(st.integers(0, 10)):
            case 0 | 1 | 2:
                body.add(body.floats, f"arith.{pick(FLOAT_BINARY)} {f}, {g} : f32")
            case 3:
                body.add(body.floats, draw(st.sampled_from((f"math.absf {f} : f32", f"math.sqrt {f} : f32"))))
            case 4:
                body.add(body.floats, f"arith.negf {f} : f32")
            case 5:
                predicate = draw(st.sampled_from(arith.CMPF_COMPARISON_OPERATIONS[1:-1]))
                body.add(body.booleans, f"arith.cmpf {predicate}, {f}, {g} : f32")
            case 6:
                # Which NaN an operation gives is not promised, so bits are taken of the inputs alone.
                body.add(body.integers, f"arith.bitcast {pick(body.arguments)} : f32 to i32")
            case 7:
                body.add(body.integers, f"arith.{pick(INTEGER_BINARY)} {i}, {j} : i32")
            case 8:
                body.lines.append(f"%s{len(body.lines)} = arith.constant {draw(st.integers(0, 31))} : i32")
                amount = f"%s{len(body.lines) - 1}"
                body.add(body.integers, f"arith.{pick(SHIFTS)} {i}, {amount} : i32")
            case 9:
                body.add(body.floats, f"arith.sitofp {i} : i32 to f32")
                predicate = draw(st.sampled_from(arith.CMPI_COMPARISON_OPERATIONS))
                body.add(body.booleans, f"arith.cmpi {predicate}, {i}, {j} : i32")
            case _ if body.booleans:
                condition = pick(body.booleans)
                body.add(body.integers, f"arith.{pick(('extui', 'extsi'))} {condition} : i1 to i32")
                body.add(body.floats, f"arith.select {condition}, {f}, {g} : f32")
            case _:
                pass
    return body


def program_of(body: Body, columns: int) -> PlannedProgram:
    """Inputs that are full, one a column, and scalar; two results."""
    x, m = f"tensor<?x{columns}xf32>", f"tensor<{columns}xf32>"
    lines = "\n".join(body.lines)
    text = f"""
      func.func @forward(%x : {x}, %y : {x}, %m : {m}, %s : tensor<f32>) -> ({x}, {x}) {{
        %r0, %r1 = ternary.elementwise (%x, %y, %m, %s : {x}, {x}, {m}, tensor<f32>) {{
        ^bb0(%a0 : f32, %a1 : f32, %a2 : f32, %a3 : f32):
          {lines}
          ternary.yield {body.floats[-1]}, {body.floats[-2]} : f32, f32
        }} -> {x}, {x}
        func.return %r0, %r1 : {x}, {x}
      }}"""
    return PlannedProgram(text, {})


@pytest.mark.parametrize("isa", isa_names())
@EXAMPLES
@given(data=st.data())
def test_any_region(isa: str, data: st.DataObject) -> None:
    columns = data.draw(st.sampled_from((1, 16, 37)))
    program = program_of(data.draw(bodies(4)), columns)
    for rows in (1, MAX_ROWS + 1):
        x, y = data.draw(float_rows(rows, columns)), data.draw(float_rows(rows, columns))
        (m,) = data.draw(float_rows(1, columns))
        s = data.draw(float_rows(1, 1)).reshape(())
        with np.errstate(all="ignore"):
            program.check([x, y, m, s], isa=isa, threads=data.draw(st.sampled_from((1, 3))))


@pytest.mark.parametrize("isa", isa_names())
def test_per_row_vectors_are_one_row_of_dynamic_length(isa: str) -> None:
    t = "tensor<?xf32>"
    program = PlannedProgram(
        f"""
        func.func @forward(%x : {t}, %y : {t}) -> {t} {{
          %r = ternary.elementwise (%x, %y : {t}, {t}) {{
          ^bb0(%a : f32, %b : f32):
            %0 = arith.divf %a, %b : f32
            ternary.yield %0 : f32
          }} -> {t}
          func.return %r : {t}
        }}""",
        {},
        max_rows=40,
    )
    generator = np.random.default_rng(0)
    for rows in (1, 15, 16, 17, 40, 41):
        x, y = generator.standard_normal((2, rows), np.float32)
        program.check([x, y], isa=isa, threads=2)


ROUNDINGS = ("floor", "ceil", "trunc", "round", "roundeven")
EDGES = (0.0, 0.3, 0.5, 0.7, 1.0, 1.5, 2.5, 2.0**23 - 0.5, 2.0**23 + 1, 1e-45, 3e38, np.inf)


def rounding(operation: str) -> PlannedProgram:
    x = "tensor<?x24xf32>"
    text = f"""
      func.func @forward(%x : {x}) -> {x} {{
        %y = ternary.elementwise (%x : {x}) {{
        ^bb0(%0 : f32):
          %1 = math.{operation} %0 : f32
          ternary.yield %1 : f32
        }} -> {x}
        func.return %y : {x}
      }}"""
    return PlannedProgram(text, {})


@pytest.mark.parametrize("operation", ROUNDINGS)
def test_roundings_keep_the_sign_where_zero_is_what_is_left(operation: str) -> None:
    row = np.array([*EDGES, *(-edge for edge in EDGES)], np.float32)
    program = rounding(operation)
    for isa in isa_names():
        program.check([row[None, :]], isa=isa, threads=1)
    program.check_on_triton([row[None, :]])
