"""The report of a design, for people and for programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sterna.dialects.stream_types import RegionAttr
from sterna.targets.verilog.design import OUTSIDE
from sterna.targets.verilog.devices import Resources
from sterna.targets.verilog.estimate import Estimate, StageEstimate
from sterna.targets.verilog.settings import Settings
from sterna.targets.verilog.synthesis import SynthesisResult


@dataclass(frozen=True)
class Report:
    top: str
    settings: Settings
    predicted: Estimate
    synthesis: SynthesisResult | None
    regions: Mapping[str, RegionAttr] = field(default_factory=dict[str, RegionAttr])
    """By stage: where its weights are in the memory outside."""

    @property
    def clock_mhz(self) -> float:
        """The clock that rates are stated at: the placed one, or what was aimed at."""
        placed = self.synthesis.placed if self.synthesis else None
        return placed.fmax_mhz if placed else self.settings.clock_mhz

    @property
    def tokens_per_second(self) -> float:
        return self.predicted.tokens_per_second(self.clock_mhz, self.settings.sequences)

    @property
    def memory_bytes(self) -> int:
        """Read of the memory outside, a token."""
        return sum(region.bytes for region in self.regions.values())

    @property
    def memory_megabytes_per_second(self) -> float:
        return self.memory_bytes * self.tokens_per_second / 1e6

    @property
    def memory_peak(self) -> float:
        """MB/s of a memory that gives a word in every cycle."""
        return self.settings.memory.width / 8 * self.clock_mhz

    def to_json(self) -> dict[str, Any]:
        settings, predicted = self.settings, self.predicted
        return {
            "top": self.top,
            "device": settings.device.name,
            "clock_mhz": settings.clock_mhz,
            "sequences": settings.sequences,
            "cycles_per_token": predicted.token_cycles,
            "interval": predicted.interval,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "estimate": asdict(predicted.resources),
            "synthesis": asdict(self.synthesis) if self.synthesis else None,
            "memory": self._memory_json() if self.regions else None,
            "stages": [asdict(stage) for stage in predicted.stages],
        }

    def _memory_json(self) -> dict[str, Any]:
        memory = self.settings.memory
        return {
            "image": OUTSIDE,
            "width_bits": memory.width,
            "latency_cycles": memory.latency,
            "bytes_per_token": self.memory_bytes,
            "megabytes_per_second": round(self.memory_megabytes_per_second, 1),
            "regions": [
                {"stage": stage, "address": region.at.data, "bytes": region.bytes}
                for stage, region in self.regions.items()
            ],
        }


def report_text(report: Report) -> str:
    settings, predicted = report.settings, report.predicted
    placed = report.synthesis.placed if report.synthesis else None
    speed = (
        f"placed at {placed.fmax_mhz:.1f} MHz ({settings.clock_mhz} MHz aimed at)"
        if placed
        else f"at the {settings.clock_mhz} MHz that is aimed at"
    )
    lines = [
        f"# {report.top} on {settings.device.name} ({settings.device.part})",
        "",
        f"* {predicted.token_cycles} cycles from a token to its result, {predicted.interval} cycles between tokens of "
        "different sequences (the slowest stage).",
        f"* **{report.tokens_per_second:.0f} tokens/s** for {settings.sequences} "
        f"{'text' if settings.sequences == 1 else 'texts side by side'}, {speed}.",
        "",
        "## Resources",
        "",
        *_resource_table(report),
        "",
        "LUT: all look-up tables, those used as memory included. "
        + ("BRAM: blocks of 18 kbit. " if settings.device.family == "ecp5" else "BRAM: blocks of 36 kbit. ")
        + "No multiplier is in an array: DSP blocks multiply element by element, in maps and scans.",
        "",
        *(_memory_section(report) if report.regions else []),
        "## Stages",
        "",
        "Interval: cycles a token takes in the stage. To fold otherwise: `--interval`, `--goal`, `--budget`.",
        "",
        *_stage_table(report),
        "",
    ]
    if report.synthesis and report.synthesis.warnings:
        lines += ["## Warnings of synthesis", "", *(f"* {line}" for line in report.synthesis.warnings), ""]
    return "\n".join(lines)


def _memory_section(report: Report) -> list[str]:
    memory, used = report.settings.memory, report.memory_megabytes_per_second
    return [
        "## Memory outside the chip",
        "",
        f"{len(report.regions)} arrays read {report.memory_bytes} bytes a token over AXI4, in words of {memory.width} "
        f"bits: {used:.1f} MB/s at the rate above, {used / report.memory_peak:.0%} of a word a cycle. Rates hold for a "
        f"memory that answers within {memory.latency} cycles (`--memory-latency`) and then without a pause. "
        f"`{OUTSIDE}` is what it has to hold; report.json has the address of each array in it.",
        "",
    ]


def _resource_table(report: Report) -> list[str]:
    has = report.settings.device.resources
    columns: list[tuple[str, Resources]] = [("estimate", report.predicted.resources)]
    if report.synthesis:
        columns.append(("synthesis (Yosys)", report.synthesis.resources))
    columns.append(("device", has))
    return [
        f"| | {' | '.join(title for title, _ in columns)} |",
        f"| --- | {' | '.join('---:' for _ in columns)} |",
        *(
            f"| {name} | {' | '.join(f'{each.counts()[name]:g}' for _, each in columns)} |"
            for name in ("LUT", "FF", "BRAM", "DSP")
        ),
    ]


LIBRARY: dict[str, tuple[str, ...]] = {
    "fifo": ("fifo",),
    "fork": ("fork_stream",),
    "lanes": ("narrow", "widen"),
    "scan": ("gated_scan",),
    "lookup": ("row_lookup",),
    "argmax": ("row_argmax",),
}
"""Kinds of stages that share modules, which synthesis counts together."""


def _stage_table(report: Report) -> list[str]:
    """A stage a row; all of a kind whose module is in the library in one."""
    columns = ("LUT", "FF", "BRAM", "DSP")
    parts = report.synthesis.parts if report.synthesis else None
    titles = [title for name in columns for title in ((name, "(Yosys)") if parts is not None else (name,))]
    lines = [
        f"| stage | kind | interval | {' | '.join(titles)} |",
        f"| --- | --- |{' ---: |' * (len(titles) + 1)}",
    ]
    for stage, modules in _merged(report.predicted.stages):
        predicted = stage.resources.counts()
        cells = [[predicted[name]] for name in columns]
        if parts is not None:
            found = sum((parts.get(module, Resources()) for module in modules), Resources()).counts()
            cells = [[predicted[name], found[name]] for name in columns]
        numbers = " | ".join(f"{number:g}" for cell in cells for number in cell)
        lines.append(f"| {stage.name} | {stage.kind} | {stage.interval} | {numbers} |")
    return lines


def _merged(stages: tuple[StageEstimate, ...]) -> list[tuple[StageEstimate, tuple[str, ...]]]:
    """Stages, and the modules that are theirs."""
    shared: dict[str, list[StageEstimate]] = defaultdict(list)
    shown: list[tuple[StageEstimate, tuple[str, ...]]] = []
    for stage in stages:
        if stage.kind in LIBRARY:
            shared[stage.kind].append(stage)
        else:
            shown.append((stage, (stage.name,)))
    for kind, group in shared.items():
        total = sum((stage.resources for stage in group), Resources())
        name = group[0].name if len(group) == 1 else f"all {len(group)}"
        shown.append(
            (StageEstimate(name, kind, max(stage.interval for stage in group), total), LIBRARY[kind])
        )
    return shown
