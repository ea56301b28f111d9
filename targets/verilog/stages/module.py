"""What every stage's printer gives, and how numbers and memories are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sterna.dialects.stream_types import RowsType

RESERVED = """
accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before begin bind
bins binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class clocking cmos config
const constraint context continue cover covergroup coverpoint cross deassign default defparam design disable
dist do edge else end endcase endchecker endclass endclocking endconfig endfunction endgenerate endgroup
endinterface endmodule endpackage endprimitive endprogram endproperty endsequence endspecify endtable endtask
enum event eventually expect export extends extern final first_match for force foreach forever fork forkjoin
function generate genvar global highz0 highz1 if iff ifnone ignore_bins illegal_bins implements implies import
incdir include initial inout input inside instance int integer interconnect interface intersect join join_any
join_none large let liblist library local localparam logic longint macromodule matches medium modport module
nand negedge nettype new nexttime nmos nor noshowcancelled not notif0 notif1 null or output package packed
parameter pmos posedge primitive priority program property protected pull0 pull1 pulldown pullup
pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase randsequence rcmos real realtime ref reg
reject_on release repeat restrict return rnmos rpmos rtran rtranif0 rtranif1 s_always s_eventually s_nexttime
s_until s_until_with scalared sequence shortint shortreal showcancelled signed small soft solve specify
specparam static string strong strong0 strong1 struct super supply0 supply1 sync_accept_on sync_reject_on table
tagged task this throughout time timeprecision timeunit tran tranif0 tranif1 tri tri0 tri1 triand trior trireg
type typedef union unique unique0 unsigned until until_with untyped use uwire var vectored virtual void wait
wait_order wand weak weak0 weak1 while wildcard wire with within wor xnor xor clock reset advance fire deliver
busy last beat lane lanes
"""
KEYWORDS = frozenset(RESERVED.split())
"""Of SystemVerilog (IEEE 1800-2017, annex B), and the names that every stage uses itself."""

MEMORY = "memory"
"""The folder of memory images, beside which a tool runs: $readmemh takes paths from the working directory."""


def image_name(name: str) -> str:
    return f"{MEMORY}/{name}.hex"


Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Port:
    """A stream at a module's edge."""

    name: str
    type: RowsType
    is_output: bool = False

    def declaration(self) -> list[str]:
        """Three signals; data flows one way, ready the other."""
        to, back = ("output", "input ") if self.is_output else ("input ", "output")
        shape = f"  // {self.type.lanes.data} of {self.type.width} bits, {self.type.beats} a row"
        return [
            f"    {to} logic [{self.type.bits - 1}:0] {self.name}_data,{shape}",
            f"    {to} logic {self.name}_valid,",
            f"    {back} logic {self.name}_ready",
        ]


@dataclass(frozen=True, kw_only=True)
class StageModule:
    """A module of one stage."""

    name: str
    text: str
    parts: dict[str, str] = field(default_factory=dict[str, str])
    """Modules of its own that it instantiates, by name."""
    images: dict[str, str] = field(default_factory=dict[str, str])
    """Contents of its memories, by file name, as $readmemh reads them."""
    outside: bytes = b""
    """The content of its region of the memory outside."""
    latency: int
    """Cycles from a beat that comes in to the one it makes, if nothing stalls."""


def header(name: str, comment: str, ports: Sequence[Port]) -> str:
    """The module's first lines, up to the end of its ports."""
    declared = ["    input  logic clock", "    input  logic reset"]
    for port in ports:
        declared += port.declaration()
    lines: list[str] = []
    for index, line in enumerate(declared):
        code, _, note = line.partition("  //")
        code = code.rstrip().removesuffix(",")
        separator = "," if index + 1 < len(declared) else ""
        lines.append(f"{code}{separator}" + (f"  //{note}" if note else ""))
    said = "\n".join(f"// {line}".rstrip() for line in comment.splitlines())
    return f"{said}\nmodule {name} (\n" + "\n".join(lines) + "\n);"


def identifier(text: str) -> str:
    """A name that Verilog takes."""
    name = re.sub(r"\W+", "_", text).strip("_") or "unnamed"
    if name in KEYWORDS:
        return f"{name}_"
    return f"_{name}" if name[0].isdigit() else name


def literal(value: int, width: int) -> str:
    """A signed constant of that width; negative ones by their bits, as the least one has no positive counterpart."""
    if width == 1:
        return f"1'b{value & 1}"
    if value >= 0:
        return f"{width}'sd{value}"
    return f"{width}'sh{value & ((1 << width) - 1):x}"


def address_bits(words: int) -> int:
    return max((words - 1).bit_length(), 1)


def memory_image(values: npt.NDArray[Any], width: int) -> str:
    """Words `[words, lanes]` of integers, the first lane in the lowest bits, a line a word."""
    mask = (1 << width) - 1
    digits = -(-width * values.shape[1] // 4)
    lines: list[str] = []
    for row in values.tolist():
        word = 0
        for lane, value in enumerate(row):
            word |= (int(value) & mask) << (lane * width)
        lines.append(f"{word:0{digits}x}")
    return "\n".join(lines) + "\n"
