"""`ternary.positions`, `ternary.rotate` and `ternary.attention`."""

from __future__ import annotations

import numpy as np
from xdsl.interpreter import Interpreter, InterpreterFunctions, PythonValues, impl, register_impls

from sterna.dialects import elementary
from sterna.dialects.attention_ops import AttentionOp, PositionsOp, RotateOp
from sterna.dialects.errors import CompileError
from sterna.dialects.numerics import F32, block_sum, lane_sum
from sterna.dialects.semantics.table import Array

exp = elementary.on_arrays(elementary.exp)


def positions(start: int, rows: int, capacity: int) -> tuple[Array, Array]:
    """The place of every row, and of the next."""
    if start < 0 or start + rows > capacity:
        raise CompileError(
            f"the rows {start} to {start + rows} of a text do not fit in its capacity of {capacity}"
        )
    return np.arange(start, start + rows), np.array(start + rows)


def rotate(x: F32, cos: F32, sin: F32) -> F32:
    """x `[..., H D]` by angles `[..., D/2]`."""
    half = cos.shape[-1]
    heads = x.reshape(*x.shape[:-1], x.shape[-1] // (2 * half), 2, half)
    a, b = heads[..., 0, :], heads[..., 1, :]
    cos, sin = cos[..., None, :], sin[..., None, :]
    return np.stack([a * cos - b * sin, b * cos + a * sin], axis=-2).reshape(x.shape)


def attend(q: F32, keys: F32, values: F32, *, scale: float, block: int, lanes: int) -> F32:
    """One head of one row: q `[D]`, the keys and values so far `[N, D]` -> `[D]`."""
    scores = lane_sum(q * keys, lanes) * np.float32(scale)
    weights = exp(scores - scores.max())
    return block_sum((weights[:, None] * values).T, block, lanes) / block_sum(weights, block, lanes)


def attention(
    q: F32,
    k: F32,
    v: F32,
    places: Array,
    keys: F32,
    values: F32,
    *,
    heads: int,
    scale: float,
    block: int,
    lanes: int,
) -> tuple[F32, F32, F32]:
    """See `AttentionOp`."""
    keys, values = keys.copy(), values.copy()
    start = int(places[0]) if len(places) else 0
    if not np.array_equal(places, positions(start, len(q), len(keys))[0]):
        raise CompileError("the positions of the rows do not follow one another")
    keys[start : start + len(k)], values[start : start + len(v)] = k, v
    size = q.shape[1] // heads
    by_head = q.reshape(len(q), heads, size)
    cached_keys, cached_values = (cache.reshape(len(cache), -1, size) for cache in (keys, values))
    sharing = heads // cached_keys.shape[1]
    y = np.empty_like(by_head)
    for t, place in enumerate(places):
        for h in range(heads):
            so_far = (slice(0, int(place) + 1), h // sharing)
            past = cached_keys[so_far], cached_values[so_far]
            y[t, h] = attend(by_head[t, h], *past, scale=scale, block=block, lanes=lanes)
    return y.reshape(q.shape), keys, values


@register_impls
class AttentionFunctions(InterpreterFunctions):
    @impl(PositionsOp)
    def positions(self, interpreter: Interpreter, op: PositionsOp, args: PythonValues) -> PythonValues:
        return positions(int(args[0]), len(args[1]), op.capacity.value.data)

    @impl(RotateOp)
    def rotate(self, interpreter: Interpreter, op: RotateOp, args: PythonValues) -> PythonValues:
        return (rotate(*args),)

    @impl(AttentionOp)
    def attention(self, interpreter: Interpreter, op: AttentionOp, args: PythonValues) -> PythonValues:
        return attention(
            *args,
            heads=op.heads.value.data,
            scale=op.scale.value.data,
            block=op.block.value.data,
            lanes=op.lanes.value.data,
        )
