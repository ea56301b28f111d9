"""What the importers' builder makes means what its methods say: built, printed, read back and run, against numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX, FunctionType, ModuleOp, TensorType, f32, i1, i8, i32, i64
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, SSAValue

from sterna.dialects import numerics
from sterna.dialects.context import parse
from sterna.dialects.contraction import match_contraction
from sterna.dialects.interpreter import run
from sterna.frontends.tensor_builder import TensorBuilder, shape_of

Array = npt.NDArray[Any]
Make = Callable[[TensorBuilder, Sequence[SSAValue]], SSAValue | Sequence[SSAValue]]
ELEMENTS: dict[Any, Attribute] = {np.float32: f32, np.int8: i8, np.int32: i32, np.int64: i64, np.bool_: i1}
T = DYNAMIC_INDEX


def build(make: Make, inputs: Sequence[Array], shapes: Sequence[tuple[int, ...]] | None = None) -> ModuleOp:
    """A program of inputs of these shapes (the arrays' if none are given), whose results `make` builds."""
    types = [
        TensorType(ELEMENTS[array.dtype.type], shape)
        for array, shape in zip(inputs, shapes or [array.shape for array in inputs], strict=True)
    ]
    function = FuncOp("forward", FunctionType.from_lists(types, []))
    builder = TensorBuilder(function.body.block)
    arguments = function.body.block.args
    for argument in arguments:
        if T in shape_of(argument):
            builder.set_rows(argument, shape_of(argument).index(T))
            break
    made = make(builder, arguments)
    builder.block.add_op(ReturnOp(*([made] if isinstance(made, SSAValue) else made)))
    function.update_function_type()
    module = ModuleOp([function])
    again = parse(str(module))
    assert again.is_structurally_equivalent(module)
    return again


def evaluate(
    make: Make, inputs: Sequence[Array], shapes: Sequence[tuple[int, ...]] | None = None
) -> tuple[Array, ...]:
    return run(build(make, inputs, shapes), inputs)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(st.integers(0, 40), st.integers(1, 3), st.integers(2, 4), st.integers(2, 3))
@settings(max_examples=30)
def test_a_batched_product_is_a_matmul_a_batch(k: int, t: int, m: int, b: int) -> None:
    """The same bits: a contraction sums in the order of linalg.matmul."""
    k = k if k != 1 else 2
    x, w = normal(k, b, t, k), normal(t, b, m, k)
    (y,) = evaluate(lambda build, v: build.contract(v[0], v[1], "btk,bmk->btm"), [x, w], [(b, T, k), w.shape])

    def product(builder: TensorBuilder, values: Sequence[SSAValue]) -> SSAValue:
        return builder.matmul(values[0], builder.transpose(values[1], [1, 0]))

    for batch in range(b):
        (expected,) = evaluate(product, [x[batch], w[batch]], [(T, k), (m, k)])
        assert np.array_equal(y[batch], expected)


def test_the_initial_value_is_added_last() -> None:
    (y,) = evaluate(lambda build, v: build.contract(v[0], v[1], "k,k->"), [normal(0, 33), normal(1, 33)])
    assert y == np.float32(0.0) + numerics.lane_sum(normal(0, 33) * normal(1, 33))


@pytest.mark.parametrize("unsigned", [(False, False), (True, False), (False, True), (True, True)])
def test_integers_are_widened_with_or_without_their_sign(unsigned: tuple[bool, bool]) -> None:
    generator = np.random.default_rng(7)
    x, w = (generator.integers(-128, 128, shape).astype(np.int8) for shape in ((3, 2, 5), (4, 2, 5)))
    (y,) = evaluate(
        lambda build, v: build.contract(v[0], v[1], "tgk,mgk->gtm", i32, unsigned=unsigned), [x, w]
    )
    wide = [
        a.view(np.uint8).astype(int) if u else a.astype(int) for a, u in zip((x, w), unsigned, strict=True)
    ]
    assert np.array_equal(y, np.einsum("tgk,mgk->gtm", *wide))


def test_a_sum_of_products_of_integers_wraps() -> None:
    x = np.array([2**31 - 1, 2**31 - 1, 3], np.int32)
    (y,) = evaluate(lambda build, v: build.contract(v[0], v[0], "k,k->", i32), [x])
    assert int(y) == 11


def test_a_large_product_in_parts_has_the_same_bits() -> None:
    x, w = normal(1, 3, 300, 80), normal(2, 3, 300, 80)
    (y,) = evaluate(lambda build, v: build.contract(v[0], v[1], "btk,bmk->mbt"), [x, w])
    rows = numerics.lane_sum(x[1, 7] * w[1])
    assert np.array_equal(y[:, 1, 7], rows)


def test_contractions_are_recognised_and_other_reductions_are_not() -> None:
    module = build(
        lambda make, v: make.contract(v[0], v[1], "bmk,btk->btm"), [normal(0, 2, 3, 4), normal(1, 2, 5, 4)]
    )
    (op,) = [op for op in module.walk() if isinstance(op, linalg.GenericOp)]
    found = match_contraction(op)
    assert found is not None
    assert (found.left, found.right, found.out, found.reduced) == ((0, 2, 3), (0, 1, 3), (0, 1, 2), 3)
    text = str(module)
    for wrong in (
        text.replace("arith.mulf", "arith.divf"),
        text.replace("arith.addf", "arith.maximumf"),
        text.replace('"parallel", "reduction"', '"reduction", "parallel"'),
    ):
        (op,) = [op for op in parse(wrong).walk() if isinstance(op, linalg.GenericOp)]
        assert match_contraction(op) is None


def test_a_sum_over_a_dynamic_axis() -> None:
    """The values of attention: T is the reduced loop, and stands in two types at two places."""
    scores, values = normal(3, 2, 21, 21), normal(4, 21, 2, 8)
    shapes = [(2, T, T), (T, 2, 8)]
    (y,) = evaluate(lambda make, v: make.contract(v[0], v[1], "hts,shd->htd"), [scores, values], shapes)
    expected = numerics.lane_sum(scores[:, :, None, :] * values.transpose(1, 2, 0)[:, None])
    assert np.array_equal(y, expected)


def test_iota_counts_along_its_axis() -> None:
    (y, z) = evaluate(
        lambda make, v: [make.iota((T, 3), 0), make.iota((2, T), 1, i32)], [normal(0, 5)], [(T,)]
    )
    assert np.array_equal(y, np.repeat(np.arange(5)[:, None], 3, 1))
    assert np.array_equal(z, np.tile(np.arange(5, dtype=np.int32), (2, 1)))


def test_a_causal_mask_compares_two_indices() -> None:
    def mask(make: TensorBuilder, v: Sequence[SSAValue]) -> SSAValue:
        def body(scalars: Sequence[SSAValue]) -> arith.SelectOp:
            row, column = make.add(linalg.IndexOp(0)), make.add(linalg.IndexOp(1))
            past = make.add(arith.CmpiOp(column, row, "sle"))
            return arith.SelectOp(past, scalars[0], make.scalar(float("-inf")))

        return make.generic([(v[0], [0, 1])], (T, T), f32, body)

    (y,) = evaluate(mask, [normal(0, 4, 4)], [(T, T)])
    assert np.array_equal(y, np.where(np.tri(4, dtype=bool), normal(0, 4, 4), -np.inf))


def test_generic_broadcasts_by_projection() -> None:
    def add(make: TensorBuilder, v: Sequence[SSAValue]) -> SSAValue:
        return make.generic([(v[0], [0]), (v[1], [2, 1])], (4, 3, 5), f32, lambda s: arith.AddfOp(s[0], s[1]))

    x, y = normal(0, 4), normal(1, 5, 3)
    assert np.array_equal(evaluate(add, [x, y])[0], x[:, None, None] + y.T)


def test_padding() -> None:
    x = np.arange(6, dtype=np.int8).reshape(2, 3)
    (y,) = evaluate(lambda make, v: make.pad(v[0], [0, 2], [0, 1], -7), [x], [(T, 3)])
    assert np.array_equal(y, np.pad(x, [(0, 0), (2, 1)], constant_values=-7))
    (y,) = evaluate(lambda make, v: make.pad(v[0], [1, 0], [0, 0], 1), [x > 2])
    assert np.array_equal(y, np.pad(x > 2, [(1, 0), (0, 0)], constant_values=True))


def test_windows_gather_and_top_k() -> None:
    x = normal(5, 3, 8)

    def make(build: TensorBuilder, v: Sequence[SSAValue]) -> Sequence[SSAValue]:
        slid = build.windows(v[0], [1], [2], leading=1, strides=[2], low=[1], high=[1], padding=-1)
        return [slid, build.gather(v[0], v[1], 1), *build.top_k(v[0], 2, largest=True)]

    slid, looked_up, values, indices = evaluate(make, [x, np.array([7, 0, 99])], [(T, 8), (3,)])
    padded = np.pad(x, [(0, 0), (1, 1)], constant_values=-1)
    assert np.array_equal(slid, padded.reshape(3, 5, 2))
    assert np.array_equal(looked_up, x[:, [7, 0, 7]])
    assert np.array_equal(indices, np.argsort(-x, 1)[:, :2])
    assert np.array_equal(values, np.take_along_axis(x, indices, 1))


@pytest.mark.parametrize("t", [0, 1, 5])
def test_a_loop_over_rows_is_the_recurrence(t: int) -> None:
    """s = 0.5 * s + x[t], all states written; T turns."""
    x = normal(t, t, 4)

    def recurrence(make: TensorBuilder, v: Sequence[SSAValue]) -> Sequence[SSAValue]:
        def step(turn: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            state, states = carried
            row = make.slice(v[0], 0, turn, 1)
            half = make.splat(0.5, (4,))
            state = make.add(arith.AddfOp(make.add(arith.MulfOp(state, half)), row))
            return [state, make.insert_slice(state, states, 0, turn)]

        assert make.rows is not None
        start = [make.splat(0, (4,)), make.splat(0, (T, 4))]
        make.splat(0.5, (4,))
        return make.loop(make.rows, start, step)

    state, states = evaluate(recurrence, [x], [(T, 4)])
    expected = np.zeros(4, np.float32)
    for row in range(t):
        expected = expected * np.float32(0.5) + x[row]
        assert np.array_equal(states[row], expected)
    assert np.array_equal(state, expected)


def test_what_a_loop_makes_is_not_reused_after_it() -> None:
    def make(build: TensorBuilder, v: Sequence[SSAValue]) -> SSAValue:
        def step(turn: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            return [build.add(arith.AddfOp(carried[0], build.splat(2, (3,))))]

        (y,) = build.loop(4, [v[0]], step)
        return build.add(arith.AddfOp(y, build.splat(2, (3,))))

    assert np.array_equal(evaluate(make, [normal(0, 3)])[0], sum([np.float32(2)] * 5, normal(0, 3)))
