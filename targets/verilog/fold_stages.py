"""Chooses how many elements move at a time in each stage, so that every stage takes a row in at most `interval` cycles.

    %a = stream.array %q, @w ... : !stream.rows<256 by 1 : i8> -> !stream.rows<128 by 1 : i17>
    %y = stream.map(%a : !stream.rows<128 by 1 : i17>) ...

with `interval = 64` becomes

    %q_w = stream.lanes %q : !stream.rows<256 by 4 : i8> -> !stream.rows<256 by 64 : i8>
    %a = stream.array %q_w, @w ... : !stream.rows<256 by 64 : i8> -> !stream.rows<128 by 8 : i17>
    %a_n = stream.lanes %a : !stream.rows<128 by 8 : i17> -> !stream.rows<128 by 2 : i17>
    %y = stream.map(%a_n : !stream.rows<128 by 2 : i17>) ...

A pipeline gives as many rows as its slowest stage, so to make one stage faster than the others is to waste what
it takes: with one interval for all, each stage gets the fewest lanes that meet it (the folding of dataflow
compilers; Umuroglu et al., FINN, doi 10.1145/3020078.3021744). An array has two such numbers, PE rows by SIMD
columns; of those that meet the interval it gets the fewest products a cycle and, of equals, those whose array
and registers are smallest. Of designs it gets the one that is smallest by measured costs (`arrays/costs.json`):
with more products a cycle, tables of sums take less than trees of adders, and with most of all wired weights.
A row is only cut into equal beats, so lanes divide its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import lcm

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, StringAttr, i64
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.stream import (
    DESIGNS,
    STAGE,
    WIRED,
    ArrayOp,
    LanesOp,
    LookupOp,
    MapOp,
    PipelineOp,
    ScanOp,
    YieldOp,
    stage_name,
)
from sterna.dialects.stream_types import rows_type
from sterna.dialects.weights import SternaContext
from sterna.targets.verilog.arrays.folded import folded_array, shared_array
from sterna.targets.verilog.buffer_streams import buffer_streams
from sterna.targets.verilog.choose_folding import DoesNotFit, Goal, choose_interval, require_pipeline
from sterna.targets.verilog.devices import Device, Family, Resources, adders_of, find_device
from sterna.targets.verilog.external_memory import OutsideMemory, Placement, placement
from sterna.targets.verilog.fold_array import array_folding, divisors
from sterna.targets.verilog.place_weights import place_weights
from sterna.targets.verilog.stages.table_stage import table_latency
from sterna.targets.verilog.timing import LATENCY


@dataclass(frozen=True)
class FoldStagesPass(ModulePass):
    name = "fold-stages"

    interval: int = 0
    """Cycles; 0 lets the pass choose."""
    device: str = "ecp5-85k"
    clock_mhz: int = 0
    """0: the device's own."""
    tokens_per_second: int = 0
    """The goal; 0: as many as the budget gives."""
    lut: int = 0
    ff: int = 0
    bram: int = 0
    dsp: int = 0
    """The budget; 0: the device's (`Device.budget`)."""
    sequences: int = 1
    weights: str = "on-chip"
    """Where `place-weights` may put weights: what is outside the chip takes no block of it, and time."""
    memory_width: int = 64
    memory_latency: int = 16
    design: str = ""
    """Of all arrays; without one each gets the cheapest."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.design and self.design not in DESIGNS:
            raise CompileError(f"{self.name}: a design is one of {', '.join(DESIGNS)}, not {self.design}")
        pipeline = require_pipeline(op, self.name)
        if self.interval < 0:
            raise CompileError(f"{self.name}: interval is a number of cycles, not {self.interval}")
        goal = self.goal()
        interval = self.interval
        if interval == 0:
            interval = self.choose(op, pipeline, goal)
        fold(pipeline, interval, goal.device.family, self.design)
        _state_latencies(op, pipeline, ctx, goal.device)

    def choose(self, module: ModuleOp, pipeline: PipelineOp, goal: Goal) -> int:
        """The interval; weights are sent out only of a model that does not fit otherwise, if they may be."""
        longest = max(_serial_interval(each) for each in pipeline.body.block.ops)
        memory = OutsideMemory(self.memory_width, self.memory_latency)

        def chosen(where: Placement) -> int:
            return choose_interval(module, goal, partial(_folded, goal, self.design, memory, where), longest)

        where = placement(self.weights)
        if where != "auto":
            return chosen(where)
        try:
            return chosen("on-chip")
        except DoesNotFit:
            return chosen("auto")

    def goal(self) -> Goal:
        device = find_device(self.device)
        has = device.budget
        budget = Resources(
            lut=self.lut or has.lut, ff=self.ff or has.ff, bram=self.bram or has.bram, dsp=self.dsp or has.dsp
        )
        return Goal(
            device, budget, self.clock_mhz or device.clock_mhz, self.tokens_per_second, self.sequences
        )


def _state_latencies(module: ModuleOp, pipeline: PipelineOp, ctx: Context, device: Device) -> None:
    """How long arrays of constants are depends on their weights, and is stated on them."""
    arrays = [op for op in pipeline.body.block.ops if isinstance(op, ArrayOp) and op.design.data in WIRED]
    if not arrays:
        return
    if not isinstance(ctx, SternaContext) or ctx.weights is None:
        raise CompileError(
            "weights as wiring need their numbers: there is no weight store", arrays[0].location
        )
    weights = ModuleInterpreter(module, ctx.weights)
    for op in arrays:
        trits = weights.weight(op.weight.string_value()).astype(np.int8)
        build = shared_array if op.design.data == "shared-sums" else folded_array
        array = build("array", trits, activation_bits=rows_type(op.x).width, adders=device.adders)
        op.attributes[LATENCY] = IntegerAttr(array.latency, i64)


def _serial_interval(op: Operation) -> int:
    """Cycles of a row if one element, or one product, is computed at a time."""
    if isinstance(op, ArrayOp):
        return rows_type(op.x).size.data * rows_type(op.result).size.data
    return max((rows_type(value).size.data for value in (*op.operands, *op.results)), default=1)


def _folded(
    goal: Goal, design: str, memory: OutsideMemory, where: Placement, module: ModuleOp, interval: int
) -> PipelineOp:
    """What the passes from here on make of it."""
    pipeline = require_pipeline(module, FoldStagesPass.name)
    fold(pipeline, interval, goal.device.family, design)
    place_weights(module, pipeline, goal, memory, where)
    buffer_streams(module, pipeline, goal.sequences)
    return pipeline


def fewest_lanes(size: int, interval: int) -> int:
    """The fewest lanes with which a row takes no more cycles; all of them at once, if need be."""
    return next(lanes for lanes in divisors(size) if size // lanes <= max(interval, 1))


def fold(pipeline: PipelineOp, interval: int, family: Family = "ecp5", design: str = "") -> None:
    """Sets the lanes of every stream, and adapts them where a maker and a reader differ. Arrays of streamed weights get
    the design, or without one each the cheapest."""
    made: dict[tuple[SSAValue, int], SSAValue] = {}
    for op in list(pipeline.body.block.ops):
        match op:
            case ArrayOp():
                x, y = rows_type(op.x), rows_type(op.result)
                if op.design.data in WIRED:
                    pe, simd = y.size.data, x.size.data
                else:
                    chosen, pe, simd = array_folding(design, y.size.data, x.size.data, interval, family)
                    op.properties["design"] = StringAttr(chosen)
                _read(op, 0, simd, made)
                _retype(op.result, pe)
                if op.design.data == "lut-ram":
                    op.attributes[LATENCY] = IntegerAttr(
                        table_latency(rows_type(op.x), adders_of(family)), i64
                    )
            case MapOp():
                lanes = fewest_lanes(op.rows.size.data, interval)
                for index, value in enumerate(op.inputs):
                    if rows_type(value).size == op.rows.size:
                        _read(op, index, lanes, made)
                for out in op.outs:
                    _retype(out, lanes)
            case ScanOp():
                lanes = fewest_lanes(rows_type(op.result).size.data, interval)
                _read(op, 1, lanes, made)
                _read(op, 2, lanes, made)
                _retype(op.result, lanes)
            case LookupOp():
                _retype(op.result, fewest_lanes(rows_type(op.result).size.data, interval))
            case LanesOp() | YieldOp():
                pass
            case _:
                for index, value in enumerate(op.operands):
                    _read(op, index, fewest_lanes(rows_type(value).size.data, interval), made)


def _retype(value: SSAValue, lanes: int) -> None:
    if rows_type(value).lanes.data != lanes:
        Rewriter.replace_value_with_new_type(value, rows_type(value).by(lanes))


def _read(op: Operation, index: int, lanes: int, made: dict[tuple[SSAValue, int], SSAValue]) -> None:
    """Lets the operand come in so many lanes."""
    value = op.operands[index]
    given = rows_type(value).lanes.data
    if given == lanes:
        return
    if (found := made.get((value, lanes))) is None:
        # Through a number of lanes that both divide, which is no slower than the slower of them.
        wide = lcm(given, lanes)
        steps = [lanes] if wide in (given, lanes) else [wide, lanes]
        found = value
        for step in steps:
            adapter = LanesOp(found, step)
            adapter.result.name_hint = f"{value.name_hint or 'stream'}_by{step}"
            adapter.attributes[STAGE] = StringAttr(f"{_maker(value)}_by{step}")
            block = op.parent_block()
            assert block is not None
            block.insert_op_before(adapter, op)
            found = adapter.result
        made[value, lanes] = found
    op.operands[index] = found


def _maker(value: SSAValue) -> str:
    return stage_name(value.owner) if isinstance(value.owner, Operation) else value.name_hint or "input"
