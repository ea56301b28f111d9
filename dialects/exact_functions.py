"""Functions of f32 whose every bit is defined, written as `elementary` functions are: for targets that lack them.

Tested to be identical to numpy's, on every machine.
"""

from __future__ import annotations

from sterna.dialects.elementary import (
    F32,
    HALF,
    IMPLICIT,
    INFINITY,
    MAGNITUDE,
    MANTISSA,
    NAN,
    SIGN,
    SMALLEST_NORMAL,
    TWO_POW_23,
    Machine,
    Value,
)

SMALLEST_NORMAL_HALF, LARGEST_HALF = F32(2.0**-14), F32(65504.0)
DROPPED_BITS = 13
"""float16 has so many bits of mantissa less than float32."""

BITS_AT_ONCE = 7
"""Of a quotient: a remainder of 24 bits moved by them fits an i32."""
LONGEST_QUOTIENT = 277
"""Bits of the largest float32 by the smallest."""


def round_to_half(m: Machine, x: Value) -> Value:
    """The nearest number of float16, ties to even, as f32: what `arith.truncf` and `arith.extf` together give."""
    bits = m.bits(x)
    a, sign = m.from_bits(bits & MAGNITUDE), bits & SIGN
    # A carry out of the mantissa rightly reaches the exponent.
    last = m.shift_right_logical(bits, DROPPED_BITS) & 1
    raised = m.bits(a) + last + ((1 << DROPPED_BITS - 1) - 1)
    y = m.from_bits(raised & -(1 << DROPPED_BITS))
    y = m.select(y > LARGEST_HALF, INFINITY, y)
    # Subnormal ones are multiples of 2**-24, the unit in the last place of a half.
    y = m.select(a < SMALLEST_NORMAL_HALF, (a + HALF) - HALF, y)
    y = m.select(a == a, y, a)
    return m.from_bits(m.bits(y) | sign)


def _mantissa_and_exponent(m: Machine, a: Value) -> tuple[Value, Value]:
    """(n, e) with a = n * 2**e and n of 24 bits, for positive finite a."""
    is_tiny = a < SMALLEST_NORMAL
    bits = m.bits(m.select(is_tiny, a * TWO_POW_23, a))
    exponent = m.shift_right_logical(bits, 23) - 150
    return (bits & MANTISSA) | IMPLICIT, m.select(is_tiny, exponent - 23, exponent)


def _power_of_two(m: Machine, n: Value) -> Value:
    return m.from_bits((n + 127) << 23)


def remainder(m: Machine, x: Value, y: Value) -> Value:
    """x - trunc(x / y) * y without rounding, with the sign of x: C's fmod. NaN for y = 0 and infinite x.

    Long division of the mantissas. What is left is a multiple of the smallest float that x and y are multiples of, and
    less than y: it is a float.
    """
    x_bits, y_bits = m.bits(x), m.bits(y)
    a, b, sign = m.from_bits(x_bits & MAGNITUDE), m.from_bits(y_bits & MAGNITUDE), x_bits & SIGN
    (n, a_exponent), (divisor, exponent) = _mantissa_and_exponent(m, a), _mantissa_and_exponent(m, b)
    left = a_exponent - exponent
    rest = m.remainder(n, divisor)
    for _ in range(-(-LONGEST_QUOTIENT // BITS_AT_ONCE)):
        step = m.select(left > BITS_AT_ONCE, BITS_AT_ONCE, m.select(left < 0, 0, left))
        rest = m.remainder(rest << step, divisor)
        left = left - step
    half = exponent >> 1
    z = (m.to_float(rest) * _power_of_two(m, half)) * _power_of_two(m, exponent - half)
    z = m.select(a < b, a, z)
    z = m.select((a < INFINITY) & (b > F32(0.0)), z, NAN)
    return m.from_bits(m.bits(z) | sign)


def floored_remainder(m: Machine, x: Value, y: Value) -> Value:
    """The remainder with the sign of y, as Python's `%` has it: y added to one of the other sign is rounded."""
    rest = remainder(m, x, y)
    is_other = (rest < F32(0.0)) & (y > F32(0.0)) | (rest > F32(0.0)) & (y < F32(0.0))
    z = m.select(is_other, rest + y, rest)
    return m.select(z == F32(0.0), m.from_bits(m.bits(y) & SIGN), z)
