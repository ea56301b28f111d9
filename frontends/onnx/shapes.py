"""Operators that give elements another shape or place and compute nothing, and shapes as numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sterna.frontends.onnx.data_types import BOOL, FLOAT, INT64
from sterna.frontends.onnx.emitters import EmitterTable
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.node import LARGEST_FOLD, Node
from sterna.frontends.onnx.sizes import (
    Dim,
    Size,
    count_elements,
    is_equal,
    shape_text,
)
from sterna.frontends.onnx.values import Tensor, dims_array, known

EMITTERS = EmitterTable()
emits = EMITTERS.of


@emits("Constant")
def constant(to: Node) -> Tensor:
    if (tensor := to.tensor("value")) is not None:
        return tensor
    name = to.output_name(0)
    if to.has("value_float"):
        return known(np.array(to.number("value_float"), np.float32), FLOAT, name)
    if to.has("value_floats"):
        return known(np.array(to.numbers("value_floats"), np.float32), FLOAT, name)
    if to.has("value_int"):
        return known(np.array(to.integer("value_int"), np.int64), INT64, name)
    if to.has("value_ints"):
        return known(np.array(to.integers("value_ints"), np.int64), INT64, name)
    raise Unsupported("a constant that is no tensor of numbers")


@emits("Identity")
def identity(to: Node, x: Tensor) -> Tensor:
    return x


@emits("Dropout")
def dropout(to: Node, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> list[Tensor]:
    """Nothing is dropped when a model is used; the mask, if it is wanted, is all true."""
    if training is not None and to.scalar(training, "training_mode"):
        raise Unsupported("training_mode is true")
    if to.output_count < 2:
        return [x]
    return [x, to.result(to.splat(1, x.shape, BOOL), x.shape, BOOL)]


@emits("Shape")
def shape(to: Node, x: Tensor) -> Tensor:
    start, end = to.integer("start", 0), to.integer("end", x.rank)
    return known(dims_array(list(x.shape[slice(*slice(start, end).indices(x.rank)[:2])])))


@emits("Size")
def size(to: Node, x: Tensor) -> Tensor:
    return known(dims_array([count_elements(x.shape)]).reshape(()))


def reshaped(to: Node, x: Tensor, target: Sequence[Dim]) -> Tensor:
    """x in another shape of as many elements."""
    if (arrays := to.folds(x)) is not None:
        return to.folded(arrays[0].reshape([int(size) for size in target if isinstance(size, int)]), x.type)
    return to.result(to.reshape(to.value(x), target), target, x.type)


@emits("Reshape")
def reshape(to: Node, x: Tensor, wanted: Tensor) -> Tensor:
    target = to.dims(wanted, "shape")
    if len(wanted.shape) != 1:
        raise OnnxError(f"{to.place}: shape: expected one axis, found {shape_text(wanted.shape)}")
    keep_zeros = to.integer("allowzero", 0)
    for axis, wish in enumerate(target):
        if wish == 0 and not keep_zeros:
            if axis >= x.rank:
                raise OnnxError(f"{to.place}: shape: axis {axis} is that of the input, which has {x.rank}")
            target[axis] = x.shape[axis]
    return reshaped(to, x, filled(to, x, target))


def filled(to: Node, x: Tensor, target: Sequence[Dim]) -> list[Dim]:
    """A shape with the size that -1 stands for. OnnxError if the number of elements would change."""
    total = count_elements(x.shape)
    unknown = [axis for axis, size in enumerate(target) if size == -1]
    rest = count_elements([size for size in target if size != -1])
    fits = f"{to.place}: {shape_text(x.shape)} has not as many elements as {shape_text(target)}"
    if len(unknown) > 1 or any(isinstance(size, int) and size < -1 for size in target):
        raise OnnxError(f"{to.place}: shape: expected sizes, and one -1 at most, found {shape_text(target)}")
    if not unknown:
        if not is_equal(total, rest):
            raise OnnxError(fits)
        return list(target)
    if rest == 0 or (isinstance(total, int) and isinstance(rest, int) and total % rest):
        raise OnnxError(fits)
    return [total // rest if size == -1 else size for size in target]


@emits("Flatten")
def flatten(to: Node, x: Tensor) -> Tensor:
    axis = to.integer("axis", 1)
    axis = x.rank if axis == x.rank else x.axis(axis)
    return reshaped(to, x, [count_elements(x.shape[:axis]), count_elements(x.shape[axis:])])


@emits("Squeeze", since=13)
def squeeze(to: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    if axes is None:
        if any(isinstance(size, Size) for size in x.shape):
            raise Unsupported("without axes, on a tensor of unknown size")
        return reshaped(to, x, [size for size in x.shape if size != 1])
    places = {x.axis(axis) for axis in to.ints(axes, "axes")}
    for place in places:
        if x.shape[place] != 1:
            raise OnnxError(f"{to.place}: axes: axis {place} of {shape_text(x.shape)} is not of size 1")
    return reshaped(to, x, [size for axis, size in enumerate(x.shape) if axis not in places])


@emits("Unsqueeze", since=13)
def unsqueeze(to: Node, x: Tensor, axes: Tensor) -> Tensor:
    wanted = to.ints(axes, "axes")
    rank = x.rank + len(wanted)
    places = {axis % rank for axis in wanted if -rank <= axis < rank}
    if len(places) != len(wanted):
        raise OnnxError(f"{to.place}: axes: {wanted} are not different axes of {rank}")
    sizes = iter(x.shape)
    return reshaped(to, x, [1 if axis in places else next(sizes) for axis in range(rank)])


@emits("Transpose")
def transpose(to: Node, x: Tensor) -> Tensor:
    order = to.integers("perm", list(range(x.rank))[::-1])
    if sorted(order) != list(range(x.rank)):
        raise OnnxError(f"{to.place}: perm: expected an order of {x.rank} axes, found {order}")
    return transposed(to, x, order)


def transposed(to: Node, x: Tensor, order: Sequence[int]) -> Tensor:
    """x with its axes in another order."""
    if (arrays := to.folds(x)) is not None:
        return to.folded(arrays[0].transpose(order), x.type)
    places = [place for axis in order if (place := x.ir_axis(axis)) is not None]
    return to.result(to.build.transpose(to.value(x), places), [x.shape[axis] for axis in order], x.type)


@emits("Expand")
def expand(to: Node, x: Tensor, wanted: Tensor) -> Tensor:
    target = tuple(to.dims(wanted, "shape"))
    shape = to.broadcast_shape(x, Tensor(target, x.type))
    arrays, total = to.folds(x), count_elements(shape)
    if arrays is not None and isinstance(total, int) and total <= LARGEST_FOLD:
        return to.folded(np.broadcast_to(arrays[0], [n for n in shape if isinstance(n, int)]), x.type)
    return to.result(to.broadcast(x, shape), shape, x.type)
