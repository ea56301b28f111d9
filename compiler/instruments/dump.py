"""`--dump-ir-dir`: one numbered file a stage. Every file parses back, and runs with `sterna-opt FILE --run`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from xdsl.passes import ModulePass

from sterna.ir_text import print_ir
from sterna.pass_runner import PassObserver, Stage, Step

HEADER = "// sterna: stage "
"""How a dumped file begins: files that begin so are ours to replace."""

NUMBERED = re.compile(r"\d+-[\w.-]+\.mlir")


@dataclass
class DumpIR(PassObserver):
    folder: Path
    weights: str | None = None
    """What `--weights` takes to run the files."""
    locations: bool = False
    _digits: int = 2

    def begin(self, passes: Sequence[ModulePass], stage: Stage) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_old_dump()
        self._digits = max(2, len(str(len(passes))))
        self._write(0, "input", "the input of the pipeline", stage)

    def after(self, step: Step, stage: Stage, seconds: float) -> None:
        self._write(step.number, step.name, f"after {step.name}", stage)

    def _write(self, number: int, name: str, what: str, stage: Stage) -> None:
        path = self.folder / f"{number:0{self._digits}}-{name}.mlir"
        command = f"sterna-opt {quote(path.name)} --run"
        if self.weights is not None:
            command += f" --weights {quote(self.weights)}"
        text = print_ir(stage.module, locations=True) if self.locations else stage.text
        path.write_text(f"{HEADER}{number}, {what}\n// run it: {command}\n{text}\n", encoding="utf-8")

    def _remove_old_dump(self) -> None:
        """A shorter pipeline must not leave the last files of a longer one among its own."""
        for path in self.folder.iterdir():
            if NUMBERED.fullmatch(path.name) and path.is_file():
                with path.open(encoding="utf-8", errors="replace") as file:
                    ours = file.readline().startswith(HEADER)
                if ours:
                    path.unlink()
