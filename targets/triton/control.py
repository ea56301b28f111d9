"""Loops and choices, which the host takes: `scf.for` is a `for` of the emitted file, and `scf.if` an `if`.

What a loop carries, and what branches yield, are tensors on the device, numbers among them tensors of one element. The
host waits for the device where a bound or a condition is computed there, so a program that has such a one is in no
graph: the step of a language model has none, since a program is taken for one only if it treats rows one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import scf
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Block, SSAValue

from sterna.dialects.errors import describe_location
from sterna.targets.triton.kernel import Host
from sterna.targets.triton.scalars import on_device, on_host
from sterna.targets.triton.source import INDENT, assigned

EmitBlock = Callable[[Block, Host], None]
"""Prints the statements of a block, but for its terminator."""


def emit_for(op: scf.ForOp, host: Host, emit_block: EmitBlock) -> None:
    if not op.results:
        return
    number, *carried = op.body.block.args
    given = [operand(value, op, host) for value in op.iter_args]
    names = [host.names.new(value.name_hint or "carried") for value in op.results]
    first, end, step = (on_host(value, host, op) for value in (op.lb, op.ub, op.step))
    bounds = [end] if (first, step) == ("0", "1") else [first, end, step]
    turn = host.names.new(number.name_hint or "turn") if number.uses else "_"
    host.lines += [
        *comment(op),
        *assigned(f"{', '.join(names)} = ", given, depth=1 + host.depth),
        f"for {turn} in range({', '.join(bounds)}):",
    ]
    host.numbers[number] = turn
    host.values |= dict(zip(carried, names, strict=True))
    emit_branch(op.body.block, names, host, emit_block)
    host.values |= dict(zip(op.results, names, strict=True))


def emit_if(op: scf.IfOp, host: Host, emit_block: EmitBlock) -> None:
    if not op.results:
        return
    names = [host.names.new(value.name_hint or "chosen") for value in op.results]
    host.lines += [*comment(op), f"if {on_host(op.cond, host, op)}:"]
    emit_branch(op.true_region.block, names, host, emit_block)
    host.lines.append("else:")
    emit_branch(op.false_region.block, names, host, emit_block)
    host.values |= dict(zip(op.results, names, strict=True))


def emit_branch(block: Block, names: Sequence[str], host: Host, emit_block: EmitBlock) -> None:
    """The statements of a block, and what it yields to the names. What is known inside is not known behind it."""
    lines, values = host.lines, dict(host.values)
    host.lines, host.depth = [], host.depth + 1
    emit_block(block, host)
    end = block.last_op
    assert isinstance(end, scf.YieldOp)
    yielded = [operand(value, end, host) for value in end.operands]
    if list(names) != yielded:
        host.lines += assigned(f"{', '.join(names)} = ", yielded, depth=1 + host.depth)
    inner, host.lines = host.lines or ["pass"], lines
    host.lines += [f"{INDENT}{line}" if line else line for line in inner]
    host.depth -= 1
    host.values = values


def operand(value: SSAValue, op: scf.ForOp | scf.IfOp | scf.YieldOp, host: Host) -> str:
    """The Python expression of what goes in or out: a tensor on the device."""
    if isinstance(value.type, TensorType):
        return host.expression(value)
    return on_device(value, host, op)


def comment(op: scf.ForOp | scf.IfOp) -> list[str]:
    where = describe_location(op.location)
    return [f"# {op.name} at {where}" if where else f"# {op.name}"]
