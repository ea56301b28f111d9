"""The way of arrays into and out of a program: copied between the framework's layout and ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sterna.targets.inputs import ir_shape
from sterna.targets.program import ProgramTensor

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

    def in_ir_shape(self, array: Array, rows: int) -> Array:
        """The elements of a contiguous array of the framework's shape in the IR's, without a copy."""
        return array.reshape(ir_shape(self.tensor, rows))

    def write(self, values: Array, rows: int) -> None:
        """Fills the buffer with values of the IR's shape for T = `rows`."""
        self._elements(rows)[...] = values

    def read(self, values: Array, rows: int) -> None:
        values[...] = self._elements(rows)
