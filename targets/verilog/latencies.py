"""How many cycles long each elementwise stage is: known once its circuit is laid out."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from sterna.dialects.fixed import TableOp
from sterna.dialects.stream import MapOp, PipelineOp
from sterna.targets.verilog.stages.map_stage import map_datapath
from sterna.targets.verilog.weights import constant_sizes


def tables_of(module: ModuleOp) -> dict[str, TableOp]:
    return {op.sym_name.data: op for op in module.ops if isinstance(op, TableOp)}


def map_latencies(module: ModuleOp, pipeline: PipelineOp) -> dict[Operation, int]:
    """Of every map: the numbers of its constants do not matter for that, only how many there are."""
    tables, sizes = tables_of(module), constant_sizes(module)
    latencies: dict[Operation, int] = {}
    for op in pipeline.body.block.ops:
        if isinstance(op, MapOp):
            constants = {name.string_value(): np.zeros(sizes[name.string_value()], np.int64) for name in op.constants}
            _, results, _ = map_datapath(op, constants, tables)
            latencies[op] = results[0].time or 1
    return latencies
