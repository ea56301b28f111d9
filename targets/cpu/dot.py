"""The inner product of packed trits and int8 rows, one implementation an instruction set.

A tile (`EncodingAttr`, format i2) is 4 rows of 64 bytes; byte b of a row holds the fields w + 1, in {0, 1,
2}, of the columns b, 64 + b, 128 + b and 192 + b in bits 0-1, 2-3, 4-5 and 6-7. Tiles of four weight rows
lie one after the other along K, so that each `dot` reads one linear stream, and the four rows share the
loads of the activations.

`dot(weights, q, columns)` gives the four int32 sums of field * q over K, in whole tiles. Their caller
subtracts sum(q) over the same columns once a row, which makes them sums of w * q (`packed.py`). All sums are
of int32 or proved to fit below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from xdsl.dialects.builtin import VectorType, i8, i16, i32
from xdsl.ir import Attribute, SSAValue

from sterna.targets.cpu.instructions import (
    add,
    bitand,
    bitcast,
    call_intrinsic,
    constant,
    halves,
    index,
    lanes_of,
    load,
    loop,
    lshr,
    mul,
    offset,
    prefetch,
    shift_left,
    shift_right,
    shuffle,
    smin,
    vector_type,
)

TILE_ROWS = 4
TILE_COLUMNS = 256
ROW_BYTES = TILE_COLUMNS // 4
TILE_BYTES = TILE_ROWS * ROW_BYTES
FIELDS = 4
MAX_TILES = (1 << 22) // TILE_COLUMNS
"""A lane of AVX-512 adds 4 products a tile, the largest 2^7 * 2^7 (field 3 in place times -128): at most 2^30."""
MAX_COLUMNS = MAX_TILES * TILE_COLUMNS

AVX2_GROUP = 4
BASELINE_GROUP = 2
"""Tiles that are added in int16 before the sums are widened; the docstrings of the products say why no more."""

PREFETCH_BYTES = 2048
"""How far ahead of its loads a stream of weights asks for memory: 8 tiles."""

SUMS = vector_type(i32, TILE_ROWS)

Dot = Callable[[SSAValue, SSAValue, int], SSAValue]
"""(address of a row of tiles, address of a row of int8, columns) -> vector<4xi32>"""


def dot_avx512vnni(weights: SSAValue, q: SSAValue, columns: int) -> SSAValue:
    """A row of a tile is one register, and its fields are masked where they are, never shifted.

    Field f counts 4^f times in its own accumulator, and one shift at the end, exact, takes that out.
    """
    bytes, sums = vector_type(i8, ROW_BYTES), vector_type(i32, 16)

    def step(tile: SSAValue, *totals: SSAValue) -> list[SSAValue]:
        address = offset(weights, mul(tile, index(TILE_BYTES)))
        activations = offset(q, mul(tile, index(TILE_COLUMNS)))
        rows = [load(offset(activations, ROW_BYTES * f), bytes, 64) for f in range(FIELDS)]
        result: list[SSAValue] = []
        for r in range(TILE_ROWS):
            prefetch(offset(address, PREFETCH_BYTES + r * ROW_BYTES))
            packed = load(offset(address, r * ROW_BYTES), bytes, 64)
            for f in range(FIELDS):
                field = bitand(packed, constant(_mask(f), bytes))
                total = totals[r * FIELDS + f]
                result.append(call_intrinsic("llvm.x86.avx512.vpdpbusd.512", [total, field, rows[f]], sums))
        return result

    zero = constant(0, sums)
    totals = loop(index(0), index(columns // TILE_COLUMNS), step, [zero] * (TILE_ROWS * FIELDS))
    by_row = [totals[r * FIELDS : (r + 1) * FIELDS] for r in range(TILE_ROWS)]
    return sum_rows([reduce(add, [shift_right(t, 2 * f) for f, t in enumerate(row)]) for row in by_row])


def dot_avx2(weights: SSAValue, q: SSAValue, columns: int) -> SSAValue:
    """`vpmaddubsw` multiplies 32 unsigned fields by 32 signed bytes and adds neighbours, in saturating int16.

    Nothing saturates: fields 0 and 2 (the latter after a shift) are at most 2, a pair at most 2 * 2 * 128 =
    2^9 in magnitude; fields 1 and 3 stay two bits up, at most 8, a pair at most 2^11. A tile adds 4 such
    pairs to a lane (2 halves, 2 fields), so 4 tiles reach 2^13 and 2^15: the latter only as -32768, since
    +127 is the largest activation, and fits. Then the second, a multiple of 4, is shifted to 2^13, both add
    to 2^14, and `vpmaddwd` by ones widens them to int32.
    """
    bytes, words, sums = vector_type(i8, 32), vector_type(i16, 16), vector_type(i32, 8)

    def add_pairs(total: SSAValue, field: SSAValue, activations: SSAValue) -> SSAValue:
        return add(total, call_intrinsic("llvm.x86.avx2.pmadd.ub.sw", [field, activations], words))

    def step(tile: SSAValue, *totals: SSAValue) -> list[SSAValue]:
        address = offset(weights, mul(tile, index(TILE_BYTES)))
        activations = offset(q, mul(tile, index(TILE_COLUMNS)))
        low, high = list(totals[:TILE_ROWS]), list(totals[TILE_ROWS:])
        for r in range(TILE_ROWS):
            prefetch(offset(address, PREFETCH_BYTES + r * ROW_BYTES))
        for half in range(2):
            rows = [load(offset(activations, ROW_BYTES * f + 32 * half), bytes, 32) for f in range(FIELDS)]
            for r in range(TILE_ROWS):
                packed = load(offset(address, r * ROW_BYTES + 32 * half), bytes, 32)
                # A shift of words moves bits between bytes; the masks drop them.
                upper = bitcast(_shift_down(bitcast(packed, words), 4), bytes)
                for field, pair in ((packed, 0), (upper, 2)):
                    low[r] = add_pairs(low[r], bitand(field, constant(0x03, bytes)), rows[pair])
                    high[r] = add_pairs(high[r], bitand(field, constant(0x0C, bytes)), rows[pair + 1])
        return [*low, *high]

    def widen(low: SSAValue, high: SSAValue) -> SSAValue:
        both = add(low, shift_right(high, 2))
        return call_intrinsic("llvm.x86.avx2.pmadd.wd", [both, constant(1, words)], sums)

    zero = [constant(0, words)] * (2 * TILE_ROWS)
    return sum_rows(_in_groups(columns // TILE_COLUMNS, AVX2_GROUP, step, zero, widen, sums))


def dot_baseline(weights: SSAValue, q: SSAValue, columns: int) -> SSAValue:
    """Plain vector IR on 128 bits, for SSE2, NEON and whatever LLVM has: bytes are lanes of int16, even and odd.

    A product is at most 2 * 128 = 2^8 in fields 0 and 2, which are shifted down, and 2^10 in fields 1 and
    3, which stay two bits up. A tile adds 16 of either to a lane (4 quarters, 2 parities, 2 fields): after
    2 tiles 2^13 and 2^15, the latter only as -32768, and then they widen as in `dot_avx2`.
    """
    words, sums = vector_type(i16, 8), vector_type(i32, 4)

    def step(tile: SSAValue, *totals: SSAValue) -> list[SSAValue]:
        address = offset(weights, mul(tile, index(TILE_BYTES)))
        activations = offset(q, mul(tile, index(TILE_COLUMNS)))
        low, high = list(totals[:TILE_ROWS]), list(totals[TILE_ROWS:])
        for quarter in range(4):
            loaded = [
                load(offset(activations, ROW_BYTES * f + 16 * quarter), words, 16) for f in range(FIELDS)
            ]
            even = [shift_right(shift_left(pair, 8), 8) for pair in loaded]
            odd = [shift_right(pair, 8) for pair in loaded]
            for r in range(TILE_ROWS):
                packed = load(offset(address, r * ROW_BYTES + 16 * quarter), words, 16)
                # Bits 0-3 of a word are the fields 0 and 1 of its even byte; 4, 8 and 12 bits up: fields 2,
                # 3; odd byte.
                for bits, pair, rows in ((0, 0, even), (4, 2, even), (8, 0, odd), (12, 2, odd)):
                    field = _shift_down(packed, bits)
                    low[r] = add(low[r], mul(bitand(field, constant(0x03, words)), rows[pair]))
                    high[r] = add(high[r], mul(bitand(field, constant(0x0C, words)), rows[pair + 1]))
        return [*low, *high]

    def widen(low: SSAValue, high: SSAValue) -> SSAValue:
        pairs = bitcast(add(low, shift_right(high, 2)), sums)
        return add(shift_right(shift_left(pairs, 16), 16), shift_right(pairs, 16))

    zero = [constant(0, words)] * (2 * TILE_ROWS)
    return sum_rows(_in_groups(columns // TILE_COLUMNS, BASELINE_GROUP, step, zero, widen, sums))


DOTS: dict[str, Dot] = {"avx512vnni": dot_avx512vnni, "avx2": dot_avx2, "baseline": dot_baseline}


def _in_groups(
    tiles: int,
    group: int,
    step: Callable[..., Sequence[SSAValue]],
    zero: Sequence[SSAValue],
    widen: Callable[[SSAValue, SSAValue], SSAValue],
    sums: VectorType[Attribute],
) -> tuple[SSAValue, ...]:
    """Runs `step` on int16 sums, two a row, and widens them every `group` tiles into an int32 sum a row."""

    def add_group(begin: SSAValue, *totals: SSAValue) -> list[SSAValue]:
        end = smin(add(begin, index(group)), index(tiles))
        words = loop(begin, end, step, zero)
        return [add(totals[r], widen(words[r], words[TILE_ROWS + r])) for r in range(TILE_ROWS)]

    return loop(index(0), index(tiles), add_group, [constant(0, sums)] * TILE_ROWS, step=group)


def sum_rows(rows: Sequence[SSAValue]) -> SSAValue:
    """The sums of four vectors of int32, as the four lanes of one."""
    while lanes_of(rows[0]) > 4:
        rows = [add(*halves(row)) for row in rows]
    a, b, c, d = rows
    ab = add(shuffle(a, b, (0, 4, 2, 6)), shuffle(a, b, (1, 5, 3, 7)))
    cd = add(shuffle(c, d, (0, 4, 2, 6)), shuffle(c, d, (1, 5, 3, 7)))
    return add(shuffle(ab, cd, (0, 1, 4, 5)), shuffle(ab, cd, (2, 3, 6, 7)))


def _mask(field: int) -> int:
    """The bits of a field in a byte, as a signed byte."""
    mask = 0x03 << 2 * field
    return mask - 256 if mask > 127 else mask


def _shift_down(value: SSAValue, bits: int) -> SSAValue:
    return lshr(value, constant(bits, value.type)) if bits else value
