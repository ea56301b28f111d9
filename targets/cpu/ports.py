"""The way of arrays into and out of a program: copied between the framework's layout and ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sterna.targets.inputs import framework_shape, ir_shape
from sterna.targets.program import Program, ProgramTensor

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
    """The buffer of one input or result, which may be that of another."""

    def __init__(self, tensor: ProgramTensor, buffer: Bytes | None = None) -> None:
        self.tensor = tensor
        self.dtype = np.dtype(tensor.dtype)
        self.buffer = aligned_bytes(tensor.buffer_bytes) if buffer is None else buffer
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

    def framework_array(self, rows: int) -> Array:
        """A copy of the buffer in the framework's shape."""
        return self._elements(rows).reshape(framework_shape(self.tensor, rows)).copy()


class States:
    """Where the states of a text lie, as a call finds them and as it leaves them: zeros, for a new text."""

    def __init__(self, program: Program) -> None:
        self.given = [Port(tensor) for tensor in program.inputs if tensor.is_state]
        following = [tensor for tensor in program.outputs if tensor.is_state]
        self.left = [
            Port(tensor, port.buffer if tensor.in_place else None)
            for tensor, port in zip(following, self.given, strict=True)
        ]

    def swap(self) -> None:
        """What they became is where they start in the next call."""
        for before, after in zip(self.given, self.left, strict=True):
            before.buffer, after.buffer = after.buffer, before.buffer
            before.address, after.address = after.address, before.address
