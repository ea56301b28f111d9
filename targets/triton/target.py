"""The GPU target: planned IR to one Python file of Triton kernels, and that file to an executable.

The compiler, torch and triton are imported by the methods that need them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sterna.dialects.errors import CompileError
from sterna.targets import TO_FUSED
from sterna.targets.options import (
    ENCODING,
    TargetOption,
    encoding_option,
    one_of,
    option_values,
    pipeline_text,
)
from sterna.targets.triton.engine import INTERPRETER, device_names
from sterna.targets.triton.executable import TritonExecutable, choose_isa

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp
    from xdsl.passes import ModulePass

    from sterna.targets.program import Program

KERNELS = "kernels.py"
TABLES = TargetOption(
    "tables",
    "device|host",
    "Where tables lie of which a token reads one row, as an embedding's: on the device, or in the host's memory, whose "
    "rows kernels read over the bus: less memory taken on the device.",
    "device",
)

PIPELINE = (
    *TO_FUSED,
    "fuse-loops",
    "choose-encodings",
    "outline-layers",
    "plan-memory",
)
"""As the CPU's, but functions of `math` stay: the file has each of them once, as a function."""


@dataclass(frozen=True)
class TritonTarget:
    """`configured` gives the same target with another encoding of weights, and another place of tables."""

    name: ClassVar = "triton"
    emits: ClassVar = ("triton", "ttir", "ptx")

    options: ClassVar = (ENCODING, TABLES)

    encoding: str = ENCODING.default
    tables: str = TABLES.default

    def configured(self, values: Mapping[str, str]) -> TritonTarget:
        values = option_values(self.name, self.options, values)
        return TritonTarget(encoding_option(values), one_of(TABLES, values, ("device", "host")))

    def describe_host(self) -> list[str]:
        lines = [f"{isa:12} {name}" for isa, name in device_names()] or ["no GPU that torch can use"]
        return [*lines, f"{INTERPRETER:12} Triton's interpreter, on the CPU: slow, for tests"]

    def passes(self) -> dict[str, type[ModulePass]]:
        return {}

    def pipeline(self, *, max_rows: int = 64) -> str:
        options = {"choose-encodings": f"encoding={self.encoding}", "plan-memory": f"max-rows={max_rows}"}
        return pipeline_text(PIPELINE, options)

    def emit(self, planned: ModuleOp, kind: str, *, isa: str | None = None) -> str:
        from sterna.targets.triton.emitter import emit_module

        match kind:
            case "triton":
                return emit_module(planned, tables_on_host=self.tables == "host")
            case "ttir" | "ptx":
                from sterna.targets.triton.ahead import compile_module

                return compile_module(planned, kind, isa)
            case _:
                raise CompileError(f"target 'triton' emits {', '.join(self.emits)}, not '{kind}'")

    def build(self, planned: ModuleOp) -> dict[str, bytes]:
        """The file: it is compiled for the GPU that runs it when it first does."""
        return {KERNELS: self.emit(planned, "triton").encode()}

    def levels(self, *, emulated: bool = False) -> tuple[str, ...]:
        """The instruction sets of the GPUs here; `emulated`: what runs everywhere."""
        if emulated:
            return (INTERPRETER,)
        return tuple(dict.fromkeys(isa for isa, _ in device_names()))

    def build_here(
        self, planned: ModuleOp, *, isa: str | None = None, emulate: bool = False
    ) -> dict[str, bytes]:
        """The same file: there is one for all."""
        choose_isa(INTERPRETER if emulate else isa)
        return self.build(planned)

    def load(
        self,
        files: Mapping[str, bytes | Path],
        program: Program,
        weights: npt.NDArray[np.uint8],
        *,
        threads: int | None = None,
        isa: str | None = None,
    ) -> TritonExecutable:
        if KERNELS not in files:
            raise CompileError(f"the artifact has no {KERNELS}")
        file: Any = files[KERNELS]
        return TritonExecutable(file, program, weights, isa=isa, threads=threads)
