"""`stream.array`: a matrix of trits times each row.

With weights in a memory (`adder-tree`) the row is kept while PE outputs at a time are made of it, SIMD inputs a
cycle: M / PE passes of K / SIMD cycles. The first pass takes the row as it comes. With weights as wiring the
whole row comes in one beat. `lut-ram` is in `table_stage.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sterna.dialects.stream import ArrayOp, stage_name
from sterna.dialects.stream_types import RowsType, rows_type
from sterna.targets.verilog.arrays.array import Adders, Array
from sterna.targets.verilog.arrays.folded import folded_array, shared_array
from sterna.targets.verilog.stages.module import Port, StageModule, address_bits, header
from sterna.targets.verilog.stages.table_stage import table_stage
from sterna.targets.verilog.stages.weight_source import READ_CYCLES, weight_source

Trits = npt.NDArray[Any]


def tree_latency(simd: int) -> int:
    """Cycles from a beat that is taken to the sums of its pass: see ternary_adder_tree.sv."""
    return READ_CYCLES + (simd - 1).bit_length() + 1


def folds(x: RowsType, y: RowsType) -> tuple[int, int]:
    """(passes over a row, cycles of a pass)."""
    return y.size.data // y.lanes.data, x.size.data // x.lanes.data


def array_stage(op: ArrayOp, weights: Trits, adders: Adders) -> StageModule:
    """The module for the trits `[M, K]`."""
    match op.design.data:
        case "adder-tree":
            return _streamed(op, weights)
        case "folded" | "shared-sums":
            return _constant(op, weights, adders)
        case _:
            return table_stage(op, weights, adders)


def weight_words(weights: Trits, pe: int, simd: int) -> npt.NDArray[np.int64]:
    """Codes {negative, nonzero} in the order in which the stage reads them: pass, cycle, then row by column."""
    rows, columns = weights.shape
    codes = np.where(weights < 0, 3, np.where(weights > 0, 1, 0)).astype(np.int64)
    blocks = codes.reshape(rows // pe, pe, columns // simd, simd)
    return blocks.transpose(0, 2, 1, 3).reshape(-1, pe * simd)


def _streamed(op: ArrayOp, weights: Trits) -> StageModule:
    x, y, name = rows_type(op.x), rows_type(op.result), stage_name(op)
    pe, simd = y.lanes.data, x.lanes.data
    passes, cycles = folds(x, y)
    latency = tree_latency(simd)
    words = passes * cycles
    source = weight_source(op, weight_words(weights, pe, simd), 2, address="word", reads="step")
    timing = f"{passes} passes of {cycles} cycles; initiation interval 1, latency {latency}"
    ports = [Port("in0", x), *source.ports, Port("out0", y, is_output=True)]
    text = f"""\
{header(name, comment(op, x, y, timing), ports)}
  // Where in the matrix we are: `word` numbers the steps of a row, `column` those of a pass.
  logic [{address_bits(words) - 1}:0] word;
  logic [{address_bits(cycles) - 1}:0] column;
  logic advance, step, first_pass, first_column, last_column, last_word, w_valid;
  logic [{latency}:1] ends;  // a pass ended so many cycles ago
  assign advance = !ends[{latency}] || out0_ready;
  assign step = advance && w_valid && (!first_pass || in0_valid);
  assign in0_ready = step && first_pass;
  assign first_column = column == '0;
  assign last_column = column == {address_bits(cycles)}'d{cycles - 1};
  assign last_word = word == {address_bits(words)}'d{words - 1};
  assign out0_valid = ends[{latency}];
  always_ff @(posedge clock)
    if (reset) begin
      word <= '0;
      column <= '0;
      first_pass <= 1'b1;
      ends <= '0;
    end else if (advance) begin
      ends <= {{ends[{latency - 1}:1], step && last_column}};
      if (step) begin
        word <= last_word ? '0 : word + 1'b1;
        column <= last_column ? '0 : column + 1'b1;
        if (last_column) first_pass <= last_word;
      end
    end

  // The row, kept for the passes after the first.
  logic [{x.bits - 1}:0] row[{cycles}];
  logic [{x.bits - 1}:0] kept, came, x;
  logic [{2 * pe * simd - 1}:0] w;
  logic from_row, stepped, starts, opens;
  always_ff @(posedge clock) if (in0_ready) row[column] <= in0_data;
  always_ff @(posedge clock)
    if (advance) begin
      kept <= row[column];
      came <= in0_data;
      from_row <= !first_pass;
      x <= from_row ? kept : came;
    end
  always_ff @(posedge clock)
    if (reset) begin
      stepped <= 1'b0;
      starts <= 1'b0;
      opens <= 1'b0;
    end else if (advance) begin
      stepped <= step;
      starts <= step && first_column;
      opens <= starts;
    end

{source.text}
  for (genvar pe = 0; pe < {pe}; pe++) begin : rows
    ternary_adder_tree #(.SIMD({simd}), .WIDTH({x.width}), .SUM({y.width})) dot (
        .clock, .advance, .first(opens), .x(x), .w(w[pe*{2 * simd} +: {2 * simd}]),
        .sum(out0_data[pe*{y.width} +: {y.width}]));
  end
endmodule
"""
    return StageModule(name=name, text=text, images=source.images, outside=source.outside, latency=latency)


def _constant(op: ArrayOp, weights: Trits, adders: Adders) -> StageModule:
    x, y, name = rows_type(op.x), rows_type(op.result), stage_name(op)
    build = shared_array if op.design.data == "shared-sums" else folded_array
    array: Array = build(f"{name}_sums", weights.astype(np.int8), activation_bits=x.width, adders=adders)
    latency = array.latency
    sums = f"{array.rows * array.sum_bits - 1}"
    shift = f"{{fired[{latency - 1}:1], in0_ready}}" if latency > 1 else "in0_ready"
    ports = [Port("in0", x), Port("out0", y, is_output=True)]
    text = f"""\
{header(name, comment(op, x, y, f"a row a cycle, latency {latency}"), ports)}
  logic [{latency}:1] fired;  // by age
  logic advance;
  assign advance = !fired[{latency}] || out0_ready;
  assign in0_ready = in0_valid && advance;
  assign out0_valid = fired[{latency}];
  always_ff @(posedge clock)
    if (reset) fired <= '0;
    else if (advance) fired <= {shift};

  logic [{sums}:0] sums;
  {array.module} dot (.clock, .advance, .x(in0_data), .y(sums));
  for (genvar m = 0; m < {array.rows}; m++) begin : rows
    assign out0_data[m*{y.width} +: {y.width}] = {y.width}'($signed(sums[m*{array.sum_bits} +: {array.sum_bits}]));
  end
endmodule
"""
    return StageModule(name=name, text=text, parts=dict(array.modules), latency=latency)


def comment(op: ArrayOp, x: RowsType, y: RowsType, timing: str) -> str:
    return (
        f"{stage_name(op)}: {y.size.data} x {x.size.data} ternary weights, @{op.weight.string_value()}, design "
        f"{op.design.data}.\n{y.lanes.data} rows by {x.lanes.data} columns a cycle; {timing}."
    )
