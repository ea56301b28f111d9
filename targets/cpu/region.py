"""Scalar operations of `arith` and `math` lane by lane: the regions of kernels, on vectors of any length or on scalars.

Where `arith` leaves a result open the interpreter does not, so neither does this: a shift by the width or more gives
what all bits shifted out leave, the least integer divided by -1 is itself, a quotient by zero is 0 and its remainder
the dividend, conversions saturate. No operation traps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.dialects import arith, math
from xdsl.dialects.builtin import (
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    TensorType,
    f32,
    i1,
    i8,
    i16,
    i32,
    i64,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, Block, Operation, SSAValue

from sterna.dialects.errors import CompileError
from sterna.dialects.numerics import LANES
from sterna.dialects.ternary import YieldOp
from sterna.targets.cpu import division, rounding
from sterna.targets.cpu import instructions as v

BINARY: dict[type[Operation], Callable[[SSAValue, SSAValue], SSAValue]] = {
    arith.AddfOp: v.fadd,
    arith.SubfOp: v.fsub,
    arith.MulfOp: v.fmul,
    arith.DivfOp: v.fdiv,
    arith.AddiOp: v.add,
    arith.SubiOp: v.sub,
    arith.MuliOp: v.mul,
    arith.AndIOp: v.bitand,
    arith.OrIOp: v.bitor,
    arith.XOrIOp: v.bitxor,
    arith.DivSIOp: division.divide,
    arith.DivUIOp: division.divide_unsigned,
    arith.FloorDivSIOp: division.floor_divide,
    arith.RemSIOp: division.remainder,
    arith.RemUIOp: division.remainder_unsigned,
    arith.MaxSIOp: v.smax,
    arith.MinSIOp: v.smin,
    arith.MaxUIOp: v.umax,
    arith.MinUIOp: v.umin,
    arith.MaximumfOp: v.fmaximum,
    arith.MinimumfOp: v.fminimum,
    arith.MaxnumfOp: v.fmaximum_number,
    arith.MinnumfOp: v.fminimum_number,
    math.CopySignOp: rounding.copysign,
}

UNARY: dict[type[Operation], Callable[[SSAValue], SSAValue]] = {
    math.AbsFOp: v.fabs,
    math.SqrtOp: v.sqrt,
    math.FloorOp: rounding.floor,
    math.CeilOp: rounding.ceil,
    math.TruncOp: rounding.trunc,
    math.RoundOp: rounding.round_half_away,
    math.RoundEvenOp: rounding.round_half_even,
    arith.NegfOp: v.fneg,
    arith.SIToFPOp: v.int_to_float,
    arith.UIToFPOp: v.unsigned_to_float,
}

SHIFTS: dict[type[Operation], Callable[[SSAValue, SSAValue], SSAValue]] = {
    arith.ShLIOp: v.shl,
    arith.ShRUIOp: v.lshr,
    arith.ShRSIOp: v.ashr,
}


def vectorise(block: Block, arguments: Sequence[SSAValue]) -> list[SSAValue]:
    """Emits a region that stands alone on vectors of sixteen; the values that it yields."""
    return Lanes(LANES).run(block, arguments)


@dataclass(frozen=True)
class Lanes:
    """Emits operations on so many lanes; 1 is a scalar."""

    count: int
    number: Callable[[int], SSAValue] | None = None
    """What `linalg.index` gives for a loop."""
    outer: Mapping[SSAValue, SSAValue] | None = None
    """Scalars that a region reads from outside."""

    def run(self, block: Block, arguments: Sequence[SSAValue]) -> list[SSAValue]:
        """The values that the region yields. CompileError for an operation that we lack."""
        values: dict[SSAValue, SSAValue] = dict(zip(block.args, arguments, strict=True))
        for op in block.ops:
            operands = self._operands(op, values)
            if isinstance(op, YieldOp | linalg.YieldOp):
                return operands
            values[op.results[0]] = self.emit(op, operands)
        raise AssertionError("a region ends in a yield")

    def evaluate(self, block: Block, arguments: Sequence[SSAValue], wanted: SSAValue) -> SSAValue:
        """One value of a region, from the arguments that it depends on: the first ones."""
        values: dict[SSAValue, SSAValue] = dict(zip(block.args, arguments, strict=False))

        def find(value: SSAValue) -> None:
            if value in values or not isinstance(value.owner, Operation) or value.owner.parent is not block:
                return
            for operand in value.owner.operands:
                find(operand)
            values[value] = self.emit(value.owner, self._operands(value.owner, values))

        find(wanted)
        return values[wanted]

    def value(self, block: Block, wanted: SSAValue, op: Operation) -> SSAValue:
        """A value that a region without arguments yields, its own or one from outside."""
        inside = isinstance(wanted.owner, Operation) and wanted.owner.parent is block
        return self.evaluate(block, (), wanted) if inside else self.captured(wanted, op)

    def _operands(self, op: Operation, values: Mapping[SSAValue, SSAValue]) -> list[SSAValue]:
        return [values[each] if each in values else self.captured(each, op) for each in op.operands]

    def captured(self, value: SSAValue, op: Operation) -> SSAValue:
        if isinstance(value.owner, arith.ConstantOp):
            return self.emit(value.owner, ())
        if self.outer is None or value not in self.outer:
            raise CompileError("the region reads a value from outside that is no scalar", op.location)
        return self.splat(self.outer[value])

    def splat(self, value: SSAValue) -> SSAValue:
        return value if self.count == 1 else v.splat(value, self.count)

    def emit(self, op: Operation, operands: Sequence[SSAValue]) -> SSAValue:
        match op:
            case arith.ConstantOp(value=IntegerAttr() | FloatAttr() as number):
                return v.constant(number.value.data, self.type_of(op.result.type, op))
            case arith.CmpfOp():
                return self._compare_floats(op, *operands)
            case arith.CmpiOp():
                name = arith.CMPI_COMPARISON_OPERATIONS[op.predicate.value.data]
                return v.icmp(name, *operands)
            case arith.SelectOp():
                return v.select(*operands)
            case math.AbsIOp():
                zero = v.constant(0, operands[0].type)
                return v.smax(operands[0], v.sub(zero, operands[0]))
            case math.FmaOp():
                return v.fma(*operands)
            case linalg.IndexOp() if self.number is not None:
                return self.number(op.dim.value.data)
            case arith.ShLIOp() | arith.ShRUIOp() | arith.ShRSIOp():
                return _shift(op, *operands)
            case _ if type(op) in BINARY:
                return BINARY[type(op)](*operands)
            case _ if type(op) in UNARY:
                return UNARY[type(op)](*operands)
            case _:
                return self._convert(op, *operands)

    def _convert(self, op: Operation, *operands: SSAValue) -> SSAValue:
        match op:
            case arith.BitcastOp():
                return v.bitcast(operands[0], self.type_of(op.result.type, op))
            case arith.ExtUIOp():
                return v.zext(operands[0], integer(op.result.type))
            case arith.ExtSIOp():
                return v.sext(operands[0], integer(op.result.type))
            case arith.TruncIOp():
                return v.trunc(operands[0], integer(op.result.type))
            case arith.FPToSIOp():
                return v.float_to_signed(operands[0], integer(op.result.type))
            case arith.FPToUIOp():
                return v.float_to_unsigned(operands[0], integer(op.result.type))
            case arith.IndexCastOp():
                before, after = integer(op.input.type), integer(op.result.type)
                if before.width.data == after.width.data:
                    return operands[0]
                widen = before.width.data < after.width.data
                return (v.sext if widen else v.trunc)(operands[0], after)
            case _:
                raise CompileError(f"the CPU target has no vector form of {op.name}", op.location)

    def _compare_floats(self, op: arith.CmpfOp, lhs: SSAValue, rhs: SSAValue) -> SSAValue:
        name = arith.CMPF_COMPARISON_OPERATIONS[op.predicate.value.data]
        if name in ("false", "true"):
            return v.constant(int(name == "true"), self.type_of(op.result.type, op))
        return v.fcmp(name, lhs, rhs)

    def type_of(self, type: Attribute, op: Operation) -> Attribute:
        """The type of these lanes of elements of `type`, which may be a tensor's."""
        element = machine_type(type)
        if element is None:
            raise CompileError(f"{op.name} on {type}: expected f32 or integers of 1 to 64 bits", op.location)
        return element if self.count == 1 else v.vector_type(element, self.count)


def machine_type(type: Attribute) -> Attribute | None:
    """The LLVM type of a scalar, or of a tensor's elements; None for one that registers do not hold."""
    element = cast("TensorType[Attribute]", type).element_type if isinstance(type, TensorType) else type
    if isinstance(element, IndexType):
        return i64
    return element if element in (f32, i1, i8, i16, i32, i64) else None


def integer(type: Attribute) -> IntegerType:
    """The same of a type that its op's constraints made an integer's."""
    element = machine_type(type)
    assert isinstance(element, IntegerType)
    return cast(IntegerType, element)


def _shift(op: arith.ShLIOp | arith.ShRUIOp | arith.ShRSIOp, value: SSAValue, amount: SSAValue) -> SSAValue:
    width = integer(op.result.type).width.data
    known = op.rhs.owner
    if (
        isinstance(known, arith.ConstantOp)
        and isinstance(known.value, IntegerAttr)
        and 0 <= known.value.value.data < width
    ):
        return SHIFTS[type(op)](value, amount)
    last = v.constant(width - 1, amount.type)
    inside = v.icmp("ule", amount, last)
    bounded = v.select(inside, amount, last)
    if isinstance(op, arith.ShRSIOp):
        return v.ashr(value, bounded)
    shifted = (v.shl if isinstance(op, arith.ShLIOp) else v.lshr)(value, bounded)
    return v.select(inside, shifted, v.constant(0, value.type))
