"""Poolings: windows over the spatial axes, then a reduction of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects import arith, math
from xdsl.ir import SSAValue

from sterna.frontends.onnx.data_types import FLOAT, DataType
from sterna.frontends.onnx.elementwise import MAXIMUM
from sterna.frontends.onnx.emitters import EmitterTable
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.sizes import Dim, Shape, count_elements, ir_shape
from sterna.frontends.onnx.values import Tensor, dims_array, known
from sterna.frontends.onnx.windows import Window, read_windows, slide, spatial_axes

EMITTERS = EmitterTable()
emits = EMITTERS.of

Array = npt.NDArray[Any]


def pool_windows(to: Node, x: Tensor) -> list[Window]:
    """The windows over the spatial axes of x."""
    spatial = spatial_axes(to, x.shape)
    kernel = to.integers("kernel_shape")
    if len(kernel) != len(spatial):
        raise OnnxError(f"{to.place}: kernel_shape: expected {len(spatial)} numbers, found {kernel}")
    return read_windows(to, spatial, kernel)


def windowed(
    to: Node, x: Tensor, value: SSAValue, windows: Sequence[Window], padding: float
) -> tuple[SSAValue, Shape]:
    """`[N, C, *positions, *sizes]` of a value of x's shape and type, as one with its axes of sizes last."""
    value, shape = slide(to, value, x.shape, windows, padding, x.type, leading=2)
    return value, shape[: x.rank]


def reduced_axes(shape: Shape, windows: Sequence[Window]) -> list[int]:
    """The axes of the IR that a window's elements lie along, behind those of `shape`."""
    first = len(ir_shape(shape))
    return list(range(first, first + sum(window.size != 1 for window in windows)))


def largest(to: Node, value: SSAValue, axes: Sequence[int], type: DataType) -> SSAValue:
    if not axes:
        return value
    floats, signed, unsigned = MAXIMUM
    op: Any = floats if type.is_float else unsigned if type.is_unsigned else signed
    return to.build.reduce(value, axes, lambda a, b: op(a, b), type.smallest)


def total(to: Node, value: SSAValue, axes: Sequence[int]) -> SSAValue:
    return to.build.reduce(value, axes, arith.AddfOp, 0.0) if axes else value


@emits("MaxPool")
def max_pool(to: Node, x: Tensor) -> Tensor:
    if to.output_count > 1 and to.output_name(1):
        raise Unsupported("the output 'Indices'")
    windows = pool_windows(to, x)
    value, shape = windowed(to, x, to.value(x), windows, x.type.smallest)
    return to.result(largest(to, value, reduced_axes(shape, windows), x.type), shape, x.type)


@emits("AveragePool")
def average_pool(to: Node, x: Tensor) -> Tensor:
    """The sum of a window, by the number of elements in it; with count_include_pad those of the padding count."""
    windows = pool_windows(to, x)
    value, shape = windowed(to, x, to.value(x), windows, 0.0)
    sums = total(to, value, reduced_axes(shape, windows))
    counts = _counts(to, x, windows, is_padding_counted=bool(to.integer("count_include_pad", 0)))
    return to.result(to.binary(arith.DivfOp, sums, to.broadcast(counts, shape)), shape, x.type)


def _counts(to: Node, x: Tensor, windows: Sequence[Window], *, is_padding_counted: bool) -> Tensor:
    """How many elements each window has, `[*positions]`."""
    counts = np.ones((), np.float32)
    for window, length in zip(windows, x.shape[2:], strict=True):
        if not isinstance(length, int):
            if is_padding_counted or window.size == 1:
                counts = np.multiply.outer(counts, np.full(1, window.size, np.float32))
                continue
            raise Unsupported("an average that leaves out padding, along an axis of unknown size")
        count = window.positions(length)
        assert isinstance(count, int)
        at = np.add.outer(
            np.arange(count) * window.stride - window.low, np.arange(window.size) * window.dilation
        )
        low, high = (-window.low, length + window.high) if is_padding_counted else (0, length)
        counts = np.multiply.outer(counts, ((at >= low) & (at < high)).sum(1).astype(np.float32))
    return known(counts, FLOAT, f"{to.output_name(0)}.counts")


@emits("LpPool")
def lp_pool(to: Node, x: Tensor) -> Tensor:
    """(sum |x|^p)^(1/p) over a window."""
    windows, p = pool_windows(to, x), to.integer("p", 2)
    value, shape = windowed(to, x, powers(to, x, p), windows, 0.0)
    return to.result(root(to, total(to, value, reduced_axes(shape, windows)), shape, x, p), shape, x.type)


def powers(to: Node, x: Tensor, p: int) -> SSAValue:
    """|x|^p"""
    value = to.value(x)
    match p:
        case 1:
            return to.unary(math.AbsFOp, value)
        case 2:
            return to.binary(arith.MulfOp, value, value)
        case _:
            return to.binary(math.PowFOp, to.unary(math.AbsFOp, value), to.splat(p, x.shape, x.type))


def root(to: Node, value: SSAValue, shape: Sequence[Dim], x: Tensor, p: int) -> SSAValue:
    match p:
        case 1:
            return value
        case 2:
            return to.unary(math.SqrtOp, value)
        case _:
            return to.binary(math.PowFOp, value, to.splat(1 / p, shape, x.type))


def all_spatial(to: Node, x: Tensor) -> tuple[list[int], Shape]:
    """The IR's axes behind the channels, and the shape of what is left of x when they are reduced."""
    spatial = spatial_axes(to, x.shape)
    return x.ir_axes(list(range(2, x.rank))), (*x.shape[:2], *([1] * len(spatial)))


@emits("GlobalMaxPool")
def global_max_pool(to: Node, x: Tensor) -> Tensor:
    axes, shape = all_spatial(to, x)
    return to.result(largest(to, to.value(x), axes, x.type), shape, x.type)


@emits("GlobalAveragePool")
def global_average_pool(to: Node, x: Tensor) -> Tensor:
    axes, shape = all_spatial(to, x)
    sums = total(to, to.value(x), axes)
    return to.result(
        to.binary(arith.DivfOp, sums, element_count(to, x.shape[2:], shape, x.type)), shape, x.type
    )


def element_count(to: Node, sizes: Shape, shape: Shape, type: DataType) -> SSAValue:
    """The product of sizes, unknown ones among them, as floats of `shape`."""
    count = known(dims_array([count_elements(sizes)]).reshape(()))
    return to.broadcast(to.cast(count, type), shape)


@emits("GlobalLpPool")
def global_lp_pool(to: Node, x: Tensor) -> Tensor:
    axes, shape = all_spatial(to, x)
    p = to.integer("p", 2)
    return to.result(root(to, total(to, powers(to, x, p), axes), shape, x, p), shape, x.type)
