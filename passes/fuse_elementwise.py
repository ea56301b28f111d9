"""Gathers elementwise tensor operations into the regions of fused ops.

    %yi, %yf = ternary.project ... {
    ^bb0(%i: f32, %f: f32):
      ternary.yield %i, %f : f32, f32
    } -> tensor<?x256xf32>, tensor<?x256xf32>
    %lb = linalg.broadcast ins(%bound : tensor<256xf32>) outs(%empty : tensor<?x256xf32>) dimensions = [0]
    %k = arith.mulf %lb, %yf : tensor<?x256xf32>
    %o = arith.addf %k, %yi : tensor<?x256xf32>

becomes

    %o = ternary.project ... with(%bound : tensor<256xf32>) {
    ^bb0(%i: f32, %f: f32, %b: f32):
      %k = arith.mulf %b, %f : f32
      %o = arith.addf %k, %i : f32
      ternary.yield %o : f32
    } -> tensor<?x256xf32>

so that intermediate values never reach memory. What reads the result of a projection becomes its epilogue; the
rest gathers in `ternary.elementwise` ops. A splat constant becomes a scalar one; a broadcast row or scalar is
read where it is.

Why it is right: every bit stays, each element sees the same operations in the same order. A group is a
contiguous run of the block, and its fused op stands in its place. An operation joins the group that defines one
of its operands if everything else that it needs can stand before the group, which is so unless that depends on
the group itself: so no cycle arises.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.context import Context
from xdsl.dialects.arith import ConstantOp, FloatingPointLikeBinaryOperation, NegfOp
from xdsl.dialects.builtin import (
    AnyFloat,
    DenseIntOrFPElementsAttr,
    FloatAttr,
    ModuleOp,
    TensorType,
    f32,
)
from xdsl.dialects.func import FuncOp
from xdsl.dialects.linalg.ops import BroadcastOp
from xdsl.dialects.math import FloatingPointLikeUnaryMathOperation
from xdsl.dialects.tensor import SplatOp
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.passes import ModulePass

from sterna.dialects.ternary import ElementwiseOp, ProjectOp, YieldOp, scalar_region, tensor
from sterna.passes.dead_code import erase_dead_operations

Constant = FloatAttr[AnyFloat]


@dataclass(eq=False)
class Group:
    """Neighbours in a block that become one op; a project, if there is one, comes first."""

    members: list[Operation]

    @property
    def project(self) -> ProjectOp | None:
        return first if isinstance(first := self.members[0], ProjectOp) else None

    @property
    def type(self) -> Attribute:
        return self.members[0].results[0].type

    @property
    def elementwise(self) -> Sequence[Operation]:
        return self.members[1:] if self.project else self.members

    def outside_users(self, value: SSAValue) -> list[Operation]:
        return [use.operation for use in value.uses if use.operation not in self.members]


def is_elementwise(op: Operation) -> bool:
    """An f32 tensor operation whose element [t, m] reads elements [t, m]."""
    if not isinstance(op, FloatingPointLikeBinaryOperation | NegfOp | FloatingPointLikeUnaryMathOperation):
        return False
    result = op.results[0]
    if not isinstance(result.type, TensorType) or tensor(result).element_type != f32:
        return False
    return all(value.type == tensor(result) for value in op.operands)


def scalar_source(value: SSAValue) -> Constant | SSAValue:
    """What a region reads for an element of `value`: a constant, or a tensor that broadcasts to it (often itself)."""
    owner = value.owner
    if isinstance(owner, SplatOp) and isinstance(owner.input.owner, ConstantOp):
        return cast(Constant, owner.input.owner.value)
    if isinstance(owner, ConstantOp) and isinstance(owner.value, DenseIntOrFPElementsAttr):
        if owner.value.is_splat():
            return FloatAttr(cast(float, owner.value.get_values()[0]), f32)
    elif isinstance(owner, BroadcastOp):
        # Whole rows, or one scalar: what a fused op takes as an input.
        rank = tensor(owner.input).get_num_dims()
        added = tensor(value).get_num_dims() - rank
        if rank <= 1 and owner.dimensions.get_values() == tuple(range(added)):
            return scalar_source(owner.input)
    return value


def is_uniform(op: Operation, known: Container[object]) -> bool:
    """Whether every row of an elementwise result is the same; `known` holds the operations before it that are so."""
    rank = tensor(op.results[0]).get_num_dims()
    sources = [scalar_source(value) for value in op.operands]
    return all(
        not isinstance(source, SSAValue) or source.owner in known or tensor(source).get_num_dims() < rank
        for source in sources
    )


class Grouping:
    """The groups of a block. The operations stay in it, and it stays valid, while they grow.

    Uniform operations are in no group: each group that reads one computes it, for none could say how many rows it has.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        self.uniform: set[Operation] = set()
        self.of: dict[Operation, Group] = {}
        for op in list(block.ops):
            if isinstance(op, ProjectOp):
                self.of[op] = Group([op])
            elif is_elementwise(op) and is_uniform(op, self.uniform):
                self.uniform.add(op)
            elif is_elementwise(op) and not any(self.join(op, group) for group in self.producers(op)):
                self.of[op] = Group([op])
        for op in reversed(list(block.ops)):
            if (group := self.of.get(op)) and op is group.members[0]:
                self.merge_into_only_reader(group)

    def __iter__(self) -> Iterator[Group]:
        return iter(dict.fromkeys(self.of.values()))

    def producers(self, op: Operation) -> Iterator[Group]:
        """Groups of the op's shape that define its operands: projects first, and the nearest first."""
        found = {group for value in op.operands if (group := self.of.get(cast(Operation, value.owner)))}
        found = {group for group in found if group.type == op.results[0].type}
        nearest: list[Group] = []
        before = op.prev_op
        while len(nearest) < len(found) and before is not None:
            group = self.of.get(before)
            if group in found and group not in nearest:
                nearest.append(group)
            before = before.prev_op
        yield from sorted(nearest, key=lambda group: group.project is None)

    def join(self, op: Operation, group: Group) -> bool:
        """Moves the op to the end of the group, and what it needs besides to before the group."""
        between: dict[Operation, bool] = {}
        later = group.members[-1].next_op
        while later is not op:
            assert later is not None
            between[later] = False
            later = later.next_op
        work = [value.owner for value in op.operands]
        while work:
            needed = work.pop()
            if not isinstance(needed, Operation) or between.get(needed, True):
                continue
            # Groups move whole, so that they stay contiguous.
            for member in self.of[needed].members if needed in self.of else [needed]:
                between[member] = True
                owners = [value.owner for inner in member.walk() for value in inner.operands]
                if any(owner in group.members for owner in owners):
                    return False
                work += owners
        for needed in [needed for needed, moves in between.items() if moves]:
            self.move_before(needed, group.members[0])
        op.detach()
        self.block.insert_op_after(op, group.members[-1])
        group.members.append(op)
        self.of[op] = group
        return True

    def merge_into_only_reader(self, group: Group) -> None:
        """A group whose values are read by one other group, and nowhere else, belongs to that one."""
        users = {user for op in group.members for user in group.outside_users(op.results[0])}
        readers = {self.of.get(user) for user in users}
        reader = readers.pop() if len(readers) == 1 else None
        if group.project or reader is None or reader.type != group.type or reader.project in users:
            return
        at = 1 if reader.project else 0
        for op in group.members:
            self.move_before(op, reader.members[at])
            self.of[op] = reader
        reader.members[at:at] = group.members

    def move_before(self, op: Operation, place: Operation) -> None:
        op.detach()
        self.block.insert_op_before(op, place)


class ScalarBody:
    """The region of a fused op while it is built: the scalar that stands for an element of each tensor."""

    def __init__(self, inputs: Sequence[SSAValue], known: int = 0) -> None:
        self.region = scalar_region([f32] * (known + len(inputs)))
        self.scalars: dict[SSAValue, SSAValue] = dict(
            zip(inputs, self.region.block.args[known:], strict=True)
        )
        self._constants: dict[Constant, SSAValue] = {}

    def add(self, op: Operation) -> None:
        operands = [self._scalar(scalar_source(value)) for value in op.operands]
        scalar = type(op).create(
            operands=operands,
            result_types=[f32],
            properties=op.properties,
            attributes=op.attributes,
            location=op.location,
        )
        self.region.block.add_op(scalar)
        self.scalars[op.results[0]] = scalar.results[0]

    def inline(self, project: ProjectOp) -> None:
        """The region that the project has; its arguments are the first of this one."""
        old = project.body.block
        mapped: dict[SSAValue, SSAValue] = dict(zip(old.args, self.region.block.args, strict=False))
        self.region.block.add_ops(op.clone(mapped) for op in old.ops if not isinstance(op, YieldOp))
        assert old.last_op is not None
        for out, value in zip(project.outs, old.last_op.operands, strict=True):
            self.scalars[out] = mapped[value]

    def _scalar(self, source: Constant | SSAValue) -> SSAValue:
        if isinstance(source, SSAValue):
            if source not in self.scalars and isinstance(source.owner, Operation):
                self.add(source.owner)  # It is uniform: nothing else is read that is not an input.
            return self.scalars[source]
        if source not in self._constants:
            constant = ConstantOp(source)
            self.region.block.add_op(constant)
            self._constants[source] = constant.result
        return self._constants[source]


def tensors_read(ops: Sequence[Operation], uniform: Container[object]) -> Iterator[SSAValue]:
    """The tensors, smaller ones included, that scalar code for these operations reads."""
    for op in ops:
        for source in map(scalar_source, op.operands):
            if isinstance(source, SSAValue):
                owner = source.owner
                if isinstance(owner, Operation) and owner in uniform:
                    yield from tensors_read([owner], uniform)
                else:
                    yield source


def fuse(group: Group, uniform: Container[object]) -> None:
    """Replaces the members of a group by one op."""
    results = [value for op in group.members for value in op.results if group.outside_users(value)]
    read = dict.fromkeys(tensors_read(group.elementwise, uniform))
    inputs = [value for value in read if value.owner not in group.members]
    if (project := group.project) is not None:
        body = ScalarBody(inputs, known=len(project.body.block.args))
        body.inline(project)
    else:
        body = ScalarBody(inputs)
    for op in group.elementwise:
        body.add(op)
    body.region.block.add_op(YieldOp(*(body.scalars[value] for value in results)))

    types = [value.type for value in results]
    fused = (
        ElementwiseOp(inputs, body.region, types)
        if project is None
        else ProjectOp(
            q=project.q,
            steps=project.steps,
            weights=project.weights,
            scales=project.scales,
            extras=[*project.extras, *inputs],
            reads=project.reads.get_values(),
            body=body.region,
            result_types=types,
        )
    )
    first = group.members[0]
    fused.location = first.location
    assert first.parent is not None
    first.parent.insert_op_before(fused, first)
    for value, new in zip(results, fused.outs, strict=True):
        value.replace_all_uses_with(new)
    for op in reversed(group.members):
        op.detach()
        op.erase()


@dataclass(frozen=True)
class FuseElementwisePass(ModulePass):
    name = "fuse-elementwise"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for func in op.ops:
            if not isinstance(func, FuncOp):
                continue
            for block in func.body.blocks:
                erase_dead_operations(block)
                grouping = Grouping(block)
                for group in grouping:
                    if group.elementwise:
                        fuse(group, grouping.uniform)
                erase_dead_operations(block)
