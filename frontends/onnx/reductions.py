"""Operators that reduce axes, and the softmax family."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from xdsl.dialects import arith, math
from xdsl.ir import SSAValue

from sterna.frontends.onnx.data_types import INT64
from sterna.frontends.onnx.elementwise import ADD, DIV, MAXIMUM, MINIMUM, MUL, Choices, choose
from sterna.frontends.onnx.emitters import Emitter, EmitterTable
from sterna.frontends.onnx.errors import Unsupported
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.sizes import count_elements
from sterna.frontends.onnx.values import Tensor, dims_array, known

EMITTERS = EmitterTable()
emits = EMITTERS.of


def reduced(to: Node, x: Tensor, axes: Sequence[int], choices: Choices, start: float) -> Tensor:
    """x with each of `axes` reduced to size 1, beginning with `start`."""
    floats, signed, unsigned = choices
    op = floats if x.type.is_float else unsigned if x.type.is_unsigned else signed
    if op is None:
        raise Unsupported(f"on {x.type.name}")
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    places = x.ir_axes(list(axes))
    if not places:
        return to.result(to.value(x), shape, x.type)
    value = to.build.reduce(to.value(x), places, op, start)  # pyright: ignore[reportArgumentType]
    return to.result(value, shape, x.type)


def reduced_sum(to: Node, x: Tensor, axes: Sequence[int]) -> Tensor:
    return reduced(to, x, axes, ADD, 0)


def reduced_max(to: Node, x: Tensor, axes: Sequence[int]) -> Tensor:
    return reduced(to, x, axes, MAXIMUM, x.type.smallest)


def reduced_min(to: Node, x: Tensor, axes: Sequence[int]) -> Tensor:
    return reduced(to, x, axes, MINIMUM, x.type.largest)


def reduced_mean(to: Node, x: Tensor, axes: Sequence[int]) -> Tensor:
    """The sum, divided by how many there are; of integers, rounded toward zero."""
    total = reduced_sum(to, x, axes)
    count = known(dims_array([count_elements([x.shape[axis] for axis in axes])]).reshape(()))
    divisor = to.broadcast(to.cast(count, x.type), total.shape)
    return to.result(choose(to, DIV, to.value(total), divisor, x.type), total.shape, x.type)


def _product(to: Node, x: Tensor, axes: Sequence[int]) -> Tensor:
    return reduced(to, x, axes, MUL, 1)


def _sum_of_squares(to: Node, x: Tensor, axes: Sequence[int]) -> Tensor:
    op = arith.MulfOp if x.type.is_float else arith.MuliOp
    value = to.value(x)
    return reduced_sum(to, to.result(to.binary(op, value, value), x.shape, x.type), axes)


def _l1(to: Node, x: Tensor, axes: Sequence[int]) -> Tensor:
    op = math.AbsFOp if x.type.is_float else math.AbsIOp
    size = x if x.type.is_unsigned else to.result(to.unary(op, to.value(x)), x.shape, x.type)
    return reduced_sum(to, size, axes)


def _l2(to: Node, x: Tensor, axes: Sequence[int]) -> Tensor:
    return _on_floats(to, _sum_of_squares(to, x, axes), math.SqrtOp)


def _log_sum(to: Node, x: Tensor, axes: Sequence[int]) -> Tensor:
    return _on_floats(to, reduced_sum(to, x, axes), math.LogOp)


def _log_sum_exp(to: Node, x: Tensor, axes: Sequence[int]) -> Tensor:
    """m + log(sum(exp(x - m))), m the maximum, or 0 where that is infinite."""
    high = reduced_max(to, _require_float(x), axes)
    value = to.value(high)
    size = to.unary(math.AbsFOp, value)
    finite = to.compare("lt", size, to.splat(np.inf, high.shape, x.type), x.type)
    shift = to.select(finite, value, to.splat(0.0, high.shape, x.type))
    moved = to.binary(arith.SubfOp, to.value(x), to.stretch(shift, high.shape, x.shape))
    exp = to.result(to.unary(math.ExpOp, moved), x.shape, x.type)
    total = reduced_sum(to, exp, axes)
    log = to.unary(math.LogOp, to.value(total))
    return to.result(to.binary(arith.AddfOp, log, shift), total.shape, x.type)


def _on_floats(to: Node, x: Tensor, op: type[math.SqrtOp] | type[math.LogOp]) -> Tensor:
    _require_float(x)
    return to.result(to.unary(op, to.value(x)), x.shape, x.type)


def _require_float(x: Tensor) -> Tensor:
    if not x.type.is_float:
        raise Unsupported(f"on {x.type.name}")
    return x


Reduction = Callable[[Node, Tensor, Sequence[int]], Tensor]

REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": reduced_sum,
    "ReduceMax": reduced_max,
    "ReduceMin": reduced_min,
    "ReduceMean": reduced_mean,
    "ReduceProd": _product,
    "ReduceSumSquare": _sum_of_squares,
    "ReduceL1": _l1,
    "ReduceL2": _l2,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
}

FOLDED: dict[Reduction, np.ufunc] = {
    reduced_sum: np.add,
    reduced_max: np.maximum,
    reduced_min: np.minimum,
    _product: np.multiply,
}
"""What graphs do to sizes."""


def without_axes(to: Node, x: Tensor, axes: Sequence[int]) -> Tensor:
    """x without axes, which have size 1."""
    shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    return to.result(to.value(x), shape, x.type)


def _reduction(reduce: Reduction) -> Emitter:
    def emit(to: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        named = to.integers("axes", []) if axes is None else to.ints(axes, "axes")
        if not named and to.integer("noop_with_empty_axes", 0):
            return reduce(to, x, []) if reduce in (_sum_of_squares, _l1, _l2, _log_sum, _log_sum_exp) else x
        places = sorted({x.axis(axis) for axis in named or range(x.rank)})
        if reduce in FOLDED and x.type.is_integer and (arrays := to.folds(x)) is not None and arrays[0].size:
            keep = bool(to.integer("keepdims", 1))
            total = FOLDED[reduce].reduce(arrays[0], axis=tuple(places), keepdims=keep)
            return to.folded(np.asarray(total, arrays[0].dtype), x.type)
        result = reduce(to, x, places)
        return result if to.integer("keepdims", 1) else without_axes(to, result, places)

    return emit


for _name, _reduce in REDUCTIONS.items():
    EMITTERS.add(_name, _reduction(_reduce))


def _softmax_parts(to: Node, x: Tensor, axis: int) -> tuple[SSAValue, Tensor, Tensor]:
    """x - max(x), its exp, and the sum of that, along the axis."""
    high = reduced_max(to, x, [axis])
    moved = to.binary(arith.SubfOp, to.value(x), to.stretch(to.value(high), high.shape, x.shape))
    exp = to.result(to.unary(math.ExpOp, moved), x.shape, x.type)
    return moved, exp, reduced_sum(to, exp, [axis])


@emits("Softmax", since=13)
def softmax(to: Node, x: Tensor) -> Tensor:
    return softmax_along(to, x, x.axis(to.integer("axis", -1)))


def softmax_along(to: Node, x: Tensor, axis: int) -> Tensor:
    """exp(x - max(x)) / sum(exp(x - max(x)))"""
    _, exp, total = _softmax_parts(to, x, axis)
    value = to.binary(arith.DivfOp, to.value(exp), to.stretch(to.value(total), total.shape, x.shape))
    return to.result(value, x.shape, x.type)


@emits("LogSoftmax", since=13)
def log_softmax(to: Node, x: Tensor) -> Tensor:
    return log_softmax_along(to, x, x.axis(to.integer("axis", -1)))


def log_softmax_along(to: Node, x: Tensor, axis: int) -> Tensor:
    """(x - max(x)) - log(sum(exp(x - max(x))))"""
    moved, _, total = _softmax_parts(to, x, axis)
    log = to.unary(math.LogOp, to.value(total))
    value = to.binary(arith.SubfOp, moved, to.stretch(log, total.shape, x.shape))
    return to.result(value, x.shape, x.type)


def _extreme_indices(to: Node, x: Tensor, axis: int, *, largest: bool, last: bool) -> Tensor:
    """Where the first (or last) extreme element is: the least (greatest) index among those that equal it."""
    extreme = (reduced_max if largest else reduced_min)(to, x, [axis])
    same = to.compare("eq", to.value(x), to.stretch(to.value(extreme), extreme.shape, x.shape), x.type)
    index = to.iota(x.shape, axis)
    other = -1 if last else INT64.largest
    chosen = to.result(to.select(same, index, to.splat(other, x.shape, INT64)), x.shape, INT64)
    return (reduced_max if last else reduced_min)(to, chosen, [axis])


def _arg(largest: bool) -> Emitter:
    def emit(to: Node, x: Tensor) -> Tensor:
        axis = x.axis(to.integer("axis", 0))
        last = bool(to.integer("select_last_index", 0))
        result = _extreme_indices(to, x, axis, largest=largest, last=last)
        return result if to.integer("keepdims", 1) else without_axes(to, result, [axis])

    return emit


EMITTERS.add("ArgMax", _arg(True))
EMITTERS.add("ArgMin", _arg(False))


@emits("Hardmax", since=13)
def hardmax(to: Node, x: Tensor) -> Tensor:
    """1 at the first largest element of the axis, else 0."""
    axis = x.axis(to.integer("axis", -1))
    first = _extreme_indices(to, x, axis, largest=True, last=False)
    chosen = to.stretch(to.value(first), first.shape, x.shape)
    is_first = to.compare("eq", to.iota(x.shape, axis), chosen, INT64)
    one, zero = to.splat(1, x.shape, x.type), to.splat(0, x.shape, x.type)
    return to.result(to.select(is_first, one, zero), x.shape, x.type)
