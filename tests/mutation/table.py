"""All mutants, by area."""

from __future__ import annotations

from tests.mutation import fixed_point, frontends, kernels, passes, semantics
from tests.mutation.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *semantics.MUTANTS,
    *passes.MUTANTS,
    *kernels.MUTANTS,
    *frontends.MUTANTS,
    *fixed_point.MUTANTS,
)
