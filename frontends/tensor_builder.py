"""Builds IR on tensors in one block: what an importer needs, whatever framework it imports from.

Shapes are IR shapes: no axis of size 1, and `DYNAMIC_INDEX` is T, the one dynamic size, at any axis. Splats, broadcasts
and inits are made once per block and reused, so that the text of a large program stays small.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Generator, MutableMapping, Sequence
from contextlib import contextmanager
from math import inf, prod
from typing import Any, TypeAlias, cast

from xdsl.builder import Builder
from xdsl.dialects import arith, scf, tensor
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
from xdsl.ir.affine import AffineDimExpr, AffineMap
from xdsl.rewriter import InsertPoint

from sterna.dialects.indexing_ops import GatherOp, TopKOp, WindowsOp

Shape: TypeAlias = tuple[int, ...]
Span: TypeAlias = tuple[int, int]
ScalarBody: TypeAlias = Callable[[Sequence[SSAValue]], Operation]
LoopBody: TypeAlias = Callable[[SSAValue, Sequence[SSAValue]], Sequence[SSAValue]]
ScanBody: TypeAlias = Callable[[SSAValue, Sequence[SSAValue]], tuple[Sequence[SSAValue], Sequence[SSAValue]]]


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


def largest(element: Attribute) -> float:
    """The identity of a minimum over floats or signed integers."""
    integer = integer_type(element)
    return inf if integer is None else (1 << integer.width.data - 1) - 1


class TensorBuilder:
    """Appends tensor ops to `block`, each with the current `location`. Every method returns the value it made."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.location: LocationAttr = UnknownLoc()
        self.rows: SSAValue | None = None
        """T as an index, once an input has that axis."""
        self._builder = Builder(InsertPoint.at_end(block))
        self._memo: MutableMapping[object, SSAValue] = {}

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
        axes = list(range(len(shape)))
        return self.generic([(value, axes) for value in inputs], shape, element, body)

    def generic(
        self,
        inputs: Sequence[tuple[SSAValue, Sequence[int]]],
        shape: Shape,
        element: Attribute,
        body: ScalarBody,
    ) -> SSAValue:
        """The result of that shape whose every element `body` computes from those of the inputs.

        Each input comes with the axis of the result that each of its own axes runs along, so that it is broadcast
        along the others. `body` is given the scalars, and returns its last op; `add` and `scalar` make those before.
        """
        maps = [AffineMap(len(shape), 0, tuple(map(AffineDimExpr, axes))) for _, axes in inputs]
        init = self.empty(shape, element)
        return self._loops(
            [value for value, _ in inputs], init, [*maps, AffineMap.identity(len(shape))], False, body
        )

    def _loops(
        self,
        inputs: Sequence[SSAValue],
        init: SSAValue,
        maps: Sequence[AffineMap],
        reduces: bool,
        body: ScalarBody,
    ) -> SSAValue:
        """A `linalg.generic` over all the loops of the maps, of which the last reduces or none."""
        block = Block(arg_types=[*map(element_of, inputs), element_of(init)])
        with self._inside(block, {}):
            self._builder.insert(linalg.YieldOp(self.add(body(block.args))))
        kinds = [IteratorTypeAttr.parallel()] * maps[0].num_dims
        if reduces:
            kinds[-1] = IteratorTypeAttr.reduction()
        op = linalg.GenericOp(
            inputs, [init], Region(block), ArrayAttr(map(AffineMapAttr, maps)), ArrayAttr(kinds), [init.type]
        )
        return self.add(op)

    @contextmanager
    def _inside(self, block: Block, seen: MutableMapping[object, SSAValue]) -> Generator[None]:
        """Appends to `block`, which may reuse the values `seen`; what is made in it is not reused outside."""
        outer = self.block, self._builder, self._memo
        self.block, self._builder = block, Builder(InsertPoint.at_end(block))
        self._memo = ChainMap({}, seen)
        try:
            yield
        finally:
            self.block, self._builder, self._memo = outer

    def iota(self, shape: Shape, axis: int, element: Attribute = i64) -> SSAValue:
        """0, 1, 2, ... along that axis, repeated along the others: integers."""

        def number(_: Sequence[SSAValue]) -> Operation:
            return arith.IndexCastOp(self.add(linalg.IndexOp(axis)), element)

        return self._once(("iota", shape, axis, element), lambda: self.generic([], shape, element, number))

    def contract(
        self,
        left: SSAValue,
        right: SSAValue,
        spec: str,
        element: Attribute = f32,
        *,
        unsigned: tuple[bool, bool] = (False, False),
    ) -> SSAValue:
        """A sum of products in letters, one an axis: `"btk,bmk->btm"`. Exactly one letter is not in the result.

        Integers narrower than `element` are widened first, as signed or as unsigned ones.
        """
        letters, out = spec.split("->")
        sides = letters.split(",")
        (reduced,) = {*sides[0], *sides[1]} - {*out}
        loops = out + reduced
        sizes = {
            letter: size
            for value, side in zip((left, right), sides, strict=True)
            for letter, size in zip(side, shape_of(value), strict=True)
        }

        def body(scalars: Sequence[SSAValue]) -> Operation:
            a, b = (
                self.add(
                    (arith.ExtUIOp if without_sign else arith.ExtSIOp)(scalar, cast(IntegerType, element))
                )
                if scalar.type != element
                else scalar
                for scalar, without_sign in zip(scalars[:2], unsigned, strict=True)
            )
            if integer_type(element) is None:
                return arith.AddfOp(scalars[2], self.add(arith.MulfOp(a, b)))
            return arith.AddiOp(scalars[2], self.add(arith.MuliOp(a, b)))

        maps = [
            AffineMap(len(loops), 0, tuple(AffineDimExpr(loops.index(letter)) for letter in side))
            for side in (*sides, out)
        ]
        init = self.splat(0, tuple(sizes[letter] for letter in out), element)
        return self._loops([left, right], init, maps, True, body)

    def windows(
        self,
        value: SSAValue,
        axes: Sequence[int],
        sizes: Sequence[int],
        *,
        leading: int,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        low: Sequence[int] | None = None,
        high: Sequence[int] | None = None,
        padding: float = 0,
    ) -> SSAValue:
        """`ternary.windows`: `[*leading, *positions, *rest, *sizes]`, axes of size 1 dropped."""
        number = number_attr(padding, element_of(value))
        return self.add(
            WindowsOp(
                value,
                leading=leading,
                axes=axes,
                sizes=sizes,
                strides=strides,
                dilations=dilations,
                low=low,
                high=high,
                padding=number,
            )
        )

    def count(self, size: int, element: Attribute) -> SSAValue:
        """A scalar tensor: that many, T for DYNAMIC_INDEX."""
        if size != DYNAMIC_INDEX:
            return self.splat(size, (), element)

        def make() -> SSAValue:
            add = arith.AddfOp if integer_type(element) is None else arith.AddiOp
            return self.reduce(self.splat(1, (size,), element), [0], add, 0)

        return self._once(("count", element), make)

    def gather(self, data: SSAValue, indices: SSAValue, axis: int) -> SSAValue:
        """`ternary.gather`: data looked up along that axis; indices are clamped to it."""
        return self.add(GatherOp(data, indices, axis))

    def top_k(self, value: SSAValue, k: int, *, largest: bool) -> tuple[SSAValue, SSAValue]:
        """`ternary.top_k`: (values, i64 positions) of the last axis; k = 1 drops it."""
        op = TopKOp(value, k, largest=largest)
        self.add(op)
        return op.values, op.indices

    def pad(self, value: SSAValue, low: Sequence[int], high: Sequence[int], number: float = 0) -> SSAValue:
        """`low` elements before and `high` after those of each axis; T is never padded."""
        if not any((*low, *high)):
            return value
        element = element_of(value)
        shape = tuple(
            size if size == DYNAMIC_INDEX else size + before + after
            for size, before, after in zip(shape_of(value), low, high, strict=True)
        )
        block = Block(arg_types=[IndexType()] * len(shape))
        with self._inside(block, {}):
            self._builder.insert(tensor.YieldOp(self.scalar(number, element)))
        type = TensorType(element, shape)
        return self.add(tensor.PadOp(value, [], [], Region(block), list(low), list(high), type))

    def loop(self, turns: int | SSAValue, carried: Sequence[SSAValue], body: LoopBody) -> list[SSAValue]:
        """`scf.for` over 0, 1, ..., turns - 1: `body(turn, carried)` gives what the next turn is given; the last.

        `turns` is static, or T as an index (`rows`). Types of carried values stay as they are.
        """
        return self.scan(turns, carried, lambda turn, values: (body(turn, values), []))[0]

    def scan(
        self, turns: int | SSAValue, carried: Sequence[SSAValue], body: ScanBody
    ) -> tuple[list[SSAValue], list[SSAValue]]:
        """A `loop` whose body also gives outputs; the last carried values, and the outputs of all turns, stacked.

        A stack has one axis more than an output, its first, as long as there are turns (2 or more, if static).
        """
        end = self.index(turns) if isinstance(turns, int) else turns
        block = Block(arg_types=[IndexType(), *(value.type for value in carried)])
        length = turns if isinstance(turns, int) else DYNAMIC_INDEX
        with self._inside(block, self._memo):
            after, outputs = body(block.args[0], block.args[1:])
            stacks = [
                block.insert_arg(TensorType(element_of(x), (length, *shape_of(x))), len(block.args))
                for x in outputs
            ]
            grown = [self.insert_slice(x, y, 0, block.args[0]) for x, y in zip(outputs, stacks, strict=True)]
            self._builder.insert(scf.YieldOp(*after, *grown))
        inits = [*carried, *(self.empty(shape_of(stack), element_of(stack)) for stack in stacks)]
        op = scf.ForOp(self.index(0), end, self.index(1), inits, Region(block))
        self.add(op)
        return list(op.results[: len(carried)]), list(op.results[len(carried) :])

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
            # xDSL's expand_shape takes no scalar tensor.
            return self.broadcast(value, shape, range(len(shape)))
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

    def insert_slice(
        self, part: SSAValue, value: SSAValue, axis: int, start: int | SSAValue, step: int = 1
    ) -> SSAValue:
        """`value` with `part`, which may lack the axis, in the place of elements of that axis."""
        shape = shape_of(value)
        offsets, sizes, steps = [0] * len(shape), list(shape), [1] * len(shape)
        same_rank = len(shape_of(part)) == len(shape)
        offsets[axis] = start if isinstance(start, int) else DYNAMIC_INDEX
        sizes[axis], steps[axis] = shape_of(part)[axis] if same_rank else 1, step
        places = [] if isinstance(start, int) else [start]
        dynamic = self._sizes(tuple(sizes))
        op = tensor.InsertSliceOp.get(part, value, sizes, offsets, steps, offsets=places, sizes=dynamic)
        return self.add(op)

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
