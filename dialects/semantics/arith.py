"""`arith`: IEEE floats, one rounding an operation, and two's complement integers that wrap.

Where MLIR leaves a result open, this is what every target gives: `fptosi` and `fptoui` truncate, saturate, and turn NaN
into 0; a shift by the width or more gives what all bits shifted out leave. A quotient by zero is 0, and its remainder
the dividend, as on Arm: a kernel has no way to complain of its inputs. The least integer by -1 wraps to itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, FloatAttr, IntegerAttr
from xdsl.interpreter import Interpreter, InterpreterFunctions, PythonValues, impl, register_impls

from sterna.dialects.errors import CompileError
from sterna.dialects.semantics.table import (
    Array,
    converts,
    dtype,
    pointwise,
    without_sign,
    wrapped,
)

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


def shift_left(a: Array, b: Array) -> Array:
    """Of an i1, which numpy takes for an int8, nothing is left by one or more."""
    return a & (b == 0) if a.dtype == np.bool_ else np.left_shift(a, b)


def shift_right(a: Array, b: Array) -> Array:
    """An i1 is nothing but its sign."""
    return a & (b == b) if a.dtype == np.bool_ else np.right_shift(a, b)


def shift_right_logical(a: Array, b: Array) -> Array:
    return np.right_shift(unsigned(a), unsigned(b)).view(a.dtype)


def signed(values: Array) -> Array:
    """Numbers that compare as they do in two's complement, where the true of i1 is -1."""
    return -values.view(np.int8) if values.dtype == np.bool_ else values


def maximum_signed(a: Array, b: Array) -> Array:
    return np.where(signed(a) >= signed(b), a, b)


def minimum_signed(a: Array, b: Array) -> Array:
    return np.where(signed(a) <= signed(b), a, b)


def maximum_unsigned(a: Array, b: Array) -> Array:
    return np.where(unsigned(a) >= unsigned(b), a, b)


def minimum_unsigned(a: Array, b: Array) -> Array:
    return np.where(unsigned(a) <= unsigned(b), a, b)


def floor_divide(a: Array, b: Array) -> Array:
    """Rounded down; 0 for a divisor of 0, which is what numpy gives."""
    quotient: Array = np.floor_divide(signed(a), signed(b))
    return quotient.astype(a.dtype)


def divide(a: Array, b: Array) -> Array:
    """Rounded toward zero."""
    quotient = np.asarray(np.floor_divide(signed(a), signed(b)))
    inexact = (b != 0) & (signed(a) != quotient * signed(b))
    return (quotient + ((quotient < 0) & inexact)).astype(a.dtype)


def remainder(a: Array, b: Array) -> Array:
    """With the sign of the dividend."""
    rest: Array = np.where(b == 0, a, np.fmod(signed(a), signed(b)))
    return rest.astype(a.dtype)


def divide_unsigned(a: Array, b: Array) -> Array:
    return np.floor_divide(unsigned(a), unsigned(b)).view(a.dtype)


def remainder_unsigned(a: Array, b: Array) -> Array:
    rest = np.where(b == 0, unsigned(a), np.remainder(unsigned(a), unsigned(b)))
    return rest.astype(unsigned(a).dtype).view(a.dtype)


def extend_signed(values: Array, to: np.dtype[Any]) -> Array:
    return signed(values).astype(to)


def extend_unsigned(values: Array, to: np.dtype[Any]) -> Array:
    return (values if values.dtype == np.bool_ else unsigned(values)).astype(to)


def truncate(values: Array, to: np.dtype[Any]) -> Array:
    return (values & 1).astype(to) if to == np.bool_ else values.astype(to)


def saturate(values: Array, integers: np.dtype[Any]) -> Array:
    """Truncated, and then the nearest integer of the dtype; 0 for NaN."""
    limits = np.iinfo(integers)
    low, end = float(limits.min), float(int(limits.max) + 1)
    whole = np.trunc(values.astype(np.float64))
    result: Array = np.where((whole >= low) & (whole < end), whole, 0.0).astype(integers)
    result[whole >= end] = limits.max
    result[whole < low] = limits.min
    return result


def float_to_signed(values: Array, to: np.dtype[Any]) -> Array:
    if to == np.bool_:
        return truncate(np.clip(saturate(values, np.dtype(np.int8)), -1, 0), to)
    return saturate(values, to)


def float_to_unsigned(values: Array, to: np.dtype[Any]) -> Array:
    if to == np.bool_:
        return truncate(np.clip(saturate(values, np.dtype(np.uint8)), 0, 1), to)
    return saturate(values, np.dtype(f"u{to.itemsize}")).view(to)


def cast(values: Array, to: np.dtype[Any]) -> Array:
    return values.astype(to)


def bitcast(values: Array, to: np.dtype[Any]) -> Array:
    return values.view(to)


INTEGER_PREDICATES: tuple[Binary, ...] = (
    np.equal,
    np.not_equal,
    lambda a, b: np.less(signed(a), signed(b)),
    lambda a, b: np.less_equal(signed(a), signed(b)),
    lambda a, b: np.greater(signed(a), signed(b)),
    lambda a, b: np.greater_equal(signed(a), signed(b)),
    lambda a, b: np.less(unsigned(a), unsigned(b)),
    lambda a, b: np.less_equal(unsigned(a), unsigned(b)),
    lambda a, b: np.greater(unsigned(a), unsigned(b)),
    lambda a, b: np.greater_equal(unsigned(a), unsigned(b)),
)
"""eq, ne, slt, sle, sgt, sge, ult, ule, ugt, uge."""
FIRST_UNSIGNED = 6


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
    divui = pointwise(arith.DivUIOp, divide_unsigned, unsigned=(0, 1))
    remui = pointwise(arith.RemUIOp, remainder_unsigned, unsigned=(0, 1))
    minsi = pointwise(arith.MinSIOp, minimum_signed)
    maxsi = pointwise(arith.MaxSIOp, maximum_signed)
    minui = pointwise(arith.MinUIOp, minimum_unsigned, unsigned=(0, 1))
    maxui = pointwise(arith.MaxUIOp, maximum_unsigned, unsigned=(0, 1))
    andi = pointwise(arith.AndIOp, np.bitwise_and)
    ori = pointwise(arith.OrIOp, np.bitwise_or)
    xori = pointwise(arith.XOrIOp, np.bitwise_xor)
    shli = pointwise(arith.ShLIOp, shift_left, unsigned=(1,))
    shrsi = pointwise(arith.ShRSIOp, shift_right, unsigned=(1,))
    shrui = pointwise(arith.ShRUIOp, shift_right_logical, unsigned=(0, 1))

    extf = converts(arith.ExtFOp, cast)
    truncf = converts(arith.TruncFOp, cast)
    sitofp = converts(arith.SIToFPOp, extend_signed)
    uitofp = converts(arith.UIToFPOp, extend_unsigned, unsigned=True)
    fptosi = converts(arith.FPToSIOp, float_to_signed, any_width=False)
    fptoui = converts(arith.FPToUIOp, float_to_unsigned, any_width=False)
    extsi = converts(arith.ExtSIOp, extend_signed)
    extui = converts(arith.ExtUIOp, extend_unsigned, unsigned=True)
    trunci = converts(arith.TruncIOp, truncate, narrows=True)
    bitcast = converts(arith.BitcastOp, bitcast, any_width=False)
    index_cast = converts(arith.IndexCastOp, extend_signed, narrows=True)

    @impl(arith.ConstantOp)
    def constant(self, interpreter: Interpreter, op: arith.ConstantOp, args: PythonValues) -> PythonValues:
        to = dtype(op.result)
        match op.value:
            case FloatAttr() as scalar:
                return (np.array(scalar.value.data, to),)
            case IntegerAttr() as scalar:
                return (wrapped(integer_of(scalar.value.data, to), op.result.type),)
            case DenseIntOrFPElementsAttr() as dense:
                numbers = np.array(dense.get_values()).astype(to).reshape(dense.get_shape())
                return (wrapped(numbers, op.result.type),)
            case _:
                raise CompileError(
                    "a constant is a number or a dense list of numbers; other numbers are weights"
                )

    @impl(arith.CmpiOp)
    def cmpi(self, interpreter: Interpreter, op: arith.CmpiOp, args: PythonValues) -> PythonValues:
        predicate = op.predicate.value.data
        if predicate >= FIRST_UNSIGNED:
            args = tuple(without_sign(arg, op.lhs.type) for arg in args)
        return (INTEGER_PREDICATES[predicate](*args),)

    @impl(arith.CmpfOp)
    def cmpf(self, interpreter: Interpreter, op: arith.CmpfOp, args: PythonValues) -> PythonValues:
        return (FLOAT_PREDICATES[op.predicate.value.data](*args),)
