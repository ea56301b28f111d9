"""`tensor`: shapes, slices and joins. A tensor is a value; nothing is written in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from xdsl.dialects import tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, IntegerType, TensorType
from xdsl.interpreter import (
    Interpreter,
    InterpreterFunctions,
    PythonValues,
    ReturnedValues,
    TerminatorValue,
    impl,
    impl_terminator,
    register_impls,
)
from xdsl.ir import Attribute

from sterna.dialects.errors import CompileError
from sterna.dialects.semantics.table import Array, dtype


def shape_of(type: TensorType[Attribute], sizes: Iterator[int] | Sequence[int]) -> tuple[int, ...]:
    """The shape of a type whose dynamic axes have these sizes, in order."""
    remaining = iter(sizes)
    shape = tuple(int(next(remaining)) if size == DYNAMIC_INDEX else size for size in type.get_shape())
    if min(shape, default=0) < 0:
        raise CompileError(f"a size is negative in {shape}")
    return shape


def index_list(static: DenseArrayBase[IntegerType], dynamic: Sequence[int]) -> list[int]:
    """Static indices with the dynamic ones in the places marked as such."""
    remaining = iter(dynamic)
    return [int(next(remaining)) if index == DYNAMIC_INDEX else index for index in static.get_values()]


def slices(
    op: tensor.ExtractSliceOp | tensor.InsertSliceOp, args: PythonValues, shape: tuple[int, ...]
) -> tuple[slice, ...]:
    """The region of an array of that shape that the op's offsets, sizes and strides name.

    A dynamic offset is clamped to where the slice is inside, so that no target reads outside a buffer.
    """
    counts = (len(op.offsets), len(op.sizes))
    indices = args[-sum(counts) - len(op.strides) :] if sum(counts) + len(op.strides) else ()
    offsets = index_list(op.static_offsets, indices[: counts[0]])
    sizes = index_list(op.static_sizes, indices[counts[0] : sum(counts)])
    strides = index_list(op.static_strides, indices[sum(counts) :])
    ranges: list[slice] = []
    for axis, (offset, size, stride, limit) in enumerate(zip(offsets, sizes, strides, shape, strict=True)):
        if op.static_offsets.get_values()[axis] == DYNAMIC_INDEX:
            offset = max(min(offset, limit - (size - 1) * stride - 1), 0)
        last = offset + (size - 1) * stride
        if offset < 0 or size < 0 or stride < 1 or (size and last >= limit):
            raise CompileError(f"a slice from {offset} of {size} by {stride} is outside an axis of {limit}")
        ranges.append(slice(offset, last + 1 if size else offset, stride))
    return tuple(ranges)


@register_impls
class TensorFunctions(InterpreterFunctions):
    @impl(tensor.EmptyOp)
    def empty(self, interpreter: Interpreter, op: tensor.EmptyOp, args: PythonValues) -> PythonValues:
        """Unspecified contents; zeros, so that a run can be repeated."""
        return (np.zeros(shape_of(op.tensor.type, args), dtype(op.tensor)),)

    @impl(tensor.SplatOp)
    def splat(self, interpreter: Interpreter, op: tensor.SplatOp, args: PythonValues) -> PythonValues:
        return (np.full(shape_of(op.result.type, args[1:]), args[0], dtype(op.result)),)

    @impl(tensor.FromElementsOp)
    def from_elements(
        self, interpreter: Interpreter, op: tensor.FromElementsOp, args: PythonValues
    ) -> PythonValues:
        return (np.array(args, dtype(op.result)).reshape(op.result.type.get_shape()),)

    @impl(tensor.DimOp)
    def dim(self, interpreter: Interpreter, op: tensor.DimOp, args: PythonValues) -> PythonValues:
        source, axis = args
        if not 0 <= axis < source.ndim:
            raise CompileError(f"there is no axis {axis} in a tensor of {source.ndim}")
        return (np.array(source.shape[axis], np.int64),)

    @impl(tensor.CastOp)
    def cast(self, interpreter: Interpreter, op: tensor.CastOp, args: PythonValues) -> PythonValues:
        return args

    @impl(tensor.ExtractOp)
    def extract(self, interpreter: Interpreter, op: tensor.ExtractOp, args: PythonValues) -> PythonValues:
        source, *indices = args
        if any(not 0 <= index < size for index, size in zip(indices, source.shape, strict=True)):
            raise CompileError(
                f"element {[int(i) for i in indices]} is outside a tensor of shape {source.shape}"
            )
        return (np.asarray(source[tuple(indices)]),)

    @impl(tensor.ExtractSliceOp)
    def extract_slice(
        self, interpreter: Interpreter, op: tensor.ExtractSliceOp, args: PythonValues
    ) -> PythonValues:
        part = args[0][slices(op, args, args[0].shape)]
        return (_drop_unit_axes(part, op.result.type),)

    @impl(tensor.InsertSliceOp)
    def insert_slice(
        self, interpreter: Interpreter, op: tensor.InsertSliceOp, args: PythonValues
    ) -> PythonValues:
        source, dest = args[0], args[1].copy()
        place = dest[slices(op, args, dest.shape)]
        if place.size != source.size:
            raise CompileError(f"{source.shape} does not fill a slice of {place.shape}")
        place[...] = source.reshape(place.shape)
        return (dest,)

    @impl_terminator(tensor.YieldOp)
    def run_yield(
        self, interpreter: Interpreter, op: tensor.YieldOp, args: PythonValues
    ) -> tuple[TerminatorValue, PythonValues]:
        return ReturnedValues(args), ()

    @impl(tensor.PadOp)
    def pad(self, interpreter: Interpreter, op: tensor.PadOp, args: PythonValues) -> PythonValues:
        """Padding with one number: the region does not ask where it is."""
        if any(argument.first_use for argument in op.region.block.args):
            raise CompileError("the padding differs from place to place; only one number pads")
        low = index_list(op.static_low, args[1 : 1 + len(op.low)])
        high = index_list(op.static_high, args[1 + len(op.low) :])
        if min(*low, *high, 0) < 0:
            raise CompileError(f"a padding is negative in low {low} and high {high}")
        nowhere = (np.asarray(0),) * len(op.region.block.args)
        (number,) = interpreter.run_ssacfg_region(op.region, nowhere, "pad")
        return (np.pad(args[0], list(zip(low, high, strict=True)), constant_values=number),)

    @impl(tensor.ConcatOp)
    def concat(self, interpreter: Interpreter, op: tensor.ConcatOp, args: PythonValues) -> PythonValues:
        return (np.concatenate(args, axis=op.dim.value.data),)

    @impl(tensor.ReshapeOp)
    def reshape(self, interpreter: Interpreter, op: tensor.ReshapeOp, args: PythonValues) -> PythonValues:
        return (args[0].reshape([int(size) for size in args[1]]),)

    @impl(tensor.ExpandShapeOp)
    def expand_shape(
        self, interpreter: Interpreter, op: tensor.ExpandShapeOp, args: PythonValues
    ) -> PythonValues:
        return (args[0].reshape(index_list(op.static_output_shape, args[1:])),)

    @impl(tensor.CollapseShapeOp)
    def collapse_shape(
        self, interpreter: Interpreter, op: tensor.CollapseShapeOp, args: PythonValues
    ) -> PythonValues:
        sizes = args[0].shape
        groups = [[axis.value.data for axis in group] for group in op.reassociation]
        return (args[0].reshape([int(np.prod([sizes[axis] for axis in group])) for group in groups]),)


def _drop_unit_axes(part: Array, type: TensorType[Attribute]) -> Array:
    """A slice's type may leave out axes of size 1: the first ones that leave the shape of the type."""
    wanted = type.get_shape()
    unit = [axis for axis, size in enumerate(part.shape) if size == 1]
    for dropped in combinations(unit, max(part.ndim - len(wanted), 0)):
        kept = [size for axis, size in enumerate(part.shape) if axis not in dropped]
        if len(kept) == len(wanted) and all(
            w in (k, DYNAMIC_INDEX) for k, w in zip(kept, wanted, strict=True)
        ):
            return part.reshape(kept)
    raise CompileError(f"a slice of shape {part.shape} is not {type}")
