"""Runs a pipeline of passes, and lets observers look at the module before and after each one.

    run_passes(ctx, module, passes, [PrintAfterAll(), TimePasses()], stop_after="fuse-projections")

Everything that watches passes is an observer: what `--print-ir-after` prints, the timing table, the interpreter of
`--verify-each`, the recording that the browser shows. Observers leave the module alone, and their time is not a pass's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from time import perf_counter

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import ShrinkException

from sterna.blame import blame
from sterna.diagnostics import one_line
from sterna.dialects.errors import CompileError
from sterna.ir_text import print_ir


@dataclass(frozen=True)
class Step:
    """One pass of a pipeline: which it is, and what was still to be done when it started."""

    number: int
    """1 for the first pass; the input of the pipeline is stage 0."""
    remaining: tuple[ModulePass, ...]
    """This pass and those after it."""

    @property
    def rewrite(self) -> ModulePass:
        return self.remaining[0]

    @property
    def name(self) -> str:
        return self.rewrite.name

    @property
    def remaining_pipeline(self) -> str:
        """What `-p` takes."""
        return pipeline_text(self.remaining)


@dataclass
class Stage:
    """The module between two passes. Valid while an observer is being called: the next pass changes the module."""

    module: ModuleOp

    @cached_property
    def text(self) -> str:
        """The IR, printed once however many observers ask."""
        return print_ir(self.module)


class PassObserver:
    """Called by `run_passes` around every pass. A subclass overrides what it needs.

    The stage after one pass is the same object as the stage before the next. An observer may raise Miscompile, for a
    check that failed: it ends the pipeline as a failure of the pass that just ran.
    """

    def begin(self, passes: Sequence[ModulePass], stage: Stage) -> None:
        """Before the first pass, with the pipeline and its input."""

    def before(self, step: Step, stage: Stage) -> None: ...

    def after(self, step: Step, stage: Stage, seconds: float) -> None: ...

    def during(self) -> AbstractContextManager[object]:
        """Entered while a pass runs, and at no other time: for observers of what happens inside."""
        return nullcontext()

    def failed(self, failure: PassFailure, before: ModuleOp) -> str | None:
        """A pass failed; `before` is the module that it was given. What is returned is added to the error's line."""

    def end(self) -> None:
        """After the last pass that ran, whether or not it failed."""


class Miscompile(CompileError):
    """What a check says that found a pass to be wrong: no fault of the input."""


class PassFailure(CompileError):
    """A pass, or a check after it, raised: its name, what it said, and the operation that it was at. One line."""

    def __init__(self, step: Step, error: Exception, notes: Sequence[str] = ()) -> None:
        self.step = step
        self.error = error
        self.is_defect = not isinstance(error, CompileError) or isinstance(error, Miscompile)
        """Is the pass to blame, and not the input?"""
        said, location = _said(error)
        self.complaint = f"pass '{step.name}' failed: {said}"
        super().__init__("; ".join([self.complaint, *notes]), location)


def _said(error: Exception) -> tuple[str, Attribute | str | None]:
    """What an exception says, and where: errors of ours know their place, others were at some operation."""
    if isinstance(error, CompileError):
        return error.message, error.location
    said = f"{type(error).__name__}: {one_line(error)}"
    guilty = blame(error)
    if guilty is None:
        return said, None
    return said if guilty.operation in said else f"{said}, at {guilty.operation}", guilty.location


def run_passes(
    ctx: Context,
    module: ModuleOp,
    passes: Sequence[ModulePass],
    observers: Sequence[PassObserver] = (),
    *,
    stop_after: str | None = None,
    verify: bool = True,
) -> bool:
    """Applies the passes to the module, in place. False if `stop_after` ended the pipeline before its last pass.

    Raises PassFailure, whose cause is the exception, if a pass raises, leaves a module that does not verify, or fails
    an observer's check; CompileError if `stop_after` is not in the pipeline.
    """
    if stop_after is not None:
        require_pass(stop_after, passes)
    stage = Stage(module)
    for observer in observers:
        observer.begin(passes, stage)
    try:
        for number in range(len(passes)):
            step = Step(number + 1, tuple(passes[number:]))
            stage = _run_step(ctx, step, stage, observers, verify)
            if step.name == stop_after:
                return number + 1 == len(passes)
    finally:
        for observer in observers:
            observer.end()
    return True


def _run_step(
    ctx: Context, step: Step, stage: Stage, observers: Sequence[PassObserver], verify: bool
) -> Stage:
    for observer in observers:
        observer.before(step, stage)
    before = stage.module.clone()
    try:
        with ExitStack() as watched:
            for observer in observers:
                watched.enter_context(observer.during())
            start = perf_counter()
            step.rewrite.apply(ctx, stage.module)
            seconds = perf_counter() - start
        if verify:
            stage.module.verify()
        stage = Stage(stage.module)
        for observer in observers:
            observer.after(step, stage, seconds)
    except ShrinkException:
        raise
    except Exception as error:
        failure = PassFailure(step, error)
        notes = [note for observer in observers if (note := observer.failed(failure, before)) is not None]
        raise PassFailure(step, error, notes) from error
    return stage


def pipeline_text(passes: Sequence[ModulePass]) -> str:
    """The passes with their options as `-p` takes them; options at their defaults are left out."""
    return ",".join(str(rewrite.spec()) for rewrite in passes)


def require_pass(name: str, passes: Sequence[ModulePass]) -> None:
    """CompileError, with the nearest name, if no pass of the pipeline is called that."""
    names = list(dict.fromkeys(rewrite.name for rewrite in passes))
    if name in names:
        return
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"it has: {', '.join(names) or 'no passes'}"
    raise CompileError(f"the pipeline has no pass '{name}'; {hint}")
