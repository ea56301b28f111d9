"""Devices to fit a design to: what they have, and which tools know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sterna.dialects.errors import CompileError
from sterna.targets.verilog.arrays.array import Adders

Family = Literal["ecp5", "xc7", "xcup"]


@dataclass(frozen=True)
class Resources:
    """What a design takes of a device, or what a device has."""

    lut: int = 0
    """Look-up tables that compute, those in front of a carry chain included."""
    lut_memory: int = 0
    """Look-up tables that remember."""
    ff: int = 0
    bram: float = 0
    """Memory blocks: 18 kbit on ECP5, 36 kbit on Xilinx."""
    dsp: int = 0
    """Multipliers of 18 x 18 bits on ECP5, of 25 x 18 and more on Xilinx."""

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.lut + other.lut,
            self.lut_memory + other.lut_memory,
            self.ff + other.ff,
            self.bram + other.bram,
            self.dsp + other.dsp,
        )

    def counts(self) -> dict[str, float]:
        """By what data sheets call them; all look-up tables are one number."""
        return {"LUT": self.lut + self.lut_memory, "FF": self.ff, "BRAM": self.bram, "DSP": self.dsp}

    def exceeds(self, budget: Resources) -> str | None:
        """The first resource that the budget has too little of, in words."""
        available = budget.counts()
        lacking = [
            f"{used:.0f} {name} of {available[name]:.0f}"
            for name, used in self.counts().items()
            if used > available[name]
        ]
        return lacking[0] if lacking else None


ROUTABLE = 0.7
"""Of look-up tables and flip-flops. With three quarters of an LFE5U-85F in use, nextpnr found no routes in an hour."""


@dataclass(frozen=True)
class Device:
    """A chip. The sizes are its makers' (Lattice FPGA-DS-02012; AMD DS180, DS922, DS923); `generic` is none in
    particular."""

    name: str
    part: str
    family: Family
    resources: Resources
    clock_mhz: float
    """What is aimed at unless another clock is asked for."""

    @property
    def budget(self) -> Resources:
        """What a design may take unless told otherwise: wires need room among look-up tables and flip-flops."""
        has = self.resources
        return Resources(lut=int(ROUTABLE * has.lut), ff=int(ROUTABLE * has.ff), bram=has.bram, dsp=has.dsp)

    @property
    def adders(self) -> Adders:
        return adders_of(self.family)


DEVICES = {
    device.name: device
    for device in (
        Device("ecp5-85k", "LFE5U-85F", "ecp5", Resources(83_640, 0, 83_640, 208, 156), 50),
        Device("xc7a200t", "XC7A200T", "xc7", Resources(134_600, 0, 269_200, 365, 740), 100),
        Device("xcku5p", "XCKU5P", "xcup", Resources(216_960, 0, 433_920, 480, 1_824), 200),
        Device("xcvu9p", "XCVU9P", "xcup", Resources(1_182_240, 0, 2_364_480, 2_160, 6_840), 200),
        Device("generic", "any", "xc7", Resources(100_000, 0, 200_000, 300, 400), 100),
    )
}


def adders_of(family: Family) -> Adders:
    return "carry chains" if family == "ecp5" else "ternary adders"


def find_device(name: str) -> Device:
    if (device := DEVICES.get(name)) is None:
        raise CompileError(f"unknown device '{name}', expected one of: {', '.join(DEVICES)}")
    return device


def memory_blocks(words: int, bits: int, family: Family) -> float:
    """Blocks of a memory of so many words, in the best of the shapes that a block has."""
    if family == "ecp5":
        shapes = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
        return float(min(-(-words // deep) * -(-bits // wide) for deep, wide in shapes))
    halves = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
    return min(-(-words // deep) * -(-bits // wide) for deep, wide in halves) / 2


def memory_choices(words: int, family: Family) -> int:
    """Look-up tables a bit that choose among the blocks of a deep memory."""
    blocks = -(-words // 1024)
    return -(-2 * (blocks - 1) // 3) if family == "ecp5" else -(-(blocks - 1) // 3)


def multiplier_blocks(left: int, right: int, family: Family) -> int:
    """Multipliers of the device that a product of signed operands of those widths takes."""
    wide, narrow = max(left, right), min(left, right)
    if narrow <= 1:
        return 0
    if family == "ecp5":
        return -(-wide // 18) * -(-narrow // 18)
    return -(-wide // 25) * -(-narrow // 18) if wide > 25 or narrow > 18 else 1


def lut_memory(words: int, bits: int, family: Family) -> int:
    """Look-up tables of a small memory with one port to read."""
    if family == "ecp5":
        return -(-words // 16) * -(-bits // 4) * 4
    return -(-words // 32) * -(-bits // 6) * 4
