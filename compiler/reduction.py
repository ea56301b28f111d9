"""`sterna reduce`: from a file and a command that fails on it to a small file on which it fails in the same way."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sterna.dialects.context import parse
from sterna.dialects.errors import CompileError
from sterna.interestingness import Command, SameFailure
from sterna.ir_text import print_ir
from sterna.lowering import Progress, no_progress
from sterna.shrinking import count_operations, shrink


@dataclass(frozen=True)
class Reduced:
    text: str
    before: int
    after: int
    """Operations in the module."""
    tried: int
    complaint: str
    """What the command says of the small module."""

    @property
    def summary(self) -> str:
        return f"{self.before} operations reduced to {self.after}, {self.tried} candidates tried\n{self.complaint}"


def reduce_file(
    path: Path,
    command_line: str,
    pattern: str | None = None,
    *,
    seconds: float = 60.0,
    progress: Progress = no_progress,
) -> Reduced:
    """CompileError for a file that does not parse, a command without `{}`, and a command that does not fail."""
    module = parse(path.read_text(encoding="utf-8"), str(path))
    command = Command.parse(command_line, seconds)
    before = count_operations(module)
    tried = 0

    def report(left: int, candidates: int) -> None:
        nonlocal tried
        tried = candidates
        progress(f"{left} operations left", before - left, before)

    with TemporaryDirectory(prefix="sterna-reduce-") as folder:
        same_failure = SameFailure.of(command, module, Path(folder), _compiled(pattern))
        small = shrink(module, same_failure, report)
    complaint = same_failure.last.complaint(same_failure.pattern)
    header = f"// {command_line}\n// {complaint}\n"
    text = header + print_ir(small, locations=True) + "\n"
    return Reduced(text, before, count_operations(small), tried, complaint)


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        return re.compile(pattern)
    except re.error as error:
        raise CompileError(f"--output-matches: not a regular expression: {error}") from None
