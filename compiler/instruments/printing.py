"""`--print-ir-before`, `--print-ir-after`, `--print-ir-after-all`, `--print-ir-after-change`, `--print-ir-diff`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from rich.text import Text
from xdsl.passes import ModulePass

from sterna.instruments.console import InstrumentConsole
from sterna.instruments.ir_diff import diff
from sterna.ir_text import print_ir
from sterna.pass_runner import PassObserver, Stage, Step, require_pass


@dataclass
class PrintIR(PassObserver):
    """Prints the IR before and after the passes named, after every pass, or after those that changed its text."""

    console: InstrumentConsole
    before_passes: Collection[str] = ()
    after_passes: Collection[str] = ()
    after_all: bool = False
    after_change: bool = False
    locations: bool = False
    _previous: str = field(default="", init=False)

    def begin(self, passes: Sequence[ModulePass], stage: Stage) -> None:
        for name in (*self.before_passes, *self.after_passes):
            require_pass(name, passes)

    def before(self, step: Step, stage: Stage) -> None:
        if self.after_change:
            self._previous = stage.text
        if step.name in self.before_passes:
            self._print(f"before {step.name}", stage)

    def after(self, step: Step, stage: Stage, seconds: float) -> None:
        if self.after_change and stage.text == self._previous and not self.after_all:
            self.console.write(banner(f"{step.name} changed nothing"))
            return
        if self.after_all or self.after_change or step.name in self.after_passes:
            self._print(f"after {step.name}", stage)

    def _print(self, when: str, stage: Stage) -> None:
        plain = not self.locations and not self.console.color
        text = (
            stage.text
            if plain
            else print_ir(stage.module, locations=self.locations, color=self.console.color)
        )
        self.console.write(banner(f"IR {when}"))
        self.console.write(text)


@dataclass
class PrintDiff(PassObserver):
    """Prints what each pass changed, as a unified diff of the IR's text."""

    console: InstrumentConsole
    context: int = 3
    _previous: str = field(default="", init=False)
    _origin: str = field(default="input", init=False)

    def before(self, step: Step, stage: Stage) -> None:
        self._previous = stage.text

    def after(self, step: Step, stage: Stage, seconds: float) -> None:
        if stage.text == self._previous:
            self.console.write(banner(f"{step.name} changed nothing"))
        else:
            self.console.write(banner(f"diff of {step.name}"))
            self._print(diff(self._previous, stage.text, self._origin, step.name, self.context))
        self._origin = step.name

    def _print(self, lines: Sequence[str]) -> None:
        if not self.console.color:
            self.console.write("\n".join(lines))
            return
        text = Text("\n").join(Text(line, style=line_style(line)) for line in lines)
        self.console.rich().print(text)


def line_style(line: str) -> str:
    """How a line of a unified diff looks, in rich's words."""
    if line.startswith(("+++", "---")):
        return "bold"
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")


def banner(text: str) -> str:
    """A comment of the IR, so that what instruments print can be parsed too."""
    return f"// -----// {text} //----- //"
