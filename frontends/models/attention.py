"""The operations of a transformer with a cache, as torch knows them: what `torch.export` leaves whole.

Each has a body in plain torch, which is what the module computes in torch, and a shape for export; the importer makes
`ternary.positions`, `ternary.rotate`, `ternary.attention` and a product with a dense weight of them.

Axes: B batch, T tokens, H heads of D columns, G heads of keys and values, C rows of the cache.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

library: Any = torch.library
"""Its decorators have no types."""


@library.custom_op("sterna::positions", mutates_args=())
def positions(start: Tensor, rows: Tensor, capacity: int) -> tuple[Tensor, Tensor]:
    """start [1] int64, rows [B, T] -> the position of every row [T], and that of the next [1]."""
    count = rows.shape[1]
    if int(start) + count > capacity:
        raise ValueError(f"{int(start)} rows and {count} more are not in a context of {capacity}")
    return start + torch.arange(count, device=start.device), start + count


@positions.register_fake
def _(start: Tensor, rows: Tensor, capacity: int) -> tuple[Tensor, Tensor]:
    return start.new_empty(rows.shape[1]), start.new_empty(1)


@library.custom_op("sterna::rotate", mutates_args=())
def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, T, H D] and the cosines and sines [T, D/2] of the angles -> [B, T, H D]."""
    half = cos.shape[-1]
    a, b = x.reshape(*x.shape[:-1], x.shape[-1] // (2 * half), 2, half).unbind(-2)
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-2).reshape(x.shape)


@rotate.register_fake
def _(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.empty_like(x)


@library.custom_op("sterna::attention", mutates_args=())
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    positions: Tensor,
    keys: Tensor,
    values: Tensor,
    heads: int,
    kv_heads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """q [B, T, H D], k and v [B, T, G D], positions [T], the cache's keys and values [B, C, G D] -> y [B, T, H D], and
    the new keys and values."""
    new_keys, new_values = keys.index_copy(1, positions, k), values.index_copy(1, positions, v)
    end = int(positions[-1]) + 1
    by_head = [
        x.reshape(*x.shape[:-1], count, x.shape[-1] // count).transpose(1, 2)
        for x, count in ((q, heads), (new_keys[:, :end], kv_heads), (new_values[:, :end], kv_heads))
    ]
    seen = torch.arange(end, device=positions.device) <= positions[:, None]
    y = F.scaled_dot_product_attention(*by_head, attn_mask=seen, enable_gqa=True)
    return y.transpose(1, 2).reshape(q.shape), new_keys, new_values


@attention.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    positions: Tensor,
    keys: Tensor,
    values: Tensor,
    heads: int,
    kv_heads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(keys), torch.empty_like(values)


@library.custom_op("sterna::dense", mutates_args=())
def dense(x: Tensor, weight: Tensor) -> Tensor:
    """x [B, T, K] and a weight [M, K] that stays in floats -> [B, T, M].

    The weight is read row by row as it is stored, so that a head that is the embedding takes no second copy of it.
    """
    return F.linear(x, weight)


@dense.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])
