"""Operators that take a part of a tensor, join parts, or pad: Slice, Split, Concat, Pad, Tile, and blocks of space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX

from sterna.frontends.onnx.data_types import INT64
from sterna.frontends.onnx.emitters import EmitterTable
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.node import LARGEST_FOLD, Node
from sterna.frontends.onnx.shapes import reshaped, transposed
from sterna.frontends.onnx.sizes import (
    Dim,
    Shape,
    Size,
    count_elements,
    ir_shape,
    ir_size,
    is_less,
    shape_text,
)
from sterna.frontends.onnx.values import Tensor, known

EMITTERS = EmitterTable()
emits = EMITTERS.of

LARGEST_INDEX = 1 << 62
"""Beyond it, a bound of a slice means the end of the axis."""


def sliced(to: Node, x: Tensor, axis: int, start: Dim, count: Dim, step: int = 1) -> Tensor:
    """`count` elements of an axis from `start` on; the axis stays."""
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    if start == 0 and step == 1 and count == x.shape[axis]:
        return x
    if count == 0:
        return to.result(to.splat(0, shape, x.type), shape, x.type)
    if (place := x.ir_axis(axis)) is None:
        return to.result(to.value(x), shape, x.type)
    if step < 0 or isinstance(count, Size):
        return _looked_up(to, x, axis, start, count, step)
    if isinstance(start, int):
        return to.result(to.build.slice(to.value(x), place, start, count, step), shape, x.type)
    offset = start - x.shape[axis]
    if ir_size(x.shape[axis]) != DYNAMIC_INDEX or not isinstance(offset, int) or count != 1:
        raise Unsupported(f"elements {start} and on of an axis of {x.shape[axis]}")
    assert to.build.rows is not None
    first = to.build.add(arith.SubiOp(to.build.rows, to.build.index(-offset)))
    return to.result(to.build.slice(to.value(x), place, first, 1), shape, x.type)


def _looked_up(to: Node, x: Tensor, axis: int, start: Dim, count: Dim, step: int) -> Tensor:
    """A slice backwards, or of as many elements as there are rows, is a look-up."""
    place, shape = x.ir_axis(axis), (*x.shape[:axis], count, *x.shape[axis + 1 :])
    assert place is not None
    if isinstance(start, Size) or isinstance(x.shape[axis], Size):
        raise Unsupported(f"elements {start} and on of an axis of {x.shape[axis]}")
    index = to.iota([count], 0)
    if step != 1:
        index = to.binary(arith.MuliOp, index, to.splat(step, [count], INT64))
    if start:
        index = to.binary(arith.AddiOp, index, to.splat(start, [count], INT64))
    return to.result(to.build.gather(to.value(x), index, place), shape, x.type)


@emits("Slice", since=10)
def slice_(
    to: Node,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last = to.dims(starts, "starts"), to.dims(ends, "ends")
    named = list(range(len(first))) if axes is None else to.ints(axes, "axes")
    strides = [1] * len(first) if steps is None else to.ints(steps, "steps")
    if not len(first) == len(last) == len(named) == len(strides):
        raise OnnxError(f"{to.place}: starts, ends, axes and steps are not equally many")
    if len({x.axis(axis) for axis in named}) != len(named) or 0 in strides:
        raise OnnxError(f"{to.place}: expected different axes and steps other than 0")
    ranges = {
        x.axis(axis): slice_range(x.shape[x.axis(axis)], start, end, step)
        for axis, start, end, step in zip(named, first, last, strides, strict=True)
    }
    arrays = to.folds(x)
    if arrays is not None and not any(isinstance(n, Size) for found in ranges.values() for n in found):
        part = arrays[0]
        for axis, (start, count, step) in ranges.items():
            part = np.take(part, [int(str(start)) + step * n for n in range(int(str(count)))], axis)
        return to.folded(part, x.type)
    for axis, (start, count, step) in ranges.items():
        x = sliced(to, x, axis, start, count, step)
    return x


def slice_range(size: Dim, start: Dim, end: Dim, step: int) -> tuple[Dim, Dim, int]:
    """Where a slice of an axis starts, how many elements it has, and its step: numpy's rule."""
    low, high = (0, size) if step > 0 else (-1, size - 1)
    first, last = _bound(size, start, low, high), _bound(size, end, low, high)
    span = last - first if step > 0 else first - last
    stride = abs(step)
    if isinstance(span, Size):
        if stride != 1:
            raise Unsupported(f"every {stride}th element of an axis of {size}")
        return first, span, step
    return first, max(-(-span // stride), 0), step


def _bound(size: Dim, bound: Dim, low: Dim, high: Dim) -> Dim:
    """A bound counted from the front, and kept inside the axis."""
    if isinstance(bound, int):
        if bound >= LARGEST_INDEX:
            return high
        if bound <= -LARGEST_INDEX:
            return low
    counted = bound + size if is_less(bound, 0) else bound
    if isinstance(counted, Size) and isinstance(size, int):
        # A table that is cut to the rows there are: they are no more than it has.
        return counted
    if isinstance(size, Size) and isinstance(bound, int) and bound > 0:
        raise Unsupported(f"the first {bound} of an axis of {size}")
    return low if is_less(counted, low) else high if is_less(high, counted) else counted


@emits("Split", since=13)
def split(to: Node, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
    axis = x.axis(to.integer("axis", 0))
    size, parts = x.shape[axis], to.output_count
    if sizes is not None:
        counts = to.ints(sizes, "split")
    elif isinstance(size, Size):
        raise Unsupported(f"an axis of {size}")
    else:
        if (wanted := to.integer("num_outputs", parts)) != parts:
            raise OnnxError(f"{to.place}: num_outputs is {wanted}, but there are {parts} outputs")
        chunk = -(-size // parts)
        counts = [max(min(chunk, size - n * chunk), 0) for n in range(parts)]
    if len(counts) != parts or sum(counts) != size or min(counts) < 0:
        raise OnnxError(f"{to.place}: split: {counts} are not {parts} parts of {size}")
    starts = [sum(counts[:n]) for n in range(parts)]
    if (arrays := to.folds(x)) is not None:
        pieces = np.split(arrays[0], starts[1:], axis)
        return [known(piece, x.type, to.output_name(n)) for n, piece in enumerate(pieces)]
    return [sliced(to, x, axis, start, count) for start, count in zip(starts, counts, strict=True)]


@emits("Concat")
def concat(to: Node, *inputs: Tensor) -> Tensor:
    if not inputs[0].rank:
        raise OnnxError(f"{to.place}: scalars have no axis to join along")
    axis = inputs[0].axis(to.integer("axis"))
    for tensor in inputs:
        if not _differ_only_at(axis, tensor.shape, inputs[0].shape):
            shapes = ", ".join(shape_text(each.shape) for each in inputs)
            raise OnnxError(f"{to.place}: the shapes {shapes} do not fit each other")
    if (arrays := to.folds(*inputs)) is not None:
        return to.folded(np.concatenate(arrays, axis), inputs[0].type)
    return joined(to, inputs, axis)


def joined(to: Node, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors that differ in one axis only, joined along it."""
    first = parts[0]
    total: Dim = sum((tensor.shape[axis] for tensor in parts), start=0)
    shape = (*first.shape[:axis], total, *first.shape[axis + 1 :])
    to.check_size(shape)
    parts = [tensor for tensor in parts if tensor.shape[axis] != 0]
    if len(parts) == 1:
        return to.result(to.value(parts[0]), shape, first.type)
    before, after = ir_shape(shape[:axis]), ir_shape(shape[axis + 1 :])
    values = [to.ir_reshape(to.value(part), (*before, ir_size(part.shape[axis]), *after)) for part in parts]
    if any(ir_size(part.shape[axis]) == DYNAMIC_INDEX for part in parts):
        raise Unsupported("joining along the axis of unknown size")
    return to.result(to.build.concat(values, len(before)), shape, first.type)


def _differ_only_at(axis: int, shape: Shape, other: Shape) -> bool:
    return (
        len(shape) == len(other) and shape[:axis] == other[:axis] and shape[axis + 1 :] == other[axis + 1 :]
    )


@emits("Tile")
def tile(to: Node, x: Tensor, repeats: Tensor) -> Tensor:
    counts = to.ints(repeats, "repeats")
    if len(counts) != x.rank or min(counts, default=0) < 0:
        raise OnnxError(f"{to.place}: repeats: expected {x.rank} numbers >= 0, found {counts}")
    shape = tuple(size * count for size, count in zip(x.shape, counts, strict=True))
    to.check_size(shape)
    total = count_elements(shape)
    if (arrays := to.folds(x)) is not None and isinstance(total, int) and total <= LARGEST_FOLD:
        return to.folded(np.tile(arrays[0], counts), x.type)
    for axis, count in enumerate(counts):
        if count != 1:
            # As a new axis before the one that repeats, merged into it.
            wide = (*x.shape[:axis], count, *x.shape[axis:])
            apart = (*x.shape[:axis], 1, *x.shape[axis:])
            repeated = to.stretch(to.value(x), apart, wide)
            result = (*x.shape[:axis], count * x.shape[axis], *x.shape[axis + 1 :])
            x = to.result(to.reshape(repeated, result), result, x.type)
    return x


@emits("Pad", since=11)
def pad(
    to: Node, x: Tensor, pads: Tensor, number: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    counts = to.ints(pads, "pads")
    named = [x.axis(axis) for axis in (range(x.rank) if axes is None else to.ints(axes, "axes"))]
    if len(counts) != 2 * len(named) or len(set(named)) != len(named):
        raise OnnxError(f"{to.place}: pads: expected 2 for each of {len(named)} axes, found {len(counts)}")
    mode = to.text("mode", "constant")
    for axis, low, high in zip(named, counts[: len(named)], counts[len(named) :], strict=True):
        low, high, x = _cropped(to, x, axis, low, high)
        if not low and not high:
            continue
        if mode == "constant":
            filler = 0 if number is None else to.scalar(number, "constant_value")
            x = padded(to, x, axis, low, high, filler)
        else:
            x = _padded_from_itself(to, x, axis, low, high, mode)
    return x


def _cropped(to: Node, x: Tensor, axis: int, low: int, high: int) -> tuple[int, int, Tensor]:
    """Negative padding takes elements away; what is left to add."""
    if low >= 0 and high >= 0:
        return low, high, x
    size = x.shape[axis]
    if isinstance(size, Size) or size < -min(low, 0) - min(high, 0):
        raise Unsupported(f"padding of {low} and {high} of an axis of {size}")
    x = sliced(to, x, axis, -min(low, 0), size + min(low, 0) + min(high, 0))
    return max(low, 0), max(high, 0), x


def padded(to: Node, x: Tensor, axis: int, low: int, high: int, number: float) -> Tensor:
    """x with `low` elements before and `high` after those of an axis."""
    size = x.shape[axis]
    if isinstance(size, Size) and ir_size(size) != 1:
        raise Unsupported(f"padding an axis of {size}")
    shape = (*x.shape[:axis], size + low + high, *x.shape[axis + 1 :])
    to.check_size(shape)
    if size == 0:
        return to.result(to.splat(number, shape, x.type), shape, x.type)
    before, after = ir_shape(x.shape[:axis]), ir_shape(x.shape[axis + 1 :])
    apart = to.ir_reshape(to.value(x), (*before, ir_size(size), *after))
    lows, highs = [0] * (len(before) + 1 + len(after)), [0] * (len(before) + 1 + len(after))
    lows[len(before)], highs[len(before)] = low, high
    return to.result(to.build.pad(apart, lows, highs, number), shape, x.type)


def _padded_from_itself(to: Node, x: Tensor, axis: int, low: int, high: int, mode: str) -> Tensor:
    """reflect, edge and wrap look up elements of the axis itself."""
    size = x.shape[axis]
    if isinstance(size, Size):
        raise Unsupported(f"padding an axis of {size}")
    to.check_size((*x.shape[:axis], size + low + high, *x.shape[axis + 1 :]))
    place = np.arange(-low, size + high)
    match mode:
        case "edge" if size:
            index = place.clip(0, size - 1)
        case "wrap" if size:
            index = place % size
        case "reflect" if size > 1:
            period = place % (2 * size - 2)
            index = np.minimum(period, 2 * size - 2 - period)
        case "reflect" | "edge" | "wrap":
            raise Unsupported(f"{mode} padding of an axis of {size}")
        case _:
            raise OnnxError(f"{to.place}: mode: expected constant, reflect, edge or wrap, found '{mode}'")
    return taken(to, x, axis, index.tolist())


def taken(to: Node, x: Tensor, axis: int, indices: Sequence[int]) -> Tensor:
    """Elements of an axis, by numbers known when compiling; the axis stays."""
    shape = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
    to.check_size(shape)
    before, after = ir_shape(x.shape[:axis]), ir_shape(x.shape[axis + 1 :])
    apart = to.ir_reshape(to.value(x), (*before, ir_size(x.shape[axis]), *after))
    index = to.value(known(np.array(indices, np.int64)))
    return to.result(to.build.gather(apart, index, len(before)), shape, x.type)


@emits("DepthToSpace")
def depth_to_space(to: Node, x: Tensor) -> Tensor:
    block, batch, depth, height, width = _blocks(to, x)
    if not isinstance(depth, int) or depth % (block * block):
        raise OnnxError(f"{to.place}: {depth} channels are not {block} x {block} times some")
    rest = depth // (block * block)
    match to.text("mode", "DCR"):
        case "DCR":
            split, order = [batch, block, block, rest, height, width], [0, 3, 4, 1, 5, 2]
        case "CRD":
            split, order = [batch, rest, block, block, height, width], [0, 1, 4, 2, 5, 3]
        case other:
            raise OnnxError(f"{to.place}: mode: expected DCR or CRD, found '{other}'")
    moved = transposed(to, reshaped(to, x, split), order)
    return reshaped(to, moved, [batch, rest, height * block, width * block])


@emits("SpaceToDepth")
def space_to_depth(to: Node, x: Tensor) -> Tensor:
    block, batch, depth, height, width = _blocks(to, x)
    if not isinstance(height, int) or not isinstance(width, int) or height % block or width % block:
        raise OnnxError(f"{to.place}: {height} x {width} is not made of blocks of {block} x {block}")
    split = [batch, depth, height // block, block, width // block, block]
    match to.text("mode", "DCR"):
        case "DCR":
            order = [0, 3, 5, 1, 2, 4]
        case "CRD":
            order = [0, 1, 3, 5, 2, 4]
        case other:
            raise OnnxError(f"{to.place}: mode: expected DCR or CRD, found '{other}'")
    moved = transposed(to, reshaped(to, x, split), order)
    return reshaped(to, moved, [batch, depth * block * block, height // block, width // block])


def _blocks(to: Node, x: Tensor) -> tuple[int, Dim, Dim, Dim, Dim]:
    block = to.integer("blocksize")
    if x.rank != 4 or block < 1:
        raise OnnxError(
            f"{to.place}: expected four axes and a block of 1 or more, found {shape_text(x.shape)}"
        )
    batch, depth, height, width = x.shape
    return block, batch, depth, height, width
