"""Makes one integer step function of all that stands between integer sums and the next small integers.

    %acc = ternary.accumulate %q, %trits : tensor<?x784xi8>, tensor<64x784x!ternary.trit> -> tensor<?x64xi32>
    %y = ternary.dequantize %acc, %step, %scale : ...
    ... batch norm, activation, division by the next step, rounding, clamping to [-1, 1] ...
    %next = fptosi ... : tensor<?x64xi8>

becomes

    %acc = ternary.accumulate %q, %turned : ...
    %next = ternary.threshold %acc, %thresholds base = -1 : tensor<?x64xi32>, tensor<64x2xi32> -> tensor<?x64xi8>

Why it is right: an element of %next is a function of one integer and of its channel. The interpreter, which defines
what the operations give, evaluates that function at every integer that the channel can reach (its trits and the range
of %q say which those are), and the thresholds are where it steps. So the fused program gives the same bits. Where there
are too many integers, and each step of the chain is monotone (a rounded operation is, where the exact one is), the
thresholds are found by bisection. A channel whose function decreases has its trits negated, and is evaluated at the
negative. A function that both rises and falls, or that has more than `max-thresholds` steps, stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.context import Context
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import ModuleOp, TensorType, f32, i8, i32
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, Region, SSAValue
from xdsl.passes import ModulePass

from sterna.dialects.encodings import BitType
from sterna.dialects.ternary import AccumulateOp, ConvolveOp, TernarizeOp, ThresholdOp, YieldOp, tensor
from sterna.dialects.weights import SternaContext
from sterna.passes.dead_code import erase_dead_code
from sterna.passes.emission import Emission
from sterna.passes.pointwise import Element, Pointwise, leaves, scalar_block
from sterna.passes.quantized_sources import integer_bounds
from sterna.passes.weight_values import WeightValues

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]

EXHAUSTIVE = 1 << 22
"""Sums, over all channels, that are evaluated one by one."""

AT_ONCE = 1 << 20

NEVER, ALWAYS = np.iinfo(np.int32).max, np.iinfo(np.int32).min
"""Thresholds that no sum reaches, and that all do: K < 2^24 int8 numbers add up to less than 2^31."""

LARGEST_CONSTANT = 2.0**30
"""A chain with larger ones could leave the range of f32, where monotone steps make no monotone chain."""


@dataclass(frozen=True)
class Chain:
    """int8 elements as a function of one integer sum and numbers of its channel."""

    result: SSAValue
    element: Element
    sums: Element
    constants: list[Element]
    producer: AccumulateOp | ConvolveOp


def match_chain(result: SSAValue, values: WeightValues) -> Chain | None:
    """The chain from an accumulate to an int8 tensor, with nothing in it but numbers for each channel or for all."""
    element = Pointwise().of(result)
    if element.op is None:
        return None
    found = leaves(element)
    sums = [leaf for leaf in found if leaf.tensor is not None and leaf.tensor not in values.weight_only]
    rank = tensor(result).get_num_dims()
    if (
        len(sums) != 1
        or sums[0].tensor is None
        or not isinstance(sums[0].tensor.owner, AccumulateOp | ConvolveOp)
    ):
        return None
    if sums[0].type != i32 or sorted(sums[0].axes) != list(range(rank)):
        return None
    (acc,) = sums
    producer = sums[0].tensor.owner
    constants = [leaf for leaf in found if leaf is not acc]
    if any(leaf.axes not in ((), acc.axes[-1:]) for leaf in constants):
        return None
    return Chain(result, element, acc, constants, producer)


@dataclass(frozen=True)
class StepFunction:
    """What a chain gives at sums, one row of them for each channel; the numbers are read once."""

    region: Region
    values: WeightValues
    constants: list[Array]

    @staticmethod
    def of(chain: Chain, values: WeightValues) -> StepFunction | None:
        block, scalar = scalar_block(chain.element, [chain.sums, *chain.constants])
        block.add_op(YieldOp(scalar))
        constants = [values.read(leaf.tensor) for leaf in chain.constants if leaf.tensor is not None]
        known = [each for each in constants if each is not None]
        return StepFunction(Region(block), values, known) if len(known) == len(constants) else None

    def at(self, sums: Integers) -> Integers:
        """int8 values at sums `[..., M]`."""
        (found,) = self.values.evaluate(self.region, [sums.astype(np.int32), *self.constants])
        return np.broadcast_to(found, sums.shape).astype(np.int64)


@dataclass(frozen=True)
class Steps:
    """Thresholds `[M, N]` above `base`, and which channels must be negated."""

    base: int
    thresholds: npt.NDArray[np.int32]
    negated: npt.NDArray[np.bool_]

    def with_a_threshold(self) -> Steps:
        """The same with one at least: where all sums give one level, that one decides nothing."""
        if self.thresholds.shape[1]:
            return self
        is_highest = self.base == 127
        only = np.full((len(self.negated), 1), ALWAYS if is_highest else NEVER, np.int32)
        return Steps(self.base - is_highest, only, self.negated)


@dataclass(frozen=True)
class StepFinder:
    function: StepFunction
    low: Integers
    high: Integers
    """Of every channel, the sums that it can reach."""

    def exhaustively(self) -> Steps | None:
        """None if a channel's function both rises and falls."""
        sums: Integers = np.arange(int(self.low.min()), int(self.high.max()) + 1, dtype=np.int64)
        rows = max(AT_ONCE // len(self.low), 1)
        parts = [self._at(sums[at : at + rows, None]) for at in range(0, len(sums), rows)]
        table = np.concatenate(parts).astype(np.int8)
        change = np.diff(table.astype(np.int16), axis=0)
        falls: npt.NDArray[np.bool_] = np.any(change < 0, axis=0)
        rises: npt.NDArray[np.bool_] = np.any(change > 0, axis=0)
        if (falls & rises).any():
            return None
        table = np.where(falls, table[::-1], table)
        base, top = int(table[0].min()), int(table[-1].max())
        thresholds = np.empty((len(falls), top - base), np.int64)
        for step in range(top - base):
            reached: npt.NDArray[np.bool_] = table > base + step
            first = reached.argmax(axis=0)
            # Of a negated channel, row r of the table is the sum -sums[-1 - r].
            at = np.where(falls, -sums[::-1][first], sums[first])
            thresholds[:, step] = np.select([reached[0], ~reached[-1]], [ALWAYS, NEVER], at)
        return Steps(base, thresholds.astype(np.int32), falls)

    def by_bisection(self) -> Steps:
        """For a function that is known to be monotone in every channel."""
        ends = self._at(self.low), self._at(self.high)
        falls = ends[1] < ends[0]
        first, last = np.where(falls, ends[1], ends[0]), np.where(falls, ends[0], ends[1])
        base, top = int(first.min()), int(last.max())
        sign = np.where(falls, -1, 1)
        goal = base + 1 + np.arange(top - base)[:, None]
        low = np.broadcast_to(np.where(falls, -self.high, self.low), (top - base, len(sign)))
        high = np.broadcast_to(np.where(falls, -self.low, self.high), low.shape)
        always, never = first >= goal, last < goal
        while (low < high).any():
            middle = (low + high) >> 1
            reached = self._at(sign * middle) >= goal
            low, high = np.where(reached, low, np.minimum(middle + 1, high)), np.where(reached, middle, high)
        thresholds = np.select([always, never], [ALWAYS, NEVER], low)
        return Steps(base, thresholds.T.astype(np.int32), falls)

    def _at(self, sums: Integers) -> Integers:
        """Sums that a channel cannot reach count as the nearest that it can."""
        return self.function.at(np.clip(sums, self.low, self.high))


def reachable(producer: AccumulateOp | ConvolveOp, values: WeightValues) -> tuple[Integers, Integers] | None:
    """The least and the largest sum of every channel."""
    trits = values.read(producer.w)
    if trits is None:
        return None
    low, high = integer_bounds(Pointwise().of(producer.x))
    if isinstance(producer, ConvolveOp):
        padding = int(producer.padding.value.data)
        low, high = min(low, padding), max(high, padding)
    plus, minus = (trits > 0).sum(axis=1), (trits < 0).sum(axis=1)
    return plus * low - minus * high, plus * high - minus * low


UNARY = (
    arith.SIToFPOp, arith.ExtSIOp, arith.FPToSIOp, arith.NegfOp,
    math.RoundEvenOp, math.FloorOp, math.CeilOp, math.TruncOp, math.RoundOp,
)  # fmt: skip
BINARY = (arith.AddfOp, arith.SubfOp, arith.MulfOp, arith.AddiOp, arith.SubiOp)
CLAMPS = (arith.MaximumfOp, arith.MinimumfOp, arith.MaxnumfOp, arith.MinnumfOp)


def is_monotone(chain: Chain, values: WeightValues) -> bool:
    """Whether every operation between the sums and the result is monotone, with moderate constants."""
    element = chain.element
    while element.tensor is not chain.sums.tensor:
        varying = [operand for operand in element.operands if depends_on(operand, chain.sums)]
        if len(varying) != 1 or not _is_monotone_step(element, varying[0], values):
            return False
        (element,) = varying
    return True


def _is_monotone_step(element: Element, varying: Element, values: WeightValues) -> bool:
    op = element.op
    is_first = element.operands[0] is varying
    match op:
        case arith.CmpfOp():
            # An equality is true in the middle of a range; the others are steps, as nothing here is NaN.
            return not arith.CMPF_COMPARISON_OPERATIONS[op.predicate.value.data].endswith(("eq", "ne"))
        case arith.SelectOp():
            return is_first
        case arith.DivfOp():
            return is_first and _is_moderate(element.operands[1], values, can_be_zero=False)
        case _ if isinstance(op, CLAMPS):
            return True
        case _ if isinstance(op, UNARY):
            return True
        case _ if isinstance(op, BINARY):
            return _is_moderate(element.operands[1 if is_first else 0], values)
        case _:
            return False


def _is_moderate(element: Element, values: WeightValues, *, can_be_zero: bool = True) -> bool:
    """A constant, or a computation on constants, of numbers that are neither huge nor, for a divisor, tiny or zero."""
    if element.number is not None:
        numbers: Array = np.array(element.number)
    elif element.tensor is not None:
        read = values.read(element.tensor)
        if read is None:
            return False
        numbers = read
    else:
        return all(_is_moderate(operand, values) for operand in element.operands)
    largest, smallest = np.abs(numbers).max(initial=0), np.abs(numbers).min(initial=1)
    return bool(largest <= LARGEST_CONSTANT and (can_be_zero or smallest >= 1 / LARGEST_CONSTANT))


def depends_on(element: Element, sums: Element) -> bool:
    return any(leaf.tensor is sums.tensor for leaf in leaves(element))


@dataclass(frozen=True)
class FuseChain:
    values: WeightValues
    max_thresholds: int

    def rewrite(self, result: SSAValue) -> bool:
        if (chain := match_chain(result, self.values)) is None:
            return False
        if (steps := self.steps(chain)) is None or steps.thresholds.shape[1] > self.max_thresholds:
            return False
        steps = steps.with_a_threshold()
        producer, emission = chain.producer, Emission(_owner(result))
        acc: SSAValue = producer.acc
        if steps.negated.any():
            turned = negated_weight(producer.w, steps.negated, emission)
            if turned is None or not feeds_only(producer.acc, result):
                return False
            acc = emission.add(with_weight(producer, turned))
        thresholds = emission.table(steps.thresholds.ravel().tolist(), i32, steps.thresholds.shape)
        y = emission.add(ThresholdOp(acc, thresholds, steps.base))
        y = emission.transpose(y, [chain.sums.axes.index(axis) for axis in range(len(chain.sums.axes))])
        emission.insert()
        result.replace_all_uses_with(y)
        return True

    def steps(self, chain: Chain) -> Steps | None:
        bounds = reachable(chain.producer, self.values)
        function = StepFunction.of(chain, self.values)
        if bounds is None or function is None or not bounds[0].size:
            return None
        low, high = bounds
        finder = StepFinder(function, low, high)
        if int(high.max() - low.min() + 1) * len(low) <= EXHAUSTIVE:
            return finder.exhaustively()
        return finder.by_bisection() if is_monotone(chain, self.values) else None


def with_weight(producer: AccumulateOp | ConvolveOp, w: SSAValue) -> Operation:
    """The same sums with another weight."""
    return producer.__class__.create(
        operands=[producer.x, w], result_types=[producer.acc.type], properties=producer.properties
    )


def negated_weight(w: SSAValue, negated: npt.NDArray[np.bool_], emission: Emission) -> SSAValue | None:
    """The trits with some rows negated, where they are made by an operation that can be repeated."""
    if not isinstance(ternarize := w.owner, TernarizeOp):
        return None
    signs = emission.table(np.where(negated, -1.0, 1.0).tolist(), f32, negated.shape)
    matrix = ternarize.w
    by_row = emission.along_first_axis(signs, matrix)
    turned = emission.add(arith.MulfOp(matrix, by_row))
    is_binary = isinstance(tensor(w).element_type, BitType)
    again = TernarizeOp(turned, per_channel=tensor(ternarize.scale).get_num_dims() == 1, is_binary=is_binary)
    emission.add(again)
    return again.trits


def feeds_only(source: SSAValue, result: SSAValue) -> bool:
    """Whether all that is computed from `source` is computed for `result`."""
    pending, seen = [source], set[SSAValue]()
    while pending:
        value = pending.pop()
        if value is result or value in seen:
            continue
        seen.add(value)
        for use in value.uses:
            if not use.operation.results:
                return False
            pending += use.operation.results
    return True


def _owner(value: SSAValue) -> Operation:
    assert isinstance(value.owner, Operation)
    return value.owner


def int8_results(function: FuncOp) -> Iterator[SSAValue]:
    """The int8 tensors of a function, last first: a chain is fused before what is a part of it."""
    for op in reversed(list(function.body.block.ops)):
        for value in op.results:
            if isinstance(value.type, TensorType) and tensor(value).element_type == i8:
                yield value


@dataclass(frozen=True)
class FuseThresholdsPass(ModulePass):
    """See the module's docstring."""

    name = "fuse-thresholds"

    max_thresholds: int = 15
    """Of a channel: 15 steps are the 16 values of 4 bits."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        store = ctx.weights if isinstance(ctx, SternaContext) else None
        fusing = FuseChain(WeightValues(op, store), self.max_thresholds)
        for function in (each for each in op.ops if isinstance(each, FuncOp)):
            for value in int8_results(function):
                fusing.rewrite(value)
        erase_dead_code(op)
