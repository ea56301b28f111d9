"""ATen ops that reduce an axis, or run along one. See `aten` for what a table of emitters is."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from string import ascii_lowercase
from typing import cast

import torch
from torch.fx import Node
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerType, f32, i64
from xdsl.ir import SSAValue

from sterna.dialects.ternary import ScanOp
from sterna.frontends.aten import EmitterTable, aten, every
from sterna.frontends.lowering import UNSIGNED, Lowering, Meta, Unsupported
from sterna.frontends.tensor_builder import element_of, shape_of, smallest

EMITTERS = EmitterTable()
emits = EMITTERS.of


def reduce_axes(
    to: Lowering, value: SSAValue, meta: Meta, axes: Sequence[int] | int | None, kind: str
) -> SSAValue:
    """`value`, which has the shape of `meta`, reduced over torch axes, all of them if none are named."""
    named = {meta.ir_axis(axis) for axis in every(axes, len(meta.shape))}
    if not (places := sorted(axis for axis in named if axis is not None)):
        return value
    if kind in ("max", "min") and meta.dtype in UNSIGNED:
        raise Unsupported(f"on {meta.dtype}")
    integer = isinstance(meta.element, IntegerType)
    match kind:
        case "sum":
            return to.build.reduce(value, places, arith.AddiOp if integer else arith.AddfOp, 0.0)
        case "product":
            return to.build.reduce(value, places, arith.MuliOp if integer else arith.MulfOp, 1.0)
        case "any":
            return to.build.reduce(value, places, arith.OrIOp, 0)
        case "all":
            return to.build.reduce(value, places, arith.AndIOp, 1)
        case "max":
            op = arith.MaxSIOp if integer else arith.MaximumfOp
            return to.build.reduce(value, places, op, smallest(meta.element))
        case _:
            op = arith.MinSIOp if integer else arith.MinimumfOp
            return to.build.reduce(value, places, op, -smallest(meta.element) - integer)


@emits(aten.sum.default)
def sum_all(to: Lowering, x: Node, dtype: object) -> SSAValue:
    return sum_(to, x, None)


@emits(aten.sum.dim_IntList)
def sum_(to: Lowering, x: Node, axes: Sequence[int] | None, *options: object) -> SSAValue:
    meta = Meta(to.meta(x).shape, to.result.dtype)
    return reduce_axes(to, to.cast(to.value(x), to.meta(x).dtype, meta.dtype), meta, axes, "sum")


@emits(aten.mean.default)
def mean_all(to: Lowering, x: Node, dtype: object) -> SSAValue:
    return mean(to, x, None)


@emits(aten.mean.dim)
def mean(to: Lowering, x: Node, axes: Sequence[int] | None, *options: object) -> SSAValue:
    """The sum, divided by the number of elements."""
    return mean_of(to, to.value(x), to.meta(x), axes)


def mean_of(
    to: Lowering, value: SSAValue, meta: Meta, axes: Sequence[int] | None, less: float = 0
) -> SSAValue:
    """The sum divided by the number of elements, less that many."""
    total = reduce_axes(to, value, meta, axes, "sum")
    sizes = [meta.shape[axis] for axis in every(axes, len(meta.shape))]
    if DYNAMIC_INDEX not in sizes:
        return to.binary(arith.DivfOp, total, to.build.splat(to.count(sizes) - less, shape_of(total)))
    others = to.count([size for size in sizes if size != DYNAMIC_INDEX])
    count = to.build.count(DYNAMIC_INDEX, f32)
    if others != 1:
        count = to.binary(arith.MulfOp, count, to.build.splat(others, ()))
    if less:
        count = to.binary(arith.SubfOp, count, to.build.splat(less, ()))
    shape = shape_of(total)
    return to.binary(arith.DivfOp, total, to.build.broadcast(count, shape, range(len(shape))))


def along(to: Lowering, reduced: SSAValue, meta: Meta, axes: Sequence[int] | int | None) -> SSAValue:
    """A value reduced over `axes`, repeated along them."""
    places = {meta.axis(axis) for axis in every(axes, len(meta.shape))}
    kept = tuple(1 if axis in places else size for axis, size in enumerate(meta.shape))
    return to.broadcast(reduced, kept, meta.shape)


@emits(aten.var.correction)
def var(to: Lowering, x: Node, axes: Sequence[int] | None, correction: float | None, keep: bool) -> SSAValue:
    """sum((x - mean(x))^2) / (count - correction); the correction is 1 if none is named."""
    return _variance_and_mean(to, x, axes, correction)[0]


@emits(aten.var_mean.correction)
def var_mean(
    to: Lowering, x: Node, axes: Sequence[int] | None, correction: float | None, keep: bool
) -> tuple[SSAValue | None, ...]:
    return _variance_and_mean(to, x, axes, correction)


def _variance_and_mean(
    to: Lowering, x: Node, axes: Sequence[int] | None, correction: float | None
) -> tuple[SSAValue, SSAValue]:
    meta, value = to.meta(x), to.value(x)
    centre = mean_of(to, value, meta, axes)
    centred = to.binary(arith.SubfOp, value, along(to, centre, meta, axes))
    squares = to.binary(arith.MulfOp, centred, centred)
    return mean_of(to, squares, meta, axes, 1 if correction is None else correction), centre


@emits(aten.prod.default)
def prod_all(to: Lowering, x: Node, dtype: object) -> SSAValue:
    return prod_(to, x, None)


@emits(aten.prod.dim_int)
def prod_(to: Lowering, x: Node, axis: int | None, *options: object) -> SSAValue:
    meta = Meta(to.meta(x).shape, to.result.dtype)
    return reduce_axes(to, to.cast(to.value(x), to.meta(x).dtype, meta.dtype), meta, axis, "product")


def _as_bool(to: Lowering, x: Node) -> tuple[SSAValue, Meta]:
    meta = to.meta(x)
    return to.cast(to.value(x), meta.dtype, torch.bool), Meta(meta.shape, torch.bool)


@emits(aten.any.default, aten.any.dim, aten.any.dims)
def any_(to: Lowering, x: Node, axes: Sequence[int] | int | None = None, *options: object) -> SSAValue:
    return reduce_axes(to, *_as_bool(to, x), axes, "any")


@emits(aten.all.default, aten.all.dim, aten.all.dims)
def all_(to: Lowering, x: Node, axes: Sequence[int] | int | None = None, *options: object) -> SSAValue:
    return reduce_axes(to, *_as_bool(to, x), axes, "all")


@emits(aten.amax.default)
def amax(to: Lowering, x: Node, axes: Sequence[int], keep: bool) -> SSAValue:
    return reduce_axes(to, to.value(x), to.meta(x), axes, "max")


@emits(aten.amin.default)
def amin(to: Lowering, x: Node, axes: Sequence[int], keep: bool) -> SSAValue:
    return reduce_axes(to, to.value(x), to.meta(x), axes, "min")


@emits(aten.max.default)
def max_all(to: Lowering, x: Node) -> SSAValue:
    return reduce_axes(to, to.value(x), to.meta(x), None, "max")


@emits(aten.min.default)
def min_all(to: Lowering, x: Node) -> SSAValue:
    return reduce_axes(to, to.value(x), to.meta(x), None, "min")


@emits(aten.max.dim, aten.min.dim)
def extreme(to: Lowering, x: Node, axis: int, keep: bool) -> tuple[SSAValue | None, ...]:
    """The values, and where they are; what is not read is not computed."""
    kind = "max" if to.node.target is aten.max.dim else "min"
    value, meta = to.value(x), to.meta(x)
    values = reduce_axes(to, value, meta, axis, kind)
    return values, _first_index(to, value, meta, axis, values) if to.reads(1) else None


@emits(aten.argmax.default, aten.argmin.default)
def argmax(to: Lowering, x: Node, axis: int | None, keep: bool) -> SSAValue:
    """The lowest index of the greatest value; NaN is greater than any number, and less."""
    kind = "max" if to.node.target is aten.argmax.default else "min"
    value, meta = to.value(x), to.meta(x)
    if axis is None:
        meta = Meta((to.count(meta.shape),), meta.dtype)
        value, axis = to.reshape(value, meta.ir_shape), 0
    return _first_index(to, value, meta, axis, reduce_axes(to, value, meta, axis, kind))


def _first_index(to: Lowering, value: SSAValue, meta: Meta, axis: int, extremes: SSAValue) -> SSAValue:
    """The lowest index on `axis` where `value` is the extreme of its line, or NaN."""
    if (place := meta.ir_axis(axis)) is None:
        return to.build.splat(0, shape_of(value), i64)
    found = to.compare("eq", value, along(to, extremes, meta, axis))
    if meta.dtype.is_floating_point:
        found = to.binary(arith.OrIOp, found, to.compare("ne", value, value))
    shape = shape_of(value)
    beyond = to.build.splat((1 << 63) - 1, shape, i64)
    candidates = to.select(found, to.build.iota(shape, place), beyond)
    return reduce_axes(to, candidates, Meta(meta.shape, torch.int64), axis, "min")


@emits(aten.linalg_vector_norm.default)
def vector_norm(
    to: Lowering, x: Node, order: float, axes: Sequence[int] | None, keep: bool, dtype: object
) -> SSAValue:
    value = to.value(x)
    match order:
        case 1:
            return reduce_axes(to, to.unary(math.AbsFOp, value), to.meta(x), axes, "sum")
        case 2:
            squares = reduce_axes(to, to.binary(arith.MulfOp, value, value), to.meta(x), axes, "sum")
            return to.unary(math.SqrtOp, squares)
        case float() if order == inf:
            return reduce_axes(to, to.unary(math.AbsFOp, value), to.meta(x), axes, "max")
        case _:
            raise Unsupported(f"the order {order}")


@emits(aten.norm.ScalarOpt_dim, aten.norm.Scalar)
def norm(
    to: Lowering, x: Node, order: float | None, axes: Sequence[int] | None = None, *rest: object
) -> SSAValue:
    return vector_norm(to, x, 2 if order is None else order, axes, False, None)


@emits(aten.cumsum.default)
def cumsum(to: Lowering, x: Node, axis: int, dtype: object) -> SSAValue:
    """Of floats, a scan with f = 1 from zero, with the summed axis in front."""
    meta = to.result
    value = to.operand(x)
    if (place := meta.ir_axis(axis)) is None:
        return value
    if not meta.dtype.is_floating_point:
        return _integer_cumsum(to, value, place)
    order = [place, *(i for i in range(len(meta.ir_shape)) if i != place)]
    moved = to.build.transpose(value, order)
    steps, *others = shape_of(moved)
    rows = to.reshape(moved, (steps, to.count(others)))
    width = shape_of(rows)[1]
    scan = ScanOp(to.build.splat(1.0, shape_of(rows)), rows, to.build.splat(0.0, (width,)))
    states = to.reshape(to.build.add(scan), shape_of(moved))
    return to.build.transpose(states, [order.index(i) for i in range(len(order))])


def _integer_cumsum(to: Lowering, value: SSAValue, place: int) -> SSAValue:
    """The product with a triangle of ones: exact, whatever the order."""
    shape, element = shape_of(value), cast(IntegerType, element_of(value))
    size = shape[place]
    rows, columns = (to.build.iota((size, size), axis) for axis in (0, 1))
    ones = to.compare("le", columns, rows)
    triangle = to.build.pointwise([ones], element, lambda x: arith.ExtUIOp(x[0], element))
    letters = ascii_lowercase[: len(shape)]
    summed = letters[:place] + "z" + letters[place + 1 :]
    return to.build.contract(value, triangle, f"{summed},{letters[place]}z->{letters}", element)
