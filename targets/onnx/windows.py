"""`ternary.windows` and `ternary.convolve` as ONNX nodes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, IntegerType, f32

from sterna.dialects.elements import dtype_of
from sterna.dialects.ternary import ConvolveOp, WindowsOp, tensor
from sterna.targets.onnx.graph import Graph
from sterna.targets.onnx.rows import Results, product


def numbers(array: DenseArrayBase[IntegerType]) -> tuple[int, ...]:
    return tuple(int(number) for number in array.get_values())


def windows(graph: Graph, op: WindowsOp, x: str) -> Results:
    return (graph.reshape(slide(graph, op, x), tensor(op.result).get_shape()),)


def slide(graph: Graph, op: WindowsOp | ConvolveOp, x: str) -> str:
    """All windows, axes of size 1 included: for every axis that slides a look-up, whose two axes are then moved."""
    shape, axes, leading = tensor(op.x).get_shape(), numbers(op.axes), op.leading.value.data
    sizes, strides, dilations = numbers(op.sizes), numbers(op.strides), numbers(op.dilations)
    positions = op.full_shape(shape)[leading : leading + len(axes)]
    value = _pad(graph, op, x)
    # From the last axis to the first, so that those before it keep their numbers.
    for axis, size, stride, dilation, count in reversed(
        list(zip(axes, sizes, strides, dilations, positions, strict=True))
    ):
        offsets = np.arange(size, dtype=np.int64) * dilation
        if count == DYNAMIC_INDEX:
            # As many positions as elements: the padding has added the span of a window less one.
            first = graph.unsqueeze(_count_to(graph, _size_of(graph, x, axis)), 1)
            at = graph.node("Add", first, graph.constant(offsets))
        else:
            at = graph.constant(np.add.outer(np.arange(count, dtype=np.int64) * stride, offsets))
        value = graph.node("Gather", value, at, axis=axis)
    # Each sliding axis is now two, its positions and its offsets.
    place = {axis: axis + sum(slid < axis for slid in axes) for axis in range(len(shape))}
    rest = [place[axis] for axis in range(leading, len(shape)) if axis not in axes]
    order = [*range(leading), *(place[a] for a in axes), *rest, *(place[a] + 1 for a in axes)]
    return graph.node("Transpose", value, perm=order)


def convolve(graph: Graph, op: ConvolveOp, x: str, w: str) -> Results:
    """`ConvInteger` or `Conv` where a group reads whole channels; else a product with all windows."""
    shape, (channels, columns) = tensor(op.x).get_shape(), tensor(op.w).get_shape()
    sizes, result = numbers(op.sizes), tensor(op.acc).get_shape()
    if not columns or columns % prod(sizes) or 0 in shape:
        rows = graph.reshape(slide(graph, op, x), (*result[:-1], columns * op.group_count))
        return (product(graph, rows, result[:-1], tensor(op.x).element_type, op.w, w, op.group_count),)
    is_padded_by_node = op.padding.value.data != 0
    low, high = numbers(op.low), numbers(op.high)
    image = _as_image(graph, op, _pad(graph, op, x) if is_padded_by_node else x)
    kernel = graph.reshape(w, (channels, columns // prod(sizes), *sizes))
    attributes: dict[str, Any] = {
        "kernel_shape": sizes,
        "strides": numbers(op.strides),
        "dilations": numbers(op.dilations),
        "pads": [0] * (2 * len(sizes)) if is_padded_by_node else [*low, *high],
        "group": op.group_count,
    }
    if tensor(op.x).element_type == f32:
        sums = graph.node("Conv", image, graph.cast(kernel, TensorProto.FLOAT), **attributes)
    else:
        sums = graph.node("ConvInteger", image, kernel, **attributes)
    last = graph.node("Transpose", sums, perm=[0, *range(2, 2 + len(sizes)), 1])
    is_shaped = op.leading.value.data == 1 and len(result) == 2 + len(sizes)
    return (last if is_shaped else graph.reshape(last, result),)


def _as_image(graph: Graph, op: ConvolveOp, x: str) -> str:
    """x as `[N, C, *spatial]`: the leading axes are the batch, those that do not slide the channels."""
    shape, axes, leading = tensor(op.x).get_shape(), numbers(op.axes), op.leading.value.data
    rest = [axis for axis in range(leading, len(shape)) if axis not in axes]
    order = [*range(leading), *rest, *axes]
    if order != sorted(order):
        x = graph.node("Transpose", x, perm=order)
    if (leading, len(rest)) == (1, 1):
        return x
    # Both counts are static but where T leads, so that one of the two may be -1.
    first = [-1 if DYNAMIC_INDEX in shape[:leading] else prod(shape[:leading]), prod(shape[a] for a in rest)]
    spatial = graph.node("Shape", x, start=len(shape) - len(axes))
    return graph.node("Reshape", x, graph.node("Concat", graph.integers(first), spatial, axis=0))


def _pad(graph: Graph, op: WindowsOp | ConvolveOp, x: str) -> str:
    before, after = [0] * tensor(op.x).get_num_dims(), [0] * tensor(op.x).get_num_dims()
    for axis, low, high in zip(numbers(op.axes), numbers(op.low), numbers(op.high), strict=True):
        before[axis], after[axis] = low, high
    if not any((*before, *after)):
        return x
    number = np.array(op.padding.value.data, dtype_of(tensor(op.x)))
    return graph.node("Pad", x, graph.integers([*before, *after]), graph.constant(number))


def _size_of(graph: Graph, x: str, axis: int) -> str:
    size = graph.node("Shape", x, start=axis, end=axis + 1)
    return graph.squeeze(size, 0)


def _count_to(graph: Graph, count: str) -> str:
    zero, one = (graph.constant(np.array(number, np.int64)) for number in (0, 1))
    return graph.node("Range", zero, count, one)
