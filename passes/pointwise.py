"""What one element of a tensor is computed as, however the program writes it.

Elementwise work may be `arith` on tensors, or scalar operations in a `linalg.generic`, over broadcasts, splats and
transpositions. `Pointwise.of` reads any of it as one expression: operations whose leaves are elements of tensors that
are computed in another way. A leaf's axis j lies along axis `axes[j]` of the tensor that was asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from xdsl.dialects import arith
from xdsl.dialects.builtin import (
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IntegerAttr,
    TensorType,
    f32,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.dialects.tensor import SplatOp
from xdsl.ir import Attribute, Block, BlockArgument, Operation, SSAValue

from sterna.dialects.ternary import DequantizeOp, tensor
from sterna.passes.contractions import projected_loops
from sterna.passes.emission import Emission

Axes = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Element:
    """An element of a tensor: of a leaf, or `op` of other elements. Elements are compared by identity."""

    type: Attribute
    op: Operation | None = None
    """An operation, on scalars or on tensors, that gives this element from `operands`; a scalar constant has none."""
    operands: tuple[Element, ...] = ()
    tensor: SSAValue | None = None
    """The tensor whose elements these are, if the program has it: always for a leaf."""
    axes: Axes = ()

    @property
    def is_leaf(self) -> bool:
        return self.op is None

    @property
    def number(self) -> float | None:
        """The number that a constant is."""
        if isinstance(self.op, arith.ConstantOp) and isinstance(
            attr := self.op.value, FloatAttr | IntegerAttr
        ):
            return float(attr.value.data)
        return None


POINTWISE_DIALECTS = ("arith", "math")


@dataclass
class Pointwise:
    """Reads expressions, each tensor once."""

    _known: dict[tuple[SSAValue, Axes], Element] = field(default_factory=dict[tuple[SSAValue, Axes], Element])

    def of(self, value: SSAValue) -> Element:
        return self._trace(value, tuple(range(tensor(value).get_num_dims())))

    def _trace(self, value: SSAValue, axes: Axes) -> Element:
        if (value, axes) not in self._known:
            self._known[value, axes] = self._read(value, axes)
        return self._known[value, axes]

    def _read(self, value: SSAValue, axes: Axes) -> Element:
        element = tensor(value).element_type
        match value.owner:
            case arith.ConstantOp(value=DenseIntOrFPElementsAttr() as dense) if dense.is_splat():
                number: Any = dense.get_values()[0]
                make: Any = FloatAttr if isinstance(number, float) else IntegerAttr
                attr = make(number, element)
                return Element(element, arith.ConstantOp(attr))
            case SplatOp(input=scalar) if isinstance(scalar.owner, arith.ConstantOp):
                return Element(element, scalar.owner)
            case linalg.FillOp(inputs=inputs) if isinstance(inputs[0].owner, arith.ConstantOp):
                return Element(element, inputs[0].owner)
            case linalg.BroadcastOp(input=source, dimensions=added):
                kept = tuple(axis for place, axis in enumerate(axes) if place not in added.get_values())
                return self._trace(source, kept)
            case linalg.TransposeOp() as op:
                order = op.permutation.get_values()
                return self._trace(op.inputs[0], tuple(axes[order.index(axis)] for axis in range(len(order))))
            case DequantizeOp(acc=acc, step=step, scale=scale):
                rows = axes[:-1] if tensor(step).get_num_dims() else ()
                channel = axes[-1:] if tensor(scale).get_num_dims() else ()
                integer = self._trace(acc, axes)
                as_float = Element(f32, arith.SIToFPOp.create(result_types=[f32]), (integer,))
                factors = (self._trace(step, rows), self._trace(scale, channel))
                factor = Element(f32, arith.MulfOp.create(result_types=[f32]), factors)
                return Element(f32, arith.MulfOp.create(result_types=[f32]), (as_float, factor), value, axes)
            case linalg.GenericOp() as op if (found := self._generic(op, value, axes)) is not None:
                return found
            case Operation() as op if is_pointwise(op):
                operands = tuple(self._trace(operand, axes) for operand in op.operands)
                return Element(element, op, operands, value, axes)
            case _:
                return Element(element, tensor=value, axes=axes)

    def _generic(self, op: linalg.GenericOp, value: SSAValue, axes: Axes) -> Element | None:
        maps = [projected_loops(map.data) for map in op.indexing_maps]
        out = maps[len(op.inputs) + op.results.index(value)]
        parallel = all(kind.data == IteratorType.PARALLEL for kind in op.iterator_types)
        last = op.body.block.last_op
        if not parallel or out is None or len(out) != len(op.iterator_types) or last is None:
            return None
        along = {loop: axes[place] for place, loop in enumerate(out)}
        scalars: dict[SSAValue, Element] = {}
        for argument, source, loops in zip(op.body.block.args, op.inputs, maps, strict=False):
            if not isinstance(source.type, TensorType) or loops is None:
                return None
            scalars[argument] = self._trace(source, tuple(along[loop] for loop in loops))
        for step in op.body.block.ops:
            if step is last:
                break
            if not is_pointwise(step) or any(operand not in scalars for operand in step.operands):
                return None
            operands = tuple(scalars[operand] for operand in step.operands)
            scalars[step.results[0]] = Element(step.results[0].type, step, operands)
        yielded = last.operands[op.results.index(value)]
        if (found := scalars.get(yielded)) is None:
            return None
        if found.tensor is not None or found.number is not None or isinstance(yielded, BlockArgument):
            return found
        return Element(found.type, found.op, found.operands, value, axes)


def is_pointwise(op: Operation) -> bool:
    """An operation whose result at an index depends on its operands there, and on nothing else."""
    return op.name.split(".")[0] in POINTWISE_DIALECTS and len(op.results) == 1 and not op.regions


def leaves(element: Element) -> list[Element]:
    """The different leaves of an expression, in the order in which they are met."""
    found: dict[tuple[SSAValue | None, Axes], Element] = {}
    seen: set[Element] = set()
    pending = [element]
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        if current.is_leaf:
            found.setdefault((current.tensor, current.axes), current)
        pending += reversed(current.operands)
    return list(found.values())


def scalar_block(element: Element, arguments: Sequence[Element]) -> tuple[Block, SSAValue]:
    """The expression on scalars, in a block whose arguments stand for the leaves; and its value."""
    block = Block(arg_types=[leaf.type for leaf in arguments])
    scalars = {(leaf.tensor, leaf.axes): arg for leaf, arg in zip(arguments, block.args, strict=True)}
    done: dict[Element, SSAValue] = {}

    def emit(node: Element) -> SSAValue:
        if node.op is None:
            return scalars[node.tensor, node.axes]
        if node not in done:
            operands = [emit(operand) for operand in node.operands]
            step = node.op.__class__.create(
                operands=operands,
                result_types=[node.type],
                properties=node.op.properties,
                attributes=node.op.attributes,
                location=node.op.location,
            )
            block.add_op(step)
            done[node] = step.results[0]
        return done[node]

    return block, emit(element)


def materialise(element: Element, shape_of: SSAValue, emission: Emission) -> SSAValue:
    """A tensor of the expression's elements: that of the program, or a new `linalg.generic` of the shape of
    `shape_of`, whose axes are those that the expression's leaves lie along."""
    rank = tensor(shape_of).get_num_dims()
    if element.tensor is not None and element.axes == tuple(range(rank)):
        return element.tensor
    inputs = leaves(element)
    block, scalar = scalar_block(element, inputs)
    block.add_op(linalg.YieldOp(scalar))
    block.insert_arg(element.type, len(inputs))
    init = emission.empty(shape_of, element.type)
    sources = [leaf.tensor for leaf in inputs if leaf.tensor is not None]
    return emission.loop(sources, init, block, [leaf.axes for leaf in inputs])
