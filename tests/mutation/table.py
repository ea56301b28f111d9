"""All mutants, by area."""

from __future__ import annotations

from tests.mutation import (
    attention,
    fixed_point,
    frontends,
    gpu_kernels,
    gpu_runtime,
    kernels,
    passes,
    semantics,
)
from tests.mutation.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *semantics.MUTANTS,
    *passes.MUTANTS,
    *kernels.MUTANTS,
    *attention.MUTANTS,
    *gpu_runtime.MUTANTS,
    *gpu_kernels.MUTANTS,
    *frontends.MUTANTS,
    *fixed_point.MUTANTS,
)
