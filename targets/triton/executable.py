"""A compiled program on a GPU, or under Triton's interpreter, as `targets.Executable` wants it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sterna.dialects.errors import CompileError
from sterna.targets.inputs import check_inputs, check_room, framework_shape, ir_shape
from sterna.targets.program import InputError, Program
from sterna.targets.triton.child import ChildEngine
from sterna.targets.triton.engine import (
    INTERPRETER,
    VARIABLE,
    Array,
    Engine,
    device_names,
    interprets_here,
)

ROWS_AT_ONCE = 4096
"""A longer text runs in pieces, so that what its activations take is bounded."""


def choose_isa(isa: str | None) -> str:
    """The asked one, if this machine runs it; or that of its first GPU. CompileError says what to do instead."""
    here = [name for name, _ in device_names()]
    if isa == INTERPRETER or (isa is None and interprets_here()):
        return INTERPRETER
    if isa is not None and isa not in here:
        found = f"this machine has {', '.join(here)}" if here else "torch finds no GPU here"
        raise CompileError(
            f"instruction set '{isa}' does not run here: {found}; '{INTERPRETER}' runs everywhere"
        )
    if not here:
        raise CompileError(
            f"torch finds no GPU here: run under Triton's interpreter, slowly, with --isa {INTERPRETER} "
            f"(isa='{INTERPRETER}') or {VARIABLE}=1, or compile for another target (--target cpu)"
        )
    return isa or here[0]


class TritonExecutable:
    """Calls from several threads take turns."""

    threads = 1

    def __init__(
        self, file: bytes | Path, program: Program, weights: Array, *, isa: str | None, threads: int | None
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads: expected at least 1, found {threads}")
        if weights.nbytes != program.weights_bytes:
            raise InputError(f"expected {program.weights_bytes} bytes of weights, found {weights.nbytes}")
        self.isa = choose_isa(isa)
        self.program = program
        self._folder, path = _on_disk(file)
        self._turn = threading.Lock()
        if self.isa != INTERPRETER:
            self._engine: Engine | ChildEngine = Engine(path, weights, _device_of(self.isa))
        elif interprets_here():
            self._engine = Engine(path, weights, "cpu")
        else:
            self._engine = ChildEngine(path, weights)

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """See `targets.Executable`."""
        arrays, rows = check_inputs(self.program, inputs)
        laid = [
            array.reshape(ir_shape(tensor, rows))
            for tensor, array in zip(self.program.inputs, arrays, strict=True)
        ]
        with self._turn:
            results = self._run(laid, rows)
        return tuple(
            result.astype(tensor.dtype, copy=False).reshape(framework_shape(tensor, rows))
            for tensor, result in zip(self.program.outputs, results, strict=True)
        )

    def decoder(self) -> TritonDecoder | None:
        """See `targets.Executable`. None under the interpreter in another process."""
        if not isinstance(self._engine, Engine) or (decoder := self._engine.decoder()) is None:
            return None
        return TritonDecoder(self._engine, decoder, self.program.context)

    def texts(self, count: int) -> TritonTexts | None:
        """See `targets.Executable`. None under the interpreter in another process."""
        if not isinstance(self._engine, Engine) or (decoder := self._engine.decoder(count)) is None:
            return None
        return TritonTexts(self._engine, decoder)

    def _run(self, arrays: list[Array], rows: int) -> list[Array]:
        if not self.program.in_pieces:
            return self._engine.run(1, rows, arrays)
        pieces: list[list[Array]] = []
        states = sum(tensor.is_state for tensor in self.program.inputs)
        for start in range(0, max(rows, 1), ROWS_AT_ONCE):
            end = min(start + ROWS_AT_ONCE, rows)
            if start:
                arrays[len(arrays) - states :] = pieces[-1][len(pieces[-1]) - states :]
            piece = [
                array[start:end] if tensor.is_dynamic else array
                for tensor, array in zip(self.program.inputs, arrays, strict=True)
            ]
            pieces.append(self._engine.run(1, end - start, piece))
        return [
            np.concatenate([piece[n] for piece in pieces]) if tensor.is_dynamic else pieces[-1][n]
            for n, tensor in enumerate(self.program.outputs)
        ]


class TritonDecoder:
    """One text on the device: what comes back from a step is a token."""

    def __init__(self, engine: Engine, decoder: Any, context: int | None) -> None:
        self._engine, self._decoder, self._context = engine, decoder, context

    def feed(self, tokens: Array) -> None:
        check_room(self._context, self._decoder.fed, tokens.size)
        given = self._engine.on_device(tokens.astype(np.int64).reshape(1, -1))
        if tokens.size == 1:
            self._decoder.tokens.copy_(given[0])
            self._decoder.step()
        else:
            self._decoder.prompt(given)

    def choose(
        self, temperature: float, top_k: int | None, top_p: float | None, generator: np.random.Generator
    ) -> int:
        return _choose(self._engine, self._decoder, 0, (temperature, top_k, top_p), generator)


class TritonTexts:
    """Several texts on the device, one step for all of them."""

    def __init__(self, engine: Engine, decoder: Any) -> None:
        self._engine, self._decoder = engine, decoder

    def begin(self, prompts: Sequence[Array]) -> None:
        """Each prompt by itself, since they may differ in length: then it is a row of what steps go on with."""
        alone, together = self._engine.decoder(), self._decoder
        logits: list[Any] = []
        for text, tokens in enumerate(prompts):
            alone.reset()
            alone.prompt(self._engine.on_device(tokens.astype(np.int64).reshape(1, -1)))
            together.tokens[text].copy_(alone.tokens[0])
            logits.append(alone.logits[0])
            for state, one in zip(together.states, alone.states, strict=True):
                state[text].copy_(one[0])
        # A text that has ended is fed on, where it is longest past its context, of which kernels keep out.
        together.count(min(tokens.size for tokens in prompts))
        together.logits = self._engine.torch.stack(logits)

    def step(self, tokens: Array) -> None:
        self._decoder.tokens.copy_(self._engine.on_device(tokens.astype(np.int64)))
        self._decoder.step()

    def choose(
        self,
        text: int,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        generator: np.random.Generator,
    ) -> int:
        return _choose(self._engine, self._decoder, text, (temperature, top_k, top_p), generator)


def _choose(
    engine: Engine,
    decoder: Any,
    text: int,
    options: tuple[float, int | None, float | None],
    generator: np.random.Generator,
) -> int:
    if options[0] == 0:
        return int(decoder.tokens[text])
    before = generator.bit_generator.state
    token, among = engine.choose(decoder, text, options, generator.random())
    if among == 1:  # where nothing is left to choose the host draws nothing
        generator.bit_generator.state = before
    return token


def _on_disk(file: bytes | Path) -> tuple[TemporaryDirectory[str] | None, Path]:
    """Triton reads a kernel's source from the file that it was imported from."""
    if isinstance(file, Path):
        return None, file
    folder = TemporaryDirectory(prefix="sterna-", ignore_cleanup_errors=True)
    path = Path(folder.name) / "kernels.py"
    path.write_bytes(file)
    return folder, path


def _device_of(isa: str) -> str:
    return f"cuda:{[name for name, _ in device_names()].index(isa)}"
