"""What is run: kernels alone, passes, and whole programs, each example of which has an expected result.

A check is stepped through examples, so that every kernel has had some when the time is up.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol
from zlib import crc32

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp

from sterna.diagnostics import one_line
from sterna.dialects.errors import CompileError
from sterna.dialects.weights import ArrayStore
from sterna.passes.tolerance import EXACT, tolerance_of
from sterna.targets.interface import EntryValue
from sterna.targets.program import DYNAMIC, ProgramTensor
from sterna.testing.contracts import FAR, Difference, bit_exact, compare, of_pass, worst_ulps
from sterna.testing.subjects import Interpreted
from sterna.verification.arrays import Interface, draw_weights
from sterna.verification.kernels import Kernel
from sterna.verification.rows import Row, Verdict
from sterna.verification.stages import chosen, is_pipeline, results_of
from sterna.verification.subjects import Build, Machine, PassStage, Refused, Subject

if TYPE_CHECKING:
    from sterna.targets import Executable

Array = npt.NDArray[Any]
Arrays = Sequence[Array]

EXAMPLES_A_STEP = 5
"""With one set of weights, which takes longer to pack and load than a small kernel does to run."""


@dataclass(frozen=True)
class Counterexample:
    """Inputs on which a compiled program does not give what its IR means."""

    row: Row
    machine: Machine
    module: ModuleOp
    """Planned."""
    weights: Mapping[str, Array] | None
    """None where they are the model's, which are too many to copy."""
    inputs: Arrays
    difference: Difference
    again: Callable[[Mapping[str, Array] | None, Arrays], Difference | None]
    """Runs other weights and inputs: what differs, if anything does."""


Found = Callable[[Counterexample], None]


class Check(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def rows(self) -> Sequence[Row]: ...

    def step(self, number: int, examples: int) -> None:
        """Runs so many examples, drawn from the seed and the number of the step."""
        ...


@dataclass
class KernelCheck:
    """One kernel of a model, with the model's weights and with others, against the interpreter."""

    kernel: Kernel
    subject: Subject
    machines: Sequence[Machine]
    seed: int
    found: Found
    rows: list[Row] = field(default_factory=list[Row])

    def __post_init__(self) -> None:
        name, target = self.kernel.name, self.subject.target.name
        self.rows += [
            Row("kernel", name, self.kernel.shape, target, machine.isa, machine.threads)
            for machine in self.machines
        ]

    @property
    def name(self) -> str:
        return self.kernel.name

    @cached_property
    def _build(self) -> Build:
        return Build(self.subject.target, self.subject.plan(self.kernel.module))

    @cached_property
    def _interface(self) -> Interface:
        return Interface.of(self._build.planned)

    def step(self, number: int, examples: int) -> None:
        generator = np.random.default_rng([self.seed, crc32(self.kernel.text.encode()), number])
        with failing(self.rows):
            arrays = self._weights(number, generator)
            packed = self._build.pack(ArrayStore(arrays))
            interpreted = Interpreted(self._build.planned, arrays)
            running = list(load_all(self.rows, self.machines, self._build, packed))
            counts = row_counts(self._interface, self._build.program.max_rows, self._build.program.in_pieces)
            for n in range(examples):
                rows = counts[(number * EXAMPLES_A_STEP + n) % len(counts)]
                inputs = self._interface.draw(generator, rows, special=bool(generator.integers(2)))
                expected = interpreted.run(inputs)
                for row, machine, executable in running:
                    if not row.is_over:
                        with timed(row), failing([row]):
                            found = executable.run(inputs)
                            if (difference := judge(row, expected, found)) is not None:
                                self._report(row, machine, arrays, inputs, difference)

    def _weights(self, number: int, generator: np.random.Generator) -> dict[str, Array]:
        """The model's, of one place after the other, and others in every second step."""
        places = self.kernel.places
        if number % 2 == 0:
            place = places[number // 2 % len(places)]
            return {name: self.subject.numbers.weight(model) for name, model in place.items()}
        return draw_weights(self.kernel.module, generator)

    def _report(
        self, row: Row, machine: Machine, arrays: Mapping[str, Array], inputs: Arrays, difference: Difference
    ) -> None:
        def again(weights: Mapping[str, Array] | None, inputs: Arrays) -> Difference | None:
            given = dict(weights or {})
            executable = self._build.load(machine, self._build.pack(ArrayStore(given)))
            expected = Interpreted(self._build.planned, given).run(inputs)
            return compare(bit_exact, expected, executable.run(inputs))

        self.found(Counterexample(row, machine, self._build.planned, arrays, inputs, difference, again))


@dataclass
class ProgramCheck:
    """The whole program on every machine, at once and in pieces, against the interpreter."""

    subject: Subject
    machines: Sequence[Machine]
    seed: int
    found: Found
    rows: list[Row] = field(default_factory=list[Row])
    _running: list[tuple[Row, Machine, Executable]] | None = None

    def __post_init__(self) -> None:
        interface = Interface.of(self.subject.planned)
        shape = ", ".join(_port_text(each.shape) for each in interface.inputs if not each.is_state)
        target = self.subject.target.name
        self.rows += [
            Row("program", "whole program", shape, target, machine.isa, machine.threads)
            for machine in self.machines
        ]

    @property
    def name(self) -> str:
        return "whole program"

    def running(self) -> list[tuple[Row, Machine, Executable]]:
        if self._running is None:
            build = self.subject.build
            packed = build.pack(self.subject.weights)
            self._running = list(load_all(self.rows, self.machines, build, packed))
        return self._running

    def step(self, number: int, examples: int) -> None:
        generator = np.random.default_rng([self.seed, number])
        interface, program = Interface.of(self.subject.planned), self.subject.build.program
        with failing(self.rows):
            running = self.running()
            counts = row_counts(interface, program.max_rows, program.in_pieces)
            for n in range(examples):
                rows = counts[(number * EXAMPLES_A_STEP + n) % len(counts)]
                inputs = interface.draw(generator, rows, special=bool(generator.integers(2)))
                if generator.integers(2):
                    inputs = with_zero_states(inputs, program.inputs)
                expected = self.subject.interpreted.run(inputs)
                cuts = sorted(generator.integers(0, rows + 1, generator.integers(1, 4)).tolist())
                for row, machine, executable in running:
                    if not row.is_over:
                        with timed(row), failing([row]):
                            self._compare(row, machine, executable, inputs, expected, cuts)

    def _compare(
        self,
        row: Row,
        machine: Machine,
        executable: Executable,
        inputs: Arrays,
        expected: Arrays,
        cuts: Sequence[int],
    ) -> None:
        program = self.subject.build.program
        difference = judge(row, expected, executable.run(inputs))
        if difference is None and program.in_pieces and any(t.is_dynamic for t in program.inputs):
            pieces = run_in_pieces(executable, program.inputs, program.outputs, inputs, cuts)
            if (difference := compare(bit_exact, expected, pieces)) is not None:
                row.failed(Verdict.DIFFERS, f"in pieces that end at {list(cuts)}: {difference}")
        if difference is not None:

            def again(weights: Mapping[str, Array] | None, inputs: Arrays) -> Difference | None:
                return compare(bit_exact, self.subject.interpreted.run(inputs), executable.run(inputs))

            self.found(Counterexample(row, machine, self.subject.planned, None, inputs, difference, again))


@dataclass
class PassCheck:
    """Every pass that changed the program: the interpreter before and after it."""

    subject: Subject
    seed: int
    rows: list[Row] = field(default_factory=list[Row])
    wrong: dict[str, tuple[PassStage, Arrays]] = field(default_factory=dict[str, tuple[PassStage, Arrays]])
    """The passes that change what the program computes, and the inputs that show it."""

    def __post_init__(self) -> None:
        self.rows += [
            Row(
                "pass",
                stage.rewrite.name,
                "whole program",
                self.subject.target.name,
                contract=of_pass(tolerance_of(stage.rewrite)).source,
            )
            for stage in self.subject.stages
        ]

    @property
    def name(self) -> str:
        return "passes"

    def step(self, number: int, examples: int) -> None:
        generator = np.random.default_rng([self.seed, number])
        interface = Interface.of(self.subject.start)
        for n in range(examples):
            nasty = bool((number * EXAMPLES_A_STEP + n) % 2)
            inputs = interface.draw(generator, (3, 1, 2, 8)[n % 4], special=nasty)
            if not nasty:
                inputs = [plain(value, generator) for value in inputs]
            self._run(inputs, nasty=nasty)

    def _run(self, inputs: Arrays, *, nasty: bool) -> None:
        """A pass that may move a rounding has stated how far for numbers of one magnitude only."""
        weights = self.subject.weights
        if any(is_pipeline(stage.after) for stage in self.subject.stages):
            inputs = with_zero_states(inputs, Interface.of(self.subject.start).inputs)
        before: Arrays | None = None
        for row, stage in zip(self.rows, self.subject.stages, strict=True):
            stated = tolerance_of(stage.rewrite)
            with timed(row), failing([row]):
                if before is None:
                    before = results_of(stage.before, weights, inputs)
                after = results_of(stage.after, weights, inputs)
                if is_pipeline(stage.after) and not is_pipeline(stage.before):
                    before = chosen(before)
                if not row.is_bad and not (nasty and stated != EXACT):
                    if difference := compare(of_pass(stated), before, after):
                        row.failed(Verdict.DIFFERS, str(difference))
                        self.wrong[stage.rewrite.name] = (stage, inputs)
                    else:
                        row.passed(*worst_of_pass(before, after, exact=stated == EXACT))
                before = after
                continue
            # What cannot be run is compared with nothing after it.
            before = None


def plain(value: Array, generator: np.random.Generator) -> Array:
    if value.dtype.kind != "f":
        return value
    return generator.standard_normal(value.shape).astype(value.dtype)


def worst_of_pass(before: Arrays, after: Arrays, *, exact: bool) -> tuple[float, str]:
    if exact:
        return 0.0, "0 ulp"
    worst = largest_error(before, after)
    return worst, f"{worst:.1e} of largest"


def largest_error(expected: Arrays, found: Arrays) -> float:
    """The largest difference of an element, as part of the largest finite magnitude of its result."""
    worst = 0.0
    with np.errstate(all="ignore"):
        for a, b in zip(expected, found, strict=True):
            a, b = a.astype(np.float64), b.astype(np.float64)
            largest = np.abs(a[np.isfinite(a)]).max(initial=0.0)
            apart = np.abs(a - b)
            if largest:
                worst = max(worst, float(apart[np.isfinite(apart)].max(initial=0.0) / largest))
    return worst


def judge(row: Row, expected: Arrays, found: Arrays) -> Difference | None:
    """Notes whether all bits are equal."""
    if (difference := compare(bit_exact, expected, found)) is None:
        row.passed(0.0, "0 ulp")
        return None
    worst = worst_ulps(expected, found)
    row.failed(Verdict.DIFFERS, str(difference), worst, f"{worst} ulp" if worst < FAR else "no number of ulp")
    return difference


def load_all(
    rows: Sequence[Row], machines: Sequence[Machine], build: Build, packed: Any
) -> Iterator[tuple[Row, Machine, Executable]]:
    for row, machine in zip(rows, machines, strict=True):
        if not row.is_over:
            with timed(row), failing([row]):
                executable = build.load(machine, packed)
                # A target that shares out its work in its own way says here how.
                row.isa, row.threads = executable.isa, executable.threads
                yield row, machine, executable


@contextmanager
def timed(row: Row) -> Generator[None]:
    began = perf_counter()
    try:
        yield
    finally:
        row.seconds += perf_counter() - began


@contextmanager
def failing(rows: Sequence[Row]) -> Generator[None]:
    """What is raised is the verdict: one kernel that cannot be compiled does not end the verification of others."""
    try:
        yield
    except Refused as error:
        for row in rows:
            if not row.is_bad:
                row.left_out(one_line(error))
    except Exception as error:
        said = one_line(error) if isinstance(error, CompileError) else f"{type(error).__name__}: {error}"
        for row in rows:
            if not row.is_bad:
                row.failed(Verdict.FAILED, said)


def row_counts(interface: Interface, max_rows: int, in_pieces: bool) -> tuple[int, ...]:
    """Values of T to try: one, none, a few, as many as a call takes and, where more run in pieces, one more."""
    if not interface.is_dynamic:
        return (1,)
    counts = (1, 2, 0, 3, 7, max_rows, max_rows + 1, 2 * max_rows + 3, 17)
    bounds = [interface.capacity, None if in_pieces else max_rows]
    return tuple(n for n in counts if all(bound is None or n <= bound for bound in bounds))


def with_zero_states(inputs: Arrays, tensors: Sequence[ProgramTensor] | Sequence[EntryValue]) -> list[Array]:
    """As a new sequence starts."""
    return [
        np.zeros_like(value) if tensor.is_state else value
        for value, tensor in zip(inputs, tensors, strict=True)
    ]


def run_in_pieces(
    executable: Executable,
    inputs: Sequence[ProgramTensor],
    outputs: Sequence[ProgramTensor],
    given: Arrays,
    cuts: Sequence[int],
) -> tuple[Array, ...]:
    """The results of a run cut after the rows `cuts`: states go from each piece to the next, a piece may be empty."""
    states = sum(tensor.is_state for tensor in inputs)
    axes = [tensor.shape.index(DYNAMIC) if DYNAMIC in tensor.shape else None for tensor in inputs]
    rows = next(value.shape[axis] for value, axis in zip(given, axes, strict=True) if axis is not None)
    current, parts = list(given), list[Arrays]()
    for start, end in zip([0, *cuts], [*cuts, rows], strict=True):
        piece = [
            value if axis is None else value.take(range(start, end), axis)
            for value, axis in zip(current, axes, strict=True)
        ]
        results = executable.run(piece)
        parts.append(results)
        if states:
            current[len(current) - states :] = results[len(results) - states :]
    return tuple(
        np.concatenate(each, tensor.shape.index(DYNAMIC)) if DYNAMIC in tensor.shape else each[-1]
        for each, tensor in zip(zip(*parts, strict=True), outputs, strict=True)
    )


def _port_text(shape: Sequence[int]) -> str:
    return "x".join("?" if size == DYNAMIC else str(size) for size in shape) or "scalar"
