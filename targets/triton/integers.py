# pyright: basic, reportOperatorIssue=false, reportAttributeAccessIssue=false, reportAssignmentType=false
"""The vocabulary of emitted files, like `prelude.py`: integers where Triton, or a device, leaves a result open.

They give what `dialects/semantics/arith.py` does: conversions saturate, shifts of all bits leave none, and a quotient
by zero is 0.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def saturate(x, BITS: tl.constexpr):
    """A float32 as the nearest integer towards zero that so many bits hold; NaN as 0. An int64 of 64 bits, or int32."""
    DTYPE: tl.constexpr = tl.int64 if BITS == 64 else tl.int32
    LEAST: tl.constexpr = -(2 ** (BITS - 1))
    high = x >= -LEAST * 1.0
    low = x < LEAST * 1.0
    inside = tl.where((x == x) & (high == 0) & (low == 0), x, 0.0).to(DTYPE)
    return tl.where(high, -LEAST - 1, tl.where(low, LEAST, inside))


@triton.jit
def saturate_unsigned(x, BITS: tl.constexpr):
    """The same for an integer without a sign: its bits, as the lowest of an int64."""
    HALF: tl.constexpr = 2.0**63
    TOP: tl.constexpr = -(2**63)
    END: tl.constexpr = 2.0**BITS
    high = x >= END
    inside = tl.where((x > 0.0) & (high == 0), x, 0.0)
    upper = inside >= HALF
    whole = tl.where(upper, inside - HALF, inside).to(tl.int64)
    return tl.where(high, -1, tl.where(upper, whole ^ TOP, whole))


@triton.jit
def shift_left(x, by, WIDTH: tl.constexpr):
    """An amount of the width or more, or below zero, shifts all bits out."""
    within = (by >= 0) & (by < WIDTH)
    return tl.where(within, x << tl.where(within, by, by * 0), x * 0)


@triton.jit
def shift_right(x, by, WIDTH: tl.constexpr):
    within = (by >= 0) & (by < WIDTH)
    return x >> tl.where(within, by, by * 0 + (WIDTH - 1))


@triton.jit
def shift_right_logical(x, by, WIDTH: tl.constexpr):
    """Of an unsigned x."""
    within = (by >= 0) & (by < WIDTH)
    return tl.where(within, x >> tl.where(within, by, by * 0).to(x.dtype), x * 0)


@triton.jit
def quotient(x, y):
    """Of unsigned numbers; by zero it is 0."""
    return tl.where(y == 0, x * 0, x // tl.where(y == 0, y + 1, y))


@triton.jit
def remainder(x, y):
    """Of unsigned numbers; by zero it is the dividend."""
    return tl.where(y == 0, x, x % tl.where(y == 0, y + 1, y))


@triton.jit
def divide(x, y):
    """Rounded towards zero; by zero 0. The least number by -1 is itself, of which hardware makes what it likes."""
    plain = (y != 0) & (y != -1)
    return tl.where(plain, x // tl.where(plain, y, y * 0 + 1), x * y)


@triton.jit
def remainder_of_divide(x, y):
    """With the sign of x; by zero it is x."""
    return x - divide(x, y) * y


@triton.jit
def floor_divide(x, y):
    """Rounded down; by zero 0."""
    quotient = divide(x, y)
    below = (remainder_of_divide(x, y) != 0) & (y != 0) & ((x < 0) != (y < 0))
    return quotient - below.to(x.dtype)
