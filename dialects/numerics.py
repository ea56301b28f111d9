"""The numbers of Sterna in numpy: what every target must reproduce bit for bit.

All arithmetic is IEEE float32, one rounding per operation, in the order written here. Arrays have shape `[..., K]`
with the reduced axis last.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
F32 = npt.NDArray[Any]
"""Arrays of float32, which numpy's type stubs cannot follow through arithmetic with float32 scalars."""

LANES = 16
"""Partial sums of a reduction; sixteen float32 fill one 512-bit register."""
NORM_LANES = 128
"""Of the sums of a norm: what comes after waits for K / lanes additions, one after the other. On a CPU they fill eight
such registers, and hide the time that an addition takes; on a GPU each of 128 threads has one."""

BLOCK = 128
"""Rows of a cache that one sum over the past takes in, before sums of blocks are added in order. A longer block leaves
fewer programs than a GPU has processors; of a shorter one the sums are more of what is read and written."""

ONE = np.float32(1.0)
INT8_MAX = np.float32(127.0)

ROUND_MAGIC = np.float32(12582912.0)
"""1.5 * 2**23: adding it leaves the addend, rounded half to even, in the low mantissa bits."""


def lane_sum(x: F32, lanes: int = LANES) -> F32:
    """Sum over the last axis in the stated order: `lanes` strided partial sums, then a halving tree.

    Partial sum j starts at +0 and adds x[j], x[j + lanes], ... in order; elements past the end count as +0.
    """
    padding = -x.shape[-1] % lanes
    x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, padding)])
    partial = np.zeros((*x.shape[:-1], lanes), x.dtype)
    for start in range(0, x.shape[-1], lanes):
        partial = partial + x[..., start : start + lanes]
    while lanes > 1:
        lanes //= 2
        partial = partial[..., :lanes] + partial[..., lanes : 2 * lanes]
    return partial[..., 0]


def block_sum(x: F32, block: int, lanes: int = LANES) -> F32:
    """Sum over the last axis, of at least one element: `lane_sum` of every block of so many; then these, in order."""
    total = lane_sum(x[..., :block], lanes)
    for start in range(block, x.shape[-1], block):
        total = total + lane_sum(x[..., start : start + block], lanes)
    return total


def reciprocal_rms(mean_square: F32, eps: float) -> F32:
    return ONE / np.sqrt(mean_square + np.float32(eps))


def rms_norm(x: F32, weight: F32, eps: float, lanes: int = NORM_LANES) -> F32:
    """(x * (1 / sqrt(sum(x^2) / K + eps))) * weight, over the last axis."""
    r = reciprocal_rms(lane_sum(x * x, lanes) / np.float32(x.shape[-1]), eps)
    return (x * r[..., None]) * weight


def absmax(x: F32) -> F32:
    """max |x| over the last axis; NaN if the row has one; 0 for an empty row."""
    return np.max(np.abs(x), axis=-1, initial=np.float32(0.0))


def round_to_int8(v: F32) -> npt.NDArray[np.int8]:
    """Round half to even, clamp to [-128, 127]; NaN becomes 0 (the row's step carries the NaN on)."""
    q = np.clip(np.rint(v), np.float32(-128.0), np.float32(127.0))
    return np.where(np.isnan(q), np.float32(0.0), q).astype(np.int8)


def quantize(x: F32, eps: float) -> tuple[npt.NDArray[np.int8], F32]:
    """Per-row absmax quantization: d = max(absmax(x), eps), q = round(x * (127 / d)), step = d / 127."""
    d = np.maximum(absmax(x), np.float32(eps))
    return round_to_int8(x * (INT8_MAX / d)[..., None]), d / INT8_MAX


def norm_quantize(
    x: F32,
    outer: F32 | None,
    gains: list[F32],
    *,
    outer_eps: float,
    eps: float,
    quantize_eps: float,
    lanes: int = NORM_LANES,
) -> list[tuple[npt.NDArray[np.int8], F32]]:
    """Norm (of a norm) and quantization for several gains from one read of x. See `ternary.norm_quantize`."""
    k = np.float32(x.shape[-1])
    if outer is None:
        r = reciprocal_rms(lane_sum(x * x, lanes) / k, eps)
    else:
        r_outer = reciprocal_rms(lane_sum(x * x, lanes) / k, outer_eps)
        scaled = x * outer
        r = r_outer * reciprocal_rms((r_outer * r_outer) * (lane_sum(scaled * scaled, lanes) / k), eps)
    results: list[tuple[npt.NDArray[np.int8], F32]] = []
    for gain in gains:
        y = x * gain
        d = np.maximum(absmax(y) * r, np.float32(quantize_eps))
        c = r * (INT8_MAX / d)
        results.append((round_to_int8(y * c[..., None]), d / INT8_MAX))
    return results


def accumulate(x: Array, trits: npt.NDArray[np.int8], groups: int = 1) -> Array:
    """sum_k x[..., g K + k] * trits[m, k] with g = m // (M / groups).

    Exact for integers, in int32 for int8 and in int64 for others; float32 in lanes.
    """
    columns, channels = trits.shape[1], len(trits) // groups
    product = _sum_signed if x.dtype == np.float32 else _sum_exactly
    return np.concatenate(
        [
            product(x[..., g * columns : (g + 1) * columns], trits[g * channels : (g + 1) * channels])
            for g in range(groups)
        ],
        axis=-1,
    )


def _sum_exactly(q: Array, trits: npt.NDArray[np.int8]) -> Array:
    """A float64 product is exact where |sum| <= 2**(width - 1) K < 2**53."""
    if q.dtype.itemsize * 8 + trits.shape[1].bit_length() >= 53:
        return q.astype(np.int64) @ trits.T.astype(np.int64)
    sums = q.astype(np.float64) @ trits.T.astype(np.float64)
    return sums.astype(np.int32 if q.dtype == np.int8 else np.int64)


def _sum_signed(x: F32, trits: npt.NDArray[np.int8]) -> F32:
    """x, -x, or +0 where the trit is 0, whatever x is there; then `lane_sum`. One channel at a time."""
    out = np.empty((*x.shape[:-1], len(trits)), np.float32)
    for m, row in enumerate(trits):
        out[..., m] = lane_sum(np.where(row == 0, np.float32(0.0), np.where(row < 0, -x, x)))
    return out


def threshold(x: Array, thresholds: Array, base: int) -> npt.NDArray[np.int8]:
    """base + the number of thresholds[m, :] that x[..., m] reaches."""
    reached = np.zeros(x.shape, np.int16)
    for step in thresholds.T:
        reached += x >= step
    return (reached + np.int16(base)).astype(np.int8)


def absmean(w: F32, eps: float) -> tuple[npt.NDArray[np.int8], F32]:
    """Per-tensor weight quantization: d = max(mean |w|, eps), t = clamp(round(w / d), -1, 1); returns (t, d).

    The mean is taken in float64 and rounded once; 1 / d is the multiplier, as in BitNet b1.58 (arXiv 2402.17764).
    """
    mean = np.float32(np.sum(np.abs(w), dtype=np.float64) / w.size)
    d = np.maximum(mean, np.float32(eps))
    # In place: the head of a large model is hundreds of megabytes.
    t = w * (ONE / d)
    np.rint(t, out=t)
    np.clip(t, np.float32(-1.0), ONE, out=t)
    t[np.isnan(t)] = 0
    return t.astype(np.int8), d


def scan(f: F32, i: F32, state: F32) -> tuple[F32, F32]:
    """The gated recurrence over axis -2 (time): s = f[t] * s + i[t]; returns every s, and the last."""
    steps = np.empty(i.shape, np.float32)
    for t in range(i.shape[-2]):
        state = f[..., t, :] * state + i[..., t, :]
        steps[..., t, :] = state
    return steps, state
