# pyright: basic, reportOperatorIssue=false, reportAttributeAccessIssue=false
"""The vocabulary of emitted files, like `prelude.py`: packed trits one by one, for sums whose columns are gathered."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def i2_trits(w, m, k, inside, K: tl.constexpr, TILE_ROWS: tl.constexpr):
    """Those at rows m and columns k of a matrix of K columns: int8, 0 where they are not inside. See `EncodingAttr`."""
    ACROSS: tl.constexpr = (K + 255) // 256
    rows_of_tiles = (m // TILE_ROWS) * (ACROSS * TILE_ROWS * 64) + (m % TILE_ROWS) * 64
    at = rows_of_tiles + (k // 256) * (TILE_ROWS * 64) + k % 64
    packed = tl.load(w + at, mask=inside, other=0x55).to(tl.int32)
    return ((packed >> (k // 64 % 4 * 2)) & 3).to(tl.int8) - 1


@triton.jit
def b3_trits(w, m, k, inside, K: tl.constexpr, TILE_ROWS: tl.constexpr):
    """The same in base 3: three times the byte is 256 times its first digit, plus the byte of the others."""
    ACROSS: tl.constexpr = (K + 79) // 80
    rows_of_tiles = (m // TILE_ROWS) * (ACROSS * TILE_ROWS * 16) + (m % TILE_ROWS) * 16
    at = rows_of_tiles + (k // 80) * (TILE_ROWS * 16) + k % 16
    packed = tl.load(w + at, mask=inside, other=0x80).to(tl.int32)
    digit = k % 80 // 16
    low = tl.where(digit == 0, 1, tl.where(digit == 1, 3, 9))
    power = tl.where(digit < 3, low, tl.where(digit == 3, 27, 81))
    return ((((packed * power) & 0xFF) * 3) >> 8).to(tl.int8) - 1


@triton.jit
def signed_by(x, trit):
    """x, -x, or +0 where the trit is 0, whatever x is there."""
    return tl.where(trit == 0, 0, tl.where(trit < 0, x * -1, x))
