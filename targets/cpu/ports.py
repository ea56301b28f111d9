"""The way of arrays into and out of a program: checked, and copied between the framework's layout and ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sterna.targets.program import DYNAMIC, InputError, ProgramTensor

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

ALIGNMENT = 64
"""As `dialects/layout.py` has it; importing that would import the compiler."""


def aligned_bytes(size: int) -> Bytes:
    """Zeros that start at a cache line."""
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


class Port:
    """The buffer of one input or result."""

    def __init__(self, tensor: ProgramTensor) -> None:
        self.tensor = tensor
        self.dtype = np.dtype(tensor.dtype)
        self.buffer = aligned_bytes(tensor.buffer_bytes)
        self.address = self.buffer.ctypes.data

    def _elements(self, rows: int) -> Array:
        """The buffer's elements with the IR's shape, dynamic axes `rows` long."""
        return np.ndarray(ir_shape(self.tensor, rows), self.dtype, self.buffer.data, 0, self.tensor.strides)

    def check(self, value: Array) -> Array:
        """The value as a contiguous array of the port's type; InputError if it does not fit."""
        tensor = self.tensor
        array = np.asarray(value)
        if array.shape != tensor.shape and not _fits(array.shape, tensor.shape):
            expected = ", ".join("T" if size == DYNAMIC else str(size) for size in tensor.shape)
            raise InputError(f"input '{tensor.name}': expected shape ({expected}), found {array.shape}")
        if array.dtype != self.dtype and not np.can_cast(array.dtype, self.dtype, "same_kind"):
            raise InputError(f"input '{tensor.name}': expected {tensor.dtype}, found {array.dtype}")
        if tensor.limit is not None and array.size:
            low, high = int(array.min()), int(array.max())
            if low < 0 or high >= tensor.limit:
                found = low if low < 0 else high
                raise InputError(
                    f"input '{tensor.name}': expected values in [0, {tensor.limit}), found {found}"
                )
        return np.ascontiguousarray(array, self.dtype)

    def row_counts(self, value: Array) -> set[int]:
        """T of a value that fits, as its dynamic axes have it: empty for a static port."""
        axes = zip(value.shape, self.tensor.shape, strict=True)
        return {size for size, declared in axes if declared == DYNAMIC} if self.tensor.is_dynamic else set()

    def in_ir_shape(self, array: Array, rows: int) -> Array:
        """The elements of a contiguous array of the framework's shape in the IR's, without a copy."""
        return array.reshape(ir_shape(self.tensor, rows))

    def write(self, values: Array, rows: int) -> None:
        """Fills the buffer with values of the IR's shape for T = `rows`."""
        self._elements(rows)[...] = values

    def read(self, values: Array, rows: int) -> None:
        values[...] = self._elements(rows)


def ir_shape(tensor: ProgramTensor, rows: int) -> tuple[int, ...]:
    return tuple(rows if size == DYNAMIC else size for size in tensor.ir_shape)


def _fits(found: Sequence[int], expected: Sequence[int]) -> bool:
    return len(found) == len(expected) and all(
        size in (DYNAMIC, there) for size, there in zip(expected, found, strict=True)
    )


def count_rows(ports: Sequence[Port], values: Sequence[Array]) -> int:
    """T of a call; a program without dynamic inputs runs once."""
    counts: set[int] = set()
    for port, value in zip(ports, values, strict=True):
        counts |= port.row_counts(value)
    if len(counts) > 1:
        shown = ", ".join(map(str, sorted(counts)))
        raise InputError(f"the inputs have different numbers of rows: {shown}")
    return counts.pop() if counts else 1
