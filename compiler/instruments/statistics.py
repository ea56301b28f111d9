"""`--pass-statistics`: what each pass did, counted from the module before and after it and from its rewrites."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from rich.table import Table
from xdsl.ir import Operation
from xdsl.pattern_rewriter import GreedyRewritePatternApplier, PatternRewriter, RewritePattern
from xdsl.traits import IsTerminator

from sterna.dialects.ternary import LoadOp, WeightOp
from sterna.inspector.cost import encoding_name, type_bytes
from sterna.instruments.console import InstrumentConsole
from sterna.instruments.ir_diff import VALUE
from sterna.pass_runner import PassObserver, Stage, Step
from sterna.passes.linear_layers import linear_layers
from sterna.passes.ternarize import TernarizePass

MATCH = RewritePattern.match_and_rewrite.__name__


@dataclass(frozen=True)
class Census:
    """What a module holds: operations by name (not those that only end a block), lines of its text, and the bytes of
    the weights that its functions load, by encoding."""

    operations: Counter[str]
    lines: Counter[str]
    weight_bytes: Counter[str]

    @staticmethod
    def of(stage: Stage) -> Census:
        module = stage.module
        operations = Counter(op.name for op in module.walk() if op is not module and not is_terminator(op))
        loaded = {
            load.weight.string_value(): load.result.type
            for op in module.ops
            if not isinstance(op, WeightOp)
            for load in op.walk()
            if isinstance(load, LoadOp)
        }
        sizes = Counter[str]()
        for type in loaded.values():
            sizes[encoding_name(type)] += type_bytes(type, rows=1)
        return Census(operations, Counter(VALUE.sub("%", line) for line in stage.text.splitlines()), sizes)


def is_terminator(op: Operation) -> bool:
    return op.has_trait(IsTerminator, value_if_unregistered=False)


@dataclass(frozen=True)
class PassStatistics:
    """One pass: matches of each rewrite pattern, by its class, and the module before and after."""

    name: str
    matches: Mapping[str, int]
    before: Census
    after: Census
    layers: Sequence[str] = ()
    """Of the pass that has the last word on them: what every linear layer is."""

    def facts(self) -> list[tuple[int | str, str]]:
        """(number, what it counts), in the order in which a reader wants them."""
        old, new = self.before, self.after
        rows: list[tuple[int | str, str]] = [
            (count, f"matches of {pattern}") for pattern, count in self.matches.items()
        ]
        for sign, more, fewer in (("removed", old, new), ("added", new, old)):
            changed = more.operations - fewer.operations
            rows += [(count, f"{name} {sign}") for name, count in changed.most_common()]
        if rewritten := (new.lines - old.lines).total():
            rows.append((rewritten, "lines of IR new or changed"))
        for encoding in sorted(old.weight_bytes.keys() | new.weight_bytes.keys()):
            if change := new.weight_bytes[encoding] - old.weight_bytes[encoding]:
                rows.append((f"{change:+}", f"bytes of {encoding} weights"))
        if saved := old.weight_bytes.total() - new.weight_bytes.total():
            rows.append((abs(saved), f"bytes of weights {'saved' if saved > 0 else 'more'}"))
        rows += [(number, f"linear layer {layer}") for number, layer in enumerate(self.layers, 1)]
        return rows


@dataclass
class CountStatistics(PassObserver):
    console: InstrumentConsole
    collected: list[PassStatistics] = field(default_factory=list[PassStatistics], init=False)
    _matches: Counter[str] = field(default_factory=Counter[str], init=False)
    _before: Census | None = field(default=None, init=False)

    def before(self, step: Step, stage: Stage) -> None:
        self._matches = Counter()
        # What the last pass left is what this one starts from.
        self._before = self.collected[-1].after if self.collected else Census.of(stage)

    def during(self) -> AbstractContextManager[object]:
        return count_matches(self._matches)

    def after(self, step: Step, stage: Stage, seconds: float) -> None:
        assert self._before is not None, "after follows before"
        is_last_word = step.name == TernarizePass.name
        layers = [str(layer) for layer in linear_layers(stage.module)] if is_last_word else []
        census = Census.of(stage)
        self.collected.append(PassStatistics(step.name, self._matches, self._before, census, layers))

    def end(self) -> None:
        table = Table("pass", title="Statistics of passes", title_justify="left", box=None)
        table.add_column("number", justify="right")
        table.add_column("what")
        for statistics in self.collected:
            facts = statistics.facts()
            if not facts:
                table.add_row(statistics.name, "0", "changes")
            for row, (number, what) in enumerate(facts):
                table.add_row("" if row else statistics.name, str(number), what)
        self.console.rich().print(table)


@contextmanager
def count_matches(matches: Counter[str]) -> Generator[None]:
    """Counts, by class, the rewrite patterns that changed something while this is open.

    A pass makes its own rewriters and walkers, so there is nowhere to register a listener. Python's profile hook sees
    every return from a pattern without wrapping anybody's methods; it slows Python code down while it is set.
    """

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and (pattern := _matched(frame)) is not None:
            matches[pattern] += 1

    previous: Callable[..., Any] | None = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(previous)


def _matched(frame: FrameType) -> str | None:
    """The class of the pattern whose `match_and_rewrite` returns from this frame, if it rewrote."""
    if frame.f_code.co_name not in (MATCH, "impl"):
        return None
    pattern = frame.f_locals.get("self")
    # A class that is decorated runs as `impl`, which calls the method of the class: only the outer frame counts.
    if (
        not isinstance(pattern, RewritePattern)
        or type(pattern).match_and_rewrite.__code__ is not frame.f_code
    ):
        return None
    if isinstance(pattern, GreedyRewritePatternApplier):
        return None
    rewriters = (value for value in frame.f_locals.values() if isinstance(value, PatternRewriter))
    return type(pattern).__name__ if any(rewriter.has_done_action for rewriter in rewriters) else None
