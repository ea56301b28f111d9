"""A planted bug: one text in one file, exchanged for another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class StaleMutant(Exception):
    """The text that a mutant replaces is not, or not only once, where the table says."""


@dataclass(frozen=True)
class Mutant:
    """`old` occurs once in `file`; `tests`, files or `file::test`, ought to fail when `new` stands there."""

    file: str
    old: str
    new: str
    what: str
    """The bug, in a few words."""
    tests: tuple[str, ...]
    equivalent: str = ""
    """Why no test can tell it from the right code, if that is so."""

    @property
    def area(self) -> str:
        return self.file.split("/")[0]

    def planted(self, root: Path) -> str:
        """The file's text with the bug in it. StaleMutant if the code has moved on."""
        text = (root / self.file).read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            raise StaleMutant(f"{self.file}: '{self.old}' occurs {count} times, expected once ({self.what})")
        if self.old == self.new:
            raise StaleMutant(f"{self.file}: '{self.old}' is exchanged for itself ({self.what})")
        return text.replace(self.old, self.new)
