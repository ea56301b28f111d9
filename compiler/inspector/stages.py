"""A recording from the stages that an artifact keeps, where nobody watched the passes.

The stages are texts, parsed apart: nothing says which op is which. Lines that occur once in each of two stages,
names of values aside, are taken for the same, and so are the equal lines next to those, as in a patience diff.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sterna.artifact import Artifact
from sterna.dialects.context import parse
from sterna.inspector.listing import Listing
from sterna.inspector.payload import Code
from sterna.inspector.recording import Recorder, Recording
from sterna.inspector.report import repr_html


def record_stages(stages: Mapping[str, str]) -> Recording:
    """The texts of the stages by their names, in order; the names stand for passes. CompileError for other text."""
    (_, first), *others = [(name, parse(text, name)) for name, text in stages.items()]
    recorder = Recorder(first)
    for name, module in others:
        recorder.add_stage(name, module, matching_lines)
    return recorder.recording


def matching_lines(old: Listing, new: Listing) -> list[tuple[int, int]]:
    """Pairs of lines, by number, that are taken for the same; no line is in two."""
    before, after = ([line.template for line in listing.lines] for listing in (old, new))
    once = _once(before) & _once(after)
    places = {template: number for number, template in enumerate(after) if template in once}
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for start, template in enumerate(before):
        if template not in places:
            continue
        for step in (1, -1):
            i, j = start, places[template]
            while 0 <= i < len(before) and 0 <= j < len(after) and before[i] == after[j]:
                if (i in pairs or j in taken) and pairs.get(i) != j:
                    break
                pairs[i] = j
                taken.add(j)
                i, j = i + step, j + step
                if i in pairs:
                    break
    return sorted(pairs.items())


def _once(templates: list[str]) -> set[str]:
    return {template for template, count in Counter(templates).items() if count == 1}


def record_artifact(artifact: Artifact) -> tuple[Recording, list[Code]]:
    """The stages that an artifact keeps, and its code for machines of every kind."""
    recording = record_stages({name: artifact.ir(name) for name in artifact.stages()})
    texts = [path for name, path in artifact.kernels().items() if name.endswith(".ll")]
    return recording, [Code("llvm", path.read_text(encoding="utf-8")) for path in texts]


def artifact_html(artifact: Artifact) -> str:
    """The report of an artifact for a notebook."""
    recording, codes = record_artifact(artifact)
    return repr_html(recording, artifact.manifest.model.source, codes)
