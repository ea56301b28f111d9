"""How far the fused norm and quantization is from what it replaces: the bounds in the pass's docstring."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from sterna.dialects.context import make_context, parse
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.numerics import LANES
from sterna.dialects.weights import ArrayStore
from sterna.passes import PASSES
from tests.raised_models import RaisedModel, RaisedProgram, rows, store_for

F32 = npt.NDArray[np.float32]

ULP = 2.0**-24
"""Half a unit in the last place of 1: the relative error of one rounding."""
PRODUCT_ERROR = 127 * 18 * ULP


def norms(k: int, gains: int, *, outer: bool) -> str:
    """Quantized norms of x, each with its own weight, or of a norm of x."""
    program = RaisedProgram()
    x = program.argument("%x", rows(k))
    if outer:
        x = program.norm(x, "outer", k)
    quantized = [program.quantize(program.norm(x, f"gain{n}", k, "1.0e-08"), k) for n in range(gains)]
    return program.function(
        [*((q, rows(k, "i8")) for q, _ in quantized), *((step, "tensor<?xf32>") for _, step in quantized)]
    )


def before_and_after(text: str, x: F32, arrays: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    module, store = parse(text), ArrayStore(arrays)
    before = ModuleInterpreter(module, store).run([x])
    PASSES["fuse-norm-quantize"]().apply(make_context(store), module)
    assert "ternary.quantize" not in str(module)
    return list(before), list(ModuleInterpreter(module, store).run([x]))


@given(
    k=st.sampled_from((1, 7, 16, 257, 1000)),
    gains=st.integers(1, 3),
    outer=st.booleans(),
    exponent=st.integers(-3, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_integers_move_by_one_at_most_and_steps_by_the_order_of_a_sum(
    k: int, gains: int, outer: bool, exponent: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((20, k), np.float32) * np.float32(10.0**exponent)
    names = [*(["outer"] if outer else []), *(f"gain{n}" for n in range(gains))]
    arrays = {name: generator.standard_normal(k, np.float32) for name in names}
    before, after = before_and_after(norms(k, gains, outer=outer), x, arrays)
    changed = 0
    for a, b in zip(before[:gains], after[:gains], strict=True):
        difference = np.abs(a.astype(np.int32) - b.astype(np.int32))
        assert difference.max() <= 1
        changed += int(difference.sum())
    # Products are smooth, so as many as lie that close to a half; three for the chance of a small sample.
    assert changed <= 2 * PRODUCT_ERROR * 20 * k * gains + 3
    for a, b in zip(before[gains:], after[gains:], strict=True):
        np.testing.assert_allclose(b, a, rtol=(k / LANES + 16) * 2 * ULP)


@given(st.booleans(), st.sampled_from((0.0, 1e-38, 1e-12, 1e-8)), st.integers(0, 2**32 - 1))
def test_rows_at_the_floors_of_norm_and_quantization(outer: bool, scale: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((4, 64), np.float32) * np.float32(scale)
    arrays = {name: generator.standard_normal(64, np.float32) for name in ("outer", "gain0")}
    (q, step), (fused_q, fused_step) = before_and_after(norms(64, 1, outer=outer), x, arrays)
    assert np.abs(q.astype(np.int32) - fused_q.astype(np.int32)).max() <= 1
    np.testing.assert_allclose(fused_step, step, rtol=(64 / LANES + 16) * 2 * ULP)


def test_norms_of_other_floors_are_not_one() -> None:
    program = RaisedProgram()
    x = program.argument("%x", rows(8))
    quantized = [
        program.quantize(program.norm(x, f"gain{n}", 8, eps), 8) for n, eps in enumerate(("1.0e-08", "1.0"))
    ]
    text = program.function([(step, "tensor<?xf32>") for _, step in quantized])
    arrays = {f"gain{n}": np.ones(8, np.float32) for n in range(2)}
    before, after = before_and_after(text, np.full((2, 8), 0.5, np.float32), arrays)
    assert not np.allclose(before[0], before[1])
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5)


def test_zero_rows_stay_zero() -> None:
    arrays = {name: np.ones(16, np.float32) for name in ("outer", "gain0")}
    before, after = before_and_after(norms(16, 1, outer=True), np.zeros((2, 16), np.float32), arrays)
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_measured_fraction_of_integers_that_change() -> None:
    """At the width of the 2.7B model: one or two integers in a million, and a step by a few parts in 10^7."""
    generator = np.random.default_rng(0)
    k = 2560
    x = generator.standard_normal((100, k), np.float32)
    arrays = {name: generator.uniform(0.5, 1.5, k).astype(np.float32) for name in ("outer", "gain0", "gain1")}
    before, after = before_and_after(norms(k, 2, outer=True), x, arrays)
    changed = np.mean([np.mean(a != b) for a, b in zip(before[:2], after[:2], strict=True)])
    steps = max(np.max(np.abs(b / a - 1)) for a, b in zip(before[2:], after[2:], strict=True))
    print(f"integers that change: {changed:.2e}; largest relative change of a step: {steps:.1e}")
    assert changed < 2e-5
    assert steps < 1e-6


def test_logits_of_a_model_barely_move() -> None:
    """What a random model of four layers makes of it; a trained one is measured end to end."""
    module = parse(RaisedModel(layers=4, hidden=128, mlp=256, vocabulary=64).text())
    generator = np.random.default_rng(0)
    store = store_for(module, generator)
    store.arrays = {name: generator.standard_normal(a.shape, np.float32) for name, a in store.arrays.items()}
    inputs = [generator.integers(0, 64, 16), *(np.zeros(128, np.float32) for _ in range(4))]
    before = ModuleInterpreter(module, store).run(inputs)[0]
    PASSES["fuse-norm-quantize"]().apply(make_context(store), module)
    after = ModuleInterpreter(module, store).run(inputs)[0]
    print(
        f"largest change of a logit: {np.abs(after - before).max() / np.abs(before).max():.1e} of the largest"
    )
    assert np.abs(after - before).max() < 0.02 * np.abs(before).max()
    assert np.mean(after.argmax(-1) == before.argmax(-1)) > 0.9
