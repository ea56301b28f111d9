"""Decides which arrays read their weights from the memory outside the chip, and where in it they are.

    %a = stream.array %q, @w design = "adder-tree" : !stream.rows<256 by 64 : i8> -> !stream.rows<128 by 8 : i17>

with `weights = "external"` and `memory-width = 64` becomes

    %a = stream.array %q, @w design = "adder-tree" from <0, 1024 x 64, ahead = 32> ...

Whatever an array reads, it reads once a token, so a byte outside costs the same wherever it comes from. What it
frees differs: memory blocks of the chip have few shapes, and the queue in front of an array takes some too.
`auto` leaves all weights on the chip if they fit, and else sends out those first that free most a byte, until the
rest fits the budget. Nothing changes of what the pipeline computes, and no queue can deadlock that did not before:
the memory is one more process whose stream never ends (`buffer_streams.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from sterna.dialects.errors import CompileError
from sterna.dialects.stream import WIRED, ArrayOp, PipelineOp
from sterna.dialects.stream_types import RegionAttr
from sterna.targets.verilog.buffer_streams import buffer_streams
from sterna.targets.verilog.choose_folding import Goal, require_pipeline
from sterna.targets.verilog.devices import Resources, find_device, memory_blocks
from sterna.targets.verilog.estimate import estimate, queue
from sterna.targets.verilog.external_memory import (
    ADDRESSES,
    OutsideMemory,
    Placement,
    packing,
    pages,
    placement,
    words_ahead,
)


@dataclass(frozen=True)
class PlaceWeightsPass(ModulePass):
    name = "place-weights"

    weights: str = "auto"
    memory_width: int = 64
    memory_latency: int = 16
    device: str = "ecp5-85k"
    bram: int = 0
    """The budget of memory blocks; 0: all that the device has."""
    sequences: int = 1

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        device = find_device(self.device)
        budget = Resources(bram=self.bram or device.resources.bram)
        goal = Goal(device, budget, device.clock_mhz, sequences=self.sequences)
        memory = OutsideMemory(self.memory_width, self.memory_latency)
        place_weights(op, require_pipeline(op, self.name), goal, memory, placement(self.weights))


def place_weights(
    module: ModuleOp, pipeline: PipelineOp, goal: Goal, memory: OutsideMemory, where: Placement
) -> None:
    """Of a folded pipeline; afterwards its streams are buffered."""
    arrays = [op for op in pipeline.body.block.ops if isinstance(op, ArrayOp) and _reads_a_memory(op)]
    if where == "external":
        _place(arrays, memory)
    elif where == "auto":
        _place_until_it_fits(module, pipeline, arrays, goal, memory)


def _reads_a_memory(op: ArrayOp) -> bool:
    return op.design.data not in WIRED


def _place(arrays: list[ArrayOp], memory: OutsideMemory) -> None:
    """A region each, in the order of the program."""
    at = 0
    for op in arrays:
        region = RegionAttr.of(at, packing(op, memory.width).words, memory.width, words_ahead(memory.latency))
        op.properties["region"] = region
        at += pages(region.bytes)
        if at > ADDRESSES:
            raise CompileError(
                f"the weights take more than the {ADDRESSES >> 30} GiB that the memory's port can address"
            )


def _place_until_it_fits(
    module: ModuleOp, pipeline: PipelineOp, arrays: list[ArrayOp], goal: Goal, memory: OutsideMemory
) -> None:
    candidates = sorted(
        (op for op in arrays if _freed(op, goal, memory) > 0),
        key=lambda op: _freed(op, goal, memory) / packing(op, memory.width).words,
    )
    outside: set[ArrayOp] = set()
    # How deep queues are depends on what is outside, so what is still lacking is estimated again.
    while (lacking := _blocks(module, pipeline, goal) - goal.budget.bram) > 0 and candidates:
        while lacking > 0 and candidates:
            op = candidates.pop()
            outside.add(op)
            lacking -= _freed(op, goal, memory)
        _place([op for op in arrays if op in outside], memory)


def _freed(op: ArrayOp, goal: Goal, memory: OutsideMemory) -> float:
    """Memory blocks less, with the array's weights outside."""
    stored = packing(op, memory.width)
    on_chip = memory_blocks(stored.steps, stored.bits, goal.device.family)
    return on_chip - queue(memory.width, words_ahead(memory.latency), goal.device.family).bram


def _blocks(module: ModuleOp, pipeline: PipelineOp, goal: Goal) -> float:
    """Memory blocks of the pipeline once it is buffered."""
    copy = module.clone()
    buffered = require_pipeline(copy, PlaceWeightsPass.name)
    buffer_streams(copy, buffered, goal.sequences)
    return estimate(copy, buffered, goal.device.family).resources.bram
