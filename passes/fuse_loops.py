"""Makes one loop nest of elementwise operations on tensors of any rank and type, broadcasts and transposes included.

    %b = linalg.broadcast ins(%bias : tensor<4xf32>) outs(%e : tensor<?x4x8xf32>) dimensions = [0, 2]
    %s = linalg.generic ... ins(%x, %b) outs(%e) { arith.addf } -> tensor<?x4x8xf32>
    %m = linalg.generic ... ins(%s, %zero) outs(%f) { arith.cmpf ogt } -> tensor<?x4x8xi1>
    %y = arith.select %m, %s, %x : tensor<?x4x8xi1>, tensor<?x4x8xf32>

becomes

    %y = ternary.elementwise(%x, %bias : tensor<?x4x8xf32>, tensor<4xf32>)
        axes = [array<i64: 0, 1, 2>, array<i64: 1>] {
    ^bb0(%a : f32, %c : f32):
      %s = arith.addf %a, %c : f32
      %zero = arith.constant 0.0 : f32
      %m = arith.cmpf ogt, %s, %zero : f32
      %y = arith.select %m, %s, %a : f32
      ternary.yield %y : f32
    } -> tensor<?x4x8xf32>

`ternary.elementwise` is the form of choice, and not a `linalg.generic`: it needs no tensor that says how large its
result is, and it stands alone, so that equal layers are found equal. An operation joins its reader if nothing else
reads it; a constant, a broadcast or a transpose joins every reader. What `fuse-elementwise` made stays as it is unless
another operation is beside it. A `linalg.generic` that asks for `linalg.index` stays, too.

Why it is right: every bit stays, each element sees the same operations in the same order. What is computed once for
several elements of its reader (before a broadcast) is not joined with it, so nothing is computed more often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AnyFloat,
    DenseIntOrFPElementsAttr,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    TensorType,
)
from xdsl.dialects.func import FuncOp
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.dialects.tensor import SplatOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from sterna.dialects.contraction import loops_of
from sterna.dialects.ternary import ElementwiseOp, YieldOp, tensor
from sterna.passes.control_buffers import control_blocks
from sterna.passes.dead_code import erase_dead_operations

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Read:
    """A tensor and the axes of a result that its own follow; or a number, the same everywhere."""

    source: SSAValue | Attribute
    axes: Axes

    def through(self, outer: Axes) -> Read:
        """The same where the result is itself read along `outer`."""
        return Read(self.source, tuple(outer[axis] for axis in self.axes))


def element_of(type: Attribute) -> Attribute:
    return cast("TensorType[Attribute]", type).element_type if isinstance(type, TensorType) else type


def rank_of(value: SSAValue) -> int:
    return tensor(value).get_num_dims()


def number_of(value: SSAValue) -> Attribute | None:
    """The number that all elements of a value are, if that is written in the program."""
    owner = value.owner
    match owner:
        case arith.ConstantOp(value=FloatAttr() | IntegerAttr() as number):
            return number
        case arith.ConstantOp(value=DenseIntOrFPElementsAttr() as dense) if dense.is_splat():
            return _splat_number(dense)
        case SplatOp():
            return number_of(owner.input)
        case linalg.FillOp():
            return number_of(owner.inputs[0])
        case linalg.BroadcastOp() | linalg.TransposeOp():
            return number_of(owner.operands[0])
        case _:
            return None


def _splat_number(dense: DenseIntOrFPElementsAttr) -> Attribute:
    number, element = cast(float, dense.get_values()[0]), dense.get_element_type()
    if isinstance(element, IntegerType | IndexType):
        return IntegerAttr(int(number), cast(IntegerType, element))
    return FloatAttr(float(number), cast(AnyFloat, element))


def trace(read: Read) -> Read:
    """What is read in the end, where that is a broadcast or a transpose of something, or a number."""
    while isinstance(value := read.source, SSAValue):
        if (number := number_of(value)) is not None:
            return Read(number, ())
        match value.owner:
            case linalg.BroadcastOp() as op:
                kept = [axis for axis in range(rank_of(value)) if axis not in op.dimensions.get_values()]
                read = Read(op.operands[0], tuple(kept)).through(read.axes)
            case linalg.TransposeOp() as op:
                # Axis n of the result is axis permutation[n] of the source.
                permutation = op.permutation.get_values()
                axes = [permutation.index(axis) for axis in range(len(permutation))]
                read = Read(op.operands[0], tuple(axes)).through(read.axes)
            case _:
                return read
    return read


def reads_of(op: Operation) -> list[Read] | None:
    """How an elementwise operation reads its operands; None for an operation that is none."""
    if isinstance(op, ElementwiseOp):
        return [trace(Read(v, axes)) for v, axes in zip(op.inputs, op.input_axes(), strict=True)]
    if isinstance(op, linalg.GenericOp):
        return _reads_of_generic(op)
    if len(op.results) != 1 or op.regions or not op.name.startswith(("arith.", "math.")):
        return None
    result = op.results[0]
    if not isinstance(result.type, TensorType) or isinstance(op, arith.ConstantOp):
        return None
    if any(not isinstance(value.type, TensorType) and number_of(value) is None for value in op.operands):
        return None
    whole = tuple(range(rank_of(result)))
    return [trace(Read(v, whole if isinstance(v.type, TensorType) else ())) for v in op.operands]


def _reads_of_generic(op: linalg.GenericOp) -> list[Read] | None:
    block = op.body.block
    if any(kind.data != IteratorType.PARALLEL for kind in op.iterator_types) or not op.results:
        return None
    maps = [map.data for map in op.indexing_maps]
    outputs = set(maps[len(op.inputs) :])
    initial = block.args[len(op.inputs) :]
    order = loops_of(maps[-1])
    if len(outputs) != 1 or order is None or any(argument.uses for argument in initial):
        return None
    captured = [v for inner in op.walk() for v in inner.operands if not op.is_ancestor(v.owner)]
    outside = [value for value in captured if value not in op.operands]
    asks = any(isinstance(inner, linalg.IndexOp) for inner in block.ops)
    if asks or any(not isinstance(value.owner, arith.ConstantOp) for value in outside):
        return None
    found: list[Read] = []
    for value, map in zip(op.inputs, maps, strict=False):
        if not isinstance(value.type, TensorType):
            if (number := number_of(value)) is None:
                return None
            found.append(Read(number, ()))
            continue
        if (loops := loops_of(map)) is None:
            return None
        found.append(trace(Read(value, tuple(order.index(loop) for loop in loops))))
    return found


class Body:
    """The region of an elementwise op while it is built."""

    def __init__(self, rank: int) -> None:
        self.block = Block()
        self.rank = rank
        self.inputs: dict[Read, SSAValue] = {}
        self.numbers: dict[Attribute, SSAValue] = {}
        self.computed: dict[tuple[Operation, Axes], list[SSAValue]] = {}

    def element(self, read: Read, fused: set[Operation]) -> SSAValue:
        """The scalar that is read."""
        source = read.source
        if not isinstance(source, SSAValue):
            return self.number(source)
        if isinstance(source.owner, Operation) and source.owner in fused:
            scalars = self.inline(source.owner, read.axes, fused)
            return next(
                s for s, result in zip(scalars, source.owner.results, strict=True) if result is source
            )
        if read not in self.inputs:
            self.inputs[read] = self.block.insert_arg(element_of(source.type), len(self.block.args))
        return self.inputs[read]

    def number(self, number: Attribute) -> SSAValue:
        if number not in self.numbers:
            op = arith.ConstantOp(number)  # pyright: ignore[reportArgumentType]
            self.block.add_op(op)
            self.numbers[number] = op.result
        return self.numbers[number]

    def inline(self, op: Operation, axes: Axes, fused: set[Operation]) -> list[SSAValue]:
        """The scalars of an operation's results, read along these axes."""
        if (op, axes) not in self.computed:
            reads = reads_of(op)
            assert reads is not None
            scalars = [self.element(trace(read.through(axes)), fused) for read in reads]
            self.computed[op, axes] = self._emit(op, scalars)
        return self.computed[op, axes]

    def _emit(self, op: Operation, scalars: Sequence[SSAValue]) -> list[SSAValue]:
        if not isinstance(op, ElementwiseOp | linalg.GenericOp):
            copy = type(op).create(
                operands=list(scalars),
                result_types=[element_of(op.results[0].type)],
                properties=op.properties,
                location=op.location,
            )
            self.block.add_op(copy)
            return list(copy.results)
        values: dict[SSAValue, SSAValue] = dict(zip(op.body.block.args, scalars, strict=False))
        for inner in op.body.block.ops:
            for operand in inner.operands:
                if operand not in values and isinstance(operand.owner, arith.ConstantOp):
                    values[operand] = self.number(operand.owner.value)
            if isinstance(inner, YieldOp | linalg.YieldOp):
                return [values[value] for value in inner.operands]
            if isinstance(inner, arith.ConstantOp):
                values[inner.result] = self.number(inner.value)
                continue
            self.block.add_op(inner.clone(values))
        raise AssertionError("a region ends in a yield")


def is_new(op: Operation) -> bool:
    """Whether an operation is not what `fuse-elementwise` has made already."""
    return not isinstance(op, ElementwiseOp)


def group_of(root: Operation, block: Block) -> set[Operation]:
    """The operation and those before it that only the group reads, at as many elements as it has."""
    group, before = {root}, 0
    while before != len(group):
        before = len(group)
        for op in list(group):
            group |= {owner for owner in producers(op, block) if may_join(owner, op, group)}
    return group


def producers(op: Operation, block: Block) -> list[Operation]:
    """The operations of the block that compute what this one reads, once for each of its elements."""
    reads = [read for read in reads_of(op) or () if len(read.axes) == rank_of(op.results[0])]
    owners = [read.source.owner for read in reads if isinstance(read.source, SSAValue)]
    return [owner for owner in owners if isinstance(owner, Operation) and owner.parent is block]


def may_join(op: Operation, reader: Operation, group: set[Operation]) -> bool:
    if reads_of(op) is None or not (is_new(op) or is_new(reader)):
        return False
    return all(reader_of(use.operation) <= group for result in op.results for use in result.uses)


def reader_of(op: Operation) -> set[Operation]:
    """The operation, or those that read what it only moves."""
    if not isinstance(op, linalg.BroadcastOp | linalg.TransposeOp):
        return {op}
    found: set[Operation] = set()
    for use in op.results[0].uses:
        found |= reader_of(use.operation)
    return found


def has_size(inputs: Sequence[Read], type: TensorType[Attribute]) -> bool:
    """Whether an input says how long the dynamic axes are."""
    dynamic = {axis for axis, size in enumerate(type.get_shape()) if size == DYNAMIC_INDEX}
    return not dynamic or any(dynamic & set(read.axes) for read in inputs)


def fuse(root: Operation, block: Block) -> None:
    """Replaces an operation, with the group before it, by one op."""
    group = group_of(root, block)
    if len(group) == 1 and not is_new(root) and reads_plainly(cast(ElementwiseOp, root)):
        return
    type = tensor(root.results[0])
    body = Body(type.get_num_dims())
    yielded = body.inline(root, tuple(range(type.get_num_dims())), group)
    if not has_size(list(body.inputs), type):
        return
    body.block.add_op(YieldOp(*yielded))
    inputs = list(body.inputs)
    fused = ElementwiseOp(
        [cast(SSAValue, read.source) for read in inputs],
        Region(body.block),
        [result.type for result in root.results],
        [read.axes for read in inputs],
    )
    fused.location = root.location
    block.insert_op_before(fused, root)
    for old, new in zip(root.results, fused.outs, strict=True):
        new.name_hint = old.name_hint
        old.replace_all_uses_with(new)


def reads_plainly(op: ElementwiseOp) -> bool:
    reads = [Read(value, axes) for value, axes in zip(op.inputs, op.input_axes(), strict=True)]
    return reads == reads_of(op)


def fuse_block(block: Block) -> None:
    """From the last operation to the first, so that a group is taken from its end."""
    erase_dead_operations(block)
    for op in reversed(list(block.ops)):
        for inner in control_blocks(op):
            fuse_block(inner)
        if not op.parent or not any(result.uses for result in op.results):
            continue
        if reads_of(op) is not None:
            fuse(op, block)
    erase_dead_operations(block)


@dataclass(frozen=True)
class FuseLoopsPass(ModulePass):
    name = "fuse-loops"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for func in op.ops:
            if isinstance(func, FuncOp):
                for block in func.body.blocks:
                    fuse_block(block)
