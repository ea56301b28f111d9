"""`arith`: IEEE floats, one rounding an operation, and two's complement integers that wrap.

Where MLIR leaves a result open, this is what every target gives: `fptosi` truncates, saturates, and turns NaN into 0;
a shift by the width or more gives what all bits shifted out leave. Division of integers by zero is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, FloatAttr, IntegerAttr
from xdsl.interpreter import Interpreter, InterpreterFunctions, PythonValues, impl, register_impls

from sterna.dialects.errors import CompileError
from sterna.dialects.semantics.table import Array, converts, dtype, pointwise

Binary = Callable[[Array, Array], Array]


def maximum(a: Array, b: Array) -> Array:
    """NaN if either is NaN; -0 is less than +0."""
    return np.where(a == b, _join_signs(a, b, np.bitwise_and), np.maximum(a, b))


def minimum(a: Array, b: Array) -> Array:
    return np.where(a == b, _join_signs(a, b, np.bitwise_or), np.minimum(a, b))


def maximum_number(a: Array, b: Array) -> Array:
    """The other operand if one is NaN; -0 is less than +0."""
    return np.where(a == b, _join_signs(a, b, np.bitwise_and), np.fmax(a, b))


def minimum_number(a: Array, b: Array) -> Array:
    return np.where(a == b, _join_signs(a, b, np.bitwise_or), np.fmin(a, b))


def _join_signs(a: Array, b: Array, join: Binary) -> Array:
    """Equal numbers have equal bits, but for the sign of a zero."""
    bits = np.dtype(f"i{a.dtype.itemsize}")
    return np.asarray(join(a.view(bits), b.view(bits))).view(a.dtype)


def wrapping(function: Binary) -> Binary:
    """Integer arithmetic modulo 2**width; numpy's on booleans is not that."""

    def apply(a: Array, b: Array) -> Array:
        if a.dtype == np.bool_:
            return (function(a.view(np.int8), b.view(np.int8)) & np.int8(1)).astype(np.bool_)
        return function(a, b)

    return apply


def unsigned(values: Array) -> Array:
    return values.view(np.dtype(f"u{values.dtype.itemsize}"))


def shift_right_logical(a: Array, b: Array) -> Array:
    return np.right_shift(unsigned(a), unsigned(b)).view(a.dtype)


def divide(a: Array, b: Array) -> Array:
    """Rounded toward zero."""
    _require_divisor(b)
    quotient = np.floor_divide(a, b)
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)


def remainder(a: Array, b: Array) -> Array:
    """With the sign of the dividend."""
    return a - divide(a, b) * b


def floor_divide(a: Array, b: Array) -> Array:
    _require_divisor(b)
    return np.floor_divide(a, b)


def _require_divisor(b: Array) -> None:
    if not np.all(b):
        raise CompileError("division of an integer by zero")


def extend_signed(values: Array, to: np.dtype[Any]) -> Array:
    extended = values.astype(to)
    return -extended if values.dtype == np.bool_ else extended


def extend_unsigned(values: Array, to: np.dtype[Any]) -> Array:
    return (values if values.dtype == np.bool_ else unsigned(values)).astype(to)


def truncate(values: Array, to: np.dtype[Any]) -> Array:
    return (values & 1).astype(to) if to == np.bool_ else values.astype(to)


def float_to_signed(values: Array, to: np.dtype[Any]) -> Array:
    limits = np.iinfo(to)
    whole = np.trunc(values.astype(np.float64))
    fits = (whole >= limits.min) & (whole < -float(limits.min))
    result: Array = np.where(fits, whole, 0.0).astype(to)
    result[whole >= -float(limits.min)] = limits.max
    result[whole < limits.min] = limits.min
    return result


def cast(values: Array, to: np.dtype[Any]) -> Array:
    return values.astype(to)


def bitcast(values: Array, to: np.dtype[Any]) -> Array:
    return values.view(to)


INTEGER_PREDICATES: tuple[Binary, ...] = (
    np.equal,
    np.not_equal,
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
    lambda a, b: np.less(unsigned(a), unsigned(b)),
    lambda a, b: np.less_equal(unsigned(a), unsigned(b)),
    lambda a, b: np.greater(unsigned(a), unsigned(b)),
    lambda a, b: np.greater_equal(unsigned(a), unsigned(b)),
)
"""eq, ne, slt, sle, sgt, sge, ult, ule, ugt, uge."""


def _unordered(a: Array, b: Array) -> Array:
    return np.isnan(a) | np.isnan(b)


FLOAT_PREDICATES: tuple[Binary, ...] = (
    lambda a, b: np.zeros(np.broadcast_shapes(a.shape, b.shape), np.bool_),
    np.equal,
    np.greater,
    np.greater_equal,
    np.less,
    np.less_equal,
    lambda a, b: np.not_equal(a, b) & ~_unordered(a, b),
    lambda a, b: ~_unordered(a, b),
    lambda a, b: np.equal(a, b) | _unordered(a, b),
    lambda a, b: ~np.less_equal(a, b),
    lambda a, b: ~np.less(a, b),
    lambda a, b: ~np.greater_equal(a, b),
    lambda a, b: ~np.greater(a, b),
    np.not_equal,
    _unordered,
    lambda a, b: np.ones(np.broadcast_shapes(a.shape, b.shape), np.bool_),
)
"""false, oeq, ogt, oge, olt, ole, one, ord, ueq, ugt, uge, ult, ule, une, uno, true."""


def integer_of(value: int, to: np.dtype[Any]) -> Array:
    """An integer literal, which may be written signed or unsigned, in two's complement."""
    if to == np.bool_:
        return np.array(value & 1, np.bool_)
    mask = (1 << 8 * to.itemsize) - 1
    return np.array(value & mask, np.dtype(f"u{to.itemsize}")).view(to)


@register_impls
class ArithFunctions(InterpreterFunctions):
    addf = pointwise(arith.AddfOp, np.add)
    subf = pointwise(arith.SubfOp, np.subtract)
    mulf = pointwise(arith.MulfOp, np.multiply)
    divf = pointwise(arith.DivfOp, np.divide)
    negf = pointwise(arith.NegfOp, np.negative)
    maximumf = pointwise(arith.MaximumfOp, maximum)
    minimumf = pointwise(arith.MinimumfOp, minimum)
    maxnumf = pointwise(arith.MaxnumfOp, maximum_number)
    minnumf = pointwise(arith.MinnumfOp, minimum_number)
    select = pointwise(arith.SelectOp, np.where)

    addi = pointwise(arith.AddiOp, wrapping(np.add))
    subi = pointwise(arith.SubiOp, wrapping(np.subtract))
    muli = pointwise(arith.MuliOp, wrapping(np.multiply))
    divsi = pointwise(arith.DivSIOp, divide)
    remsi = pointwise(arith.RemSIOp, remainder)
    floordivsi = pointwise(arith.FloorDivSIOp, floor_divide)
    minsi = pointwise(arith.MinSIOp, np.minimum)
    maxsi = pointwise(arith.MaxSIOp, np.maximum)
    andi = pointwise(arith.AndIOp, np.bitwise_and)
    ori = pointwise(arith.OrIOp, np.bitwise_or)
    xori = pointwise(arith.XOrIOp, np.bitwise_xor)
    shli = pointwise(arith.ShLIOp, np.left_shift)
    shrsi = pointwise(arith.ShRSIOp, np.right_shift)
    shrui = pointwise(arith.ShRUIOp, shift_right_logical)

    extf = converts(arith.ExtFOp, cast)
    truncf = converts(arith.TruncFOp, cast)
    sitofp = converts(arith.SIToFPOp, extend_signed)
    uitofp = converts(arith.UIToFPOp, extend_unsigned)
    fptosi = converts(arith.FPToSIOp, float_to_signed)
    extsi = converts(arith.ExtSIOp, extend_signed)
    extui = converts(arith.ExtUIOp, extend_unsigned)
    trunci = converts(arith.TruncIOp, truncate)
    bitcast = converts(arith.BitcastOp, bitcast)
    index_cast = converts(arith.IndexCastOp, extend_signed)

    @impl(arith.ConstantOp)
    def constant(self, interpreter: Interpreter, op: arith.ConstantOp, args: PythonValues) -> PythonValues:
        to = dtype(op.result)
        match op.value:
            case FloatAttr() as scalar:
                return (np.array(scalar.value.data, to),)
            case IntegerAttr() as scalar:
                return (integer_of(scalar.value.data, to),)
            case DenseIntOrFPElementsAttr() as dense:
                return (np.array(dense.get_values()).astype(to).reshape(dense.get_shape()),)
            case _:
                raise CompileError(
                    "a constant is a number or a dense list of numbers; other numbers are weights"
                )

    @impl(arith.CmpiOp)
    def cmpi(self, interpreter: Interpreter, op: arith.CmpiOp, args: PythonValues) -> PythonValues:
        return (INTEGER_PREDICATES[op.predicate.value.data](*args),)

    @impl(arith.CmpfOp)
    def cmpf(self, interpreter: Interpreter, op: arith.CmpfOp, args: PythonValues) -> PythonValues:
        return (FLOAT_PREDICATES[op.predicate.value.data](*args),)
