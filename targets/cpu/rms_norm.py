"""Kernel of `ternary.rms_norm`: rows shared between threads, two passes over each."""

from __future__ import annotations

from xdsl.ir import Operation, SSAValue

from sterna.dialects.numerics import NORM_LANES
from sterna.dialects.ternary import RmsNormOp
from sterna.targets.cpu.instructions import fmul, index, splat
from sterna.targets.cpu.kernel import Frame, blocks_of, each, load_floats, require_lanes, store_floats
from sterna.targets.cpu.reductions import mean, reciprocal_rms, reduce_row, square


def emit_rms_norm(op: Operation, frame: Frame) -> None:
    assert isinstance(op, RmsNormOp)
    lanes = op.lanes.value.data
    require_lanes(op, lanes, NORM_LANES)
    x, weight = frame.operands
    (result,) = frame.results
    columns = x.columns
    assert columns is not None

    def normalise(*t: SSAValue) -> None:
        row, out = x.row(*t), result.row(*t)
        (total,), _ = reduce_row(columns, [lambda block: square(load_floats(row, block))], [], lanes)
        scale = splat(reciprocal_rms(mean(total, columns), op.eps.value.data))

        def write(block: SSAValue) -> None:
            scaled = fmul(load_floats(row, block), scale)
            store_floats(fmul(scaled, load_floats(weight.pointer, block)), out, block)

        each(index(0), index(blocks_of(columns)), write)

    frame.share_all(x.rows, normalise)
