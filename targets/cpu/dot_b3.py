"""The inner product of trits in base 3 and int8 rows, one implementation an instruction set.

A tile (`EncodingAttr`, format b3) is 4 rows of 16 bytes. A byte x holds the digits w + 1 of five columns, 16 apart,
as a fraction of 256: 3 x = 256 d + x', where d is the first digit and the byte x' = 3 x mod 256 holds the others.
Nothing is looked up: digits come out by adding bytes to themselves.

`dot(weights, q, columns)` gives what those of `dot.py` give. Columns are a multiple of 16: the last tile may have
activations for its first digits alone, the rest of it being zero trits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from xdsl.dialects.builtin import i8, i16, i32
from xdsl.ir import SSAValue

from sterna.targets.cpu.dot import PREFETCH_BYTES, TILE_ROWS, Dot, sum_rows
from sterna.targets.cpu.instructions import (
    add,
    add_bytes,
    bitand,
    bitcast,
    call_intrinsic,
    concatenate,
    constant,
    icmp,
    index,
    load,
    loop,
    lshr,
    mul,
    offset,
    prefetch,
    sext,
    shift_left,
    shift_right,
    shuffle,
    smin,
    sub,
    vector_type,
    zext,
)

DIGITS = 5
FIELD_COLUMNS = 16
"""Columns that one digit of a row's bytes stands for, and bytes of a row."""
TILE_COLUMNS = DIGITS * FIELD_COLUMNS
TILE_BYTES = TILE_ROWS * FIELD_COLUMNS
MAX_COLUMNS = 1 << 17
"""A lane of AVX-512 adds a quarter of the columns, of at most 2 * 128 each, 256 times: at most 2^31 in magnitude."""

GROUP = 12
"""Tiles that are added in int16 before the sums are widened; the docstrings of the products say why no more."""

Step = Callable[[SSAValue, int, Sequence[SSAValue]], list[SSAValue]]
"""(tile, digits of its bytes that have activations, sums so far) -> sums"""


def dot_avx512vnni(weights: SSAValue, q: SSAValue, columns: int) -> SSAValue:
    """A tile is one register, a row in each of its four parts of 16 bytes, which all meet the same activations.

    A digit is never taken out: d = (3 x - x') / 256, so that the sums of d q are a difference of sums of x q and of
    x' q, which `vpdpbusd` takes as they are. All of it wraps modulo 2^32; the difference, 256 times the result, fits.
    """
    bytes, sums, part = vector_type(i8, 64), vector_type(i32, 16), vector_type(i8, FIELD_COLUMNS)

    def step(tile: SSAValue, digits: int, totals: Sequence[SSAValue]) -> list[SSAValue]:
        address = offset(weights, mul(tile, index(TILE_BYTES)))
        activations = offset(q, mul(tile, index(TILE_COLUMNS)))
        prefetch(offset(address, PREFETCH_BYTES))
        x = load(address, bytes, 64)
        result = list(totals)
        for d in range(digits):
            row = load(offset(activations, FIELD_COLUMNS * d), part, FIELD_COLUMNS)
            four = shuffle(row, row, [*range(FIELD_COLUMNS)] * TILE_ROWS)
            for n, operand in ((d, x), (DIGITS + d, x := _tripled_bytes(x))):
                result[n] = call_intrinsic("llvm.x86.avx512.vpdpbusd.512", [totals[n], operand, four], sums)
        return result

    totals = _over_tiles(columns, step, [constant(0, sums)] * (2 * DIGITS))
    before, after = (reduce(add, totals[first : first + DIGITS]) for first in (0, DIGITS))
    return _sum_quarters(shift_right(sub(_tripled(before), after), 8))


def dot_avx2(weights: SSAValue, q: SSAValue, columns: int) -> SSAValue:
    """A register holds two rows. Digits are compared out: d = (x > 85) + (x > 170), as signed bytes 128 lower.

    Tripling commutes with the 128: 3 (x - 128) = x' - 128 modulo 256. `vpmaddubsw` adds two products of at most 2 *
    128; 12 tiles of 5 such pairs reach 60 * 2^9 in magnitude, below 2^15.
    """
    bytes, words, sums = vector_type(i8, 32), vector_type(i16, 16), vector_type(i32, 8)
    part, pairs = vector_type(i8, FIELD_COLUMNS), TILE_ROWS // 2

    def step(tile: SSAValue, digits: int, totals: Sequence[SSAValue]) -> list[SSAValue]:
        address = offset(weights, mul(tile, index(TILE_BYTES)))
        activations = offset(q, mul(tile, index(TILE_COLUMNS)))
        prefetch(offset(address, PREFETCH_BYTES))
        x = [add(load(offset(address, 32 * n), bytes, 32), constant(-128, bytes)) for n in range(pairs)]
        result = list(totals)
        for d in range(digits):
            row = load(offset(activations, FIELD_COLUMNS * d), part, FIELD_COLUMNS)
            both = shuffle(row, row, [*range(FIELD_COLUMNS)] * 2)
            for n in range(pairs):
                one, two = (icmp("sgt", x[n], constant(bound - 128, bytes)) for bound in (85, 170))
                digit = sub(zext(one, i8), sext(two, i8))
                added = call_intrinsic("llvm.x86.avx2.pmadd.ub.sw", [digit, both], words)
                result[n] = add(result[n], added)
                x[n] = _tripled_bytes(x[n])
        return result

    def widen(total: SSAValue) -> SSAValue:
        return call_intrinsic("llvm.x86.avx2.pmadd.wd", [total, constant(1, words)], sums)

    zeros = [constant(0, words)] * pairs, [constant(0, sums)] * pairs
    return _sum_quarters(concatenate(_in_groups(columns, step, *zeros, widen)))


def dot_baseline(weights: SSAValue, q: SSAValue, columns: int) -> SSAValue:
    """Plain vector IR on 128 bits, for SSE2, NEON and whatever LLVM has: bytes are lanes of int16, even and odd.

    There 3 x has place: its high byte is the digit, its low one what is left. A product is at most 2 * 128; 12 tiles of
    5 digits and 2 parities reach 120 * 2^8 in magnitude, below 2^15.
    """
    words, sums = vector_type(i16, 8), vector_type(i32, 4)

    def step(tile: SSAValue, digits: int, totals: Sequence[SSAValue]) -> list[SSAValue]:
        address = offset(weights, mul(tile, index(TILE_BYTES)))
        activations = offset(q, mul(tile, index(TILE_COLUMNS)))
        loaded = [load(offset(activations, FIELD_COLUMNS * d), words, 16) for d in range(digits)]
        rows = [(shift_right(shift_left(pair, 8), 8), shift_right(pair, 8)) for pair in loaded]
        result = list(totals)
        for r in range(TILE_ROWS):
            packed = load(offset(address, FIELD_COLUMNS * r), words, 16)
            x = [bitand(packed, constant(0xFF, words)), lshr(packed, constant(8, words))]
            for d in range(digits):
                for parity in range(2):
                    tripled = _tripled(x[parity])
                    product = mul(lshr(tripled, constant(8, words)), rows[d][parity])
                    result[r] = add(result[r], product)
                    x[parity] = bitand(tripled, constant(0xFF, words))
        return result

    def widen(total: SSAValue) -> SSAValue:
        pairs = bitcast(total, sums)
        return add(shift_right(shift_left(pairs, 16), 16), shift_right(pairs, 16))

    zeros = [constant(0, words)] * TILE_ROWS, [constant(0, sums)] * TILE_ROWS
    return sum_rows(_in_groups(columns, step, *zeros, widen))


DOTS: dict[str, Dot] = {"avx512vnni": dot_avx512vnni, "avx2": dot_avx2, "baseline": dot_baseline}


def _tripled(value: SSAValue) -> SSAValue:
    return add(add(value, value), value)


def _tripled_bytes(value: SSAValue) -> SSAValue:
    return add_bytes(add_bytes(value, value), value)


def _whole(step: Step) -> Callable[..., list[SSAValue]]:
    """The step of a tile with all its columns, as a loop takes it."""

    def of_tile(tile: SSAValue, *totals: SSAValue) -> list[SSAValue]:
        return step(tile, DIGITS, totals)

    return of_tile


def _over_tiles(columns: int, step: Step, zero: Sequence[SSAValue]) -> Sequence[SSAValue]:
    """Runs `step` for each tile, the last with as many digits as it has columns for."""
    tiles, digits = divmod(columns // FIELD_COLUMNS, DIGITS)
    totals = loop(index(0), index(tiles), _whole(step), zero)
    return step(index(tiles), digits, totals) if digits else totals


def _in_groups(
    columns: int,
    step: Step,
    narrow: Sequence[SSAValue],
    wide: Sequence[SSAValue],
    widen: Callable[[SSAValue], SSAValue],
) -> Sequence[SSAValue]:
    """Runs `step` on int16 sums, which start as `narrow`, and widens them every GROUP tiles into int32 sums."""
    tiles, digits = divmod(columns // FIELD_COLUMNS, DIGITS)

    def add_widened(totals: Sequence[SSAValue], words: Sequence[SSAValue]) -> list[SSAValue]:
        return [add(total, widen(word)) for total, word in zip(totals, words, strict=True)]

    def group(begin: SSAValue, *totals: SSAValue) -> list[SSAValue]:
        end = smin(add(begin, index(GROUP)), index(tiles))
        return add_widened(totals, loop(begin, end, _whole(step), narrow))

    totals = loop(index(0), index(tiles), group, wide, step=GROUP)
    return add_widened(totals, step(index(tiles), digits, narrow)) if digits else totals


def _sum_quarters(sums: SSAValue) -> SSAValue:
    """The sums of the four quarters of sixteen int32, as four lanes."""
    return reduce(add, [shuffle(sums, sums, [n, 4 + n, 8 + n, 12 + n]) for n in range(4)])
