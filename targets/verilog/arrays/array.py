"""What every array is to the stage around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Adders = Literal["carry chains", "ternary adders"]
"""How a family of devices adds: two operands a carry chain, or three, compressed by 6-input look-up tables before
it."""


@dataclass(frozen=True, kw_only=True)
class Array:
    """A dot-product array in Verilog: `rows` sums of `columns` products in every cycle.

    Ports: `clock`, `advance` (a cycle counts only if it is high), `x` (columns * activation_bits bits), and,
    where weights are streamed, `w` (rows * columns * weight_bits / columns bits) and `first`; `y` (rows *
    sum_bits bits) follows `latency` cycles later.
    """

    module: str
    modules: Mapping[str, str]
    """Verilog by module: it, and those of its own that it instantiates beside modules of the library."""
    rows: int
    columns: int
    activation_bits: int
    sum_bits: int
    latency: int

    @property
    def source(self) -> str:
        return "\n".join(self.modules.values())


def signed_bits(low: int, high: int) -> int:
    """The least width of two's complement that holds every integer in [low, high]."""
    return max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1


def dot_product_bounds(columns: int, activation_bits: int) -> tuple[int, int]:
    """What a sum of ternary products can be: an activation of -2^(b-1) may be negated, so the bound is symmetric."""
    bound = columns << (activation_bits - 1)
    return -bound, bound
