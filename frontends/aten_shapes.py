"""ATen ops that move, select or create elements and compute nothing. See `aten` for what a table of emitters is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch.fx import Node
from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX, i64
from xdsl.ir import SSAValue

from sterna.frontends.aten import EmitterTable, aten
from sterna.frontends.joined import Joined
from sterna.frontends.lowering import Lowering, Meta, Unsupported
from sterna.frontends.tensor_builder import without_units

EMITTERS = EmitterTable()
emits = EMITTERS.of


@emits(
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.lift_fresh_copy.default,
    aten.lift_fresh.default,
    aten._to_copy.default,
    aten.to.dtype,
    aten.to.device,
    aten.to.dtype_layout,
    aten.to.other,
    aten.type_as.default,
    aten._assert_tensor_metadata.default,
)
def convert(to: Lowering, x: Node, *options: Any) -> SSAValue | Joined:
    """Copies and dtype conversions: the result's dtype says all."""
    if isinstance(joined := to.values[x], Joined):
        if cast(torch.Tensor, to.node.meta["val"]).dtype != joined.meta.dtype:
            raise Unsupported("another dtype of a tensor that is longer than T")
        return joined
    return to.operand(x)


@emits(aten.dropout.default)
def dropout(to: Lowering, x: Node, probability: float, training: bool) -> SSAValue:
    if training and probability:
        raise Unsupported("the module is in training mode; call .eval() on it")
    return to.value(x)


@emits(
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.unsqueeze.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.view_as.default,
    aten.reshape_as.default,
)
def reshape(to: Lowering, x: Node, *shape: Any) -> SSAValue:
    return to.reshape(to.value(x), to.result.ir_shape)


@emits(aten.expand.default, aten.expand_as.default, aten.broadcast_to.default)
def expand(to: Lowering, x: Node, *shape: Any) -> SSAValue:
    return to.operand(x)


@emits(aten.permute.default)
def permute(to: Lowering, x: Node, axes: Sequence[int]) -> SSAValue | Joined:
    rank = len(cast(torch.Tensor, x.meta["val"]).shape)
    order = [axis % rank for axis in axes]
    if isinstance(joined := to.values[x], Joined):
        return joined.permuted(to, order)
    return to.permute(to.value(x), to.meta(x), order)


@emits(aten.transpose.int)
def transpose(to: Lowering, x: Node, first: int, second: int) -> SSAValue | Joined:
    axes = list(range(cast(torch.Tensor, x.meta["val"]).dim()))
    if axes:
        axes[first], axes[second] = axes[second], axes[first]
    return permute(to, x, axes)


@emits(aten.t.default, aten.numpy_T.default)
def reverse(to: Lowering, x: Node) -> SSAValue | Joined:
    return permute(to, x, range(cast(torch.Tensor, x.meta["val"]).dim())[::-1])


@emits(aten.slice.Tensor)
def slice_(to: Lowering, x: Node, axis: int, start: int | Node | None, end: object, step: int) -> SSAValue:
    """A part of one axis."""
    target = to.result
    if isinstance(joined := to.values[x], Joined):
        return _part_of_joined(to, joined, target.axis(axis), start, step)
    source = to.meta(x)
    if source.shape == target.shape and step == 1:
        return to.value(x)
    place, size = source.ir_axis(axis), target.shape[target.axis(axis)]
    if size == DYNAMIC_INDEX and not start and step == 1 and place is not None:
        # The first T of a table, which holds at least as many: torch.export says so, and the program checks it.
        return to.build.gather(to.value(x), to.build.iota((size,), 0), place)
    if (
        source.shape[source.axis(axis)] == DYNAMIC_INDEX
        and isinstance(start, int)
        and start < 0
        and step == 1
    ):
        return _last_rows(to, to.value(x), cast(int, place), size)
    if not isinstance(start, int | None) or DYNAMIC_INDEX in (size, source.shape[source.axis(axis)]):
        raise Unsupported("a part of the axis of rows")
    if place is None or size == 0:
        raise Unsupported("an empty slice")
    start = start or 0
    return to.build.slice(to.value(x), place, max(start + (start < 0) * source.shape[axis], 0), size, step)


def _part_of_joined(
    to: Lowering, joined: Joined, axis: int, start: int | Node | None, step: int, count: int | None = None
) -> SSAValue:
    """Some of its rows, T of them or a static number: `count`, or as many as the result has."""
    if axis != joined.axis:
        raise Unsupported("a part of a tensor that is longer than T, on another axis")
    if isinstance(start, Node):
        first = to.number(to.sizes.expression(start.meta["val"]), i64)
    elif start is not None and start < 0:
        offset = to.build.splat(joined.count + start, (), i64)
        first = to.binary(arith.AddiOp, to.build.count(DYNAMIC_INDEX, i64), offset)
    else:
        first = to.build.splat(start or 0, (), i64)
    return joined.take(to, joined.positions(to, count or to.result.shape[axis], first, step))


def _last_rows(to: Lowering, value: SSAValue, place: int, count: int) -> SSAValue:
    """The last `count` of at least as many rows."""
    if count == DYNAMIC_INDEX:
        raise Unsupported("a part of the axis of rows")
    shape = without_units((count,))
    first = to.binary(arith.SubiOp, to.build.count(DYNAMIC_INDEX, i64), to.build.splat(count, (), i64))
    if not shape:
        return to.build.gather(value, first, place)
    start = to.build.broadcast(first, shape, [0])
    return to.build.gather(value, to.binary(arith.AddiOp, to.build.iota(shape, 0), start), place)


@emits(aten.narrow.default)
def narrow(to: Lowering, x: Node, axis: int, start: int | Node, length: object) -> SSAValue:
    return slice_(to, x, axis, start, None, 1)


@emits(aten.slice_scatter.default)
def slice_scatter(
    to: Lowering, x: Node, part: Node, axis: int, start: int | Node | None, end: object, step: int
) -> SSAValue:
    target, source = to.result, to.meta(part)
    if source.shape == target.shape:
        return to.cast(to.value(part), source.dtype, target.dtype)
    place, size = target.ir_axis(axis), target.shape[target.axis(axis)]
    if place is None or not isinstance(start, int | None) or size == DYNAMIC_INDEX or 0 in source.shape:
        raise Unsupported("writing to a part of the axis of rows, or nothing")
    start = start or 0
    value = to.cast(to.value(part), source.dtype, target.dtype)
    return to.build.insert_slice(value, to.value(x), place, max(start + (start < 0) * size, 0), step)


@emits(aten.select_scatter.default)
def select_scatter(to: Lowering, x: Node, part: Node, axis: int, index: int) -> SSAValue:
    target, value = to.result, to.cast(to.value(part), to.meta(part).dtype, to.result.dtype)
    if (place := target.ir_axis(axis)) is None:
        return value
    if (size := target.shape[target.axis(axis)]) == DYNAMIC_INDEX:
        raise Unsupported("writing to a part of the axis of rows")
    return to.build.insert_slice(value, to.value(x), place, index % size)


@emits(aten.copy.default)
def copy(to: Lowering, x: Node, source: Node, *options: Any) -> SSAValue:
    return to.operand(source)


@emits(aten.select.int)
def select(to: Lowering, x: Node, axis: int, index: int | Node) -> SSAValue:
    if isinstance(joined := to.values[x], Joined):
        return _part_of_joined(to, joined, axis % len(joined.meta.shape), index, 1, count=1)
    meta = to.meta(x)
    if (place := meta.ir_axis(axis)) is None:
        return to.value(x)
    size = meta.shape[meta.axis(axis)]
    if isinstance(index, Node):
        return to.build.gather(to.value(x), to.number(to.sizes.expression(index.meta["val"]), i64), place)
    if size != DYNAMIC_INDEX:
        return to.build.slice(to.value(x), place, index % size, 1)
    if index >= 0:
        return to.build.gather(to.value(x), to.build.splat(index, (), i64), place)
    last = to.binary(arith.AddiOp, to.build.count(size, i64), to.build.splat(index, (), i64))
    return to.build.gather(to.value(x), last, place)


def _pieces(to: Lowering, x: Node, axis: int, sizes: Sequence[int]) -> tuple[SSAValue | None, ...]:
    meta = to.meta(x)
    if DYNAMIC_INDEX in (*sizes, meta.shape[meta.axis(axis)]):
        raise Unsupported("splitting the axis of rows")
    if (place := meta.ir_axis(axis)) is None or len(sizes) == 1:
        return (to.value(x),)
    starts = [sum(sizes[:piece]) for piece in range(len(sizes))]
    return tuple(
        to.build.slice(to.value(x), place, a, n) if n else None for a, n in zip(starts, sizes, strict=True)
    )


@emits(
    aten.split.Tensor,
    aten.split.sizes,
    aten.split_with_sizes.default,
    aten.chunk.default,
    aten.tensor_split.sections,
)
def split(to: Lowering, x: Node, sections: object, axis: int) -> tuple[SSAValue | None, ...]:
    fakes = to.node.meta["val"]
    return _pieces(to, x, axis, [to.sizes.read(fake.shape)[axis] for fake in fakes])


@emits(aten.unbind.int)
def unbind(to: Lowering, x: Node, axis: int) -> tuple[SSAValue | None, ...]:
    return _pieces(to, x, axis, [1] * len(to.node.meta["val"]))


def _concat(to: Lowering, parts: Sequence[tuple[SSAValue, Meta]], axis: int) -> SSAValue:
    """Joins tensors along a torch axis; an axis of size 1, which the IR drops, is put back first."""
    parts = [(value, meta) for value, meta in parts if 0 not in meta.shape]
    if any(meta.shape[axis] == DYNAMIC_INDEX for _, meta in parts):
        raise Unsupported("joining along the axis of rows")
    if len(parts) == 1:
        return parts[0][0]
    values: list[SSAValue] = []
    for value, meta in parts:
        before, after = without_units(meta.shape[:axis]), without_units(meta.shape[axis + 1 :])
        values.append(to.reshape(value, (*before, meta.shape[axis], *after)))
    return to.build.concat(values, len(without_units(parts[0][1].shape[:axis])))


@emits(aten.cat.default, aten.concat.default, aten.concatenate.default)
def cat(to: Lowering, tensors: Sequence[Node], axis: int) -> SSAValue | Joined:
    if to.is_longer:
        return _join_rows(to, tensors, axis)
    parts = [(to.cast(to.value(x), to.meta(x).dtype, to.result.dtype), to.meta(x)) for x in tensors]
    return _concat(to, parts, to.result.axis(axis))


def _join_rows(to: Lowering, tensors: Sequence[Node], axis: int) -> Joined:
    """A static number of rows in front of T."""
    dtype = cast(torch.Tensor, to.node.meta["val"]).dtype
    axis %= cast(torch.Tensor, to.node.meta["val"]).dim()
    *first, last = tensors
    metas = [to.meta(x) for x in first]
    sizes = [meta.shape[axis] for meta in metas]
    if DYNAMIC_INDEX in sizes or to.meta(last).shape[axis] != DYNAMIC_INDEX:
        raise Unsupported("joining along the axis of rows, but a static number of rows before them")
    before = [(to.cast(to.value(x), meta.dtype, dtype), meta) for x, meta in zip(first, metas, strict=True)]
    rows = to.cast(to.value(last), to.meta(last).dtype, dtype)
    meta = Meta(to.meta(last).shape, dtype)
    return Joined(_concat(to, before, axis), sum(sizes), rows, meta, axis)


@emits(aten.repeat.default)
def repeat(to: Lowering, x: Node, times: Sequence[int]) -> SSAValue:
    """Whole copies side by side: an axis becomes copies by elements, and then one again."""
    meta = to.meta(x)
    shape = (1,) * (len(times) - len(meta.shape)) + meta.shape
    if any(isinstance(count, Node) for count in times):
        raise Unsupported("a number of copies that is computed")
    split = tuple(size for n in shape for size in (1, n))
    full = tuple(size for n, count in zip(shape, times, strict=True) for size in (count, n))
    return to.reshape(to.broadcast(to.value(x), split, full), to.result.ir_shape)


@emits(aten.stack.default)
def stack(to: Lowering, tensors: Sequence[Node], axis: int) -> SSAValue:
    axis = to.result.axis(axis)
    shape = (*to.result.shape[:axis], 1, *to.result.shape[axis + 1 :])
    meta = Meta(shape, to.result.dtype)
    return _concat(to, [(to.cast(to.value(x), to.meta(x).dtype, meta.dtype), meta) for x in tensors], axis)


@emits(
    aten.full.default,
    aten.full_like.default,
    aten.scalar_tensor.default,
    aten.new_full.default,
)
def full(to: Lowering, *arguments: Any) -> SSAValue:
    number = arguments[0] if to.node.target is aten.scalar_tensor.default else arguments[1]
    if to.node.target is aten.new_full.default:
        number = arguments[2]
    if isinstance(number, Node):
        raise Unsupported("a fill value that is computed")
    return to.operand(number)


@emits(aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default)
def zeros(to: Lowering, *arguments: Any) -> SSAValue:
    return to.operand(0)


@emits(aten.ones.default, aten.ones_like.default, aten.new_ones.default)
def ones(to: Lowering, *arguments: Any) -> SSAValue:
    return to.operand(1)
