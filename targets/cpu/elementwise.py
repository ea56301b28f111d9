"""Kernel of `ternary.elementwise`, and how it and `ternary.project` read inputs that broadcast.

Threads share the blocks of sixteen columns, each for all rows.
"""

from __future__ import annotations

from xdsl.dialects.builtin import f32
from xdsl.ir import Operation, SSAValue

from sterna.dialects.numerics import LANES
from sterna.dialects.ternary import ElementwiseOp
from sterna.targets.cpu.instructions import add, index, load, splat, udiv
from sterna.targets.cpu.kernel import Buffer, Frame, blocks_of, each, load_floats, store_floats
from sterna.targets.cpu.region import vectorise


def load_broadcast(buffer: Buffer, t: SSAValue, block: SSAValue) -> SSAValue:
    """The sixteen elements at [t, block] of an f32 `[T, M]`, `[M]` or scalar."""
    if not buffer.type.get_shape():
        return splat(load(buffer.pointer, f32, 4))
    return load_floats(buffer.row(t), block)


def emit_elementwise(op: Operation, frame: Frame) -> None:
    assert isinstance(op, ElementwiseOp)
    out = frame.results[0]

    def compute_block(block: SSAValue) -> None:
        def compute(t: SSAValue) -> None:
            values = vectorise(op.body.block, [load_broadcast(buffer, t, block) for buffer in frame.operands])
            for value, result in zip(values, frame.results, strict=True):
                store_floats(value, result.row(t), block)

        each(index(0), frame.extent(out.count), compute)

    if out.columns is None:
        blocks = udiv(add(frame.rows, index(LANES - 1)), index(LANES))
    else:
        blocks = index(blocks_of(out.columns))
    frame.share(blocks, compute_block)
