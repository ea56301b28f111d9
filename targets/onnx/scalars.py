"""Elementwise operations as ONNX nodes: `arith` and `math`, on tensors or in the scalar region of an op.

ONNX Runtime computes integers of 32 and 64 bits; narrower ones are widened, computed modulo 2^32 and cut again, which
is the same modulo 2^8 or 2^16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from onnx import TensorProto
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, FloatAttr, IntegerAttr, IntegerType, TensorType
from xdsl.ir import Attribute, Operation

from sterna.dialects.elements import dtype_of
from sterna.dialects.errors import CompileError
from sterna.targets.onnx.graph import Graph
from sterna.targets.onnx.initializers import TYPES

Values = Sequence[str]
Emitter = Callable[[Graph, Operation, Values], str]

UNSIGNED = {
    8: TensorProto.UINT8,
    16: TensorProto.UINT16,
    32: TensorProto.UINT32,
    64: TensorProto.UINT64,
}


def element(type: Attribute) -> Attribute:
    return cast("TensorType[Attribute]", type).element_type if isinstance(type, TensorType) else type


def onnx_type(type: Attribute) -> int:
    """The ONNX type of elements."""
    return TYPES[dtype_of(type).name]


def bits(type: Attribute) -> int:
    """The width of an integer type, and of an index."""
    inner = element(type)
    return cast(IntegerType, inner).width.data if isinstance(inner, IntegerType) else 64


def is_narrow(type: Attribute) -> bool:
    return isinstance(element(type), IntegerType) and bits(type) < 32


def direct(name: str) -> Emitter:
    """One ONNX operator, on 32 bits if the elements are narrower."""

    def emit(graph: Graph, op: Operation, values: Values) -> str:
        if not any(is_narrow(operand.type) for operand in op.operands):
            return graph.node(name, *values)
        wide = [graph.cast(value, TensorProto.INT32) for value in values]
        return graph.cast(graph.node(name, *wide), onnx_type(op.results[0].type))

    return emit


def bitwise(on_integers: str, on_booleans: str) -> Emitter:
    def emit(graph: Graph, op: Operation, values: Values) -> str:
        is_bool = bits(op.results[0].type) == 1
        return graph.node(on_booleans if is_bool else on_integers, *values)

    return emit


def as_unsigned(name: str, **attributes: object) -> Emitter:
    """An operator on the same bits read as unsigned."""

    def emit(graph: Graph, op: Operation, values: Values) -> str:
        type = op.results[0].type
        unsigned = [unsign(graph, value, bits(type)) for value in values]
        return graph.cast(graph.node(name, *unsigned, **attributes), onnx_type(type))

    return emit


def unsign(graph: Graph, value: str, width: int) -> str:
    """The same bits as an unsigned number, of 32 bits at least."""
    if width == 1:
        return graph.cast(value, TensorProto.UINT32)
    unsigned = graph.cast(value, UNSIGNED[width])
    return graph.cast(unsigned, TensorProto.UINT32) if width < 32 else unsigned


def number_or(name: str) -> Emitter:
    """The maximum or minimum that ignores NaN."""

    def emit(graph: Graph, op: Operation, values: Values) -> str:
        a, b = values
        numbers = graph.node("Where", graph.node("IsNaN", b), a, graph.node(name, a, b))
        return graph.node("Where", graph.node("IsNaN", a), b, numbers)

    return emit


def reciprocal_root(graph: Graph, op: Operation, values: Values) -> str:
    return graph.node("Div", graph.float(1.0), graph.node("Sqrt", *values))


def truncate(graph: Graph, op: Operation, values: Values) -> str:
    return graph.node("Mul", graph.node("Sign", *values), graph.node("Floor", graph.node("Abs", *values)))


def convert(graph: Graph, op: Operation, values: Values) -> str:
    return graph.cast(values[0], onnx_type(op.results[0].type))


def extend_signed(graph: Graph, op: Operation, values: Values) -> str:
    """The one bit of an i1 is its sign: true is -1."""
    type = op.results[0].type
    if bits(op.operands[0].type) != 1:
        return graph.cast(values[0], onnx_type(type))
    return graph.cast(graph.node("Neg", graph.cast(values[0], TensorProto.INT32)), onnx_type(type))


def cut(graph: Graph, op: Operation, values: Values) -> str:
    """The lowest bits: a cast keeps them, except one to booleans."""
    type = op.results[0].type
    if bits(type) != 1:
        return graph.cast(values[0], onnx_type(type))
    last = graph.constant(np.array(1, dtype_of(op.operands[0].type)))
    return graph.cast(graph.node("BitwiseAnd", values[0], last), onnx_type(type))


def extend_unsigned(graph: Graph, op: Operation, values: Values) -> str:
    value = unsign(graph, values[0], bits(op.operands[0].type))
    return graph.cast(value, onnx_type(op.results[0].type))


def to_integer(graph: Graph, op: Operation, values: Values) -> str:
    """Truncates, saturates, and turns NaN into 0. Only below 64 bits are both ends of the range reached exactly."""
    width = bits(op.results[0].type)
    low, high = -(2.0 ** (width - 1)), 2.0 ** (width - 1)
    number = graph.node("Where", graph.node("IsNaN", values[0]), graph.float(0.0), values[0])
    top = np.nextafter(np.float32(high), np.float32(0)) if width == 64 else np.float32(high)
    clipped = graph.node("Clip", number, graph.float(low), graph.constant(np.array(top, np.float32)))
    wide = graph.cast(clipped, TensorProto.INT64)
    if width == 64:
        return wide
    last = graph.constant(np.array(int(high) - 1, np.int64))
    return graph.cast(graph.node("Min", wide, last), onnx_type(op.results[0].type))


def compare_floats(graph: Graph, op: Operation, values: Values) -> str:
    predicate = arith.CMPF_COMPARISON_OPERATIONS[cast(arith.CmpfOp, op).predicate.value.data]
    return _comparison(graph, predicate, values)


def _comparison(graph: Graph, predicate: str, values: Values) -> str:
    """ONNX's comparisons are false where an operand is NaN: they are the ordered ones."""
    ordered = {"oeq": "Equal", "ogt": "Greater", "oge": "GreaterOrEqual", "olt": "Less", "ole": "LessOrEqual"}
    negated = {
        "ueq": "one",
        "ugt": "ole",
        "uge": "olt",
        "ult": "oge",
        "ule": "ogt",
        "une": "oeq",
        "ord": "uno",
    }
    match predicate:
        case "false" | "true":
            never = graph.node("Less", values[0], values[0])
            return never if predicate == "false" else graph.node("Not", never)
        case "one":
            return graph.node("Or", graph.node("Less", *values), graph.node("Greater", *values))
        case "uno":
            return graph.node("Or", *(graph.node("IsNaN", value) for value in values))
        case _ if predicate in ordered:
            return graph.node(ordered[predicate], *values)
        case _:
            return graph.node("Not", _comparison(graph, negated[predicate], values))


def compare_integers(graph: Graph, op: Operation, values: Values) -> str:
    predicate = arith.CMPI_COMPARISON_OPERATIONS[cast(arith.CmpiOp, op).predicate.value.data]
    source = op.operands[0].type
    if predicate.startswith("u"):
        values = [unsign(graph, value, bits(source)) for value in values]
    elif bits(source) < 32:
        values = [graph.cast(value, TensorProto.INT32) for value in values]
    names = {"eq": "Equal", "gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual"}
    if predicate == "ne":
        return graph.node("Not", graph.node("Equal", *values))
    return graph.node(names["eq" if predicate == "eq" else predicate[1:]], *values)


def select(graph: Graph, op: Operation, values: Values) -> str:
    condition, *choices = values
    type = op.results[0].type
    if not is_narrow(type):
        return graph.node("Where", condition, *choices)
    wide = [graph.cast(value, TensorProto.INT32) for value in choices]
    return graph.cast(graph.node("Where", condition, *wide), onnx_type(type))


def constant(graph: Graph, op: Operation, values: Values) -> str:
    type, value = op.results[0].type, cast(arith.ConstantOp, op).value
    match value:
        case IntegerAttr() | FloatAttr():
            number = value.value.data
            array = np.array(number != 0 if dtype_of(type) == np.bool_ else number)
            return graph.constant(array.astype(dtype_of(type)))
        case DenseIntOrFPElementsAttr():
            numbers = np.array(list(value.get_values()), dtype_of(type))
            whole = numbers if numbers.size == 1 else numbers.reshape(value.get_shape())
            return graph.constant(np.broadcast_to(whole, value.get_shape()))
        case _:
            raise CompileError(f"a constant {value} has no ONNX form", op.location)


SCALARS: dict[type[Operation], Emitter] = {
    arith.ConstantOp: constant,
    arith.AddfOp: direct("Add"),
    arith.SubfOp: direct("Sub"),
    arith.MulfOp: direct("Mul"),
    arith.DivfOp: direct("Div"),
    arith.NegfOp: direct("Neg"),
    arith.MaximumfOp: direct("Max"),
    arith.MinimumfOp: direct("Min"),
    arith.MaxnumfOp: number_or("Max"),
    arith.MinnumfOp: number_or("Min"),
    arith.CmpfOp: compare_floats,
    arith.AddiOp: direct("Add"),
    arith.SubiOp: direct("Sub"),
    arith.MuliOp: direct("Mul"),
    arith.DivSIOp: direct("Div"),
    arith.DivUIOp: as_unsigned("Div"),
    arith.RemUIOp: as_unsigned("Mod"),
    arith.MinSIOp: direct("Min"),
    arith.MaxSIOp: direct("Max"),
    arith.MinUIOp: as_unsigned("Min"),
    arith.MaxUIOp: as_unsigned("Max"),
    arith.AndIOp: bitwise("BitwiseAnd", "And"),
    arith.OrIOp: bitwise("BitwiseOr", "Or"),
    arith.XOrIOp: bitwise("BitwiseXor", "Xor"),
    arith.ShLIOp: as_unsigned("BitShift", direction="LEFT"),
    arith.ShRUIOp: as_unsigned("BitShift", direction="RIGHT"),
    arith.CmpiOp: compare_integers,
    arith.SelectOp: select,
    arith.ExtSIOp: extend_signed,
    arith.ExtUIOp: extend_unsigned,
    arith.TruncIOp: cut,
    arith.SIToFPOp: extend_signed,
    arith.UIToFPOp: extend_unsigned,
    arith.FPToSIOp: to_integer,
    arith.ExtFOp: convert,
    arith.TruncFOp: convert,
    arith.IndexCastOp: convert,
    math.ExpOp: direct("Exp"),
    math.LogOp: direct("Log"),
    math.TanhOp: direct("Tanh"),
    math.ErfOp: direct("Erf"),
    math.SinOp: direct("Sin"),
    math.CosOp: direct("Cos"),
    math.PowFOp: direct("Pow"),
    math.SqrtOp: direct("Sqrt"),
    math.RsqrtOp: reciprocal_root,
    math.AbsFOp: direct("Abs"),
    math.AbsIOp: direct("Abs"),
    math.FloorOp: direct("Floor"),
    math.CeilOp: direct("Ceil"),
    math.TruncOp: truncate,
    math.RoundEvenOp: direct("Round"),
}
