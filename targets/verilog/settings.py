"""What the command line says about a design, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from sterna.dialects.errors import CompileError
from sterna.dialects.stream_types import MEMORY_WIDTHS
from sterna.targets.options import TargetOption
from sterna.targets.verilog.devices import DEVICES, ROUTABLE, Device, find_device
from sterna.targets.verilog.external_memory import PLACEMENTS, OutsideMemory, Placement

Output = Literal["tokens", "logits"]
Tool = Literal["none", "yosys", "nextpnr"]

OPTIONS = (
    TargetOption("device", "NAME", f"The chip: {', '.join(DEVICES)}.", "ecp5-85k"),
    TargetOption(
        "budget",
        "lut=N,bram=N,…",
        f"What the design may take; default: {ROUTABLE:.0%} of the chip's lut and ff, all its bram and dsp.",
    ),
    TargetOption("clock", "MHZ", "The clock that is aimed at, as 50MHz; default: the chip's own."),
    TargetOption(
        "goal",
        "tokens_per_s=N",
        "As many tokens a second, and no more hardware; default: all the budget gives.",
    ),
    TargetOption("interval", "CYCLES", "Fold every stage to so many cycles a token, instead of choosing."),
    TargetOption("sequences", "N", "Texts that the pipeline works on side by side, each with a state.", "1"),
    TargetOption(
        "result", "tokens|logits", "What leaves: the likeliest next token, or all logits.", "tokens"
    ),
    TargetOption(
        "weights",
        "auto|on-chip|external",
        "Where the arrays' weights are: in the chip, in the memory beside it, or there only as far as they do not fit.",
        "auto",
    ),
    TargetOption("memory-width", "BITS", "Of a word of that memory, one a cycle: 64, 128, 256 or 512.", "64"),
    TargetOption(
        "memory-latency",
        "CYCLES",
        "Of that memory, from an address to its data: how far to read ahead.",
        "16",
    ),
    TargetOption(
        "synthesis",
        "none|yosys|nextpnr",
        "Run the tools and put what they say into the report (minutes).",
        "none",
    ),
)

BUDGETED = ("lut", "ff", "bram", "dsp")


@dataclass(frozen=True)
class Settings:
    device: Device
    budget: Mapping[str, int]
    clock_mhz: int
    tokens_per_second: int
    interval: int
    sequences: int
    output: Output
    synthesis: Tool
    weights: Placement
    memory: OutsideMemory

    @staticmethod
    def of(values: Mapping[str, str]) -> Settings:
        """CompileError, naming the option, for what is none of its values."""
        device = find_device(values["device"])
        synthesis = _one_of("synthesis", values["synthesis"], get_args(Tool))
        if synthesis == "nextpnr" and device.family != "ecp5":
            raise CompileError(
                f"--synthesis nextpnr places on ecp5-85k only, not on {device.name}: use yosys"
            )
        goal = _pairs("goal", values["goal"], ("tokens_per_s",))
        return Settings(
            device=device,
            budget=_pairs("budget", values["budget"], BUDGETED),
            clock_mhz=_megahertz(values["clock"]) if values["clock"] else round(device.clock_mhz),
            tokens_per_second=goal.get("tokens_per_s", 0),
            interval=_number("interval", values["interval"]) if values["interval"] else 0,
            sequences=_number("sequences", values["sequences"]),
            output=cast(Output, _one_of("result", values["result"], get_args(Output))),
            synthesis=cast(Tool, synthesis),
            weights=cast(Placement, _one_of("weights", values["weights"], PLACEMENTS)),
            memory=OutsideMemory(
                int(_one_of("memory-width", values["memory-width"], tuple(map(str, MEMORY_WIDTHS)))),
                _number("memory-latency", values["memory-latency"]),
            ),
        )

    def folding(self) -> str:
        """The options of `fold-stages`."""
        options = {
            "interval": self.interval,
            "device": f'"{self.device.name}"',
            "clock-mhz": self.clock_mhz,
            "tokens-per-second": self.tokens_per_second,
            "sequences": self.sequences,
            **self.budget,
            **self._memory(),
        }
        return " ".join(f"{name}={value}" for name, value in options.items())

    def placing(self) -> str:
        """The options of `place-weights`."""
        options = {"device": f'"{self.device.name}"', "sequences": self.sequences, **self._memory()}
        if "bram" in self.budget:
            options["bram"] = self.budget["bram"]
        return " ".join(f"{name}={value}" for name, value in options.items())

    def _memory(self) -> dict[str, int | str]:
        return {
            "weights": f'"{self.weights}"',
            "memory-width": self.memory.width,
            "memory-latency": self.memory.latency,
        }


def _number(option: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) < 1:
        raise CompileError(f"--{option} is a number from 1, not '{text}'")
    return int(text)


def _megahertz(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,6})\s*(?:mhz)?", text, re.IGNORECASE)
    if found is None or int(found[1]) < 1:
        raise CompileError(f"--clock is a number of MHz, as 100MHz, not '{text}'")
    return int(found[1])


def _one_of(option: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise CompileError(f"--{option} is one of {', '.join(choices)}, not '{text}'")
    return text


def _pairs(option: str, text: str, names: tuple[str, ...]) -> dict[str, int]:
    """Of `name=number,name=number`."""
    pairs: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        if name not in names or not re.fullmatch(r"[0-9]{1,12}", number) or int(number) < 1:
            raise CompileError(
                f"--{option} is of the form {','.join(f'{each}=N' for each in names)}, not '{text}'"
            )
        pairs[name] = int(number)
    return pairs
