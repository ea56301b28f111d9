# pyright: basic, reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false, reportCallIssue=false
"""More of the vocabulary of emitted files (`prelude.py`): heads of queries, keys and values, and turning their pairs.

A pair is columns j and j + COLUMNS / 2 of a head; its angle is number j of a row of `cos` and `sin`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def turn_heads(x, out, cos, sin, wanted, COLUMNS: tl.constexpr):
    """Writes heads with their pairs turned, for addresses `[N, 1]` of heads and of rows of angles."""
    HALF: tl.constexpr = COLUMNS // 2
    j = tl.arange(0, triton.next_power_of_2(HALF))[None, :]
    inside = wanted & (j < HALF)
    a, b = tl.load(x + j, mask=inside, other=0.0), tl.load(x + j + HALF, mask=inside, other=0.0)
    c, s = tl.load(cos + j, mask=inside, other=0.0), tl.load(sin + j, mask=inside, other=0.0)
    tl.store(out + j, a * c - b * s, mask=inside)
    tl.store(out + j + HALF, b * c + a * s, mask=inside)


@triton.jit
def copy_heads(x, out, wanted, COLUMNS: tl.constexpr):
    """Writes heads as they are."""
    d = tl.arange(0, triton.next_power_of_2(COLUMNS))[None, :]
    inside = wanted & (d < COLUMNS)
    tl.store(out + d, tl.load(x + d, mask=inside, other=0.0), mask=inside)
