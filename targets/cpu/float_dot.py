"""The sums of rows of f32 by packed trits: each term is x, -x or +0, made with masks, and nothing is multiplied.

Sixteen columns of a row of trits are one field of sixteen bytes (`EncodingAttr`): of i2, field f of the bytes b to
b + 15 of a tile's row holds the columns 64 f + b and on; of b3, digit f of all its bytes the columns 16 f and on. The
field is w + 1, so that 0 says to turn x's sign and 1 says to leave x out; bits of x outside a mask become +0, infinite
and NaN ones too. Lane j adds the columns j, j + 16, ... in order, as `numerics.lane_sum` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import i32
from xdsl.ir import SSAValue

from sterna.dialects.encodings import EncodingAttr
from sterna.dialects.numerics import LANES
from sterna.targets.cpu.dot import TILE_ROWS
from sterna.targets.cpu.instructions import (
    BYTES,
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
    zext,
)
from sterna.targets.cpu.kernel import blocks_of


@dataclass(frozen=True)
class Blocks:
    """Where sixteen columns of a row of tiles are."""

    fields: int
    """In a byte."""
    row_bytes: int
    """Of a row of a tile."""

    @property
    def of_field(self) -> int:
        return self.row_bytes // LANES

    def fields_at(self, weights: SSAValue, block: SSAValue) -> list[SSAValue]:
        """w + 1 of the sixteen columns, as int32, for each of the four rows."""
        across = self.fields * self.of_field
        tile, inner = udiv(block, index(across)), urem(block, index(across))
        field, part = udiv(inner, index(self.of_field)), urem(inner, index(self.of_field))
        bytes = offset(weights, add(mul(tile, index(TILE_ROWS * self.row_bytes)), mul(part, index(LANES))))
        packed = [load(offset(bytes, r * self.row_bytes), BYTES, LANES) for r in range(TILE_ROWS)]
        take = self._two_bits(field) if self.fields == 4 else self._digit(field)
        return [take(zext(row, i32)) for row in packed]

    def _two_bits(self, field: SSAValue) -> Callable[[SSAValue], SSAValue]:
        shift = splat(trunc(mul(field, index(2)), i32))
        return lambda row: bitand(lshr(row, shift), constant(3, INTS))

    def _digit(self, field: SSAValue) -> Callable[[SSAValue], SSAValue]:
        """The byte is brought up by a power of three, and what is above it goes; then 3 x is 256 d and more."""
        power = index(1)
        for number in range(1, self.fields):
            power = select(icmp("eq", field, index(number)), index(3**number), power)
        scale, byte = splat(trunc(power, i32)), constant(0xFF, INTS)
        return lambda row: lshr(mul(bitand(mul(row, scale), byte), constant(3, INTS)), constant(8, INTS))


BLOCKS = {name: Blocks(each.fields, each.row_bytes) for name, each in EncodingAttr.FORMATS.items()}


def sum_signed(weights: SSAValue, x: SSAValue, format: str, columns: int) -> list[SSAValue]:
    """The four sums of a row of tiles at `weights` with the row of f32 at `x`, as scalars.

    `x` is at a multiple of 4 bytes and can be read to the end of its last block of sixteen.
    """

    def step(block: SSAValue, *totals: SSAValue) -> Sequence[SSAValue]:
        fields = BLOCKS[format].fields_at(weights, block)
        values = bitcast(load(offset(x, mul(block, index(4 * LANES))), FLOATS, 4), INTS)
        return [fadd(total, _signed(values, field)) for total, field in zip(totals, fields, strict=True)]

    zeros = [constant(0.0, FLOATS)] * TILE_ROWS
    return [tree(fadd, total) for total in loop(index(0), index(blocks_of(columns)), step, zeros)]


def _signed(values: SSAValue, field: SSAValue) -> SSAValue:
    """x, -x or +0."""
    sign = select(icmp("eq", field, constant(0, INTS)), constant(-(1 << 31), INTS), constant(0, INTS))
    kept = select(icmp("eq", field, constant(1, INTS)), constant(0, INTS), constant(-1, INTS))
    return bitcast(bitand(bitxor(values, sign), kept), FLOATS)
