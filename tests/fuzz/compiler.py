"""Random programs through the whole pipeline of the CPU target, against the interpreter, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st

from sterna.dialects.context import make_context, parse
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.passes import PASSES
from sterna.targets.program import InputError
from tests.cpu_programs import MAX_ROWS, PlannedProgram, isa_names, same_bits
from tests.raised_models import PIPELINE, SPECIAL, Array, programs, store_for

PROGRAMS = 5
"""Of one seed; each is compiled for every instruction set."""

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
    for name in PIPELINE[:-1]:
        PASSES[name]().apply(ctx, module)
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


def fuzz(number: int, counted: Callable[[], None]) -> None:
    """Programs of one seed. What fails is shrunk, and the assertion's notes have the program's text."""

    @seed(number)
    @settings(max_examples=PROGRAMS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from((1, 3, 8, 17, 40)).flatmap(lambda k: st.tuples(st.just(k), programs(k))),
        st.sampled_from((0, 1, 2, MAX_ROWS, MAX_ROWS + 1)),
        st.integers(0, 2**32 - 1),
    )
    def any_program(program: tuple[int, tuple[str, int]], rows: int, number: int) -> None:
        columns, (text, states) = program
        counted()
        note(text)
        with np.errstate(all="ignore"):
            check_program(text, columns, rows, states, number)

    any_program()
