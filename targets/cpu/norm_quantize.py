"""Kernel of `ternary.norm_quantize`: one pass of reductions for all gains, then one of rounding for each.

Rows are shared between threads.
"""

from __future__ import annotations

from collections.abc import Callable

from xdsl.ir import Operation, SSAValue

from sterna.dialects.numerics import NORM_LANES
from sterna.dialects.ternary import NormQuantizeOp
from sterna.targets.cpu.instructions import fmul
from sterna.targets.cpu.kernel import Buffer, Frame, load_floats, require_lanes
from sterna.targets.cpu.quantize import int8_scale, store_step, write_quantized
from sterna.targets.cpu.reductions import Load, maximum, mean, reciprocal_rms, reduce_row, square


def emit_norm_quantize(op: Operation, frame: Frame) -> None:
    assert isinstance(op, NormQuantizeOp)
    lanes = op.lanes.value.data
    require_lanes(op, lanes, NORM_LANES)
    x, *weights = frame.operands
    outer = weights.pop(0) if op.outer is not None else None
    gains, count = weights, len(weights)
    q, step = frame.results[:count], frame.results[count:]
    columns = x.columns
    assert columns is not None
    eps, quantize_eps = op.eps.value.data, op.quantize_eps.value.data
    outer_eps = op.outer_eps.value.data if op.outer_eps is not None else None

    def scaled_by(row: SSAValue, weight: Buffer) -> Load:
        return lambda block: fmul(load_floats(row, block), load_floats(weight.pointer, block))

    def root_mean_square(totals: list[SSAValue]) -> SSAValue:
        if outer_eps is None:
            return reciprocal_rms(mean(totals[0], columns), eps)
        r = reciprocal_rms(mean(totals[0], columns), outer_eps)
        return fmul(r, reciprocal_rms(fmul(fmul(r, r), mean(totals[1], columns)), eps))

    def quantize(*t: SSAValue) -> None:
        row = x.row(*t)
        gained = [scaled_by(row, gain) for gain in gains]
        squares = [_squared(lambda block: load_floats(row, block))]
        if outer is not None:
            squares.append(_squared(scaled_by(row, outer)))
        totals, largest = reduce_row(columns, squares, gained, lanes)
        r = root_mean_square(totals)
        for j, load in enumerate(gained):
            divisor = maximum(fmul(largest[j], r), quantize_eps)
            write_quantized(q[j], t, columns, load, fmul(r, int8_scale(divisor)))
            store_step(step[j], t, divisor)

    frame.share_all(x.rows, quantize)


def _squared(load: Load) -> Callable[[SSAValue], SSAValue]:
    return lambda block: square(load(block))
