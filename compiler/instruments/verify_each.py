"""`--verify-each`: interprets the module before and after every pass, on generated inputs, and compares the results.

Bits must be equal, except where a pass states a tolerance (`sterna.passes.tolerance`). xDSL's verifier has run already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.weights import Array, WeightStore
from sterna.instruments.console import InstrumentConsole
from sterna.instruments.inputs import ROWS, describe, generate_inputs, input_names, runnable_functions
from sterna.pass_runner import Miscompile, PassFailure, PassObserver, Stage, Step
from sterna.passes.tolerance import EXACT, Tolerance, tolerance_of

INTERPRETED = ("builtin", "func", "arith", "math", "tensor", "linalg", "ternary", "fixed")
"""The dialects that have an interpreter. What a target lowers to has its own tests."""


@dataclass(frozen=True)
class Case:
    """One input of one function."""

    function: str
    names: tuple[str, ...]
    inputs: tuple[Array, ...]
    origin: str

    def __str__(self) -> str:
        values = "; ".join(describe(name, value) for name, value in zip(self.names, self.inputs, strict=True))
        return f"{values} ({self.origin})"


Outcome = tuple[Array, ...] | CompileError


@dataclass
class VerifyEach(PassObserver):
    console: InstrumentConsole
    weights: WeightStore | None = None
    seed: int = 0
    rows: int = ROWS
    _cases: list[Case] = field(default_factory=list[Case], init=False)
    _outcomes: list[Outcome] = field(default_factory=list[Outcome], init=False)
    _compared: int = field(default=0, init=False)
    _failed: bool = field(default=False, init=False)

    def begin(self, passes: Sequence[ModulePass], stage: Stage) -> None:
        self._cases = list(generate_cases(stage.module, self.rows, self.seed))
        if not self._cases:
            self.console.write("verify-each: the module has no public function to run")
        self._outcomes = self._interpret(stage.module)

    def after(self, step: Step, stage: Stage, seconds: float) -> None:
        outcomes = self._interpret(stage.module)
        for case, before, after in zip(self._cases, self._outcomes, outcomes, strict=True):
            self._compare(step, stage.module, case, before, after)
        self._outcomes = outcomes

    def _interpret(self, module: ModuleOp) -> list[Outcome]:
        interpreter = ModuleInterpreter(module, self.weights)
        outcomes: list[Outcome] = []
        for case in self._cases:
            try:
                outcomes.append(interpreter.run(case.inputs, function=case.function))
            except CompileError as error:
                outcomes.append(error)
        return outcomes

    def _compare(self, step: Step, module: ModuleOp, case: Case, before: Outcome, after: Outcome) -> None:
        if isinstance(before, CompileError):
            self.console.write(f"verify-each: {step.name} not compared, before it: {before}")
            return
        if isinstance(after, CompileError):
            if uninterpreted(module):
                self.console.write(f"verify-each: {step.name} not compared, after it: {after}")
                return
            raise Miscompile(f"miscompile: @{case.function} no longer runs, on input {case}: {after}")
        if difference := first_difference(before, after, tolerance_of(step.rewrite)):
            raise Miscompile(f"miscompile: @{case.function}, {difference}, on input {case}")
        self._compared += 1

    def failed(self, failure: PassFailure, before: ModuleOp) -> None:
        self._failed = True

    def end(self) -> None:
        if self._compared and not self._failed:
            inputs = len(self._cases)
            self.console.write(f"verify-each: {self._compared} comparisons on {inputs} inputs passed")


def generate_cases(module: ModuleOp, rows: int, seed: int) -> Iterator[Case]:
    """One row, then several, for every public function: the smallest input that shows a miscompile comes first."""
    for name, function in runnable_functions(module).items():
        names = tuple(input_names(function))
        for size in dict.fromkeys((1, rows)):
            try:
                inputs = generate_inputs(module, function, rows=size, seed=seed)
            except CompileError:
                return  # an input of a type without numbers, such as a memref
            yield Case(name, names, tuple(inputs), f"rows {size}, seed {seed}")


def uninterpreted(module: ModuleOp) -> bool:
    """Does the module hold operations that have no interpreter?"""
    return any(op.name.partition(".")[0] not in INTERPRETED for op in module.walk())


def first_difference(
    before: Sequence[Array], after: Sequence[Array], tolerance: Tolerance = EXACT
) -> str | None:
    """Where two lists of results first differ by more than the tolerance, in words; None if they do not."""
    if len(before) != len(after):
        return f"{len(before)} results before and {len(after)} after"
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            return f"result {number} was {old.dtype}{list(old.shape)} and is {new.dtype}{list(new.shape)}"
        wrong = np.argwhere(~same(old, new, tolerance))
        if len(wrong):
            at = tuple(int(index) for index in wrong[0])
            limit = "" if tolerance == EXACT else f" (more than {tolerance.relative:g} of the largest apart)"
            return f"result {number} at {list(at)} was {old[at]!s} and is {new[at]!s}{limit}"
    return None


def same(old: Array, new: Array, tolerance: Tolerance) -> Array:
    """Which elements agree: equal bits (any NaN is any NaN), or within the tolerance."""
    if old.dtype.kind != "f":
        bits = old == new
    else:
        integer = np.dtype(f"i{old.dtype.itemsize}")
        bits = (old.reshape(-1).view(integer) == new.reshape(-1).view(integer)).reshape(old.shape)
        bits = bits | (np.isnan(old) & np.isnan(new))
    if tolerance == EXACT or bits.all():
        return bits
    finite = np.abs(old[np.isfinite(old)]).astype(np.float64)
    allowed = tolerance.relative * finite.max(initial=0.0)
    with np.errstate(invalid="ignore"):
        return bits | (np.abs(new.astype(np.float64) - old.astype(np.float64)) <= allowed)
