"""Random programs through the whole pipeline of each target, against the interpreter, bit for bit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st

from sterna.dialects.context import make_context, parse
from sterna.dialects.encodings import EncodingAttr
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.passes import PASSES
from sterna.passes.choose_encodings import ChooseEncodingsPass
from sterna.targets.program import InputError
from sterna.testing import inputs_of, ir_modules
from tests.cpu_programs import ENCODINGS, MAX_ROWS, PlannedProgram, isa_names, same_bits
from tests.gpu_programs import OPERATIONS, SMALL, check_any_on_gpu
from tests.raised_models import PIPELINE, SPECIAL, Array, programs, store_for
from tests.stream_programs import MODELS, SmallModel
from tests.verilog_designs import SimulatedDesign, to_pipeline

Counted = Callable[[], None]
"""What is called for each program."""

PROGRAMS = 5
"""Of one seed; the CPU's are compiled for every instruction set."""

REFERENCE = "fuse-norm-quantize"
"""The last pass that may move a rounding."""


def check_program(text: str, columns: int, rows: int, states: int, number: int) -> None:
    """The interpreter's results after REFERENCE are those of the kernels, on every instruction set."""
    generator = np.random.default_rng(number)
    module = parse(text)
    store = store_for(module, generator)
    x = generator.standard_normal((rows, columns), np.float32) * np.float32(10.0 ** generator.integers(-3, 4))
    if rows and generator.integers(2):
        x[generator.integers(rows), generator.integers(columns)] = generator.choice(SPECIAL)
    inputs: list[Array] = [x, *generator.standard_normal((states, columns), np.float32)]
    ctx = make_context(store)
    expected: tuple[Array, ...] = ()
    encoding = ChooseEncodingsPass(str(generator.choice(sorted(EncodingAttr.FORMATS))))
    for name in PIPELINE[:-1]:
        (encoding if name == encoding.name else PASSES[name]()).apply(ctx, module)
        if name == REFERENCE:
            expected = ModuleInterpreter(module, store).run(inputs)
    module.verify()
    # Through text, so that printing and parsing are on the way.
    planned = PlannedProgram(str(module), store.arrays)
    for isa in isa_names():
        threads = int(generator.integers(1, 4))
        if rows > MAX_ROWS and not planned.program.in_pieces:
            # Its rows are not independent: as many at once is all that it takes, and it says so.
            with pytest.raises(InputError, match="takes at most"):
                planned.executable(isa, threads).run(inputs)
            continue
        found = planned.executable(isa, threads).run(inputs)
        assert len(found) == len(expected)
        for n, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert same_bits(a, b), f"result {n} on {isa} with {threads} threads"


def any_cpu_program(counted: Counted) -> Callable[[], None]:
    @given(
        st.sampled_from((1, 3, 8, 17, 40)).flatmap(lambda k: st.tuples(st.just(k), programs(k))),
        st.sampled_from((0, 1, 2, MAX_ROWS, MAX_ROWS + 1)),
        st.integers(0, 2**32 - 1),
    )
    def check(program: tuple[int, tuple[str, int]], rows: int, number: int) -> None:
        columns, (text, states) = program
        counted()
        note(text)
        check_program(text, columns, rows, states, number)

    return check


def any_gpu_program(counted: Counted) -> Callable[[], None]:
    """In Triton's interpreter."""

    @given(st.data())
    def check(data: st.DataObject) -> None:
        program = data.draw(ir_modules(OPERATIONS, limits=SMALL))
        counted()
        encoding = data.draw(st.sampled_from(ENCODINGS))
        check_any_on_gpu(program, data.draw(inputs_of(program.module)), encoding)

    return check


def any_design(counted: Counted) -> Callable[[], None]:
    """In Verilator, with stalls in every queue."""

    @given(MODELS, st.integers(1, 200), st.integers(1, 2**31))
    def check(model: SmallModel, interval: int, number: int) -> None:
        counted()
        rng = np.random.default_rng(number)
        module = to_pipeline(model.module(), model.weights(), interval=interval, sequences=2)
        tokens = [
            (int(rng.integers(model.vocabulary)), int(rng.random() < 0.3), int(rng.integers(2)))
            for _ in range(6)
        ]
        with tempfile.TemporaryDirectory() as folder:
            design = SimulatedDesign.build(module, model.weights(), Path(folder), stalls=True)
            gaps, pauses = (int(each) for each in rng.integers(200, size=2))
            design.check_every_stream(tokens, gaps=gaps, pauses=pauses, seed=number)

    return check


COMPILERS: dict[str, Callable[[Counted], Callable[[], None]]] = {
    "compiler-cpu": any_cpu_program,
    "compiler-triton": any_gpu_program,
    "compiler-verilog": any_design,
}


def fuzz(target: str, number: int, counted: Counted) -> None:
    """Programs of one seed. What fails is shrunk, and the assertion's notes have the program's text."""
    run = seed(number)(COMPILERS[target](counted))
    quietly = settings(
        max_examples=PROGRAMS, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    with np.errstate(all="ignore"):
        quietly(run)()
