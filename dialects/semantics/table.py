"""Rows of the tables in this package: an operation and the numpy function that it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import TensorType
from xdsl.interpreter import Interpreter, InterpreterFunctions, OpImpl, PythonValues, impl
from xdsl.ir import Operation, SSAValue

from sterna.dialects.elements import dtype_of
from sterna.dialects.errors import CompileError

Array = npt.NDArray[Any]
Meaning = OpImpl[Any, Any]


def dtype(value: SSAValue) -> np.dtype[Any]:
    """The dtype of a value's elements; of the value itself where it is a scalar."""
    return dtype_of(value.type)


def applies(op_type: type[Operation], function: Callable[..., Any]) -> Meaning:
    """The operation is `function` of its operands, and has one result."""

    def run(_: InterpreterFunctions, __: Interpreter, op: Operation, args: PythonValues) -> PythonValues:
        return (function(*args),)

    return impl(op_type)(run)


def pointwise(op_type: type[Operation], function: Callable[..., Any]) -> Meaning:
    """The operation is `function` of every element: tensors have one shape. In a region, scalars stand for arrays."""

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
        return (function(*args),)

    return impl(op_type)(run)


def converts(op_type: type[Operation], function: Callable[[Array, np.dtype[Any]], Any]) -> Meaning:
    """The operation is `function` of its operand and the dtype of its result."""

    def run(_: InterpreterFunctions, __: Interpreter, op: Operation, args: PythonValues) -> PythonValues:
        return (function(args[0], dtype(op.results[0])),)

    return impl(op_type)(run)
