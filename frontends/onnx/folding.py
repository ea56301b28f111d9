"""Arithmetic on numbers that are known when compiling, and on sizes: what graphs do to shapes.

Moving operators (Concat, Gather, Slice, ...) fold in their own emitters; here are the elementwise ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sterna.frontends.onnx.data_types import BOOL
from sterna.frontends.onnx.errors import OnnxError
from sterna.frontends.onnx.node import LARGEST_FOLD, Node
from sterna.frontends.onnx.sizes import Dim, is_equal, is_less
from sterna.frontends.onnx.values import Tensor

Array = npt.NDArray[Any]
Ufunc = Callable[..., Any]


def _divide(left: Array, right: Array) -> Any:
    """Integers round toward zero; sizes divide where nothing is left over."""
    if left.dtype.kind == "f":
        return left / right
    if left.dtype == object or right.dtype == object:
        return np.asarray(left, object) // np.asarray(right, object)
    quotient = np.floor_divide(left, right)
    return quotient + ((quotient < 0) & (quotient * right != left))


def _sizewise(function: Callable[[Any, Any], Any], plain: Ufunc) -> Ufunc:
    """`plain` on numbers; on arrays that hold sizes, `function` on each pair."""
    on_objects = np.frompyfunc(function, 2, 1)

    def apply(left: Array, right: Array) -> Any:
        return (on_objects if object in (left.dtype, right.dtype) else plain)(left, right)

    return apply


def _least(left: Dim, right: Dim) -> Dim:
    return left if is_less(left, right) else right


def _most(left: Dim, right: Dim) -> Dim:
    return right if is_less(left, right) else left


ARITHMETIC: dict[str, Ufunc] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "Neg": np.negative,
    "Abs": np.absolute,
    "Sqrt": np.sqrt,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Not": np.logical_not,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Min": _sizewise(_least, np.minimum),
    "Max": _sizewise(_most, np.maximum),
}
COMPARISONS: dict[str, Ufunc] = {
    "Equal": _sizewise(is_equal, np.equal),
    "Less": _sizewise(is_less, np.less),
    "Greater": _sizewise(lambda a, b: is_less(b, a), np.greater),
    "LessOrEqual": _sizewise(lambda a, b: not is_less(b, a), np.less_equal),
    "GreaterOrEqual": _sizewise(lambda a, b: not is_less(a, b), np.greater_equal),
}


def fold(node: Node, inputs: Sequence[Tensor | None]) -> list[Tensor] | None:
    """The node's outputs, if it is elementwise on known numbers; None if it is to be emitted."""
    operator = node.proto.op_type if not node.proto.domain else ""
    if operator not in ARITHMETIC and operator not in COMPARISONS and operator not in ("Where", "Mod"):
        return None
    if None in inputs or any(tensor is not None and tensor.type.kind == "text" for tensor in inputs):
        return None
    arrays = node.folds(*inputs)
    if arrays is None or not arrays:
        return None
    try:
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError:
        shapes = " and ".join(str(list(array.shape)) for array in arrays)
        raise OnnxError(f"{node.place}: the shapes {shapes} do not fit each other") from None
    if np.prod(shape, dtype=object) > LARGEST_FOLD:
        return None
    first = inputs[-1]
    assert first is not None
    if operator in ("Div", "Mod") and first.type.is_integer and not np.all(arrays[1] != 0):
        raise OnnxError(f"{node.place}: division of an integer by zero")
    with np.errstate(all="ignore"):
        if operator == "Where":
            condition = arrays[0].astype(np.bool_)
            return [node.folded(np.asarray(np.where(condition, *arrays[1:])), first.type)]
        if operator == "Mod":
            return [
                node.folded(np.asarray((np.fmod if node.integer("fmod", 0) else np.mod)(*arrays)), first.type)
            ]
        if operator in COMPARISONS:
            return [node.folded(np.asarray(COMPARISONS[operator](*arrays)).astype(np.bool_), BOOL)]
        return [node.folded(_combine(ARITHMETIC[operator], arrays), first.type)]


def _combine(function: Ufunc, arrays: Sequence[Array]) -> Array:
    """A function of one array, of two, or of any number from the left."""
    if len(arrays) == 1:
        return (
            np.asarray(function(arrays[0]))
            if isinstance(function, np.ufunc) and function.nin == 1
            else arrays[0]
        )
    total = arrays[0]
    for array in arrays[1:]:
        total = np.asarray(function(total, array))
    return total
