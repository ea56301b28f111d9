"""Reductions over a row, in the order of `dialects/numerics.py`, and the scalars made of them.

`numerics.lane_sum` with 16 lanes is one vector accumulator and a halving tree, whatever the machine's
vectors are. A maximum has no order: it is taken on the bits of |x| as integers, which compare as the floats
do and put NaN above infinity, so that a row with a NaN has a NaN for its maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue

from sterna.targets.cpu.instructions import (
    FLOATS,
    INTS,
    bitand,
    bitcast,
    constant,
    fadd,
    fcmp,
    fdiv,
    fmul,
    index,
    loop,
    select,
    smax,
    sqrt,
    tree,
)
from sterna.targets.cpu.kernel import blocks_of, mask_tail

Load = Callable[[SSAValue], SSAValue]
"""The sixteen elements of a block of the row."""


def reduce_row(
    columns: int, sums: Sequence[Load], maxima: Sequence[Load]
) -> tuple[list[SSAValue], list[SSAValue]]:
    """Sums of the first loads and maxima of the |second loads| in one pass over the row, as f32 scalars."""

    def step(block: SSAValue, *carried: SSAValue) -> list[SSAValue]:
        totals = [fadd(carried[n], mask_tail(load(block), block, columns)) for n, load in enumerate(sums)]
        largest = [
            smax(carried[len(sums) + n], mask_tail(_magnitude(load(block)), block, columns))
            for n, load in enumerate(maxima)
        ]
        return [*totals, *largest]

    initial = [*[constant(0.0, FLOATS)] * len(sums), *[constant(0, INTS)] * len(maxima)]
    final = loop(index(0), index(blocks_of(columns)), step, initial)
    totals = [tree(fadd, value) for value in final[: len(sums)]]
    largest = [bitcast(tree(smax, value), f32) for value in final[len(sums) :]]
    return totals, largest


def _magnitude(value: SSAValue) -> SSAValue:
    return bitand(bitcast(value, INTS), constant(0x7FFFFFFF, INTS))


def square(value: SSAValue) -> SSAValue:
    return fmul(value, value)


def mean(total: SSAValue, columns: int) -> SSAValue:
    return fdiv(total, constant(columns, f32))


def reciprocal_rms(mean_square: SSAValue, eps: float) -> SSAValue:
    return fdiv(constant(1.0, f32), sqrt(fadd(mean_square, constant(eps, f32))))


def maximum(value: SSAValue, bound: float) -> SSAValue:
    """max(value, bound), NaN if the value is."""
    limit = constant(bound, f32)
    return select(fcmp("ugt", value, limit), value, limit)
