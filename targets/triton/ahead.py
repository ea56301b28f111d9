"""Compiles the kernels of a planned module ahead of time, for a GPU that need not be here: `--emit ttir`, `--emit ptx`.

Each kernel is compiled as the launcher would: pointers at multiples of 16 bytes, and for the constants that are tuned
the example that its parameters carry, in each of the ways that it has.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.errors import CompileError
from sterna.targets.triton.emitter import Emitter
from sterna.targets.triton.engine import INTERPRETER, device_names, interprets_here, load_file
from sterna.targets.triton.products import FEW_ROWS, MANY_ROWS
from sterna.targets.triton.source import Kernel

DEFAULT = "cuda:90"
ISA = re.compile(r"cuda:(\d+)|hip:(gfx\w+)")
WAVE_OF_64 = ("gfx9",)
"""AMD's architectures of which 64 threads run together."""


@dataclass(frozen=True)
class Compiled:
    """One kernel with one set of constants: the texts of its stages by name, and what Triton says of it."""

    name: str
    constants: Mapping[str, Any]
    texts: Mapping[str, Any]
    shared_bytes: int


def compile_module(planned: ModuleOp, kind: str, isa: str | None) -> str:
    """The text of every kernel in one stage, one after the other."""
    isa = isa or next((name for name, _ in device_names()), DEFAULT)
    target_of(isa)
    if kind == "ptx" and not isa.startswith("cuda:"):
        raise CompileError(f"there is no PTX for {isa}: expected --isa cuda:NN, as in cuda:80 and cuda:90")
    return "\n".join(
        f"// {each.name} {', '.join(f'{name}={value}' for name, value in each.constants.items())}\n"
        f"{each.texts[kind]}"
        for each in compile_kernels(planned, isa)
    )


def target_of(isa: str) -> Any:
    """What Triton calls it; CompileError for a name that is none."""
    found = ISA.fullmatch(isa)
    if found is None:
        raise CompileError(
            f"no instruction set '{isa}' to compile for: expected cuda:NN (cuda:80, cuda:90) or hip:gfxNNN (hip:gfx942)"
        )
    gpu_target = import_triton("triton.backends.compiler").GPUTarget
    if found[1] is not None:
        return gpu_target("cuda", int(found[1]), 32)
    return gpu_target("hip", found[2], 64 if found[2].startswith(WAVE_OF_64) else 32)


def compile_kernels(planned: ModuleOp, isa: str) -> Iterator[Compiled]:
    """Every kernel in every way that it has."""
    target = target_of(isa)
    if interprets_here():
        raise CompileError(
            f"kernels cannot be compiled while Triton interprets (TRITON_INTERPRET is set); '{INTERPRETER}' has no code"
        )
    emitter = Emitter(planned)
    with TemporaryDirectory(prefix="sterna-") as folder:
        path = Path(folder) / "kernels.py"
        path.write_text(emitter.text(), encoding="utf-8")
        module: Any = load_file(path)
        constant = type(module.OVERLAP)
        module.PTX = constant(target.backend == "cuda")
        module.OVERLAP = constant(target.backend == "cuda" and target.arch >= 90)
        for name, kernel in emitter.file.kernels.values():
            if kernel.is_function:
                continue
            function = getattr(module, name)
            for constants in ways(kernel):
                yield compile_kernel(
                    name, kernel, function.kernel if kernel.tuned else function, constants, target
                )


def ways(kernel: Kernel) -> list[dict[str, Any]]:
    if kernel.tuned:
        declared = {param.name for param in kernel.params if param.type == "constexpr"}
        return [{name: way[name] for name in declared} for way in (FEW_ROWS, MANY_ROWS)]
    constants = {param.name: param.value for param in kernel.params if param.type == "constexpr"}
    switches = [name for name, example in constants.items() if isinstance(example, bool)]
    values = (True, False) if switches else (None,)
    return [constants | dict.fromkeys(switches, value) for value in values]


def compile_kernel(
    name: str, kernel: Kernel, function: Any, constants: Mapping[str, Any], target: Any
) -> Compiled:
    compiler = import_triton("triton.compiler")
    source = compiler.ASTSource(
        function,
        signature={param.name: param.type for param in kernel.params},
        constexprs=constants,
        attrs={
            (n,): [["tt.divisibility", 16]]
            for n, param in enumerate(kernel.params)
            if param.type.startswith("*")
        },
    )
    warps = 8 if constants.get("MANY") else kernel.num_warps
    options: dict[str, Any] = {"enable_fp_fusion": False, "num_warps": warps}
    if target.backend == "cuda" and target.arch >= 90:
        options["launch_pdl"] = True
    if target.backend == "cuda" and kernel.registers is not None:
        options["maxnreg"] = kernel.registers
    try:
        found = compiler.compile(source, target=target, options=options)
    except Exception as error:
        raise CompileError(f"{name}: Triton cannot compile it: {type(error).__name__}: {error}") from None
    texts = {stage: text for stage, text in found.asm.items() if isinstance(text, str)}
    return Compiled(name, constants, texts, found.metadata.shared)


def import_triton(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise CompileError("compiling for GPUs needs triton: pip install 'sterna[triton]'") from None
