# pyright: basic, reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
"""More of the vocabulary of emitted files (`prelude.py`): sums of floats, in the order that the IR states.

That is 16 strided partial sums, each from its first term to its last, and a halving tree over them.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def halving_tree(partial, LANES: tl.constexpr):
    """Adds the upper half of the partial sums to the lower until one is left."""
    if LANES == 1:
        return tl.sum(partial, axis=0)
    else:
        HALF: tl.constexpr = LANES // 2
        return halving_tree(tl.sum(tl.reshape(partial, [2, HALF]), axis=0), HALF)


@triton.jit
def halving_trees(partial, LANES: tl.constexpr):
    """The same for `[N, LANES]` partial sums of N rows."""
    if LANES == 1:
        return tl.sum(partial, axis=1)
    else:
        HALF: tl.constexpr = LANES // 2
        halves = tl.reshape(partial, [partial.shape[0], 2, HALF])
        return halving_trees(tl.sum(halves, axis=1), HALF)


@triton.jit
def halving_trees_between(partial, LANES: tl.constexpr):
    """The same for `[M, LANES, N]`: M N sums, in memory's order `[M, N]`."""
    M: tl.constexpr = partial.shape[0]
    N: tl.constexpr = partial.shape[2]
    if LANES == 1:
        return tl.reshape(partial, [M, N])
    else:
        HALF: tl.constexpr = LANES // 2
        return halving_trees_between(tl.sum(tl.reshape(partial, [M, 2, HALF, N]), axis=1), HALF)


@triton.jit
def strip(row, at, K: tl.constexpr, LANES: tl.constexpr):
    """Elements of a row in memory, with zeros behind its end. Without a mask where that is known not to be reached."""
    if K % LANES == 0:
        return tl.load(row + at)
    else:
        return tl.load(row + at, mask=at < K, other=0.0)


@triton.jit
def sum_of_squares(row, K: tl.constexpr, LANES: tl.constexpr):
    """sum of x^2 over a row in memory, in the stated order: LANES strided partial sums, then a halving tree."""
    lane = tl.arange(0, LANES)
    partial = tl.zeros([LANES], tl.float32)
    for start in tl.range(0, K, LANES, loop_unroll_factor=32):
        x = strip(row, start + lane, K, LANES)
        partial += x * x
    return halving_tree(partial, LANES)


@triton.jit
def sums_of_squares(row, outer, K: tl.constexpr, LANES: tl.constexpr):
    """The same, and sum of (x a)^2 for the weight a of an outer norm, from one read of the row."""
    lane = tl.arange(0, LANES)
    partial = tl.zeros([LANES], tl.float32)
    scaled = tl.zeros([LANES], tl.float32)
    for start in tl.range(0, K, LANES, loop_unroll_factor=32):
        x = strip(row, start + lane, K, LANES)
        y = x * strip(outer, start + lane, K, LANES)
        partial += x * x
        scaled += y * y
    return halving_tree(partial, LANES), halving_tree(scaled, LANES)


@triton.jit
def dense_sums(
    x,
    w,
    t,
    m,
    rows,
    M: tl.constexpr,
    K: tl.constexpr,
    X_ROW: tl.constexpr,
    W_CHANNEL: tl.constexpr,
    W_COLUMN: tl.constexpr,
):
    """sum over k of x[t, k] * w[m, k] in 16 strided partial sums and a halving tree: `[t, m]`."""
    ROWS: tl.constexpr = t.shape[0]
    CHANNELS: tl.constexpr = m.shape[0]
    lane = tl.arange(0, 16)
    partial = tl.zeros([ROWS, CHANNELS, 16], tl.float32)
    channels = w + m.to(tl.int64) * W_CHANNEL
    for start in range(0, K, 16):
        k = start + lane
        left = tl.load(x + (t * X_ROW)[:, None] + k[None, :], (t < rows)[:, None] & (k < K)[None, :], 0.0)
        inside = (m < M)[:, None] & (k < K)[None, :]
        right = tl.load(channels[:, None] + (k * W_COLUMN)[None, :], inside, 0.0)
        partial += left[:, None, :] * right[None, :, :]
    return tl.reshape(halving_trees(tl.reshape(partial, [ROWS * CHANNELS, 16]), 16), [ROWS, CHANNELS])


@triton.jit
def tile_products(a, b, end, lane, reach, STRIDE: tl.constexpr, STEP: tl.constexpr, PARTLY: tl.constexpr):
    """sum over k < end of a[k] * b[k STRIDE], for addresses a `[1, X, Y, 1]` and b `[W, 1, 1, Z]`: `[W, X, Y, Z]`.
    PARTLY: a row of a takes only k < reach `[1, X, Y, 1]`, and nothing of what b has beyond.

    From outside it is called with lane 0 and STEP 1. The sum of the lanes STEP apart is that of every other of them and
    that of the rest, which is the halving tree from its root: so five tiles of sums are held at a time, not sixteen. It
    is two turns of a loop, since of two calls the compiler would put off the addition, and spill. Where `end` is known
    it would unroll them.
    """
    total = tl.zeros([b.shape[0], a.shape[1], a.shape[2], b.shape[3]], tl.float32)
    if STEP == 16:
        for k in range(lane, end, 16):
            product = tl.load(a + k) * tl.load(b + k * STRIDE)
            total += tl.where(k < reach, product, 0.0) if PARTLY else product
    else:
        for first in range(lane, tl.minimum(end, lane + 2 * STEP), STEP):
            total += tile_products(a, b, end, first, reach, STRIDE, 2 * STEP, PARTLY)
    return total
