"""MODEL of the command line: a checkpoint, an ONNX file, or an artifact, as the program of a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sterna.api import load_source
from sterna.artifact import Artifact, is_artifact
from sterna.dialects.errors import CompileError
from sterna.frontends import Imported
from sterna.plugins import configured_target, find_target
from sterna.targets.options import ENCODING
from sterna.verification.subjects import Subject, loaded, lowered


@dataclass(frozen=True)
class Model:
    """Read once, whatever the number of targets."""

    path: Path
    sizes: Mapping[str, int | str] = field(default_factory=dict[str, "int | str"])
    encoding: str | None = None
    """How targets with the choice pack weights; None as they do by themselves, or as the artifact has it."""

    @property
    def kind(self) -> str:
        """`artifact`, `onnx` or `checkpoint`."""
        if is_artifact(self.path):
            return "artifact"
        return "onnx" if self.path.suffix == ".onnx" else "checkpoint"

    @cached_property
    def artifact(self) -> Artifact:
        if self.sizes or self.encoding is not None:
            what = "sizes were" if self.sizes else "encoding was"
            raise CompileError(f"{self.path}: an artifact's {what} given when it was compiled")
        return Artifact.open(self.path)

    @cached_property
    def imported(self) -> Imported:
        options: dict[str, Any] = {"sizes": dict(self.sizes)} if self.sizes else {}
        return load_source(self.path, None, **options)

    def subject(self, target: str) -> Subject:
        """CompileError where the target cannot compile the model, or is not the artifact's."""
        chosen = find_target(target)
        if self.encoding is not None and ENCODING in getattr(chosen, "options", ()):
            chosen = configured_target(target, {ENCODING.name: self.encoding})
        if self.kind != "artifact":
            return lowered(self.imported, chosen)
        if (own := self.artifact.manifest.target) != target:
            raise CompileError(f"{self.path}: an artifact for target '{own}', not '{target}'")
        return loaded(self.artifact, chosen)


def subject_of(
    path: str | Path,
    target: str,
    sizes: Mapping[str, int | str] | None = None,
    encoding: str | None = None,
) -> Subject:
    """The program of a model on a target, as `sterna verify` runs it."""
    return Model(Path(path), sizes or {}, encoding).subject(target)
