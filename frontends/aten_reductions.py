"""ATen ops that reduce an axis or contract one. See `aten` for what a table of emitters is."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod
from typing import Any

import torch
from torch.fx import Node
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerType
from xdsl.ir import SSAValue

from sterna.dialects.ternary import ScanOp
from sterna.frontends.aten import EmitterTable, aten, every
from sterna.frontends.lowering import UNSIGNED, Lowering, Meta, Unsupported
from sterna.frontends.tensor_builder import shape_of, smallest

EMITTERS = EmitterTable()
emits = EMITTERS.of


def _reduce(
    to: Lowering, value: SSAValue, meta: Meta, axes: Sequence[int] | int | None, kind: str
) -> SSAValue:
    """`value`, which has the shape of `meta`, reduced over torch axes, all of them if none are named."""
    named = {meta.ir_axis(axis) for axis in every(axes, len(meta.shape))}
    if not (places := sorted(axis for axis in named if axis is not None)):
        return value
    if kind != "sum" and meta.dtype in UNSIGNED:
        raise Unsupported(f"on {meta.dtype}")
    integer = isinstance(meta.element, IntegerType)
    match kind:
        case "sum":
            return to.build.reduce(value, places, arith.AddiOp if integer else arith.AddfOp, 0.0)
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
    return _reduce(to, to.cast(to.value(x), to.meta(x).dtype, meta.dtype), meta, axes, "sum")


@emits(aten.mean.default)
def mean_all(to: Lowering, x: Node, dtype: object) -> SSAValue:
    return mean(to, x, None)


@emits(aten.mean.dim)
def mean(to: Lowering, x: Node, axes: Sequence[int] | None, *options: object) -> SSAValue:
    """The sum, divided by the number of elements."""
    return _mean(to, to.value(x), to.meta(x), axes)


def _mean(to: Lowering, value: SSAValue, meta: Meta, axes: Sequence[int] | None) -> SSAValue:
    total = _reduce(to, value, meta, axes, "sum")
    count = to.count([meta.shape[axis] for axis in every(axes, len(meta.shape))])
    return to.binary(arith.DivfOp, total, to.build.splat(count, shape_of(total)))


@emits(aten.amax.default)
def amax(to: Lowering, x: Node, axes: Sequence[int], keep: bool) -> SSAValue:
    return _reduce(to, to.value(x), to.meta(x), axes, "max")


@emits(aten.amin.default)
def amin(to: Lowering, x: Node, axes: Sequence[int], keep: bool) -> SSAValue:
    return _reduce(to, to.value(x), to.meta(x), axes, "min")


@emits(aten.max.default)
def max_all(to: Lowering, x: Node) -> SSAValue:
    return _reduce(to, to.value(x), to.meta(x), None, "max")


@emits(aten.min.default)
def min_all(to: Lowering, x: Node) -> SSAValue:
    return _reduce(to, to.value(x), to.meta(x), None, "min")


@emits(aten.max.dim)
def max_(to: Lowering, x: Node, axis: int, keep: bool) -> tuple[SSAValue | None, ...]:
    """The values; an index of the maximum has no op here."""
    return _reduce(to, to.value(x), to.meta(x), axis, "max"), None


@emits(aten.min.dim)
def min_(to: Lowering, x: Node, axis: int, keep: bool) -> tuple[SSAValue | None, ...]:
    return _reduce(to, to.value(x), to.meta(x), axis, "min"), None


@emits(aten.linalg_vector_norm.default)
def vector_norm(
    to: Lowering, x: Node, order: float, axes: Sequence[int] | None, keep: bool, dtype: object
) -> SSAValue:
    value = to.value(x)
    match order:
        case 1:
            return _reduce(to, to.unary(math.AbsFOp, value), to.meta(x), axes, "sum")
        case 2:
            squares = _reduce(to, to.binary(arith.MulfOp, value, value), to.meta(x), axes, "sum")
            return to.unary(math.SqrtOp, squares)
        case float() if order == inf:
            return _reduce(to, to.unary(math.AbsFOp, value), to.meta(x), axes, "max")
        case _:
            raise Unsupported(f"the order {order}")


@emits(aten.norm.ScalarOpt_dim, aten.norm.Scalar)
def norm(
    to: Lowering, x: Node, order: float | None, axes: Sequence[int] | None = None, *rest: object
) -> SSAValue:
    return vector_norm(to, x, 2 if order is None else order, axes, False, None)


@emits(aten.softmax.int, aten._softmax.default)
def softmax(to: Lowering, x: Node, axis: int, *options: object) -> SSAValue:
    """exp(x - max(x)) / sum(exp(x - max(x)))"""
    meta = to.result
    reduced = tuple(1 if i == meta.axis(axis) else size for i, size in enumerate(meta.shape))
    value = to.operand(x)
    high = to.broadcast(_reduce(to, value, meta, axis, "max"), reduced, meta.shape)
    exp = to.unary(math.ExpOp, to.binary(arith.SubfOp, value, high))
    total = to.broadcast(_reduce(to, exp, meta, axis, "sum"), reduced, meta.shape)
    return to.binary(arith.DivfOp, exp, total)


@emits(aten.cumsum.default)
def cumsum(to: Lowering, x: Node, axis: int, dtype: object) -> SSAValue:
    """A scan with f = 1 from zero, with the summed axis in front."""
    meta = to.result
    if not meta.dtype.is_floating_point:
        raise Unsupported(f"on {meta.dtype}")
    value = to.operand(x)
    if (place := meta.ir_axis(axis)) is None:
        return value
    order = [place, *(i for i in range(len(meta.ir_shape)) if i != place)]
    moved = to.build.transpose(value, order)
    steps, *others = shape_of(moved)
    rows = to.reshape(moved, (steps, to.count(others)))
    width = shape_of(rows)[1]
    scan = ScanOp(to.build.splat(1.0, shape_of(rows)), rows, to.build.splat(0.0, (width,)))
    states = to.reshape(to.build.add(scan), shape_of(moved))
    return to.build.transpose(states, [order.index(i) for i in range(len(order))])


def _contract(to: Lowering, x: SSAValue, weight: SSAValue, columns: int, rows: int, result: Meta) -> SSAValue:
    """x [..., K] by weight [K, M]; x counts as [T, K]."""
    shape = shape_of(x)
    outer = shape[:-1] if columns != 1 else shape
    if DYNAMIC_INDEX in outer and len(outer) > 1:
        raise Unsupported("rows are dynamic, and so the batch must be 1")
    flat = outer[0] if len(outer) == 1 else prod(outer)
    product = to.build.matmul(to.reshape(x, (flat, columns)), to.reshape(weight, (columns, rows)))
    return to.reshape(product, result.ir_shape)


@emits(aten.linear.default)
def linear(to: Lowering, x: Node, weight: Node, bias: Node | None) -> SSAValue:
    rows, columns = _matrix(to, weight)
    matrix = to.reshape(to.value(weight), (rows, columns))
    product = _contract(to, to.value(x), to.build.transpose(matrix, [1, 0]), columns, rows, to.result)
    return product if bias is None else to.binary(arith.AddfOp, product, to.operand(bias))


@emits(aten.mm.default, aten.matmul.default)
def mm(to: Lowering, x: Node, y: Node) -> SSAValue:
    columns, rows = _matrix(to, y)
    return _contract(to, to.value(x), to.value(y), columns, rows, to.result)


@emits(aten.addmm.default)
def addmm(to: Lowering, bias: Node, x: Node, y: Node, beta: float, alpha: float) -> SSAValue:
    if beta != 1 or alpha != 1:
        raise Unsupported("beta or alpha other than 1")
    return to.binary(arith.AddfOp, mm(to, x, y), to.operand(bias))


def _matrix(to: Lowering, weight: Node) -> tuple[int, int]:
    meta = to.meta(weight)
    if len(meta.shape) != 2 or DYNAMIC_INDEX in meta.shape or not meta.dtype.is_floating_point:
        raise Unsupported("only a float matrix of static shape may stand on the right of a product")
    return meta.shape[0], meta.shape[1]


@emits(aten.rms_norm.default)
def rms_norm(to: Lowering, x: Node, shape: Sequence[int], weight: Node | None, eps: float | None) -> SSAValue:
    """(x * (1 / sqrt(mean(x^2) + eps))) * weight; the default eps is that of x's dtype."""
    meta = to.meta(x)
    axes = list(range(-len(shape), 0))
    value = to.value(x)
    epsilon = torch.finfo(meta.dtype).eps if eps is None else eps
    square = _mean(to, to.binary(arith.MulfOp, value, value), meta, axes)
    root = to.unary(math.RsqrtOp, to.binary(arith.AddfOp, square, to.build.splat(epsilon, shape_of(square))))
    scaled = to.binary(arith.MulfOp, value, _along(to, root, meta, axes))
    return scaled if weight is None else to.binary(arith.MulfOp, scaled, to.operand(weight))


@emits(aten.layer_norm.default)
def layer_norm(
    to: Lowering,
    x: Node,
    shape: Sequence[int],
    weight: Node | None,
    bias: Node | None,
    eps: float,
    *options: Any,
) -> SSAValue:
    """(x - mean(x)) * (1 / sqrt(mean((x - mean(x))^2) + eps)) * weight + bias"""
    meta = to.meta(x)
    axes = list(range(-len(shape), 0))
    centre = _along(to, _mean(to, to.value(x), meta, axes), meta, axes)
    value = to.binary(arith.SubfOp, to.value(x), centre)
    variance = _mean(to, to.binary(arith.MulfOp, value, value), meta, axes)
    root = to.unary(math.RsqrtOp, to.binary(arith.AddfOp, variance, to.build.splat(eps, shape_of(variance))))
    value = to.binary(arith.MulfOp, value, _along(to, root, meta, axes))
    value = value if weight is None else to.binary(arith.MulfOp, value, to.operand(weight))
    return value if bias is None else to.binary(arith.AddfOp, value, to.operand(bias))


def _along(to: Lowering, reduced: SSAValue, meta: Meta, axes: Sequence[int]) -> SSAValue:
    """A value reduced over `axes`, repeated along them."""
    places = {meta.axis(axis) for axis in axes}
    kept = tuple(1 if axis in places else size for axis, size in enumerate(meta.shape))
    return to.broadcast(reduced, kept, meta.shape)
