"""Runs compiled kernels: buffers, the entry's array of addresses, rows in pieces, threads."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sterna.targets.cpu.codegen import LoadedCode
from sterna.targets.cpu.team import Team
from sterna.targets.program import DYNAMIC, InputError, Program, ProgramTensor

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)

ALIGNMENT = 64
"""As `dialects/layout.py` has it; importing that would import the compiler."""

BARRIER_BYTES = 2 * ALIGNMENT
BYTES_PER_THREAD = 1 << 20
"""Packed weights that make another thread worth waking: it takes about as long to wake as to read them."""


def default_threads(program: Program) -> int:
    """As many as have work to do, at most one a processor that this process may use."""
    return max(1, min(len(os.sched_getaffinity(0)), program.streamed_bytes // BYTES_PER_THREAD))


def aligned_bytes(size: int) -> Bytes:
    """Zeros that start at a cache line."""
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


class CpuExecutable:
    """A program on this machine. Calls from several threads take turns."""

    def __init__(
        self, code: LoadedCode, entry: str, program: Program, weights: Bytes, *, isa: str, threads: int | None
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads: expected at least 1, found {threads}")
        if weights.nbytes != program.weights_bytes:
            raise InputError(f"expected {program.weights_bytes} bytes of weights, found {weights.nbytes}")
        self.isa = isa
        self.threads = threads or default_threads(program)
        self.program = program
        self._code = code
        self._entry = ENTRY(code.address(entry))
        self._weights = _aligned(weights)
        self._arena = aligned_bytes(program.arena_bytes)
        self._barrier = aligned_bytes(BARRIER_BYTES)
        self._inputs = [aligned_bytes(tensor.buffer_bytes) for tensor in program.inputs]
        self._outputs = [aligned_bytes(tensor.buffer_bytes) for tensor in program.outputs]
        self._states = sum(tensor.is_state for tensor in program.inputs)
        self._team = Team(self.threads)
        self._turn = threading.Lock()

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """See `targets.Executable`."""
        arrays = check_inputs(self.program, inputs)
        rows = _row_count(self.program, arrays)
        with self._turn:
            return self._run(arrays, rows)

    def _run(self, arrays: Sequence[Array], rows: int) -> tuple[Array, ...]:
        program = self.program
        results = [np.empty(_with_rows(t.ir_shape, rows), t.dtype) for t in program.outputs]
        for n, tensor in enumerate(program.inputs):
            if not tensor.is_dynamic:
                _rows_of(self._inputs[n], tensor, 1)[...] = arrays[n].reshape(-1, tensor.columns)
        for start in range(0, rows, program.max_rows):
            piece = slice(start, min(start + program.max_rows, rows))
            count = piece.stop - piece.start
            if start:
                self._swap_states()
            for n, tensor in enumerate(program.inputs):
                if tensor.is_dynamic:
                    _rows_of(self._inputs[n], tensor, count)[...] = arrays[n][piece].reshape(count, -1)
            self._call(count)
            for n, tensor in enumerate(program.outputs):
                if tensor.is_dynamic:
                    results[n][piece].reshape(count, -1)[...] = _rows_of(self._outputs[n], tensor, count)
        # After no rows at all, the states are what they were.
        last = (
            self._outputs
            if rows
            else [*self._outputs[: -self._states or None], *self._inputs[-self._states :]]
        )
        for n, tensor in enumerate(program.outputs):
            if not tensor.is_dynamic:
                results[n].reshape(-1, tensor.columns)[...] = _rows_of(last[n], tensor, 1)
        return tuple(
            result.reshape(_with_rows(tensor.shape, rows))
            for result, tensor in zip(results, program.outputs, strict=True)
        )

    def _swap_states(self) -> None:
        """What the states became is where they start in the next piece."""
        for n in range(1, self._states + 1):
            self._inputs[-n], self._outputs[-n] = self._outputs[-n], self._inputs[-n]

    def _call(self, rows: int) -> None:
        buffers = (self._weights, self._arena, self._barrier, *self._inputs, *self._outputs)
        addresses = (ctypes.c_void_p * len(buffers))(*(buffer.ctypes.data for buffer in buffers))
        array = ctypes.addressof(addresses)
        self._team.run(lambda thread: self._entry(array, rows, thread, self.threads))


def check_inputs(program: Program, inputs: Sequence[Array]) -> list[Array]:
    """The inputs, contiguous, of the program's types and IR shapes; InputError if they do not fit it."""
    if len(inputs) != len(program.inputs):
        raise InputError(f"expected {len(program.inputs)} inputs, found {len(inputs)}")
    arrays: list[Array] = []
    for value, tensor in zip(inputs, program.inputs, strict=True):
        array = np.asarray(value)
        expected = ", ".join("T" if size == DYNAMIC else str(size) for size in tensor.shape)
        fits = len(array.shape) == len(tensor.shape) and all(
            size in (DYNAMIC, found) for size, found in zip(tensor.shape, array.shape, strict=True)
        )
        if not fits:
            raise InputError(f"input '{tensor.name}': expected shape ({expected}), found {array.shape}")
        if not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
            raise InputError(f"input '{tensor.name}': expected {tensor.dtype}, found {array.dtype}")
        rows = next((f for size, f in zip(tensor.shape, array.shape, strict=True) if size == DYNAMIC), 1)
        _check_range(array, tensor)
        arrays.append(np.ascontiguousarray(array, tensor.dtype).reshape(_with_rows(tensor.ir_shape, rows)))
    counts = {
        array.shape[0] for array, tensor in zip(arrays, program.inputs, strict=True) if tensor.is_dynamic
    }
    if len(counts) > 1:
        raise InputError(f"the inputs have different numbers of rows: {', '.join(map(str, sorted(counts)))}")
    return arrays


def _check_range(array: Array, tensor: ProgramTensor) -> None:
    if tensor.limit is None or not array.size:
        return
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= tensor.limit:
        found = low if low < 0 else high
        raise InputError(f"input '{tensor.name}': expected values in [0, {tensor.limit}), found {found}")


def _row_count(program: Program, arrays: Sequence[Array]) -> int:
    """T; a program without dynamic inputs runs once."""
    return next((a.shape[0] for a, t in zip(arrays, program.inputs, strict=True) if t.is_dynamic), 1)


def _with_rows(shape: tuple[int, ...], rows: int) -> tuple[int, ...]:
    return tuple(rows if size == DYNAMIC else size for size in shape)


def _rows_of(buffer: Bytes, tensor: ProgramTensor, rows: int) -> Array:
    """The elements of a buffer as [rows, columns], without the padding; a static tensor has its own rows."""
    if not tensor.is_dynamic and len(tensor.ir_shape) > 1:
        rows = tensor.ir_shape[0]
    padded = buffer[: rows * tensor.row_bytes].view(tensor.dtype).reshape(rows, -1)
    return padded[:, : tensor.columns]


def _aligned(weights: Bytes) -> Bytes:
    """The weights where they are, or a copy where their address does not suit vector loads."""
    if weights.ctypes.data % ALIGNMENT == 0:
        return weights
    copy = aligned_bytes(weights.nbytes)
    copy[...] = weights
    return copy
