"""ATen ops that look elements up, find the largest, or make indices. See `aten` for what a table of emitters is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any, cast

import torch
from torch.fx import Node
from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerType, i64
from xdsl.ir import Attribute, SSAValue

from sterna.dialects.ternary import EmbeddingOp, LoadOp
from sterna.frontends.aten import EmitterTable, aten
from sterna.frontends.lowering import Lowering, Meta, Unsupported
from sterna.frontends.tensor_builder import shape_of

EMITTERS = EmitterTable()
emits = EMITTERS.of

LONGEST_TABLE = 1024
"""An `arange` up to this length is a constant in the text."""

INDEX = torch.int64


@emits(aten.arange.default, aten.arange.start, aten.arange.start_step)
def arange(to: Lowering, *arguments: Any) -> SSAValue:
    target = to.node.target
    numbers = arguments[: 1 if target is aten.arange.default else 2 if target is aten.arange.start else 3]
    first, step = (0, 1) if len(numbers) == 1 else (numbers[0], 1 if len(numbers) == 2 else numbers[2])
    return _range(to, first, step)


@emits(torch.ops.prims.iota.default)
def iota(to: Lowering, length: object, first: Any, step: Any, *options: object) -> SSAValue:
    return _range(to, first, step)


def _range(to: Lowering, first: Any, step: Any) -> SSAValue:
    """first, first + step, ... as long as the result is."""
    meta = to.result
    if isinstance(first, Node) or isinstance(step, Node):
        raise Unsupported("a range whose start or step is computed")
    size = meta.shape[0]
    if size == 1:
        return to.build.splat(first, (), meta.element)
    if size != DYNAMIC_INDEX and size <= LONGEST_TABLE:
        values: Any = (torch.arange(size, dtype=torch.float64) * step + first).to(meta.dtype).tolist()
        return to.build.dense(values, meta.ir_shape, meta.element)
    values = to.cast(to.build.iota(meta.ir_shape, 0), INDEX, meta.dtype)
    if step != 1:
        values = to.binary(_mul(meta.element), values, to.operand(step))
    return values if first == 0 else to.binary(_add(meta.element), values, to.operand(first))


def _add(element: Attribute) -> Any:
    return arith.AddiOp if isinstance(element, IntegerType) else arith.AddfOp


def _mul(element: Attribute) -> Any:
    return arith.MuliOp if isinstance(element, IntegerType) else arith.MulfOp


@emits(aten.tril.default, aten.triu.default)
def triangle(to: Lowering, x: Node, diagonal: int) -> SSAValue:
    """The elements whose column is at most (tril), or at least (triu), row + diagonal; else 0."""
    meta = to.result
    row, column = meta.ir_axis(-2), meta.ir_axis(-1)
    rows, columns = (
        to.build.splat(0, meta.ir_shape, i64) if axis is None else to.build.iota(meta.ir_shape, axis)
        for axis in (row, column)
    )
    edge = to.binary(arith.AddiOp, rows, to.build.splat(diagonal, meta.ir_shape, i64))
    kept = to.compare("le" if to.node.target is aten.tril.default else "ge", columns, edge)
    return to.select(kept, to.value(x), to.operand(0))


@emits(aten.embedding.default)
def embedding(to: Lowering, table: Node, tokens: Node, *options: Any) -> SSAValue:
    meta = to.meta(table)
    if 1 in meta.shape or DYNAMIC_INDEX in meta.shape or not isinstance(to.value(table).owner, LoadOp):
        return _look_up(to, to.value(table), meta, 0, to.value(tokens), to.meta(tokens))
    rows, flat = to.value(table), to.value(tokens)
    if len(shape_of(flat)) > 1:
        if DYNAMIC_INDEX in shape_of(flat):
            return _look_up(to, rows, meta, 0, flat, to.meta(tokens))
        flat = to.reshape(flat, (to.count(shape_of(flat)),))
    flat = to.cast(flat, to.meta(tokens).dtype, INDEX)
    return to.reshape(to.build.add(EmbeddingOp(flat, rows)), to.result.ir_shape)


@emits(aten.index_select.default)
def index_select(to: Lowering, x: Node, axis: int, indices: Node) -> SSAValue:
    return _look_up(to, to.value(x), to.meta(x), axis, to.value(indices), to.meta(indices))


def _look_up(to: Lowering, x: SSAValue, meta: Meta, axis: int, indices: SSAValue, index: Meta) -> SSAValue:
    """Slices of x at `indices` on a torch axis, one below 0 counted from the end."""
    place, size = meta.ir_axis(axis), meta.shape[meta.axis(axis)]
    indices = to.cast(indices, index.dtype, INDEX)
    if place is None:
        # One slice, whatever the index: it is repeated along the axes of the indices.
        axis, rank = meta.axis(axis), len(index.shape)
        return to.broadcast(x, (*meta.shape[:axis], *[1] * rank, *meta.shape[axis + 1 :]), to.result.shape)
    return to.build.gather(x, _wrapped(to, indices, size), place)


def _wrapped(to: Lowering, indices: SSAValue, size: int) -> SSAValue:
    shape = shape_of(indices)
    negative = to.compare("lt", indices, to.build.splat(0, shape, i64))
    whole = to.build.broadcast(to.build.count(size, i64), shape, range(len(shape)))
    return to.select(negative, to.binary(arith.AddiOp, indices, whole), indices)


@emits(aten.index.Tensor, aten._unsafe_index.Tensor)
def index_(to: Lowering, x: Node, indices: Sequence[Node | None]) -> SSAValue:
    """x[..., i, j, ...]: neighbouring axes that are indexed count as one."""
    meta = to.meta(x)
    named = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if any(to.meta(index).dtype == torch.bool for _, index in named):
        raise Unsupported("a mask as an index: how many elements it selects is known only when it runs")
    if len(named) == 1:
        ((axis, index),) = named
        return _look_up(to, to.value(x), meta, axis, to.value(index), to.meta(index))
    axes = [axis for axis, _ in named]
    sizes = [meta.shape[axis] for axis in axes]
    if any(b != a + 1 for a, b in pairwise(axes)) or DYNAMIC_INDEX in sizes[1:]:
        raise Unsupported("indices on axes that are not neighbours, or on the axis of rows")
    if DYNAMIC_INDEX in sizes:
        raise Unsupported("several indices, one on the axis of rows")
    shape: Any = cast(Any, torch).broadcast_shapes(*(to.meta(index).shape for _, index in named))
    like = Meta(tuple(shape), INDEX)
    flat = to.build.splat(0, like.ir_shape, i64)
    for (_, index), size in zip(named, sizes, strict=True):
        scaled = to.binary(arith.MuliOp, flat, to.build.splat(size, like.ir_shape, i64))
        flat = to.binary(arith.AddiOp, scaled, _wrapped(to, to.operand(index, like), size))
    merged = (*meta.shape[: axes[0]], prod(sizes), *meta.shape[axes[-1] + 1 :])
    value = to.reshape(to.value(x), Meta(merged, meta.dtype).ir_shape)
    return _look_up(to, value, Meta(merged, meta.dtype), axes[0], flat, like)


@emits(aten.gather.default)
def gather(to: Lowering, x: Node, axis: int, index: Node, *options: object) -> SSAValue:
    """result[.., i, ..] = x[.., index[.., i, ..], ..]: the sum over the axis of what stands at the index, else 0."""
    meta, result = to.meta(x), to.result
    axis = meta.axis(axis)
    trimmed = [
        s for a, (s, r) in enumerate(zip(meta.shape, result.shape, strict=True)) if a != axis and s != r
    ]
    if trimmed:
        raise Unsupported("an index that is shorter than its operand on another axis")
    if (place := meta.ir_axis(axis)) is None:
        return to.broadcast(to.value(x), meta.shape, result.shape)
    # The axis of x stands behind those of the result.
    shape = (*result.shape, meta.shape[axis])
    moved = [a for a in range(len(meta.ir_shape)) if a != place]
    lines = to.build.transpose(to.value(x), [*moved, place])
    lines = to.broadcast(lines, (*meta.shape[:axis], 1, *meta.shape[axis + 1 :], meta.shape[axis]), shape)
    wanted = to.broadcast(to.cast(to.value(index), to.meta(index).dtype, INDEX), (*result.shape, 1), shape)
    full = Meta(shape, meta.dtype)
    last = len(full.ir_shape) - 1
    here = to.compare("eq", to.build.iota(full.ir_shape, last), wanted)
    chosen = to.select(here, lines, to.build.splat(0, full.ir_shape, full.element))
    return to.build.reduce(chosen, [last], _add(full.element), 0)


@emits(aten.topk.default)
def topk(
    to: Lowering, x: Node, k: int, axis: int, largest: bool, in_order: bool
) -> tuple[SSAValue | None, ...]:
    return _top(to, x, k, axis, largest=largest)


@emits(aten.sort.default)
def sort(to: Lowering, x: Node, axis: int, descending: bool) -> tuple[SSAValue | None, ...]:
    size = to.meta(x).shape[to.meta(x).axis(axis)] if to.meta(x).shape else 1
    if size == DYNAMIC_INDEX:
        raise Unsupported("sorting the axis of rows")
    return _top(to, x, size, axis, largest=descending)


@emits(aten.sort.stable)
def sort_stable(
    to: Lowering, x: Node, stable: object, axis: int, descending: bool
) -> tuple[SSAValue | None, ...]:
    return sort(to, x, axis, descending)


def _top(to: Lowering, x: Node, k: int, axis: int, *, largest: bool) -> tuple[SSAValue | None, ...]:
    meta, value = to.meta(x), to.value(x)
    if (place := meta.ir_axis(axis)) is None:
        return value, to.build.splat(0, shape_of(value), i64)
    rank = len(shape_of(value))
    order = [*(a for a in range(rank) if a != place), place]
    values, indices = to.build.top_k(to.build.transpose(value, order), k, largest=largest)
    if k == 1:
        return values, indices
    back = [order.index(a) for a in range(rank)]
    return to.build.transpose(values, back), to.build.transpose(indices, back)


@emits(aten.flip.default)
def flip(to: Lowering, x: Node, axes: Sequence[int]) -> SSAValue:
    meta, value = to.meta(x), to.value(x)
    for axis in axes:
        if (place := meta.ir_axis(axis)) is None:
            continue
        size = shape_of(value)[place]
        last = to.binary(arith.SubiOp, to.build.count(size, i64), to.build.splat(1, (), i64))
        whole = to.build.broadcast(last, (size,), [0])
        backwards = to.binary(arith.SubiOp, whole, to.build.iota((size,), 0))
        value = to.build.gather(value, backwards, place)
    return value
