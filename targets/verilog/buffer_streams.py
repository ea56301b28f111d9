"""Puts a fork where a stream has several readers, and before every reader a queue that is deep enough.

    %h, %s = stream.map(...) ...                       %h, %s = stream.map(...) ...
    %n = stream.reduce "sum" %s : ...                  %s_0 = stream.fifo %s depth 2 : ...
    %q = stream.map(%h, %n : ...) ...         ->       %n = stream.reduce "sum" %s_0 : ...
                                                       %h_0 = stream.fifo %h depth 258 : ...
                                                       %n_0 = stream.fifo %n depth 2 : ...
                                                       %q = stream.map(%h_0, %n_0 : ...) ...

The depth of a queue is the most beats that it ever holds in the schedule of one row in an empty pipeline
(`timing.py`), plus two; with `rows_in_flight` above one, of so many rows that come as fast as the slowest stage
takes them.

Why no depth deadlocks: stages are deterministic processes, each reading and writing fixed numbers of beats in a
fixed order, so the graph is a Kahn network; bounding a queue adds a stream of vacancies in the other direction,
and the result is a Kahn network again. Such a network either stops in every order of execution or in none. One
order that never stops is: let a row through an empty pipeline by the schedule above, which no queue of these
depths hinders, since none holds more than it did there; the pipeline is then empty again, and the next row
follows. So no order stops, whatever the stalls at the edges or inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass

from sterna.dialects.stream import FifoOp, ForkOp, LanesOp, PipelineOp
from sterna.targets.verilog.choose_folding import require_pipeline
from sterna.targets.verilog.circuits import map_latencies
from sterna.targets.verilog.timing import schedule, slowest_interval

SLACK = 2
"""Beats on top: one for the register at a block memory's output, one so that a full queue is never on the schedule's
path."""

ROUNDS = 3


@dataclass(frozen=True)
class BufferStreamsPass(ModulePass):
    name = "buffer-streams"

    rows_in_flight: int = 1

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        buffer_streams(op, require_pipeline(op, self.name), self.rows_in_flight)


def buffer_streams(module: ModuleOp, pipeline: PipelineOp, rows_in_flight: int) -> None:
    depths = needed_depths(pipeline, map_latencies(module, pipeline), rows_in_flight)
    for value in _streams(pipeline):
        _buffer(value, depths)


def _streams(pipeline: PipelineOp) -> list[SSAValue]:
    block = pipeline.body.block
    return [*block.args, *(result for op in block.ops for result in op.results)]


def needed_depths(
    pipeline: PipelineOp, latencies: Mapping[Operation, int], rows: int
) -> dict[tuple[Operation, int], int]:
    """The depth of the queue before each operand."""
    interval = slowest_interval(pipeline) if rows > 1 else 0
    starts = np.arange(rows, dtype=np.int64) * interval
    depths: dict[tuple[Operation, int], int] = {}
    # A deep queue takes a cycle longer, which may deepen another beside it: a second round knows which are deep.
    for _ in range(ROUNDS):
        timed = schedule(pipeline, starts, latencies, depths)
        depths = {
            use: max(depths.get(use, 0), timed.depth(use, use[0].operands[use[1]]) + SLACK)
            for use in timed.taken
        }
    return depths


def _buffer(value: SSAValue, depths: dict[tuple[Operation, int], int]) -> None:
    uses = sorted(value.uses, key=lambda use: (_position(use.operation), use.index))
    sources: list[SSAValue] = [value]
    if len(uses) > 1:
        fork = ForkOp(value, len(uses))
        _insert_after(value, fork)
        sources = list(fork.outs)
        for number, source in enumerate(sources):
            source.name_hint = f"{value.name_hint or 'stream'}_copy{number}"
    last: Operation | None = sources[0].owner if len(uses) > 1 else None  # pyright: ignore
    for use, source in zip(uses, sources, strict=False):
        depth = depths[use.operation, use.index]
        if isinstance(source.owner, LanesOp) and depth <= 1 + SLACK:
            continue  # the register that changes lanes holds the one beat that waits
        fifo = FifoOp(source, depth)
        fifo.result.name_hint = f"{source.name_hint or 'stream'}_queued"
        if last is None:
            _insert_after(value, fifo)
        else:
            block = last.parent_block()
            assert block is not None
            block.insert_op_after(fifo, last)
        last = fifo
        use.operation.operands[use.index] = fifo.result


def _position(op: Operation) -> int:
    block = op.parent_block()
    assert block is not None
    return block.get_operation_index(op)


def _insert_after(value: SSAValue, op: Operation) -> None:
    owner = value.owner
    if isinstance(owner, Operation):
        block = owner.parent_block()
        assert block is not None
        block.insert_op_after(op, owner)
    elif (first := owner.first_op) is not None:
        owner.insert_op_before(op, first)
