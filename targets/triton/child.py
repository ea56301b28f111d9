"""A process in which Triton interprets, for parents in which it does not: that is settled when it is imported.

Requests and answers go through pipes, as a line of JSON each, followed by the bytes of arrays.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sterna.dialects.errors import CompileError
from sterna.targets.triton.engine import VARIABLE, Array

Message = dict[str, Any]


def send(stream: IO[bytes], message: Message, arrays: Sequence[Array] = ()) -> None:
    shapes = [[array.dtype.str, array.shape] for array in arrays]
    stream.write(json.dumps({**message, "arrays": shapes}).encode() + b"\n")
    for array in arrays:
        stream.write(np.ascontiguousarray(array).tobytes())
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[Message, list[Array]] | None:
    """None at the end of the stream."""
    if not (line := stream.readline()):
        return None
    message: Message = json.loads(line)
    arrays: list[Array] = []
    for name, shape in message.pop("arrays"):
        dtype = np.dtype(name)
        data = stream.read(dtype.itemsize * prod(shape))
        arrays.append(np.frombuffer(data, dtype).reshape(shape))
    return message, arrays


class Child:
    """The process, which lives as long as this one; calls from several threads take turns."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sterna.targets.triton.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, VARIABLE: "1", "OMP_NUM_THREADS": "1"},
        )
        atexit.register(self.close)

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.terminate()
        self._process.wait()

    @property
    def is_closed(self) -> bool:
        return self._process.stdin is None or self._process.stdin.closed

    def ask(self, message: Message, arrays: Sequence[Array] = ()) -> list[Array]:
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._turn:
            try:
                send(self._process.stdin, message, arrays)
                answer = receive(self._process.stdout)
            except BrokenPipeError:
                answer = None
        if answer is None:
            code = self._process.wait()
            start.cache_clear()
            raise CompileError(f"the process in which Triton interprets ended with exit code {code}")
        if "error" in answer[0]:
            raise CompileError(f"under Triton's interpreter: {answer[0]['error']}")
        return answer[1]


@cache
def start() -> Child:
    return Child()


class ChildEngine:
    """`Engine` on Triton's interpreter in another process."""

    def __init__(self, path: Path, weights: npt.NDArray[np.uint8]) -> None:
        self._child = start()
        self._number = int(self._child.ask({"load": str(path)}, [weights])[0])

    def run(self, texts: int, length: int, arrays: Sequence[Array]) -> list[Array]:
        return self._child.ask({"run": self._number, "texts": texts, "length": length}, arrays)

    def __del__(self) -> None:
        if hasattr(self, "_number") and self._child is start() and not self._child.is_closed:
            self._child.ask({"drop": self._number})
