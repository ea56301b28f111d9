"""What a failing pass leaves behind: the module that it was given, with the rest of the pipeline in a comment.

    // configuration: --passes 'fuse-projections,plan-memory' --weights random

`sterna-opt --run-reproducer FILE` runs it again.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir
from traceback import format_tb

from xdsl.dialects.builtin import ModuleOp

from sterna.diagnostics import one_line
from sterna.dialects.errors import CompileError
from sterna.ir_text import print_ir
from sterna.pass_runner import PassFailure, PassObserver

CONFIGURATION = "// configuration: "
TO_REPRODUCE = "to reproduce:"

HEADER_LINES = 64
"""The configuration stands among the first lines of a file."""


@dataclass(frozen=True)
class Configuration:
    """How a reproducer is run: what `sterna-opt` takes."""

    passes: str
    weights: str | None = None
    verify_each: bool = False
    seed: int = 0

    def __str__(self) -> str:
        words = ["--passes", self.passes]
        if self.weights is not None:
            words += ["--weights", self.weights]
        if self.verify_each:
            words += ["--verify-each", "--seed", str(self.seed)]
        return shlex.join(words)

    @staticmethod
    def parse(text: str) -> Configuration:
        """CompileError unless the text is what `str` gives: a file cannot slip other options in."""
        try:
            words = iter(shlex.split(text))
        except ValueError as error:
            raise CompileError(f"the configuration cannot be read: {error}") from None
        values: dict[str, str] = {}
        for word in words:
            if word not in ("--passes", "--weights", "--verify-each", "--seed"):
                raise CompileError(f"the configuration has an unknown option '{word}'")
            values[word] = "" if word == "--verify-each" else next(words, "")
        seed = values.get("--seed", "0")
        if not seed.isdecimal():
            raise CompileError(f"the configuration's seed is '{seed}', expected a number")
        return Configuration(
            values.get("--passes", ""), values.get("--weights"), "--verify-each" in values, int(seed)
        )


def read_configuration(path: Path) -> Configuration:
    """The configuration in a reproducer's header; CompileError if the file has none."""
    with path.open(encoding="utf-8") as file:
        for line, _ in zip(file, range(HEADER_LINES), strict=False):
            if line.startswith(CONFIGURATION):
                return Configuration.parse(line.removeprefix(CONFIGURATION))
    raise CompileError(f"{path}: not a reproducer: no line starts with '{CONFIGURATION.strip()}'")


@dataclass
class WriteReproducer(PassObserver):
    """Without a path, a defect leaves a file in the temporary directory; a complaint about the input leaves none."""

    path: Path | None = None
    weights: str | None = None
    verify_each: bool = False
    seed: int = 0

    def failed(self, failure: PassFailure, before: ModuleOp) -> str | None:
        if self.path is None and not failure.is_defect:
            return None
        pipeline = failure.step.remaining_pipeline
        configuration = Configuration(pipeline, self.weights, self.verify_each, self.seed)
        lines = [failure.complaint, *_traceback(failure.error)]
        header = "".join(f"// {line}".rstrip() + "\n" for line in lines)
        text = f"{CONFIGURATION}{configuration}\n{header}{print_ir(before, locations=True)}\n"
        path = self.path or _temporary(failure.step.name, text)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            # What went wrong first matters more.
            return f"no reproducer: {path}: {error.strerror}"
        return f"{TO_REPRODUCE} sterna-opt --run-reproducer {shlex.quote(str(path))}"


def _traceback(error: Exception) -> list[str]:
    """For a defect, not for a complaint about the input."""
    if isinstance(error, CompileError):
        return []
    # Without the exception's notes: they are the IR once more.
    frames = [line for part in format_tb(error.__traceback__) for line in part.splitlines()]
    return [*frames, f"{type(error).__name__}: {one_line(error)}"]


def _temporary(name: str, text: str) -> Path:
    digest = sha256(text.encode()).hexdigest()[:8]
    return Path(gettempdir()) / f"sterna-{name}-{digest}.mlir"
