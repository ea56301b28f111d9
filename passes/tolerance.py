"""How far a pass may move the results of a program. A pass that says nothing keeps every bit.

class FuseNormQuantizePass(ModulePass):
    tolerance: ClassVar[Tolerance] = Tolerance(2**-6, "a norm's roundings move, and with them single int8 steps")
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """Every element of a result stays within `relative` times the largest magnitude of that result before the pass."""

    relative: float
    why: str


EXACT = Tolerance(0.0, "the pass keeps every bit")


def tolerance_of(rewrite: object) -> Tolerance:
    """What a pass states in its class attribute `tolerance`."""
    stated = getattr(rewrite, "tolerance", EXACT)
    assert isinstance(stated, Tolerance), "`tolerance` of a pass is a Tolerance"
    return stated
