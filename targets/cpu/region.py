"""The scalar region of `elementwise` and `project` on vectors of sixteen: f32, i32 and i1 lane by lane."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import arith, math
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, f32, i1, i32
from xdsl.ir import Attribute, Block, Operation, SSAValue

from sterna.dialects.errors import CompileError
from sterna.dialects.numerics import LANES
from sterna.dialects.ternary import YieldOp
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
    arith.ShLIOp: v.shl,
    arith.ShRUIOp: v.lshr,
    arith.ShRSIOp: v.ashr,
    arith.MaxSIOp: v.smax,
    arith.MinSIOp: v.smin,
    arith.MaximumfOp: v.fmaximum,
    arith.MinimumfOp: v.fminimum,
    arith.MaxnumfOp: v.fmaximum_number,
    arith.MinnumfOp: v.fminimum_number,
}

UNARY: dict[type[Operation], Callable[[SSAValue], SSAValue]] = {
    math.AbsFOp: v.fabs,
    math.SqrtOp: v.sqrt,
    arith.NegfOp: v.fneg,
    arith.SIToFPOp: v.int_to_float,
}


def vectorise(block: Block, arguments: Sequence[SSAValue]) -> list[SSAValue]:
    """Emits the region's operations on vectors; the values that it yields. CompileError for one we lack."""
    values: dict[SSAValue, SSAValue] = dict(zip(block.args, arguments, strict=True))
    for op in block.ops:
        operands = [values[operand] for operand in op.operands]
        if isinstance(op, YieldOp):
            return operands
        values[op.results[0]] = _vectorise_op(op, operands)
    raise AssertionError("a region ends in a ternary.yield")


def _vectorise_op(op: Operation, operands: Sequence[SSAValue]) -> SSAValue:
    match op:
        case arith.ConstantOp(value=IntegerAttr() | FloatAttr() as number):
            return v.constant(number.value.data, _vector_of(op.result.type, op))
        case arith.CmpfOp():
            return v.fcmp(arith.CMPF_COMPARISON_OPERATIONS[op.predicate.value.data], *operands)
        case arith.CmpiOp():
            return v.icmp(arith.CMPI_COMPARISON_OPERATIONS[op.predicate.value.data], *operands)
        case arith.SelectOp():
            return v.select(*operands)
        case arith.BitcastOp():
            return v.bitcast(operands[0], _vector_of(op.result.type, op))
        case arith.ExtUIOp():
            return v.zext(operands[0], i32)
        case arith.ExtSIOp():
            return v.sext(operands[0], i32)
        case _ if type(op) in BINARY:
            return BINARY[type(op)](*operands)
        case _ if type(op) in UNARY:
            return UNARY[type(op)](*operands)
        case _:
            raise CompileError(f"the CPU target has no vector form of {op.name}", op.location)


def _vector_of(type: Attribute, op: Operation) -> Attribute:
    if type not in (f32, i32, i1):
        raise CompileError(f"{op.name} on {type}: expected f32, i32 or i1", op.location)
    return v.vector_type(type, LANES)
