"""Sliding windows: what Conv and the poolings say of their kernels, strides and paddings, as `ternary.windows`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from xdsl.ir import SSAValue

from sterna.frontends.onnx.data_types import DataType
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.sizes import Dim, Shape, Size, ir_shape, ir_size, shape_text

LARGEST_SIZE = 1 << 31


@dataclass(frozen=True)
class Window:
    """What slides over one axis."""

    size: int
    """Elements of the kernel along the axis."""
    stride: int = 1
    dilation: int = 1
    low: int = 0
    """Elements of padding before the first."""
    high: int = 0
    beyond: int = 0
    """Elements behind the padding that the last window reaches into, where ceil_mode adds one."""

    @property
    def span(self) -> int:
        """From the first element of a window to its last, both included."""
        return (self.size - 1) * self.dilation + 1

    @property
    def is_still(self) -> bool:
        """Each element is the only one of its window."""
        return (self.size, self.stride, self.low, self.high) == (1, 1, 0, 0)

    def positions(self, length: Dim) -> Dim:
        """How many windows there are on an axis of that many elements."""
        if isinstance(length, Size):
            return length
        return (length + self.low + self.high + self.beyond - self.span) // self.stride + 1


def read_windows(to: Node, spatial: Shape, kernel: Sequence[int]) -> list[Window]:
    """The windows of a node's attributes over its spatial axes. OnnxError for attributes that do not fit them."""
    rank = len(spatial)
    strides, dilations = (_per_axis(to, name, rank) for name in ("strides", "dilations"))
    if any(not 1 <= size <= LARGEST_SIZE for size in kernel):
        raise OnnxError(f"{to.place}: kernel_shape: expected sizes of 1 or more, found {list(kernel)}")
    pads = to.integers("pads", [0] * (2 * rank))
    if len(pads) != 2 * rank or any(not 0 <= pad <= LARGEST_SIZE for pad in pads):
        raise OnnxError(f"{to.place}: pads: expected {2 * rank} numbers of 0 or more, found {pads}")
    windows: list[Window] = []
    for axis, (size, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        window = Window(size, stride, dilation, pads[axis], pads[rank + axis])
        windows.append(_padded(to, window, spatial[axis]))
    return windows


def _per_axis(to: Node, name: str, rank: int) -> list[int]:
    numbers = to.integers(name, [1] * rank)
    if len(numbers) != rank or any(not 1 <= number <= LARGEST_SIZE for number in numbers):
        raise OnnxError(f"{to.place}: {name}: expected {rank} numbers of 1 or more, found {numbers}")
    return numbers


def _padded(to: Node, window: Window, length: Dim) -> Window:
    """The window with the padding that auto_pad and ceil_mode choose for an axis of that many elements."""
    match to.text("auto_pad", "NOTSET"):
        case "NOTSET":
            pass
        case "VALID":
            window = replace(window, low=0, high=0)
        case "SAME_UPPER" | "SAME_LOWER" as side:
            window = _same(window, length, extra_is_low=side == "SAME_LOWER")
        case other:
            raise OnnxError(
                f"{to.place}: auto_pad: '{other}' is none of NOTSET, VALID, SAME_UPPER, SAME_LOWER"
            )
    if isinstance(length, Size):
        if window.stride != 1 or window.low + window.high != window.span - 1:
            raise Unsupported(
                "windows along an axis of unknown size, unless there is one for each of its elements"
            )
        return window
    if to.has("ceil_mode") and to.integer("ceil_mode"):
        window = _reaching_beyond(window, length)
    if window.span > length + window.low + window.high:
        found = f"{length} with {window.low} and {window.high} of padding"
        raise OnnxError(f"{to.place}: a window of {window.span} is longer than its axis, {found}")
    return window


def _same(window: Window, length: Dim, *, extra_is_low: bool) -> Window:
    """Padded to one window for each stride of the axis."""
    if isinstance(length, Size):
        total = window.span - 1
    else:
        total = max((ceil(length / window.stride) - 1) * window.stride + window.span - length, 0)
    less, more = total // 2, total - total // 2
    return replace(window, low=more if extra_is_low else less, high=less if extra_is_low else more)


def _reaching_beyond(window: Window, length: int) -> Window:
    """ceil_mode: a last window that is not whole counts, unless it starts behind the elements and their low padding."""
    padded = length + window.low + window.high
    count = ceil((padded - window.span) / window.stride) + 1
    if (count - 1) * window.stride >= length + window.low:
        count -= 1
    return replace(window, beyond=max((count - 1) * window.stride + window.span - padded, 0))


def slide(
    to: Node,
    value: SSAValue,
    shape: Shape,
    windows: Sequence[Window],
    padding: float,
    type: DataType,
    *,
    leading: int,
) -> tuple[SSAValue, Shape]:
    """All windows over the last axes of `shape`, and their ONNX shape `[*leading, *positions, *rest, *sizes]`.

    `leading` axes stay in front; `rest` are those between them and the spatial ones.
    """
    first = len(shape) - len(windows)
    positions = tuple(window.positions(shape[first + axis]) for axis, window in enumerate(windows))
    rest, sizes = shape[leading:first], tuple(window.size for window in windows)
    result = (*shape[:leading], *positions, *rest, *sizes)
    to.check_size(result)
    padded = list(shape)
    windows = list(windows)
    for axis, window in enumerate(windows):
        if ir_size(padded[first + axis]) == 1 and not window.is_still:
            value, length = _with_padding(to, value, padded, first + axis, window, padding, type)
            padded[first + axis] = length
            windows[axis] = replace(window, low=0, high=0, beyond=0)
    kept = [axis for axis in range(len(windows)) if ir_size(padded[first + axis]) != 1]
    moving = [windows[axis] for axis in kept]
    in_front = len(ir_shape(shape[:leading]))
    places = [len(ir_shape(tuple(padded[: first + axis]))) for axis in kept]
    if all(window.is_still for window in moving):
        others = range(in_front, len(ir_shape(shape[:first])))
        return to.build.transpose(value, [*range(in_front), *places, *others]), result
    value = to.build.windows(
        value,
        places,
        [window.size for window in moving],
        leading=in_front,
        strides=[window.stride for window in moving],
        dilations=[window.dilation for window in moving],
        low=[window.low for window in moving],
        high=[window.high + window.beyond for window in moving],
        padding=padding,
    )
    return value, result


def _with_padding(
    to: Node, value: SSAValue, shape: Sequence[Dim], axis: int, window: Window, padding: float, type: DataType
) -> tuple[SSAValue, int]:
    """An axis of size 1, which the IR does not have, with its padding written out; and its new length."""
    length = 1 + window.low + window.high + window.beyond
    if length == 1:
        return value, 1
    wide = (*shape[:axis], length, *shape[axis + 1 :])
    around = to.splat(padding, wide, type)
    return to.build.insert_slice(value, around, len(ir_shape(tuple(shape[:axis]))), window.low), length


def spatial_axes(to: Node, shape: Shape) -> Shape:
    """The axes behind batch and channels. OnnxError if there are none."""
    if len(shape) < 3:
        raise OnnxError(
            f"{to.place}: expected a batch, channels and one spatial axis or more, found {shape_text(shape)}"
        )
    return shape[2:]
