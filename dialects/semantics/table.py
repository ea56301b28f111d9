"""Rows of the tables in this package: an operation and the numpy function that it is."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import TensorType
from xdsl.interpreter import Interpreter, InterpreterFunctions, OpImpl, PythonValues, impl
from xdsl.ir import Attribute, Operation, SSAValue

from sterna.dialects.elements import INTEGERS, dtype_of, width_of
from sterna.dialects.errors import CompileError
from sterna.dialects.fixed_numerics import as_unsigned, wrap

Array = npt.NDArray[Any]
Meaning = OpImpl[Any, Any]


def dtype(value: SSAValue) -> np.dtype[Any]:
    """The dtype of a value's elements; of the value itself where it is a scalar."""
    return dtype_of(value.type)


def odd_width(type: Attribute) -> int | None:
    """The width of integers (of a tensor) that fill no numpy dtype; None for all other types."""
    width = width_of(type)
    return None if width in (1, *INTEGERS) else width


def wrapped(values: Array, type: Attribute) -> Array:
    """Integers modulo 2**width: what numpy does by itself for the widths of its dtypes."""
    width = odd_width(type)
    return values if width is None else wrap(values, width)


def without_sign(values: Array, type: Attribute) -> Array:
    """The same bits, of integers whose dtype is wider than their type; others are viewed so by their operation."""
    width = odd_width(type)
    return values if width is None else np.asarray(as_unsigned(values, width)).astype(values.dtype)


def applies(op_type: type[Operation], function: Callable[..., Any]) -> Meaning:
    """The operation is `function` of its operands, and has one result."""

    def run(_: InterpreterFunctions, __: Interpreter, op: Operation, args: PythonValues) -> PythonValues:
        return (function(*args),)

    return impl(op_type)(run)


def pointwise(
    op_type: type[Operation], function: Callable[..., Any], *, unsigned: Container[int] = ()
) -> Meaning:
    """The operation is `function` of every element: tensors have one shape. In a region, scalars stand for arrays.

    `unsigned`: the numbers of the operands that it reads without a sign.
    """

    def run(_: InterpreterFunctions, __: Interpreter, op: Operation, args: PythonValues) -> PythonValues:
        shapes = {
            arg.shape
            for arg, operand in zip(args, op.operands, strict=True)
            if isinstance(operand.type, TensorType)
        }
        if len(shapes) > 1:
            raise CompileError(
                f"the operands have different shapes: {' and '.join(map(str, sorted(shapes)))}"
            )
        given = [
            without_sign(arg, operand.type) if n in unsigned else arg
            for n, (arg, operand) in enumerate(zip(args, op.operands, strict=True))
        ]
        return (wrapped(np.asarray(function(*given)), op.results[0].type),)

    return impl(op_type)(run)


def converts(
    op_type: type[Operation],
    function: Callable[[Array, np.dtype[Any]], Any],
    *,
    unsigned: bool = False,
    any_width: bool = True,
    narrows: bool = False,
) -> Meaning:
    """The operation is `function` of its operand and the dtype of its result.

    `unsigned`: it reads the operand without a sign; not `any_width`: integers are as wide as a dtype; `narrows`: the
    result has the low bits of the operand.
    """

    def run(_: InterpreterFunctions, __: Interpreter, op: Operation, args: PythonValues) -> PythonValues:
        types = (op.operands[0].type, op.results[0].type)
        if not any_width and any(odd_width(type) for type in types):
            raise CompileError(
                f"not defined from {types[0]} to {types[1]}: integers have 1, 8, 16, 32 or 64 bits"
            )
        given = without_sign(args[0], op.operands[0].type) if unsigned else args[0]
        result = np.asarray(function(given, dtype(op.results[0])))
        return (wrapped(result, op.results[0].type) if narrows else result,)

    return impl(op_type)(run)
