"""What an emitter of an ATen op sees: the node being imported, its operands as IR values, and the tensor builder.

A torch tensor becomes an IR tensor without its axes of static size 1. Floats of 16 bits are computed in f32, those of
64 are refused; uint8 and int8 both become i8, and the torch dtype decides between signed and unsigned ops.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg
from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerType, f32, i1, i8, i16, i32, i64
from xdsl.ir import Attribute, Operation, SSAValue

from sterna.frontends.tensor_builder import Shape, TensorBuilder, element_of, shape_of, without_units

ELEMENTS: dict[torch.dtype, Attribute] = {
    torch.float16: f32,
    torch.bfloat16: f32,
    torch.float32: f32,
    torch.int64: i64,
    torch.int32: i32,
    torch.int16: i16,
    torch.int8: i8,
    torch.uint8: i8,
    torch.bool: i1,
}
UNSIGNED = (torch.uint8, torch.bool)

if TYPE_CHECKING:
    from sterna.frontends.joined import Joined

Value: TypeAlias = "SSAValue | tuple[SSAValue | None, ...] | Joined"
"""What a node computes; None marks a result that has no IR value."""


class Unsupported(Exception):
    """The node cannot be imported; the message says why, if there is more to say than its name."""


@dataclass(frozen=True)
class Meta:
    """The framework's view of a tensor: its whole shape, and its dtype."""

    shape: Shape
    dtype: torch.dtype

    @property
    def element(self) -> Attribute:
        return ELEMENTS[self.dtype]

    @property
    def ir_shape(self) -> Shape:
        return without_units(self.shape)

    def axis(self, axis: int) -> int:
        """A torch axis, maybe negative, counted from the front."""
        return axis % len(self.shape) if self.shape else 0

    def ir_axis(self, axis: int) -> int | None:
        """Where that torch axis is in the IR; None if it has size 1, and so is not there."""
        axis = self.axis(axis)
        if not self.shape or self.shape[axis] == 1:
            return None
        return len(without_units(self.shape[:axis]))


class Sizes:
    """Reads torch shapes; every symbolic size must be T itself, or computed from `known` ones."""

    def __init__(self, known: Mapping[object, int]) -> None:
        self.known = known
        self.rows: object = None

    def declare(self, size: torch.SymInt) -> None:
        """`size`, of an input, is T, unless it is known."""
        if not (expression := self.expression(size)).is_Integer:
            self.rows = self.rows or expression

    def expression(self, size: torch.SymInt) -> Any:
        """In terms of symbols whose number is not known."""
        expression = cast(Any, size).node.expr
        return expression.subs(self.known) if self.known else expression

    def read(self, shape: Sequence[int | torch.SymInt]) -> Shape:
        return tuple(self._size(size) for size in shape)

    def _size(self, size: int | torch.SymInt) -> int:
        if isinstance(size, int):
            return size
        expression = self.expression(size)
        if expression.is_Integer:
            return int(expression)
        if expression != self.rows:
            raise Unsupported(f"the size {self.text(size)} is neither a number nor T")
        return DYNAMIC_INDEX

    def extra(self, size: int | torch.SymInt) -> int:
        """n of T + n; 0 for any other size."""
        if isinstance(size, int) or self.rows is None:
            return 0
        difference = self.expression(size) - cast(Any, self.rows)
        return int(difference) if difference.is_Integer else 0

    def text(self, size: int | torch.SymInt) -> str:
        """How a message writes a size."""
        return str(size).replace(str(self.rows), "T")


class Lowering:
    """One graph on its way to IR."""

    def __init__(self, module: GraphModule, build: TensorBuilder, sizes: Sizes) -> None:
        self.module = module
        self.build = build
        self.sizes = sizes
        self.values: dict[Node, Value] = {}
        self.node: Node

    @property
    def is_longer(self) -> bool:
        """Whether the result has a size T + n, for which the IR has no type."""
        fake = self.node.meta.get("val")
        return isinstance(fake, torch.Tensor) and any(self.sizes.extra(size) > 0 for size in fake.shape)

    @property
    def result(self) -> Meta:
        """The tensor that the node being imported computes."""
        return self.meta(self.node)

    def meta(self, node: Node) -> Meta:
        fake = node.meta.get("val")
        if not isinstance(fake, torch.Tensor):
            raise Unsupported("a number or a tuple where a tensor was expected")
        if fake.dtype not in ELEMENTS:
            raise Unsupported(f"tensors of {fake.dtype}")
        return Meta(self.sizes.read(fake.shape), fake.dtype)

    def result_shape(self, result: int) -> Shape:
        """The framework's shape of one of several results, or of the only one."""
        fake: Any = self.node.meta["val"]
        return self.sizes.read((fake if isinstance(fake, torch.Tensor) else fake[result]).shape)

    def value(self, node: Node) -> SSAValue:
        """The tensor that an earlier node computed."""
        value = self.values[node]
        if not isinstance(value, SSAValue):
            raise Unsupported("on a tensor that is longer than T")
        return value

    def arguments(self, node: Node) -> list[Any]:
        """The arguments of an ATen node in the order of its schema, defaults filled in, known sizes as numbers."""
        schema = cast(Any, node.target)._schema
        given: Mapping[str, Any] = node.kwargs
        rest = schema.arguments[len(node.args) :]
        arguments = [*node.args, *(given.get(each.name, each.default_value) for each in rest)]
        return [map_arg(argument, self._known) for argument in arguments]

    def _known(self, argument: Node) -> Any:
        size = argument.meta.get("val")
        if isinstance(size, int):
            return size
        if isinstance(size, torch.SymInt) and (expression := self.sizes.expression(size)).is_Integer:
            return int(expression)
        return argument

    def submodule(self, node: Node) -> GraphModule:
        """The graph that a higher-order op takes as an argument."""
        module = self.module.get_submodule(cast(str, node.target))
        assert isinstance(module, GraphModule)
        return module

    def operand(self, argument: Node | float, like: Meta | None = None) -> SSAValue:
        """An operand of an elementwise op: converted to the dtype and broadcast to the shape of `like`."""
        like = like or self.result
        if not isinstance(argument, Node):
            return self.build.splat(argument, like.ir_shape, like.element)
        if isinstance(size := argument.meta.get("val"), torch.SymInt):
            scalar = self.number(self.sizes.expression(size), like.element)
            return self.broadcast(scalar, (), like.shape)
        meta = self.meta(argument)
        return self.broadcast(self.cast(self.value(argument), meta.dtype, like.dtype), meta.shape, like.shape)

    def broadcast(self, value: SSAValue, shape: Shape, target: Shape) -> SSAValue:
        """Torch's rule on whole shapes: aligned on the right, 1 stretches."""
        shape = (1,) * (len(target) - len(shape)) + shape
        kept = [axis for axis, size in enumerate(target) if size != 1]
        added = [position for position, axis in enumerate(kept) if shape[axis] == 1]
        return self.build.broadcast(value, without_units(target), added)

    def channelwise(self, value: SSAValue, like: Meta) -> SSAValue:
        """A vector with an element a channel, axis 1 of `like`, repeated to its shape."""
        channels = like.shape[1]
        return self.broadcast(value, (1, channels, *[1] * (len(like.shape) - 2)), like.shape)

    def reads(self, result: int) -> bool:
        """Whether anything reads that result of the node, which has several."""
        return any(
            user.target is operator.getitem and user.args[1] == result and user.users
            for user in self.node.users
        )

    def cast(self, value: SSAValue, source: torch.dtype, target: torch.dtype) -> SSAValue:
        """Torch's conversion; between float types, and between int8 and uint8, it is nothing."""
        old, new = ELEMENTS[source], ELEMENTS[target]
        if old == new:
            return value
        if new == i1:
            return self.compare("ne", value, self.build.splat(0, shape_of(value), old))
        if source.is_floating_point and target == torch.uint8:
            return self.cast(self.cast(value, source, torch.int32), torch.int32, target)
        return self.build.pointwise([value], new, lambda x: _scalar_cast(x[0], source, target))

    def compare(self, predicate: str, left: SSAValue, right: SSAValue, *, signed: bool = True) -> SSAValue:
        """eq, ne, lt, le, gt or ge as a tensor of i1; a comparison with NaN is false, but for ne."""
        if isinstance(element_of(left), IntegerType):
            ordered = {"eq": "eq", "ne": "ne"}.get(predicate, ("s" if signed else "u") + predicate)
            return self.build.pointwise([left, right], i1, lambda x: arith.CmpiOp(x[0], x[1], ordered))
        ordered = "une" if predicate == "ne" else "o" + predicate
        return self.build.pointwise([left, right], i1, lambda x: arith.CmpfOp(x[0], x[1], ordered))

    def select(self, condition: SSAValue, yes: SSAValue, no: SSAValue) -> SSAValue:
        """Elementwise; the three have one shape."""
        inputs = [condition, yes, no]
        return self.build.pointwise(inputs, element_of(yes), lambda x: arith.SelectOp(x[0], x[1], x[2]))

    def permute(self, value: SSAValue, meta: Meta, order: Sequence[int]) -> SSAValue:
        """`value`, of the shape of `meta`, with its torch axes in another order."""
        places = [place for axis in order if (place := meta.ir_axis(axis)) is not None]
        return self.build.transpose(value, places)

    def binary(self, op: type[Operation], left: SSAValue, right: SSAValue) -> SSAValue:
        return self.build.add(op(left, right))  # pyright: ignore[reportCallIssue, reportArgumentType]

    def unary(self, op: type[Operation], value: SSAValue) -> SSAValue:
        return self.build.add(op(value))  # pyright: ignore[reportCallIssue, reportArgumentType]

    def reshape(self, value: SSAValue, shape: Shape) -> SSAValue:
        """`value` in another IR shape."""
        if (reshaped := self.build.reshape(value, shape)) is None:
            raise Unsupported("merging the axis of rows with another")
        return reshaped

    def count(self, sizes: Sequence[int]) -> int:
        """How many elements these axes hold; none of them is T."""
        if DYNAMIC_INDEX in sizes:
            raise Unsupported("merging the axis of rows with another")
        return reduce(operator.mul, sizes, 1)

    def number(self, number: object, element: Attribute) -> SSAValue:
        """A scalar tensor that holds a size: sums and products of T and numbers."""
        integer = isinstance(element, IntegerType)
        expression = cast(Any, number)
        if expression.is_Integer:
            return self.build.splat(int(expression), (), element)
        if expression == self.sizes.rows:
            return self.build.count(DYNAMIC_INDEX, element)
        if not (expression.is_Add or expression.is_Mul):
            raise Unsupported(f"the number {expression}")
        add, mul = (arith.AddiOp, arith.MuliOp) if integer else (arith.AddfOp, arith.MulfOp)
        parts = [self.number(part, element) for part in expression.args]
        return reduce(lambda x, y: self.binary(add if expression.is_Add else mul, x, y), parts)


def _scalar_cast(value: SSAValue, source: torch.dtype, target: torch.dtype) -> Operation:
    new = cast(Any, ELEMENTS[target])
    if source.is_floating_point:
        return arith.FPToSIOp(value, new)
    if target.is_floating_point:
        return (arith.UIToFPOp if source in UNSIGNED else arith.SIToFPOp)(value, new)
    if torch.iinfo(target).bits < (1 if source is torch.bool else torch.iinfo(source).bits):
        return arith.TruncIOp(value, new)
    return (arith.ExtUIOp if source in UNSIGNED else arith.ExtSIOp)(value, new)
