"""The FPGA target: a fixed-point program to a project that Verilator, Yosys and the vendors' tools read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from sterna.dialects.errors import CompileError
from sterna.targets.options import TargetOption, option_values
from sterna.targets.verilog.settings import OPTIONS, Settings

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp
    from xdsl.passes import ModulePass

    from sterna.dialects.weights import WeightStore
    from sterna.progress import Progress
    from sterna.targets import Executable
    from sterna.targets.program import Program

PIPELINE = (
    "raise-bit-linear",
    "fold-weights",
    "raise-ternary-products",
    "ternarize",
    "fuse-norm-quantize",
    "fuse-projections",
    "fuse-elementwise",
)
FORMATS = {"ecp5": "to-fixed-point{reciprocal=18}", "xc7": "to-fixed-point", "xcup": "to-fixed-point"}
"""The multipliers of ECP5 are 18 bits by 18: a reciprocal of 25 bits would take two."""


@dataclass(frozen=True)
class VerilogTarget:
    """`configured` gives the same target with other options."""

    name: ClassVar = "verilog"
    emits: ClassVar = ()
    options: ClassVar[tuple[TargetOption, ...]] = OPTIONS

    values: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def settings(self) -> Settings:
        return Settings.of(option_values(self.name, self.options, self.values))

    def configured(self, values: Mapping[str, str]) -> VerilogTarget:
        target = VerilogTarget(dict(values))
        _ = target.settings
        return target

    def describe_host(self) -> list[str]:
        from sterna.targets.verilog.devices import DEVICES
        from sterna.targets.verilog.tools import installed

        return [
            f"writes a project for {', '.join(DEVICES)}",
            *(f"  {name:12} {state}" for name, state in installed().items()),
        ]

    def passes(self) -> dict[str, type[ModulePass]]:
        from sterna.targets.verilog.buffer_streams import BufferStreamsPass
        from sterna.targets.verilog.convert_fixed_to_stream import ConvertFixedToStreamPass
        from sterna.targets.verilog.fold_stages import FoldStagesPass
        from sterna.targets.verilog.place_weights import PlaceWeightsPass

        passes: tuple[type[ModulePass], ...] = (
            ConvertFixedToStreamPass,
            FoldStagesPass,
            PlaceWeightsPass,
            BufferStreamsPass,
        )
        return {each.name: each for each in passes}

    def pipeline(self, *, max_rows: int = 64) -> str:
        settings = self.settings
        return ",".join(
            [
                *PIPELINE,
                FORMATS[settings.device.family],
                f"convert-fixed-to-stream{{output={settings.output} sequences={settings.sequences}}}",
                f"fold-stages{{{settings.folding()}}}",
                f"place-weights{{{settings.placing()}}}",
                f"buffer-streams{{rows-in-flight={settings.sequences}}}",
            ]
        )

    def emit(self, planned: ModuleOp, kind: str, *, isa: str | None = None) -> str:
        raise CompileError(f"target '{self.name}' writes a folder: give -o instead of --emit {kind}")

    def write_project(
        self, lowered: ModuleOp, weights: WeightStore, folder: Path, *, name: str, progress: Progress
    ) -> str:
        """Writes Verilog, memory images, testbench, constraints, report and diagram; what the command line says of
        it."""
        from sterna.targets.verilog.project import write_project

        return write_project(lowered, weights, folder, self.settings, name=name, progress=progress)

    def build(self, planned: ModuleOp) -> dict[str, bytes]:
        self._no_artifact()

    def levels(self, *, emulated: bool = False) -> tuple[str, ...]:
        return ()

    def build_here(
        self, planned: ModuleOp, *, isa: str | None = None, emulate: bool = False
    ) -> dict[str, bytes]:
        self._no_artifact()

    def load(
        self,
        files: Mapping[str, bytes | Path],
        program: Program,
        weights: npt.NDArray[np.uint8],
        *,
        threads: int | None = None,
        isa: str | None = None,
    ) -> Executable:
        self._no_artifact()

    def _no_artifact(self) -> NoReturn:
        raise CompileError(
            f"target '{self.name}' makes hardware, not an artifact that runs here: "
            "sterna compile CHECKPOINT --target verilog -o FOLDER"
        )
