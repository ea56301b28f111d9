"""Operations on vectors that LLVM has and xDSL's `llvm` dialect has on scalars only."""

from __future__ import annotations

from typing import ClassVar, TypeGuard

from xdsl.dialects.builtin import I1, I64, AnyFloatConstr, IntegerAttr, VectorType, i1, i64
from xdsl.dialects.llvm import FCmpPredicateFlag
from xdsl.ir import Attribute, Dialect, SSAValue
from xdsl.irdl import (
    AnyAttr,
    IRDLOperation,
    VarConstraint,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

Vector = VectorType[Attribute]


def vector(value: SSAValue) -> Vector:
    """The vector type of a value that its op's constraints made a vector."""
    type = value.type
    assert is_vector(type)
    return type


def is_vector(type: Attribute) -> TypeGuard[Vector]:
    return isinstance(type, VectorType)


@irdl_op_definition
class FCmpOp(IRDLOperation):
    """Lane by lane comparison of floats: `llvm_vector.fcmp "olt" %a, %b : vector<16xf32>` gives `vector<16xi1>`."""

    name = "llvm_vector.fcmp"
    T: ClassVar = VarConstraint("T", VectorType.constr(AnyFloatConstr))
    lhs = operand_def(T)
    rhs = operand_def(T)
    predicate = prop_def(IntegerAttr[I64])
    result = result_def(VectorType.constr(I1))
    traits = traits_def(Pure())

    def __init__(self, predicate: str, lhs: SSAValue, rhs: SSAValue) -> None:
        super().__init__(
            operands=[lhs, rhs],
            properties={"predicate": IntegerAttr(FCmpPredicateFlag(predicate).to_int(), i64)},
            result_types=[VectorType(i1, vector(lhs).get_shape())],
        )

    @property
    def predicate_name(self) -> str:
        return FCmpPredicateFlag.from_int(self.predicate.value.data).value

    @classmethod
    def parse(cls, parser: Parser) -> FCmpOp:
        position = parser.pos
        predicate = parser.parse_str_literal()
        if predicate not in tuple(FCmpPredicateFlag):
            parser.raise_error(f"unknown predicate '{predicate}'", position)
        lhs = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        rhs = parser.parse_unresolved_operand()
        parser.parse_punctuation(":")
        type = parser.parse_type()
        if not is_vector(type):
            parser.raise_error(f"expected a vector of floats, found {type}")
        left, right = parser.resolve_operands([lhs, rhs], [type, type], position)
        return cls(predicate, left, right)

    def print(self, printer: Printer) -> None:
        printer.print_string(f' "{self.predicate_name}" ')
        printer.print_list(self.operands, printer.print_ssa_value)
        printer.print_string(" : ")
        printer.print_attribute(self.lhs.type)


@irdl_op_definition
class SelectOp(IRDLOperation):
    """Lane by lane choice: lane i of the result is lane i of `lhs` where `mask` has a 1, of `rhs` elsewhere."""

    name = "llvm_vector.select"
    T: ClassVar = VarConstraint("T", VectorType.constr(AnyAttr()))
    mask = operand_def(VectorType.constr(I1))
    lhs = operand_def(T)
    rhs = operand_def(T)
    result = result_def(T)
    traits = traits_def(Pure())
    assembly_format = "$mask `,` $lhs `,` $rhs attr-dict `:` type($mask) `,` type($result)"

    def __init__(self, mask: SSAValue, lhs: SSAValue, rhs: SSAValue) -> None:
        super().__init__(operands=[mask, lhs, rhs], result_types=[lhs.type])

    def verify_(self) -> None:
        if vector(self.mask).get_shape() != vector(self.lhs).get_shape():
            raise VerifyException("the mask has one lane a lane of the result")


@irdl_op_definition
class ExtractElementOp(IRDLOperation):
    """One lane, by a number known now: `llvm_vector.extractelement %v[3] : vector<16xf32> -> f32`."""

    name = "llvm_vector.extractelement"
    source = operand_def(VectorType)
    lane = prop_def(IntegerAttr[I64])
    result = result_def()
    traits = traits_def(Pure())

    def __init__(self, source: SSAValue, lane: int) -> None:
        super().__init__(
            operands=[source],
            properties={"lane": IntegerAttr(lane, i64)},
            result_types=[vector(source).get_element_type()],
        )

    def verify_(self) -> None:
        type = vector(self.source)
        if not 0 <= self.lane.value.data < type.get_shape()[0]:
            raise VerifyException(f"lane {self.lane.value.data} is outside {type}")
        if self.result.type != type.get_element_type():
            raise VerifyException(f"the result of a lane of {type} is {type.get_element_type()}")

    @classmethod
    def parse(cls, parser: Parser) -> ExtractElementOp:
        source = parser.parse_unresolved_operand()
        with parser.in_square_brackets():
            lane = parser.parse_integer()
        parser.parse_punctuation(":")
        type = parser.parse_type()
        parser.parse_punctuation("->")
        parser.parse_type()
        if not is_vector(type):
            parser.raise_error(f"expected a vector, found {type}")
        return cls(parser.resolve_operand(source, type), lane)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.source)
        printer.print_string(f"[{self.lane.value.data}] : ")
        printer.print_attribute(self.source.type)
        printer.print_string(" -> ")
        printer.print_attribute(self.result.type)


LLVMVector = Dialect("llvm_vector", [ExtractElementOp, FCmpOp, SelectOp], [])
