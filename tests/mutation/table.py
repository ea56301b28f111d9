"""All mutants, by area."""

from __future__ import annotations

from tests.mutation import attention, fixed_point, frontends, kernels, passes, semantics
from tests.mutation.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *semantics.MUTANTS,
    *passes.MUTANTS,
    *kernels.MUTANTS,
    *attention.MUTANTS,
    *frontends.MUTANTS,
    *fixed_point.MUTANTS,
)
