"""A recording as the data that the browser reads: numbers for what repeats, runs for what ascends, then gzip
and base64.

The TypeScript side of this format is `web/src/recording.ts`.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sterna.inspector.cost import Cost
from sterna.inspector.lineage import Kind
from sterna.inspector.recording import PassRun, Recording, Stage
from sterna.inspector.sources import Place, shown_file, source_text

FORMAT_VERSION = 1
KINDS = tuple(Kind)


@dataclass(frozen=True)
class Code:
    """What a target emitted from the last stage, and the symbol in it that implements each op (by the op's
    number).

    `kind` is the target's word for it: llvm, asm, triton, verilog.
    """

    kind: str
    text: str
    symbols: Mapping[int, str] = field(default_factory=dict[int, str])


def encode(recording: Recording, title: str, codes: Sequence[Code] = ()) -> str:
    """The recording as base64 of gzip of JSON."""
    text = json.dumps(payload(recording, title, codes), separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode("ascii")


def payload(recording: Recording, title: str, codes: Sequence[Code] = ()) -> dict[str, Any]:
    tables = recording.tables
    op_names: dict[str, int] = {}
    op_places: dict[tuple[Place, ...], int] = {}
    costs: dict[tuple[Any, ...], int] = {}
    return {
        "version": FORMAT_VERSION,
        "title": title,
        "templates": tables.templates,
        "lines": [number for line in tables.lines for number in (line.template, *line.ops, *line.values)],
        "opNames": [_number(op_names, op.name) for op in tables.ops],
        "opPlaces": [_number(op_places, op.places) for op in tables.ops],
        "stages": _stages(recording.stages, costs),
        "passes": [_pass(run) for run in recording.passes],
        "names": list(op_names),
        "places": [
            [[place.path, shown_file(place.file), place.line] for place in places] for places in op_places
        ],
        "files": _files(op_places),
        "costs": [list(cost) for cost in costs],
        "kinds": [kind.value for kind in KINDS],
        "codes": [
            {"kind": code.kind, "text": code.text, "symbols": list(code.symbols.items())} for code in codes
        ],
    }


def _number(table: dict[Any, int], key: Any) -> int:
    return table.setdefault(key, len(table))


def _stages(stages: Sequence[Stage], costs: dict[tuple[Any, ...], int]) -> list[dict[str, Any]]:
    encoded: list[dict[str, Any]] = []
    known: dict[int, Cost] = {}
    for stage in stages:
        # Ops are never given another's number, so only costs that are new or changed need to be said.
        news = {op: cost for op, cost in stage.costs.items() if known.get(op) != cost}
        known |= news
        encoded.append(
            {
                "lines": runs(stage.lines),
                "numbered": _numbered(stage.names),
                "named": [
                    part
                    for value, name in stage.names.items()
                    if not _is_number(name)
                    for part in (value, name)
                ],
                "costs": [part for op, cost in news.items() for part in (op, _number(costs, _cost(cost)))],
                "runs": [part for op, count in stage.runs.items() for part in (op, count)],
                "total": _number(costs, _cost(stage.total)),
            }
        )
    return encoded


def _cost(cost: Cost) -> tuple[Any, ...]:
    weights = tuple(sorted(cost.weights.items()))
    return (cost.additions, cost.multiplications, cost.other, cost.activations, cost.state, weights)


def runs(numbers: Iterable[int]) -> list[int]:
    """Ascending runs of consecutive numbers as (start, count, start, count, ...)."""
    encoded: list[int] = []
    for number in numbers:
        if encoded and encoded[-2] + encoded[-1] == number:
            encoded[-1] += 1
        else:
            encoded += [number, 1]
    return encoded


def _is_number(name: str) -> bool:
    return name.isdecimal()


def _numbered(names: dict[int, str]) -> list[int]:
    """Values that the printer numbered, as (value, name, count, ...), where both ascend together."""
    encoded: list[int] = []
    for value, name in names.items():
        if not _is_number(name):
            continue
        if encoded and (encoded[-3] + encoded[-1], encoded[-2] + encoded[-1]) == (value, int(name)):
            encoded[-1] += 1
        else:
            encoded += [value, int(name), 1]
    return encoded


def _pass(run: PassRun) -> dict[str, Any]:
    return {
        "spec": run.spec,
        "seconds": round(run.seconds, 6),
        "before": run.before,
        "after": run.after,
        "links": [part for link in run.links for part in (link.old, link.new, KINDS.index(link.kind))],
        "added": run.added,
        "removed": run.removed,
        "modified": run.modified,
        "error": run.error,
    }


def _files(places: Iterable[tuple[Place, ...]]) -> dict[str, str]:
    """The text of every source file that an op points to and that can be read here."""
    names = dict.fromkeys(place.file for group in places for place in group if place.file)
    texts = {shown_file(name): source_text(name) for name in names}
    return {name: text for name, text in texts.items() if text is not None}
