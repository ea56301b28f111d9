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
        count = tensor.buffer_bytes // tensor.row_bytes
        padded = self.buffer[: count * tensor.row_bytes].view(self.dtype).reshape(count, -1)
        rows = padded[:, : tensor.columns]
        self._dynamic = tensor.is_dynamic
        # A static tensor of one axis, or none, is one row.
        self._rows = rows if self._dynamic else rows[: tensor.ir_shape[0] if len(tensor.ir_shape) > 1 else 1]

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

    def row_count(self, value: Array) -> int | None:
        """T of a value that fits, if the port has rows."""
        return value.shape[self.tensor.shape.index(DYNAMIC)] if self._dynamic else None

    def by_row(self, array: Array) -> Array:
        """The elements of a contiguous array of the framework's shape as [rows, columns], without a copy."""
        return array.reshape(-1, self.tensor.columns)

    def write(self, rows: Array) -> None:
        self._rows[: len(rows)] = rows

    def read(self, rows: Array) -> None:
        rows[...] = self._rows[: len(rows)]


def _fits(found: Sequence[int], expected: Sequence[int]) -> bool:
    return len(found) == len(expected) and all(
        size in (DYNAMIC, there) for size, there in zip(expected, found, strict=True)
    )


def count_rows(ports: Sequence[Port], values: Sequence[Array]) -> int:
    """T of a call; a program without dynamic inputs runs once."""
    counts = {port.row_count(value) for port, value in zip(ports, values, strict=True)} - {None}
    if len(counts) > 1:
        shown = ", ".join(map(str, sorted(count for count in counts if count is not None)))
        raise InputError(f"the inputs have different numbers of rows: {shown}")
    return counts.pop() or 0 if counts else 1
