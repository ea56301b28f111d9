"""Appends tensor operations before one that a pass replaces: what rewrites of shapes and constants are written with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from xdsl.dialects import arith
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AffineMapAttr,
    ArrayAttr,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    IndexType,
    IntegerAttr,
    TensorType,
    i64,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorTypeAttr
from xdsl.dialects.tensor import CollapseShapeOp, DimOp, EmptyOp, ExpandShapeOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap
from xdsl.rewriter import InsertPoint, Rewriter

from sterna.dialects.ternary import tensor

Shape = tuple[int, ...]


@dataclass
class Emission:
    """Operations in order, all of which come from where `source` does. Those that would change nothing are left out."""

    source: Operation
    operations: list[Operation] = field(default_factory=list[Operation])

    def add(self, op: Operation) -> SSAValue:
        """The first result of the operation, which is appended."""
        op.location = self.source.location
        self.operations.append(op)
        return op.results[0]

    def insert(self) -> None:
        """Puts what was emitted before `source`."""
        Rewriter.insert_op(self.operations, InsertPoint.before(self.source))
        self.operations = []

    def discard(self) -> None:
        """Forgets what was emitted, so that it reads nothing any longer."""
        for op in reversed(self.operations):
            op.erase()
        self.operations = []

    def number(self, number: float, element: Attribute, shape: Shape = ()) -> SSAValue:
        """A constant whose elements are all one number."""
        type = TensorType(element, shape)
        dense = cast(Any, DenseIntOrFPElementsAttr).from_list(type, [number])
        return self.add(arith.ConstantOp(dense))

    def table(self, numbers: Sequence[float], element: Attribute, shape: Shape) -> SSAValue:
        dense = cast(Any, DenseIntOrFPElementsAttr).from_list(TensorType(element, shape), list(numbers))
        return self.add(arith.ConstantOp(dense))

    def empty(self, like: SSAValue, element: Attribute | None = None) -> SSAValue:
        """An init of the shape of `like`."""
        type = tensor(like)
        sizes = [self._size(like, axis) for axis, n in enumerate(type.get_shape()) if n == DYNAMIC_INDEX]
        return self.add(EmptyOp(sizes, TensorType(element or type.element_type, type.get_shape())))

    def filled(self, number: float, element: Attribute, like: SSAValue, axes: Sequence[int]) -> SSAValue:
        """A tensor whose axes are as long as those of `like`, and whose elements are all one number."""
        shape = tuple(tensor(like).get_shape()[axis] for axis in axes)
        if DYNAMIC_INDEX not in shape:
            return self.number(number, element, shape)
        sizes = [self._size(like, axis) for axis, n in zip(axes, shape, strict=True) if n == DYNAMIC_INDEX]
        empty = self.add(EmptyOp(sizes, TensorType(element, shape)))
        scalar = self.add(arith.ConstantOp(cast(Any, IntegerAttr)(number, element)))
        return self.add(linalg.FillOp([scalar], [empty], [empty.type]))

    def transpose(self, value: SSAValue, permutation: Sequence[int]) -> SSAValue:
        """Axis j of the result is axis permutation[j] of the value."""
        if isinstance(op := value.owner, linalg.TransposeOp):
            inner = op.permutation.get_values()
            return self.transpose(op.inputs[0], [inner[axis] for axis in permutation])
        if list(permutation) == sorted(permutation):
            return value
        type = tensor(value)
        shape = [type.get_shape()[axis] for axis in permutation]
        sizes = [self._size(value, axis) for axis in permutation if type.get_shape()[axis] == DYNAMIC_INDEX]
        empty = self.add(EmptyOp(sizes, TensorType(type.element_type, shape)))
        order = DenseArrayBase.from_list(i64, list(permutation))
        return self.add(linalg.TransposeOp(value, empty, order))

    def collapse(self, value: SSAValue, groups: Sequence[Sequence[int]]) -> SSAValue:
        """Each group of neighbouring axes becomes one; no groups make a scalar of one element."""
        type = tensor(value)
        if len(groups) == type.get_num_dims():
            return value
        shape = [_product([type.get_shape()[axis] for axis in group]) for group in groups]
        result = TensorType(type.element_type, shape)
        if isinstance(value.owner, ExpandShapeOp) and value.owner.src.type == result:
            return value.owner.src
        properties: dict[str, Attribute] = {"reassociation": _reassociation(groups)}
        return self.add(CollapseShapeOp.build(operands=[value], result_types=[result], properties=properties))

    def expand(self, value: SSAValue, groups: Sequence[Sequence[int]], shape: Sequence[int]) -> SSAValue:
        """Axis j of the value becomes the axes groups[j] of the result, which has that shape."""
        type = tensor(value)
        if len(shape) == type.get_num_dims():
            return value
        sizes = [self._size(value, axis) for axis, n in enumerate(type.get_shape()) if n == DYNAMIC_INDEX]
        result = TensorType(type.element_type, shape)
        return self.add(ExpandShapeOp(value, sizes, _reassociation(groups), list(shape), result))

    def along_last_axis(self, value: SSAValue, like: SSAValue) -> SSAValue:
        """A vector, or a scalar, repeated over all axes of `like` that it lacks."""
        rank, own = tensor(like).get_num_dims(), tensor(value).get_num_dims()
        if rank == own:
            return value
        init = self.empty(like, tensor(value).element_type)
        added = DenseArrayBase.from_list(i64, list(range(rank - own)))
        return self.add(linalg.BroadcastOp(value, init, added))

    def along_first_axis(self, value: SSAValue, like: SSAValue) -> SSAValue:
        """A vector, each element of which is repeated over all axes of `like` but the first."""
        init = self.empty(like, tensor(value).element_type)
        added = DenseArrayBase.from_list(i64, list(range(1, tensor(like).get_num_dims())))
        return self.add(linalg.BroadcastOp(value, init, added))

    def map(self, value: SSAValue, element: Attribute, step: type[Operation]) -> SSAValue:
        """`step`, an operation on scalars with one result of type `element`, of every element."""
        init = self.empty(value, element)
        body = Block(arg_types=[tensor(value).element_type, element])
        body.add_op(op := step.create(operands=[body.args[0]], result_types=[element]))
        body.add_op(linalg.YieldOp(op.results[0]))
        return self.loop([value], init, body)

    def loop(
        self,
        inputs: Sequence[SSAValue],
        init: SSAValue,
        body: Block,
        axes: Sequence[Sequence[int]] | None = None,
    ) -> SSAValue:
        """A parallel loop over `init`; axis j of input n lies along its axis axes[n][j]."""
        rank = tensor(init).get_num_dims()
        lists = [*(axes or [range(rank)] * len(inputs)), range(rank)]
        maps = [AffineMap(rank, 0, tuple(AffineExpr.dimension(axis) for axis in lie)) for lie in lists]
        kinds = ArrayAttr([IteratorTypeAttr.parallel()] * rank)
        indexing = ArrayAttr([AffineMapAttr(map) for map in maps])
        return self.add(linalg.GenericOp(inputs, [init], Region(body), indexing, kinds, [init.type]))

    def _size(self, value: SSAValue, axis: int) -> SSAValue:
        number = self.add(arith.ConstantOp(IntegerAttr(axis, IndexType())))
        return self.add(DimOp(value, number))


def _product(sizes: Sequence[int]) -> int:
    """Of sizes, of which a dynamic one stands alone or with ones."""
    if DYNAMIC_INDEX in sizes:
        return DYNAMIC_INDEX
    total = 1
    for size in sizes:
        total *= size
    return total


def _reassociation(groups: Sequence[Sequence[int]]) -> ArrayAttr[ArrayAttr[IntegerAttr[Any]]]:
    return ArrayAttr([ArrayAttr([IntegerAttr(axis, i64) for axis in group]) for group in groups])
