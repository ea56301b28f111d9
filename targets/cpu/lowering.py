"""Planned IR to LLVM IR text: the CPU's lowering passes in their order."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.transforms.convert_scf_to_cf import ConvertScfToCf

from sterna.dialects.context import make_context
from sterna.targets.cpu.convert_ternary_to_loops import ConvertTernaryToLoopsPass
from sterna.targets.cpu.convert_to_llvm import ConvertToLLVMPass
from sterna.targets.cpu.isa import Isa
from sterna.targets.cpu.translate import translate_module

__all__ = ["ConvertTernaryToLoopsPass", "ConvertToLLVMPass", "llvm_ir"]


def llvm_ir(planned: ModuleOp, isa: Isa) -> str:
    """LLVM IR of a planned module, which stays as it is: without the runtime, and not optimised."""
    module = planned.clone()
    context = make_context()
    for step in (ConvertTernaryToLoopsPass(isa.name), ConvertScfToCf(), ConvertToLLVMPass()):
        step.apply(context, module)
    return translate_module(module)
