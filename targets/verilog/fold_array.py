"""Chooses PE, SIMD and design of a dot-product array for an interval, by what synthesis measured."""

from __future__ import annotations

from sterna.dialects.stream import Design
from sterna.targets.verilog.arrays.costs import array_cost
from sterna.targets.verilog.devices import Family
from sterna.targets.verilog.stages.table_stage import FILL_CYCLES

REGISTERS_OF_A_COLUMN = 4 * 8
"""Bits: the change of lanes, the row's memory and what follows it, of 8 each."""
REGISTERS_OF_A_ROW = 2 * 18
WIDEST_ROW = 128
"""Columns that one adder tree takes: a tree of more is long, and its wires are too."""


SMALLEST_TABLES = (4, 9)
"""Rows and columns from which on tables are worth a thought: their sums are made once for all rows."""
SUMS_OF_A_ROW = 3 * 18
"""Look-up tables, for a row of the array, that add what blocks of columns give, and remember it."""


def divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def array_folding(
    design: str, rows: int, columns: int, interval: int, family: Family
) -> tuple[Design, int, int]:
    """(design, PE, SIMD) of an array; without a design, of the one that is smallest."""
    match design:
        case "lut-ram":
            tables = smallest_tables(rows, columns, interval, family, least=(1, 1))
            return ("lut-ram", *(tables or (rows, widest(columns))))
        case "adder-tree":
            return ("adder-tree", *fewest_products(rows, columns, interval, family))
        case "shared-sums":
            return ("shared-sums", rows, columns)
        case "folded":
            return ("folded", rows, columns)
        case _:
            return cheapest(rows, columns, interval, family)


def cheapest(rows: int, columns: int, interval: int, family: Family = "ecp5") -> tuple[Design, int, int]:
    """(design, PE, SIMD) of an array, by what synthesis measured of designs (`arrays/costs.json`)."""
    pe, simd = fewest_products(rows, columns, interval, family)
    # Weights as wiring take all products at once: worth it where an array of streamed ones that is fast enough takes
    # more.
    trees, shared = (
        array_cost(design, *size, family)
        for design, size in (("adder-tree", (pe, simd)), ("shared-sums", (rows, columns)))
    )
    constants = shared.lut < trees.lut
    size = _size("shared-sums", rows, columns, family) if constants else _size("adder-tree", pe, simd, family)
    best: tuple[Design, int, int] = ("shared-sums", rows, columns) if constants else ("adder-tree", pe, simd)
    if (tables := smallest_tables(rows, columns, interval, family)) is not None:
        table_size = _size("lut-ram", *tables, family) + _sums_of_blocks(rows, columns, *tables)
        if table_size < size:
            best = ("lut-ram", *tables)
    return best


def smallest_tables(
    rows: int, columns: int, interval: int, family: Family, least: tuple[int, int] = SMALLEST_TABLES
) -> tuple[int, int] | None:
    """(PE, SIMD) of an array of tables that is fast enough; None if filling them takes too long."""
    choices = [
        (pe, simd)
        for simd in divisors(columns)
        if least[1] <= simd <= WIDEST_ROW
        for pe in divisors(rows)
        if pe >= least[0] and (columns // simd) * (FILL_CYCLES + rows // pe) <= interval
    ]
    return min(
        choices,
        key=lambda choice: _size("lut-ram", *choice, family) + _sums_of_blocks(rows, columns, *choice),
        default=None,
    )


def _sums_of_blocks(rows: int, columns: int, pe: int, simd: int) -> float:
    """Adders and memory for the sums of several blocks of columns."""
    return 0.0 if simd == columns else SUMS_OF_A_ROW * pe * (1 + -(-(rows // pe) // 64))


def widest(columns: int) -> int:
    return max(simd for simd in divisors(columns) if simd <= WIDEST_ROW)


def fewest_products(rows: int, columns: int, interval: int, family: Family = "ecp5") -> tuple[int, int]:
    """(PE, SIMD) of an array: of those with the fewest products a cycle, the one that takes the least around them
    too."""
    choices = [
        (pe, simd)
        for simd in divisors(columns)
        if simd <= WIDEST_ROW
        for pe in divisors(rows)
        if (rows // pe) * (columns // simd) <= interval
    ]
    if not choices:
        return rows, widest(columns)
    fewest = min(pe * simd for pe, simd in choices)
    return min(
        (choice for choice in choices if choice[0] * choice[1] == fewest),
        key=lambda choice: _size("adder-tree", *choice, family),
    )


def _size(design: Design, pe: int, simd: int, family: Family) -> float:
    """Of the array and the registers in front of it and behind, in look-up tables; two flip-flops come with each."""
    array = array_cost(design, pe, simd, family)
    around = REGISTERS_OF_A_COLUMN * simd / 2 + REGISTERS_OF_A_ROW * pe / 2
    return array.lut + array.lut_memory + array.ff / 2 + around
