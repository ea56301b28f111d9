"""The operations of the `fixed` dialect against rational arithmetic, and integers of odd widths against Python's."""

from __future__ import annotations

from fractions import Fraction
from math import floor, isqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna.dialects.context import parse
from sterna.dialects.elements import INTEGERS
from sterna.dialects.fixed_numerics import from_float, limits, to_float
from sterna.dialects.interpreter import run

WIDTHS = st.integers(2, 63)


def number(draw: st.DrawFn, width: int) -> int:
    """An integer of that width, often at an end of its range or near zero."""
    low, high = limits(width)
    near = st.sampled_from([low, low + 1, -2, -1, 0, 1, 2, high - 1, high])
    return max(low, min(high, draw(near | st.integers(low, high))))


def held(numbers: list[int], width: int) -> np.ndarray:
    return np.array(numbers, next(dtype for bits, dtype in INTEGERS.items() if bits >= width))


def half_up(x: Fraction, width: int) -> int:
    low, high = limits(width)
    return max(low, min(high, floor(x + Fraction(1, 2))))


def apply(
    op: str, types: list[str], result: list[str], arrays: list[np.ndarray], above: str = ""
) -> list[list[int]]:
    """What an operation gives on tensors of any length."""
    names = ["%a", "%b", "%c"][: len(types)]
    arguments = ", ".join(f"{name} : tensor<?x{type}>" for name, type in zip(names, types, strict=True))
    results = ", ".join(f"tensor<?x{each}>" for each in result)
    values = ", ".join(f"%r{n}" for n in range(len(result)))
    module = parse(
        f"{above}\nfunc.func @forward({arguments}) -> ({results}) {{\n  {values} = {op}\n"
        f"  func.return {values} : {results}\n}}"
    )
    return [[int(value) for value in array] for array in run(module, arrays)]


@st.composite
def rescaling(draw: st.DrawFn) -> tuple[int, int, int, list[int]]:
    width, to, by = draw(WIDTHS), draw(WIDTHS), draw(st.integers(-64, 64))
    return width, to, by, [number(draw, width) for _ in range(4)]


@given(rescaling())
def test_rescale_rounds_half_up_and_saturates(case: tuple[int, int, int, list[int]]) -> None:
    width, to, by, xs = case
    op = f"fixed.rescale %a by {by} : tensor<?xi{width}> to tensor<?xi{to}>"
    (found,) = apply(op, [f"i{width}"], [f"i{to}"], [held(xs, width)])
    assert found == [half_up(Fraction(x) / Fraction(2) ** by, to) for x in xs]


@st.composite
def shifts(draw: st.DrawFn) -> tuple[int, int, int, list[int], list[int]]:
    width, to, by = draw(WIDTHS), draw(WIDTHS), draw(st.integers(2, 9))
    return width, to, by, [number(draw, width) for _ in range(4)], [number(draw, by) for _ in range(4)]


@given(shifts())
def test_a_number_of_bits_to_shift_by_has_no_sign(case: tuple[int, int, int, list[int], list[int]]) -> None:
    width, to, by, xs, ns = case
    op = f"fixed.shift_right %a by %b : tensor<?xi{width}>, tensor<?xi{by}> to tensor<?xi{to}>"
    (found,) = apply(op, [f"i{width}", f"i{by}"], [f"i{to}"], [held(xs, width), held(ns, by)])
    assert found == [half_up(Fraction(x, 2 ** (n % 2**by)), to) for x, n in zip(xs, ns, strict=True)]


@st.composite
def normalizing(draw: st.DrawFn) -> tuple[int, int, int, list[int]]:
    step = draw(st.sampled_from([1, 2]))
    bits = draw(st.integers(1, 31)) * step
    return step, bits + 1, draw(st.integers(2, 40)), [number(draw, bits + 1) for _ in range(4)]


@given(normalizing())
def test_normalize_moves_the_top_bit_up(case: tuple[int, int, int, list[int]]) -> None:
    step, width, mantissa, xs = case
    bits, zeros = width - 1, (width - 1).bit_length() + 1
    to = f"tensor<?xi{mantissa}>, tensor<?xi{zeros}>"
    op = f"fixed.normalize %a step {step} : tensor<?xi{width}> to {to}"
    found, shifts = apply(op, [f"i{width}"], [f"i{mantissa}", f"i{zeros}"], [held(xs, width)])
    for x, m, n in zip(xs, found, shifts, strict=True):
        x = max(x, 1)
        assert n % step == 0
        assert 2**bits > x << n >= 2 ** (bits - step)
        assert m % 2**mantissa == floor(Fraction(x << n) * Fraction(2) ** (mantissa - bits))


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, bool, int, list[int], list[int]]:
    width, to = draw(st.integers(2, 20)), draw(st.integers(2, 31))
    index = draw(st.integers(0, min(width, 5)))
    samples = [number(draw, to) for _ in range(2**index + 1)]
    return width, draw(st.booleans()), to, samples, [number(draw, width) for _ in range(6)]


@given(tables())
def test_interpolation_is_linear_between_samples(case: tuple[int, bool, int, list[int], list[int]]) -> None:
    width, is_signed, to, samples, xs = case
    sign = "signed" if is_signed else "unsigned"
    table = f"fixed.table @f {sign} i{width} -> i{to} {samples}"
    op = f"fixed.interpolate %a, @f : tensor<?xi{width}> to tensor<?xi{to}>"
    (found,) = apply(op, [f"i{width}"], [f"i{to}"], [held(xs, width)], table)
    for x, y in zip(xs, found, strict=True):
        position = (
            Fraction(x + 2 ** (width - 1) if is_signed else x % 2**width) * (len(samples) - 1) / 2**width
        )
        j = floor(position)
        exact = samples[j] + (samples[j + 1] - samples[j]) * (position - j)
        assert y == half_up(exact, to)


@given(st.data(), st.integers(2, 24), st.integers(1, 9))
def test_sum_and_maximum_of_rows_are_exact(data: st.DataObject, width: int, columns: int) -> None:
    draw = data.draw
    rows = [[draw(st.integers(*limits(width))) for _ in range(columns)] for _ in range(3)]
    to = width + (columns - 1).bit_length()
    x = f"tensor<?x{columns}xi{width}>"
    module = parse(f"""
    func.func @forward(%x : {x}) -> (tensor<?xi{to}>, tensor<?xi{width}>) {{
      %s = fixed.sum %x : {x} -> tensor<?xi{to}>
      %m = fixed.max %x : {x} -> tensor<?xi{width}>
      func.return %s, %m : tensor<?xi{to}>, tensor<?xi{width}>
    }}""")
    dtype = held([], width).dtype
    total, top = run(module, [np.array(rows, dtype)])
    assert total.tolist() == [sum(row) for row in rows]
    assert top.tolist() == [max(row) for row in rows]


@st.composite
def recurrences(draw: st.DrawFn) -> tuple[int, int, int, list[int], list[int], int]:
    f, i, state = draw(st.integers(2, 20)), draw(st.integers(2, 30)), draw(st.integers(2, 30))
    steps = draw(st.integers(0, 5))
    return (
        f,
        i,
        state,
        [number(draw, f) for _ in range(steps)],
        [number(draw, i) for _ in range(steps)],
        number(draw, state),
    )


@given(recurrences(), st.integers(0, 20))
def test_the_recurrence_rounds_the_product_and_saturates(
    case: tuple[int, int, int, list[int], list[int], int], by: int
) -> None:
    f, i, width, fs, inputs, state = case
    types = [f"tensor<?x1xi{f}>", f"tensor<?x1xi{i}>", f"tensor<1xi{width}>", f"tensor<?x1xi{width}>"]
    module = parse(f"""
    func.func @forward(%f : {types[0]}, %i : {types[1]}, %s : {types[2]}) -> ({types[3]}, {types[2]}) {{
      %all, %last = fixed.scan %f, %i, %s by {by} : {types[0]}, {types[1]}, {types[2]} -> {types[3]}, {types[2]}
      func.return %all, %last : {types[3]}, {types[2]}
    }}""")
    found, last = run(module, [held(fs, f)[:, None], held(inputs, i)[:, None], held([state], width)])
    low, high = limits(width)
    expected: list[int] = []
    for forget, added in zip(fs, inputs, strict=True):
        state = max(low, min(high, floor(Fraction(forget * state, 2**by) + Fraction(1, 2)) + added))
        expected.append(state)
    assert found[:, 0].tolist() == expected
    assert last.tolist() == [state]


@given(st.floats(width=32), WIDTHS, st.integers(-40, 80))
def test_a_float_is_rounded_half_to_even_and_saturates(x: float, width: int, point: int) -> None:
    found = int(from_float(np.array([x], np.float32), point, width)[0])
    low, high = limits(width)
    if np.isnan(x):
        assert found == 0
    elif np.isinf(x):
        assert found == (high if x > 0 else low)
    else:
        assert found == max(low, min(high, round(Fraction(x) * Fraction(2) ** point)))


@given(st.data(), st.integers(2, 53), st.integers(-40, 80))
def test_integers_become_the_nearest_float(data: st.DataObject, width: int, point: int) -> None:
    x = number(data.draw, width)
    assert to_float(np.array([x]), point)[0] == np.float32(np.float64(x) * 2.0**-point)


ARITHMETIC = {
    "arith.addi": lambda a, b, _: a + b,
    "arith.subi": lambda a, b, _: a - b,
    "arith.muli": lambda a, b, _: a * b,
    "arith.maxsi": lambda a, b, _: max(a, b),
    "arith.minsi": lambda a, b, _: min(a, b),
    "arith.maxui": lambda a, b, width: max(a % 2**width, b % 2**width),
    "arith.minui": lambda a, b, width: min(a % 2**width, b % 2**width),
    "arith.andi": lambda a, b, _: a & b,
    "arith.ori": lambda a, b, _: a | b,
    "arith.xori": lambda a, b, _: a ^ b,
    "arith.divui": lambda a, b, width: (a % 2**width) // (b % 2**width) if b % 2**width else 0,
    "arith.remui": lambda a, b, width: (a % 2**width) % (b % 2**width) if b % 2**width else a,
    "arith.shli": lambda a, b, width: a << b % 2**width if b % 2**width < 64 else 0,
    "arith.shrsi": lambda a, b, width: a >> min(b % 2**width, 64),
    "arith.shrui": lambda a, b, width: (a % 2**width) >> min(b % 2**width, 64),
}


def wrapped(x: int, width: int) -> int:
    return (x + 2 ** (width - 1)) % 2**width - 2 ** (width - 1)


@pytest.mark.parametrize("op", ARITHMETIC)
@given(data=st.data(), width=st.integers(2, 63).filter(lambda width: width not in INTEGERS))
def test_arithmetic_of_odd_widths_is_modulo_two_to_the_width(
    op: str, data: st.DataObject, width: int
) -> None:
    a, b = ([number(data.draw, width) for _ in range(4)] for _ in range(2))
    (found,) = apply(
        f"{op} %a, %b : tensor<?xi{width}>",
        [f"i{width}"] * 2,
        [f"i{width}"],
        [held(a, width), held(b, width)],
    )
    assert found == [wrapped(ARITHMETIC[op](x, y, width), width) for x, y in zip(a, b, strict=True)]


@given(data=st.data(), narrow=st.integers(2, 40), more=st.integers(1, 20))
def test_widths_change_with_and_without_a_sign(data: st.DataObject, narrow: int, more: int) -> None:
    wide = narrow + more
    x, y = ([number(data.draw, width) for _ in range(4)] for width in (narrow, wide))
    conversions = {"arith.extsi": x, "arith.extui": [value % 2**narrow for value in x]}
    for op, expected in conversions.items():
        assert convert(op, x, narrow, wide) == expected
    assert convert("arith.trunci", y, wide, narrow) == [wrapped(value, narrow) for value in y]


def convert(op: str, numbers: list[int], width: int, to: int) -> list[int]:
    module = parse(f"""
    func.func @forward(%a : i{width}) -> i{to} {{
      %b = {op} %a : i{width} to i{to}
      func.return %b : i{to}
    }}""")
    return [int(run(module, [np.asarray(value)])[0]) for value in held(numbers, width)]


@pytest.mark.parametrize("predicate", ["slt", "sge", "ult", "uge"])
@given(data=st.data(), width=st.integers(2, 63))
def test_comparisons_of_odd_widths(predicate: str, data: st.DataObject, width: int) -> None:
    a, b = ([number(data.draw, width) for _ in range(4)] for _ in range(2))
    module = parse(f"""
    func.func @forward(%a : i{width}, %b : i{width}) -> i1 {{
      %c = arith.cmpi {predicate}, %a, %b : i{width}
      func.return %c : i1
    }}""")
    pairs = zip(held(a, width), held(b, width), strict=True)
    found = [bool(run(module, [np.asarray(x), np.asarray(y)])[0]) for x, y in pairs]
    read = (lambda x: x % 2**width) if predicate[0] == "u" else (lambda x: x)
    compare = (lambda x, y: x < y) if predicate[1:] == "lt" else (lambda x, y: x >= y)
    assert found == [compare(read(x), read(y)) for x, y in zip(a, b, strict=True)]


@given(st.integers(1, 2**40))
def test_a_reciprocal_root_of_a_row_is_within_its_bound(n: int) -> None:
    """As the norms compose it: normalize, the table, and a shift; relative to 1 / sqrt(n), computed exactly."""
    from sterna.dialects.fixed_numerics import interpolate, normalize
    from sterna.passes.fixed_tables import RSQRT, build_table

    bits = 42
    mantissa, zeros = normalize(np.array([n]), bits, 16, 2)
    t = int(interpolate(mantissa, 16, build_table(RSQRT).values, is_signed=False)[0])
    # t * 2^-15 * 2^-((bits - zeros) / 2) against 1 / sqrt(n), scaled by 2^60.
    found = (t << 60) >> 15 + (bits - int(zeros[0])) // 2
    exact = isqrt((1 << 120) // n)
    assert abs(found - exact) <= exact * 2.0**-14
