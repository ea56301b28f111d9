"""The elementary functions: near the exact ones everywhere, exact where definite, the same bits when expanded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterna.dialects import elementary
from sterna.dialects.context import make_context, parse
from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import ModuleInterpreter, run
from sterna.passes import PASSES
from tests.cpu_programs import PlannedProgram, isa_names
from tests.raised_models import SPECIAL

Array = npt.NDArray[Any]
Function = Callable[..., Array]
INF, NAN = math.inf, math.nan

exact_erf: Function = np.vectorize(math.erf, otypes=[np.float64])
EXACT: dict[str, Function] = {
    "exp": np.exp, "log": np.log, "tanh": np.tanh, "erf": exact_erf, "sin": np.sin, "cos": np.cos, "powf": np.power,
}  # fmt: skip
"""The functions in float64, whose own error is nothing here."""

OURS: dict[str, Function] = {
    name: elementary.on_arrays(getattr(elementary, name.replace("powf", "pow"))) for name in EXACT
}
ULP = {"exp": 2.0, "log": 1.0, "tanh": 2.0, "erf": 2.0, "sin": 1.5, "cos": 1.5, "powf": 1.5}
NEAR = {
    "exp": ((-104.5, -86), (-1, 1), (86, 89.5)),
    "log": ((1e-45, 1e-38), (0.5, 2.0), (1e30, 3e38)),
    "tanh": ((-1, 1), (0.6, 10)),
    "erf": ((-1.1, 1.1), (0.9, 4.5)),
    "sin": ((-10, 10), (1e5, 1.1e5), (1e38, 3e38)),
    "cos": ((-10, 10), (1e5, 1.1e5), (1e38, 3e38)),
}
"""Where results change fast, or the formula does."""

UNARY = [name for name in EXACT if name != "powf"]


@pytest.fixture(autouse=True)
def quiet() -> object:
    with np.errstate(all="ignore"):
        yield


def assert_near(name: str, *x: Array) -> None:
    """Within the stated ulp of the exact result; infinite, zero or NaN where that is."""
    y, exact = OURS[name](*x), EXACT[name](*(operand.astype(np.float64) for operand in x))
    nearest = exact.astype(np.float32)
    assert y.dtype == np.float32
    assert np.array_equal(np.isnan(y), np.isnan(nearest))
    # The largest float32 and infinity are one ulp apart, as IEEE rounds.
    bounded = np.clip(y.astype(np.float64), -(2.0**128), 2.0**128)
    target = np.clip(exact, -(2.0**128), 2.0**128)
    unit = np.maximum(np.exp2(np.floor(np.log2(np.maximum(np.abs(target), 2.0**-126))) - 23), 2.0**-149)
    error = np.abs(bounded - target) / np.minimum(unit, 2.0**104)
    worst = int(np.nanargmax(error)) if np.isfinite(error).any() else 0
    assert not np.any(error > ULP[name]), [float(operand[worst]) for operand in x]


@pytest.mark.parametrize("name", UNARY)
def test_a_function_is_near_the_exact_one_everywhere(name: str) -> None:
    """The stride is prime, so that all exponents and low bits are met: denormals, infinities and NaN included."""
    patterns = np.arange(0, 1 << 32, 4093, dtype=np.uint64).astype(np.uint32).view(np.float32)
    for x in np.array_split(patterns, 4):
        assert_near(name, x)


@pytest.mark.parametrize("name", UNARY)
def test_a_function_is_near_the_exact_one_where_it_is_hard(name: str) -> None:
    for low, high in NEAR[name]:
        assert_near(name, np.linspace(low, high, 100_000, dtype=np.float32))
    multiples = np.arange(1, 50_000, dtype=np.float64) * (math.pi / 2)
    assert_near(name, multiples.astype(np.float32))


BASES = (
    st.floats(width=32)
    | st.floats(0.5, 2.0, width=32)
    | st.sampled_from([0.0, -0.0, 1.0, -1.0, INF, -INF, NAN])
)
EXPONENTS = st.floats(width=32) | st.floats(-150, 150, width=32) | st.integers(-40, 40).map(float)


@given(st.lists(st.tuples(BASES, EXPONENTS), min_size=1, max_size=40))
def test_a_power_is_near_the_exact_one(pairs: list[tuple[float, float]]) -> None:
    x, y = np.array(pairs, np.float32).T
    assert_near("powf", x, y)


def test_powers_are_near_where_results_are_finite() -> None:
    """Exponents are drawn so that results fill the range of float32, at bases far from 1 and near it."""
    generator = np.random.default_rng(0)
    for spread in (88.0, 0.5, 1e-3):
        x = np.exp(generator.uniform(-spread, spread, 200_000)).astype(np.float32)
        log = np.log(x.astype(np.float64))
        y = (generator.uniform(-104, 89, x.size) / np.where(log == 0, 1, log)).astype(np.float32)
        assert_near("powf", x, y)


SPECIAL_POWERS = [
    0.0,
    1.0,
    2.0,
    3.0,
    0.5,
    1.5,
    INF,
    1e-45,
    3e38,
    2.0**23 + 1,
    2.0**24 - 1,
    2.0**24,
    8388607.5,
]
SPECIAL_POWERS += [1 + 2.0**-23, 1 - 2.0**-24]


def test_powers_of_special_numbers_are_those_of_ieee_754() -> None:
    numbers = np.array([*SPECIAL_POWERS, *(-n for n in SPECIAL_POWERS), NAN], np.float32)
    x, y = (grid.ravel() for grid in np.meshgrid(numbers, numbers))
    ours, exact = OURS["powf"](x, y), np.power(x.astype(np.float64), y.astype(np.float64)).astype(np.float32)
    definite = (exact == 0) | (np.abs(exact) == 1) | ~np.isfinite(exact)
    assert np.array_equal(ours[definite], exact[definite], equal_nan=True)
    signed = definite & ~np.isnan(exact)
    assert np.array_equal(np.signbit(ours[signed]), np.signbit(exact[signed]))


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", [0.0, -0.0, 88.8, INF, -104.0, -INF, NAN], [1, 1, INF, INF, 0, 0, NAN]),
        ("log", [1.0, 0.0, -0.0, INF, -1.0, -INF, NAN], [0, -INF, -INF, INF, NAN, NAN, NAN]),
        ("tanh", [0.0, -0.0, INF, -INF, 10.0, -1e38, NAN], [0, -0.0, 1, -1, 1, -1, NAN]),
        ("erf", [0.0, -0.0, INF, -INF, 4.0, -1e38, NAN], [0, -0.0, 1, -1, 1, -1, NAN]),
        ("sin", [0.0, -0.0, INF, -INF, 1e-45, -1e-45, NAN], [0, -0.0, NAN, NAN, 1e-45, -1e-45, NAN]),
        ("cos", [0.0, -0.0, INF, -INF, 1e-45, 1e-5, NAN], [1, 1, NAN, NAN, 1, 1, NAN]),
    ],
)
def test_what_is_definite_is_exact(name: str, x: list[float], expected: list[float]) -> None:
    y, wanted = OURS[name](np.array(x, np.float32)), np.array(expected, np.float32)
    assert np.array_equal(y, wanted, equal_nan=True)
    assert np.array_equal(np.signbit(y[wanted == 0]), np.signbit(wanted[wanted == 0]))


@pytest.mark.parametrize("name", [name for name in UNARY if name in ("tanh", "erf", "sin")])
def test_an_odd_function_is_odd_to_the_last_bit(name: str) -> None:
    x = np.random.default_rng(0).integers(0, 0x7F800000, 10_000).astype(np.int32).view(np.float32)
    assert np.array_equal(OURS[name](-x), -OURS[name](x))


@pytest.mark.parametrize("name", UNARY)
def test_a_function_of_a_scalar_is_that_of_the_row(name: str) -> None:
    x = np.linspace(0.1, 5, 11, dtype=np.float32)
    assert np.array_equal(OURS[name](x), [OURS[name](np.asarray(v)) for v in x])


def nasty(seed: int, *shape: int) -> Array:
    """Every kind of float, and many of a middling size."""
    generator = np.random.default_rng(seed)
    anything = generator.integers(0, 2**32, shape, np.uint32).view(np.float32)
    middling = generator.uniform(-20, 20, shape).astype(np.float32)
    chosen = generator.choice(np.array((*SPECIAL, -104.0, 88.72, 1.0, -1.0, 0.5, 3.0), np.float32), shape)
    return np.choose(generator.integers(0, 3, shape), [anything, middling, chosen])


LINES = "\n".join(
    f"%{name} = math.{name} {'%a, %b' if name == 'powf' else '%a'} : f32" for name in (*EXACT, "rsqrt")
)
NAMES = (*EXACT, "rsqrt")
TYPE = "tensor<?x64xf32>"
REGION = f"""
func.func @forward(%x: {TYPE}, %y: {TYPE}) -> ({", ".join([TYPE] * len(NAMES))}) {{
  %z:{len(NAMES)} = ternary.elementwise(%x, %y : {TYPE}, {TYPE}) {{
  ^bb0(%a: f32, %b: f32):
    {LINES}
    ternary.yield {", ".join(f"%{name}" for name in NAMES)} : {", ".join(["f32"] * len(NAMES))}
  }} -> {", ".join([TYPE] * len(NAMES))}
  func.return {", ".join(f"%z#{n}" for n in range(len(NAMES)))} : {", ".join([TYPE] * len(NAMES))}
}}
"""


def expanded(text: str) -> Any:
    module = parse(text)
    PASSES["expand-math"]().apply(make_context(), module)
    module.verify()
    remaining = {op.name for op in module.walk() if op.name.startswith("math.")}
    assert remaining <= {"math.sqrt"}
    return module


def assert_same_bits(found: tuple[Array, ...], expected: tuple[Array, ...]) -> None:
    for name, a, b in zip(NAMES, found, expected, strict=True):
        assert np.array_equal(a, b, equal_nan=True), name
        zeros = b == 0
        assert np.array_equal(np.signbit(a[zeros]), np.signbit(b[zeros])), name


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_expansions_in_a_region_keep_every_bit(seed: int) -> None:
    inputs = [nasty(seed, 40, 64), nasty(seed + 1, 40, 64)]
    assert_same_bits(ModuleInterpreter(expanded(REGION)).run(inputs), run(parse(REGION), inputs))


def test_expansions_of_tensors_keep_every_bit() -> None:
    """A tensor of any rank, T at any axis; each function becomes one generic."""
    type = "tensor<2x?x8xf32>"
    lines = "\n".join(
        f"%{name} = math.{name} {'%x, %y' if name == 'powf' else '%x'} : {type}" for name in NAMES
    )
    values, types = ", ".join(f"%{name}" for name in NAMES), ", ".join([type] * len(NAMES))
    text = (
        f"func.func @forward(%x: {type}, %y: {type}) -> ({types}) {{\n{lines}\n"
        f"func.return {values} : {types}\n}}"
    )
    inputs = [nasty(5, 2, 50, 8), nasty(6, 2, 50, 8)]
    module = expanded(text)
    assert sum(op.name == "linalg.generic" for op in module.walk()) == len(NAMES)
    assert_same_bits(ModuleInterpreter(module).run(inputs), run(parse(text), inputs))


@pytest.mark.slow
@pytest.mark.parametrize("isa", isa_names())
def test_expansions_run_on_the_cpu_with_the_same_bits(isa: str) -> None:
    """Slow: an object of some thousand vector instructions for each instruction set."""
    program = PlannedProgram(str(expanded(REGION)), {})
    for seed in range(4):
        program.check([nasty(seed, 40, 64), nasty(seed + 9, 40, 64)], isa=isa, threads=1)


@pytest.mark.parametrize("type", ["f64", "tensor<4xf64>", "f16"])
def test_only_f32_has_an_expansion(type: str) -> None:
    text = (
        f"func.func @forward(%x: {type}) -> {type} {{\n%y = math.exp %x : {type}\nfunc.return %y : {type}\n}}"
    )
    with pytest.raises(CompileError, match=r"no arithmetic of fixed bits for math\.exp"):
        expanded(text)
