"""Writes integer arithmetic on scalars: every step is exact in a type wide enough, then rescaled where it must be.

Operands are extended before an addition or a multiplication, so that no result can wrap whatever the numbers are:
a sum has one bit more than its wider operand, a product the bits of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import IntegerAttr, IntegerType
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from sterna.dialects.fixed import InterpolateOp, NormalizeOp, RescaleOp, ShiftRightOp, TableOp
from sterna.dialects.fixed_numerics import WIDEST, rescale
from sterna.dialects.fixed_point import exact_width
from sterna.dialects.ternary import YieldOp
from sterna.passes.fixed_formats import Format


@dataclass(frozen=True)
class Scalar:
    """An integer and where its binary point is."""

    value: SSAValue
    point: int

    @property
    def width(self) -> int:
        return exact_width(self.value)


class ScalarCode:
    """The region of a `ternary.elementwise`, written from its first operation to its last."""

    def __init__(self, arguments: Sequence[Attribute], source: Operation) -> None:
        self.block = Block(arg_types=list(arguments))
        self._source = source
        self._constants: dict[tuple[int, int], SSAValue] = {}
        self._extended: dict[tuple[SSAValue, int], SSAValue] = {}

    def add_op(self, op: Operation) -> SSAValue:
        op.location = self._source.location
        self.block.add_op(op)
        return op.results[0]

    def finish(self, results: Sequence[SSAValue]) -> Region:
        self.block.add_op(YieldOp(*results))
        return Region(self.block)

    def number(self, number: int, width: int) -> SSAValue:
        if (number, width) not in self._constants:
            constant = arith.ConstantOp(IntegerAttr(number, IntegerType(width)))
            self._constants[number, width] = self.add_op(constant)
        return self._constants[number, width]

    def extend(self, value: SSAValue, width: int) -> SSAValue:
        if exact_width(value) == width:
            return value
        if (value, width) not in self._extended:
            self._extended[value, width] = self.add_op(arith.ExtSIOp(value, IntegerType(width)))
        return self._extended[value, width]

    def rescale(self, x: Scalar, to: Format) -> Scalar:
        """Rounded half up to the format's point, and saturated to its width."""
        by = x.point - to.point
        if isinstance(constant := x.value.owner, arith.ConstantOp) and isinstance(
            constant.value, IntegerAttr
        ):
            number = rescale(np.array(constant.value.value.data), by, to.width)
            return Scalar(self.number(int(number), to.width), to.point)
        if by == 0 and x.width <= to.width:
            return Scalar(self.extend(x.value, to.width), to.point)
        return Scalar(self.add_op(RescaleOp(x.value, by, IntegerType(to.width))), to.point)

    def narrow(self, x: Scalar, width: int) -> Scalar:
        """The top `width` bits, rounded."""
        dropped = x.width - width
        return x if dropped <= 0 else self.rescale(x, Format(width, x.point - dropped))

    def multiply(self, a: Scalar, b: Scalar) -> Scalar:
        width = a.width + b.width
        left, right = self.extend(a.value, width), self.extend(b.value, width)
        return Scalar(self.add_op(arith.MuliOp(left, right)), a.point + b.point)

    def add(self, a: Scalar, b: Scalar) -> Scalar:
        left, right = self._aligned(a, b)
        return Scalar(self.add_op(arith.AddiOp(left.value, right.value)), left.point)

    def subtract(self, a: Scalar, b: Scalar) -> Scalar:
        left, right = self._aligned(a, b)
        return Scalar(self.add_op(arith.SubiOp(left.value, right.value)), left.point)

    def maximum(self, a: Scalar, b: Scalar) -> Scalar:
        left, right = self._aligned(a, b)
        return Scalar(self.add_op(arith.MaxSIOp(left.value, right.value)), left.point)

    def minimum(self, a: Scalar, b: Scalar) -> Scalar:
        left, right = self._aligned(a, b)
        return Scalar(self.add_op(arith.MinSIOp(left.value, right.value)), left.point)

    def _aligned(self, a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
        """Both at the finer of the two points, or at one that is not too fine, in one type with a bit to spare."""
        above = max(x.width - x.point for x in (a, b))
        point = min(max(a.point, b.point), WIDEST - 2 - above)
        width = above + point + 1
        left, right = (self.rescale(x, Format(width, point)) for x in (a, b))
        return left, right

    def absolute(self, x: Scalar) -> Scalar:
        return Scalar(self.add_op(math.AbsIOp(self.extend(x.value, x.width + 1))), x.point)

    def at_least(self, x: SSAValue, number: int) -> SSAValue:
        return self.add_op(arith.MaxSIOp(x, self.number(number, exact_width(x))))

    def interpolate(self, x: SSAValue, table: TableOp, point: int) -> Scalar:
        return Scalar(self.add_op(InterpolateOp(x, table)), point)

    def normalize(self, x: SSAValue, step: int, mantissa_width: int) -> tuple[SSAValue, SSAValue]:
        """(mantissa, zeros)."""
        op = NormalizeOp(x, step, mantissa_width)
        self.add_op(op)
        return op.mantissa, op.zeros

    def shift_right(self, x: SSAValue, by: SSAValue, width: int) -> SSAValue:
        return self.add_op(ShiftRightOp(x, by, IntegerType(width)))
