"""Instruction sets that kernels are specialised for, and the choice of one for a machine."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from typing import cast

from sterna.dialects.errors import CompileError


@dataclass(frozen=True)
class Isa:
    """A level of an instruction set.

    A machine is judged by feature flags, never by its CPU's name: virtual machines misname theirs.
    """

    name: str
    machine: str
    """As `platform.machine()` says it; empty for the level that runs anywhere."""
    requires: tuple[str, ...]
    """Feature flags in LLVM's words; the code may use all of them, and a host must have all of them."""

    @property
    def features(self) -> str:
        """LLVM's feature string."""
        return ",".join(f"+{flag}" for flag in self.requires)

    def missing(self, machine: str, flags: frozenset[str]) -> tuple[str, ...]:
        """What a host lacks to run this level."""
        if self.machine and machine != self.machine:
            return (self.machine,)
        return tuple(flag for flag in self.requires if flag not in flags)


# The kernels need avx2 alone for that level; a CPU with it has the others, and LLVM uses them for index
# arithmetic. fma stays out on purpose: without it nothing can contract a multiplication and an addition.
_AVX2 = ("sse4.2", "popcnt", "avx", "avx2", "bmi", "bmi2", "lzcnt")

ISAS: tuple[Isa, ...] = (
    Isa("avx512vnni", "x86_64", (*_AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni")),
    Isa("avx2", "x86_64", _AVX2),
    Isa("baseline", "", ()),
)
"""Strongest first."""

ENVIRONMENT_VARIABLE = "STERNA_ISA"


def find_isa(name: str) -> Isa:
    """The instruction set of that name; CompileError for an unknown one."""
    for isa in ISAS:
        if isa.name == name:
            return isa
    raise CompileError(
        f"unknown instruction set '{name}', expected one of: {', '.join(i.name for i in ISAS)}"
    )


@cache
def host_flags() -> frozenset[str]:
    """Features of this CPU that the operating system lets programs use."""
    import llvmlite.binding as llvm  # pyright: ignore[reportMissingTypeStubs]

    features = cast("dict[str, bool]", llvm.get_host_cpu_features())
    return frozenset(flag for flag, present in features.items() if present)


def best_isa() -> Isa:
    """The strongest level that this machine runs."""
    return next(isa for isa in ISAS if not isa.missing(platform.machine(), host_flags()))


def choose_isa(name: str | None = None) -> Isa:
    """The named level, else the one in STERNA_ISA, else the best; CompileError if this machine cannot run it."""
    asked = name or os.environ.get(ENVIRONMENT_VARIABLE)
    if not asked:
        return best_isa()
    isa = find_isa(asked)
    if lacking := isa.missing(platform.machine(), host_flags()):
        raise CompileError(
            f"this machine cannot run instruction set '{isa.name}': it lacks {', '.join(lacking)}; "
            f"'{best_isa().name}' is the best it runs"
        )
    return isa
