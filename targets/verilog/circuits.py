"""What each elementwise stage's circuit is, before anything is printed: its length, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import IntegerType, ModuleOp
from xdsl.ir import Operation

from sterna.dialects.fixed import TableOp
from sterna.dialects.stream import MapOp, PipelineOp
from sterna.targets.verilog.stages.map_stage import map_datapath
from sterna.targets.verilog.weights import constant_sizes


@dataclass(frozen=True)
class Circuit:
    """Of one lane."""

    cycles: int
    lut: int
    ff: int
    memories: tuple[tuple[int, int], ...]
    multipliers: tuple[tuple[int, int], ...]
    constants: tuple[int, ...]
    """Widths of the constants that come from a memory."""


def tables_of(module: ModuleOp) -> dict[str, TableOp]:
    return {op.sym_name.data: op for op in module.ops if isinstance(op, TableOp)}


def map_circuits(module: ModuleOp, pipeline: PipelineOp) -> dict[Operation, Circuit]:
    """Of every map: the numbers of its constants do not matter for that, only how many there are."""
    tables, sizes = tables_of(module), constant_sizes(module)
    circuits: dict[Operation, Circuit] = {}
    for op in pipeline.body.block.ops:
        if not isinstance(op, MapOp):
            continue
        names = [name.string_value() for name in op.constants]
        path, results, memories = map_datapath(op, {n: np.zeros(sizes[n], np.int64) for n in names}, tables)
        arguments = op.body.block.args[len(op.inputs) :]
        widths = [a.type.width.data for a in arguments if isinstance(a.type, IntegerType)]
        circuits[op] = Circuit(
            results[0].time or 1,
            path.lut,
            path.ff,
            tuple(path.memories),
            tuple(path.multipliers),
            tuple(width for name, width in zip(names, widths, strict=True) if name in memories),
        )
    return circuits


def map_latencies(module: ModuleOp, pipeline: PipelineOp) -> dict[Operation, int]:
    return {op: circuit.cycles for op, circuit in map_circuits(module, pipeline).items()}
