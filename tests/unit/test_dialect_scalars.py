"""`arith` and `math`, one case or more an operation: what each gives on scalars, edges first."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna.dialects.context import parse
from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import run
from sterna.dialects.semantics.arith import ArithFunctions
from sterna.dialects.semantics.math import MathFunctions

TYPES = {
    "f": "f32",
    "g": "f32",
    "e": "f32",
    "h": "f16",
    "d": "f64",
    "i": "i32",
    "j": "i32",
    "k": "i8",
    "l": "i64",
}
TYPES |= {"b": "i1", "c": "i1", "n": "index"}
"""Type of every name that a case may use; a case gives the values of those it does."""

NUMPY = {
    "f32": np.float32,
    "f16": np.float16,
    "f64": np.float64,
    "i32": np.int32,
    "i8": np.int8,
    "i64": np.int64,
}
NUMPY |= {"i1": np.bool_, "index": np.int64}

NAN, INF = math.nan, math.inf
MIN, MAX = -(2**31), 2**31 - 1
EXACT = [
    ("arith.addf %f, %g : f32", "f32", {"f": 16777216.0, "g": 1.0}, 16777216.0),
    ("arith.subf %f, %g : f32", "f32", {"f": 0.0, "g": 0.0}, 0.0),
    ("arith.mulf %f, %g : f32", "f32", {"f": 3e38, "g": 10.0}, INF),
    ("arith.divf %f, %g : f32", "f32", {"f": 1.0, "g": -0.0}, -INF),
    ("arith.divf %f, %g : f32", "f32", {"f": 1.0, "g": 3.0}, np.float32(1) / np.float32(3)),
    ("arith.negf %f : f32", "f32", {"f": 0.0}, -0.0),
    ("arith.maximumf %f, %g : f32", "f32", {"f": -0.0, "g": 0.0}, 0.0),
    ("arith.maximumf %f, %g : f32", "f32", {"f": 0.0, "g": -0.0}, 0.0),
    ("arith.maximumf %f, %g : f32", "f32", {"f": 1.0, "g": NAN}, NAN),
    ("arith.minimumf %f, %g : f32", "f32", {"f": 0.0, "g": -0.0}, -0.0),
    ("arith.minimumf %f, %g : f32", "f32", {"f": NAN, "g": 1.0}, NAN),
    ("arith.minimumf %f, %g : f32", "f32", {"f": -INF, "g": INF}, -INF),
    ("arith.maxnumf %f, %g : f32", "f32", {"f": NAN, "g": 1.0}, 1.0),
    ("arith.maxnumf %f, %g : f32", "f32", {"f": -0.0, "g": 0.0}, 0.0),
    ("arith.minnumf %f, %g : f32", "f32", {"f": 1.0, "g": NAN}, 1.0),
    ("arith.minnumf %f, %g : f32", "f32", {"f": 0.0, "g": -0.0}, -0.0),
    ("arith.select %b, %f, %g : f32", "f32", {"b": True, "f": 1.0, "g": NAN}, 1.0),
    ("arith.select %b, %i, %j : i32", "i32", {"b": False, "i": 1, "j": 2}, 2),
    ("arith.addi %i, %j : i32", "i32", {"i": MAX, "j": 1}, MIN),
    ("arith.addi %b, %c : i1", "i1", {"b": True, "c": True}, False),
    ("arith.subi %i, %j : i32", "i32", {"i": MIN, "j": 1}, MAX),
    ("arith.subi %b, %c : i1", "i1", {"b": False, "c": True}, True),
    ("arith.muli %i, %j : i32", "i32", {"i": 65536, "j": 65537}, 65536),
    ("arith.muli %b, %c : i1", "i1", {"b": True, "c": True}, True),
    ("arith.divsi %i, %j : i32", "i32", {"i": -7, "j": 2}, -3),
    ("arith.divsi %i, %j : i32", "i32", {"i": -8, "j": 2}, -4),
    ("arith.divsi %i, %j : i32", "i32", {"i": 7, "j": -2}, -3),
    ("arith.floordivsi %i, %j : i32", "i32", {"i": -7, "j": 2}, -4),
    ("arith.remsi %i, %j : i32", "i32", {"i": -7, "j": 2}, -1),
    ("arith.remsi %i, %j : i32", "i32", {"i": 7, "j": -2}, 1),
    ("arith.minsi %i, %j : i32", "i32", {"i": -1, "j": 1}, -1),
    ("arith.maxsi %i, %j : i32", "i32", {"i": -1, "j": 1}, 1),
    ("arith.divsi %i, %j : i32", "i32", {"i": 7, "j": 0}, 0),
    ("arith.divsi %i, %j : i32", "i32", {"i": -7, "j": 0}, 0),
    ("arith.divsi %i, %j : i32", "i32", {"i": MIN, "j": -1}, MIN),
    ("arith.divsi %b, %c : i1", "i1", {"b": True, "c": True}, True),
    ("arith.floordivsi %i, %j : i32", "i32", {"i": -7, "j": 0}, 0),
    ("arith.floordivsi %i, %j : i32", "i32", {"i": MIN, "j": -1}, MIN),
    ("arith.remsi %i, %j : i32", "i32", {"i": -7, "j": 0}, -7),
    ("arith.remsi %i, %j : i32", "i32", {"i": MIN, "j": -1}, 0),
    ("arith.divui %i, %j : i32", "i32", {"i": -1, "j": 2}, MAX),
    ("arith.divui %i, %j : i32", "i32", {"i": 1, "j": -1}, 0),
    ("arith.divui %i, %j : i32", "i32", {"i": 1, "j": 0}, 0),
    ("arith.remui %i, %j : i32", "i32", {"i": -1, "j": 10}, 5),
    ("arith.remui %i, %j : i32", "i32", {"i": -3, "j": 0}, -3),
    ("arith.minsi %b, %c : i1", "i1", {"b": True, "c": False}, True),
    ("arith.maxsi %b, %c : i1", "i1", {"b": True, "c": False}, False),
    ("arith.minui %i, %j : i32", "i32", {"i": -1, "j": 1}, 1),
    ("arith.maxui %i, %j : i32", "i32", {"i": -1, "j": 1}, -1),
    ("arith.maxui %b, %c : i1", "i1", {"b": True, "c": False}, True),
    ("arith.andi %i, %j : i32", "i32", {"i": 12, "j": 10}, 8),
    ("arith.ori %i, %j : i32", "i32", {"i": 12, "j": 10}, 14),
    ("arith.xori %b, %c : i1", "i1", {"b": True, "c": True}, False),
    ("arith.shli %i, %j : i32", "i32", {"i": 3, "j": 31}, MIN),
    ("arith.shrsi %i, %j : i32", "i32", {"i": -8, "j": 1}, -4),
    ("arith.shli %b, %c : i1", "i1", {"b": True, "c": True}, False),
    ("arith.shrsi %b, %c : i1", "i1", {"b": True, "c": True}, True),
    ("arith.shrui %b, %c : i1", "i1", {"b": True, "c": True}, False),
    ("arith.shrui %i, %j : i32", "i32", {"i": -8, "j": 1}, 2**31 - 4),
    ("arith.extf %h : f16 to f32", "f32", {"h": 65504.0}, 65504.0),
    ("arith.truncf %f : f32 to f16", "f16", {"f": 2049.0}, 2048.0),
    ("arith.truncf %d : f64 to f32", "f32", {"d": 1 + 2.0**-24}, 1.0),
    ("arith.sitofp %i : i32 to f32", "f32", {"i": 2**24 + 1}, 2.0**24),
    ("arith.sitofp %b : i1 to f32", "f32", {"b": True}, -1.0),
    ("arith.uitofp %b : i1 to f32", "f32", {"b": True}, 1.0),
    ("arith.uitofp %k : i8 to f32", "f32", {"k": -1}, 255.0),
    ("arith.fptosi %f : f32 to i32", "i32", {"f": -1.9}, -1),
    ("arith.fptosi %f : f32 to i32", "i32", {"f": 3e9}, MAX),
    ("arith.fptosi %f : f32 to i32", "i32", {"f": -INF}, MIN),
    ("arith.fptosi %f : f32 to i32", "i32", {"f": NAN}, 0),
    ("arith.fptosi %f : f32 to i8", "i8", {"f": 200.0}, 127),
    ("arith.fptosi %f : f32 to i8", "i8", {"f": -128.9}, -128),
    ("arith.fptosi %d : f64 to i64", "i64", {"d": 2.0**63}, 2**63 - 1),
    ("arith.fptosi %d : f64 to i64", "i64", {"d": -(2.0**63)}, -(2**63)),
    ("arith.fptosi %f : f32 to i1", "i1", {"f": -3.0}, True),
    ("arith.fptosi %f : f32 to i1", "i1", {"f": 3.0}, False),
    ("arith.fptoui %f : f32 to i8", "i8", {"f": 200.9}, -56),
    ("arith.fptoui %f : f32 to i8", "i8", {"f": 256.0}, -1),
    ("arith.fptoui %f : f32 to i8", "i8", {"f": -0.9}, 0),
    ("arith.fptoui %f : f32 to i8", "i8", {"f": -INF}, 0),
    ("arith.fptoui %f : f32 to i8", "i8", {"f": NAN}, 0),
    ("arith.fptoui %f : f32 to i1", "i1", {"f": 3.0}, True),
    ("arith.fptoui %d : f64 to i64", "i64", {"d": 2.0**63}, -(2**63)),
    ("arith.fptoui %d : f64 to i64", "i64", {"d": 2.0**64}, -1),
    ("arith.extsi %k : i8 to i32", "i32", {"k": -1}, -1),
    ("arith.extsi %b : i1 to i32", "i32", {"b": True}, -1),
    ("arith.extui %k : i8 to i32", "i32", {"k": -1}, 255),
    ("arith.extui %b : i1 to i32", "i32", {"b": True}, 1),
    ("arith.trunci %i : i32 to i8", "i8", {"i": 0x1FF}, -1),
    ("arith.trunci %i : i32 to i1", "i1", {"i": 2}, False),
    ("arith.bitcast %f : f32 to i32", "i32", {"f": -0.0}, MIN),
    ("arith.bitcast %i : i32 to f32", "f32", {"i": 0x7F800000}, INF),
    ("arith.index_cast %l : i64 to index", "index", {"l": -5}, -5),
    ("arith.index_cast %n : index to i32", "i32", {"n": 7}, 7),
    ("arith.constant 1.5 : f32", "f32", {}, 1.5),
    ("arith.constant 0xFF800000 : f32", "f32", {}, -INF),
    ("arith.constant 255 : i8", "i8", {}, -1),
    ("arith.constant -1 : i8", "i8", {}, -1),
    ("arith.constant true", "i1", {}, True),
    ("arith.constant 3 : index", "index", {}, 3),
    ("arith.cmpi eq, %i, %j : i32", "i1", {"i": 1, "j": 1}, True),
    ("arith.cmpf olt, %f, %g : f32", "i1", {"f": 1.0, "g": NAN}, False),
    ("math.exp %f : f32", "f32", {"f": 0.0}, 1.0),
    ("math.log %f : f32", "f32", {"f": 2.0}, np.float32(math.log(2))),
    ("math.tanh %f : f32", "f32", {"f": -20.0}, -1.0),
    ("math.erf %f : f32", "f32", {"f": 5.0}, 1.0),
    ("math.sin %f : f32", "f32", {"f": -0.0}, -0.0),
    ("math.cos %f : f32", "f32", {"f": 0.0}, 1.0),
    ("math.powf %f, %g : f32", "f32", {"f": -2.0, "g": 3.0}, -8.0),
    ("math.sqrt %f : f32", "f32", {"f": 2.0}, np.sqrt(np.float32(2))),
    ("math.sqrt %f : f32", "f32", {"f": -1.0}, NAN),
    ("math.rsqrt %f : f32", "f32", {"f": 3.0}, np.float32(1) / np.sqrt(np.float32(3))),
    ("math.rsqrt %f : f32", "f32", {"f": 0.0}, INF),
    ("math.absf %f : f32", "f32", {"f": -0.0}, 0.0),
    ("math.absi %i : i32", "i32", {"i": -7}, 7),
    ("math.floor %f : f32", "f32", {"f": -0.5}, -1.0),
    ("math.ceil %f : f32", "f32", {"f": -0.5}, -0.0),
    ("math.trunc %f : f32", "f32", {"f": -1.5}, -1.0),
    ("math.round %f : f32", "f32", {"f": 2.5}, 3.0),
    ("math.round %f : f32", "f32", {"f": -0.5}, -1.0),
    ("math.round %f : f32", "f32", {"f": 0.49999997}, 0.0),
    ("math.round %f : f32", "f32", {"f": 8388609.0}, 8388609.0),
    ("math.round %f : f32", "f32", {"f": -INF}, -INF),
    ("math.roundeven %f : f32", "f32", {"f": 2.5}, 2.0),
    ("math.roundeven %f : f32", "f32", {"f": -0.5}, -0.0),
    ("math.copysign %f, %g : f32", "f32", {"f": 2.0, "g": -0.0}, -2.0),
    ("math.fma %f, %g, %e : f32", "f32", {"f": 4097.0, "g": 4097.0, "e": -16785408.0}, 1.0),
    ("math.fma %f, %g, %e : f32", "f32", {"f": INF, "g": 0.0, "e": 1.0}, NAN),
]  # fmt: skip


def evaluate(line: str, result: str, values: dict[str, float]) -> np.ndarray:
    arguments = ", ".join(f"%{name} : {TYPES[name]}" for name in values)
    text = f"func.func @forward({arguments}) -> {result} {{\n%r = {line}\nfunc.return %r : {result}\n}}"
    (value,) = run(parse(text), [NUMPY[TYPES[name]](value) for name, value in values.items()])
    return value


def bits(value: np.ndarray) -> bytes:
    """Bytes of a scalar, with all NaN alike."""
    return b"nan" if np.isnan(value) else value.tobytes()


@pytest.mark.parametrize(("line", "result", "values", "expected"), EXACT)
def test_an_operation_gives(line: str, result: str, values: dict[str, float], expected: float) -> None:
    value = evaluate(line, result, values)
    assert value.dtype == NUMPY[result]
    assert bits(value) == bits(np.asarray(NUMPY[result](expected)))


def test_every_operation_has_a_case() -> None:
    covered = {line.split()[0] for line, *_ in EXACT}
    known = {op.name for functions in (ArithFunctions, MathFunctions) for op, _ in functions._impls()}
    assert known == covered


INTEGER_ORDERS = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b,
    "slt": lambda a, b: a < b, "sle": lambda a, b: a <= b, "sgt": lambda a, b: a > b, "sge": lambda a, b: a >= b,
    "ult": lambda a, b: a % 2**32 < b % 2**32, "ule": lambda a, b: a % 2**32 <= b % 2**32,
    "ugt": lambda a, b: a % 2**32 > b % 2**32, "uge": lambda a, b: a % 2**32 >= b % 2**32,
}  # fmt: skip


@pytest.mark.parametrize("order", INTEGER_ORDERS)
def test_cmpi(order: str) -> None:
    for a in (MIN, -1, 0, 1, MAX):
        for b in (MIN, -1, 0, 1, MAX):
            holds = evaluate(f"arith.cmpi {order}, %i, %j : i32", "i1", {"i": a, "j": b})
            assert holds == INTEGER_ORDERS[order](a, b)


FLOAT_ORDERS = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
}  # fmt: skip


@pytest.mark.parametrize(
    "order", [*("o" + o for o in FLOAT_ORDERS), *("u" + o for o in FLOAT_ORDERS), "ord", "uno"]
)
def test_cmpf(order: str) -> None:
    """An ordered comparison with NaN is false, an unordered one is true."""
    for a in (-INF, -1.0, -0.0, 0.0, 1.0, INF, NAN):
        for b in (-1.0, 0.0, 1.0, NAN):
            unordered = math.isnan(a) or math.isnan(b)
            if order in ("ord", "uno"):
                expected = unordered == (order == "uno")
            else:
                expected = order[0] == "u" if unordered else FLOAT_ORDERS[order[1:]](a, b)
            assert evaluate(f"arith.cmpf {order}, %f, %g : f32", "i1", {"f": a, "g": b}) == expected


@pytest.mark.parametrize(("order", "expected"), [("false", False), ("true", True)])
def test_constant_predicates(order: str, expected: bool) -> None:
    assert evaluate(f"arith.cmpf {order}, %f, %g : f32", "i1", {"f": 1.0, "g": NAN}) == expected


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(FINITE, FINITE, FINITE)
def test_fma_rounds_the_exact_value_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    value = evaluate("math.fma %f, %g, %e : f32", "f32", {"f": a, "g": b, "e": c})
    assert value == nearest_float32(exact)


def nearest_float32(exact: Fraction) -> float:
    """Correct rounding by comparing the exact distances of the neighbours; ties to even."""
    with np.errstate(over="ignore"):
        guess = (
            np.float32(max(min(float(exact), 1e39), -1e39))
            if abs(exact) < Fraction(10) ** 39
            else np.float32(exact > 0) * 2 - 1
        )
        if abs(exact) >= Fraction(2) ** 128 - Fraction(2) ** 103:
            return math.copysign(math.inf, exact)
        near = [np.nextafter(guess, np.float32(-INF)), guess, np.nextafter(guess, np.float32(INF))]
        finite = [value for value in near if np.isfinite(value)]
    return float(min(finite, key=lambda v: (abs(Fraction(float(v)) - exact), int(v.view(np.int32)) & 1)))


@pytest.mark.parametrize(
    ("line", "type"),
    [
        ("math.exp %d : f64", "f64"),
        ("math.fma %d, %d, %d : f64", "f64"),
        ("math.atan %f : f32", "f32"),
        ("math.log %d : f64", "f64"),
    ],
)
def test_what_has_no_exact_definition_is_refused(line: str, type: str) -> None:
    with pytest.raises(CompileError, match=r"^math\."):
        evaluate(line, type, {"d": 1.0, "f": 1.0})


def test_bfloat16_is_never_rounded_to() -> None:
    """Tables are stored in it and widened; arithmetic may pass where it is exact, and else says so."""
    text = "func.func @forward(%x : bf16) -> bf16 {{ {} func.return %{} : bf16 }}"
    same, twice = parse(text.format("", "x")), parse(text.format("%y = arith.mulf %x, %x : bf16", "y"))
    assert run(same, [np.float32(1.5)]) == (1.5,)
    with pytest.raises(CompileError, match="input 0 of @forward is bf16, and a number does not fit"):
        run(same, [np.float32(1.0001)])
    with pytest.raises(CompileError, match=r"arith\.mulf: the result is bf16, and a number does not fit"):
        run(twice, [np.float32(1.0078125)])
