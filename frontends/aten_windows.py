"""ATen's convolutions, poolings and padding, as sliding windows. See `aten` for what a table of emitters is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod

from torch.fx import Node
from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX
from xdsl.ir import SSAValue

from sterna.frontends.aten import EmitterTable, aten
from sterna.frontends.aten_products import product
from sterna.frontends.aten_reductions import mean_of, reduce_axes
from sterna.frontends.joined import Joined
from sterna.frontends.lowering import Lowering, Meta, Unsupported
from sterna.frontends.tensor_builder import without_units

EMITTERS = EmitterTable()
emits = EMITTERS.of


@dataclass(frozen=True)
class Sliding:
    """How windows slide over the last axes of a tensor: a number for each of these axes."""

    sizes: Sequence[int]
    strides: Sequence[int]
    low: Sequence[int]
    """Padding before the first element; behind the last one it is what the number of positions calls for."""
    dilations: Sequence[int]

    @staticmethod
    def of(
        sizes: Sequence[int] | int,
        strides: Sequence[int] | int,
        low: Sequence[int] | int,
        dilations: Sequence[int] | int,
        rank: int,
    ) -> Sliding:
        """As torch's arguments say it, which may be one number for all axes."""
        each = [_for_each(numbers, rank) for numbers in (sizes, strides or sizes, low, dilations)]
        return Sliding(*each)

    @property
    def spans(self) -> list[int]:
        """How far a window reaches."""
        return [(size - 1) * by + 1 for size, by in zip(self.sizes, self.dilations, strict=True)]


@emits(aten.convolution.default)
def convolution(
    to: Lowering,
    x: Node,
    weight: Node,
    bias: Node | None,
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
    transposed: bool,
    output_padding: object,
    groups: int,
) -> SSAValue:
    """The windows of x, each multiplied by the weight as a matrix `[M, C / groups * window]`."""
    if transposed:
        raise Unsupported("a transposed convolution")
    result, matrix = to.result, to.meta(weight)
    channels, per_group, *sizes = matrix.shape
    batch, _, *positions = result.shape
    sliding = Sliding.of(sizes, strides, padding, dilations, len(sizes))
    if isinstance(joined := to.values[x], Joined):
        windows = _causal_windows(to, joined, sliding)
    else:
        windows = _windows(to, to.value(x), to.meta(x), 1, positions, sliding, 0.0)
    columns = per_group * prod(sizes)
    rows = Meta((batch, *positions, groups, 1, columns), result.dtype)
    kernels = Meta((groups, columns, channels // groups), result.dtype)
    outer = (batch, *positions)
    if groups == 1:
        # As a linear layer has it: what recognises one knows the other.
        rows, kernels = Meta((*outer, columns), result.dtype), Meta((columns, channels), result.dtype)
    turned = without_units((*kernels.shape[:-2], kernels.shape[-1], kernels.shape[-2]))
    value = product(
        to,
        to.reshape(windows, rows.ir_shape),
        rows,
        to.reshape(to.value(weight), turned),
        kernels,
        Meta((*rows.shape[:-1], kernels.shape[-1]), result.dtype),
        turned=True,
    )
    last = Meta((*outer, channels), result.dtype)
    value = to.permute(to.reshape(value, last.ir_shape), last, [0, len(outer), *range(1, len(outer))])
    return value if bias is None else to.binary(arith.AddfOp, value, to.channelwise(to.value(bias), result))


def _for_each(numbers: Sequence[int] | int, count: int) -> list[int]:
    """One number for each axis, where torch takes one for all."""
    numbers = [numbers] if isinstance(numbers, int) else list(numbers)
    return numbers * count if len(numbers) == 1 else numbers


def _windows(
    to: Lowering,
    x: SSAValue,
    meta: Meta,
    leading: int,
    positions: Sequence[int],
    sliding: Sliding,
    padding: float,
) -> SSAValue:
    """[*leading, *positions, *rest, *sizes] of the windows over the last axes, without axes of size 1."""
    first = len(meta.shape) - len(sliding.sizes)
    axes: list[int] = []
    kept: list[int] = []
    highs: list[int] = []
    places = [axis for axis, size in enumerate(meta.shape) if size != 1]
    for n, span in enumerate(sliding.spans):
        axis, low = first + n, sliding.low[n]
        if meta.shape[axis] == DYNAMIC_INDEX:
            high = span - 1 - low
        else:
            high = max((positions[n] - 1) * sliding.strides[n] + span - meta.shape[axis] - low, 0)
        if axis not in places and not low and not high:
            continue
        if axis not in places:
            places.append(axis)
        axes.append(axis)
        kept.append(n)
        highs.append(high)
    places.sort()
    if not axes:
        return x
    if any(meta.shape[axis] == 1 for axis in places):
        x = to.reshape(x, tuple(meta.shape[axis] for axis in places))
    sizes, strides, low, dilations = (
        [numbers[n] for n in kept]
        for numbers in (sliding.sizes, sliding.strides, sliding.low, sliding.dilations)
    )
    return to.build.windows(
        x,
        [places.index(axis) for axis in axes],
        sizes,
        leading=sum(axis < leading for axis in places),
        strides=strides,
        dilations=dilations,
        low=low,
        high=highs,
        padding=padding,
    )


def _causal_windows(to: Lowering, joined: Joined, sliding: Sliding) -> SSAValue:
    """The windows of a tensor of T + n rows that begin at each of T rows, as [N, T, C, size]."""
    (span, *others), (size, *_), (dilation, *_) = sliding.spans, sliding.sizes, sliding.dilations
    by_one = sliding.strides[0] == 1 and sliding.low[0] == 0
    if others or joined.axis != 2 or not by_one or joined.count != span - 1:
        raise Unsupported("windows over the axis of rows that are not as many as rows")
    batch, channels, rows = joined.meta.shape
    if not isinstance(joined.before, SSAValue):
        padded = Sliding([size], [1], [joined.count], [dilation])
        return _windows(to, joined.x, joined.meta, 1, [rows], padded, joined.before)
    full = Meta((batch, channels, rows, size), joined.meta.dtype)
    return to.permute(joined.windows(to, size, dilation), full, [0, 2, 1, 3])


def _pooled(to: Lowering, value: SSAValue, meta: Meta, sliding: Sliding, kind: str) -> SSAValue:
    """The maximum or sum over each window of the last axes."""
    leading = len(meta.shape) - len(sliding.sizes)
    positions = to.result_shape(0)[leading:]
    windows = _windows(to, value, meta, leading, positions, sliding, -inf if kind == "max" else 0.0)
    full = Meta((*meta.shape[:leading], *positions, *sliding.sizes), meta.dtype)
    return reduce_axes(to, windows, full, range(len(meta.shape), len(full.shape)), kind)


@emits(
    aten.max_pool2d_with_indices.default,
    aten.max_pool3d_with_indices.default,
)
def max_pool(
    to: Lowering,
    x: Node,
    size: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
    ceil: bool,
) -> tuple[SSAValue | None, ...]:
    if to.reads(1):
        raise Unsupported("where the maxima of a pooling are")
    rank = 2 if to.node.target is aten.max_pool2d_with_indices.default else 3
    sliding = Sliding.of(size, strides, padding, dilations, rank)
    return _pooled(to, to.value(x), to.meta(x), sliding, "max"), None


@emits(aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default)
def avg_pool(
    to: Lowering,
    x: Node,
    size: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    ceil: bool,
    counts_padding: bool,
    divisor: int | None = None,
) -> SSAValue:
    """The mean of each window; of the elements that it really has, if padding does not count."""
    rank = {aten.avg_pool1d.default: 1, aten.avg_pool2d.default: 2}.get(to.node.target, 3)
    sliding, meta = Sliding.of(size, strides, padding, 1, rank), to.meta(x)
    total = _pooled(to, to.value(x), meta, sliding, "sum")
    spatial = meta.shape[-rank:]
    sizes, low = sliding.sizes, sliding.low
    if ceil and any(
        (n + 2 * p - k) % s for n, p, k, s in zip(spatial, low, sizes, sliding.strides, strict=True)
    ):
        raise Unsupported("ceil_mode with a window that leaves the tensor")
    if counts_padding or divisor or not any(low):
        return to.binary(arith.DivfOp, total, to.operand(divisor or prod(sizes)))
    there = Meta(tuple(spatial), meta.dtype)
    positions = to.result.shape[-rank:]
    ones = to.build.splat(1.0, there.ir_shape)
    counted = _windows(to, ones, there, 0, positions, sliding, 0.0)
    full = Meta((*positions, *sizes), meta.dtype)
    counts = reduce_axes(to, counted, full, range(rank, 2 * rank), "sum")
    return to.binary(arith.DivfOp, total, to.broadcast(counts, tuple(positions), to.result.shape))


@emits(aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default, aten.adaptive_avg_pool1d.default)
def adaptive_avg_pool(to: Lowering, x: Node, size: Sequence[int]) -> SSAValue:
    """Windows that part the axes evenly."""
    meta = to.meta(x)
    if all(wanted == 1 for wanted in size):
        return mean_of(to, to.value(x), meta, range(-len(size), 0))
    total, count = _parted(to, x, size, "sum")
    return to.binary(arith.DivfOp, total, to.operand(count))


@emits(aten.adaptive_max_pool1d.default, aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default)
def adaptive_max_pool(to: Lowering, x: Node, size: Sequence[int]) -> tuple[SSAValue | None, ...]:
    if to.reads(1):
        raise Unsupported("where the maxima of a pooling are")
    if all(wanted == 1 for wanted in size):
        return reduce_axes(to, to.value(x), to.meta(x), range(-len(size), 0), "max"), None
    return _parted(to, x, size, "max")[0], None


def _parted(to: Lowering, x: Node, size: Sequence[int], kind: str) -> tuple[SSAValue, int]:
    """The last axes, parted into `size` windows, reduced; and the elements of a window."""
    meta, rank = to.meta(x), len(size)
    spatial = meta.shape[-rank:]
    if DYNAMIC_INDEX in spatial or any(n % wanted for n, wanted in zip(spatial, size, strict=True)):
        raise Unsupported(f"pooling {list(spatial)} to {list(size)}: not a whole number of elements each")
    sizes = [n // wanted for n, wanted in zip(spatial, size, strict=True)]
    sliding = Sliding(sizes, sizes, [0] * rank, [1] * rank)
    return _pooled(to, to.value(x), meta, sliding, kind), prod(sizes)


@emits(aten.unfold.default)
def unfold(to: Lowering, x: Node, axis: int, size: int, step: int) -> SSAValue:
    """The windows of one axis; their offsets are the last axis."""
    meta = to.meta(x)
    axis = meta.axis(axis)
    order = [*(a for a in range(len(meta.shape)) if a != axis), axis]
    moved = Meta(tuple(meta.shape[a] for a in order), meta.dtype)
    count = to.result.shape[axis]
    value = to.permute(to.value(x), meta, order)
    windows = _windows(to, value, moved, len(order) - 1, [count], Sliding([size], [step], [0], [1]), 0.0)
    full = Meta((*moved.shape[:-1], count, size), meta.dtype)
    back = [*range(axis), len(order) - 1, *range(axis, len(order) - 1), len(order)]
    return to.permute(windows, full, back)


@emits(aten.constant_pad_nd.default)
def pad(to: Lowering, x: Node, margins: Sequence[int], number: float) -> SSAValue | Joined:
    """`margins` are low and high of the last axis, then of the one before it, ...; negative ones cut off."""
    meta, value = to.meta(x), to.value(x)
    pairs = list(zip(margins[::2], margins[1::2], strict=True))
    sides = {len(meta.shape) - 1 - n: pair for n, pair in enumerate(pairs) if any(pair)}
    dynamic = [axis for axis in sides if meta.shape[axis] == DYNAMIC_INDEX]
    if dynamic:
        (low, high), axis = sides[dynamic[0]], dynamic[0]
        if len(sides) != 1 or high or low < 0:
            raise Unsupported("padding the axis of rows, but before the first one")
        return Joined(float(number), low, value, meta, axis)
    for axis, (low, high) in sides.items():
        if low < 0 or high < 0:
            size = meta.shape[axis] + min(low, 0) + min(high, 0)
            if (place := meta.ir_axis(axis)) is None or size < 1:
                raise Unsupported("padding that leaves nothing")
            value = to.build.slice(value, place, max(-low, 0), size)
            meta = Meta((*meta.shape[:axis], size, *meta.shape[axis + 1 :]), meta.dtype)
    kept: list[int] = [axis for axis, size in enumerate(meta.shape) if size != 1 or axis in sides]
    value = to.reshape(value, tuple(meta.shape[axis] for axis in kept))
    low, high = ([max(sides.get(axis, (0, 0))[side], 0) for axis in kept] for side in (0, 1))
    return to.reshape(to.build.pad(value, low, high, number), to.result.ir_shape)
