"""Builds IR on tensors in one block: what an importer needs, whatever framework it imports from.

Shapes are IR shapes: no axis of size 1, and `DYNAMIC_INDEX` is T, the one dynamic size. Splats, broadcasts and inits
are made once per block and reused, so that the text of a large program stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, prod
from typing import Any, TypeAlias, cast

from xdsl.builder import Builder
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AffineMapAttr,
    AnyFloat,
    ArrayAttr,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    LocationAttr,
    TensorType,
    UnknownLoc,
    f32,
    i64,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorTypeAttr
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineMap
from xdsl.rewriter import InsertPoint

Shape: TypeAlias = tuple[int, ...]
Span: TypeAlias = tuple[int, int]
ScalarBody: TypeAlias = Callable[[Sequence[SSAValue]], Operation]


def shape_of(value: SSAValue) -> Shape:
    return cast(TensorType[Attribute], value.type).get_shape()


def element_of(value: SSAValue) -> Attribute:
    return cast(TensorType[Attribute], value.type).element_type


def without_units(shape: Sequence[int]) -> Shape:
    return tuple(size for size in shape if size != 1)


def integer_type(element: Attribute) -> IntegerType | None:
    return cast(IntegerType, element) if isinstance(element, IntegerType) else None


def number_attr(number: float, element: Attribute) -> FloatAttr | IntegerAttr[IntegerType]:
    if (integer := integer_type(element)) is not None:
        return IntegerAttr(int(number), integer, truncate_bits=True)
    return FloatAttr(float(number), cast(AnyFloat, element))


def smallest(element: Attribute) -> float:
    """The identity of a maximum over floats or signed integers."""
    integer = integer_type(element)
    return -inf if integer is None else -(1 << integer.width.data - 1)


class TensorBuilder:
    """Appends tensor ops to `block`, each with the current `location`. Every method returns the value it made."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.location: LocationAttr = UnknownLoc()
        self.rows: SSAValue | None = None
        """T as an index, once an input has that axis."""
        self._builder = Builder(InsertPoint.at_end(block))
        self._memo: dict[object, SSAValue] = {}

    def add(self, op: Operation) -> SSAValue:
        """Appends `op`; returns its first result."""
        op.location = self.location
        self._builder.insert(op)
        return op.results[0]

    def _once(self, key: object, make: Callable[[], SSAValue]) -> SSAValue:
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def set_rows(self, value: SSAValue, axis: int) -> None:
        """T is the size of that axis of `value`."""
        self.rows = self.add(tensor.DimOp(value, self.index(axis)))
        self.rows.name_hint = "rows"

    def _sizes(self, shape: Shape) -> list[SSAValue]:
        if DYNAMIC_INDEX not in shape:
            return []
        assert self.rows is not None, "a dynamic size comes from an input"
        return [self.rows] * shape.count(DYNAMIC_INDEX)

    def index(self, value: int) -> SSAValue:
        attr = IntegerAttr(value, IndexType())
        return self._once(("index", value), lambda: self.add(arith.ConstantOp(attr)))

    def scalar(self, number: float, element: Attribute = f32) -> SSAValue:
        attr = number_attr(number, element)
        return self._once(("scalar", attr), lambda: self.add(arith.ConstantOp(attr)))

    def splat(self, number: float, shape: Shape, element: Attribute = f32) -> SSAValue:
        def make() -> SSAValue:
            type = TensorType(element, shape)
            return self.add(tensor.SplatOp(self.scalar(number, element), self._sizes(shape), type))

        return self._once(("splat", number_attr(number, element), shape), make)

    def dense(self, numbers: Sequence[float], shape: Shape, element: Attribute) -> SSAValue:
        """A short table of numbers in the text."""
        type = TensorType(element, shape)
        attr = cast(Any, DenseIntOrFPElementsAttr).from_list(type, list(numbers))
        return self.add(arith.ConstantOp(attr))

    def empty(self, shape: Shape, element: Attribute = f32) -> SSAValue:
        type = TensorType(element, shape)
        return self._once(("empty", type), lambda: self.add(tensor.EmptyOp(self._sizes(shape), type)))

    def broadcast(self, value: SSAValue, shape: Shape, added: Sequence[int]) -> SSAValue:
        """`value` repeated along the axes `added` of `shape`."""
        if not added:
            return value
        dimensions = DenseArrayBase.from_list(i64, list(added))

        def make() -> SSAValue:
            init = self.empty(shape, element_of(value))
            return self.add(linalg.BroadcastOp(value, init, dimensions))

        return self._once(("broadcast", value, shape, dimensions), make)

    def reduce(
        self,
        value: SSAValue,
        axes: Sequence[int],
        op: Callable[[SSAValue, SSAValue], Operation],
        start: float,
    ) -> SSAValue:
        """Reduces `axes` with the scalar `op`, beginning with `start`."""
        element, shape = element_of(value), shape_of(value)
        body = Block(arg_types=[element, element])
        step = op(body.args[0], body.args[1])
        body.add_ops([step, linalg.YieldOp(step.results[0])])
        kept = tuple(size for axis, size in enumerate(shape) if axis not in axes)
        init = self.splat(start, kept, element)
        dimensions = DenseArrayBase.from_list(i64, sorted(axes))
        return self.add(linalg.ReduceOp(value, init, dimensions, Region(body)))

    def pointwise(self, inputs: Sequence[SSAValue], element: Attribute, body: ScalarBody) -> SSAValue:
        """An elementwise op that exists on scalars only (casts, comparisons): `linalg.generic` with one op in it."""
        shape = shape_of(inputs[0])
        block = Block(arg_types=[*(element_of(value) for value in inputs), element])
        step = body(block.args)
        block.add_ops([step, linalg.YieldOp(step.results[0])])
        identity = AffineMapAttr(AffineMap.identity(len(shape)))
        parallel = IteratorTypeAttr.parallel()
        op = linalg.GenericOp(
            inputs,
            [self.empty(shape, element)],
            Region(block),
            ArrayAttr([identity] * (len(inputs) + 1)),
            ArrayAttr([parallel] * len(shape)),
            [TensorType(element, shape)],
        )
        return self.add(op)

    def transpose(self, value: SSAValue, permutation: Sequence[int]) -> SSAValue:
        if list(permutation) == list(range(len(permutation))):
            return value
        shape = shape_of(value)
        init = self.empty(tuple(shape[axis] for axis in permutation), element_of(value))
        return self.add(linalg.TransposeOp(value, init, DenseArrayBase.from_list(i64, list(permutation))))

    def matmul(self, left: SSAValue, right: SSAValue) -> SSAValue:
        """[T, K] x [K, M] -> [T, M]."""
        shape = (shape_of(left)[0], shape_of(right)[1])
        return self.add(linalg.MatmulOp([left, right], [self.splat(0.0, shape)]))

    def reshape(self, value: SSAValue, shape: Shape) -> SSAValue | None:
        """The same elements in row-major order; None if T would have to merge with another axis, or split."""
        source = shape_of(value)
        if source == shape:
            return value
        if (groups := _reassociate(source, shape)) is None:
            return None
        if not source:
            return self._expand(value, shape, [])
        middle = tuple(
            DYNAMIC_INDEX if DYNAMIC_INDEX in group else prod(group)
            for group in (source[a:b] for (a, b), _ in groups)
        )
        if not shape:
            return self._collapse(value, shape, [])
        if source != middle:
            value = self._collapse(value, middle, [span for span, _ in groups])
        if middle != shape:
            value = self._expand(value, shape, [span for _, span in groups])
        return value

    def _collapse(self, value: SSAValue, shape: Shape, spans: Sequence[Span]) -> SSAValue:
        properties: dict[str, Attribute] = {"reassociation": _reassociation(spans)}
        type = TensorType(element_of(value), shape)
        op = tensor.CollapseShapeOp.build(operands=[value], result_types=[type], properties=properties)
        return self.add(op)

    def _expand(self, value: SSAValue, shape: Shape, spans: Sequence[Span]) -> SSAValue:
        type = TensorType(element_of(value), shape)
        return self.add(tensor.ExpandShapeOp(value, self._sizes(shape), _reassociation(spans), shape, type))

    def slice(self, value: SSAValue, axis: int, start: int | SSAValue, size: int, step: int = 1) -> SSAValue:
        """`size` elements of that axis; one element drops it."""
        shape = list(shape_of(value))
        offsets: list[SSAValue | int] = [0] * len(shape)
        offsets[axis] = start
        shape[axis] = size
        steps = [1] * len(shape)
        steps[axis] = step
        sizes: list[SSAValue | int] = [self._sizes((s,))[0] if s == DYNAMIC_INDEX else s for s in shape]
        kept = [s for i, s in enumerate(shape) if i != axis or size != 1]
        type = TensorType(element_of(value), kept)
        return self.add(tensor.ExtractSliceOp(value, offsets, sizes, steps, type))

    def insert_slice(self, part: SSAValue, value: SSAValue, axis: int, start: int, step: int = 1) -> SSAValue:
        """`value` with `part`, which may lack the axis, in the place of elements of that axis."""
        shape = shape_of(value)
        offsets, sizes, steps = [0] * len(shape), list(shape), [1] * len(shape)
        same_rank = len(shape_of(part)) == len(shape)
        offsets[axis], sizes[axis], steps[axis] = start, shape_of(part)[axis] if same_rank else 1, step
        dynamic = self._sizes(tuple(sizes))
        return self.add(tensor.InsertSliceOp.get(part, value, sizes, offsets, steps, sizes=dynamic))

    def concat(self, values: Sequence[SSAValue], axis: int) -> SSAValue:
        shape = list(shape_of(values[0]))
        shape[axis] = sum(shape_of(value)[axis] for value in values)
        return self.add(tensor.ConcatOp(values, axis, TensorType(element_of(values[0]), shape)))


def _reassociate(source: Shape, target: Shape) -> list[tuple[Span, Span]] | None:
    """The smallest runs of axes of `source` and `target` that hold the same elements."""
    groups: list[tuple[Span, Span]] = []
    i = j = 0
    while i < len(source) or j < len(target):
        a, b = i, j
        i, j = i + (i < len(source)), j + (j < len(target))
        while (left := prod(source[a:i])) != (right := prod(target[b:j])):
            if left < 0 or right < 0:
                return None
            if left < right and i < len(source):
                i += 1
            elif right < left and j < len(target):
                j += 1
            else:
                return None
        if groups and (a == i or b == j):
            # Axes of size 1 at the end belong to the run before them.
            (first, _), (other, _) = groups.pop()
            a, b = first, other
        groups.append(((a, i), (b, j)))
    return groups


def _reassociation(spans: Sequence[Span]) -> ArrayAttr[ArrayAttr[IntegerAttr]]:
    return ArrayAttr([ArrayAttr([IntegerAttr(axis, i64) for axis in range(a, b)]) for a, b in spans])
