"""Recognising ternary products and thresholds: what comes out computes the same, and runs on the ternary operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AffineMapAttr,
    ArrayAttr,
    FloatAttr,
    FunctionType,
    ModuleOp,
    TensorType,
    f32,
    i8,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorTypeAttr
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from sterna.dialects.context import make_context
from sterna.dialects.interpreter import run
from sterna.dialects.ternary import AccumulateOp, ConvolveOp, LoadOp, ThresholdOp, WeightOp, WindowsOp, tensor
from sterna.dialects.weights import ArrayStore
from sterna.frontends.tensor_builder import TensorBuilder, shape_of
from sterna.passes import PASSES, fuse_thresholds

Array = npt.NDArray[Any]
SEEDS = st.integers(0, 2**32 - 1)
POWERS = st.sampled_from((0.125, 0.5, 1.0, 4.0))
"""Scales by which a product of small integers stays exact, so that nothing may move."""


@dataclass
class Network:
    """A function of one input, built op by op, and its weights."""

    shape: tuple[int, ...]
    weights: dict[str, Array] = field(default_factory=dict[str, Array])

    def __post_init__(self) -> None:
        self.block = Block(arg_types=[TensorType(f32, self.shape)])
        self.build = TensorBuilder(self.block)
        if DYNAMIC_INDEX in self.shape:
            self.build.set_rows(self.x, self.shape.index(DYNAMIC_INDEX))

    @property
    def x(self) -> SSAValue:
        return self.block.args[0]

    def weight(self, array: Array) -> SSAValue:
        name = f"w{len(self.weights)}"
        self.weights[name] = array
        element = {"float32": f32, "int8": i8}[array.dtype.name]
        return self.build.add(LoadOp(name, TensorType(element, array.shape)))

    def map(self, op: Callable[..., Operation], *inputs: SSAValue, element: Any = f32) -> SSAValue:
        return self.build.pointwise(inputs, element, lambda args: op(*args))

    def by(self, op: Callable[..., Operation], x: SSAValue, number: float) -> SSAValue:
        return self.build.add(op(x, self.build.splat(number, shape_of(x))))

    def by_channel(self, op: Callable[..., Operation], x: SSAValue, numbers: Array) -> SSAValue:
        """With a number for each element of the last axis."""
        shape = shape_of(x)
        row = self.build.broadcast(self.weight(numbers), shape, range(len(shape) - 1))
        return self.build.add(op(x, row))

    def quantize(self, x: SSAValue, step: float, zero: float, low: float, high: float) -> SSAValue:
        """To int8."""
        x = self.by(arith.AddfOp, self.by(arith.DivfOp, x, step), zero)
        x = self.build.add(math.RoundEvenOp(x))
        x = self.by(arith.MinimumfOp, self.by(arith.MaximumfOp, x, low), high)
        return self.map(lambda a, _: arith.FPToSIOp(a, i8), x, element=i8)

    def dequantize(self, q: SSAValue, step: float, zero: float) -> SSAValue:
        x = self.map(lambda a, _: arith.SIToFPOp(a, f32), q)
        return self.by(arith.MulfOp, self.by(arith.SubfOp, x, zero) if zero else x, step)

    def contract(
        self,
        x: SSAValue,
        w: SSAValue,
        loops: Sequence[Sequence[int]],
        shape: Sequence[int],
        start: float = 0.0,
    ) -> SSAValue:
        """`loops`: those of each axis of x and of w; the result's are 0, 1, ..., and the last is reduced. The products
        are added to `start`."""
        body = Block(arg_types=[f32] * 3)
        body.add_op(product := arith.MulfOp(*body.args[:2]))
        body.add_op(total := arith.AddfOp(body.args[2], product.result))
        body.add_op(linalg.YieldOp(total.result))
        rank = len(shape) + 1
        lists = [*loops, range(rank - 1)]
        maps = [AffineMapAttr(AffineMap(rank, 0, tuple(map(AffineExpr.dimension, each)))) for each in lists]
        kinds = [IteratorTypeAttr.parallel()] * (rank - 1) + [IteratorTypeAttr.reduction()]
        init = self.build.splat(start, tuple(shape))
        return self.build.add(
            linalg.GenericOp([x, w], [init], Region(body), ArrayAttr(maps), ArrayAttr(kinds), [init.type])
        )

    def module(self, *results: SSAValue) -> ModuleOp:
        self.block.add_op(ReturnOp(*results))
        type = FunctionType.from_lists([self.x.type], [value.type for value in results])
        weights = [
            WeightOp(name, TensorType({"float32": f32, "int8": i8}[a.dtype.name], a.shape))
            for name, a in self.weights.items()
        ]
        module = ModuleOp([*weights, FuncOp("forward", type, Region(self.block))])
        module.verify()
        return module


def after(module: ModuleOp, weights: dict[str, Array], *names: str) -> ModuleOp:
    context, module = make_context(ArrayStore(weights)), module.clone()
    for name in names:
        PASSES[name]().apply(context, module)
        module.verify()
    return module


def count(module: ModuleOp, kind: type[Operation]) -> int:
    return sum(isinstance(op, kind) for top in module.ops if isinstance(top, FuncOp) for op in top.walk())


def ternary_numbers(generator: np.random.Generator, shape: tuple[int, ...], scale: Array) -> Array:
    return (generator.integers(-1, 2, shape) * scale).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_ternary_product_is_found_wherever_its_weight_stands(data: st.DataObject) -> None:
    """Rows, groups and channels in any order on either side, floats or int8, a scale for all or for each channel."""
    generator = np.random.default_rng(data.draw(SEEDS))
    rows = data.draw(st.sampled_from(((), (1,), (3,), (DYNAMIC_INDEX,), (2, 1, 3), (DYNAMIC_INDEX, 2))))
    groups = data.draw(st.sampled_from(((), (2,), (3,))))
    channels = data.draw(st.sampled_from(((), (1,), (4,), (2, 3))))
    k = data.draw(st.integers(1, 9))
    sizes = (*rows, *groups, *channels)
    reduced = len(sizes)
    of_x = data.draw(st.permutations([*range(len(rows) + len(groups)), reduced]))
    of_w = data.draw(st.permutations([*range(len(rows), reduced), reduced]))

    network = Network(tuple([*sizes, k][loop] for loop in of_x))
    x = network.x
    if is_quantized := data.draw(st.booleans()):
        step, zero = data.draw(POWERS), data.draw(st.sampled_from((0.0, 3.0, -128.0)))
        x = network.dequantize(network.quantize(x, step, zero, -128, 127), step, zero)
    scale = data.draw(POWERS)
    numbers = ternary_numbers(generator, tuple([*sizes, k][loop] for loop in of_w), np.float32(scale))
    if per_channel := data.draw(st.booleans()):
        along = [1 if loop == reduced else [*sizes, k][loop] for loop in of_w]
        numbers *= generator.choice([0.25, 1, 2], along).astype(np.float32)
    w = network.weight(numbers)
    operands = [(x, of_x), (w, of_w)]
    if data.draw(st.booleans()):
        operands.reverse()
    (left, left_loops), (right, right_loops) = operands
    module = network.module(network.contract(left, right, (left_loops, right_loops), sizes))

    raised = after(module, network.weights, "raise-ternary-products")
    given = [5 if size == DYNAMIC_INDEX else size for size in network.shape]
    values = generator.integers(-20, 20, given).astype(np.float32)
    (expected,), (found,) = (
        run(each, [values], weights=ArrayStore(network.weights)) for each in (module, raised)
    )
    (accumulate, *_) = [op for op in raised.walk() if isinstance(op, AccumulateOp)]
    assert (tensor(accumulate.x).element_type == i8) == is_quantized
    assert np.array_equal(found, expected), (per_channel, rows, groups, channels)


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.booleans())
def test_a_weight_of_more_magnitudes_stays_float(seed: int, in_one_row: bool) -> None:
    generator = np.random.default_rng(seed)
    numbers = ternary_numbers(generator, (4, 6), np.float32(1))
    numbers[0, :2] = (1, 2)
    if not in_one_row:
        numbers[:, :2] = (1, 2)
    network = Network((DYNAMIC_INDEX, 6))
    w = network.weight(numbers)
    module = network.module(network.contract(network.x, w, ((0, 2), (1, 2)), (DYNAMIC_INDEX, 4)))
    assert count(after(module, network.weights, "raise-ternary-products"), AccumulateOp) == 0


@pytest.mark.parametrize("is_quantized", [True, False])
def test_what_a_ternary_product_is_added_to_stays(is_quantized: bool) -> None:
    generator = np.random.default_rng(6)
    network = Network((DYNAMIC_INDEX, 6))
    x = network.x
    if is_quantized:
        x = network.dequantize(network.quantize(x, 0.5, 0.0, -128, 127), 0.5, 0.0)
    w = network.weight(ternary_numbers(generator, (4, 6), np.float32(0.5)))
    module = network.module(network.contract(x, w, ((0, 2), (1, 2)), (DYNAMIC_INDEX, 4), start=2.5))
    raised = after(module, network.weights, "raise-ternary-products")
    values = generator.integers(-20, 20, (3, 6)).astype(np.float32)
    (expected,), (found,) = (
        run(each, [values], weights=ArrayStore(network.weights)) for each in (module, raised)
    )
    assert count(raised, AccumulateOp) == 1
    assert np.array_equal(found, expected)


def random_tail(
    network: Network, y: SSAValue, generator: np.random.Generator, draw: Callable[..., Any]
) -> SSAValue:
    """What networks have between sums and the next activations: scales, batch norms, activation functions."""
    channels = shape_of(y)[-1]
    for _ in range(draw(st.integers(0, 4))):
        numbers = generator.standard_normal(channels).astype(np.float32)
        match draw(st.sampled_from(("scale", "shift", "divide", "relu", "clip", "constant"))):
            case "scale":
                y = network.by_channel(arith.MulfOp, y, numbers)
            case "shift":
                y = network.by_channel(arith.AddfOp, y, numbers * 5)
            case "divide":
                y = network.by_channel(arith.DivfOp, y, np.abs(numbers) + np.float32(0.1))
            case "relu":
                y = network.by(arith.MaximumfOp, y, 0.0)
            case "clip":
                y = network.by(arith.MinimumfOp, y, 2.5)
            case _:
                y = network.by_channel(arith.MulfOp, y, np.zeros(channels, np.float32))
    return y


@settings(max_examples=25, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("exhaustive", [True, False], ids=["exhaustive", "bisection"])
def test_a_monotone_chain_becomes_thresholds_of_the_same_bits(exhaustive: bool, data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(SEEDS))
    k, m = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 5))
    low, high = data.draw(st.sampled_from(((-1, 1), (0, 3), (-2, 1), (-128, 127))))
    levels = data.draw(st.sampled_from(((-1, 1), (0, 3), (-8, 7))))
    network = Network((DYNAMIC_INDEX, k))
    step = data.draw(st.sampled_from((0.1, 0.25, 3.0)))
    zero = data.draw(st.sampled_from((0.0, 1.0)))
    x = network.dequantize(network.quantize(network.x, 1.0, zero, low, high), step, zero)
    w = network.weight(ternary_numbers(generator, (m, k), np.float32(0.3)))
    y = network.contract(x, w, ((0, 2), (1, 2)), (DYNAMIC_INDEX, m))
    y = random_tail(network, y, generator, data.draw)
    q = network.quantize(y, data.draw(st.sampled_from((0.5, 0.7))), 0.0, *levels)
    raised = after(network.module(q), network.weights, "raise-ternary-products")
    with pytest.MonkeyPatch.context() as patch:
        if not exhaustive:
            patch.setattr(fuse_thresholds, "EXHAUSTIVE", 0)
        fused = after(raised, network.weights, "fuse-thresholds")
    values = generator.integers(-140, 140, (6, k)).astype(np.float32)
    (expected,), (found,) = (
        run(each, [values], weights=ArrayStore(network.weights)) for each in (raised, fused)
    )
    assert np.array_equal(found, expected)
    assert count(fused, ThresholdOp) == 1 or len(np.unique(expected)) == 1


@pytest.mark.parametrize("is_read", [True, False])
def test_sums_are_not_computed_twice_to_turn_a_falling_channel(is_read: bool) -> None:
    """Its trits are negated, so that whoever else reads the sums would need them as they were."""
    generator = np.random.default_rng(7)
    network = Network((DYNAMIC_INDEX, 9))
    x = network.dequantize(network.quantize(network.x, 1.0, 0.0, -8, 7), 1.0, 0.0)
    w = network.weight(ternary_numbers(generator, (3, 9), np.float32(0.5)))
    y = network.contract(x, w, ((0, 2), (1, 2)), (DYNAMIC_INDEX, 3))
    q = network.quantize(network.by(arith.MulfOp, y, -1.0), 2.0, 0.0, -2, 1)
    module = network.module(q, y) if is_read else network.module(q)
    fused = after(module, network.weights, "raise-ternary-products", "fuse-thresholds")
    assert count(fused, AccumulateOp) == 1
    assert count(fused, ThresholdOp) == (0 if is_read else 1)
    values = generator.integers(-9, 9, (5, 9)).astype(np.float32)
    results = [run(each, [values], weights=ArrayStore(network.weights)) for each in (module, fused)]
    for expected, found in zip(*results, strict=True):
        assert np.array_equal(found, expected)


def test_one_bit_activations_are_thresholds_too() -> None:
    """A sign that stays float, as a binarized network writes it: two equal steps."""
    generator = np.random.default_rng(5)
    network = Network((DYNAMIC_INDEX, 30))

    def sign(x: SSAValue) -> SSAValue:
        shape = shape_of(x)
        block = Block(arg_types=[f32, f32])
        zero, one, minus = (arith.ConstantOp(FloatAttr(n, f32)) for n in (0.0, 1.0, -1.0))
        is_positive = arith.CmpfOp(block.args[0], zero.result, "oge")
        chosen = arith.SelectOp(is_positive.result, one.result, minus.result)
        block.add_ops([zero, one, minus, is_positive, chosen, linalg.YieldOp(chosen.result)])
        identity = AffineMapAttr(AffineMap.identity(len(shape)))
        kinds = ArrayAttr([IteratorTypeAttr.parallel()] * len(shape))
        init = network.build.empty(shape)
        return network.build.add(
            linalg.GenericOp([x], [init], Region(block), ArrayAttr([identity] * 2), kinds, [init.type])
        )

    x = sign(network.x)
    for k, m in ((30, 20), (20, 7)):
        w = network.weight(np.where(generator.integers(0, 2, (m, k)), 1, -1).astype(np.float32))
        x = network.contract(x, w, ((0, 2), (1, 2)), (DYNAMIC_INDEX, m))
        x = sign(network.by_channel(arith.AddfOp, x, generator.standard_normal(m).astype(np.float32)))
    module = network.module(x)
    fused = after(module, network.weights, "raise-ternary-products", "fuse-thresholds")
    values = generator.standard_normal((50, 30)).astype(np.float32)
    (expected,), (found,) = (
        run(each, [values], weights=ArrayStore(network.weights)) for each in (module, fused)
    )
    assert np.array_equal(found, expected)
    assert count(fused, AccumulateOp) == 2 and count(fused, ThresholdOp) == 1


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_windows_and_sums_are_one_operation(data: st.DataObject) -> None:
    """A convolution by a ternary weight, of floats or int8, in one or two axes, with channels first or last."""
    generator = np.random.default_rng(data.draw(SEEDS))
    rank, channels, m = (
        data.draw(st.integers(1, 2)),
        data.draw(st.sampled_from((2, 3))),
        data.draw(st.integers(1, 4)),
    )
    spatial = [data.draw(st.integers(3, 6)) for _ in range(rank)]
    is_last = data.draw(st.booleans())
    network = Network((DYNAMIC_INDEX, *spatial, channels) if is_last else (DYNAMIC_INDEX, channels, *spatial))
    x = network.x
    if is_quantized := data.draw(st.booleans()):
        x = network.dequantize(network.quantize(x, 0.5, 1.0, -128, 127), 0.5, 1.0)
    if is_last:
        x = network.build.transpose(x, [0, rank + 1, *range(1, rank + 1)])
    sizes = [data.draw(st.integers(1, 3)) for _ in spatial]
    low = [data.draw(st.integers(0, 2)) for _ in spatial]
    windows = WindowsOp(
        x,
        leading=1,
        axes=range(2, rank + 2),
        sizes=sizes,
        strides=[data.draw(st.integers(1, 2)) for _ in spatial],
        low=low,
        high=low,
        padding=FloatAttr(0.0, f32),
    )
    slid = network.build.add(windows)
    columns = channels * int(np.prod(sizes))
    rows = shape_of(slid)[: 1 + sum(size != 1 for size in windows.full_shape(shape_of(x))[1 : rank + 1])]
    flat = network.build.reshape(slid, (*rows, columns))
    assert flat is not None
    w = network.weight(ternary_numbers(generator, (m, columns), np.float32(2)))
    loops = ((*range(len(rows)), len(rows) + 1), (len(rows), len(rows) + 1))
    module = network.module(network.contract(flat, w, loops, (*rows, m)))
    fused = after(module, network.weights, "raise-ternary-products", "fuse-convolutions")
    values = generator.integers(-9, 9, [2 if size == DYNAMIC_INDEX else size for size in network.shape])
    (expected,), (found,) = (
        run(each, [values.astype(np.float32)], weights=ArrayStore(network.weights))
        for each in (module, fused)
    )
    assert np.array_equal(found, expected)
    assert count(fused, ConvolveOp) == 1 and count(fused, WindowsOp) == 0
    (convolve,) = (op for op in fused.walk() if isinstance(op, ConvolveOp))
    assert (tensor(convolve.x).element_type == i8) == is_quantized
