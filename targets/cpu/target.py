"""The CPU target: planned IR to LLVM IR, assembly and objects, and objects to executables.

The compiler is imported by the methods that compile: loading an artifact must not wait for it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sterna.dialects.errors import CompileError
from sterna.targets import TO_FUSED
from sterna.targets.cpu import codegen
from sterna.targets.cpu.executable import CpuExecutable
from sterna.targets.cpu.isa import ISAS, Isa, best_isa, choose_isa, find_isa, host_flags
from sterna.targets.options import ENCODING, encoding_option, option_values, pipeline_text

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp
    from xdsl.ir import Operation
    from xdsl.passes import ModulePass

    from sterna.targets.program import Program

PORTABLE = "kernels.ll"
ENTRY = "forward"

PIPELINE = (
    *TO_FUSED,
    "fuse-loops",
    "expand-math",
    "choose-encodings",
    "outline-layers",
    "plan-memory",
)


def object_name(isa: Isa) -> str:
    return f"kernels.{isa.name}.o"


def emulated_name(isa: str) -> str:
    return f"kernels.{isa}.emulated.o"


@dataclass(frozen=True)
class CpuTarget:
    """`configured` gives the same target with another encoding of weights."""

    name: ClassVar = "cpu"
    emits: ClassVar = ("llvm", "asm")
    takes_threads: ClassVar = True
    """Whoever loads a program chooses the number of threads; a target without this has its own way."""

    options: ClassVar = (ENCODING,)

    encoding: str = ENCODING.default

    def configured(self, values: Mapping[str, str]) -> CpuTarget:
        return CpuTarget(encoding_option(option_values(self.name, self.options, values)))

    def describe_host(self) -> list[str]:
        flags, machine = host_flags(), platform.machine()
        lines = [f"{machine}, {len(os.sched_getaffinity(0))} processors; instruction sets:"]
        for isa in ISAS:
            lacking = isa.missing(machine, flags)
            state = f"lacks {', '.join(lacking)}" if lacking else "runs"
            lines.append(f"  {isa.name:12} {state}{' (the default)' if isa == best_isa() else ''}")
        return lines

    def passes(self) -> dict[str, type[ModulePass]]:
        from sterna.targets.cpu.lowering import ConvertTernaryToLoopsPass, ConvertToLLVMPass

        passes: tuple[type[ModulePass], ...] = (ConvertTernaryToLoopsPass, ConvertToLLVMPass)
        return {each.name: each for each in passes}

    def pipeline(self, *, max_rows: int = 64) -> str:
        options = {"choose-encodings": f"encoding={self.encoding}", "plan-memory": f"max-rows={max_rows}"}
        return pipeline_text(PIPELINE, options)

    def emit(self, planned: ModuleOp, kind: str, *, isa: str | None = None) -> str:
        from sterna.targets.cpu.lowering import llvm_ir

        chosen = find_isa(isa) if isa is not None else best_isa()
        source = llvm_ir(planned, chosen)
        match kind:
            case "llvm":
                return source
            case "asm":
                return codegen.assembly(source, codegen.triple_of(chosen), chosen.features)
            case _:
                raise CompileError(f"target 'cpu' emits {', '.join(self.emits)}, not '{kind}'")

    def symbols(self, planned: ModuleOp) -> dict[Operation, str]:
        """Which symbol of the emitted code implements which operation of a planned module."""
        from sterna.targets.cpu.symbols import kernel_symbols

        return kernel_symbols(planned)

    def build(self, planned: ModuleOp) -> dict[str, bytes]:
        """An object for each level of x86-64, and portable LLVM IR for every other machine."""
        from sterna.targets.cpu.lowering import llvm_ir

        sources = {isa: llvm_ir(planned, isa) for isa in ISAS}
        objects = {
            object_name(isa): codegen.compile_object(source, codegen.X86_TRIPLE, isa.features)
            for isa, source in sources.items()
        }
        return {**objects, PORTABLE: sources[ISAS[-1]].encode()}

    def levels(self, *, emulated: bool = False) -> tuple[str, ...]:
        """The instruction sets that this machine runs, strongest first; `emulated`: those that it can only emulate."""
        return tuple(
            isa.name for isa in ISAS if bool(isa.missing(platform.machine(), host_flags())) == emulated
        )

    def build_here(
        self, planned: ModuleOp, *, isa: str | None = None, emulate: bool = False
    ) -> dict[str, bytes]:
        """The object for one level: that this machine runs, or emulates."""
        from sterna.targets.cpu.lowering import llvm_ir

        if emulate and isa is not None:
            return {emulated_name(isa): self.build_object(planned, isa, emulate=True)}
        chosen = choose_isa(isa)
        source = llvm_ir(planned, chosen)
        if not codegen.host_is_x86():
            return {PORTABLE: source.encode()}
        return {object_name(chosen): codegen.compile_object(source, codegen.X86_TRIPLE, chosen.features)}

    def build_object(self, planned: ModuleOp, isa: str, *, emulate: bool = False) -> bytes:
        """The object for one level. With `emulate`, this machine runs it whatever it lacks, slowly."""
        from sterna.targets.cpu.lowering import llvm_ir

        chosen = find_isa(isa)
        triple = codegen.host_triple() if emulate else codegen.triple_of(chosen)
        features = "" if emulate else chosen.features
        return codegen.compile_object(llvm_ir(planned, chosen), triple, features, emulate=emulate)

    def load(
        self,
        files: Mapping[str, bytes | Path],
        program: Program,
        weights: npt.NDArray[np.uint8],
        *,
        threads: int | None = None,
        isa: str | None = None,
    ) -> CpuExecutable:
        if isa is not None and emulated_name(isa) in files:
            code = codegen.LoadedCode.of(_read(files[emulated_name(isa)]), emulated_name(isa))
            return CpuExecutable(code, ENTRY, program, weights, isa=isa, threads=threads)
        chosen = choose_isa(isa)
        code = codegen.LoadedCode.of(_object_for(files, chosen), object_name(chosen))
        return CpuExecutable(code, ENTRY, program, weights, isa=chosen.name, threads=threads)


def _object_for(files: Mapping[str, bytes | Path], isa: Isa) -> bytes:
    """The object for this machine: as built, or compiled now from the portable form."""
    if codegen.host_is_x86() and object_name(isa) in files:
        return _read(files[object_name(isa)])
    if PORTABLE not in files:
        raise CompileError(f"the artifact has neither {object_name(isa)} nor {PORTABLE}")
    source = _read(files[PORTABLE]).decode(errors="replace")
    return codegen.compile_object(source, codegen.host_triple(), "")


def _read(file: Any) -> bytes:
    return file.read_bytes() if isinstance(file, Path) else file
