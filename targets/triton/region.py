"""Scalar operations of `arith` and `math` as Triton expressions on blocks: the regions of kernels, printed.

One operation is one line `name = expression`, so each float operation rounds once, in the order of the IR. Division and
square root are the correctly rounded ones (`tl.div_rn`, `tl.sqrt_rn`): Triton's own `/` is not. Functions that have a
definition in `dialects/elementary.py` are calls of a function that is printed from that definition.
"""

from __future__ import annotations

import math as python_math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import (
    Float16Type,
    Float32Type,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    TensorType,
    f16,
    f32,
    i1,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, Block, Operation, SSAValue

from sterna.dialects.elements import width_of
from sterna.dialects.errors import CompileError
from sterna.dialects.scalar_writer import Constants
from sterna.dialects.ternary import YieldOp
from sterna.passes import expand_math
from sterna.targets.triton.source import Names, definition, indented, without_unused

INFIX: dict[type[Operation], str] = {
    arith.AddfOp: "+",
    arith.SubfOp: "-",
    arith.MulfOp: "*",
    arith.AddiOp: "+",
    arith.SubiOp: "-",
    arith.MuliOp: "*",
    arith.AndIOp: "&",
    arith.OrIOp: "|",
    arith.XOrIOp: "^",
}

CALLS: dict[type[Operation], str] = {
    arith.DivfOp: "tl.div_rn",
    math.SqrtOp: "tl.sqrt_rn",
    math.AbsFOp: "magnitude",
    math.FloorOp: "round_down",
    math.CeilOp: "round_up",
    math.TruncOp: "truncate",
    math.RoundOp: "round_half_away",
    math.RoundEvenOp: "round_half_even",
    math.CopySignOp: "with_sign_of",
    arith.NegfOp: "negate",
    arith.MaximumfOp: "maximum",
    arith.MinimumfOp: "minimum",
    arith.MaxnumfOp: "maximum_number",
    arith.MinnumfOp: "minimum_number",
    arith.MaxSIOp: "tl.maximum",
    arith.MinSIOp: "tl.minimum",
    arith.DivSIOp: "divide",
    arith.FloorDivSIOp: "floor_divide",
    arith.RemSIOp: "remainder_of_divide",
}
"""Functions of Triton, or of the vocabulary."""

OF_BITS: dict[type[Operation], str] = {
    arith.AddiOp: "{a} ^ {b}",
    arith.SubiOp: "{a} ^ {b}",
    arith.MuliOp: "{a} & {b}",
    arith.MaxSIOp: "{a} & {b}",
    arith.MinSIOp: "{a} | {b}",
    arith.MaxUIOp: "{a} | {b}",
    arith.MinUIOp: "{a} & {b}",
    arith.DivSIOp: "{a} & {b}",
    arith.FloorDivSIOp: "{a} & {b}",
    arith.DivUIOp: "{a} & {b}",
    arith.RemSIOp: "{a} & ({b} == 0)",
    arith.RemUIOp: "{a} & ({b} == 0)",
    arith.ShLIOp: "{a} & ({b} == 0)",
    arith.ShRUIOp: "{a} & ({b} == 0)",
    arith.ShRSIOp: "{a} & ({b} == {b})",
}
"""Of i1, whose set bit is -1 to signed operations and 1 to the others."""

VALUES: dict[type[Operation], str] = {
    arith.AddfOp: "plus",
    arith.SubfOp: "minus",
    arith.MulfOp: "times",
    arith.DivfOp: "ratio",
    arith.CmpfOp: "test",
    arith.CmpiOp: "test",
    arith.SelectOp: "pick",
}
"""What a result is called."""

UNSIGNED: dict[type[Operation], str] = {
    arith.MaxUIOp: "tl.maximum",
    arith.MinUIOp: "tl.minimum",
    arith.DivUIOp: "quotient",
    arith.RemUIOp: "remainder",
}

ORDERED = {"oeq": "==", "olt": "<", "ole": "<=", "ogt": ">", "oge": ">=", "une": "!="}
INVERSE = {"ueq": "one", "ult": "oge", "ule": "ogt", "ugt": "ole", "uge": "olt"}
INTEGER = {"eq": "==", "ne": "!=", "slt": "<", "sle": "<=", "sgt": ">", "sge": ">="}
UNSIGNED_INTEGER = {"ult": "<", "ule": "<=", "ugt": ">", "uge": ">="}

LEAST_NORMAL = float(np.finfo(np.float32).tiny)


def element_of(type: Attribute) -> Attribute:
    """The type of an element: an operation on tensors is printed as that on their elements."""
    return cast("TensorType[Attribute]", type).element_type if isinstance(type, TensorType) else type


def dtype_of(type: Attribute, op: Operation) -> str:
    """Triton's name of a scalar type; CompileError for one that it lacks."""
    match element_of(type):
        case Float32Type():
            return "tl.float32"
        case Float16Type():
            return "tl.float16"
        case IndexType():
            return "tl.int64"
        case IntegerType(width=width) if width.data in (1, 8, 16, 32, 64):
            return f"tl.int{width.data}"
        case _:
            raise CompileError(
                f"{op.name} on {type}: the GPU target computes with f32, f16 and integers of 1, 8, 16, 32 and 64 bits",
                op.location,
            )


def number_text(value: float) -> str:
    """The shortest text that Python, and then Triton, reads as that float32, as a formatter leaves it."""
    short = str(np.float32(value))
    return (short if float(np.float32(float(short))) == value else repr(value)).replace("e+", "e")


def literal(op: arith.ConstantOp) -> str | None:
    """A number that Triton reads as the constant's own value beside an operand of its type; None if there is none."""
    match op.value:
        case IntegerAttr(value=number) if op.result.type != IntegerType(1):
            return str(number.data)
        case FloatAttr(value=number):
            value = number.data
            plain = python_math.isfinite(value) and (value == 0 or abs(value) >= LEAST_NORMAL)
            return (
                number_text(value)
                if plain and not (value == 0 and python_math.copysign(1, value) < 0)
                else None
            )
        case _:
            return None


def full(op: arith.ConstantOp) -> str:
    """The constant as a value of its own type."""
    match op.value:
        case IntegerAttr(value=number) if op.result.type == IntegerType(1):
            return f"tl.full([], {int(bool(number.data))}, tl.int1)"
        case IntegerAttr(value=number):
            return f"tl.full([], {number.data}, {dtype_of(op.result.type, op)})"
        case FloatAttr(value=number) if op.result.type == f32:
            if (text := literal(op)) is not None:
                return f"tl.full([], {text}, tl.float32)"
            bits = int(np.float32(number.data).view(np.int32))
            return f"tl.full([], {bits}, tl.int32).to(tl.float32, bitcast=True)"
        case FloatAttr(value=number) if op.result.type == f16:
            bits = int(np.float16(number.data).view(np.int16))
            return f"tl.full([], {bits}, tl.int16).to(tl.float16, bitcast=True)"
        case _:
            raise CompileError(f"a constant of type {op.result.type} has no Triton form", op.location)


@dataclass
class Region:
    """Prints the operations of a block as statements."""

    names: Names
    lines: list[str] = field(default_factory=list[str])
    helpers: set[str] = field(default_factory=set[str])
    number: Callable[[int], str] | None = None
    """What `linalg.index` gives for a loop."""
    outer: Callable[[SSAValue], str | None] | None = None
    """The expression of a scalar that the region reads from outside."""
    values: dict[SSAValue, str] = field(default_factory=dict[SSAValue, str])

    def run(self, block: Block, arguments: Sequence[str]) -> list[str]:
        """The expressions of what the region yields. CompileError for an operation that has no Triton form."""
        self.values |= dict(zip(block.args, arguments, strict=True))
        for op in block.ops:
            if isinstance(op, YieldOp | linalg.YieldOp):
                return [self.operand(value, op) for value in op.operands]
            if isinstance(op, arith.ConstantOp):
                continue
            result = op.results[0]
            expression = self.expression(op)
            self.values[result] = self.assign(VALUES.get(type(op), "value"), expression)
        raise AssertionError("a region ends in a yield")

    def operand(self, value: SSAValue, op: Operation) -> str:
        if value in self.values:
            return self.values[value]
        if isinstance(value.owner, arith.ConstantOp):
            text = full(value.owner)
            if text.endswith(
                "bitcast=True)"
            ):  # a statement of its own: it is long, and may be asked for again
                self.values[value] = text = self.assign("number", text)
            return text
        if self.outer is not None and (found := self.outer(value)) is not None:
            return found
        raise CompileError("the region reads a value from outside that is no scalar", op.location)

    def operands(self, op: Operation) -> list[str]:
        """Numbers are literals where another operand says what type they are."""
        constants = [
            literal(value.owner)
            if isinstance(value.owner, arith.ConstantOp) and value not in self.values
            else None
            for value in op.operands
        ]
        if len(op.operands) < 2 or all(constants):
            constants = [None] * len(constants)
        return [
            constant if constant is not None else self.operand(value, op)
            for constant, value in zip(constants, op.operands, strict=True)
        ]

    def assign(self, name: str, expression: str) -> str:
        found = self.names.new(name)
        self.lines.append(f"{found} = {expression}")
        return found

    def call(self, function: str, *arguments: str) -> str:
        if not function.startswith("tl."):
            self.helpers.add(function)
        return f"{function}({', '.join(arguments)})"

    def expression(self, op: Operation) -> str:
        kind = type(op)
        match op:
            case arith.CmpfOp():
                predicate = arith.CMPF_COMPARISON_OPERATIONS[op.predicate.value.data]
                operands = self.operands(op)
                if all(text.startswith("tl.full") for text in operands):
                    operands = [self.assign("number", text) for text in operands]
                return self.compare(predicate, *operands)
            case arith.CmpiOp():
                return self.compare_integers(op)
            case arith.SelectOp():
                return self.select(op)
            case math.AbsIOp():
                return self.call("tl.abs", *self.operands(op))
            case linalg.IndexOp() if self.number is not None:
                return self.number(op.dim.value.data)
            case _ if kind in OF_BITS and element_of(op.results[0].type) == i1:
                a, b = self.all(op)
                return OF_BITS[kind].format(a=a, b=b)
            case arith.ShLIOp() | arith.ShRUIOp() | arith.ShRSIOp():
                return self.shift(op)
            case _ if kind in INFIX:
                left, right = self.operands(op)
                return f"{left} {INFIX[kind]} {right}"
            case _ if kind in CALLS:
                # Functions of the prelude ask for a type, which a literal lacks.
                ours = not CALLS[kind].startswith("tl.")
                return self.call(CALLS[kind], *(self.all(op) if ours else self.operands(op)))
            case _ if kind in UNSIGNED:
                operands = [self.assign("bits", text) for text in map(unsigned(op), self.all(op))]
                return self.signed(op, self.call(UNSIGNED[kind], *operands))
            case _ if kind in expand_math.FUNCTIONS and expand_math.is_known(op) and kind != arith.ExtFOp:
                return self.call(op.name.removeprefix("math."), *self.arguments(op))
            case _:
                return self.convert(op)

    def select(self, op: arith.SelectOp) -> str:
        condition, *choices = op.operands
        texts: list[str] = []
        for value, other in (choices, choices[::-1]):
            short = literal(value.owner) if isinstance(value.owner, arith.ConstantOp) else None
            # Triton takes a number for an int32 or a float32, or the type of a wider other choice.
            typed = element_of(value.type) in (f32, IntegerType(32)) and not isinstance(
                other.owner, arith.ConstantOp
            )
            texts.append(short if short is not None and typed else self.operand(value, op))
        return self.call("tl.where", self.operand(condition, op), *texts)

    def all(self, op: Operation) -> list[str]:
        return [self.operand(value, op) for value in op.operands]

    def arguments(self, op: Operation) -> list[str]:
        """Of a function of this file. Two have one shape: Triton's interpreter cannot spread what a comparison of
        single numbers gives."""
        texts = self.all(op)
        if len(texts) < 2:
            return texts
        names = [self.names.new(name) for name in ("x", "y")]
        self.lines.append(f"{', '.join(names)} = tl.broadcast({', '.join(texts)})")
        return names

    def signed(self, op: Operation, expression: str) -> str:
        return f"{expression}.to({dtype_of(op.results[0].type, op)}, bitcast=True)"

    def compare(self, predicate: str, a: str, b: str) -> str:
        match predicate:
            case "false" | "true":
                return f"({a} != {a}) {'&' if predicate == 'false' else '|'} ({a} == {a})"
            case "ord":
                return f"({a} == {a}) & ({b} == {b})"
            case "uno":
                return f"({a} != {a}) | ({b} != {b})"
            case "one":
                return f"({a} < {b}) | ({a} > {b})"
            case _ if predicate in ORDERED:
                return f"{a} {ORDERED[predicate]} {b}"
            case _:
                return f"({self.compare(INVERSE[predicate], a, b)}) == 0"

    def compare_integers(self, op: arith.CmpiOp) -> str:
        predicate = arith.CMPI_COMPARISON_OPERATIONS[op.predicate.value.data]
        if predicate in UNSIGNED_INTEGER:
            a, b = (self.assign("bits", text) for text in map(unsigned(op), self.all(op)))
            return f"{a} {UNSIGNED_INTEGER[predicate]} {b}"
        of_bits = element_of(op.lhs.type) == i1
        a, b = self.all(op) if of_bits else self.operands(op)
        if of_bits and predicate not in ("eq", "ne"):
            a, b = b, a  # an i1 that is set is -1
        return f"{a} {INTEGER[predicate]} {b}"

    def shift(self, op: arith.ShLIOp | arith.ShRUIOp | arith.ShRSIOp) -> str:
        """An amount of the width or more shifts all bits out, which the machine's own shifts do not."""
        known: object = op.rhs.owner
        width = width_of(op.result.type) or 64
        value, amount = self.all(op)
        within = False
        if isinstance(known, arith.ConstantOp) and (short := literal(known)) is not None:
            within = 0 <= int(short) < width
            amount = short if within else amount
        match op:
            case arith.ShLIOp():
                return (
                    f"{value} << {amount}" if within else self.call("shift_left", value, amount, str(width))
                )
            case arith.ShRSIOp():
                return (
                    f"{value} >> {amount}" if within else self.call("shift_right", value, amount, str(width))
                )
            case _:
                value = unsigned(op)(value)
                if within:
                    return self.signed(op, f"({value} >> {amount})")
                bits = self.assign("bits", value)
                return self.signed(op, self.call("shift_right_logical", bits, amount, str(width)))

    def convert(self, op: Operation) -> str:
        if len(op.operands) != 1:
            raise CompileError(f"the GPU target has no Triton form of {op.name}", op.location)
        (value,), result = self.all(op), dtype_of(op.results[0].type, op)
        before, after = element_of(op.operands[0].type), element_of(op.results[0].type)
        match op:
            case arith.BitcastOp():
                return f"{value}.to({result}, bitcast=True)"
            case arith.ExtSIOp() | arith.SIToFPOp() if before == i1:
                # An i1 that is set is -1 to signed operations.
                return f"(0 - {value}.to(tl.int32)).to({result})"
            case arith.ExtUIOp() | arith.UIToFPOp() if before != i1:
                return f"{unsigned(op)(value)}.to({result})"
            case (
                arith.ExtSIOp() | arith.ExtUIOp() | arith.SIToFPOp() | arith.UIToFPOp() | arith.IndexCastOp()
            ):
                return f"{value}.to({result})"
            case arith.TruncIOp() if after == i1:
                return f"({value} & 1) != 0"
            case arith.TruncIOp() | arith.ExtFOp() | arith.TruncFOp():
                return f"{value}.to({result})"
            case arith.FPToSIOp() if after == i1:
                return f"{value} <= -1.0"
            case arith.FPToUIOp() if after == i1:
                return f"{value} >= 1.0"
            case arith.FPToSIOp() | arith.FPToUIOp() if isinstance(after, IntegerType):
                function = "saturate" if isinstance(op, arith.FPToSIOp) else "saturate_unsigned"
                return self.call(function, value, str(width_of(op.results[0].type))) + f".to({result})"
            case _:
                raise CompileError(f"the GPU target has no Triton form of {op.name}", op.location)


def unsigned(op: Operation) -> Callable[[str], str]:
    """How an operand is read without a sign."""
    width = width_of(op.operands[0].type) or 64
    if width == 1:
        return lambda value: f"{value}.to(tl.int32)"
    return lambda value: f"({value}).to(tl.uint{width}, bitcast=True)"


def elementary_function(name: str) -> list[str]:
    """A function of `dialects/elementary.py`, as Triton: what `expand-math` writes for it, printed."""
    kind = next(each for each in expand_math.FUNCTIONS if each.name == f"math.{name}")
    arity = 2 if kind is math.PowFOp else 1
    block = Block(arg_types=[f32] * arity)
    op = kind.create(operands=block.args, result_types=[f32])
    block.add_ops([op, YieldOp(op.results[0])])
    expand_math.expand(op, Constants(block))
    arguments = ["x", "y"][:arity]
    region = Region(Names({*arguments, name}))
    (result,) = region.run(block, arguments)
    assert not region.helpers & ELEMENTARY
    last = region.lines.pop()
    assert last.startswith(f"{result} = ")
    lines = without_unused([*region.lines, last.replace(f"{result} =", "return", 1)])
    return ["@triton.jit", *definition(name, arguments), *indented(lines)]


ELEMENTARY = frozenset(
    kind.name.removeprefix("math.") for kind in expand_math.FUNCTIONS if kind.name.startswith("math.")
)
