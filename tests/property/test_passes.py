"""Every pass after `fuse-norm-quantize` keeps every bit: the interpreter runs generated programs before and after."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.passes import ModulePass

from sterna.dialects.context import make_context, parse
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.passes import PASSES
from tests.raised_models import PIPELINE, SPECIAL, RaisedModel, programs, store_for

Array = npt.NDArray[Any]


def input_rows(generator: np.random.Generator, count: int, columns: int) -> npt.NDArray[np.float32]:
    scale = np.float32(10.0) ** generator.integers(-3, 4, (count, 1)).astype(np.float32)
    x = generator.standard_normal((count, columns), np.float32) * scale
    if count and generator.integers(3) == 0:
        x[generator.integers(count), generator.integers(columns)] = generator.choice(SPECIAL)
    if count and generator.integers(4) == 0:
        x[generator.integers(count)] = 0
    return x


def assert_same_bits(before: tuple[Array, ...], after: tuple[Array, ...]) -> None:
    assert len(before) == len(after)
    for a, b in zip(before, after, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if a.dtype == np.float32:
            # Which NaN an operation gives is nobody's promise; that it is one, is.
            a, b = (np.where(np.isnan(v), np.float32(np.nan), v).view(np.int32) for v in (a, b))
        np.testing.assert_array_equal(a, b)


def assert_passes_keep_bits(text: str, inputs: list[Array], generator: np.random.Generator) -> None:
    """Runs the pipeline pass by pass, and the program after each; the last is also printed and parsed back."""
    module = parse(text)
    ctx = make_context(store_for(module, generator))
    expected: tuple[Array, ...] | None = None
    for name in PIPELINE:
        PASSES[name]().apply(ctx, module)
        module.verify()
        if name == PIPELINE[-1]:
            module = parse(str(module))
        if name in PIPELINE[1:]:
            found = ModuleInterpreter(module, ctx.weights).run(inputs)
            assert_same_bits(found if expected is None else expected, found)
            expected = found


SEEDS = st.integers(0, 2**32 - 1)
ROWS = st.sampled_from((0, 1, 2, 5))


@settings(max_examples=30)
@given(st.data(), st.sampled_from((3, 8, 17)), ROWS, SEEDS)
def test_passes_keep_every_bit_of_any_program(
    data: st.DataObject, columns: int, count: int, seed: int
) -> None:
    text, states = data.draw(programs(columns))
    generator = np.random.default_rng(seed)
    inputs: list[Array] = [input_rows(generator, count, columns)]
    inputs += [generator.standard_normal(columns, np.float32) for _ in range(states)]
    assert_passes_keep_bits(text, inputs, generator)


@settings(max_examples=8)
@given(
    layers=st.integers(1, 4),
    hidden=st.sampled_from((8, 24)),
    mlp=st.sampled_from((8, 40)),
    lower_bounds=st.booleans(),
    count=ROWS,
    seed=SEEDS,
)
def test_passes_keep_every_bit_of_a_model(
    layers: int, hidden: int, mlp: int, lower_bounds: bool, count: int, seed: int
) -> None:
    model = RaisedModel(layers=layers, hidden=hidden, mlp=mlp, vocabulary=19, lower_bounds=lower_bounds)
    generator = np.random.default_rng(seed)
    inputs: list[Array] = [generator.integers(0, 19, count)]
    inputs += [generator.standard_normal(hidden, np.float32) for _ in range(layers)]
    assert_passes_keep_bits(model.text(), inputs, generator)


@pytest.mark.parametrize("pass_type", [PASSES[name] for name in PIPELINE], ids=PIPELINE)
def test_a_pass_run_twice_changes_nothing_more(pass_type: type[ModulePass]) -> None:
    module = parse(RaisedModel(layers=3, hidden=8, mlp=8, vocabulary=5).text())
    ctx = make_context()
    for name in PIPELINE:
        PASSES[name]().apply(ctx, module)
        if PASSES[name] is pass_type:
            break
    once = str(module)
    pass_type().apply(ctx, module)
    assert str(module) == once
