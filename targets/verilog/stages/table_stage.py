"""`stream.array` of design `lut-ram`: a matrix of trits times each row, by tables of sums.

SIMD columns of a row come in one beat, and 27 cycles fill the tables with their sums. Then every pass looks up PE
rows of the matrix, one a cycle: K / SIMD blocks of 27 + M / PE cycles. What the blocks give of a row is added up.
The row itself is not kept: each of its beats is used up before the next one is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sterna.dialects.stream import ArrayOp, stage_name, weight_bits
from sterna.dialects.stream_types import RowsType, rows_type
from sterna.targets.verilog.arrays.array import Adders
from sterna.targets.verilog.arrays.lut_ram import CODE_BITS, ENTRIES, codes, look_up_latency, lut_ram_array
from sterna.targets.verilog.stages.module import Port, StageModule, address_bits, header
from sterna.targets.verilog.stages.weight_source import READ_CYCLES, weight_source

FILL_CYCLES = ENTRIES


def table_latency(x: RowsType, adders: Adders) -> int:
    """Cycles from a look-up to the sums of its pass."""
    return READ_CYCLES + look_up_latency(x.lanes.data, adders) + (x.beats > 1)


def table_words(weights: npt.NDArray[Any], pe: int, simd: int) -> npt.NDArray[np.uint8]:
    """Entry numbers in the order in which the stage reads them: block, pass, then row by group of columns."""
    rows, columns = weights.shape
    blocks = [codes(weights[:, first : first + simd]) for first in range(0, columns, simd)]
    return np.concatenate([block.reshape(rows // pe, -1) for block in blocks])


def table_stage(op: ArrayOp, weights: npt.NDArray[Any], adders: Adders) -> StageModule:
    """The module for the trits `[M, K]`."""
    x, y, name = rows_type(op.x), rows_type(op.result), stage_name(op)
    pe, simd = y.lanes.data, x.lanes.data
    blocks, passes = x.beats, y.beats
    array = lut_ram_array(f"{name}_tables", rows=pe, columns=simd, activation_bits=x.width, adders=adders)
    latency = table_latency(x, adders)
    source = weight_source(op, table_words(weights, pe, simd), CODE_BITS, address="word", reads="looks_up")
    looked_up = READ_CYCLES + array.latency
    tick, word = address_bits(FILL_CYCLES + passes), address_bits(blocks * passes)
    comment = (
        f"{name}: {y.size.data} x {x.size.data} ternary weights, @{op.weight.string_value()}, design lut-ram.\n"
        f"{simd} columns a block, {pe} rows a look-up: {blocks} blocks of {FILL_CYCLES} + {passes} cycles; "
        f"latency {latency} from a look-up."
    )
    text = f"""\
{header(name, comment, [Port("in0", x), *source.ports, Port("out0", y, is_output=True)])}
  // Of a block, {FILL_CYCLES} ticks fill the tables, and then each looks up.
  logic [{tick - 1}:0] tick;
  logic [{word - 1}:0] word;
  logic advance, fills, starts, looks_up, stepped, w_valid;
  logic [{looked_up}:1] fired;  // a look-up was so many cycles ago
  assign fills = tick < {tick}'d{FILL_CYCLES};
  assign starts = tick == '0;
  assign in0_ready = advance && starts && in0_valid;
  assign looks_up = advance && !fills && w_valid;
  always_ff @(posedge clock)
    if (reset) begin
      tick <= '0;
      word <= '0;
      stepped <= 1'b0;
      fired <= '0;
    end else if (advance) begin
      if (fills ? !starts || in0_valid : w_valid)
        tick <= tick == {tick}'d{FILL_CYCLES + passes - 1} ? '0 : tick + 1'b1;
      if (looks_up) word <= word == {word}'d{blocks * passes - 1} ? '0 : word + 1'b1;
      stepped <= looks_up;
      fired <= {{fired[{looked_up - 1}:1], looks_up}};
    end

  logic [{x.bits - 1}:0] x;
  always_ff @(posedge clock) if (in0_ready) x <= in0_data;

  logic [{weight_bits(op.design.data, y, x) - 1}:0] w;
{source.text}
  logic [{pe * array.sum_bits - 1}:0] found;
  {array.module} tables (
      .clock, .advance, .fill(fills && (!starts || in0_valid)), .entry(tick[4:0]), .x, .w, .y(found));
{_sums(x, y, array.sum_bits, looked_up)}
endmodule
"""
    return StageModule(
        name=name,
        text=text,
        parts=dict(array.modules),
        images=source.images,
        outside=source.outside,
        latency=latency,
    )


def _sums(x: RowsType, y: RowsType, found_bits: int, looked_up: int) -> str:
    """From what the tables gave to the result."""
    pe, width, blocks, passes = y.lanes.data, y.width, x.beats, y.beats
    if blocks == 1:
        return f"""\
  assign advance = !out0_valid || out0_ready;
  assign out0_valid = fired[{looked_up}];
  for (genvar m = 0; m < {pe}; m++) begin : rows
    assign out0_data[m*{width} +: {width}] = {width}'($signed(found[m*{found_bits} +: {found_bits}]));
  end"""
    block, number = address_bits(blocks), address_bits(passes)
    return f"""\
  // What earlier blocks of the row gave, a word a pass.
  logic [{pe * width - 1}:0] partial[{passes}];
  logic [{pe * width - 1}:0] so_far, total;
  logic [{block - 1}:0] sum_block;
  logic [{number - 1}:0] sum_pass;
  logic last_pass, last_block, done;
  assign last_pass = sum_pass == {number}'d{passes - 1};
  assign last_block = sum_block == {block}'d{blocks - 1};
  assign so_far = sum_block == '0 ? '0 : partial[sum_pass];
  for (genvar m = 0; m < {pe}; m++) begin : rows
    assign total[m*{width} +: {width}] =
        so_far[m*{width} +: {width}] + {width}'($signed(found[m*{found_bits} +: {found_bits}]));
  end
  always_ff @(posedge clock) if (advance && fired[{looked_up}]) partial[sum_pass] <= total;
  always_ff @(posedge clock) if (advance) out0_data <= total;
  always_ff @(posedge clock)
    if (reset) begin
      sum_block <= '0;
      sum_pass <= '0;
      done <= 1'b0;
    end else if (advance) begin
      done <= fired[{looked_up}] && last_block;
      if (fired[{looked_up}]) begin
        sum_pass <= last_pass ? '0 : sum_pass + 1'b1;
        if (last_pass) sum_block <= last_block ? '0 : sum_block + 1'b1;
      end
    end
  assign advance = !done || out0_ready;
  assign out0_valid = done;"""
