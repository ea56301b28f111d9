"""Operators that look elements up, or make tensors out of indices: Gather, OneHot, Range, TopK, masks."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX
from xdsl.ir import SSAValue

from sterna.frontends.onnx.data_types import FLOAT, INT64, DataType
from sterna.frontends.onnx.elementwise import ADD
from sterna.frontends.onnx.emitters import EmitterTable
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.node import LARGEST_FOLD, Node
from sterna.frontends.onnx.reductions import reduced
from sterna.frontends.onnx.shapes import transposed
from sterna.frontends.onnx.sizes import Dim, Shape, Size, count_elements, ir_shape, ir_size, shape_text
from sterna.frontends.onnx.slicing import sliced
from sterna.frontends.onnx.values import Tensor, known
from sterna.frontends.tensor_builder import shape_of

EMITTERS = EmitterTable()
emits = EMITTERS.of


def counted_from_front(to: Node, indices: Tensor, size: Dim) -> SSAValue:
    """Indices as i64; negative ones counted from the end of an axis."""
    value = to.convert(to.value(indices), indices.type, INT64)
    negative = to.compare("lt", value, to.splat(0, indices.shape, INT64), INT64)
    length = to.broadcast(
        known(np.array(size, object if isinstance(size, Size) else np.int64)), indices.shape
    )
    return to.select(negative, to.binary(arith.AddiOp, value, length), value)


@emits("Gather")
def gather(to: Node, x: Tensor, indices: Tensor) -> Tensor:
    if not x.rank:
        raise OnnxError(f"{to.place}: a scalar has no axis to look up in")
    axis = x.axis(to.integer("axis", 0))
    size = x.shape[axis]
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    if (arrays := to.folds(x, indices)) is not None:
        numbers, chosen = arrays
        length = numbers.shape[axis]
        if chosen.size and not (-length <= chosen.min() and chosen.max() < length):
            raise OnnxError(f"{to.place}: indices: outside an axis of {length}")
        return to.folded(np.asarray(np.take(numbers, chosen, axis), numbers.dtype), x.type)
    to.check_size(shape)
    if indices.known is not None and count_elements(indices.shape) == 1:
        index = to.ints(indices, "indices")[0]
        if isinstance(size, int) and not -size <= index < size:
            raise OnnxError(f"{to.place}: indices: {index} is outside an axis of {size}")
        part = sliced(to, x, axis, index + size if index < 0 else index, 1)
        return to.result(to.value(part), shape, x.type)
    if ir_size(size) == 1:
        # All indices are 0, and repeat the one element.
        apart = (*x.shape[:axis], *(1 for _ in indices.shape), *x.shape[axis + 1 :])
        return to.result(to.stretch(to.value(x), apart, shape), shape, x.type)
    if size == 0:
        raise OnnxError(f"{to.place}: there is nothing to look up in {shape_text(x.shape)}")
    place = x.ir_axis(axis)
    assert place is not None
    index = counted_from_front(to, indices, size)
    return to.result(to.build.gather(to.value(x), index, place), shape, x.type)


@emits("GatherElements")
def gather_elements(to: Node, x: Tensor, indices: Tensor) -> Tensor:
    """result[i, j, k] = x[i, indices[i, j, k], k]: a look-up in all elements of x, by their number."""
    if x.rank != indices.rank or not x.rank:
        raise OnnxError(
            f"{to.place}: {shape_text(x.shape)} and {shape_text(indices.shape)} have not one rank"
        )
    axis = x.axis(to.integer("axis", 0))
    sizes = _static(x.shape)
    strides = [prod(sizes[n + 1 :]) for n in range(len(sizes))]
    number = _times(to, counted_from_front(to, indices, sizes[axis]), strides[axis], indices.shape)
    for other, stride in enumerate(strides):
        if other != axis and ir_size(indices.shape[other]) != 1:
            along = _times(to, to.iota(indices.shape, other), stride, indices.shape)
            number = to.binary(arith.AddiOp, number, along)
    return _by_number(to, x, sizes, number, indices.shape)


@emits("GatherND")
def gather_nd(to: Node, x: Tensor, indices: Tensor) -> Tensor:
    """result[b, i, *] = x[b, indices[b, i, 0], indices[b, i, 1], ..., *]"""
    batch = to.integer("batch_dims", 0)
    if not indices.rank or not isinstance(indices.shape[-1], int):
        raise Unsupported("indices of unknown depth")
    depth = indices.shape[-1]
    if not (0 <= batch < min(x.rank, indices.rank) and 1 <= depth <= x.rank - batch):
        raise OnnxError(f"{to.place}: {shape_text(indices.shape)} do not index {shape_text(x.shape)}")
    sizes = _static(x.shape)
    looked_up, kept = sizes[: batch + depth], x.shape[batch + depth :]
    strides = [prod(looked_up[n + 1 :]) for n in range(len(looked_up))]
    positions = indices.shape[:-1]
    number = to.splat(0, positions, INT64)
    for level in range(depth):
        column = sliced(to, indices, indices.rank - 1, level, 1)
        column = to.result(to.value(column), positions, indices.type)
        index = counted_from_front(to, column, sizes[batch + level])
        number = to.binary(arith.AddiOp, number, _times(to, index, strides[batch + level], positions))
    for level in range(batch):
        if ir_size(positions[level]) != 1:
            along = _times(to, to.iota(positions, level), strides[level], positions)
            number = to.binary(arith.AddiOp, number, along)
    shape = (*positions, *kept)
    if (total := prod(looked_up)) == 1:
        apart = (*(1 for _ in positions), *kept)
        return to.result(to.stretch(to.value(x), apart, shape), shape, x.type)
    table = to.ir_reshape(to.value(x), (total, *ir_shape(kept)))
    return to.result(to.build.gather(table, number, 0), shape, x.type)


def _static(shape: Shape) -> list[int]:
    sizes = [ir_size(size) for size in shape]
    if DYNAMIC_INDEX in sizes or 0 in sizes:
        raise Unsupported(f"a look-up in a tensor of {shape_text(shape)}")
    return sizes


def _times(to: Node, value: SSAValue, factor: int, shape: Shape) -> SSAValue:
    return value if factor == 1 else to.binary(arith.MuliOp, value, to.splat(factor, shape, INT64))


def _by_number(to: Node, x: Tensor, sizes: Sequence[int], number: SSAValue, shape: Shape) -> Tensor:
    if (total := prod(sizes)) == 1:
        return to.result(to.stretch(to.value(x), (1,) * len(shape), shape), shape, x.type)
    return to.result(to.build.gather(to.ir_reshape(to.value(x), (total,)), number, 0), shape, x.type)


@emits("OneHot")
def one_hot(to: Node, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    count = int(to.scalar(depth, "depth"))
    rank = indices.rank + 1
    axis = to.integer("axis", -1)
    if not -rank <= axis < rank or count < 1:
        raise OnnxError(f"{to.place}: axis {axis} or depth {count} is out of range")
    axis %= rank
    shape = (*indices.shape[:axis], count, *indices.shape[axis:])
    to.check_size(shape)
    whole = to.cast(indices, INT64)
    apart = (*indices.shape[:axis], 1, *indices.shape[axis:])
    wanted = to.stretch(counted_from_front(to, whole, count), apart, shape)
    hot = to.compare("eq", to.iota(shape, axis), wanted, INT64)
    if values.shape != (2,):
        raise OnnxError(f"{to.place}: values: expected 2, found {shape_text(values.shape)}")
    off, on = (to.broadcast(sliced_scalar(to, values, n), shape) for n in range(2))
    return to.result(to.select(hot, on, off), shape, values.type)


def sliced_scalar(to: Node, x: Tensor, index: int) -> Tensor:
    """One element of a vector."""
    if (arrays := to.folds(x)) is not None:
        return known(np.asarray(arrays[0][index], arrays[0].dtype), x.type)
    return to.result(to.value(sliced(to, x, 0, index, 1)), (), x.type)


@emits("Range")
def range_(to: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    first, last, step = (_bound_of_range(to, tensor) for tensor in (start, limit, delta))
    if not len(first) == len(last) == len(step) == 1 or not step[0] or isinstance(step[0], Size):
        raise OnnxError(f"{to.place}: expected numbers, and a step other than 0")
    low, high, stride = first[0], last[0], step[0]
    if isinstance(high, Size) and low == int(low):
        low = int(low)
    span = high - low
    if isinstance(span, Size) or isinstance(low, Size):
        if stride != 1 or not isinstance(low, int):
            raise Unsupported(f"the range {low} to {high} by {stride}")
        return to.cast(_counted(to, low, span), start.type)
    count = max(int(np.ceil((high - low) / stride)), 0)
    if count > LARGEST_FOLD:
        raise Unsupported(f"a range of {count} numbers")
    numbers = low + np.arange(count) * np.array(stride, start.type.held)
    return known(numbers.astype(start.type.held), start.type, to.output_name(0))


def _bound_of_range(to: Node, tensor: Tensor) -> list[Any]:
    if tensor.type.is_integer:
        return to.dims(tensor, "start, limit and delta")
    if tensor.size is not None:
        return [tensor.size]
    return [to.scalar(tensor, "start, limit and delta")]


def _counted(to: Node, low: int, count: Dim) -> Tensor:
    index = to.iota([count], 0)
    if low:
        index = to.binary(arith.AddiOp, index, to.splat(low, [count], INT64))
    return to.result(index, [count], INT64)


@emits("ConstantOfShape")
def constant_of_shape(to: Node, wanted: Tensor) -> Tensor:
    shape = to.dims(wanted, "shape")
    value = to.tensor("value")
    if any(isinstance(size, int) and size < 0 for size in shape):
        raise OnnxError(f"{to.place}: shape: expected sizes >= 0, found {shape_text(shape)}")
    type = FLOAT if value is None else value.type
    number = 0 if value is None else to.scalar(value, "value")
    to.check_size(shape)
    total = count_elements(shape)
    if isinstance(total, int) and total <= LARGEST_FOLD and not type.is_float:
        return to.folded(np.full([n for n in shape if isinstance(n, int)], number, type.held), type)
    return to.result(to.splat(number, shape, type), shape, type)


@emits("EyeLike")
def eye_like(to: Node, like: Tensor) -> Tensor:
    """1 on a diagonal, else 0."""
    type = to.data_type("dtype", like.type)
    if like.rank != 2:
        raise OnnxError(f"{to.place}: expected a matrix, found {shape_text(like.shape)}")
    on = _band(to, like.shape, "eq", to.integer("k", 0))
    one, zero = to.splat(1, like.shape, type), to.splat(0, like.shape, type)
    return to.result(to.select(on, one, zero), like.shape, type)


@emits("Trilu")
def trilu(to: Node, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    """What lies on and above a diagonal, or on and below it; 0 elsewhere."""
    if x.rank < 2:
        raise OnnxError(f"{to.place}: expected matrices, found {shape_text(x.shape)}")
    k = 0 if diagonal is None else int(to.scalar(diagonal, "k"))
    inside = _band(to, x.shape, "ge" if to.integer("upper", 1) else "le", k)
    return to.result(to.select(inside, to.value(x), to.splat(0, x.shape, x.type)), x.shape, x.type)


def _band(to: Node, shape: Shape, predicate: str, k: int) -> SSAValue:
    """Where column - row compares so with k."""
    rank = len(shape)
    offset = to.binary(arith.SubiOp, to.iota(shape, rank - 1), to.iota(shape, rank - 2))
    return to.compare(predicate, offset, to.splat(k, shape, INT64), INT64)


@emits("TopK")
def top_k(to: Node, x: Tensor, k: Tensor) -> list[Tensor]:
    count = int(to.scalar(k, "K"))
    axis = x.axis(to.integer("axis", -1))
    size = x.shape[axis]
    if count < 1 or not x.rank or not isinstance(size, int) or count > size:
        raise OnnxError(f"{to.place}: K: expected 1 to {size}, found {count}")
    order = [*(n for n in range(x.rank) if n != axis), axis]
    last = transposed(to, x, order)
    shape = (*last.shape[:-1], count)
    if size == 1:
        values, indices = to.value(last), to.splat(0, shape, INT64)
    else:
        is_largest = bool(to.integer("largest", 1))
        values, indices = to.build.top_k(_ordered(to, to.value(last), x.type), count, largest=is_largest)
        values = _ordered(to, values, x.type)
    back = [order.index(n) for n in range(x.rank)]
    results = (to.result(values, shape, x.type), to.result(indices, shape, INT64))
    return [transposed(to, result, back) for result in results]


def _ordered(to: Node, value: SSAValue, type: DataType) -> SSAValue:
    """Unsigned integers in the order of signed ones, and back: the highest bit is turned over."""
    if not type.is_unsigned:
        return value
    highest = to.build.splat(-(1 << type.held_bits - 1), shape_of(value), type.element)
    return to.binary(arith.XOrIOp, value, highest)


@emits("CumSum")
def cumulative_sum(to: Node, x: Tensor, axis: Tensor) -> Tensor:
    """Each element with those before it: the sum of x under a mask of the indices that count."""
    place = x.axis(int(to.scalar(axis, "axis")))
    length = x.shape[place]
    shape = (*x.shape, length)
    if not isinstance(length, int):
        raise Unsupported(f"along an axis of {length}")
    to.check_size(shape)
    moved = transposed(to, x, [*(n for n in range(x.rank) if n != place), place])
    wide = (*moved.shape[:-1], length, length)
    offset = to.binary(arith.SubiOp, to.iota(wide, x.rank - 1), to.iota(wide, x.rank))
    reverse, exclusive = to.integer("reverse", 0), to.integer("exclusive", 0)
    predicate = ("lt" if exclusive else "le") if reverse else ("gt" if exclusive else "ge")
    counts = to.compare(predicate, offset, to.splat(0, wide, INT64), INT64)
    apart = (*moved.shape[:-1], 1, length)
    spread = to.stretch(to.value(moved), apart, wide)
    masked = to.result(to.select(counts, spread, to.splat(0, wide, x.type)), wide, x.type)
    total = reduced(to, masked, [x.rank], ADD, 0)
    summed = to.result(to.value(total), moved.shape, x.type)
    back = [*range(place), x.rank - 1, *range(place, x.rank - 1)]
    return transposed(to, summed, back)
