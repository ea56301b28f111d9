"""`stream.reduce`: the lanes of a beat in a tree, a register a level, and then the beats of a row one after another."""

from __future__ import annotations

from sterna.dialects.stream import ReduceOp, stage_name
from sterna.dialects.stream_types import rows_type
from sterna.targets.verilog.stages.module import Port, StageModule, address_bits, header


def reduce_latency(lanes: int) -> int:
    """Cycles from the last beat of a row to its result."""
    return (lanes - 1).bit_length() + 1


def reduce_stage(op: ReduceOp) -> StageModule:
    x, y, name = rows_type(op.x), rows_type(op.result), stage_name(op)
    levels = reduce_latency(x.lanes.data) - 1
    latency = levels + 1
    combine = "{a} + {b}" if op.kind.data == "sum" else "{a} > {b} ? {a} : {b}"
    text = [
        header(
            name,
            f"{name}: the {op.kind.data} of a row of {x.size.data}, {x.lanes.data} a cycle.\n"
            f"Initiation interval 1, latency {latency}.",
            [Port("in0", x), Port("out0", y, is_output=True)],
        ),
        "  logic advance, fire, last;",
        "  assign advance = !out0_valid || out0_ready;",
        "  assign fire = in0_valid && advance;",
        "  assign in0_ready = fire;",
        *_last(x.beats),
        *_ages(levels),
        "  always_ff @(posedge clock)",
        "    if (reset) out0_valid <= 1'b0;",
        "    else if (advance) out0_valid <= combined && combined_last;",
        "",
        *_tree(x.lanes.data, x.width, y.width, levels, combine),
        "  // The first beat of a row starts anew.",
        f"  logic signed [{y.width - 1}:0] so_far;",
        "  logic begun;",
        f"  wire signed [{y.width - 1}:0] next = begun ? "
        f"{combine.format(a='so_far', b=f'level{levels}_0')} : level{levels}_0;",
        "  assign out0_data = so_far;",
        "  always_ff @(posedge clock) if (advance && combined) so_far <= next;",
        "  always_ff @(posedge clock)",
        "    if (reset) begun <= 1'b0;",
        "    else if (advance && combined) begun <= !combined_last;",
        "endmodule",
        "",
    ]
    return StageModule(name=name, text="\n".join(text), latency=latency)


def _last(beats: int) -> list[str]:
    if beats == 1:
        return ["  assign last = 1'b1;"]
    bits = address_bits(beats)
    return [
        f"  logic [{bits - 1}:0] beat;",
        f"  assign last = beat == {bits}'d{beats - 1};",
        "  always_ff @(posedge clock)",
        "    if (reset) beat <= '0;",
        "    else if (fire) beat <= last ? '0 : beat + 1'b1;",
    ]


def _ages(levels: int) -> list[str]:
    """`combined` says that the tree gives a beat, `combined_last` that it is a row's last."""
    if levels == 0:
        return ["  wire combined = fire;", "  wire combined_last = last;"]
    shifted = [
        f"{{{name}[{levels - 1}:1], {first}}}" if levels > 1 else first
        for name, first in (("fired", "fire"), ("lasts", "last"))
    ]
    return [
        f"  logic [{levels}:1] fired, lasts;  // by age",
        f"  wire combined = fired[{levels}];",
        f"  wire combined_last = lasts[{levels}];",
        "  always_ff @(posedge clock)",
        "    if (reset) fired <= '0;",
        f"    else if (advance) fired <= {shifted[0]};",
        f"  always_ff @(posedge clock) if (advance) lasts <= {shifted[1]};",
    ]


def _tree(lanes: int, width: int, result: int, levels: int, combine: str) -> list[str]:
    """Signals `level0_0` and on, halved at each level; the last one is of the result's width."""
    lines = [
        f"  wire signed [{result - 1}:0] level0_{n} = {result}'($signed(in0_data[{n * width} +: {width}]));"
        for n in range(lanes)
    ]
    count = lanes
    for level in range(1, levels + 1):
        after = (count + 1) // 2
        lines.append(
            f"  logic signed [{result - 1}:0] " + ", ".join(f"level{level}_{n}" for n in range(after)) + ";"
        )
        lines += ["  always_ff @(posedge clock)", "    if (advance) begin"]
        for n in range(after):
            a, b = f"level{level - 1}_{2 * n}", f"level{level - 1}_{2 * n + 1}"
            lines.append(f"      level{level}_{n} <= {combine.format(a=a, b=b) if 2 * n + 1 < count else a};")
        lines.append("    end")
        count = after
    return lines
