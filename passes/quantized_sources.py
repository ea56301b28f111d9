"""Finds the int8 tensor behind values that were quantized, by constants or dynamically: value = (q - zero) * step.

    %q = fptosi (clamp (roundeven (%x / %s + %z))) to i8
    %v = (sitofp %q - %z) * %s                                     elementwise, however it is written
    %w = ternary.windows (linalg.transpose %v) ... padding = 0.0

is int8, with the transposition and the windows done on %q, the padding being z. Found through are: reshapes,
transpositions, windows, slices, concatenations of tensors of one step and zero, and maxima, which a positive step does
not change. Two numbers chosen by a condition (the sign of a binarized activation) are int8 as well; so are rounded and
clamped floats that were never cast. A step, and a zero point, may also be a scalar that is computed (ONNX's
DynamicQuantizeLinear). Of padding with such a zero point q cannot say the number: `Quantized.padded` names the windows.

Why it is right: each of these operations moves or compares elements, and does to q as to (q - zero) * step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import frexp, inf

from xdsl.dialects import arith, math
from xdsl.dialects.builtin import Float32Type, IntegerAttr, TensorType, i8, i32
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.tensor import CollapseShapeOp, ConcatOp, ExpandShapeOp, ExtractSliceOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from sterna.dialects.ternary import ThresholdOp, WindowsOp, tensor
from sterna.passes.emission import Emission
from sterna.passes.matching import splat_number
from sterna.passes.pointwise import Element, Pointwise, materialise
from sterna.passes.weight_values import WeightValues

LOWEST, HIGHEST = -128, 127

MOVES = (CollapseShapeOp, ExpandShapeOp, ExtractSliceOp, WindowsOp, ConcatOp, linalg.ReduceOp)


@dataclass(frozen=True)
class Quantized:
    """A tensor as (q - zero - offset) * step, q an int8 tensor of its shape whose values lie in [low, high]."""

    q: SSAValue
    zero: int
    step: float | SSAValue
    """A number, or an f32 scalar."""
    low: int = LOWEST
    high: int = HIGHEST
    offset: SSAValue | None = None
    """What of the zero point is computed: an integer scalar, of which a float, or i32, holds the value."""
    padded: WindowsOp | None = None
    """Windows over q whose padding is 0 in q, and zero in the value, so that no zero point is to be taken off there."""

    @property
    def constant_step(self) -> float | None:
        """The step, if it and the zero point are numbers."""
        return None if self.offset is not None or isinstance(self.step, SSAValue) else self.step


@dataclass(frozen=True)
class Scaled:
    """An element as (q - zero) * step, q an integer element."""

    q: Element
    zero: float
    step: float | SSAValue
    offset: SSAValue | None = None


@dataclass(frozen=True)
class QuantizedSources:
    """Looks for quantized values; the operations on int8 that it needs are added to `emission`."""

    values: WeightValues
    emission: Emission
    pointwise: Pointwise = field(default_factory=Pointwise)

    def find(self, value: SSAValue, *, is_unsigned: bool = False) -> Quantized | None:
        """What the value, floats or integers, is computed from, if that is int8; an integer's step is 1.

        `is_unsigned` says how int8 elements are read; wider ones are signed.
        """
        element = self.pointwise.of(value)
        if element.tensor is not None and isinstance(element.tensor.owner, MOVES) and not element.op:
            moved = None if element.type == i8 else self._moved(element.tensor.owner)
            if moved is not None:
                return replace(moved, q=self._turned(moved.q, element))
        scaled = self._scaled(element)
        return None if scaled is None else self._narrow(scaled, value, is_unsigned=is_unsigned)

    def _turned(self, q: SSAValue, element: Element) -> SSAValue:
        """q, of a leaf, with its axes in the order of the value that it is a leaf of."""
        rank = len(element.axes)
        if sorted(element.axes) != list(range(rank)):
            return q
        return self.emission.transpose(q, [element.axes.index(axis) for axis in range(rank)])

    def _number(self, element: Element) -> float | None:
        """The number that an element is whatever its index: a constant, or a scalar weight."""
        if element.number is not None:
            return element.number
        if element.is_leaf and element.tensor is not None and not element.axes:
            return self.values.number(element.tensor)
        return None

    def _scaled(self, element: Element) -> Scaled | None:
        step: float | SSAValue = 1.0
        rest = element
        match element.op:
            case arith.MulfOp():
                a, b = element.operands
                for factor, other in ((b, a), (a, b)):
                    if (number := self._number(factor)) is not None:
                        step, rest = number, other
                    elif rest is element and (scalar := computed_scalar(factor)) is not None:
                        step, rest = scalar, other
            case arith.DivfOp():
                rest, by = element.operands
                number = self._number(by)
                # Only by a power of two is the quotient the product with an f32.
                if number is None or abs(frexp(number)[0]) != 0.5:
                    return None
                step = 1.0 / number
            case arith.SelectOp():
                return self._two_numbers(element)
            case _:
                pass
        if not isinstance(step, SSAValue) and not 0 < abs(step) < inf:
            return None
        inner, zero, offset = self._without_zero(rest)
        return Scaled(self._integers(inner), zero, step, offset)

    def _without_zero(self, element: Element) -> tuple[Element, float, SSAValue | None]:
        """(q, zero, offset) of q - zero - offset, floats or integers."""
        is_difference = isinstance(element.op, arith.SubfOp | arith.SubiOp)
        if is_difference or isinstance(element.op, arith.AddfOp | arith.AddiOp):
            q, zero = element.operands
            if (number := self._number(zero)) is not None:
                return q, number if is_difference else -number, None
            if is_difference and (scalar := computed_scalar(zero)) is not None and is_whole(zero):
                return q, 0.0, scalar
        if isinstance(element.op, arith.SIToFPOp) and isinstance(element.operands[0].op, arith.SubiOp):
            return self._without_zero(element.operands[0])
        return element, 0.0, None

    def _integers(self, element: Element) -> Element:
        """The narrowest signed integers that an element is a widening of."""
        while isinstance(element.op, arith.SIToFPOp | arith.ExtSIOp):
            element = element.operands[0]
        return element

    def _narrow(self, scaled: Scaled, value: SSAValue, *, is_unsigned: bool) -> Quantized | None:
        """As int8, if that is what it is."""
        q, zero, step = scaled.q, scaled.zero, scaled.step
        if isinstance(q.op, arith.UIToFPOp | arith.ExtUIOp):
            q, is_unsigned = q.operands[0], True
        if not isinstance(q.type, Float32Type):
            if q.type != i8 or (q.is_leaf and q.tensor is not None and q.tensor in self.values.weight_only):
                return None
            low, high = integer_bounds(q)
        else:
            bounds = clamped(q)
            if not bounds.is_rounded or bounds.low < LOWEST or bounds.high > HIGHEST:
                return None
            low, high = int(bounds.low), int(bounds.high)
            q = Element(i8, arith.FPToSIOp.create(result_types=[i8]), (q,))
        if is_unsigned and low < 0:
            top = Element(i8, arith.ConstantOp(IntegerAttr(LOWEST, i8)))
            # u - 128 as int8 is u with its top bit turned.
            q, zero, low, high = (
                Element(i8, arith.XOrIOp.create(result_types=[i8]), (q, top)),
                zero - 128,
                LOWEST,
                HIGHEST,
            )
        if zero != round(zero) or not LOWEST <= zero <= HIGHEST:
            return None
        whole = materialise(q, value, self.emission)
        return Quantized(whole, int(zero), step, low, high, scaled.offset)

    def _two_numbers(self, element: Element) -> Scaled | None:
        """One of two numbers a and b: b = -a, or either is 0."""
        condition, *choices = element.operands
        numbers = [self._number(choice) for choice in choices]
        a, b = numbers
        if a is None or b is None or not (a == -b or a == 0 or b == 0):
            return None
        step = max(abs(a), abs(b))
        if not 0 < step < inf or element.op is None:
            return None
        integers = [Element(i8, arith.ConstantOp(IntegerAttr(int(n / step), i8))) for n in (a, b)]
        return Scaled(Element(i8, element.op, (condition, *integers)), 0.0, step)

    def _moved(self, op: Operation) -> Quantized | None:
        """The same movement of elements, on int8."""
        if (source := self.find(op.operands[0])) is None:
            return None
        q = source.q
        match op:
            case CollapseShapeOp() | ExpandShapeOp() | ExtractSliceOp():
                return replace(source, q=self._like(op, [q, *op.operands[1:]]))
            case WindowsOp():
                return self._windows(op, source)
            case ConcatOp():
                return self._concatenated(op, source)
            case linalg.ReduceOp() if is_maximum(op) and (source.constant_step or 0) > 0:
                return replace(source, q=self._maximum(op, q))
            case _:
                return None

    def _windows(self, op: WindowsOp, source: Quantized) -> Quantized | None:
        """A padding of -infinity, that of a maximum, is the least int8; another is a number that int8 can say."""
        number = float(op.padding.value.data)
        if (step := source.constant_step) is None:
            return self._dynamic_windows(op, source, number)
        padding = source.zero + number / step if number != -inf else LOWEST
        if padding != round(padding) or not LOWEST <= padding <= HIGHEST:
            return None
        q = self._like(op, [source.q], padding=IntegerAttr(int(padding), i8))
        if number == -inf or not any((*op.low.get_values(), *op.high.get_values())):
            return replace(source, q=q)
        return replace(source, q=q, low=min(source.low, int(padding)), high=max(source.high, int(padding)))

    def _dynamic_windows(self, op: WindowsOp, source: Quantized, number: float) -> Quantized | None:
        if not any((*op.low.get_values(), *op.high.get_values())):
            return replace(source, q=self._like(op, [source.q], padding=IntegerAttr(0, i8)))
        if number != 0 or source.padded is not None:
            return None
        q = self._like(op, [source.q], padding=IntegerAttr(0, i8))
        windows = q.owner
        assert isinstance(windows, WindowsOp)
        return replace(source, q=q, low=min(source.low, 0), high=max(source.high, 0), padded=windows)

    def _concatenated(self, op: ConcatOp, first: Quantized) -> Quantized | None:
        parts = [first]
        for value in op.operands[1:]:
            part = self.find(value)
            if part is None or not _have_one_step(part, first):
                return None
            parts.append(part)
        q = self._like(op, [part.q for part in parts])
        return replace(first, q=q, low=min(p.low for p in parts), high=max(p.high for p in parts))

    def _like(self, op: Operation, operands: Sequence[SSAValue], **properties: Attribute) -> SSAValue:
        type = TensorType(i8, tensor(op.results[0]).get_shape())
        return self.emission.add(
            op.__class__.create(
                operands=list(operands), result_types=[type], properties={**op.properties, **properties}
            )
        )

    def _maximum(self, op: linalg.ReduceOp, q: SSAValue) -> SSAValue:
        least = self.emission.add(arith.ConstantOp(IntegerAttr(LOWEST, i8)))
        empty = self.emission.empty(op.init, i8)
        init = self.emission.add(linalg.FillOp([least], [empty], [empty.type]))
        body = Block(arg_types=[i8, i8])
        body.add_op(largest := arith.MaxSIOp(body.args[0], body.args[1]))
        body.add_op(linalg.YieldOp(largest.result))
        return self.emission.add(linalg.ReduceOp(q, init, op.dimensions, Region(body)))


def _have_one_step(part: Quantized, first: Quantized) -> bool:
    return part.constant_step is not None and (part.constant_step, part.zero) == (
        first.constant_step,
        first.zero,
    )


def computed_scalar(element: Element) -> SSAValue | None:
    """The scalar, a tensor without axes, that an element is whatever its index."""
    value = element.tensor
    return value if value is not None and not element.axes and not tensor(value).get_num_dims() else None


def is_whole(element: Element) -> bool:
    """An i32, or a float that an integer became."""
    return element.type == i32 or isinstance(element.op, arith.SIToFPOp | arith.UIToFPOp)


def is_maximum(op: linalg.ReduceOp) -> bool:
    """A maximum over some axes that starts below every number."""
    block = op.region.block
    is_max = isinstance(block.first_op, arith.MaximumfOp | arith.MaxnumfOp) and len(block.ops) == 2
    return is_max and splat_or_fill(op.init) == -inf


def splat_or_fill(value: SSAValue) -> float | None:
    if isinstance(fill := value.owner, linalg.FillOp):
        return splat_number(fill.inputs[0])
    return splat_number(value)


@dataclass(frozen=True)
class Clamped:
    """Floats between two bounds, which are integers or infinite, and whether they are rounded to integers."""

    low: float
    high: float
    is_rounded: bool


ROUNDINGS = (math.RoundEvenOp, math.FloorOp, math.CeilOp, math.RoundOp, math.TruncOp)


def clamped(element: Element) -> Clamped:
    """What is seen of the clamps and the rounding that an element comes out of, in whatever order they are."""
    low, high, is_rounded = -inf, inf, False
    while True:
        match element.op:
            case arith.MaximumfOp() | arith.MaxnumfOp() if (bound := _bound(element)) is not None:
                element, low = bound[0], max(low, bound[1])
            case arith.MinimumfOp() | arith.MinnumfOp() if (bound := _bound(element)) is not None:
                element, high = bound[0], min(high, bound[1])
            case op if isinstance(op, ROUNDINGS):
                element, is_rounded = element.operands[0], True
            case _:
                return Clamped(low, high, is_rounded)


def _bound(element: Element) -> tuple[Element, float] | None:
    """(what is clamped, the integer or infinity that bounds it)"""
    a, b = element.operands
    for inner, bound in ((a, b), (b, a)):
        if (number := bound.number) is not None and (abs(number) == inf or number == round(number)):
            return inner, number
    return None


def integer_bounds(q: Element) -> tuple[int, int]:
    """The least interval that an int8 element is seen to lie in."""
    match q.op:
        case arith.FPToSIOp():
            bounds = clamped(q.operands[0])
            return int(max(bounds.low, LOWEST)), int(min(bounds.high, HIGHEST))
        case arith.SelectOp() if None not in (numbers := [choice.number for choice in q.operands[1:]]):
            known = [int(number) for number in numbers if number is not None]
            return min(known), max(known)
        case None if q.tensor is not None:
            return _leaf_bounds(q.tensor)
        case _:
            return LOWEST, HIGHEST


def _leaf_bounds(q: SSAValue) -> tuple[int, int]:
    match q.owner:
        case ThresholdOp() as op:
            base = op.base.value.data
            return base, base + tensor(op.thresholds).get_shape()[1]
        case WindowsOp(x=source) as op:
            low, high = integer_bounds(Pointwise().of(source))
            padding = int(op.padding.value.data)
            return min(low, padding), max(high, padding)
        case CollapseShapeOp(src=source) | ExpandShapeOp(src=source) | ExtractSliceOp(source=source):
            return integer_bounds(Pointwise().of(source))
        case _:
            return LOWEST, HIGHEST
