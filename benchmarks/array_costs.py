"""Look-up tables of a ternary multiply-accumulate a cycle, of four designs of dot-product arrays on two families of
devices.

`--write` puts what was measured into targets/verilog/arrays/costs.json, which the compiler chooses designs by.
Needs `sterna[fpga]`; half an hour. Weights are uniform over {-1, 0, 1}, activations have 8 bits; zeros count as
products. A CCU2C of ECP5 counts as two look-up tables, and memory in look-up tables is shown beside.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from sterna.targets.verilog import tools
from sterna.targets.verilog.arrays.array import Adders, Array
from sterna.targets.verilog.arrays.costs import COSTS
from sterna.targets.verilog.arrays.folded import folded_array, shared_array
from sterna.targets.verilog.arrays.lut_ram import lut_ram_array
from sterna.targets.verilog.devices import Family

ACTIVATION_BITS = 8
FAMILIES: dict[Family, Adders] = {"xc7": "ternary adders", "ecp5": "carry chains"}
SIZES = {
    "adder-tree": ((4, 4), (4, 16), (4, 64)),
    "shared-sums": ((64, 64), (16, 16)),
    "lut-ram": ((64, 64), (16, 64), (4, 64)),
    "folded": ((64, 64),),
}


def array_of(design: str, rows: int, columns: int, adders: Adders) -> Array | None:
    """None for the adder tree, whose module is in the library."""
    weights = np.random.default_rng(rows * columns).integers(-1, 2, (rows, columns)).astype(np.int8)
    match design:
        case "lut-ram":
            return lut_ram_array("array", rows=rows, columns=columns, activation_bits=8, adders=adders)
        case "folded":
            return folded_array("array", weights, activation_bits=ACTIVATION_BITS, adders=adders)
        case "shared-sums":
            return shared_array("array", weights, activation_bits=ACTIVATION_BITS, adders=adders)
        case _:
            return None


def adder_trees(rows: int, columns: int) -> str:
    bits = ACTIVATION_BITS + (columns - 1).bit_length() + 8
    return f"""\
module array (input logic clock, input logic advance, input logic first, input logic [{columns * 8 - 1}:0] x,
              input logic [{rows * columns * 2 - 1}:0] w, output logic [{rows * bits - 1}:0] y);
  for (genvar m = 0; m < {rows}; m++) begin : rows
    ternary_adder_tree #(.SIMD({columns}), .WIDTH(8), .SUM({bits})) row (
        .clock, .advance, .first, .x, .w(w[m*{2 * columns} +: {2 * columns}]), .sum(y[m*{bits} +: {bits}]));
  end
endmodule
"""


def measure(design: str, rows: int, columns: int, family: Family) -> dict[str, object]:
    array = array_of(design, rows, columns, FAMILIES[family])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "array.sv").write_text(
            array.source if array else adder_trees(rows, columns), encoding="utf-8"
        )
        needed = [tools.LIBRARY / f"{module}.sv" for module in ("add3", "choose2", "ternary_adder_tree")]
        found = tools.synthesize("array", [folder / "array.sv", *needed], family, folder)
    return {"design": design, "family": family, "rows": rows, "columns": columns, **asdict(found.resources)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the table that the compiler reads")
    parser.add_argument("--design", choices=sorted(SIZES), help="only this one; the others' numbers stay")
    parser.add_argument("--size", metavar="ROWSxCOLUMNS", help="only this one of the design's")
    arguments = parser.parse_args()
    print(f"{'design':12} {'family':6} {'size':>8} {'LUT/MAC':>8} {'with memory':>12} {'FF/MAC':>7}")
    known = json.loads(COSTS.read_text(encoding="utf-8"))["arrays"]
    measured = {key_of(row): row for row in known}
    for design, sizes in SIZES.items():
        if arguments.design not in (None, design):
            continue
        for rows, columns in sizes:
            if arguments.size not in (None, f"{rows}x{columns}"):
                continue
            for family in FAMILIES:
                if (design, family, rows) == ("lut-ram", "ecp5", 64):
                    continue  # an hour, for the same numbers as 16 rows
                row = measure(design, rows, columns, family)
                measured[key_of(row)] = row
                if arguments.write:
                    write(list(measured.values()))
                products = rows * columns
                lut, memory, ff = (int(str(row[key])) / products for key in ("lut", "lut_memory", "ff"))
                print(
                    f"{design:12} {family:6} {f'{rows}x{columns}':>8} {lut:8.2f} {lut + memory:12.2f} {ff:7.2f}",
                    flush=True,
                )


def key_of(row: dict[str, object]) -> tuple[object, ...]:
    return tuple(row[name] for name in ("design", "family", "rows", "columns"))


def write(measured: list[dict[str, object]]) -> None:
    """After every measurement, so that what is interrupted is not lost."""
    text = {"tools": tools.versions(), "activation_bits": ACTIVATION_BITS, "arrays": measured}
    COSTS.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
