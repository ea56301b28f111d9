"""When each beat moves, if nothing outside stalls: the model of every stage's circuit, in cycles.

For one row or several the times are found stage by stage, in order of the graph, by max-plus recurrences on
whole arrays: a stage takes beat n when all its inputs have it and one cycle after it took beat n - 1. Queues
are taken as unbounded; what they then hold at most is the depth that they need (`buffer_streams.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import IntegerAttr
from xdsl.ir import Operation, SSAValue

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
)
from sterna.dialects.stream_types import RegionAttr, rows_type
from sterna.targets.verilog.external_memory import BURST
from sterna.targets.verilog.stages.array_stage import folds, tree_latency
from sterna.targets.verilog.stages.reduce_stage import reduce_latency
from sterna.targets.verilog.stages.table_stage import FILL_CYCLES

Times = npt.NDArray[np.int64]

LOOKUP_LATENCY = 2
SCAN_LATENCY = 3
SHORTEST_SCAN = 4
"""Beats of a row below which a scan waits for the row before."""
READER_LATENCY = 6
"""Cycles from a queue's room for a burst to the burst's first word, from a memory that answers at once."""
LATENCY = "latency"
"""The attribute that says how long an array of constants or of tables is."""
TYPICAL_LATENCY = 10
BLOCK_MEMORY_DEPTH = 33
"""From this depth on a queue is in block memory, and a beat takes two cycles through it."""


@dataclass
class Schedule:
    """Times of every stream: when beats are offered by its maker, and when its reader takes them."""

    made: dict[SSAValue, Times] = field(default_factory=dict[SSAValue, Times])
    taken: dict[tuple[Operation, int], Times] = field(default_factory=dict[tuple[Operation, int], Times])

    @property
    def finish(self) -> int:
        """The cycle after the last beat of all."""
        return max(int(times[-1]) for times in self.made.values()) + 1

    def depth(self, use: tuple[Operation, int], value: SSAValue) -> int:
        """The most beats that wait between the maker and that reader at a time."""
        made, taken = self.made[value], self.taken[use]
        # A beat occupies the queue from the cycle it comes to the cycle it is taken.
        gone = np.searchsorted(taken, made, side="left")
        return int((np.arange(1, len(made) + 1) - gone).max(initial=1))


def paced(arrivals: Times) -> Times:
    """When a stage that takes one beat a cycle takes those that arrive then."""
    steps = np.arange(len(arrivals))
    return np.maximum.accumulate(arrivals - steps) + steps


def queue_delay(depth: int) -> int:
    return 2 if depth >= BLOCK_MEMORY_DEPTH else 1


def schedule(
    pipeline: PipelineOp,
    starts: Times,
    latencies: Mapping[Operation, int],
    depths: Mapping[tuple[Operation, int], int] | None = None,
) -> Schedule:
    """The times of rows whose tokens come at `starts`; `latencies` of the maps, `depths` of queues that are not in
    the graph.

    Streams that several stages read are forks, and every reader has a queue, in the graph or not.
    """
    result = Schedule()
    for argument in pipeline.body.block.args:
        result.made[argument] = starts
    in_graph = any(isinstance(op, FifoOp) for op in pipeline.body.block.ops)

    def arrivals(op: Operation, index: int) -> Times:
        delay = 0 if in_graph else queue_delay((depths or {}).get((op, index), 2))
        return result.made[op.operands[index]] + delay

    shared = words_of_neighbours(pipeline)
    for op in pipeline.body.block.ops:
        match op:
            case FifoOp():
                result.taken[op, 0] = result.made[op.x]
                result.made[op.result] = result.made[op.x] + queue_delay(op.depth.value.data)
            case ForkOp():
                result.taken[op, 0] = result.made[op.x]
                for out in op.outs:
                    result.made[out] = result.made[op.x]
            case YieldOp():
                for index in range(len(op.values)):
                    result.taken[op, index] = arrivals(op, index)
            case LookupOp():
                _lookup(op, result, arrivals(op, 0))
            case ArrayOp():
                _array(op, result, arrivals(op, 0), shared.get(op, 0))
            case MapOp():
                _elementwise(op, result, [arrivals(op, n) for n in range(len(op.inputs))], latencies[op])
            case ReduceOp() | ArgmaxOp():
                x = rows_type(op.x)
                taken = paced(arrivals(op, 0))
                result.taken[op, 0] = taken
                late = reduce_latency(x.lanes.data) if isinstance(op, ReduceOp) else 2
                result.made[op.result] = taken[x.beats - 1 :: x.beats] + late
            case ScanOp():
                _scan(op, result, [arrivals(op, n) for n in range(3)])
            case LanesOp():
                _lanes(op, result, arrivals(op, 0))
            case _:
                raise AssertionError(op.name)
    return result


def _lookup(op: LookupOp, result: Schedule, arrivals: Times) -> None:
    beats = rows_type(op.result).beats
    taken = paced(np.repeat(arrivals, beats))
    result.taken[op, 0] = taken[beats - 1 :: beats]
    result.made[op.result] = taken + LOOKUP_LATENCY


def _array(op: ArrayOp, result: Schedule, arrivals: Times, shared: int) -> None:
    x, y = rows_type(op.x), rows_type(op.result)
    if op.design.data in WIRED:
        taken = paced(arrivals)
        result.taken[op, 0] = taken
        result.made[op.result] = taken + stated_latency(op)
        return
    if op.design.data == "lut-ram":
        _tables(op, result, arrivals, shared)
        return
    passes, cycles = folds(x, y)
    # One array of times, a column for each step of a row: only those of the first pass wait for an arrival.
    rows = arrivals.reshape(-1, cycles)
    steps = np.full((len(rows), passes * cycles), np.iinfo(np.int64).min // 2)
    steps[:, :cycles] = rows
    times = paced(steps.reshape(-1)).reshape(steps.shape)
    if op.region is not None:
        times = _fed(times, op.region, shared)
    result.taken[op, 0] = times[:, :cycles].reshape(-1)
    result.made[op.result] = times[:, cycles - 1 :: cycles].reshape(-1) + tree_latency(x.lanes.data)


def _tables(op: ArrayOp, result: Schedule, arrivals: Times, shared: int) -> None:
    """A column for each tick of a row: only the first of a block waits for an arrival."""
    blocks, passes = rows_type(op.x).beats, rows_type(op.result).beats
    ticks = FILL_CYCLES + passes
    steps = np.full((len(arrivals), ticks), np.iinfo(np.int64).min // 2)
    steps[:, 0] = arrivals
    times = paced(steps.reshape(-1)).reshape(-1, blocks * ticks)
    if op.region is not None:
        times = _fed(times, op.region, shared)
    by_block = times.reshape(-1, blocks, ticks)
    result.taken[op, 0] = by_block[:, :, 0].reshape(-1)
    result.made[op.result] = by_block[:, -1, FILL_CYCLES:].reshape(-1) + stated_latency(op)


def words_of_neighbours(pipeline: PipelineOp) -> dict[Operation, int]:
    """For each array whose weights are outside, the words a row of all that read the memory at the same time.

    A reduction gives its result when the whole row was there, and an array most of its: those behind it work when those
    before it are done. At the same time work arrays with as many of both before them.
    """
    before: dict[SSAValue, int] = {}
    words: dict[int, int] = {}
    regions = regions_of(pipeline)
    places: dict[Operation, int] = {}
    for op in pipeline.body.block.ops:
        place = max((before.get(value, 0) for value in op.operands), default=0)
        for value in op.results:
            before[value] = place + isinstance(op, ReduceOp | ArrayOp)
        if op in regions:
            places[op] = place
            words[place] = words.get(place, 0) + regions[op].beats.data
    return {op: words[place] for op, place in places.items()}


def _fed(times: Times, region: RegionAttr, shared: int) -> Times:
    """The steps `[rows, steps]` with weights from a memory that gives a word a cycle to all that read it in turn.

    After any step the words in the queue are used first, and those behind them come a word a cycle from when there was
    room for a first burst of them.
    """
    steps, words, ahead = times.shape[1], region.beats.data, region.ahead.data
    queued = ahead * steps // words
    if queued >= steps:
        return times
    needed = np.arange(steps, dtype=np.int64) * shared // steps
    delay = BURST * steps // words + READER_LATENCY - ahead * shared // words
    fed, free = times.copy(), int(times[0, 0])
    for row in fed:
        row[0] = max(int(row[0]), free)
        row[:] = paced(row)
        used = np.maximum.accumulate(row - needed)[: steps - queued]
        row[queued:] = np.maximum(row[queued:], used + needed[queued:] + delay)
        row[:] = paced(row)
        free = int(row[-1]) + 1
    return fed


def stated_latency(op: ArrayOp) -> int:
    """Of an array whose latency depends on its weights, or on the device: known once it is folded, and stated then."""
    stated = op.attributes.get(LATENCY)
    return stated.value.data if isinstance(stated, IntegerAttr) else TYPICAL_LATENCY


def _elementwise(op: MapOp, result: Schedule, arrivals: list[Times], latency: int) -> None:
    beats, size = op.rows.beats, op.rows.size.data
    scalars = [rows_type(value).size.data != size for value in op.inputs]
    each = [
        np.repeat(times, beats) if scalar else times for times, scalar in zip(arrivals, scalars, strict=True)
    ]
    taken = paced(np.maximum.reduce(each))
    for index, scalar in enumerate(scalars):
        result.taken[op, index] = taken[beats - 1 :: beats] if scalar else taken
    for out in op.outs:
        result.made[out] = taken + latency


def _scan(op: ScanOp, result: Schedule, arrivals: list[Times]) -> None:
    beats = rows_type(op.result).beats
    together = np.maximum(np.maximum(np.repeat(arrivals[0], beats), arrivals[1]), arrivals[2])
    if beats >= SHORTEST_SCAN:
        taken = paced(together)
    else:
        taken, free = together.copy(), 0
        for row in range(0, len(taken), beats):
            taken[row] = max(taken[row], free)
            for beat in range(row + 1, row + beats):
                taken[beat] = max(taken[beat], taken[beat - 1] + 1)
            free = int(taken[row + beats - 1]) + SCAN_LATENCY + 1
    result.taken[op, 0] = taken[beats - 1 :: beats]
    result.taken[op, 1] = result.taken[op, 2] = taken
    result.made[op.result] = taken + SCAN_LATENCY


def _lanes(op: LanesOp, result: Schedule, arrivals: Times) -> None:
    few, many = rows_type(op.x).lanes.data, rows_type(op.result).lanes.data
    if few == many:
        result.taken[op, 0] = result.made[op.result] = arrivals
    elif few < many:
        taken = paced(arrivals)
        result.taken[op, 0] = taken
        result.made[op.result] = taken[many // few - 1 :: many // few] + 1
    else:
        ratio = few // many
        made = paced(np.repeat(arrivals, ratio) + 1)
        result.taken[op, 0] = made[::ratio] - 1
        result.made[op.result] = made


def interval(op: Operation) -> int:
    """Cycles from one row to the next that a stage can take."""
    match op:
        case ArrayOp():
            passes, cycles = folds(rows_type(op.x), rows_type(op.result))
            return cycles * (FILL_CYCLES + passes) if op.design.data == "lut-ram" else passes * cycles
        case ScanOp():
            beats = rows_type(op.result).beats
            return beats if beats >= SHORTEST_SCAN else beats + SCAN_LATENCY
        case _:
            values = [*op.operands, *op.results]
            return max((rows_type(value).beats for value in values), default=1)


def slowest_interval(pipeline: PipelineOp) -> int:
    """Of the stage that takes longest for a row, or of the memory outside: the pipeline gives no more than a row in so
    many cycles."""
    return max(*(interval(op) for op in pipeline.body.block.ops), words_a_row(pipeline))


def words_a_row(pipeline: PipelineOp) -> int:
    """Words that are read of the memory outside, one a cycle at best."""
    return sum(region.beats.data for region in regions_of(pipeline).values())
