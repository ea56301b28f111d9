"""An array for streamed weights with tables: all 27 sums of three activations, which every row looks up.

Before an activation block is used its tables are filled, one entry a cycle, along a Gray code of the 27 sign
patterns: each entry is the one before plus or minus one activation. A weight group's code is its entry's number
on that path, so the address counts. After those 27 cycles each row reads one entry a group and adds the entries
up. Tables live in look-up tables used as memory.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sterna.targets.verilog.arrays.array import Adders, Array, dot_product_bounds, signed_bits
from sterna.targets.verilog.arrays.sum_graph import SumGraph, Trits, row_sums
from sterna.targets.verilog.arrays.sum_pipeline import SumPipeline, print_pipeline

GROUP = 3
"""Activations of a table: 27 sums, of the 32 that one look-up table remembers."""
ENTRIES = 3**GROUP
CODE_BITS = 5

Pattern = tuple[int, int, int]


@lru_cache
def gray_path() -> tuple[Pattern, ...]:
    """All patterns in {-1, 0, 1}^3, each one step from the one before, the first one step from zero."""

    def extend(path: list[Pattern], seen: set[Pattern]) -> list[Pattern] | None:
        if len(path) == ENTRIES:
            return path
        for axis in range(GROUP):
            for step in (-1, 1):
                after = list(path[-1])
                after[axis] += step
                pattern = (after[0], after[1], after[2])
                if abs(after[axis]) > 1 or pattern in seen:
                    continue
                if found := extend([*path, pattern], {*seen, pattern}):
                    return found
        return None

    start = (-1, 0, 0)
    path = extend([start], {start})
    assert path is not None
    return tuple(path)


def table_steps() -> list[tuple[int, bool]]:
    """For each entry, which activation is added to the entry before (to zero, for the first) and whether it is
    negated."""
    steps: list[tuple[int, bool]] = []
    before: Pattern = (0, 0, 0)
    for pattern in gray_path():
        axis = next(n for n in range(GROUP) if pattern[n] != before[n])
        steps.append((axis, pattern[axis] < before[axis]))
        before = pattern
    return steps


def codes(weights: Trits) -> npt.NDArray[np.uint8]:
    """The table entries `[M, ceil(K / 3)]` of weights `[M, K]`; columns are padded with zeros."""
    rows, columns = weights.shape
    padded = np.zeros((rows, -(-columns // GROUP) * GROUP), np.int8)
    padded[:, :columns] = weights
    number = {pattern: n for n, pattern in enumerate(gray_path())}
    groups = padded.reshape(rows, -1, GROUP)
    return np.array([[number[(int(a), int(b), int(c))] for a, b, c in row] for row in groups], np.uint8)


def lut_ram_array(module: str, *, rows: int, columns: int, activation_bits: int, adders: Adders) -> Array:
    """Ports beyond those of `Array`: `fill` (write an entry this cycle) and `entry` (which, 0 to 26, in order).

    `w` has five bits a group of three columns. `x` stays until a cycle after the last fill; a look-up follows that fill
    by three cycles or more; between the fills of two blocks is a cycle without, in which the running sums become zero.
    """
    groups = -(-columns // GROUP)
    bits = activation_bits + 2
    sum_bits = signed_bits(*dot_product_bounds(columns, activation_bits))
    tree = _tree(groups, adders)
    bounds = [(-n << (activation_bits - 1), n << (activation_bits - 1)) for n in _members(columns)]
    pipeline = print_pipeline(tree, bounds, adders=adders)
    return Array(
        module=module,
        modules={
            f"{module}_sums": _tables(module, groups, columns, activation_bits, bits),
            f"{module}_row": _row(module, pipeline, bounds, bits, sum_bits),
            module: _top(module, rows, columns, groups, activation_bits, bits, sum_bits),
        },
        rows=rows,
        columns=columns,
        activation_bits=activation_bits,
        sum_bits=sum_bits,
        latency=pipeline.latency + 1,
    )


def _tree(groups: int, adders: Adders) -> SumGraph:
    return row_sums(np.ones((1, groups), np.int8), arity=3 if adders == "ternary adders" else 2)


def look_up_latency(columns: int, adders: Adders) -> int:
    """Cycles from a look-up to its sums: a register, and a level of adders each."""
    return max(_tree(-(-columns // GROUP), adders).depths()) + 1


def _members(columns: int) -> list[int]:
    """How many activations each group has: the last may have fewer, and smaller sums."""
    return [min(GROUP, columns - first) for first in range(0, columns, GROUP)]


def _group(g: int, members: int, activation_bits: int, bits: int) -> str:
    """The running sum of one group. A step subtracts by a complement and a carry, so that its choice of an activation
    is in the adder's own look-up tables, but for the first choice of two."""
    a, b, c = (f"x[{(GROUP * g + n) * activation_bits} +: {activation_bits}]" for n in range(GROUP))
    zero = f"{activation_bits}'d0"
    match members:
        case 3:
            choice = (
                f"choose2 #({activation_bits}) choose{g} (.a({a}), .b({b}), .second(axis[0]), .y(first{g}));"
            )
            step = f"axis[1] ? {c} : first{g}"
        case 2:
            choice = f"assign first{g} = axis[0] ? {b} : {a};"
            step = f"axis[1] ? {zero} : first{g}"
        case _:
            choice = f"assign first{g} = {a};"
            step = f"axis == 2'd0 ? first{g} : {zero}"
    return f"""\
  logic [{activation_bits - 1}:0] first{g}, step{g};
  logic [{bits - 1}:0] sum{g};
  {choice}
  assign step{g} = {step};
  always_ff @(posedge clock)
    if (advance)
      sum{g} <= adds ? sum{g} + ({bits}'($signed(step{g})) ^ {{{bits}{{subtract}}}}) + {bits}'(subtract) : '0;
  assign sums[{g * bits} +: {bits}] = sum{g};"""


def _tables(module: str, groups: int, columns: int, activation_bits: int, bits: int) -> str:
    cases = "\n".join(
        f"        5'd{entry}: begin axis <= 2'd{axis}; subtract <= 1'b{int(negative)}; end"
        for entry, (axis, negative) in enumerate(table_steps())
    )
    return f"""\
// The 27 sums of three activations, one a cycle: each is the one before, plus or minus one activation.
module {module}_sums (
    input  logic clock,
    input  logic advance,
    input  logic fill,
    input  logic [4:0] entry,
    input  logic [{columns * activation_bits - 1}:0] x,
    output logic [{groups * bits - 1}:0] sums  // of {groups} groups, two cycles after `entry`
);
  logic [1:0] axis;
  logic subtract, adds;
  always_ff @(posedge clock)
    if (advance) begin
      adds <= fill;
      case (entry)
{cases}
        default: begin axis <= 2'd0; subtract <= 1'b0; end
      endcase
    end

{chr(10).join(_group(g, members, activation_bits, bits) for g, members in enumerate(_members(columns)))}
endmodule
"""


def _row(module: str, pipeline: SumPipeline, bounds: list[tuple[int, int]], bits: int, sum_bits: int) -> str:
    widths = [signed_bits(*bound) for bound in bounds]
    inputs = "\n".join(
        f"  wire signed [{width - 1}:0] x{g} = looked_up[{g * bits} +: {width}];"
        for g, width in enumerate(widths)
    )
    idle = [
        f"looked_up[{g * bits + bits - 1}:{g * bits + width}]"
        for g, width in enumerate(widths)
        if width < bits
    ]
    if not pipeline.latency:
        idle += ["clock", "advance"]
    unused = f"\n  wire unused = &{{1'b0, {', '.join(idle)}}};" if idle else ""
    return f"""\
// The sum of one entry a group.
module {module}_row (
    input  logic clock,
    input  logic advance,
    input  logic [{len(bounds) * bits - 1}:0] looked_up,
    output logic [{sum_bits - 1}:0] y
);
{inputs}
{pipeline.text}
  assign y = {sum_bits}'({pipeline.rows[0]});{unused}
endmodule
"""


def _top(
    module: str, rows: int, columns: int, groups: int, activation_bits: int, bits: int, sum_bits: int
) -> str:
    return f"""\
// {rows} x {columns} streamed ternary weights: tables of three activations' sums, shared by all rows.
module {module} (
    input  logic clock,
    input  logic advance,
    input  logic fill,
    input  logic [4:0] entry,
    input  logic [{columns * activation_bits - 1}:0] x,  // {columns} activations of {activation_bits} bits
    input  logic [{rows * groups * CODE_BITS - 1}:0] w,  // {rows} rows of {groups} entry numbers
    output logic [{rows * sum_bits - 1}:0] y  // {rows} sums of {sum_bits} bits
);
  logic [{groups * bits - 1}:0] sums;
  {module}_sums make (.clock, .advance, .fill, .entry, .x, .sums);

  logic [1:0] filling;
  logic [1:0][4:0] filled;
  always_ff @(posedge clock)
    if (advance) begin
      filling <= {{filling[0], fill}};
      filled <= {{filled[0], entry}};
    end

  logic [{rows * groups * bits - 1}:0] looked_up;
  for (genvar g = 0; g < {groups}; g++) begin : tables
    (* ram_style = "distributed" *) logic [{bits - 1}:0] entries[32];
    always_ff @(posedge clock) if (advance && filling[1]) entries[filled[1]] <= sums[{bits}*g +: {bits}];
    for (genvar m = 0; m < {rows}; m++) begin : rows
      always_ff @(posedge clock)
        if (advance)
          looked_up[({groups}*m+g)*{bits} +: {bits}] <= entries[w[({groups}*m+g)*{CODE_BITS} +: {CODE_BITS}]];
    end
  end
  for (genvar m = 0; m < {rows}; m++) begin : rows
    {module}_row row (
        .clock,
        .advance,
        .looked_up(looked_up[{groups * bits}*m +: {groups * bits}]),
        .y(y[{sum_bits}*m +: {sum_bits}])
    );
  end
endmodule
"""
