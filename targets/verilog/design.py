"""A buffered pipeline as files: Verilog modules, and the images of their memories."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.stream import (
    ArrayOp,
    LookupOp,
    MapOp,
    PipelineOp,
    ReduceOp,
    pipeline_of,
    regions_of,
    stage_name,
)
from sterna.dialects.stream_types import rows_type
from sterna.dialects.weights import WeightStore
from sterna.targets.verilog.arrays.array import Adders
from sterna.targets.verilog.circuits import tables_of
from sterna.targets.verilog.external_memory import memory_image_of
from sterna.targets.verilog.stages.array_stage import array_stage
from sterna.targets.verilog.stages.map_stage import map_stage
from sterna.targets.verilog.stages.module import MEMORY, StageModule, image_name, memory_image
from sterna.targets.verilog.stages.reduce_stage import reduce_stage
from sterna.targets.verilog.stages.top import TopPrinter
from sterna.targets.verilog.tools import library_files

Array = npt.NDArray[Any]

RTL = "rtl"
"""The folder of Verilog files."""
OUTSIDE = f"{MEMORY}/external.bin"
"""What the memory outside the chip holds, byte by byte."""


@dataclass(frozen=True)
class Design:
    """What synthesis and simulation read."""

    top: str
    modules: dict[str, str]
    """Verilog by file name: the top, the stages, the library."""
    images: dict[str, str]
    """Memory images by file name; $readmemh looks for them in the working directory."""
    outside: bytes = b""
    """The image of the memory outside; empty if there is none."""
    stages: dict[Operation, StageModule] = field(default_factory=dict[Operation, StageModule])

    def write(self, folder: Path) -> list[Path]:
        """Writes all files; the paths of the Verilog ones."""
        for name in (RTL, MEMORY):
            (folder / name).mkdir(parents=True, exist_ok=True)
        files = {f"{RTL}/{name}": text for name, text in self.modules.items()}
        for name, text in (files | self.images).items():
            (folder / name).write_text(text, encoding="utf-8")
        if self.outside:
            (folder / OUTSIDE).write_bytes(self.outside)
        return [folder / name for name in files]


def print_design(module: ModuleOp, weights: WeightStore | None, *, top: str, adders: Adders) -> Design:
    """The design of a module whose pipeline is folded and buffered."""
    if (pipeline := pipeline_of(list(module.ops))) is None:
        raise CompileError("there is no stream.pipeline to print: run convert-fixed-to-stream first")
    printer = _DesignPrinter(module, pipeline, ModuleInterpreter(module, weights), adders)
    stages = {op: stage for op in pipeline.body.block.ops if (stage := printer.stage(op)) is not None}
    text = TopPrinter(pipeline, top).print()
    modules = {f"{top}.sv": text}
    modules |= {f"{stage.name}.sv": stage.text for stage in stages.values()}
    for stage in stages.values():
        modules |= {f"{name}.sv": part for name, part in stage.parts.items()}
    modules |= {
        path.name: path.read_text(encoding="utf-8") for path in library_files() if _used(path.stem, modules)
    }
    images = printer.images
    for stage in stages.values():
        images |= stage.images
    outside = memory_image_of({region: stages[op].outside for op, region in regions_of(pipeline).items()})
    return Design(top, modules, images, outside, stages)


def _used(name: str, modules: dict[str, str]) -> bool:
    """Whether the design may instantiate a module of the library; constant_rows and add3 come with others."""
    return any(f"{name} " in text for text in modules.values())


@dataclass
class _DesignPrinter:
    module: ModuleOp
    pipeline: PipelineOp
    interpreter: ModuleInterpreter
    adders: Adders
    images: dict[str, str] = field(default_factory=dict[str, str])

    def stage(self, op: Operation) -> StageModule | None:
        """The module of an operation; None for one whose module is in the library."""
        match op:
            case MapOp():
                constants = {name.string_value(): self._weight(name.string_value()) for name in op.constants}
                return map_stage(op, constants, tables_of(self.module))
            case ReduceOp():
                return reduce_stage(op)
            case ArrayOp():
                return array_stage(op, self._weight(op.weight.string_value()), self.adders)
            case LookupOp():
                row = rows_type(op.result)
                table = self._weight(op.table.string_value()).astype(np.int64)
                self.images[image_name(stage_name(op))] = memory_image(
                    table.reshape(-1, row.lanes.data), row.width
                )
                return None
            case _:
                return None

    def _weight(self, name: str) -> Array:
        return self.interpreter.weight(name)
