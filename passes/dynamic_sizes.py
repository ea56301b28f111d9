"""A program has one dynamic size: T, the rows of a call. What would make another is refused before memory is planned.

Every axis that is not static is taken for T elements long, wherever it stands; one that is longer would be written
beyond its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import tensor as type_of

RESHAPES = (tensor.CollapseShapeOp, tensor.ExpandShapeOp, tensor.ReshapeOp)


def check_dynamic_sizes(functions: Sequence[FuncOp]) -> None:
    """CompileError for an operation whose result has an axis of another dynamic size than T."""
    for func in functions:
        for op in func.walk():
            if not keeps_dynamic_size(op):
                raise CompileError(
                    f"{op.name}: an axis of {op.results[0].type} would not be T long, "
                    "and T, the rows of a call, is the only dynamic size",
                    op.location,
                )


def keeps_dynamic_size(op: Operation) -> bool:
    match op:
        case tensor.ConcatOp():
            axis = op.dim.value.data
            parts = [shape_of(value)[axis] for value in op.inputs]
            static = [size for size in parts if size != DYNAMIC_INDEX]
            return len(static) == len(parts) or (len(static) == len(parts) - 1 and not any(static))
        case tensor.PadOp():
            margins = zip(op.static_low.get_values(), op.static_high.get_values(), strict=True)
            return all(
                size != DYNAMIC_INDEX or margin == (0, 0)
                for size, margin in zip(shape_of(op.result), margins, strict=True)
            )
        case _ if isinstance(op, RESHAPES):
            return extent(op.operands[0]) == extent(op.results[0])
        case tensor.SplatOp():
            return not any(map(is_known, op.dynamicSizes))
        case tensor.EmptyOp():
            return not any(map(is_known, op.dynamic_sizes))
        case tensor.ExtractSliceOp():
            return not any(map(is_known, op.sizes))
        case _:
            return True


def shape_of(value: SSAValue) -> Sequence[int]:
    assert isinstance(value.type, TensorType)
    return type_of(value).get_shape()


def extent(value: SSAValue) -> tuple[int, int]:
    """Axes that are T long, and elements along the others."""
    shape = shape_of(value)
    return shape.count(DYNAMIC_INDEX), prod(size for size in shape if size != DYNAMIC_INDEX)


def is_known(size: SSAValue) -> bool:
    """Is it a number, though the type says T?"""
    return isinstance(size.owner, arith.ConstantOp)
