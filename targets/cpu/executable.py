"""Runs compiled kernels: the entry's array of addresses, rows in pieces, threads."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence

import numpy as np

from sterna.targets.cpu.codegen import LoadedCode
from sterna.targets.cpu.ports import ALIGNMENT, Array, Bytes, Port, aligned_bytes
from sterna.targets.cpu.team import Team
from sterna.targets.inputs import check_inputs, framework_shape
from sterna.targets.program import InputError, Program

ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)

BARRIER_BYTES = 2 * ALIGNMENT
BYTES_PER_THREAD = 1 << 20
"""Packed weights that make another thread worth waking: it takes about as long to wake as to read them."""


def default_threads(program: Program) -> int:
    """As many as have work to do, at most one a processor that this process may use."""
    return max(1, min(len(os.sched_getaffinity(0)), program.streamed_bytes // BYTES_PER_THREAD))


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
        # Kept, so that the addresses below stay theirs.
        self._memory = (_aligned(weights), aligned_bytes(program.arena_bytes), aligned_bytes(BARRIER_BYTES))
        self._inputs = [Port(tensor) for tensor in program.inputs]
        self._outputs = [Port(tensor) for tensor in program.outputs]
        self._states = sum(tensor.is_state for tensor in program.inputs)
        self._addresses = (ctypes.c_void_p * (len(self._memory) + len(self._inputs) + len(self._outputs)))()
        self._write_addresses()
        self._team = Team(self.threads)
        self._turn = threading.Lock()

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """See `targets.Executable`."""
        arrays, rows = check_inputs(self.program, inputs)
        with self._turn:
            return self._run(arrays, rows)

    def _run(self, arrays: Sequence[Array], rows: int) -> tuple[Array, ...]:
        if rows > self.program.max_rows and not self.program.in_pieces:
            raise InputError(
                f"the inputs have T = {rows}, and this program takes at most {self.program.max_rows} at once: "
                f"compile it with --max-rows {rows} (max_rows={rows})"
            )
        sources = [port.in_ir_shape(array, rows) for port, array in zip(self._inputs, arrays, strict=True)]
        results = [_empty(port, rows) for port in self._outputs]
        sinks = [port.in_ir_shape(array, rows) for port, array in zip(self._outputs, results, strict=True)]
        for source, port in zip(sources, self._inputs, strict=True):
            if not port.tensor.is_dynamic:
                port.write(source, rows)
        # A program without rows still says what its states and its other results are.
        for start in range(0, max(rows, 1), self.program.max_rows):
            end = min(start + self.program.max_rows, rows)
            if start:
                self._swap_states()
            for source, port in zip(sources, self._inputs, strict=True):
                if port.tensor.is_dynamic:
                    port.write(_piece(source, start, end, rows), end - start)
            self._call(end - start)
            for sink, port in zip(sinks, self._outputs, strict=True):
                if port.tensor.is_dynamic:
                    port.read(_piece(sink, start, end, rows), end - start)
        for sink, port in zip(sinks, self._outputs, strict=True):
            if not port.tensor.is_dynamic:
                port.read(sink, rows)
        return tuple(results)

    def _swap_states(self) -> None:
        """What the states became is where they start in the next piece."""
        for n in range(1, self._states + 1):
            self._inputs[-n], self._outputs[-n] = self._outputs[-n], self._inputs[-n]
        self._write_addresses()

    def _write_addresses(self) -> None:
        ports = (*self._inputs, *self._outputs)
        addresses = [*(memory.ctypes.data for memory in self._memory), *(port.address for port in ports)]
        for n, address in enumerate(addresses):
            self._addresses[n] = address

    def _call(self, rows: int) -> None:
        array = ctypes.addressof(self._addresses)
        self._team.run(lambda thread: self._entry(array, rows, thread, self.threads))


def _piece(array: Array, start: int, end: int, rows: int) -> Array:
    """Rows of a call in pieces, which T leads everywhere; all of it in a call of one piece."""
    return array if (start, end) == (0, rows) else array[start:end]


def _empty(port: Port, rows: int) -> Array:
    return np.empty(framework_shape(port.tensor, rows), port.dtype)


def _aligned(weights: Bytes) -> Bytes:
    """The weights where they are, or a copy where their address does not suit vector loads."""
    if weights.ctypes.data % ALIGNMENT == 0:
        return weights
    copy = aligned_bytes(weights.nbytes)
    copy[...] = weights
    return copy
