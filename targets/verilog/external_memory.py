"""How weights lie in the memory outside the chip.

An array reads its weights a step at a time, a few bits or some thousand. Steps that are narrower than the memory
stand several in a word of it, as many as divide the steps of a row, so that every row begins with a word; wider
ones take some words each. What is left of a word is zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from sterna.dialects.errors import CompileError
from sterna.dialects.stream import ArrayOp, weight_bits
from sterna.dialects.stream_types import MEMORY_WIDTHS, PAGE, RegionAttr, rows_type

BURST = 16
"""Words that are asked for at a time: with 64 to 512 bits a power of two below a page."""
ADDRESSES = 1 << 32
"""Bytes that the reader can address."""


LONGEST_LATENCY = 1024

Placement = Literal["auto", "on-chip", "external"]
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)


@dataclass(frozen=True)
class OutsideMemory:
    """The memory beside the chip, as its AXI4 port shows it."""

    width: int = 64
    """Bits of a word, one of which comes in a cycle at best."""
    latency: int = 16
    """Cycles from an address to its first word that the queues make up for."""

    def __post_init__(self) -> None:
        if self.width not in MEMORY_WIDTHS:
            raise CompileError(f"the memory has {', '.join(map(str, MEMORY_WIDTHS))} bits, not {self.width}")
        if not 0 < self.latency <= LONGEST_LATENCY:
            raise CompileError(f"the memory's latency is 1 to {LONGEST_LATENCY} cycles, not {self.latency}")


def placement(text: str) -> Placement:
    if text not in PLACEMENTS:
        raise CompileError(f"weights are {', '.join(PLACEMENTS)}, not '{text}'")
    return text


@dataclass(frozen=True)
class Packing:
    """`steps` of `bits` each in words of `width` bits."""

    steps: int
    bits: int
    width: int

    @property
    def steps_a_word(self) -> int:
        """1 also where a step takes several words."""
        most = max(self.width // self.bits, 1)
        return max(n for n in range(1, most + 1) if self.steps % n == 0)

    @property
    def words_a_step(self) -> int:
        return -(-self.bits // self.width)

    @property
    def words(self) -> int:
        return self.steps // self.steps_a_word * self.words_a_step

    def pack(self, codes: npt.NDArray[Any], code_bits: int) -> bytes:
        """The words of codes `[steps, codes a step]`, the first code in the lowest bits, little end first."""
        bits = (codes[..., None].astype(np.uint8) >> np.arange(code_bits, dtype=np.uint8)) & 1
        groups = bits.reshape(self.steps // self.steps_a_word, -1)
        room = self.words_a_step * self.width
        words = np.pad(groups, ((0, 0), (0, room - groups.shape[1])))
        return np.packbits(words, axis=1, bitorder="little").tobytes()


def packing(op: ArrayOp, width: int) -> Packing:
    """Of an array's weights, folded as it is, in a memory of that width."""
    x, y = rows_type(op.x), rows_type(op.result)
    return Packing(x.beats * y.beats, weight_bits(op.design.data, y, x), width)


def words_ahead(latency: int) -> int:
    """How many words a queue holds, so that bursts come without a pause from a memory that answers after `latency`
    cycles: those on their way, and the burst that is being used."""
    return max(-(-latency // BURST) * BURST, BURST) + BURST


def pages(size: int) -> int:
    """Bytes of the whole pages that so many take."""
    return -(-size // PAGE) * PAGE


def memory_image_of(regions: dict[RegionAttr, bytes]) -> bytes:
    """What the memory outside holds, from its first byte on."""
    image = bytearray(max((region.at.data + pages(region.bytes) for region in regions), default=0))
    for region, content in regions.items():
        image[region.at.data : region.at.data + len(content)] = content
    return bytes(image)
