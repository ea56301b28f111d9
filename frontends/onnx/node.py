"""What an emitter of an ONNX operator sees: the node's attributes, its inputs as IR values, and the tensor builder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, GraphProto, NodeProto
from xdsl.dialects import arith
from xdsl.dialects.builtin import IntegerType, f16, f32, i1
from xdsl.ir import Attribute, Operation, SSAValue

from sterna.dialects.scalar_writer import Constants, write_over
from sterna.frontends.onnx.data_types import BOOL, FLOAT, INT8, INT32, INT64, DataType, data_type
from sterna.frontends.onnx.errors import OnnxError, Unsupported, shown
from sterna.frontends.onnx.sizes import (
    Dim,
    Shape,
    Size,
    count_elements,
    ir_shape,
    ir_size,
    shape_text,
)
from sterna.frontends.onnx.tensors import stored_tensor
from sterna.frontends.onnx.values import Tensor, known
from sterna.frontends.tensor_builder import TensorBuilder, element_of, shape_of

if TYPE_CHECKING:
    from sterna.frontends.onnx.scope import Scope

Array = npt.NDArray[Any]

LARGEST_FOLD = 1 << 16
LARGEST_FLOAT_FOLD = 16
"""Elements of inputs from which an output is computed when compiling."""

LARGEST_TENSOR = 1 << 28
"""Elements of a tensor that a program computes: a few bytes of a model file must not ask for terabytes."""


class Node:
    """One node on its way to IR. The methods that read attributes give `default` for one that is left out."""

    def __init__(self, proto: NodeProto, scope: Scope, opset: int, place: str) -> None:
        self.proto = proto
        self.scope = scope
        self.opset = opset
        """The version of the node's domain."""
        self.place = place
        """How messages name the node."""
        self._attributes = {attribute.name: attribute for attribute in proto.attribute}

    @property
    def build(self) -> TensorBuilder:
        return self.scope.build

    @property
    def output_count(self) -> int:
        return len(self.proto.output)

    # Attributes

    def _attribute(self, name: str, kind: AttributeProto.AttributeType) -> AttributeProto | None:
        attribute = self._attributes.get(name)
        if attribute is None:
            return None
        if attribute.type != kind:
            names = {number: text for text, number in AttributeProto.AttributeType.items()}
            expected, found = names[kind], names.get(attribute.type, "nothing")
            raise OnnxError(f"{self.place}: attribute '{shown(name)}': expected {expected}, found {found}")
        return attribute

    def has(self, attribute: str) -> bool:
        return attribute in self._attributes

    def integer(self, name: str, default: int | None = None) -> int:
        attribute = self._attribute(name, AttributeProto.INT)
        return self._required(name, default) if attribute is None else attribute.i

    def number(self, name: str, default: float | None = None) -> float:
        attribute = self._attribute(name, AttributeProto.FLOAT)
        return self._required(name, default) if attribute is None else attribute.f

    def text(self, name: str, default: str | None = None) -> str:
        attribute = self._attribute(name, AttributeProto.STRING)
        return self._required(name, default) if attribute is None else attribute.s.decode(errors="replace")

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        attribute = self._attribute(name, AttributeProto.INTS)
        return list(self._required(name, default) if attribute is None else attribute.ints)

    def numbers(self, name: str, default: Sequence[float] | None = None) -> list[float]:
        attribute = self._attribute(name, AttributeProto.FLOATS)
        return list(self._required(name, default) if attribute is None else attribute.floats)

    def tensor(self, name: str) -> Tensor | None:
        if (attribute := self._attribute(name, AttributeProto.TENSOR)) is None:
            return None
        where = f"{self.place}: attribute '{shown(name)}'"
        stored = stored_tensor(attribute.t, self.scope.model.folder, where)
        return Tensor(stored.shape, stored.type, known=stored, name=self.output_name(0))

    def graph(self, name: str) -> GraphProto:
        attribute = self._attribute(name, AttributeProto.GRAPH)
        return self._required(name, None) if attribute is None else attribute.g

    def data_type(self, name: str, default: DataType | None = None) -> DataType:
        """A type that an attribute names by its number."""
        if name not in self._attributes and default is not None:
            return default
        return data_type(self.integer(name))

    def _required(self, name: str, default: Any) -> Any:
        if default is None:
            raise OnnxError(f"{self.place}: attribute '{name}': the operator needs it")
        return default

    def output_name(self, output: int) -> str:
        return self.proto.output[output] if output < len(self.proto.output) else ""

    # Numbers that are known when compiling

    def known(self, tensor: Tensor, what: str) -> Array:
        """The numbers of an input that the graph must know when compiling, sizes among them (dtype object)."""
        if tensor.known is None:
            raise Unsupported(f"{what} must be known when compiling, and is computed from an input")
        return self.scope.read(tensor.known)

    def ints(self, tensor: Tensor, what: str) -> list[int]:
        """Plain numbers that are known when compiling."""
        if not tensor.type.is_integer:
            raise OnnxError(f"{self.place}: {what}: expected integers, found {tensor.type.name}")
        numbers = self.known(tensor, what).reshape(-1).tolist()
        if any(isinstance(number, Size) for number in numbers):
            raise Unsupported(f"{what} must be a number, and depends on the size of an input")
        return numbers

    def dims(self, tensor: Tensor, what: str) -> list[Dim]:
        """Numbers and sizes that are known when compiling."""
        if not tensor.type.is_integer:
            raise OnnxError(f"{self.place}: {what}: expected integers, found {tensor.type.name}")
        return list(self.known(tensor, what).reshape(-1).tolist())

    def scalar(self, tensor: Tensor, what: str) -> Any:
        """One number that is known when compiling."""
        numbers = self.known(tensor, what).reshape(-1).tolist()
        if len(numbers) != 1 or isinstance(numbers[0], Size):
            raise Unsupported(f"{what} must be one number, found {shape_text(tensor.shape)}")
        return numbers[0]

    def folds(self, *tensors: Tensor | None) -> list[Array] | None:
        """The numbers of inputs that are all known and few, so that what follows from them is computed now.

        Larger tensors, and floats, are weights: what follows from them is computed by a pass, and keeps its name.
        """
        arrays: list[Array] = []
        for tensor in tensors:
            if tensor is None:
                continue
            limit = LARGEST_FLOAT_FOLD if tensor.type.is_float else LARGEST_FOLD
            if tensor.known is None or np.prod(tensor.known.shape, dtype=object) > limit:
                return None
            arrays.append(self.scope.read(tensor.known))
        return arrays

    def folded(self, array: Array, type: DataType) -> Tensor:
        """An output that was computed now."""
        if array.dtype == object and not any(isinstance(size, Size) for size in array.reshape(-1).tolist()):
            array = array.astype(type.held)
        return known(array, type, self.output_name(0))

    # Values

    def value(self, tensor: Tensor) -> SSAValue:
        """The tensor in the IR: what a node computed, a weight, or a constant."""
        return self.scope.value(tensor)

    def result(self, value: SSAValue, shape: Sequence[Dim], type: DataType) -> Tensor:
        """An output: a value of the IR, and ONNX's view of it."""
        shape = tuple(shape)
        assert shape_of(value) == ir_shape(shape), f"{shape_of(value)} is not {shape_text(shape)}"
        assert element_of(value) == type.element, f"{element_of(value)} is not {type.name}"
        return Tensor(shape, type, value)

    def check_size(self, shape: Sequence[Dim]) -> None:
        """Unsupported for a tensor that is too large to be meant."""
        static = count_elements([size for size in map(ir_size, shape) if size >= 0])
        if not isinstance(static, int) or static > LARGEST_TENSOR:
            raise Unsupported(f"a tensor of shape {shape_text(shape)}: more than {LARGEST_TENSOR} elements")

    def broadcast_shape(self, *tensors: Tensor) -> Shape:
        """ONNX's (numpy's) rule: aligned on the right, 1 stretches. OnnxError for shapes that do not fit."""
        rank = max(tensor.rank for tensor in tensors)
        aligned = [(1,) * (rank - tensor.rank) + tensor.shape for tensor in tensors]
        shape: list[Dim] = []
        for sizes in zip(*aligned, strict=True):
            others = {size for size in sizes if size != 1}
            if len(others) > 1:
                shapes = " and ".join(shape_text(tensor.shape) for tensor in tensors)
                raise OnnxError(f"{self.place}: the shapes {shapes} do not fit each other")
            shape.append(others.pop() if others else 1)
        self.check_size(shape)
        return tuple(shape)

    def broadcast(self, tensor: Tensor, shape: Shape) -> SSAValue:
        """The tensor's value, repeated to `shape`, to which it can be broadcast."""
        if tensor.known is not None and (number := self.scope.single(tensor.known)) is not None:
            return self.build.splat(number, ir_shape(shape), tensor.type.element)
        return self.stretch(self.value(tensor), tensor.shape, shape)

    def stretch(self, value: SSAValue, shape: Shape, target: Shape) -> SSAValue:
        """A value of ONNX's shape `shape`, repeated to `target`."""
        shape = (1,) * (len(target) - len(shape)) + shape
        kept = [axis for axis, size in enumerate(target) if ir_size(size) != 1]
        added = [position for position, axis in enumerate(kept) if ir_size(shape[axis]) == 1]
        return self.build.broadcast(value, ir_shape(target), added)

    def splat(self, number: float, shape: Sequence[Dim], type: DataType) -> SSAValue:
        return self.build.splat(number, ir_shape(tuple(shape)), type.element)

    def reshape(self, value: SSAValue, shape: Sequence[Dim]) -> SSAValue:
        """A value in another shape of ONNX's."""
        return self.ir_reshape(value, ir_shape(tuple(shape)))

    def ir_reshape(self, value: SSAValue, shape: tuple[int, ...]) -> SSAValue:
        """A value in another shape of the IR's."""
        if (reshaped := self.build.reshape(value, shape)) is None:
            raise Unsupported("merging an axis of unknown size with another")
        return reshaped

    def iota(self, shape: Sequence[Dim], axis: int) -> SSAValue:
        """The index along one axis, as i64, everywhere in `shape`."""
        place = Tensor(tuple(shape), INT64).ir_axis(axis)
        if place is None:
            return self.splat(0, shape, INT64)
        return self.build.iota(ir_shape(tuple(shape)), place)

    # Operations

    def unary(self, op: type[Operation], value: SSAValue) -> SSAValue:
        return self.build.add(op(value))  # pyright: ignore[reportCallIssue, reportArgumentType]

    def binary(self, op: type[Operation], left: SSAValue, right: SSAValue) -> SSAValue:
        return self.build.add(op(left, right))  # pyright: ignore[reportCallIssue, reportArgumentType]

    def select(self, condition: SSAValue, yes: SSAValue, no: SSAValue) -> SSAValue:
        """Elementwise; the three have one shape."""
        inputs = [condition, yes, no]
        return self.build.pointwise(inputs, element_of(yes), lambda x: arith.SelectOp(x[0], x[1], x[2]))

    def compare(self, predicate: str, left: SSAValue, right: SSAValue, type: DataType) -> SSAValue:
        """eq, ne, lt, le, gt or ge as i1; a comparison with NaN is false, but for ne."""
        if isinstance(element_of(left), IntegerType):
            signed = (
                predicate if predicate in ("eq", "ne") else ("u" if type.is_unsigned else "s") + predicate
            )
            return self.build.pointwise([left, right], i1, lambda x: arith.CmpiOp(x[0], x[1], signed))
        ordered = "une" if predicate == "ne" else "o" + predicate
        return self.build.pointwise([left, right], i1, lambda x: arith.CmpfOp(x[0], x[1], ordered))

    def cast(self, tensor: Tensor, to: DataType) -> Tensor:
        """The tensor in another type, by ONNX's rules of Cast: floats truncate toward zero, integers wrap."""
        if tensor.type == to:
            return tensor
        if tensor.known is not None and (converted := self.scope.converted(tensor, to)) is not None:
            return converted
        value = self.convert(self.value(tensor), tensor.type, to)
        return replace(self.result(value, tensor.shape, to), size=self._single_size(tensor))

    def _single_size(self, tensor: Tensor) -> Dim | None:
        """The size that an integer of one element is known to be."""
        if not tensor.type.is_integer or tensor.known is None or count_elements(tensor.shape) != 1:
            return None
        (size,) = self.scope.read(tensor.known).reshape(-1).tolist()
        return size

    def convert(self, value: SSAValue, source: DataType, to: DataType) -> SSAValue:
        """A value in the element type of another type; between types that share one it is nothing."""
        if to.bits < 8 and to.is_integer and source != to:
            wide = self.convert(value, source, INT8)
            return self.map(wide, to.element, lambda x: self._few_bits(x, to))
        if to.name == "float16" and source != to:
            return self.convert(value, source, FLOAT) if source.bits <= 8 else self._to_half(value, source)
        if source.element == to.element or (source.is_float and to.is_float):
            return value
        if to == BOOL:
            zero = self.build.splat(0, shape_of(value), source.element)
            return self.compare("ne", value, zero, source)
        if source.is_float and (to.kind == "unsigned" or to.bits < 32):
            # Out of range is undefined in ONNX; through a wider type it wraps, as numpy and C do.
            wide = self.convert(value, source, INT32 if to.bits < 32 else INT64)
            return wide if to.bits >= 64 else self.convert(wide, INT32 if to.bits < 32 else INT64, to)
        return self.build.pointwise([value], to.element, lambda x: _scalar_cast(x[0], source, to))

    def _to_half(self, value: SSAValue, source: DataType) -> SSAValue:
        """Rounded to float16, and held in f32. Integers round once to f32 first, as ONNX's own casts do."""
        single = value if source.is_float else self.convert(value, source, FLOAT)

        def rounded(x: SSAValue) -> Operation:
            return arith.ExtFOp(self.build.add(arith.TruncFOp(x, f16)), f32)

        return self.map(single, f32, rounded)

    def _few_bits(self, value: SSAValue, to: DataType) -> Operation:
        """The lowest bits of an i8, sign-extended for a signed type."""
        if to.is_unsigned:
            return arith.AndIOp(value, self.build.scalar((1 << to.bits) - 1, to.element))
        spare = self.build.scalar(8 - to.bits, to.element)
        return arith.ShRSIOp(self.build.add(arith.ShLIOp(value, spare)), spare)

    def written(self, values: Sequence[SSAValue], function: Callable[..., Any]) -> SSAValue:
        """A function of `dialects/elementary.py` or `exact_functions.py` of the f32 elements, written out."""
        standing: list[Operation] = []

        def stand_in(scalars: Sequence[SSAValue]) -> Operation:
            standing.append(arith.AddfOp(scalars[0], scalars[-1]))
            return standing[0]

        result = self.build.pointwise(values, f32, stand_in)
        (op,) = standing
        assert op.parent is not None
        write_over(op, function, op.parent.args[: len(values)], Constants(op.parent))
        return result

    def map(self, value: SSAValue, element: Attribute, body: Callable[[SSAValue], Operation]) -> SSAValue:
        """An op that exists on scalars, on every element."""
        return self.build.pointwise([value], element, lambda x: body(x[0]))


def _scalar_cast(value: SSAValue, source: DataType, to: DataType) -> Operation:
    new: Any = to.element
    if source.is_float:
        return arith.FPToSIOp(value, new)
    if to.is_float:
        return (arith.UIToFPOp if source.is_unsigned else arith.SIToFPOp)(value, new)
    if to.held_bits < source.held_bits:
        return arith.TruncIOp(value, new)
    return (arith.ExtUIOp if source.is_unsigned else arith.ExtSIOp)(value, new)
