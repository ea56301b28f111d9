"""Where an array's stage gets its weights from: a memory of its own, or the reader of the memory outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from sterna.dialects.stream import ArrayOp, stage_name
from sterna.dialects.stream_types import RowsType
from sterna.targets.verilog.external_memory import Packing
from sterna.targets.verilog.stages.module import Port, image_name, memory_image

MEMORY_LANE = 32
"""Bits that a word of the memory outside is counted in, as a stream."""
READ_CYCLES = 2
"""From a beat that is taken to the array's inputs: the memories' read, and a register."""


@dataclass(frozen=True)
class WeightSource:
    """Verilog that brings the weights of a step to `w`, two cycles after a step; a step waits for `w_valid`."""

    text: str
    ports: list[Port]
    images: dict[str, str]
    outside: bytes


def weight_source(
    op: ArrayOp, codes: npt.NDArray[Any], code_bits: int, *, address: str, reads: str
) -> WeightSource:
    """Of codes `[steps, codes a step]`. `reads` is the signal of a step; `address` numbers it, for a memory here.

    The stage declares `w`, `w_valid`, `advance`, and `stepped`: whether it read in the cycle before.
    """
    steps, bits = codes.shape[0], codes.shape[1] * code_bits
    head = f"""\
  logic [{bits - 1}:0] w_read;
  always_ff @(posedge clock) if (advance) w <= stepped ? w_read : '0;
"""
    if op.region is None:
        image = image_name(f"{stage_name(op)}_weights")
        text = f"""\
{head}  assign w_valid = 1'b1;
  constant_rows #(.WORDS({steps}), .WIDTH({bits}), .IMAGE("{image}")) weights (
      .clock, .advance, .address({address}), .data(w_read));
"""
        return WeightSource(text, [], {image: memory_image(codes, code_bits)}, b"")
    width = op.region.width.data
    packed = Packing(steps, bits, width)
    many, wide = packed.steps_a_word, packed.words_a_step
    lanes = width // MEMORY_LANE
    port = Port("memory", RowsType.of(packed.words * lanes, MEMORY_LANE, lanes))
    ports = ".in_valid(memory_valid), .in_ready(memory_ready)"
    unpacked = f".out_data(w_next), .out_valid(w_valid), .out_ready(w_valid && {reads})"
    if many > 1:
        said = f"{many} steps a word"
        change = f"""\
  narrow #(.WIDTH({bits}), .RATIO({many})) unpack (
      .clock, .reset, .in_data(memory_data[{many * bits - 1}:0]), {ports},
      {unpacked});
"""
        spare = _unused("memory_data", many * bits, width)
    elif wide > 1:
        said = f"{wide} words a step"
        change = f"""\
  logic [{wide * width - 1}:0] words;
  widen #(.WIDTH({width}), .RATIO({wide})) unpack (
      .clock, .reset, .in_data(memory_data), {ports},
      {unpacked.replace("w_next", "words", 1)});
  assign w_next = words[{bits - 1}:0];
"""
        spare = _unused("words", bits, wide * width)
    else:
        said = "a step a word"
        change = f"""\
  assign w_next = memory_data[{bits - 1}:0];
  assign w_valid = memory_valid;
  assign memory_ready = memory_valid && {reads};
"""
        spare = _unused("memory_data", bits, width)
    text = f"""\
  // Weights come from the memory outside, {said}.
{head}  logic [{bits - 1}:0] w_next;
{change}{spare}  always_ff @(posedge clock) if (advance) w_read <= w_next;
"""
    return WeightSource(text, [port], {}, packed.pack(codes, code_bits))


def _unused(signal: str, used: int, width: int) -> str:
    if used == width:
        return ""
    return f"  wire unused = &{{1'b0, {signal}[{width - 1}:{used}]}};\n"
