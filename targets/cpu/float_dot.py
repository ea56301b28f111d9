"""The sums of rows of f32 by packed trits: each term is x, -x or +0, made with masks, and nothing is multiplied.

Sixteen columns of a row of trits are one field of sixteen bytes (`EncodingAttr`, format i2): field f of the bytes b to
b + 15 of a tile's row holds the columns 64 f + b and on. The field is w + 1, so that 0 says to turn x's sign and 1 says
to leave x out; bits of x outside a mask become +0, infinite and NaN ones too. Lane j adds the columns j, j + 16, ...
in order, as `numerics.lane_sum` does.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import f32, i8, i32
from xdsl.ir import SSAValue

from sterna.dialects.numerics import LANES
from sterna.targets.cpu.dot import ROW_BYTES, TILE_BYTES, TILE_COLUMNS, TILE_ROWS
from sterna.targets.cpu.instructions import (
    FLOATS,
    INTS,
    add,
    bitand,
    bitcast,
    bitxor,
    constant,
    fadd,
    icmp,
    index,
    load,
    loop,
    lshr,
    mul,
    offset,
    select,
    splat,
    tree,
    trunc,
    udiv,
    urem,
    vector_type,
    zext,
)
from sterna.targets.cpu.kernel import blocks_of

BLOCKS = TILE_COLUMNS // LANES
"""Blocks of sixteen columns in a tile."""

BLOCKS_OF_FIELD = ROW_BYTES // LANES


def sum_signed(weights: SSAValue, x: SSAValue, columns: int) -> list[SSAValue]:
    """The four sums of a row of tiles at `weights` with the row of f32 at `x`, as scalars.

    `x` is at a multiple of 4 bytes and can be read to the end of its last block of sixteen.
    """

    def step(block: SSAValue, *totals: SSAValue) -> Sequence[SSAValue]:
        tile, inner = udiv(block, index(BLOCKS)), urem(block, index(BLOCKS))
        field, part = udiv(inner, index(BLOCKS_OF_FIELD)), urem(inner, index(BLOCKS_OF_FIELD))
        bytes = offset(weights, add(mul(tile, index(TILE_BYTES)), mul(part, index(LANES))))
        shift = splat(trunc(mul(field, index(2)), i32))
        values = bitcast(load(offset(x, mul(block, index(4 * LANES))), FLOATS, 4), INTS)
        return [
            fadd(total, _signed(values, zext(_row(bytes, r), i32), shift)) for r, total in enumerate(totals)
        ]

    zeros = [constant(0.0, FLOATS)] * TILE_ROWS
    return [tree(fadd, total) for total in loop(index(0), index(blocks_of(columns)), step, zeros)]


def _row(bytes: SSAValue, row: int) -> SSAValue:
    return load(offset(bytes, row * ROW_BYTES), vector_type(i8, LANES), LANES)


def _signed(values: SSAValue, packed: SSAValue, shift: SSAValue) -> SSAValue:
    """x, -x or +0 by the field of `packed` that `shift` brings down."""
    field = bitand(lshr(packed, shift), constant(3, INTS))
    sign = select(icmp("eq", field, constant(0, INTS)), constant(-(1 << 31), INTS), constant(0, INTS))
    kept = select(icmp("eq", field, constant(1, INTS)), constant(0, INTS), constant(-1, INTS))
    return bitcast(bitand(bitxor(values, sign), kept), vector_type(f32, LANES))
