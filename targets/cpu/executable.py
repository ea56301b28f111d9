"""Runs compiled kernels: the entry's array of addresses, rows in pieces, threads."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from sterna.targets.cpu.codegen import LoadedCode
from sterna.targets.cpu.ports import ALIGNMENT, Array, Bytes, Port, States, aligned_bytes
from sterna.targets.cpu.team import Team
from sterna.targets.inputs import check_capacity, check_input, check_inputs, count_rows, framework_shape
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
        self._inputs = [Port(tensor) for tensor in program.inputs if not tensor.is_state]
        self._outputs = [Port(tensor) for tensor in program.outputs if not tensor.is_state]
        self._addresses = (
            ctypes.c_void_p * (len(self._memory) + len(program.inputs) + len(program.outputs))
        )()
        self._team = Team(self.threads)
        self._turn = threading.Lock()

    @cached_property
    def _states(self) -> States:
        """Of calls that are given states."""
        return States(self.program)

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """See `targets.Executable`."""
        arrays, rows = check_inputs(self.program, inputs)
        plain = len(self._inputs)
        with self._turn:
            states = self._states
            for port, array in zip(states.given, arrays[plain:], strict=True):
                port.write(port.in_ir_shape(array, rows), rows)
            results = self._run(arrays[:plain], rows, states)
            return (*results, *(port.framework_array(rows) for port in states.left))

    def session(self) -> CpuSession:
        """See `targets.Executable`."""
        return CpuSession(self)

    def run_in(self, states: States, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """The results for inputs without states, from these states on, which are then those after the last row."""
        plain = [tensor for tensor in self.program.inputs if not tensor.is_state]
        arrays = [check_input(tensor, value) for tensor, value in zip(plain, inputs, strict=True)]
        rows = count_rows(plain, arrays)
        with self._turn:
            # No other state is looked at: reading a cache would copy it.
            for port in (port for port in states.given if port.tensor.capacity is not None):
                check_capacity(port.tensor, port.framework_array(rows), rows)
            results = self._run(arrays, rows, states)
            states.swap()
        return results

    def _run(self, arrays: Sequence[Array], rows: int, states: States) -> tuple[Array, ...]:
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
                states.swap()
            for source, port in zip(sources, self._inputs, strict=True):
                if port.tensor.is_dynamic:
                    port.write(_piece(source, start, end, rows), end - start)
            self._call(end - start, states)
            for sink, port in zip(sinks, self._outputs, strict=True):
                if port.tensor.is_dynamic:
                    port.read(_piece(sink, start, end, rows), end - start)
        for sink, port in zip(sinks, self._outputs, strict=True):
            if not port.tensor.is_dynamic:
                port.read(sink, rows)
        return tuple(results)

    def _call(self, rows: int, states: States) -> None:
        ports = (*self._inputs, *states.given, *self._outputs, *states.left)
        places = [*(memory.ctypes.data for memory in self._memory), *(port.address for port in ports)]
        for n, address in enumerate(places):
            self._addresses[n] = address
        array = ctypes.addressof(self._addresses)
        self._team.run(lambda thread: self._entry(array, rows, thread, self.threads))


class CpuSession:
    """A text whose states stay where the kernels write them, a cache in its place."""

    def __init__(self, executable: CpuExecutable) -> None:
        self._executable = executable
        self._states = States(executable.program)

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """See `targets.Session`."""
        return self._executable.run_in(self._states, inputs)


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
