"""`--time-passes`: how long each pass took, without the instruments' own time."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.table import Table

from sterna.instruments.console import InstrumentConsole
from sterna.pass_runner import PassObserver, Stage, Step


@dataclass
class TimePasses(PassObserver):
    console: InstrumentConsole
    seconds: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]], init=False)

    def after(self, step: Step, stage: Stage, seconds: float) -> None:
        self.seconds.append((step.name, seconds))

    def end(self) -> None:
        total = sum(seconds for _, seconds in self.seconds)
        table = Table("pass", title="Time of passes", title_justify="left", box=None)
        table.add_column("seconds", justify="right")
        table.add_column("share", justify="right")
        for name, seconds in self.seconds:
            table.add_row(name, f"{seconds:.4f}", f"{seconds / total:.1%}" if total else "")
        table.add_row("total", f"{total:.4f}", "", style="bold")
        self.console.rich().print(table)
