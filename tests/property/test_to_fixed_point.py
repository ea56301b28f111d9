"""`to-fixed-point` on generated models: close to the program in floats, and never a result that wraps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.context import make_context, parse
from sterna.dialects.exactness import refuse_wrapping
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.ternary import WeightOp
from sterna.dialects.weights import ArrayStore
from sterna.passes import PASSES
from sterna.passes.to_fixed_point import ToFixedPointPass
from tests.raised_models import RaisedModel, RaisedProgram, rows

Array = npt.NDArray[Any]
FUSE = ("ternarize", "fuse-norm-quantize", "fuse-projections", "fuse-elementwise")
SEEDS = st.integers(0, 2**32 - 1)
TOKENS = 24


def weights_for(module: ModuleOp, seed: int) -> ArrayStore:
    """Matrices like trained ones, gains near 1, lower bounds between 0 and 1, and an embedding."""
    generator = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for op in module.ops:
        if not isinstance(op, WeightOp) or op.body is not None:
            continue
        name, shape = op.sym_name.data, op.type.get_shape()
        array = generator.standard_normal(shape).astype(np.float32)
        if "lower_bound" in name:
            array = generator.uniform(0, 1, shape).astype(np.float32)
        elif len(shape) == 1:
            array = (1 + 0.3 * array).astype(np.float32)
        elif name != "embeddings":
            array *= np.float32(generator.uniform(0.5, 2) * shape[1] ** -0.5)
        arrays[name] = array
    return ArrayStore(arrays)


def lowered(module: ModuleOp, weights: ArrayStore, rewrite: ToFixedPointPass | None) -> ModuleOp:
    """The module at the stage that the pass reads, and after it if one is given."""
    copy, context = module.clone(), make_context(weights)
    for step in (*(PASSES[name]() for name in FUSE), *([rewrite] if rewrite else [])):
        step.apply(context, copy)
        copy.verify()
    return copy


def model_inputs(model: RaisedModel, tokens: int, seed: int) -> list[Array]:
    generator = np.random.default_rng(seed)
    states = [np.zeros(model.hidden, np.float32)] * model.layers
    return [generator.integers(0, model.vocabulary, tokens), *states]


SMALL_MODELS = st.builds(
    RaisedModel,
    layers=st.integers(1, 2),
    hidden=st.sampled_from([1, 7, 16, 33]),
    mlp=st.sampled_from([1, 8, 21]),
    vocabulary=st.sampled_from([2, 19]),
    lower_bounds=st.booleans(),
)


@settings(deadline=None, max_examples=10)
@given(SMALL_MODELS, SEEDS)
def test_a_model_stays_close(model: RaisedModel, seed: int) -> None:
    """int8 steps may flip, and the numbers of a row of one column are signs: hence the mean."""
    module = parse(model.text())
    weights = weights_for(module, seed)
    floats, fixed = (lowered(module, weights, rewrite) for rewrite in (None, ToFixedPointPass(rows=64)))
    inputs = model_inputs(model, TOKENS, seed)
    before, after = (ModuleInterpreter(each, weights).run(inputs) for each in (floats, fixed))
    for old, new in zip(before, after, strict=True):
        scale = max(float(np.abs(old).max(initial=0.0)), 1e-3)
        assert np.abs(old - new).mean() <= 0.05 * scale
    assert parse(str(fixed)).is_structurally_equivalent(fixed)


@settings(deadline=None, max_examples=10)
@given(SMALL_MODELS, SEEDS, st.sampled_from([ToFixedPointPass(), ToFixedPointPass(8, 8, 8, 8, 18, 0)]))
def test_no_result_wraps_whatever_comes_in(model: RaisedModel, seed: int, rewrite: ToFixedPointPass) -> None:
    """Calibrated on a few tokens; then every weight grows, all trits are 1, and states are as large as they can be."""
    module = parse(model.text())
    weights = weights_for(module, seed)
    fixed = lowered(module, weights, replace(rewrite, rows=4))
    generator = np.random.default_rng(seed)
    for name, array in weights.arrays.items():
        grown = array * np.float32(2.0 ** generator.integers(0, 30))
        weights.arrays[name] = np.full_like(array, grown.max()) if array.ndim == 2 else grown
    tokens, *states = model_inputs(model, 6, seed)
    extremes = [np.full_like(state, generator.choice([-3e38, 3e38, np.inf])) for state in states]
    interpreter = ModuleInterpreter(fixed, weights, observe=refuse_wrapping)
    interpreter.run([tokens, *states])
    interpreter.run([tokens, *extremes])


def test_what_is_not_fused_yet_is_fused() -> None:
    module = parse(RaisedModel(layers=1, hidden=16, mlp=8, vocabulary=19).text())
    weights = weights_for(module, 0)
    context, raised = make_context(weights), module.clone()
    for step in (PASSES["ternarize"](), ToFixedPointPass()):
        step.apply(context, raised)
    assert raised.is_structurally_equivalent(lowered(module, weights, ToFixedPointPass()))


@settings(deadline=None, max_examples=5)
@given(SMALL_MODELS, SEEDS)
def test_a_text_may_come_in_pieces(model: RaisedModel, seed: int) -> None:
    """What a state is outside is exactly what it is inside."""
    module = parse(model.text())
    weights = weights_for(module, seed)
    fixed = ModuleInterpreter(lowered(module, weights, ToFixedPointPass(rows=16)), weights)
    tokens, *states = model_inputs(model, TOKENS, seed)
    whole, *last = fixed.run([tokens, *states])
    first, *states = fixed.run([tokens[:9], *states])
    second, *states = fixed.run([tokens[9:], *states])
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    for a, b in zip(states, last, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), SEEDS, st.floats(0.01, 100))
def test_norms_of_rows_of_any_size(columns: int, seed: int, size: float) -> None:
    """A row a thousand times smaller than those of calibration keeps its shape, if not all of its bits."""
    program = RaisedProgram()
    x = program.argument("%x", rows(columns))
    y = program.bit_linear(program.norm(x, "outer", columns), "linear", columns, 5)
    module = parse(program.function([(y, rows(5))]))
    weights = weights_for(module, seed)
    floats, fixed = (lowered(module, weights, rewrite) for rewrite in (None, ToFixedPointPass()))
    generator = np.random.default_rng(seed)
    given_rows = generator.standard_normal((8, columns)).astype(np.float32)
    given_rows *= np.float32(size / 100)
    (old,), (new,) = (ModuleInterpreter(each, weights).run([given_rows]) for each in (floats, fixed))
    # Steps of 2^-15 or so in the input, and one of int8 in every term.
    tolerance = (0.02 + 2.0**-12 * 100 / size) * max(float(np.abs(old).max()), 0.1)
    assert np.abs(old - new).max() <= tolerance


def test_a_head_with_a_scale_for_every_channel() -> None:
    text = """
ternary.weight @g : tensor<8xf32>
ternary.weight @s : tensor<4xf32>
ternary.weight @w : tensor<4x8x!ternary.trit>
func.func @forward(%x : tensor<?x8xf32>) -> tensor<?x4xf32> {
  %g = ternary.load @g : tensor<8xf32>
  %q, %d = ternary.norm_quantize %x gains(%g : tensor<8xf32>) eps = 1.0e-6 quantize_eps = 1.0e-5 lanes = 16
    : tensor<?x8xf32> -> (tensor<?x8xi8>), (tensor<?xf32>)
  %w = ternary.load @w : tensor<4x8x!ternary.trit>
  %s = ternary.load @s : tensor<4xf32>
  %y = ternary.project quantized(%q : tensor<?x8xi8>) steps(%d : tensor<?xf32>)
    weights(%w : tensor<4x8x!ternary.trit>) scales(%s : tensor<4xf32>) reads = [0] {
  ^bb0(%a : f32):
    ternary.yield %a : f32
  } -> tensor<?x4xf32>
  func.return %y : tensor<?x4xf32>
}"""
    generator = np.random.default_rng(3)
    weights = ArrayStore(
        {
            "g": generator.standard_normal(8).astype(np.float32),
            "s": np.array([0.01, 1.0, 0.3, 2.0], np.float32),
            "w": generator.integers(-1, 2, (4, 8)).astype(np.int8),
        }
    )
    floats = parse(text)
    fixed = floats.clone()
    ToFixedPointPass().apply(make_context(weights), fixed)
    x = generator.standard_normal((20, 8)).astype(np.float32)
    (old,), (new,) = (ModuleInterpreter(each, weights).run([x]) for each in (floats, fixed))
    np.testing.assert_allclose(new, old, atol=0.02 * float(np.abs(old).max()))
    np.testing.assert_allclose(new[:, 0], old[:, 0], atol=0.03 * float(np.abs(old[:, 0]).max()))


@pytest.mark.parametrize("width", ["activations", "residual", "state", "gains", "reciprocal", "headroom"])
def test_widths_that_cannot_be_are_refused(width: str) -> None:
    module = parse("func.func @forward() {\n  func.return\n}")
    with pytest.raises(Exception, match=f"{width} is from"):
        replace(ToFixedPointPass(), **{width: 63}).apply(make_context(), module)
