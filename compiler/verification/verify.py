"""Verifies a model: makes the checks, shares out the examples and the time among them, keeps what differs."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from sterna.diagnostics import one_line
from sterna.dialects.errors import CompileError
from sterna.pass_runner import PassFailure
from sterna.plugins import find_target
from sterna.progress import Progress, no_progress
from sterna.targets import ENTRY_POINT_GROUP, ProjectTarget
from sterna.verification.checks import (
    EXAMPLES_A_STEP,
    Check,
    Counterexample,
    KernelCheck,
    PassCheck,
    ProgramCheck,
)
from sterna.verification.kernels import Kernel, cut_kernels
from sterna.verification.models import Model
from sterna.verification.references import ReferenceCheck, reference_of
from sterna.verification.reproducers import Reproducers
from sterna.verification.rows import Row, Verdict
from sterna.verification.subjects import Machine, Subject

if TYPE_CHECKING:
    from sterna.targets import Target
    from sterna.testing.subjects import Subject as Runnable

INTERPRETER = "interpreter"
ORDER = ("target", "kernel", "pass", "program")
"""Of the rows: comparisons with other runtimes come last."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `sterna verify` was asked."""

    model: Model
    targets: tuple[str, ...] = ()
    """All that are installed, if none is named."""
    against: tuple[str, ...] = (INTERPRETER,)
    examples: int = 20
    """Of each kernel, pass and program."""
    seed: int = 0
    budget: float | None = None
    """Seconds; None for as long as it takes."""
    emulate: bool = False
    threads: tuple[int, ...] = ()
    """1, 2 and one a processor, if none is named."""
    reproducers: Path = Path("sterna-verify")


@dataclass
class Report:
    """What was found."""

    request: Request
    rows: list[Row]
    seconds: float = 0.0

    @property
    def bad(self) -> list[Row]:
        return [row for row in self.rows if row.is_bad]

    @property
    def not_run(self) -> list[Row]:
        return [row for row in self.rows if row.verdict == Verdict.NOT_RUN]

    @property
    def is_green(self) -> bool:
        """Nothing differs, and something was run."""
        return not self.bad and len(self.not_run) < len(self.rows)


def verify(request: Request, progress: Progress = no_progress) -> Report:
    """Runs every check on as many examples as are asked for, or until the time is up.

    CompileError for a model that cannot be read, or a runtime that is not there; what goes wrong on one target is in
    the report.
    """
    began = perf_counter()
    deadline = None if request.budget is None else monotonic() + request.budget
    reproducers = Reproducers(
        request.reproducers, request.model.path, request.model.sizes, request.model.encoding
    )
    progress("importing", 0, 0)
    # What cannot be read, or compared with, is said before anything takes time.
    references = {name: reference_of(request.model, name) for name in request.against if name != INTERPRETER}
    _ = request.model.artifact if request.model.kind == "artifact" else request.model.imported
    report = Report(request, [])
    checks: list[Check] = []
    for name in request.targets or _all_targets(request.model):
        progress(f"lowering for {name}", 0, 0)
        plan = _Plan(request, name, reproducers.write, references)
        checks += plan.checks()
        report.rows += plan.not_run
    _run(checks, request, deadline, progress)
    for check in checks:
        report.rows += check.rows
        if isinstance(check, PassCheck):
            for row in check.rows:
                if row.name in check.wrong:
                    progress(f"shrinking {row.name}", 0, 0)
                    reproducers.write_pass(row, check.wrong[row.name][0], check, check.wrong[row.name][1])
    report.rows.sort(key=lambda row: ORDER.index(row.kind) if row.kind in ORDER else len(ORDER))
    report.seconds = perf_counter() - began
    return report


def _all_targets(model: Model) -> tuple[str, ...]:
    """Those that are installed, whether or not this machine can run them; an artifact's own."""
    if model.kind == "artifact":
        return (model.artifact.manifest.target,)
    return installed_targets()


def installed_targets() -> tuple[str, ...]:
    return tuple(sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)}))


def _run(checks: Sequence[Check], request: Request, deadline: float | None, progress: Progress) -> None:
    """In turns, so that each check has had some examples when the time is up."""
    steps = list(_steps(request.examples))
    done, total = 0, len(steps) * len(checks)
    for number, examples in enumerate(steps):
        for check in checks:
            if deadline is not None and monotonic() > deadline:
                return
            progress(check.name, done, total)
            check.step(number, examples)
            done += 1


def _steps(examples: int) -> Iterator[int]:
    while examples > 0:
        yield min(examples, EXAMPLES_A_STEP)
        examples -= EXAMPLES_A_STEP


@dataclass
class _Plan:
    """The checks of one target, and what of it cannot be run here."""

    request: Request
    name: str
    found: Callable[[Counterexample], None]
    references: dict[str, Runnable]
    not_run: list[Row] = field(default_factory=list[Row])

    def checks(self) -> list[Check]:
        try:
            target = find_target(self.name)
        except ImportError as error:
            self._leave_out(f"{error}")
            return []
        machines = self._machines(target)
        if not machines and not isinstance(target, ProjectTarget):
            return []
        try:
            subject = self.request.model.subject(self.name)
        except CompileError as error:
            is_defect = isinstance(error, PassFailure) and error.is_defect
            self._leave_out(one_line(error), Verdict.FAILED if is_defect else Verdict.NOT_RUN)
            return []
        return list(self._of_subject(subject, machines))

    def _of_subject(self, subject: Subject, machines: Sequence[Machine]) -> Iterator[Check]:
        seed = self.request.seed
        if isinstance(subject.target, ProjectTarget):
            yield PassCheck(subject, seed)
            return
        yield ProgramCheck(subject, machines, seed, self.found)
        for kernel in self._kernels(subject):
            yield KernelCheck(kernel, subject, machines, seed, self.found)
        if subject.stages:
            yield PassCheck(subject, seed)
        for runtime, reference in self.references.items():
            yield ReferenceCheck(runtime, reference, subject, machines[0], seed)

    def _kernels(self, subject: Subject) -> list[Kernel]:
        try:
            return cut_kernels(subject.planned)
        except CompileError as error:
            self._leave_out(f"kernel by kernel: {one_line(error)}")
            return []

    def _machines(self, target: Target) -> list[Machine]:
        levels = [Machine(isa) for isa in target.levels()]
        beyond = target.levels(emulated=True)
        if self.request.emulate:
            levels += [Machine(isa, emulated=True) for isa in beyond]
        else:
            for isa in beyond:
                self._leave_out("this machine lacks it; --emulate runs it, slowly", isa=isa)
        if isinstance(target, ProjectTarget):
            self._leave_out(
                "it writes a project for other tools, which no kernel is run of here: its passes are"
            )
        elif not levels and not beyond:
            self._leave_out("; ".join(line.strip() for line in target.describe_host()))
        counts = self.request.threads or thread_counts()
        if not shares_threads(target):
            return levels
        return [Machine(level.isa, threads, level.emulated) for level in levels for threads in counts]

    def _leave_out(self, why: str, verdict: Verdict = Verdict.NOT_RUN, isa: str = "") -> None:
        row = Row("target", "whole target" if not isa else "all kernels", "", self.name, isa)
        row.verdict, row.detail = verdict, why
        self.not_run.append(row)


def thread_counts() -> tuple[int, ...]:
    """One, two, and one a processor."""
    return tuple(dict.fromkeys((1, 2, len(os.sched_getaffinity(0)))))


def shares_threads(target: Target) -> bool:
    """Whether the number of threads is the caller's to choose, as it is on processors."""
    return bool(getattr(target, "takes_threads", False))


def machine_text() -> str:
    return f"{platform.machine()}, {len(os.sched_getaffinity(0))} processors"


def facts(report: Report) -> dict[str, Any]:
    """What a reader of the JSON or JUnit file must know to run it again."""
    import sterna

    request = report.request
    return {
        "model": str(request.model.path),
        "sterna": sterna.__version__,
        "machine": machine_text(),
        "seed": request.seed,
        "examples": request.examples,
        "against": list(request.against),
        "seconds": round(report.seconds, 1),
    }
