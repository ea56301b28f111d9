"""Predicts a folded, buffered pipeline: cycles of a token, tokens a second, and what each stage takes of the device.

Cycles come from the model of the circuits in `timing.py`, which is exact where nothing stalls. Resources come
from the circuits too: bits of registers, of adders and choices, of memories, and widths of products; for arrays
from what synthesis measured (`arrays/costs.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from sterna.dialects.stream import (
    WIRED,
    ArgmaxOp,
    ArrayOp,
    FifoOp,
    ForkOp,
    LanesOp,
    LookupOp,
    MapOp,
    PipelineOp,
    ReduceOp,
    ScanOp,
    YieldOp,
    regions_of,
    stage_name,
    weight_bits,
)
from sterna.dialects.stream_types import RegionAttr, RowsType, rows_type
from sterna.targets.verilog.arrays.costs import array_cost
from sterna.targets.verilog.circuits import Circuit, map_circuits
from sterna.targets.verilog.devices import (
    Family,
    Resources,
    lut_memory,
    memory_blocks,
    memory_choices,
    multiplier_blocks,
)
from sterna.targets.verilog.timing import (
    BLOCK_MEMORY_DEPTH,
    interval,
    schedule,
    slowest_interval,
    words_a_row,
)

CONTROL = Resources(lut=12, ff=12)
"""Of a stage: its counters and its handshake."""


@dataclass(frozen=True)
class StageEstimate:
    name: str
    kind: str
    interval: int
    """Cycles a row."""
    resources: Resources


@dataclass(frozen=True)
class Estimate:
    token_cycles: int
    """From a token that enters an empty pipeline to the last beat of its result."""
    interval: int
    """Cycles between tokens of different sequences: of the slowest stage."""
    stages: tuple[StageEstimate, ...]
    memory_words: int = 0
    """Words a token that are read of the memory outside."""

    @property
    def resources(self) -> Resources:
        return sum((stage.resources for stage in self.stages), Resources())

    def tokens_per_second(self, clock_mhz: float, rows_in_flight: int = 1) -> float:
        """One sequence waits for each token; several fill the pipeline."""
        cycles = max(self.interval, self.token_cycles / rows_in_flight)
        return clock_mhz * 1e6 / cycles


def estimate(module: ModuleOp, pipeline: PipelineOp, family: Family) -> Estimate:
    circuits = map_circuits(module, pipeline)
    latencies: dict[Operation, int] = {op: circuit.cycles for op, circuit in circuits.items()}
    timed = schedule(pipeline, np.zeros(1, np.int64), latencies)
    stages = [
        StageEstimate(
            stage_name(op) if not isinstance(op, FifoOp) else "queue",
            op.name.removeprefix("stream."),
            interval(op),
            _resources(op, family, circuits),
        )
        for op in pipeline.body.block.ops
        if not isinstance(op, YieldOp)
    ]
    if regions := list(regions_of(pipeline).values()):
        stages.append(StageEstimate("reader", "memory", words_a_row(pipeline), reader(regions, family)))
    return Estimate(timed.finish, slowest_interval(pipeline), tuple(stages), words_a_row(pipeline))


def reader(regions: Sequence[RegionAttr], family: Family) -> Resources:
    """Of the AXI4 port: a queue, two counters and a place in two choices for each array."""
    width, ahead = regions[0].width.data, regions[0].ahead.data
    array = queue(width, ahead, family) + Resources(lut=72, ff=45)
    return sum([array] * len(regions), Resources(lut=200, ff=90))


def _resources(op: Operation, family: Family, circuits: Mapping[Operation, Circuit]) -> Resources:
    match op:
        case MapOp():
            return _elementwise(op, family, circuits[op])
        case ArrayOp():
            return _array(op, family)
        case ReduceOp():
            lanes, width = rows_type(op.x).lanes.data, rows_type(op.result).width
            # The tree over lanes, and what has come so far with the choice to start anew.
            each = 1 if op.kind.data == "sum" else 2
            return CONTROL + Resources(lut=((lanes - 1) * each + 2) * width, ff=lanes * width)
        case ArgmaxOp():
            x = rows_type(op.x)
            return CONTROL + Resources(lut=3 * x.lanes.data * x.width, ff=2 * x.width + 40)
        case ScanOp():
            return _scan(op, family)
        case LookupOp():
            row = rows_type(op.result)
            words = op.rows.value.data * row.beats
            return CONTROL + Resources(
                lut=row.bits * memory_choices(words, family),
                bram=memory_blocks(words, row.bits, family),
                ff=words.bit_length(),
            )
        case FifoOp():
            return queue(rows_type(op.result).bits, op.depth.value.data, family)
        case ForkOp():
            return Resources(lut=3 * len(op.outs), ff=len(op.outs))
        case LanesOp():
            wide = max(rows_type(op.x).bits, rows_type(op.result).bits)
            narrows = rows_type(op.result).lanes.data < rows_type(op.x).lanes.data
            return CONTROL + Resources(lut=wide if narrows else 0, ff=wide)
        case _:
            raise AssertionError(op.name)


def queue(bits: int, depth: int, family: Family) -> Resources:
    counters = 3 * depth.bit_length()
    control = Resources(lut=2 * counters + 8, ff=counters)
    if depth >= BLOCK_MEMORY_DEPTH:
        return control + Resources(bram=memory_blocks(depth, bits, family))
    return control + Resources(lut_memory=lut_memory(depth, bits, family))


def _elementwise(op: MapOp, family: Family, circuit: Circuit) -> Resources:
    lanes = op.rows.lanes.data
    lane = Resources(
        lut=circuit.lut,
        ff=circuit.ff,
        bram=sum(memory_blocks(words, bits, family) for words, bits in circuit.memories),
        dsp=sum(multiplier_blocks(*widths, family) for widths in circuit.multipliers),
    )
    constants = Resources(
        bram=sum(memory_blocks(op.rows.beats, width * lanes, family) for width in circuit.constants)
    )
    return sum([lane] * lanes, CONTROL + Resources(ff=circuit.cycles) + constants)


def _array(op: ArrayOp, family: Family) -> Resources:
    x, y = rows_type(op.x), rows_type(op.result)
    array = array_cost(op.design.data, y.lanes.data, x.lanes.data, family)
    if op.design.data in WIRED:
        return CONTROL + array
    bits = weight_bits(op.design.data, y, x)
    if op.region is None:
        source = Resources(bram=memory_blocks(x.beats * y.beats, bits, family))
    else:
        unpacked = max(bits, op.region.width.data)
        source = Resources(lut=unpacked + 8, ff=unpacked + bits)
    kept = _partial_sums(x, y, family) if op.design.data == "lut-ram" else _row(x, family)
    return CONTROL + array + kept + source + Resources(ff=bits)


def _row(x: RowsType, family: Family) -> Resources:
    """The memory of a row that several passes read, and what chooses between it and what comes."""
    return Resources(lut=x.bits, ff=3 * x.bits) + _small_memory(x.beats, x.bits, family)


def _partial_sums(x: RowsType, y: RowsType, family: Family) -> Resources:
    """The columns of a block, and the sums of blocks."""
    if x.beats == 1:
        return Resources(ff=x.bits)
    return Resources(lut=2 * y.bits, ff=x.bits + y.bits) + _small_memory(y.beats, y.bits, family)


def _small_memory(words: int, bits: int, family: Family) -> Resources:
    if words > 32:
        return Resources(bram=memory_blocks(words, bits, family))
    return Resources(lut_memory=lut_memory(words, bits, family))


def _scan(op: ScanOp, family: Family) -> Resources:
    f, i, s = rows_type(op.f), rows_type(op.i), rows_type(op.result)
    lanes, sum_bits = s.lanes.data, f.width + s.width + 2
    return CONTROL + Resources(
        lut=lanes * (3 * sum_bits),
        ff=lanes * (3 * s.width + 2 * i.width + 2 * f.width + s.width),
        bram=memory_blocks(op.sequences.value.data * s.beats, s.bits, family),
        dsp=lanes * multiplier_blocks(f.width, s.width, family),
    )
