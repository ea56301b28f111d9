"""The numpy dtype in which the interpreter, and a packed artifact, hold each element type."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import (
    BFloat16Type,
    Float16Type,
    Float32Type,
    Float64Type,
    IndexType,
    IntegerType,
    TensorType,
)
from xdsl.ir import Attribute

from sterna.dialects.encodings import BitType, TritType
from sterna.dialects.errors import CompileError

INTEGERS = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
"""An integer of another width lies, sign extended, in the smallest of these that holds it."""


def width_of(type: Attribute) -> int | None:
    """Bits of an integer, or of the integers of a tensor; None for any other type."""
    element = cast("TensorType[Attribute]", type).element_type if isinstance(type, TensorType) else type
    return cast(IntegerType, element).width.data if isinstance(element, IntegerType) else None


def dtype_of(type: Attribute) -> np.dtype[Any]:
    """The dtype of a scalar type, or of a tensor's elements; CompileError for a type without one.

    Trits and bits are int8, i1 is bool, other integers, of up to 64 bits, are signed. bf16, which numpy lacks, is
    float32 (in memory `bfloat16_bits`).
    """
    element = cast(TensorType[Attribute], type).element_type if isinstance(type, TensorType) else type
    match element:
        case Float32Type() | BFloat16Type():
            return np.dtype(np.float32)
        case Float16Type():
            return np.dtype(np.float16)
        case Float64Type():
            return np.dtype(np.float64)
        case TritType() | BitType():
            return np.dtype(np.int8)
        case IndexType():
            return np.dtype(np.int64)
        case IntegerType() if element.width.data == 1:
            return np.dtype(np.bool_)
        case IntegerType() if 1 < element.width.data <= 64:
            return np.dtype(next(held for bits, held in INTEGERS.items() if bits >= element.width.data))
        case _:
            raise CompileError(f"elements of type {element} are not supported")


def is_bfloat16(type: Attribute) -> bool:
    element = cast("TensorType[Attribute]", type).element_type if isinstance(type, TensorType) else type
    return isinstance(element, BFloat16Type)


def bfloat16_bits(array: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper halves of float32 numbers; CompileError if one is no bfloat16, so that its lower half is not zero."""
    bits = np.ascontiguousarray(array).view(np.uint32)
    if (bits & np.uint32(0xFFFF)).any():
        raise CompileError("expected elements of bf16, found numbers between them")
    return (bits >> np.uint32(16)).astype(np.uint16)


def from_bfloat16_bits(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The inverse."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def truncated_to_bfloat16(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The nearest bfloat16 towards zero of each number: for generating some."""
    return (np.ascontiguousarray(array).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
