"""The CPU target: kernels specialised by shape and instruction set, through the `llvm` dialect and LLVM."""

from sterna.targets.cpu.target import CpuTarget

__all__ = ["CpuTarget"]
