"""The elementary functions of f32, each written once: on arrays it is the interpreter's, on IR values its expansion.

A function takes a `Machine` and values of it: f32, i32 and boolean values that understand Python's operators. Floats
are IEEE, one rounding an operation; integers wrap, `>>` keeps the sign; comparisons with NaN are false. So the order of
operations below is the meaning of each function, on every target.

Errors are of the result, in units in the last place of the exact one (denormals included), and are tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from sterna.dialects.numerics import ONE, ROUND_MAGIC

Value: TypeAlias = Any
"""f32, i32 or boolean: an array, or a value in IR."""

F32 = np.float32


class Machine(Protocol):
    """What no operator says."""

    def select(self, condition: Value, chosen: Value, other: Value) -> Value: ...

    def bits(self, x: Value) -> Value:
        """f32 -> i32."""
        ...

    def from_bits(self, n: Value) -> Value:
        """i32 -> f32."""
        ...

    def to_float(self, n: Value) -> Value:
        """The nearest f32 to an i32."""
        ...

    def sqrt(self, x: Value) -> Value: ...

    def shift_right_logical(self, n: Value, by: Value) -> Value:
        """Zeros come in; `by` is 0 to 31."""
        ...

    def remainder(self, n: Value, by: Value) -> Value:
        """Of i32 that are not negative; `by` is not 0."""
        ...


class Arrays:
    """The machine of numpy arrays."""

    def select(self, condition: Value, chosen: Value, other: Value) -> Value:
        return np.where(condition, *(np.int32(v) if isinstance(v, int) else v for v in (chosen, other)))

    def bits(self, x: Value) -> Value:
        return np.asarray(x).view(np.int32)

    def from_bits(self, n: Value) -> Value:
        return np.asarray(n).view(np.float32)

    def to_float(self, n: Value) -> Value:
        return np.asarray(n).astype(np.float32)

    def sqrt(self, x: Value) -> Value:
        return np.sqrt(x)

    def shift_right_logical(self, n: Value, by: Value) -> Value:
        shift: npt.NDArray[Any] = np.asarray(by)
        return np.right_shift(np.asarray(n).view(np.uint32), shift.astype(np.uint32)).view(np.int32)

    def remainder(self, n: Value, by: Value) -> Value:
        return np.remainder(n, by)


SIGN = -(1 << 31)
MAGNITUDE = (1 << 31) - 1
MANTISSA = (1 << 23) - 1
IMPLICIT = 1 << 23
UPPER_HALF = -(1 << 12)
"""Keeps 12 of the 24 bits of a mantissa, so that the product of two such floats is exact."""

HALF, TWO = F32(0.5), F32(2.0)
INFINITY, NAN = F32(np.inf), F32(np.nan)
LOG2_E = F32(1.44269504088896341)
ROUND_MAGIC_BITS = int(ROUND_MAGIC.view(np.int32))
LN2_HIGH = F32(0.693359375)
LN2_LOW = F32(-2.12194440e-4)

SQRT_HALF_BITS = int(F32(0.70710678).view(np.int32))
TWO_POW_23 = F32(1 << 23)
SMALLEST_NORMAL = F32(2.0**-126)

EXP_CLAMP = (F32(-104.0), F32(89.0))
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""exp(r) = 1 + r + r^2 P(r) for |r| <= ln2 / 2. Cephes `expf`; highest degree first, as all of these."""

LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
"""log(1 + f) = f - f^2 / 2 + f^3 P(f) for 1 + f from sqrt(1/2) to sqrt(2). Cephes `logf`."""

TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
"""tanh(x) = x + x^3 P(x^2) for |x| < 0.625. Cephes `tanhf`."""
TANH_SMALL = F32(0.625)

ERF_SMALL = (7.853907e-05, -0.0008010209, 0.0051883296, -0.026853813, 0.112835854, -0.37612626, 0.12837917)
"""erf(x) = x + x P(x^2) for |x| < 1: minimax, relative error 2**-29."""
ERF_LARGE = (-0.00018637926, 0.002947659, -0.021838067, 0.10310676, 0.63814485, 1.1270891, 0.0003415223)
"""-log(1 - erf(x)) = P(x) from 1 to 4, where erf rounds to 1: minimax, relative error of erf 2**-29."""
ERF_ONE = F32(4.0)

SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
"""sin(r) = r + r^3 P(r^2) for |r| <= pi / 4. Cephes `sinf`."""
COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
"""cos(r) = 1 - r^2 / 2 + r^4 P(r^2) for |r| <= pi / 4. Cephes `cosf`."""
QUARTER_PI = F32(0.78539816)
HALF_PI, HALF_PI_REST = F32(1.57079633), F32(-4.37113883e-8)
TWO_OVER_PI = (
    0,
    *(0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB),
)
"""2 / pi = 0.A2F9836E..., 32 bits a word, after a word of zeros."""

LOG2_SERIES = tuple(3.0 / odd for odd in (13, 11, 9, 7, 5))
POWER_CLAMP = F32(200.0)
EXPONENT_CLAMP = F32(2.0**40)
"""|y| from which x**y is 0, 1 or infinite for every x: |log2 x| is 2**-24 or more."""


def polynomial(x: Value, coefficients: Sequence[float]) -> Value:
    """Horner's rule, highest degree first."""
    p: Value = F32(coefficients[0])
    for c in coefficients[1:]:
        p = p * x + F32(c)
    return p


def _power_of_two(m: Machine, n: Value) -> Value:
    """2**n for n from -126 to 127, from the bits of its exponent."""
    return m.from_bits((n + 127) << 23)


def _scale(m: Machine, y: Value, n: Value) -> Value:
    """y * 2**n by two factors, because 2**n alone leaves the range of f32 at both ends."""
    half = n >> 1
    return (y * _power_of_two(m, half)) * _power_of_two(m, n - half)


def _round(m: Machine, x: Value) -> tuple[Value, Value]:
    """The nearest integer, ties to even, as i32 and as f32; |x| < 2**22."""
    shifted = x + ROUND_MAGIC
    return m.bits(shifted) - ROUND_MAGIC_BITS, shifted - ROUND_MAGIC


def _upper_half(m: Machine, x: Value) -> Value:
    return m.from_bits(m.bits(x) & UPPER_HALF)


def _magnitude_and_sign(m: Machine, x: Value) -> tuple[Value, Value]:
    bits = m.bits(x)
    return m.from_bits(bits & MAGNITUDE), bits & SIGN


def _with_sign(m: Machine, y: Value, sign: Value) -> Value:
    return m.from_bits(m.bits(y) ^ sign)


def exp(m: Machine, x: Value) -> Value:
    """Within 2 ulp; inf above 88.73, 0 below -103.98."""
    low, high = EXP_CLAMP
    x = m.select(x > high, high, x)
    x = m.select(x < low, low, x)
    n, n_float = _round(m, x * LOG2_E)
    r = (x - n_float * LN2_HIGH) - n_float * LN2_LOW
    y = (polynomial(r, EXP) * (r * r) + r) + ONE
    return _scale(m, y, n)


def rsqrt(m: Machine, x: Value) -> Value:
    """1 / sqrt(x), two roundings."""
    return ONE / m.sqrt(x)


def _split_exponent(m: Machine, x: Value) -> tuple[Value, Value]:
    """(e, f) with x = 2**e * f and f from sqrt(1/2) to sqrt(2), for positive finite x."""
    tiny = x < SMALLEST_NORMAL
    bits = m.bits(m.select(tiny, x * TWO_POW_23, x))
    e = (bits - SQRT_HALF_BITS) >> 23
    f = m.from_bits(bits - (e << 23))
    return m.select(tiny, e - 23, e), f


def log(m: Machine, x: Value) -> Value:
    """The natural logarithm, within 1 ulp; -inf for zeros, NaN below."""
    e, mantissa = _split_exponent(m, x)
    e = m.to_float(e)
    f = mantissa - ONE
    z = f * f
    y = (polynomial(f, LOG) * f) * z
    y = (y + e * LN2_LOW) - HALF * z
    y = (f + y) + e * LN2_HIGH
    y = m.select(x < INFINITY, y, x)
    y = m.select(x < F32(0.0), NAN, y)
    return m.select(x == F32(0.0), -INFINITY, y)


def tanh(m: Machine, x: Value) -> Value:
    """Within 2 ulp."""
    a, sign = _magnitude_and_sign(m, x)
    z = a * a
    small = (polynomial(z, TANH) * z) * a + a
    large = ONE - TWO / (exp(m, a + a) + ONE)
    return _with_sign(m, m.select(a < TANH_SMALL, small, large), sign)


def erf(m: Machine, x: Value) -> Value:
    """Within 2 ulp."""
    a, sign = _magnitude_and_sign(m, x)
    small = polynomial(a * a, ERF_SMALL) * a + a
    bounded = m.select(a > ERF_ONE, ERF_ONE, a)
    large = ONE - exp(m, -polynomial(bounded, ERF_LARGE))
    return _with_sign(m, m.select(a < ONE, small, large), sign)


def sin(m: Machine, x: Value) -> Value:
    """Within 2 ulp over the whole range; NaN for infinities."""
    a, sign = _magnitude_and_sign(m, x)
    return _with_sign(m, _sine(m, a, quarters=0), sign)


def cos(m: Machine, x: Value) -> Value:
    """Within 2 ulp over the whole range; NaN for infinities."""
    a, _ = _magnitude_and_sign(m, x)
    return _sine(m, a, quarters=1)


def _sine(m: Machine, a: Value, *, quarters: int) -> Value:
    """sin(a + quarters * pi / 2) for a >= 0."""
    quadrant, r, tail = _reduce(m, a)
    small = a <= QUARTER_PI
    q = m.select(small, 0, quadrant) + quarters
    r, tail = m.select(small, a, r), m.select(small, F32(0.0), tail)
    z = r * r
    sine = ((polynomial(z, SIN) * z) * r + tail) + r
    cosine = (((polynomial(z, COS) * z) * z - r * tail) - HALF * z) + ONE
    y = m.select((q & 1) == 0, sine, cosine)
    y = _with_sign(m, y, (q << 30) & SIGN)
    return m.select(a < INFINITY, y, a - a)


def _reduce(m: Machine, a: Value) -> tuple[Value, Value, Value]:
    """(q, r, tail) with a = q * pi / 2 + r + tail modulo 2 pi, |r| <= pi / 4, for a from 0.5 up.

    a is an integer of 24 bits times 2**s. Of 2**s * 2 / pi only the 96 bits from weight 2 down matter: bits above make
    whole turns, bits below add less than 2**-70 of a quarter. Their product with the integer, modulo 4, has 2 bits of
    q and 62 of fraction. Source: Payne and Hanek, "Radian reduction for trigonometric functions", 1983.
    """
    bits = m.bits(a)
    mantissa = (bits & MANTISSA) | IMPLICIT
    start = (bits >> 23) - 120
    start = m.select(start < 0, 0, start)
    word, shift = start >> 5, start & 31
    words = [_look_up(m, word + k, first=k) for k in range(4)]
    # Each joins two words; in two steps, because a shift by 32 is none.
    high, middle, low = (
        (left << shift) | m.shift_right_logical(m.shift_right_logical(right, 1), 31 - shift)
        for left, right in pairwise(words)
    )
    # 64 bits of mantissa * (high, middle, low), from weight 2 down.
    below = mantissa * middle
    second = below + _high_product(m, mantissa, low)
    carry = m.select((second ^ SIGN) < (below ^ SIGN), 1, 0)
    first = (mantissa * high + _high_product(m, mantissa, middle)) + carry
    q = m.shift_right_logical(first + (1 << 29), 30)
    first = first - (q << 30)
    # The magnitude of the signed 64 bits.
    negative = first < 0
    second = m.select(negative, -second, second)
    inverted = m.select(second == 0, -first, -first - 1)
    first = m.select(negative, inverted, first)
    # Three parts that f32 holds exactly, added from the largest.
    parts = (
        m.to_float(first >> 8) * F32(2.0**-22),
        m.to_float(((first & 0xFF) << 16) | m.shift_right_logical(second, 16)) * F32(2.0**-46),
        m.to_float(second & 0xFFFF) * F32(2.0**-62),
    )
    total = parts[0] + parts[1]
    rest = (parts[1] - (total - parts[0])) + parts[2]
    rounded = total * HALF_PI
    upper = _upper_half(m, total)
    lower = total - upper
    error = (
        (upper * HALF_PI_UPPER - rounded) + upper * HALF_PI_LOWER + lower * HALF_PI_UPPER
    ) + lower * HALF_PI_LOWER
    tail = error + (rest * HALF_PI + total * HALF_PI_REST)
    r = rounded + tail
    tail = tail - (r - rounded)
    return q, m.select(negative, -r, r), m.select(negative, -tail, tail)


def _look_up(m: Machine, word: Value, first: int) -> Value:
    """A word of the table whose number is from `first` to `first` + 4."""
    values = [value - (1 << 32) if value >> 31 else value for value in TWO_OVER_PI[first : first + 5]]
    chosen: Value = values[-1]
    for number, value in reversed(list(enumerate(values[:-1], first))):
        chosen = m.select(word == number, value, chosen)
    return chosen


def _high_product(m: Machine, a: Value, b: Value) -> Value:
    """The upper 32 bits of a * b, a of 24 bits and b unsigned, from products that fit 32."""
    a_high, a_low = a >> 16, a & 0xFFFF
    b_high, b_low = m.shift_right_logical(b, 16), b & 0xFFFF
    first = a_high * b_low + m.shift_right_logical(a_low * b_low, 16)
    second = a_low * b_high + (first & 0xFFFF)
    return (a_high * b_high + (first >> 16)) + m.shift_right_logical(second, 16)


def pow(m: Machine, x: Value, y: Value) -> Value:
    """x**y within 2 ulp; special cases as in IEEE 754-2019, 9.2.1 (`pow`).

    log2 |x| is a sum of two floats, its upper one of 12 bits, so that its product with y loses nothing that matters.
    """
    a, _ = _magnitude_and_sign(m, x)
    # y is an integer where no bit of it stands below the units, and odd where the bit of the units is set.
    y_bits = m.bits(y) & MAGNITUDE
    below = 150 - (y_bits >> 23)
    whole = below <= 0
    fraction_bits = m.select(whole, 0, m.select(below > 24, 24, below))
    mantissa = (y_bits & MANTISSA) | IMPLICIT
    units = m.shift_right_logical(mantissa, fraction_bits)
    is_integer = (units << fraction_bits) == mantissa
    is_odd = ((units & 1) == 1) & is_integer & (y_bits < F32_24)

    z = _power(m, a, y)
    grows = y > F32(0.0)
    z = m.select(a == F32(0.0), m.select(grows, F32(0.0), INFINITY), z)
    z = m.select(a == INFINITY, m.select(grows, INFINITY, F32(0.0)), z)
    z = _with_sign(m, z, m.select(is_odd, m.bits(x) & SIGN, 0))
    of_negative = (x < F32(0.0)) & (x > -INFINITY)
    z = m.select(of_negative, m.select(is_integer, z, NAN), z)
    z = m.select(x == x, m.select(y == y, z, y), x)
    return m.select((y == F32(0.0)) | (x == ONE), ONE, z)


F32_24 = 151 << 23
"""Bits of 2**24, from which every float is an even integer."""


def _power(m: Machine, a: Value, y: Value) -> Value:
    """a**y for positive finite a."""
    high, low = _log2(m, a)
    y = m.select(y > EXPONENT_CLAMP, EXPONENT_CLAMP, y)
    y = m.select(y < -EXPONENT_CLAMP, -EXPONENT_CLAMP, y)
    y_high = _upper_half(m, y)
    z_low = (y - y_high) * high + y * low
    z_high = y_high * high
    for bound in (POWER_CLAMP, -POWER_CLAMP):
        beyond = z_high > bound if bound > 0 else z_high < bound
        z_high = m.select(beyond, bound, z_high)
        z_low = m.select(beyond, F32(0.0), z_low)
    n, n_float = _round(m, z_low + z_high)
    z_high = z_high - n_float
    t = _upper_half(m, z_low + z_high)
    u = t * LN2_UPPER
    v = (z_low - (t - z_high)) * LN2 + t * LN2_REST
    r = u + v
    rest = v - (r - u)
    y = ((polynomial(r, EXP) * (r * r) + (rest + r * rest)) + r) + ONE
    return _scale(m, y, n)


def _halves(number: float) -> tuple[np.float32, np.float32]:
    upper = (F32(number).view(np.int32) & np.int32(UPPER_HALF)).view(np.float32)
    return upper, F32(number - float(upper))


HALF_PI_UPPER, HALF_PI_LOWER = _halves(float(HALF_PI))
LN2 = F32(0.6931471805599453)
LN2_UPPER, LN2_REST = _halves(0.6931471805599453)
LOG2_FACTOR = F32(0.9617966939259756)
LOG2_UPPER, LOG2_REST = _halves(0.9617966939259756)
"""2 / (3 ln 2)."""


def _log2(m: Machine, x: Value) -> tuple[Value, Value]:
    """log2(x) as a float of 12 bits and a rest, error 2**-33 of it, for positive finite x.

    With s = (f - 1) / (f + 1): log2(f) = 2 / (3 ln 2) * s * (3 + s^2 + 3/5 s^4 + 3/7 s^6 + ...). Each factor is kept as
    an upper half and a rest, products of upper halves are exact (Dekker, 1971).
    """
    e, f = _split_exponent(m, x)
    e = m.to_float(e)
    u = f - ONE
    v = ONE / (f + ONE)
    s = u * v
    s_high = _upper_half(m, s)
    t_high = _upper_half(m, f + ONE)
    t_low = f - (t_high - ONE)
    s_low = v * ((u - s_high * t_high) - s_high * t_low)
    z = s * s
    series = (z * z) * polynomial(z, LOG2_SERIES) + s_low * (s_high + s)
    square = s_high * s_high
    t_high = _upper_half(m, (F32(3.0) + square) + series)
    t_low = series - ((t_high - F32(3.0)) - square)
    u = s_high * t_high
    v = s_low * t_high + t_low * s
    p_high = _upper_half(m, u + v)
    p_low = v - (p_high - u)
    z_high = LOG2_UPPER * p_high
    z_low = LOG2_REST * p_high + p_low * LOG2_FACTOR
    high = _upper_half(m, (z_high + z_low) + e)
    return high, z_low - ((high - e) - z_high)


def on_arrays(function: Callable[..., Value]) -> Callable[..., npt.NDArray[np.float32]]:
    """The function on arrays of float32 that broadcast; nothing that floats do is an error or a warning."""

    def apply(*arguments: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with np.errstate(all="ignore"):
            return np.asarray(function(Arrays(), *map(np.asarray, arguments)), np.float32)

    return apply
