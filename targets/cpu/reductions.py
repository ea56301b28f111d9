"""Reductions over a row, in the order of `dialects/numerics.py`, and the scalars made of them.

`numerics.lane_sum` with 16 lanes is one vector accumulator and a halving tree, whatever the machine's vectors are;
with more it is one for every 16, and none waits for another. A maximum has no order: it is taken on the bits of |x| as
integers, which compare as the floats do and put NaN above infinity, so that a row with a NaN has a NaN for its maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue

from sterna.dialects.numerics import LANES
from sterna.targets.cpu.instructions import (
    FLOATS,
    INTS,
    add,
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
    columns: int, sums: Sequence[Load], maxima: Sequence[Load], lanes: int = LANES
) -> tuple[list[SSAValue], list[SSAValue]]:
    """Sums of the first loads and maxima of the |second loads| in one pass over the row, as f32 scalars."""
    # Block b of a row is added to accumulator b % together.
    together = lanes // LANES if sums else 1

    def take(block: SSAValue, carried: list[SSAValue], number: int) -> None:
        for n, load in enumerate(sums):
            at = n * together + number
            carried[at] = fadd(carried[at], mask_tail(load(block), block, columns))
        for n, load in enumerate(maxima, len(sums) * together):
            carried[n] = smax(carried[n], mask_tail(_magnitude(load(block)), block, columns))

    def step(first: SSAValue, *before: SSAValue) -> list[SSAValue]:
        carried = list(before)
        for number in range(together):
            take(add(first, index(number)), carried, number)
        return carried

    blocks = blocks_of(columns)
    rest = blocks % together
    carried = [*[constant(0.0, FLOATS)] * (len(sums) * together), *[constant(0, INTS)] * len(maxima)]
    if blocks > rest:
        carried = list(loop(index(0), index(blocks - rest), step, carried, together))
    for number in range(rest):
        take(index(blocks - rest + number), carried, number)
    totals = [tree(fadd, _halved(carried[n * together : (n + 1) * together])) for n in range(len(sums))]
    largest = [bitcast(tree(smax, value), f32) for value in carried[len(sums) * together :]]
    return totals, largest


def _halved(accumulators: Sequence[SSAValue]) -> SSAValue:
    """One vector of sixteen sums: the upper half of the accumulators is added to the lower until one is left."""
    while len(accumulators) > 1:
        half = len(accumulators) // 2
        accumulators = [fadd(*pair) for pair in zip(accumulators[:half], accumulators[half:], strict=True)]
    return accumulators[0]


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
