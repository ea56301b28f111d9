"""The testbench of a design: C++ that drives its AXI4-Stream edges, with gaps and pauses at random, and Verilator's
model."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sterna.targets.verilog import tools
from sterna.targets.verilog.design import OUTSIDE
from sterna.targets.verilog.stages.top import TopPorts

TESTBENCH = Path(__file__).parent / "library" / "testbench.cpp"


def testbench_text(top: str, ports: TopPorts, traced: Mapping[str, int]) -> str:
    """The program; `traced` are streams of the top whose beats it records, with their bits."""
    inside = f"m.{top}__DOT__"
    streams = "\n".join(
        f"    trace({index}, {inside}{name}_valid && {inside}{name}_ready, {inside}{name}_data, {bits}, cycle);"
        for index, (name, bits) in enumerate(traced.items())
    )
    root = f'#include "V{top}___024root.h"' if traced else ""
    access = "auto& m = *dut.rootp;" if traced else ""
    text = TESTBENCH.read_text(encoding="utf-8")
    for key, value in {
        "@TOP@": top,
        "@ROOT@": root,
        "@RESULT_BITS@": str(ports.result_data),
        "@RESULT_BEATS@": str(ports.beats),
        "@MEMORY_BYTES@": str(ports.memory // 8),
        "@MEMORY_IMAGE@": OUTSIDE,
        "@TRACED@": f"{access}\n{streams}",
    }.items():
        text = text.replace(key, value)
    return text


def control_text(top: str, traced: Sequence[str]) -> str:
    """Verilator's configuration that lets the testbench see streams inside."""
    lines = [
        f'public_flat_rd -module "{top}" -var "{name}_{signal}"'
        for name in traced
        for signal in ("data", "valid", "ready")
    ]
    return "\n".join(["`verilator_config", *lines, ""])


LANGUAGE = ("-std=gnu++20",)
"""Testbenches with delays are coroutines."""
RUNTIME = ("verilated.cpp", "verilated_threads.cpp", "verilated_timing.cpp")


@dataclass(frozen=True)
class Beat:
    """A beat that left the design, or that a stream inside passed on."""

    stream: int
    """-1 for the result."""
    cycle: int
    data: int


@dataclass(frozen=True)
class Simulation:
    """A built model of a design."""

    program: Path
    folder: Path

    def run(
        self,
        tokens: Sequence[tuple[int, int, int]],
        *,
        generate: int = 0,
        input_gaps: int = 0,
        output_pauses: int = 0,
        seed: int = 1,
        wait: int = 0,
        memory_latency: int = 0,
        memory_stalls: int = 0,
        most_cycles: int = 100_000_000,
    ) -> tuple[list[Beat], int]:
        """Feeds (token, starts, sequence) and, after them, `generate` of its own results; its beats, and how many
        cycles it ran.

        Gaps, pauses and stalls of the memory are in 256ths of all cycles; it answers after up to `memory_latency`
        cycles. The first token waits for `wait` cycles, in which weights are read ahead. ToolError if the design stops
        without giving all its results, or breaks a rule of the memory's port.
        """
        source, sink = self.folder / f"tokens-{seed}.txt", self.folder / f"beats-{seed}.txt"
        source.write_text("".join(f"{token} {starts} {number}\n" for token, starts, number in tokens))
        options = (
            generate,
            input_gaps,
            output_pauses,
            seed,
            most_cycles,
            wait,
            memory_latency,
            memory_stalls,
        )
        tools.run_program([str(self.program), str(source), str(sink), *map(str, options)], self.folder)
        beats: list[Beat] = []
        cycles = 0
        for line in sink.read_text().splitlines():
            kind, cycle, data = line.split()
            if kind == "end":
                cycles = int(cycle)
            else:
                beats.append(Beat(int(kind), int(cycle), int(data, 16)))
        return beats, cycles


def build(
    top: str,
    sources: Sequence[Path],
    testbench: Path,
    folder: Path,
    *,
    stalls: bool = False,
    control: Path | None = None,
    optimize: int = 1,
) -> Simulation:
    """Verilates the design and compiles it with its testbench. Memory images are read from `folder`, where it also
    runs.

    `stalls` pauses every queue inside at random; `optimize` is the C++ compiler's level: 0 builds fast, and runs
    slowly.
    """
    objects = folder / f"obj{'_stalls' if stalls else ''}"
    options = [
        "--cc",
        "-O3",
        "--x-initial",
        "unique",
        "--top-module",
        top,
        "--prefix",
        f"V{top}",
        "--Mdir",
        str(objects),
    ]
    if stalls:
        options.append("-DSTERNA_STALLS")
    files = [*([control] if control else []), *sources]
    tools.run_verilator(
        ["-Wall", "-Wno-fatal", "--quiet", *options, *(str(file.resolve()) for file in files)], folder
    )
    return Simulation(_compile(top, objects, [testbench.resolve()], folder, optimize), folder)


def build_self_checking(top: str, sources: Sequence[Path], folder: Path) -> Path:
    """A program of a testbench that is Verilog itself, with delays; it fails where the testbench says `$fatal`."""
    objects = folder / "obj"
    options = [
        "--cc",
        "--main",
        "--timing",
        "--top-module",
        top,
        "--prefix",
        f"V{top}",
        "--Mdir",
        str(objects),
    ]
    tools.run_verilator(
        ["-Wno-fatal", "--quiet", *options, *(str(file.resolve()) for file in sources)], folder
    )
    return _compile(top, objects, [], folder, 0)


def _compile(top: str, objects: Path, more: Sequence[Path], folder: Path, optimize: int) -> Path:
    """One translation unit: most of the compiler's time goes into headers that all of them include."""
    program, whole, root = objects / "simulate", objects / "whole.cpp", tools.verilator_root()
    parts = [*more, *sorted(objects.glob(f"V{top}*.cpp"))]
    whole.write_text("".join(f'#include "{part}"\n' for part in parts), encoding="utf-8")
    include = [f"-I{objects}", f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]
    flags = [*LANGUAGE, "-w", "-DVL_TIME_CONTEXT", f"-O{optimize}", *include]
    libraries = [str(_runtime(root)), "-lpthread"]
    tools.run_program([tools.compiler(), *flags, str(whole), *libraries, "-o", str(program)], folder)
    return program


def _runtime(root: Path) -> Path:
    """Verilator's own code as an object, compiled once for all designs."""
    compiler = tools.compiler()
    key = hashlib.sha256(
        f"{root}{compiler}{RUNTIME}{os.path.getmtime(root / 'include' / 'verilated.cpp')}".encode()
    ).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sterna" / "verilator"
    archive = cache / f"{key[:16]}.o"
    if archive.exists():
        return archive
    cache.mkdir(parents=True, exist_ok=True)
    partial = cache / f"{key[:16]}.{os.getpid()}.o"
    include = root / "include"
    command = [
        compiler,
        *LANGUAGE,
        "-O1",
        "-w",
        "-c",
        f"-I{include}",
        f"-I{include / 'vltstd'}",
        "-DVL_TIME_CONTEXT",
    ]
    parts: list[Path] = []
    for name in RUNTIME:
        part = cache / f"{key[:16]}.{os.getpid()}.{name}.o"
        tools.run_program([*command, str(include / name), "-o", str(part)], cache)
        parts.append(part)
    subprocess.run(["ld", "-r", "-o", str(partial), *map(str, parts)], check=True)
    partial.rename(archive)
    for part in parts:
        part.unlink()
    return archive
