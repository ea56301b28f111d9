"""What a program takes, checked: shapes, types, values and the number of rows, in one line where they are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sterna.targets.program import DYNAMIC, InputError, Program, ProgramTensor

Array = npt.NDArray[Any]


def check_input(tensor: ProgramTensor, value: Array) -> Array:
    """The value as a contiguous array of the tensor's type; InputError if it does not fit."""
    array, dtype = np.asarray(value), np.dtype(tensor.dtype)
    if array.shape != tensor.shape and not _fits(array.shape, tensor.shape):
        expected = ", ".join("T" if size == DYNAMIC else str(size) for size in tensor.shape)
        raise InputError(f"input '{tensor.name}': expected shape ({expected}), found {array.shape}")
    if array.dtype != dtype and not np.can_cast(array.dtype, dtype, "same_kind"):
        raise InputError(f"input '{tensor.name}': expected {tensor.dtype}, found {array.dtype}")
    if tensor.limit is not None and array.size:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= tensor.limit:
            found = low if low < 0 else high
            raise InputError(f"input '{tensor.name}': expected values in [0, {tensor.limit}), found {found}")
    return np.ascontiguousarray(array, dtype)


def check_inputs(program: Program, values: Sequence[Array]) -> tuple[list[Array], int]:
    """All of them, and T."""
    if len(values) != len(program.inputs):
        raise InputError(f"expected {len(program.inputs)} inputs, found {len(values)}")
    arrays = [check_input(tensor, value) for tensor, value in zip(program.inputs, values, strict=True)]
    rows = count_rows(program.inputs, arrays)
    for tensor, value in zip(program.inputs, arrays, strict=True):
        check_capacity(tensor, value, rows)
    return arrays, rows


def check_capacity(tensor: ProgramTensor, value: Array, rows: int) -> None:
    """Of a state that counts the rows before the call: InputError where those of the call do not fit after them."""
    if tensor.capacity is not None:
        check_room(tensor.capacity, int(value.reshape(())), rows)


def check_room(capacity: int | None, before: int, rows: int) -> None:
    """InputError where so many rows do not fit in a text after those before."""
    if capacity is not None and (before < 0 or before + rows > capacity):
        raise InputError(
            f"{before} tokens and {rows} more are not in the context of {capacity} tokens: compile the model with a "
            f"longer one (--context {max(before, 0) + rows})"
        )


def count_rows(tensors: Sequence[ProgramTensor], values: Sequence[Array]) -> int:
    """T of a call; a program without dynamic inputs runs once."""
    counts: set[int] = set()
    for tensor, value in zip(tensors, values, strict=True):
        axes = zip(value.shape, tensor.shape, strict=True)
        if tensor.is_dynamic:
            counts |= {size for size, declared in axes if declared == DYNAMIC}
    if len(counts) > 1:
        shown = ", ".join(map(str, sorted(counts)))
        raise InputError(f"the inputs have different numbers of rows: {shown}")
    return counts.pop() if counts else 1


def ir_shape(tensor: ProgramTensor, rows: int) -> tuple[int, ...]:
    return tuple(rows if size == DYNAMIC else size for size in tensor.ir_shape)


def framework_shape(tensor: ProgramTensor, rows: int) -> tuple[int, ...]:
    return tuple(rows if size == DYNAMIC else size for size in tensor.shape)


def _fits(found: Sequence[int], expected: Sequence[int]) -> bool:
    return len(found) == len(expected) and all(
        size in (DYNAMIC, there) for size, there in zip(expected, found, strict=True)
    )
