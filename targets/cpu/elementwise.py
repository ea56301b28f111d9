"""Kernel of `ternary.elementwise`, and how it and `ternary.project` read inputs that broadcast.

Of f32 rows threads share the blocks of sixteen columns, each for all rows, as the projections before and after do;
other tensors are parallel loops like any (`pointwise.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap

from sterna.dialects.numerics import LANES
from sterna.dialects.ternary import ElementwiseOp
from sterna.targets.cpu.instructions import add, index, load, splat, udiv
from sterna.targets.cpu.kernel import Buffer, Frame, blocks_of, is_tensor_of, load_floats, store_floats
from sterna.targets.cpu.pointwise import emit_loops
from sterna.targets.cpu.region import vectorise
from sterna.targets.cpu.views import View


def load_broadcast(buffer: Buffer, t: Sequence[SSAValue], block: SSAValue) -> SSAValue:
    """The sixteen elements at [*t, block] of an f32 `[*T, M]`, `[M]` or scalar."""
    if not buffer.type.get_shape():
        return splat(load(buffer.pointer, f32, 4))
    return load_floats(buffer.row(*t), block)


def emit_elementwise(op: ElementwiseOp, frame: Frame) -> None:
    out = frame.results[0]
    buffers = (*frame.operands, *frame.results)
    if op.axes is not None or len(out.shape) > 2 or any(not is_tensor_of(each, f32) for each in buffers):
        emit_general(op, frame)
        return

    def compute_block(block: SSAValue) -> None:
        def compute(*t: SSAValue) -> None:
            values = vectorise(op.body.block, [load_broadcast(buffer, t, block) for buffer in frame.operands])
            for value, result in zip(values, frame.results, strict=True):
                store_floats(value, result.row(*t), block)

        frame.each(out.rows, compute)

    if out.columns is None:
        blocks = udiv(add(frame.rows, index(LANES - 1)), index(LANES))
    else:
        blocks = index(blocks_of(out.columns))
    frame.share(blocks, compute_block)


def emit_general(op: ElementwiseOp, frame: Frame) -> None:
    extents = frame.results[0].shape
    rank = len(extents)
    inputs = [
        View.of(buffer, AffineMap(rank, 0, tuple(map(AffineDimExpr, axes))))
        for buffer, axes in zip(frame.operands, op.input_axes(), strict=True)
    ]
    outputs = [View.of(buffer, AffineMap.identity(rank)) for buffer in frame.results]
    emit_loops(frame, extents, inputs, outputs, lambda lanes, values: lanes.run(op.body.block, values))
