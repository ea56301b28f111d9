"""A recording of a pass pipeline: every stage of the IR, and what each pass did between two of them.

A `Recorder` is an observer. Whoever runs passes calls it around each one:

    recorder = Recorder(module)
    for pass_ in passes:
        with recorder.around(pass_, module):
            pass_.apply(context, module)
    recording = recorder.recording

`observer.RecordPasses` does that for the compiler's own runner of passes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass

from sterna.inspector.cost import Cost, cost_table
from sterna.inspector.lineage import Kind, Rewrites, Snapshot, links, watch_rewrites
from sterna.inspector.listing import CLOSED, DEFINED, OPENED, USED, Listing, all_ops, list_module
from sterna.inspector.sources import Place, places


@dataclass(frozen=True)
class StoredLine:
    """A line by numbers: of its template, of the ops that begin in it, of the values named in it."""

    template: int
    ops: tuple[int, ...]
    values: tuple[int, ...]


@dataclass(frozen=True)
class StoredOp:
    name: str
    places: tuple[Place, ...]


@dataclass
class Tables:
    """What the stages share. Ops and values keep their number for as long as they are the same object."""

    templates: list[str] = field(default_factory=list[str])
    lines: list[StoredLine] = field(default_factory=list[StoredLine])
    ops: list[StoredOp] = field(default_factory=list[StoredOp])


@dataclass(frozen=True)
class Stage:
    """The IR at one moment, by the numbers of lines, values and ops. `runs`: how often an op runs, if not once."""

    lines: tuple[int, ...]
    names: dict[int, str]
    costs: dict[int, Cost]
    runs: dict[int, int]
    total: Cost


@dataclass(frozen=True)
class StoredLink:
    old: int
    new: int
    kind: Kind


@dataclass(frozen=True)
class PassRun:
    """One pass: `before` and `after` are numbers of stages, the same where the pass changed nothing."""

    spec: str
    seconds: float
    before: int
    after: int
    links: tuple[StoredLink, ...] = ()
    added: int = 0
    removed: int = 0
    modified: int = 0
    error: str | None = None

    @property
    def name(self) -> str:
        return self.spec.partition("{")[0]

    @property
    def changed(self) -> bool:
        return self.before != self.after


@dataclass
class Recording:
    tables: Tables = field(default_factory=Tables)
    stages: list[Stage] = field(default_factory=list[Stage])
    passes: list[PassRun] = field(default_factory=list[PassRun])

    def text(self, stage: int) -> str:
        """The IR of a stage, as it prints."""
        return "\n".join(self.line_text(self.stages[stage], line) for line in self.stages[stage].lines)

    def line_text(self, stage: Stage, line: int) -> str:
        stored = self.tables.lines[line]
        values = iter(stored.values)
        return "".join(
            f"%{stage.names[next(values)]}" if char in (DEFINED, USED) else char
            for char in self.tables.templates[stored.template]
            if char not in (OPENED, CLOSED)
        )

    def ops(self, stage: int) -> list[int]:
        """The numbers of the ops of a stage, in order."""
        return [op for line in self.stages[stage].lines for op in self.tables.lines[line].ops]


MatchLines = Callable[[Listing, Listing], Iterable[tuple[int, int]]]
"""Which lines of two listings are the same, by their numbers: templates are equal, and no line is in two pairs."""


class Recorder:
    """Observes passes over one module. Ops and values that went are kept alive, so that no two share an identity."""

    def __init__(self, module: ModuleOp) -> None:
        self.recording = Recording()
        self._templates: dict[str, int] = {}
        self._lines: dict[StoredLine, int] = {}
        self._ops: dict[Operation, int] = {}
        self._values: dict[SSAValue, int] = {}
        self._module = module
        self._running = ""
        self._listing = list_module(module)
        self._snapshot = Snapshot.of(all_ops(self._listing))
        self._store(self._listing, module)

    @contextmanager
    def around(self, pass_: ModulePass, module: ModuleOp) -> Generator[None]:
        """Records the pass that runs inside; one that raises is recorded with its error, and the error goes on."""
        self.before_pass(str(pass_.spec()), module)
        start = perf_counter()
        try:
            with watch_rewrites() as rewrites:
                yield
        except Exception as error:
            self.failed(
                next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            )
            raise
        self.after_pass(module, perf_counter() - start, rewrites)

    def run(self, context: Context, module: ModuleOp, passes: Iterable[ModulePass]) -> Recording:
        for pass_ in passes:
            with self.around(pass_, module):
                pass_.apply(context, module)
        return self.recording

    def number_of(self, op: Operation) -> int:
        """The number of an op that some stage holds."""
        return self._ops[op]

    def before_pass(self, spec: str, module: ModuleOp) -> None:
        if module is not self._module:
            self._adopt(module)
        self._running = spec

    def after_pass(self, module: ModuleOp, seconds: float, rewrites: Rewrites) -> None:
        """The pass that ran took `seconds`, and did `rewrites`."""
        spec, before = self._running, self._snapshot
        self._module = module
        listing = list_module(module)
        stage = len(self.recording.stages) - 1
        if listing.text == self._listing.text:
            self._take_identities(listing)
            self.recording.passes.append(PassRun(spec, seconds, stage, stage))
            return
        self._store(listing, module)
        stored = tuple(
            StoredLink(self._ops[link.old], self._ops[link.new], link.kind)
            for link in links(before, self._snapshot, rewrites)
        )
        added, removed, modified = self._changes(stage, stage + 1)
        self.recording.passes.append(
            PassRun(spec, seconds, stage, stage + 1, stored, added, removed, modified)
        )

    def failed(self, message: str) -> None:
        """The pass that was running raised: the recording ends with it, at the stage before."""
        stage = len(self.recording.stages) - 1
        self.recording.passes.append(PassRun(self._running, 0.0, stage, stage, error=message))

    def _adopt(self, module: ModuleOp) -> None:
        """A runner went on with a copy of the module: equal text means that the copy's ops are the ones we know."""
        listing = list_module(module)
        if listing.text == self._listing.text:
            self._take_identities(listing)
        else:
            self._store(listing, module)
        self._module = module

    def add_stage(self, name: str, module: ModuleOp, match: MatchLines) -> None:
        """A stage that is a module of its own, made of the last one by nobody knows which rewrites."""
        listing = list_module(module)
        last = [self.recording.tables.lines[line] for line in self.recording.stages[-1].lines]
        for i, j in match(self._listing, listing):
            line, kinds = listing.lines[j], listing.lines[j].defined
            self._ops.update(zip(line.ops, last[i].ops, strict=True))
            # Only by its definition: by uses, two new values could be taken for one old value.
            values = zip(line.values, last[i].values, kinds, strict=True)
            self._values.update({new: old for new, old, defined in values if defined})
        stage = len(self.recording.stages) - 1
        self._store(listing, module)
        self.recording.passes.append(
            PassRun(name, 0.0, stage, stage + 1, (), *self._changes(stage, stage + 1))
        )

    def _take_identities(self, listing: Listing) -> None:
        """Gives the ops and values of a listing the numbers of those that stand at the same place in the last stage."""
        lines = [self.recording.tables.lines[line] for line in self.recording.stages[-1].lines]
        for old, new in zip(lines, listing.lines, strict=True):
            self._ops.update(zip(new.ops, old.ops, strict=True))
            self._values.update(zip(new.values, old.values, strict=True))
        self._listing, self._snapshot = listing, Snapshot.of(all_ops(listing))

    def _store(self, listing: Listing, module: ModuleOp) -> None:
        self._listing, self._snapshot = listing, Snapshot.of(all_ops(listing))
        tables = self.recording.tables
        numbers: list[int] = []
        for line in listing.lines:
            template = self._templates.setdefault(line.template, len(tables.templates))
            if template == len(tables.templates):
                tables.templates.append(line.template)
            ops = tuple(self._op_number(op) for op in line.ops)
            values = tuple(self._values.setdefault(value, len(self._values)) for value in line.values)
            stored = StoredLine(template, ops, values)
            number = self._lines.setdefault(stored, len(tables.lines))
            if number == len(tables.lines):
                tables.lines.append(stored)
            numbers.append(number)
        costs = cost_table(module)
        self.recording.stages.append(
            Stage(
                tuple(numbers),
                {self._values[value]: name for value, name in listing.names.items()},
                {self._ops[op]: cost for op, cost in costs.ops.items()},
                {self._ops[function]: runs for function, runs in costs.runs.items() if runs != 1},
                costs.total,
            )
        )

    def _op_number(self, op: Operation) -> int:
        ops = self.recording.tables.ops
        number = self._ops.setdefault(op, len(ops))
        if number == len(ops):
            ops.append(StoredOp(op.name, places(op.location)))
        return number

    def _changes(self, before: int, after: int) -> tuple[int, int, int]:
        """Ops that came, that went, and that stayed with another text."""
        old, new = (self._op_lines(stage) for stage in (before, after))
        stayed = old.keys() & new.keys()
        return len(new) - len(stayed), len(old) - len(stayed), sum(old[op] != new[op] for op in stayed)

    def _op_lines(self, stage: int) -> dict[int, int]:
        lines = self.recording.tables.lines
        return {op: line for line in self.recording.stages[stage].lines for op in lines[line].ops}
