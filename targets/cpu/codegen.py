"""LLVM IR text to machine code: link with the runtime, optimise, print as assembly, or emit an object."""

# llvmlite has no type information.
# pyright: basic

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import llvmlite.binding as llvm

from sterna.dialects.errors import CompileError
from sterna.targets.cpu.elf import check_object
from sterna.targets.cpu.isa import Isa

X86_TRIPLE = "x86_64-unknown-linux-gnu"
OPTIMISATION_LEVEL = 3

RELAX_X86 = """
declare void @llvm.x86.sse2.pause()
define internal void @relax() alwaysinline {
  call void @llvm.x86.sse2.pause()
  ret void
}
"""
RELAX_ANYWHERE = "define internal void @relax() alwaysinline { ret void }"


@cache
def _initialise() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@cache
def runtime_source(name: str) -> str:
    """One of the LLVM IR files beside this module."""
    return files("sterna.targets.cpu").joinpath(name).read_text()


def host_is_x86() -> bool:
    return platform.machine() == "x86_64"


def host_triple() -> str:
    return llvm.get_process_triple()


def triple_of(isa: Isa) -> str:
    """The triple that objects of that level are for; the level that runs anywhere is for this machine."""
    return X86_TRIPLE if isa.machine or host_is_x86() else host_triple()


def target_machine(triple: str, features: str) -> llvm.TargetMachine:
    _initialise()
    target = llvm.Target.from_triple(triple)
    return target.create_target_machine(
        features=features, opt=OPTIMISATION_LEVEL, reloc="pic", codemodel="small"
    )


def optimise(source: str, machine: llvm.TargetMachine, *, emulate: bool = False) -> llvm.ModuleRef:
    """Parses IR text, links the runtime in, and runs LLVM's default pipeline.

    With `emulate`, x86 intrinsics become calls of the functions in `emulation.ll`, which any machine runs,
    slowly.
    """
    runtime = [runtime_source("runtime.ll")]
    relax = RELAX_X86 if machine.triple.startswith("x86_64") else RELAX_ANYWHERE
    runtime[0] = runtime[0].replace("declare void @relax()", relax)
    if emulate:
        source = source.replace("@llvm.x86.", "@emulated.").replace('@"llvm.x86.', '@"emulated.')
        runtime.append(runtime_source("emulation.ll"))
    try:
        module = llvm.parse_assembly(source)
        entries = {function.name for function in module.functions if _is_visible(function)}
        for text in runtime:
            module.link_in(llvm.parse_assembly(text))
        module.verify()
    except RuntimeError as error:
        raise CompileError(f"LLVM rejects the program: {' '.join(str(error).split())}") from None
    for function in module.functions:
        if _is_visible(function) and function.name not in entries:
            function.linkage = "internal"
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    passes = llvm.create_pass_builder(machine, llvm.PipelineTuningOptions(speed_level=OPTIMISATION_LEVEL))
    passes.getModulePassManager().run(module, passes)
    return module


def _is_visible(function: llvm.ValueRef) -> bool:
    return not function.is_declaration and function.linkage == llvm.Linkage.external


def assembly(source: str, triple: str, features: str) -> str:
    machine = target_machine(triple, features)
    return machine.emit_assembly(optimise(source, machine))


def compile_object(source: str, triple: str, features: str, *, emulate: bool = False) -> bytes:
    """A relocatable object file (ELF) whose only visible functions are the program's entries."""
    machine = target_machine(triple, features)
    return machine.emit_object(optimise(source, machine, emulate=emulate))


@dataclass(frozen=True)
class LoadedCode:
    """An object in this process's memory; it stays there as long as this does."""

    engine: llvm.ExecutionEngine

    @staticmethod
    def of(object: bytes, name: str = "object") -> LoadedCode:
        """Loads an object file; `name` is for messages."""
        check_object(object, name)
        _initialise()
        machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine()
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        engine.add_object_file(llvm.ObjectFileRef.from_data(object))
        engine.finalize_object()
        return LoadedCode(engine)

    def address(self, function: str) -> int:
        address = self.engine.get_function_address(function)
        if not address:
            raise CompileError(f"the object has no function '{function}'")
        return address
