"""The region of a `ternary.project` or `ternary.elementwise` in integers.

A value of the region gets the format that holds its range, of which calibration and interval arithmetic each know a
bound: a sigmoid is in [0, 1] whatever comes in. Each operation is computed exactly and rounded once, into that format.
The four operations of a sigmoid, 1 / (1 + exp(-x)), are one table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from xdsl.dialects import arith, math
from xdsl.dialects.builtin import FloatAttr
from xdsl.ir import SSAValue

from sterna.dialects.errors import CompileError
from sterna.passes.fixed_calibration import Ranges
from sterna.passes.fixed_formats import Format, Widths
from sterna.passes.fixed_scalars import Scalar, ScalarCode
from sterna.passes.fixed_tables import SIGMOID, Tables

Interval = tuple[float, float]


@dataclass(frozen=True)
class Bounded:
    """A scalar, and the real numbers between which it is."""

    scalar: Scalar
    bounds: Interval

    @classmethod
    def of(cls, scalar: Scalar) -> Bounded:
        """Whatever the integer's width can hold."""
        largest = Format(scalar.width, scalar.point).largest + 2.0**-scalar.point
        return cls(scalar, (-largest, largest))


def constant_number(value: SSAValue) -> float | None:
    if not isinstance(owner := value.owner, arith.ConstantOp) or not isinstance(owner.value, FloatAttr):
        return None
    return owner.value.value.data


def match_sigmoid(op: arith.DivfOp) -> SSAValue | None:
    """x of 1 / (1 + exp(-x))."""
    if constant_number(op.lhs) != 1.0 or not isinstance(below := op.rhs.owner, arith.AddfOp):
        return None
    for one, power in ((below.lhs, below.rhs), (below.rhs, below.lhs)):
        if constant_number(one) == 1.0 and isinstance(exp := power.owner, math.ExpOp):
            return exp.operand.owner.operand if isinstance(exp.operand.owner, arith.NegfOp) else None
    return None


class RegionInIntegers:
    """Translates values of one region, each when it is asked for."""

    def __init__(
        self,
        code: ScalarCode,
        argument: Callable[[SSAValue], Bounded | None],
        ranges: Ranges,
        widths: Widths,
        tables: Tables,
        formats: Mapping[SSAValue, Format],
    ) -> None:
        """`argument` writes an argument of the region, and gives None for any other value.

        `formats`: of values that must have one, whatever their range is.
        """
        self._code = code
        self._argument = argument
        self._ranges = ranges
        self._widths = widths
        self._tables = tables
        self._formats = formats
        self._done: dict[SSAValue, Bounded] = {}

    def translate(self, value: SSAValue) -> Bounded:
        if value not in self._done:
            found = self._argument(value) or self._operation(value)
            if (to := self._formats.get(value)) is not None:
                found = Bounded(self._code.rescale(found.scalar, to), found.bounds)
            self._done[value] = found
        return self._done[value]

    def _operation(self, value: SSAValue) -> Bounded:
        code = self._code
        match value.owner:
            case arith.ConstantOp():
                return self._constant(value)
            case arith.AddfOp(lhs=a, rhs=b):
                (x, left), (y, right) = self._operands(a, b)
                return self._fit(value, code.add(x, y), (left[0] + right[0], left[1] + right[1]))
            case arith.SubfOp(lhs=a, rhs=b):
                (x, left), (y, right) = self._operands(a, b)
                return self._fit(value, code.subtract(x, y), (left[0] - right[1], left[1] - right[0]))
            case arith.MulfOp(lhs=a, rhs=b):
                (x, left), (y, right) = self._operands(a, b)
                corners = [i * j for i in left for j in right]
                product = code.multiply(self._factor(x), self._factor(y))
                return self._fit(value, product, (min(corners), max(corners)))
            case arith.NegfOp(operand=a):
                x = self.translate(a)
                zero = Scalar(code.number(0, x.scalar.width), x.scalar.point)
                return self._fit(value, code.subtract(zero, x.scalar), (-x.bounds[1], -x.bounds[0]))
            case arith.MaximumfOp(lhs=a, rhs=b) | arith.MaxnumfOp(lhs=a, rhs=b):
                (x, left), (y, right) = self._operands(a, b)
                return self._fit(value, code.maximum(x, y), (max(left[0], right[0]), max(left[1], right[1])))
            case arith.MinimumfOp(lhs=a, rhs=b) | arith.MinnumfOp(lhs=a, rhs=b):
                (x, left), (y, right) = self._operands(a, b)
                return self._fit(value, code.minimum(x, y), (min(left[0], right[0]), min(left[1], right[1])))
            case math.AbsFOp(operand=a):
                x = self.translate(a)
                largest = max(map(abs, x.bounds))
                return self._fit(value, code.absolute(x.scalar), (0.0, largest))
            case arith.DivfOp() as division if (x := match_sigmoid(division)) is not None:
                return self._sigmoid(x)
            case operation:
                name = getattr(operation, "name", "a block argument")
                raise CompileError(
                    f"{name} has no fixed-point form: of the divisions, a sigmoid has, before expand-math"
                )

    def _operands(self, a: SSAValue, b: SSAValue) -> tuple[tuple[Scalar, Interval], tuple[Scalar, Interval]]:
        x, y = (self.translate(each) for each in (a, b))
        return (x.scalar, x.bounds), (y.scalar, y.bounds)

    def _factor(self, x: Scalar) -> Scalar:
        return self._code.narrow(x, self._widths.activations)

    def _constant(self, value: SSAValue) -> Bounded:
        """As few bits as the number has, and no more than a gain's."""
        number = constant_number(value)
        if number is None:
            raise CompileError("a constant in a region is one float")
        to = Format.holding(abs(number), self._widths.gains)
        integer, point = round(number * 2.0**to.point), to.point
        while integer and not integer % 2:
            integer, point = integer // 2, point - 1
        if not integer:
            point = 0
        width = max(integer.bit_length() + 1, 2)
        return Bounded(Scalar(self._code.number(integer, width), point), (number, number))

    def _sigmoid(self, x: SSAValue) -> Bounded:
        domain = Format(SIGMOID.input_width, SIGMOID.input_point)
        clamped = self._code.rescale(self.translate(x).scalar, domain)
        table = self._tables.get(SIGMOID)
        return Bounded(self._code.interpolate(clamped.value, table, SIGMOID.point), (0.0, 1.0))

    def _fit(self, value: SSAValue, exact: Scalar, bounds: Interval) -> Bounded:
        """In the format for the value's range."""
        if (to := self._formats.get(value)) is None:
            proven = max(map(abs, bounds))
            seen = self._ranges.largest[value] * 2.0**self._widths.headroom
            to = Format.holding(min(proven, seen), self._widths.activations)
        low, high = max(bounds[0], -to.largest - 2.0**-to.point), min(bounds[1], to.largest)
        return Bounded(self._code.rescale(exact, to), (low, high))
