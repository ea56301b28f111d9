"""Does a command still fail in the same way? What `sterna reduce` asks of every smaller module."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.errors import CompileError
from sterna.instruments.reproducer import TO_REPRODUCE
from sterna.ir_text import print_ir

FILE = "{}"
"""What stands in a command for the file."""

FAILURE = re.compile(r"pass '[^']+' failed: (?:miscompile|\w+(?:Error|Exception)\b)?")
"""How our tools name a failing pass; the numbers and places that follow change while the module shrinks."""


@dataclass(frozen=True)
class Outcome:
    code: int
    output: str

    def complaint(self, pattern: re.Pattern[str] | None) -> str:
        """The line that matches, or the last one, where errors are; without the reproducer, which nobody wrote."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        if pattern is not None:
            lines = [line for line in lines if pattern.search(line)] or lines
        return lines[-1].partition(f"; {TO_REPRODUCE}")[0] if lines else f"exit code {self.code}"


@dataclass
class Command:
    """A command line with `{}` for the file. `sterna-opt` runs in this process, which is twenty times as fast.

    A process of its own is used for other commands, and for a `sterna-opt` that kills its process.
    """

    words: Sequence[str]
    seconds: float = 60.0
    own_process: bool = field(default=False)

    @staticmethod
    def parse(text: str, seconds: float = 60.0) -> Command:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise CompileError(f"--command: {error}") from None
        if not words:
            raise CompileError("--command is empty")
        if not any(FILE in word for word in words):
            raise CompileError(
                f"--command: '{FILE}' must stand where the file goes, as in 'sterna-opt {FILE}'"
            )
        return Command(words, seconds)

    @property
    def is_opt(self) -> bool:
        return Path(self.words[0]).name == "sterna-opt" or list(self.words[:2]) == ["sterna", "opt"]

    def run(self, path: Path) -> Outcome:
        """Its exit code and all it prints. A command that takes too long counts as code 124."""
        words = [word.replace(FILE, str(path)) for word in self.words]
        if self.is_opt and not self.own_process:
            arguments = words[1:] if Path(words[0]).name == "sterna-opt" else words[2:]
            # A thousand failures on the way would leave a thousand reproducers.
            return _run_opt([*arguments, "--reproducer", os.devnull])
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(124, "")
        except OSError as error:
            raise CompileError(f"--command: cannot run {words[0]}: {error.strerror}") from None
        return Outcome(done.returncode, done.stdout.decode(errors="replace"))


def _run_opt(arguments: list[str]) -> Outcome:
    from sterna.opt import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except Exception as error:
            # sterna-opt lets a defect of ours through with its traceback: that may be what is being reduced.
            out.write(f"{type(error).__name__}: {error}\n")
            code = 1
    return Outcome(code, out.getvalue())


@dataclass
class SameFailure:
    """A module is interesting if the command fails on it as it did on the first one.

    That is: with the same exit code, and naming the same pass and kind of error if it names them; or, with `pattern`,
    printing something that matches, whatever the exit code.
    """

    command: Command
    folder: Path
    pattern: re.Pattern[str] | None = None
    code: int = 1
    failure: str = ""
    last: Outcome = field(default_factory=lambda: Outcome(0, ""))

    @staticmethod
    def of(
        command: Command, module: ModuleOp, folder: Path, pattern: re.Pattern[str] | None = None
    ) -> SameFailure:
        """Learns what the failure is; CompileError if there is none."""
        if command.is_opt:
            command.own_process = True
        check = SameFailure(command, folder, pattern)
        first = check.run(module)
        # A negative code is a signal: such a command would end this process too.
        command.own_process = first.code < 0
        if pattern is not None and not pattern.search(first.output):
            raise CompileError(
                f"the output of the command does not match '{pattern.pattern}': nothing to reduce"
            )
        if pattern is None and first.code == 0:
            raise CompileError("the command succeeds (exit code 0): nothing to reduce")
        check.code = first.code
        check.failure = found[0] if (found := FAILURE.search(first.output)) else ""
        check.last = first
        return check

    def __call__(self, module: ModuleOp) -> bool:
        outcome = self.run(module)
        if self.pattern is not None:
            same = self.pattern.search(outcome.output) is not None
        else:
            same = outcome.code == self.code and self.failure in outcome.output
        if same:
            self.last = outcome
        return same

    def run(self, module: ModuleOp) -> Outcome:
        path = self.folder / "candidate.mlir"
        path.write_text(print_ir(module, locations=True) + "\n", encoding="utf-8")
        return self.command.run(path)
