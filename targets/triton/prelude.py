# pyright: basic, reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
"""The vocabulary of emitted files: functions that `emitter.py` copies, as they stand here, where a kernel calls them.

All of them give the interpreter's bits: no function of Triton is called whose last bit is left open.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sterna.targets.triton.runtime import OVERLAP


@triton.jit
def take_turn():
    """Lets the next kernel start, as far as its own `take_turn`, and waits until the kernels before have ended."""
    if OVERLAP:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


@triton.jit
def negate(x):
    """-x, of zeros too: the compiler may write `-x` as 0 - x."""
    return x * -1.0


@triton.jit
def as_float(x):
    """A float of 16 or 32 bits as float32; of bfloat16 by its bits: Triton's interpreter takes small ones for zeros."""
    if x.dtype == tl.bfloat16:
        return (x.to(tl.int16, bitcast=True).to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        return x.to(tl.float32)


@triton.jit
def magnitude(x):
    return (x.to(tl.int32, bitcast=True) & 0x7FFFFFFF).to(tl.float32, bitcast=True)


@triton.jit
def with_sign_of(x, sign):
    bits = magnitude(x).to(tl.int32, bitcast=True) | (sign.to(tl.int32, bitcast=True) & -0x80000000)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def round_half_even(x):
    """Adding 2^23 to a magnitude below it rounds it; a larger one is whole."""
    rounded = (magnitude(x) + 8388608.0) - 8388608.0
    return tl.where(magnitude(x) < 8388608.0, with_sign_of(rounded, x), x)


@triton.jit
def truncate(x):
    """Rounds to nearest, as above, and takes one away where that was up. The device's own floor takes small numbers
    for zeros."""
    size = magnitude(x)
    near = (size + 8388608.0) - 8388608.0
    whole = tl.where(near > size, near - 1.0, near)
    return tl.where(size < 8388608.0, with_sign_of(whole, x), x)


@triton.jit
def round_down(x):
    whole = truncate(x)
    return tl.where(whole > x, whole - 1.0, whole)


@triton.jit
def round_up(x):
    return negate(round_down(negate(x)))


@triton.jit
def round_half_away(x):
    """x - truncate(x) is exact, so a tie is seen as one."""
    whole = truncate(x)
    up = magnitude(x - whole) >= 0.5
    return tl.where(up, whole + with_sign_of(x * 0.0 + 1.0, x), whole)


@triton.jit
def positive_first(x, y):
    """Of two zeros the one that is positive, if one is; of equal numbers either."""
    both = x.to(tl.int32, bitcast=True) & y.to(tl.int32, bitcast=True)
    return both.to(tl.float32, bitcast=True)


@triton.jit
def negative_first(x, y):
    both = x.to(tl.int32, bitcast=True) | y.to(tl.int32, bitcast=True)
    return both.to(tl.float32, bitcast=True)


@triton.jit
def maximum(x, y):
    """NaN if either is."""
    return tl.where(x > y, x, tl.where(y > x, y, tl.where(x == y, positive_first(x, y), x + y)))


@triton.jit
def minimum(x, y):
    return tl.where(x < y, x, tl.where(y < x, y, tl.where(x == y, negative_first(x, y), x + y)))


@triton.jit
def maximum_number(x, y):
    """The other where one is NaN."""
    return tl.where(x != x, y, tl.where(y != y, x, maximum(x, y)))


@triton.jit
def minimum_number(x, y):
    return tl.where(x != x, y, tl.where(y != y, x, minimum(x, y)))


@triton.jit
def rows_ahead(x, at, ROW: tl.constexpr, inside, left, NEUTRAL: tl.constexpr, COUNT: tl.constexpr):
    """The elements `at` of COUNT rows, all asked for before one is used; NEUTRAL where only `left` are there."""
    found = ()
    for n in tl.static_range(COUNT):
        there = inside & (at * 0 + n < left)
        found += (tl.load(x + at + n * ROW, mask=there, other=NEUTRAL),)
    return found


@triton.jit
def reciprocal_root(x):
    return tl.div_rn(1.0, tl.sqrt_rn(x))


@triton.jit
def largest_magnitude(x):
    """max |x| of a row: as integers the bits of magnitudes are in order, and NaN is above them all."""
    return tl.max(x.to(tl.int32, bitcast=True) & 0x7FFFFFFF, axis=0).to(tl.float32, bitcast=True)


@triton.jit
def order_key(x):
    """Integers in the order of the numbers: -0 as +0, NaN above all."""
    bits = (x + 0.0).to(tl.int32, bitcast=True)
    return tl.where(x == x, tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits), 0x7FFFFFFF)


@triton.jit
def at_least(x, bound):
    """The larger; NaN stays."""
    return tl.where(x < bound, bound, x)


@triton.jit
def to_int8(x):
    """Rounded half to even, clamped to [-128, 127]; NaN is 0. Adding 1.5 * 2^23 rounds."""
    x = tl.where(x == x, x, 0.0)
    x = tl.where(x > 127.0, 127.0, x)
    x = tl.where(x < -128.0, -128.0, x)
    return ((x + 12582912.0).to(tl.int32, bitcast=True) - 0x4B400000).to(tl.int8)
