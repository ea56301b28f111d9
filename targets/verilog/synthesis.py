"""What Yosys and nextpnr say of a design."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sterna.targets.verilog import tools
from sterna.targets.verilog.design import Design
from sterna.targets.verilog.devices import Resources
from sterna.targets.verilog.settings import Settings

if TYPE_CHECKING:
    from sterna.progress import Progress

FMAX = re.compile(r"Max frequency for clock\s+'(?P<clock>[^']*)':\s+(?P<mhz>[0-9.]+) MHz")
NETLIST = "netlist.json"


@dataclass(frozen=True)
class Placed:
    """Of nextpnr."""

    fmax_mhz: float
    config: str
    """The bitstream's text form, by file name."""


@dataclass(frozen=True)
class SynthesisResult:
    resources: Resources
    parts: Mapping[str, Resources]
    """By module that the top instantiates."""
    warnings: tuple[str, ...]
    placed: Placed | None
    versions: dict[str, str]


def run_synthesis(
    design: Design, sources: list[Path], folder: Path, settings: Settings, progress: Progress
) -> SynthesisResult:
    """Minutes, for a whole model."""
    progress("synthesizing (Yosys)", 0, 1)
    found = tools.synthesize(
        design.top, sources, settings.device.family, folder, clock_mhz=settings.clock_mhz, netlist=NETLIST
    )
    placed = None
    if settings.synthesis == "nextpnr":
        progress("placing (nextpnr)", 0, 1)
        placed = place(design.top, folder, settings.clock_mhz)
    return SynthesisResult(found.resources, found.parts, found.warnings, placed, tools.versions())


def place(top: str, folder: Path, clock_mhz: int, *, netlist: str = NETLIST, seed: int = 1) -> Placed:
    """Places and routes for the LFE5U-85F. Pins are the tool's choice: a board's would be its own constraints."""
    config = f"{top}.config"
    log = tools.run_nextpnr(
        [
            "--85k", "--package", "CABGA756", "--json", netlist, "--textcfg", config, "--freq", str(clock_mhz),
            "--seed", str(seed), "--lpf-allow-unconstrained", "--timing-allow-fail",
        ],
        folder,
    )  # fmt: skip
    speeds = [float(match["mhz"]) for match in FMAX.finditer(log)]
    if not speeds:
        raise tools.ToolError("nextpnr gave no maximal frequency")
    return Placed(speeds[-1], config)
