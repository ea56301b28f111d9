"""The top of a design: AXI4-Stream outside, stages and queues inside, each an instance of its module."""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.ir import Operation, SSAValue

from sterna.dialects.stream import (
    ArgmaxOp,
    ArrayOp,
    FifoOp,
    ForkOp,
    LanesOp,
    LookupOp,
    PipelineOp,
    ScanOp,
    YieldOp,
    regions_of,
    stage_name,
)
from sterna.dialects.stream_types import rows_type
from sterna.targets.verilog.external_memory import BURST
from sterna.targets.verilog.stages.module import identifier, image_name

BYTE = 8
STREAM = ("data", "valid", "ready")


def padded(width: int) -> int:
    """Whole bytes, as AXI4-Stream wants."""
    return -(-width // BYTE) * BYTE


@dataclass(frozen=True)
class TopPorts:
    """The streams at the edge, in bits."""

    token: int
    context: int
    element: int
    lanes: int
    beats: int
    memory: int = 0
    """Bits of a word of the memory outside; 0 if there is none."""

    @property
    def token_data(self) -> int:
        return padded(self.token)

    @property
    def element_data(self) -> int:
        return padded(self.element)

    @property
    def result_data(self) -> int:
        return self.element_data * self.lanes

    @property
    def sequence(self) -> int:
        """Bits of tid."""
        return self.context - 1


def top_ports(pipeline: PipelineOp) -> TopPorts:
    token, context = (rows_type(argument) for argument in pipeline.body.block.args)
    last = pipeline.body.block.last_op
    assert isinstance(last, YieldOp)
    result = rows_type(last.values[0])
    regions = list(regions_of(pipeline).values())
    memory = regions[0].width.data if regions else 0
    return TopPorts(token.width, context.width, result.width, result.lanes.data, result.beats, memory)


@dataclass
class TopPrinter:
    """Instances of a pipeline whose streams have forks and queues."""

    pipeline: PipelineOp
    name: str
    names: dict[SSAValue, str] = field(default_factory=dict[SSAValue, str])
    lines: list[str] = field(default_factory=list[str])
    seeds: int = 0

    def print(self) -> str:
        block = self.pipeline.body.block
        for argument, name in zip(block.args, ("token", "context"), strict=True):
            self._declare(argument, name)
        body: list[str] = []
        for op in block.ops:
            for index, result in enumerate(op.results):
                self._declare(result, self._stream_name(op, index))
            body += self._instance(op)
        lines = [*self._header(), *self.lines, *self._input(), *self._reader(), *body, *self._output()]
        return "\n".join([*lines, "endmodule", ""])

    def stream_names(self) -> dict[SSAValue, str]:
        """What each stream is called in the text."""
        return dict(self.names)

    def _stream_name(self, op: Operation, index: int) -> str:
        match op:
            case FifoOp():
                return f"{self.names[op.x]}_queued"
            case ForkOp():
                return f"{self.names[op.x]}_{index}"
            case LanesOp():
                return f"{self.names[op.x]}_by{rows_type(op.result).lanes.data}"
            case _:
                return stage_name(op) + (f"_out{index}" if len(op.results) > 1 else "_out")

    def _declare(self, value: SSAValue, name: str) -> None:
        taken = set(self.names.values())
        unique, number = name, 1
        while unique in taken:
            number += 1
            unique = f"{name}_{number}"
        self.names[value] = unique
        bits = rows_type(value).bits
        self.lines += [f"  logic [{bits - 1}:0] {unique}_data;", f"  logic {unique}_valid, {unique}_ready;"]

    def _ports(self, port: str, value: SSAValue) -> str:
        name = self.names[value]
        return f".{port}_data({name}_data), .{port}_valid({name}_valid), .{port}_ready({name}_ready)"

    def _instance(self, op: Operation) -> list[str]:
        match op:
            case YieldOp():
                return []
            case FifoOp():
                self.seeds += 1
                parameters = {"WIDTH": rows_type(op.x).bits, "DEPTH": op.depth.value.data, "SEED": self.seeds}
                return _instance(
                    "fifo", parameters, f"{self.names[op.result]}_fifo", self._two(op.x, op.result)
                )
            case ForkOp():
                return self._fork(op)
            case LanesOp():
                return self._lanes(op)
            case LookupOp():
                row, token = rows_type(op.result), rows_type(op.tokens)
                parameters = {
                    "ROWS": op.rows.value.data, "BEATS": row.beats, "WIDTH": row.bits, "TOKEN": token.width,
                    "IMAGE": f'"{image_name(stage_name(op))}"',
                }  # fmt: skip
                ports = [self._ports("token", op.tokens), self._ports("row", op.result)]
                return _instance("row_lookup", parameters, stage_name(op), ports)
            case ScanOp():
                return self._scan(op)
            case ArgmaxOp():
                x = rows_type(op.x)
                parameters = {
                    "LANES": x.lanes.data, "BEATS": x.beats, "WIDTH": x.width, "INDEX": rows_type(op.result).width,
                }  # fmt: skip
                ports = [self._ports("x", op.x), self._ports("index", op.result)]
                return _instance("row_argmax", parameters, stage_name(op), ports)
            case _:
                ports = [
                    *(self._ports(f"in{n}", value) for n, value in enumerate(op.operands)),
                    *self._memory_ports(op),
                    *(self._ports(f"out{n}", value) for n, value in enumerate(op.results)),
                ]
                return _instance(stage_name(op), {}, f"{stage_name(op)}_stage", ports)

    def _memory_ports(self, op: Operation) -> list[str]:
        if not isinstance(op, ArrayOp) or op.region is None:
            return []
        number = list(regions_of(self.pipeline)).index(op)
        return [", ".join(f".memory_{signal}(memory_{signal}[{number}])" for signal in STREAM)]

    def _two(self, source: SSAValue, result: SSAValue) -> list[str]:
        return [self._ports("in", source), self._ports("out", result)]

    def _fork(self, op: ForkOp) -> list[str]:
        parameters = {"WIDTH": rows_type(op.x).bits, "COPIES": len(op.outs)}
        outs = [self.names[out] for out in reversed(op.outs)]
        ports = [self._ports("in", op.x)] + [
            f".out_{signal}({{{', '.join(f'{name}_{signal}' for name in outs)}}})" for signal in STREAM
        ]
        return _instance("fork_stream", parameters, f"{self.names[op.x]}_fork", ports)

    def _lanes(self, op: LanesOp) -> list[str]:
        before, after = rows_type(op.x), rows_type(op.result)
        few, many = sorted((before.lanes.data, after.lanes.data))
        kind = "widen" if after.lanes.data == many else "narrow"
        parameters = {"WIDTH": few * before.width, "RATIO": many // few}
        return _instance(kind, parameters, f"{self.names[op.result]}_{kind}", self._two(op.x, op.result))

    def _scan(self, op: ScanOp) -> list[str]:
        f, i, s = rows_type(op.f), rows_type(op.i), rows_type(op.result)
        parameters = {
            "LANES": s.lanes.data, "BEATS": s.beats, "SEQUENCES": op.sequences.value.data,
            "CONTEXT": rows_type(op.context).width, "F": f.width, "I": i.width, "S": s.width, "BY": op.by.value.data,
        }  # fmt: skip
        streams = (("context", op.context), ("f", op.f), ("i", op.i), ("s", op.result))
        return _instance("gated_scan", parameters, stage_name(op), [self._ports(*each) for each in streams])

    def _header(self) -> list[str]:
        ports = top_ports(self.pipeline)
        tid = (
            f"    input  logic [{ports.sequence - 1}:0] s_axis_tid,  // which sequence the token belongs to\n"
        )
        return [
            f"// {self.name}: a language model as a streaming pipeline. Tokens in; {self._says(ports)} out, in order.",
            "// Both edges are AXI4-Stream. A reset empties the pipeline and forgets the state of every sequence.",
            *self._module_line(ports),
            "    input  logic aclk,",
            "    input  logic aresetn,  // synchronous, active low",
            f"    input  logic [{ports.token_data - 1}:0] s_axis_tdata,  // a token, without sign",
            "    input  logic s_axis_tuser,  // the token begins its sequence: forget the state (flush)",
            tid + "    input  logic s_axis_tvalid,",
            "    output logic s_axis_tready,",
            f"    output logic [{ports.result_data - 1}:0] m_axis_tdata,  "
            f"// {ports.lanes} of {ports.element_data} bits, {ports.beats} beats a token",
            "    output logic m_axis_tlast,  // the last beat of a token's results",
            "    output logic m_axis_tvalid,",
            f"    input  logic m_axis_tready{',' if ports.memory else ''}",
            *(_memory_port_lines(ports.memory) if ports.memory else []),
            ");",
            "  wire clock = aclk;",
            "  wire reset = !aresetn;",
        ]

    def _module_line(self, ports: TopPorts) -> list[str]:
        if not ports.memory:
            return [f"module {self.name} ("]
        return [
            "// The AXI4 port reads weights: memory/external.bin has to be in the memory before the reset ends.",
            f"module {self.name} #(",
            "    parameter logic [31:0] WEIGHTS_AT = 32'd0  // the byte where the memory has it, on a page of 4096",
            ") (",
        ]

    def _reader(self) -> list[str]:
        regions = list(regions_of(self.pipeline).values())
        if not regions:
            return []
        parameters: dict[str, int | str] = {
            "ARRAYS": len(regions), "WIDTH": regions[0].width.data, "BURST": BURST, "AHEAD": regions[0].ahead.data,
            "BASE": "WEIGHTS_AT", "AT": _numbers([region.at.data for region in regions]),
            "BEATS": _numbers([region.beats.data for region in regions]),
        }  # fmt: skip
        shape = f"[{len(regions) - 1}:0]"
        ports = [
            *(f".{port}(m_axi_{port})" for port in ("araddr", "arlen", "arvalid", "arready")),
            *(f".{port}(m_axi_{port})" for port in ("rdata", "rresp", "rlast", "rvalid", "rready")),
            ".failed(memory_failed)",
            *(f".beat_{signal}(memory_{signal})" for signal in STREAM),
        ]
        return [
            f"  assign m_axi_arsize = 3'd{(regions[0].width.data // BYTE).bit_length() - 1};",
            "  assign m_axi_arburst = 2'b01;  // INCR",
            "  assign m_axi_arcache = 4'b0011;  // bufferable, modifiable",
            "  assign m_axi_arprot = 3'b000;",
            f"  logic {shape}[{regions[0].width.data - 1}:0] memory_data;",
            f"  logic {shape} memory_valid, memory_ready;",
            *_instance("weight_reader", parameters, "reader", ports),
            "",
        ]

    def _says(self, ports: TopPorts) -> str:
        return "the likeliest next token" if ports.lanes * ports.beats == 1 else "logits"

    def _input(self) -> list[str]:
        ports = top_ports(self.pipeline)
        unused = f"s_axis_tdata[{ports.token_data - 1}:{ports.token - 1}]"
        # A token has one bit more than its largest number, so that it is never negative: that bit is wired to zero.
        return [
            "",
            "  // A token and its context part here, and meet again in every recurrence.",
            f"  wire [{ports.token + ports.context - 1}:0] arriving = "
            f"{{s_axis_tid, s_axis_tuser, 1'b0, s_axis_tdata[{max(ports.token - 2, 0)}:0]}};",
            f"  logic [1:0][{ports.token + ports.context - 1}:0] arrived;",
            f"  fork_stream #(.WIDTH({ports.token + ports.context}), .COPIES(2)) arrival (",
            "      .clock, .reset, .in_data(arriving), .in_valid(s_axis_tvalid), .in_ready(s_axis_tready),",
            "      .out_data(arrived), .out_valid({context_valid, token_valid}), "
            ".out_ready({context_ready, token_ready}));",
            f"  assign token_data = arrived[0][{ports.token - 1}:0];",
            f"  assign context_data = arrived[1][{ports.token + ports.context - 1}:{ports.token}];",
            f"  wire unused = &{{1'b0, {unused}, arrived[0][{ports.token + ports.context - 1}:{ports.token}], "
            f"arrived[1][{ports.token - 1}:0]}};",
            "",
        ]

    def _output(self) -> list[str]:
        ports = top_ports(self.pipeline)
        last = self.pipeline.body.block.last_op
        assert isinstance(last, YieldOp)
        name = self.names[last.values[0]]
        lines = [
            "",
            f"  for (genvar lane = 0; lane < {ports.lanes}; lane++) begin : results",
            f"    assign m_axis_tdata[lane*{ports.element_data} +: {ports.element_data}] = "
            f"{ports.element_data}'($signed({name}_data[lane*{ports.element} +: {ports.element}]));",
            "  end",
            f"  assign m_axis_tvalid = {name}_valid;",
            f"  assign {name}_ready = m_axis_tready;",
        ]
        if ports.beats == 1:
            return [*lines, "  assign m_axis_tlast = 1'b1;"]
        bits = (ports.beats - 1).bit_length()
        return [
            *lines,
            f"  logic [{bits - 1}:0] result_beat;",
            f"  assign m_axis_tlast = result_beat == {bits}'d{ports.beats - 1};",
            "  always_ff @(posedge clock)",
            "    if (reset) result_beat <= '0;",
            "    else if (m_axis_tvalid && m_axis_tready) result_beat <= m_axis_tlast ? '0 : result_beat + 1'b1;",
        ]


def _instance(
    module: str, parameters: dict[str, int | str] | dict[str, int], name: str, ports: list[str]
) -> list[str]:
    given = ", ".join(f".{key}({value})" for key, value in parameters.items())
    head = f"  {module} {f'#({given}) ' if given else ''}{identifier(name)} ("
    return [head, "      .clock, .reset,", *(f"      {port}," for port in ports[:-1]), f"      {ports[-1]});"]


def _numbers(values: list[int]) -> str:
    """Of 32 bits each, the first one last, as a packed array has it."""
    return "{" + ", ".join(f"32'd{value}" for value in reversed(values)) + "}"


def _memory_port_lines(width: int) -> list[str]:
    return [
        "    output logic [31:0] m_axi_araddr,  // AXI4, read only: one ID, INCR bursts of a page at most",
        "    output logic [7:0] m_axi_arlen,",
        "    output logic [2:0] m_axi_arsize,",
        "    output logic [1:0] m_axi_arburst,",
        "    output logic [3:0] m_axi_arcache,",
        "    output logic [2:0] m_axi_arprot,",
        "    output logic m_axi_arvalid,",
        "    input  logic m_axi_arready,",
        f"    input  logic [{width - 1}:0] m_axi_rdata,",
        "    input  logic [1:0] m_axi_rresp,",
        "    input  logic m_axi_rlast,",
        "    input  logic m_axi_rvalid,",
        "    output logic m_axi_rready,",
        "    output logic memory_failed  // a read was answered with an error since the reset",
    ]
