"""What arrays take of a device, from a table that `benchmarks/array_costs.py` measured by synthesis."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sterna.targets.verilog.devices import Family, Resources

COSTS = Path(__file__).parent / "costs.json"


@dataclass(frozen=True)
class Measured:
    """One synthesized array."""

    rows: int
    columns: int
    lut: float
    lut_memory: float
    ff: float

    @property
    def products(self) -> int:
        return self.rows * self.columns


@lru_cache
def measured(design: str, family: Family) -> tuple[Measured, ...]:
    """The table's rows for a design on a family; UltraScale+ is taken for 7 series, whose look-up tables are the
    same."""
    known = "ecp5" if family == "ecp5" else "xc7"
    table = json.loads(COSTS.read_text(encoding="utf-8"))
    rows = [row for row in table["arrays"] if row["design"] == design and row["family"] == known]
    return tuple(
        Measured(*(row[key] for key in ("rows", "columns", "lut", "lut_memory", "ff"))) for row in rows
    )


def array_cost(design: str, rows: int, columns: int, family: Family) -> Resources:
    """About what an array of that size takes: as the measured one that is nearest in columns, and then in rows, for
    each product."""
    candidates = measured(design, family)
    nearest = min(candidates, key=lambda each: (_distance(each.columns, columns), _distance(each.rows, rows)))
    scale = rows * columns / nearest.products
    return Resources(
        lut=round(nearest.lut * scale),
        lut_memory=round(nearest.lut_memory * scale),
        ff=round(nearest.ff * scale),
    )


def _distance(left: int, right: int) -> float:
    return max(left, right) / min(left, right)
