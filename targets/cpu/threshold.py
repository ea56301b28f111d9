"""Kernel of `ternary.threshold`: sixteen thresholds of a channel are compared with an element at once."""

from __future__ import annotations

from xdsl.dialects.builtin import f32, i8, i32
from xdsl.ir import SSAValue

from sterna.dialects.numerics import LANES
from sterna.dialects.ternary import ThresholdOp, tensor
from sterna.targets.cpu.instructions import (
    INTS,
    add,
    constant,
    fcmp,
    icmp,
    index,
    load,
    loop,
    mul,
    offset,
    select,
    splat,
    store,
    tree,
    trunc,
    vector_type,
)
from sterna.targets.cpu.kernel import Frame, blocks_of, each, mask_tail, vector_at


def emit_threshold(op: ThresholdOp, frame: Frame) -> None:
    x, thresholds = frame.operands
    (out,) = frame.results
    channels, steps = tensor(op.thresholds).get_shape()
    element = tensor(op.x).element_type
    numbers = vector_type(element, LANES)

    def reached(value: SSAValue, bounds: SSAValue) -> SSAValue:
        return fcmp("oge", value, bounds) if element == f32 else icmp("sge", value, bounds)

    def row(*t: SSAValue) -> None:
        def channel(m: SSAValue) -> None:
            value = splat(load(offset(x.row(*t), mul(m, index(4))), element, 4))

            def count(block: SSAValue, total: SSAValue) -> list[SSAValue]:
                bounds = load(vector_at(thresholds.row(m), block), numbers, 4 * LANES)
                ones = select(reached(value, bounds), constant(1, INTS), constant(0, INTS))
                return [add(total, mask_tail(ones, block, steps))]

            (total,) = loop(index(0), index(blocks_of(steps)), count, [constant(0, INTS)])
            y = add(tree(add, total), constant(op.base.value.data, i32))
            store(trunc(y, i8), offset(out.row(*t), m), 1)

        each(index(0), index(channels), channel)

    frame.share_all(x.rows, row)
