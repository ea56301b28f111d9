"""Proves that integer arithmetic cannot wrap: whatever the operands are, every result fits its type.

By interval analysis. An interval of a value is what its type holds, or less where the operation says so. Block
arguments and all that is not listed here may be anything that their types hold.
"""

from __future__ import annotations

import numpy as np
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import IntegerAttr, IntegerType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from sterna.dialects.errors import CompileError
from sterna.dialects.fixed import NormalizeOp, RescaleOp
from sterna.dialects.fixed_numerics import limits, rescale
from sterna.dialects.fixed_point import exact_width

Interval = tuple[int, int]


class IntegerRanges:
    """The intervals of the values of one region, from its first operation to its last."""

    def __init__(self) -> None:
        self._found: dict[SSAValue, Interval] = {}

    def of(self, value: SSAValue) -> Interval:
        return self._found.get(value, limits(exact_width(value)))

    def visit(self, op: Operation) -> None:
        """Notes the intervals of the results; CompileError where a result might not fit its type."""
        if isinstance(op, NormalizeOp):
            self._found[op.zeros] = (0, exact_width(op.x) - 1)
            return
        if (interval := self._interval(op)) is None:
            return
        (result,) = op.results
        low, high = limits(exact_width(result))
        if interval[0] < low or interval[1] > high:
            raise CompileError(
                f"{op.name}: results from {interval[0]} to {interval[1]} do not fit {result.type}",
                op.location,
            )
        self._found[result] = interval

    def _interval(self, op: Operation) -> Interval | None:
        match op:
            case arith.ConstantOp(value=IntegerAttr() as number) if isinstance(op.result.type, IntegerType):
                return number.value.data, number.value.data
            case arith.ExtSIOp():
                return self.of(op.input)
            case arith.AddiOp():
                (a, b), (c, d) = self.of(op.lhs), self.of(op.rhs)
                return a + c, b + d
            case arith.SubiOp():
                (a, b), (c, d) = self.of(op.lhs), self.of(op.rhs)
                return a - d, b - c
            case arith.MuliOp():
                corners = [x * y for x in self.of(op.lhs) for y in self.of(op.rhs)]
                square = op.lhs == op.rhs
                return (0 if square else min(corners)), max(corners)
            case arith.MaxSIOp():
                (a, b), (c, d) = self.of(op.lhs), self.of(op.rhs)
                return max(a, c), max(b, d)
            case arith.MinSIOp():
                (a, b), (c, d) = self.of(op.lhs), self.of(op.rhs)
                return min(a, c), min(b, d)
            case math.AbsIOp():
                low, high = self.of(op.operand)
                return 0, max(-low, high)
            case arith.ShRUIOp():
                return self._shifted(op)
            case RescaleOp():
                by, width = op.by.value.data, exact_width(op.result)
                low, high = (int(rescale(np.array(end), by, width)) for end in self.of(op.x))
                return low, high
            case _:
                return None

    def _shifted(self, op: arith.ShRUIOp) -> Interval | None:
        (low, high), (least, most) = self.of(op.lhs), self.of(op.rhs)
        if low < 0 or least < 0:
            return None
        return low >> most, high >> least


def prove_no_wrapping(function: FuncOp) -> None:
    """CompileError, with the first operation that might wrap."""
    for region_owner in function.walk():
        for region in region_owner.regions:
            ranges = IntegerRanges()
            for op in region.block.ops:
                if all(isinstance(value.type, IntegerType) for value in (*op.operands, *op.results)):
                    ranges.visit(op)
