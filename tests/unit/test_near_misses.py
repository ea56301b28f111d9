"""What looks like a norm or a quantization, and is none, is not taken for one; what is one keeps its numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.context import make_context, parse
from sterna.dialects.interpreter import run
from sterna.dialects.ternary import AbsmeanOp, AccumulateOp, QuantizeOp, RmsNormOp
from sterna.dialects.weights import ArrayStore
from sterna.passes.raise_bit_linear import RaiseBitLinearPass

TEXT = (Path(__file__).parents[1] / "filecheck/raise-bit-linear.mlir").read_text()
"""A norm, the quantizations of rows and of a weight, and their product, in upstream operations."""

SQUARE = (
    ("tensor<?x", "tensor<8x"),
    ("[%T]", ""),
    ("tensor.empty(%T)", "tensor.empty()"),
    ("tensor.dim %x, %c0 : tensor<8x8xf32>", "arith.constant 8 : index"),
)
"""As many rows as columns, so that a number for each column could stand for one for each row."""


def changed(*exchanges: tuple[str, str]) -> ModuleOp:
    """The program with texts exchanged, each of which is there."""
    text = TEXT
    for old, new in exchanges:
        assert old in text, old
        text = text.replace(old, new)
    return parse(text)


def raised(module: ModuleOp) -> ModuleOp:
    copy = module.clone()
    RaiseBitLinearPass().apply(make_context(), copy)
    copy.verify()
    return copy


def count(module: ModuleOp, op: type) -> int:
    return sum(isinstance(each, op) for each in module.walk())


def results(module: ModuleOp, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> np.ndarray:
    generator = np.random.default_rng(0)
    arrays = {
        "gain": generator.standard_normal(8, np.float32),
        "weight": generator.standard_normal((4, 8), np.float32),
    }
    (y,) = run(module, [x], weights=ArrayStore(arrays))
    return y


X = np.random.default_rng(1).standard_normal((8, 8), np.float32)

CASES = {
    "a mean of another count": (RmsNormOp, [("%k = arith.constant 8.0", "%k = arith.constant 4.0")]),
    "a mean of products": (
        RmsNormOp,
        [("%xx = arith.mulf %x, %x :", "%xa = math.absf %x : tensor<?x8xf32>\n  %xx = arith.mulf %x, %xa :")],
    ),
    "a narrower clamp": (AccumulateOp, [("%low = arith.constant -128.0", "%low = arith.constant -8.0")]),
    "a scale of 63": (
        AccumulateOp,
        [
            ("%low = arith", "%other = arith.constant 63.0 : f32\n  %low = arith"),
            ("%highs = tensor.splat %high", "%highs = tensor.splat %other"),
        ],
    ),
    "the largest of a column": (
        AccumulateOp,
        [*SQUARE, ("(%lowest:tensor<8xf32>) dimensions = [1]", "(%lowest:tensor<8xf32>) dimensions = [0]")],
    ),
    "weights of five values": (
        AbsmeanOp,
        [
            ("%low = arith", "%two = arith.constant 2.0 : f32\n  %low = arith"),
            ("%low = arith", "%minus_two = arith.constant -2.0 : f32\n  %low = arith"),
            ("%wlo = tensor.splat %minus_one", "%wlo = tensor.splat %minus_two"),
            ("%whi = tensor.splat %one", "%whi = tensor.splat %two"),
        ],
    ),
}  # fmt: skip


def test_the_program_itself_is_recognised() -> None:
    module = raised(changed())
    assert [count(module, op) for op in (RmsNormOp, QuantizeOp, AbsmeanOp, AccumulateOp)] == [1, 1, 1, 1]
    square = raised(changed(*SQUARE))
    assert [count(square, op) for op in (RmsNormOp, QuantizeOp, AbsmeanOp, AccumulateOp)] == [1, 1, 1, 1]


@pytest.mark.parametrize(("op", "exchanges"), CASES.values(), ids=CASES)
def test_what_is_almost_one_is_not_recognised(op: type, exchanges: list[tuple[str, str]]) -> None:
    module = raised(changed(*exchanges))
    assert count(module, op) == 0


@pytest.mark.parametrize("case", ["a mean of another count", "a mean of products"])
def test_what_is_not_recognised_means_the_same(case: str) -> None:
    """The quantization behind such a norm is recognised, and moves roundings alone."""
    module = changed(*CASES[case][1])
    np.testing.assert_allclose(results(raised(module), X), results(module, X), rtol=1e-4, atol=1e-4)


FLOOR_ON_STEP = (
    (
        "%d0 = arith.maximumf %max, %floors",
        "%h0 = tensor.splat %high[%T] : tensor<?xf32>\n  %d1 = arith.divf %max, %h0 : tensor<?xf32>\n"
        "  %d0 = arith.maximumf %d1, %floors",
    ),
    (
        "%s = arith.divf %highs, %d0",
        "%ones = tensor.splat %one[%T] : tensor<?xf32>\n  %s = arith.divf %ones, %d0",
    ),
)
"""The floor stands under max|x| / 127, and not under max|x|."""


def test_a_floor_of_the_step_is_127_floors_of_the_maximum() -> None:
    module = raised(changed(*FLOOR_ON_STEP))
    (quantize,) = (op for op in module.walk() if isinstance(op, QuantizeOp))
    assert quantize.eps.value.data == pytest.approx(127e-5, rel=1e-6)


def test_rows_below_the_floor_of_the_step_mean_the_same() -> None:
    """The norm makes rows of ones of all others, so its own eps makes them small."""
    exchanges = (*FLOOR_ON_STEP, ("%norm_eps = arith.constant 1.0e-06", "%norm_eps = arith.constant 1.0e+08"))
    module = changed(*exchanges)
    before, after = results(module, X), results(raised(module), X)
    assert np.abs(before).max() > 0
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-7)
