"""How many bits the numbers of a fixed-point program have, and where their binary points are."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from sterna.dialects.errors import CompileError

FARTHEST_POINT = 48
"""A value that is always zero, or tiny, gets no finer binary point."""


LIMITS: dict[str, tuple[int, int]] = {
    "activations": (8, 20),
    "residual": (8, 26),
    "state": (8, 25),
    "gains": (8, 20),
    "reciprocal": (18, 32),
    "headroom": (0, 8),
}
"""The least and the most bits of each: no product needs more than 63, and a state is an f32 without loss."""


@dataclass(frozen=True)
class Format:
    """Signed integers of `width` bits that stand for x * 2^-point."""

    width: int
    point: int

    @classmethod
    def holding(cls, largest: float, width: int) -> Format:
        """The finest format of that width whose range includes -largest to largest; CompileError for no number."""
        if not math.isfinite(largest):
            raise CompileError("a number that is to be held in fixed point is not finite")
        point = FARTHEST_POINT if largest <= 0 else min(width - 1 - math.frexp(largest)[1], FARTHEST_POINT)
        # frexp's power of two may be one too large for a largest that is a power of two itself, or all but.
        while point < FARTHEST_POINT and largest * 2.0 ** (point + 1) <= (1 << width - 1) - 1:
            point += 1
        while largest * 2.0**point > (1 << width - 1) - 1:
            point -= 1
        return cls(width, point)

    @property
    def largest(self) -> float:
        return ((1 << self.width - 1) - 1) * 2.0**-self.point


@dataclass(frozen=True)
class Widths:
    """Bits of every kind of number in the program."""

    activations: int = 18
    """Projections, gates, and what is normed: both operands of a multiplication fit one 18 x 18 multiplier."""
    residual: int = 20
    """The residual stream."""
    state: int = 24
    """The recurrent state, whose rounding errors add up over many tokens."""
    gains: int = 18
    """Weights of norms, lower bounds and other vectors; the embedding has the width of the residual stream."""
    reciprocal: int = 25
    """127 / max|y| of a row: its range is that of the rows' magnitudes."""
    headroom: int = 1
    """Bits above the largest magnitude that calibration saw."""

    def check(self) -> None:
        """CompileError for a width that is not within its limits."""
        for each in fields(self):
            least, most = LIMITS[each.name]
            if not least <= (found := getattr(self, each.name)) <= most:
                raise CompileError(f"{each.name} is from {least} to {most} bits, found {found}")
