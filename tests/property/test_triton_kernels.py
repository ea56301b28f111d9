"""Every GPU kernel gives the interpreter's bits, run by Triton's own interpreter, for any number of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sterna.targets.triton import TritonTarget
from sterna.targets.triton.engine import INTERPRETER
from sterna.testing import ROW_OPS, inputs_of, ir_modules
from sterna.testing import ROWS as ROW_LIMITS
from tests.cpu_programs import ENCODINGS, same_bits
from tests.gpu_programs import check_on_gpu
from tests.property.test_cpu_kernels import (
    ENCODED,
    LANES,
    SHAPES,
    WEIGHTS,
    embedding,
    float_rows,
    norms,
    project,
    quantized_rows,
    scan,
)

RUNS = settings(max_examples=12, deadline=None)
ROWS = st.sampled_from((0, 1, 2, 3, 4, 5, 9))
COLUMNS = (1, 16, 255, 257)

pytestmark = pytest.mark.slow
"""Triton's interpreter takes milliseconds an operation of a program."""


@RUNS
@given(data=st.data())
def test_norms_and_quantization(data: st.DataObject) -> None:
    columns = data.draw(st.sampled_from(COLUMNS))
    program = data.draw(st.sampled_from(norms(columns, data.draw(LANES))))
    x = data.draw(float_rows(data.draw(ROWS), columns))
    with np.errstate(all="ignore"):
        program.check_on_triton([x])


@RUNS
@given(data=st.data())
def test_scan(data: st.DataObject) -> None:
    columns, rows = data.draw(st.sampled_from(COLUMNS)), data.draw(ROWS)
    f, i = data.draw(float_rows(rows, columns)), data.draw(float_rows(rows, columns))
    state = data.draw(float_rows(1, columns))[0]
    with np.errstate(all="ignore"):
        scan(columns).check_on_triton([f, i, state])


@RUNS
@given(data=st.data())
def test_embedding_of_any_half(data: st.DataObject) -> None:
    program = embedding(
        data.draw(st.sampled_from(COLUMNS)), data.draw(st.sampled_from(("f16", "bf16", "f32")))
    )
    tokens = np.array(data.draw(st.lists(st.integers(0, 299), max_size=6)), np.int64)
    program.check_on_triton([tokens])


@ENCODED
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_project_sums_exactly(encoding: str, data: st.DataObject) -> None:
    rows, columns = data.draw(st.sampled_from(SHAPES))
    program = project(rows, columns, data.draw(st.sampled_from(WEIGHTS)), encoding)
    count = data.draw(ROWS)
    p, q = data.draw(quantized_rows(count, columns)), data.draw(quantized_rows(count, columns))
    steps = data.draw(float_rows(2, max(count, 1)))[:, :count]
    extra = data.draw(float_rows(count, rows))
    with np.errstate(all="ignore"):
        program.check_on_triton([p, q, steps[0], steps[1], extra])


@ENCODED
@pytest.mark.parametrize("split", [2, 3])
def test_programs_that_share_columns_sum_exactly(split: int, encoding: str) -> None:
    """One after the other, so that the next launch finds its memory as the last left it."""
    rows, columns = 33, 1300
    program = project(rows, columns, "random", encoding)
    files = TritonTarget().build(program.module)
    text = files["kernels.py"].decode()
    shared = text.replace('"TILES": 4, "SPLIT": 1}', f'"TILES": 1, "SPLIT": {split}}}')
    assert shared != text
    shared = shared.replace('"CHANNELS": 256, "TILES"', '"CHANNELS": 16, "TILES"')
    loaded = TritonTarget().load(
        {"kernels.py": shared.encode()}, program.program, program.packed, isa=INTERPRETER
    )
    generator = np.random.default_rng(split)
    for count in (1, 4, 3, 5, 2):
        p, q = (generator.integers(-128, 128, (count, columns)).astype(np.int8) for _ in range(2))
        steps = generator.standard_normal((2, count)).astype(np.float32)
        inputs = [p, q, *steps, generator.standard_normal((count, rows)).astype(np.float32)]
        for a, b in zip(loaded.run(inputs), program.interpreter.run(inputs), strict=True):
            assert same_bits(a, b), f"{count} rows"


@ENCODED
def test_nothing_overflows_where_every_product_is_the_largest(encoding: str) -> None:
    for kind in ("all +1", "all -1"):
        for value in (-128, 127):
            for count in (1, 6):
                q = np.full((count, 2049), value, np.int8)
                ones, zeros = np.ones(count, np.float32), np.zeros((count, 33), np.float32)
                project(33, 2049, kind, encoding).check_on_triton([q, q, ones, ones, zeros])


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # to shrink a program would take an hour here
)
@given(data=st.data())
def test_generated_programs_on_rows(data: st.DataObject) -> None:
    program = data.draw(ir_modules(ROW_OPS, limits=ROW_LIMITS))
    encoding = data.draw(st.sampled_from(ENCODINGS))
    check_on_gpu(program, data.draw(inputs_of(program.module)), encoding)
