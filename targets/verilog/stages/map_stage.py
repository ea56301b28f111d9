"""`stream.map`: the region, a lane at a time, as a pipeline that stands still when its results are not taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from sterna.dialects.fixed import TableOp
from sterna.dialects.stream import MapOp, stage_name
from sterna.dialects.stream_types import rows_type
from sterna.targets.verilog.stages.datapath import Datapath, Signal, width_of
from sterna.targets.verilog.stages.module import (
    Port,
    StageModule,
    address_bits,
    header,
    image_name,
    literal,
    memory_image,
)

Array = npt.NDArray[Any]


def map_datapath(
    op: MapOp, constants: Mapping[str, Array], tables: Mapping[str, TableOp]
) -> tuple[Datapath, list[Signal], dict[str, tuple[str, str]]]:
    """One lane of the stage, the results at one time, and the signal and the image of each constant's memory."""
    path = Datapath(tables)
    block, rows = op.body.block, op.rows
    memories: dict[str, tuple[str, str]] = {}
    for index, value in enumerate(op.inputs):
        type = rows_type(value)
        where = "0" if type.size.data == 1 else "lane"
        name = path.name(f"in{index}")
        path.wire(name, type.width, f"in{index}_data[{where}*{type.width} +: {type.width}]")
        path.bind(block.args[index], Signal(name, type.width, 0))
    for index, reference in enumerate(op.constants):
        argument = block.args[len(op.inputs) + index]
        array, width = constants[reference.string_value()], width_of(argument)
        if array.size == 1:
            path.bind(argument, Signal(literal(int(array.reshape(-1)[0]), width), width, None))
            continue
        name = path.name(f"constant{index}")
        path.wire(name, width, f"{name}_row[lane*{width} +: {width}]")
        path.bind(argument, Signal(name, width, 1))
        image = image_name(f"{stage_name(op)}_{name}")
        memories[reference.string_value()] = (name, image)
        path.images[image] = memory_image(array.reshape(-1, rows.lanes.data), width)
    results = path.run(block)
    latency = max([1, *(signal.time for signal in results if signal.time is not None)])
    aligned = [Signal(path.at(signal, latency), signal.width, latency) for signal in results]
    return path, aligned, memories


def map_stage(op: MapOp, constants: Mapping[str, Array], tables: Mapping[str, TableOp]) -> StageModule:
    """The module; `constants` are the numbers of the weights that the stage reads."""
    path, results, memories = map_datapath(op, constants, tables)
    rows, name = op.rows, stage_name(op)
    latency = results[0].time or 1
    ports = [
        *(Port(f"in{n}", rows_type(value)) for n, value in enumerate(op.inputs)),
        *(Port(f"out{n}", rows_type(value), is_output=True) for n, value in enumerate(op.outs)),
    ]
    whole = [n for n, value in enumerate(op.inputs) if rows_type(value).size.data == rows.size.data]
    valid = " && ".join(f"in{n}_valid" for n in range(len(op.inputs)))
    ready = " && ".join(f"out{n}_ready" for n in range(len(op.outs)))
    text = [
        header(name, f"{describe(op)}\nInitiation interval 1, latency {latency}.", ports),
        f"  logic [{latency}:1] busy;",
        "  logic advance, fire, deliver;",
        f"  assign advance = !busy[{latency}] || ({ready});",
        f"  assign deliver = busy[{latency}] && {ready};",
        f"  assign fire = {valid} && advance;",
        *_counter(rows.beats, counted=len(whole) < len(op.inputs) or bool(memories)),
        *(
            f"  assign in{n}_ready = {'fire' if n in whole or rows.beats == 1 else 'fire && last'};"
            for n in range(len(op.inputs))
        ),
        *(f"  assign out{n}_valid = deliver;" for n in range(len(op.outs))),
        "  always_ff @(posedge clock)",
        "    if (reset) busy <= '0;",
        f"    else if (advance) busy <= {'{busy[' + str(latency - 1) + ':1], fire}' if latency > 1 else 'fire'};",
        "",
        *_memories(op, memories, constants),
        f"  for (genvar lane = 0; lane < {rows.lanes.data}; lane++) begin : lanes",
        *(f"    {line}" for line in path.declarations),
        "    always_ff @(posedge clock)",
        "      if (advance) begin",
        *(f"        {line}" for line in path.clocked),
        "      end",
        *(
            f"    assign out{n}_data[lane*{signal.width} +: {signal.width}] = {signal.text};"
            for n, signal in enumerate(results)
        ),
        "  end",
        "endmodule",
        "",
    ]
    return StageModule(name=name, text="\n".join(text), images=dict(path.images), latency=latency)


def describe(op: MapOp) -> str:
    return f"{stage_name(op)}: elementwise on rows of {op.rows.size.data}, {op.rows.lanes.data} a cycle."


def _counter(beats: int, *, counted: bool) -> list[str]:
    """`beat` numbers the beats of a row, `last` marks its last."""
    if beats == 1 or not counted:
        return []
    bits = address_bits(beats)
    return [
        f"  logic [{bits - 1}:0] beat;",
        "  logic last;",
        f"  assign last = beat == {bits}'d{beats - 1};",
        "  always_ff @(posedge clock)",
        "    if (reset) beat <= '0;",
        "    else if (fire) beat <= last ? '0 : beat + 1'b1;",
    ]


def _memories(op: MapOp, memories: Mapping[str, tuple[str, str]], constants: Mapping[str, Array]) -> list[str]:
    lines: list[str] = []
    for argument, used in zip(op.body.block.args[len(op.inputs) :], op.constants, strict=True):
        if (memory := memories.get(reference := used.string_value())) is None:
            continue
        name, image = memory
        width = width_of(argument)
        bits = width * op.rows.lanes.data
        address = "beat" if op.rows.beats > 1 else "1'b0"
        lines += [
            f"  // {reference}: {constants[reference].size} numbers of {width} bits",
            f"  logic [{bits - 1}:0] {name}_row;",
            f'  constant_rows #(.WORDS({op.rows.beats}), .WIDTH({bits}), .IMAGE("{image}")) {name}_memory (',
            f"      .clock, .advance, .address({address}), .data({name}_row));",
        ]
    return lines
