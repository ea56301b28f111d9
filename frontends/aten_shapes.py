"""ATen ops that move, select or create elements and compute nothing. See `aten` for what a table of emitters is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch.fx import Node
from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX
from xdsl.ir import SSAValue

from sterna.frontends.aten import EmitterTable, aten
from sterna.frontends.lowering import Lowering, Meta, Unsupported
from sterna.frontends.tensor_builder import shape_of, without_units

EMITTERS = EmitterTable()
emits = EMITTERS.of

LONGEST_TABLE = 1024
"""An `arange` up to this length is a constant in the text."""


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
def convert(to: Lowering, x: Node, *options: Any) -> SSAValue:
    """Copies and dtype conversions: the result's dtype says all."""
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
def permute(to: Lowering, x: Node, axes: Sequence[int]) -> SSAValue:
    meta = to.meta(x)
    return to.build.transpose(to.value(x), [a for axis in axes if (a := meta.ir_axis(axis)) is not None])


@emits(aten.transpose.int)
def transpose(to: Lowering, x: Node, first: int, second: int) -> SSAValue:
    meta = to.meta(x)
    axes = list(range(len(meta.shape)))
    if axes:
        first, second = meta.axis(first), meta.axis(second)
        axes[first], axes[second] = second, first
    return permute(to, x, axes)


@emits(aten.t.default, aten.numpy_T.default)
def reverse(to: Lowering, x: Node) -> SSAValue:
    return permute(to, x, range(len(to.meta(x).shape))[::-1])


@emits(aten.slice.Tensor)
def slice_(to: Lowering, x: Node, axis: int, start: int | Node | None, end: object, step: int) -> SSAValue:
    source, target = to.meta(x), to.result
    if source.shape == target.shape and step == 1:
        return to.value(x)
    place, size = source.ir_axis(axis), target.shape[target.axis(axis)]
    if not isinstance(start, int | None) or DYNAMIC_INDEX in (size, source.shape[source.axis(axis)]):
        raise Unsupported("a part of the axis of rows")
    if place is None or size == 0:
        raise Unsupported("an empty slice")
    start = start or 0
    return to.build.slice(to.value(x), place, max(start + (start < 0) * source.shape[axis], 0), size, step)


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
    meta = to.meta(x)
    if isinstance(index, Node):
        raise Unsupported("an index that is computed")
    if (place := meta.ir_axis(axis)) is None:
        return to.value(x)
    size = meta.shape[meta.axis(axis)]
    if index >= 0:
        return to.build.slice(to.value(x), place, index, 1)
    if size != DYNAMIC_INDEX:
        return to.build.slice(to.value(x), place, size + index, 1)
    assert to.build.rows is not None
    last = to.build.add(arith.SubiOp(to.build.rows, to.build.index(-index)))
    return to.build.slice(to.value(x), place, last, 1)


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
def cat(to: Lowering, tensors: Sequence[Node], axis: int) -> SSAValue:
    parts = [(to.cast(to.value(x), to.meta(x).dtype, to.result.dtype), to.meta(x)) for x in tensors]
    return _concat(to, parts, to.result.axis(axis))


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


@emits(aten.arange.default, aten.arange.start, aten.arange.start_step)
def arange(to: Lowering, *arguments: Any) -> SSAValue:
    target = to.node.target
    numbers = arguments[: 1 if target is aten.arange.default else 2 if target is aten.arange.start else 3]
    if any(isinstance(number, Node) for number in numbers) or to.result.shape[0] > LONGEST_TABLE:
        raise Unsupported(f"a range that is computed, or longer than {LONGEST_TABLE}")
    values = cast(Any, torch.arange(*numbers, dtype=to.result.dtype)).tolist()
    if not to.result.ir_shape:
        return to.build.splat(values[0], (), to.result.element)
    return to.build.dense(values, to.result.ir_shape, to.result.element)


@emits(aten.embedding.default)
def embedding(to: Lowering, table: Node, tokens: Node, *options: Any) -> SSAValue:
    from sterna.dialects.ternary import EmbeddingOp

    meta = to.meta(table)
    rows = to.reshape(to.value(table), meta.shape)
    flat = to.value(tokens)
    if len(shape_of(flat)) > 1:
        flat = to.reshape(flat, (to.count(shape_of(flat)),))
    return to.reshape(to.build.add(EmbeddingOp(flat, rows)), to.result.ir_shape)
