"""Where instruments write: stderr, so that stdout holds the module or the results and nothing else."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

WIDTH = 120
"""Columns of a table where the output is not a terminal."""


class InstrumentConsole:
    """Writes IR, diffs and tables to stderr, in colours if asked or, by default, if stderr is a terminal."""

    def __init__(self, color: bool | None = None) -> None:
        console = Console(stderr=True)
        self.color = console.is_terminal and not console.no_color if color is None else color

    def write(self, text: str) -> None:
        sys.stderr.write(text if text.endswith("\n") else text + "\n")
        sys.stderr.flush()

    def rich(self) -> Console:
        """A rich console on what stderr is now."""
        probe = Console(stderr=True)
        return Console(
            file=sys.stderr,
            force_terminal=self.color,
            color_system="standard" if self.color else None,
            width=None if probe.is_terminal else WIDTH,
            highlight=False,
            soft_wrap=True,
        )

    def styled(self, line: str, style: str) -> None:
        self.rich().print(Text(line, style=style), soft_wrap=True)
