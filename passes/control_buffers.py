"""What a loop carries stays in one place, and branches write to one: the copies that this takes, before the plan.

    %r = scf.for %i = %0 to %n step %1 iter_args(%s = %a) -> (tensor<8xf32>) {
      %t = arith.addf %s, %x : tensor<8xf32>
      scf.yield %t : tensor<8xf32>
    }

Result r of a loop, its block argument and what is yielded for it share one buffer. So the operand %a is copied into it,
unless it is the result of a kernel that nothing else reads, and so is %t, unless nothing reads %s after %t is computed.
What is yielded at another place than its own is copied aside first, so that two values may change places.

What the branches of an `scf.if` yield shares one buffer too: it is copied unless a kernel of the branch computes it for
that alone.
"""

from __future__ import annotations

from xdsl.dialects import scf, tensor
from xdsl.dialects.builtin import TensorType, UnitAttr
from xdsl.ir import Block, BlockArgument, Operation, OpResult, SSAValue

from sterna.dialects.ternary import ElementwiseOp, LoadOp, YieldOp, scalar_region
from sterna.dialects.ternary import tensor as tensor_type

IN_PLACE = "in_place"
"""On a `tensor.insert_slice` into what a loop carries: the result is written where the destination is."""


def copy_before(place: Operation, value: SSAValue) -> SSAValue:
    """The value again, as the result of a kernel of its own."""
    type = tensor_type(value)
    body = scalar_region([type.element_type])
    body.block.add_op(YieldOp(*body.block.args))
    copy = ElementwiseOp([value], body, [type])
    copy.location = place.location
    assert isinstance(place.parent, Block)
    place.parent.insert_op_before(copy, place)
    return copy.outs[0]


def control_blocks(op: Operation) -> list[Block]:
    """The body of a loop, or both branches of a choice."""
    match op:
        case scf.ForOp():
            return [op.body.block]
        case scf.IfOp():
            return [region.block for region in op.regions if region.blocks]
        case _:
            return []


def control_flow(block: Block) -> list[scf.ForOp | scf.IfOp]:
    """The loops and choices of a function, inner ones after the outer."""
    found: list[scf.ForOp | scf.IfOp] = []
    for op in block.ops:
        if isinstance(op, scf.ForOp | scf.IfOp):
            found.append(op)
        for inner in control_blocks(op):
            found += control_flow(inner)
    return found


def settle_control(block: Block) -> None:
    """Afterwards what a loop is given, and what is yielded, can be computed where it is kept."""
    for op in control_flow(block):
        if isinstance(op, scf.IfOp):
            for branch in control_blocks(op):
                _settle_branch(branch)
            continue
        for number, value in enumerate(op.iter_args):
            if isinstance(value.type, TensorType) and not _is_made_for(value, op):
                op.operands[3 + number] = copy_before(op, value)
        _settle_yields(op)


def _settle_branch(branch: Block) -> None:
    end = branch.last_op
    assert isinstance(end, scf.YieldOp)
    for number, value in enumerate(end.operands):
        if isinstance(value.type, TensorType) and not _is_made_for(value, end):
            end.operands[number] = copy_before(end, value)


def _is_made_for(value: SSAValue, reader: Operation) -> bool:
    """Whether a kernel beside the reader computes the value for it alone."""
    return (
        isinstance(value, OpResult)
        and not isinstance(value.op, LoadOp | scf.ForOp | scf.IfOp)
        and value.op.parent is reader.parent
        and value.has_one_use()
    )


def _settle_yields(loop: scf.ForOp) -> None:
    block = loop.body.block
    end = block.last_op
    assert isinstance(end, scf.YieldOp)
    order = {op: number for number, op in enumerate(block.ops)}
    moved: list[int] = []
    for number, value in enumerate(end.operands):
        carried = block.args[1 + number]
        if not isinstance(value.type, TensorType) or value is carried:
            continue
        if not _may_be_written_over(value, carried, block, order):
            moved.append(number)
    for number in moved:
        value = end.operands[number]
        if isinstance(value, BlockArgument) and value.owner is block:
            end.operands[number] = copy_before(end, value)
    for number in moved:
        end.operands[number] = copy_before(end, end.operands[number])


def _may_be_written_over(
    value: SSAValue, carried: SSAValue, block: Block, order: dict[Operation, int]
) -> bool:
    """Whether what the loop carries is dead when `value`, which only the yield reads, is computed."""
    if not isinstance(value, OpResult) or value.op.parent is not block or not value.has_one_use():
        return False
    if isinstance(value.op, LoadOp | scf.ForOp | scf.IfOp):
        return False
    users = [_in_block(use.operation, block) for use in carried.uses]
    if isinstance(value.op, tensor.InsertSliceOp) and value.op.dest is carried and users == [value.op]:
        value.op.attributes[IN_PLACE] = UnitAttr()
        return True
    return all(order[user] < order[value.op] for user in users)


def _in_block(op: Operation, block: Block) -> Operation:
    """The operation of the block that this one is, or is inside of."""
    found: Operation | None = op
    while found is not None and found.parent is not block:
        found = found.parent_op()
    assert found is not None
    return found
