"""Every GPU kernel gives the interpreter's bits, run by Triton's own interpreter, for any number of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sterna.targets.triton import TritonTarget
from sterna.targets.triton.engine import INTERPRETER
from sterna.testing import ROW_OPS, inputs_of, ir_modules
from sterna.testing import ROWS as ROW_LIMITS
from tests.cpu_programs import ENCODINGS, PlannedProgram, same_bits, trits
from tests.gpu_programs import check_on_gpu
from tests.property.test_cpu_kernels import (
    ENCODED,
    LANES,
    SHAPES,
    WEIGHTS,
    embedding,
    float_rows,
    gains,
    norms,
    project,
    quantized_rows,
    scan,
    trit_matrix,
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


def recurrence(columns: int, channels: int, kind: str, encoding: str) -> PlannedProgram:
    """A residual and two norms of it, the product that reads both, and a recurrence of its sums."""
    w, x, y = trits(channels, columns, encoding), f"tensor<?x{columns}xf32>", f"tensor<?x{channels}xf32>"
    q, s, g, d = (
        f"tensor<?x{columns}xi8>",
        "tensor<?xf32>",
        f"tensor<{columns}xf32>",
        f"tensor<{channels}xf32>",
    )
    text = f"""
      ternary.weight @a : {w}
      ternary.weight @b : {w}
      ternary.weight @scale : tensor<f32>
      ternary.weight @gain : {g}
      ternary.weight @other : {g}
      func.func @forward(%x : {x}, %r : {x}, %s : {d}) -> ({x}, {y}, {y}, {d}) attributes {{sterna.states = 1 : i64}} {{
        %a = ternary.load @a : {w}
        %b = ternary.load @b : {w}
        %scale = ternary.load @scale : tensor<f32>
        %gain = ternary.load @gain : {g}
        %other = ternary.load @other : {g}
        %sum = ternary.elementwise(%x, %r : {x}, {x}) {{
        ^bb0(%0 : f32, %1 : f32):
          %2 = arith.addf %0, %1 : f32
          ternary.yield %2 : f32
        }} -> {x}
        %p, %q, %sp, %sq = ternary.norm_quantize %sum gains(%gain, %other : {g}, {g}) eps = 1.0e-06
          quantize_eps = 1.0e-05 lanes = 128 : {x} -> ({q}, {q}), ({s}, {s})
        %f, %i = ternary.project quantized(%p, %q : {q}, {q}) steps(%sp, %sq : {s}, {s})
          weights(%a, %b : {w}, {w}) scales(%scale, %scale : tensor<f32>, tensor<f32>) reads = [0, 1] {{
        ^bb0(%u : f32, %v : f32):
          %0 = arith.mulf %u, %v : f32
          ternary.yield %u, %0 : f32, f32
        }} -> {y}, {y}
        %states, %last = ternary.scan %f, %i, %s : {y}, {d}
        func.return %sum, %i, %states, %last : {x}, {y}, {y}, {d}
      }}"""
    weights: dict[str, Any] = {name: trit_matrix(kind, channels, columns, name) for name in ("a", "b")}
    weights |= {name: gains(name, columns) for name in ("gain", "other")}
    return PlannedProgram(text, weights | {"scale": np.array(0.37, np.float32)})


@ENCODED
@RUNS
@given(data=st.data())
def test_a_product_computes_its_row_and_the_state_that_follows(encoding: str, data: st.DataObject) -> None:
    channels, columns = data.draw(st.sampled_from(((300, 300), (17, 255), (5, 257), (33, 1040))))
    program = recurrence(columns, channels, data.draw(st.sampled_from(WEIGHTS)), encoding)
    # One row is computed by every program of the product, more by a launch before it.
    count = data.draw(st.sampled_from((1, 1, 2, 5)))
    x, r = (data.draw(float_rows(count, columns)) for _ in range(2))
    with np.errstate(all="ignore"):
        program.check_on_triton([x, r, data.draw(float_rows(1, channels))[0]])


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
