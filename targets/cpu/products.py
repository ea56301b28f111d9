"""Kernels of `ternary.accumulate` and of `ternary.dequantize`, where no `project` has taken them in."""

from __future__ import annotations

from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue

from sterna.dialects.numerics import LANES
from sterna.dialects.ternary import AccumulateOp, DequantizeOp, tensor
from sterna.targets.cpu.instructions import (
    INTS,
    fmul,
    index,
    int_to_float,
    load,
    mul,
    offset,
    splat,
    store,
    sub,
)
from sterna.targets.cpu.kernel import Frame, blocks_of, each, store_floats, vector_at
from sterna.targets.cpu.packed import PackedRow, require_tiles
from sterna.targets.cpu.project import accumulate, scaled
from sterna.targets.cpu.sums import Sums, bytes_of, gathered_row


def emit_accumulate(op: AccumulateOp, frame: Frame) -> None:
    x, w = frame.operands
    (out,) = frame.results
    require_tiles(w.type, op)
    if op.group_count != 1:
        emit_accumulate_groups(op, frame)
        return
    if tensor(op.x).element_type == f32:
        emit_accumulate_floats(op, frame)
        return
    channels, packed = out.columns, PackedRow.of(w.type)
    assert channels is not None

    def row(*t: SSAValue) -> None:
        q = x.row(*t)
        total = splat(packed.sum_activations(q))

        def block(number: SSAValue) -> None:
            sums = sub(accumulate(w, q, number), total)
            store(sums, vector_at(out.row(*t), number), 4 * LANES)

        each(index(0), index(blocks_of(channels)), block)

    frame.share_all(x.rows, row)


def emit_accumulate_groups(op: AccumulateOp, frame: Frame) -> None:
    """The columns of each group are copied to where whole tiles of them can be read."""
    x, (out,) = frame.operands[0], frame.results
    sums = Sums.of(op, frame)
    gathered, size = gathered_row(op, sums, frame), bytes_of(sums.element)

    def row(*t: SSAValue) -> None:
        def group(g: SSAValue) -> None:
            source = offset(x.row(*t), mul(g, index(sums.columns * size)))
            target = offset(gathered, mul(g, index(sums.group_bytes)))

            def column(k: SSAValue) -> None:
                at = mul(k, index(size))
                store(load(offset(source, at), sums.element, size), offset(target, at), size)

            each(index(0), index(sums.columns), column)

        each(index(0), index(sums.groups), group)
        sums.emit(gathered, out.row(*t))

    frame.share_all(x.rows, row)


def emit_accumulate_floats(op: AccumulateOp, frame: Frame) -> None:
    """Four channels at a time, so that a row of trits is read once for all rows of x."""
    x, (out,) = frame.operands[0], frame.results
    sums = Sums.of(op, frame)

    def tile_row(number: SSAValue) -> None:
        frame.each(x.rows, lambda *t: sums.four(number, x.row(*t), None, out.row(*t)))

    frame.share(index(sums.tile_rows), tile_row)


def emit_dequantize(op: DequantizeOp, frame: Frame) -> None:
    acc, step, scale = frame.operands
    (out,) = frame.results
    channels = out.columns
    assert channels is not None

    def row(*t: SSAValue) -> None:
        factor = load(step.at(*t) if step.shape else step.pointer, f32, 4)

        def block(number: SSAValue) -> None:
            address = vector_at(acc.row(*t), number)
            sums = load(address, INTS, 4 * LANES)
            store_floats(fmul(int_to_float(sums), scaled(factor, scale, number)), out.row(*t), number)

        each(index(0), index(blocks_of(channels)), block)

    frame.share_all(acc.rows, row)
