"""Texts among others and alone, on an emitted language model: the process in which Triton interprets it.

    TRITON_INTERPRET=1 python -m tests.gpu_texts

takes a JSON object a line on stdin, `{"kernels": PATH, "weights": PATH, "tokens": [[...], ...], "steps": N}`, and
answers with the list of what is not, bit for bit, what the text alone gives, or is not when the programs of each launch
run in another order, on memory that held something else; and `{"logits": [[...], ...]}`, with the likeliest token of
each row.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.weights import WeightStore
from sterna.in_memory import pack_weights
from sterna.lowering import lower
from sterna.plugins import find_target
from sterna.targets.triton.engine import load_file


class Texts:
    """The process, of which one serves many models."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.gpu_texts"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[1],
            text=True,
        )

    def differences(self, model: Path, tokens: Sequence[Sequence[int]], steps: int) -> list[str]:
        paths = {"kernels": str(model / "kernels.py"), "weights": str(model / "weights.bin")}
        return self._ask({**paths, "tokens": tokens, "steps": steps})

    def likeliest(self, logits: Sequence[Sequence[float]]) -> list[int]:
        return self._ask({"logits": logits})

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait() == 0


def emit(module: ModuleOp, store: WeightStore, folder: Path) -> Path:
    target = find_target("triton")
    lower(module, store, target)
    (folder / "kernels.py").write_text(target.emit(module, "triton"))
    pack_weights(module, store).tofile(folder / "weights.bin")
    return folder


def differences(kernels: str, weights: str, tokens: list[list[int]], steps: int) -> list[str]:
    import torch

    module: Any = load_file(Path(kernels))
    module.PIECE = 2 * len(tokens)  # So that a prompt comes in pieces to all texts, and in fewer to one.
    held = module.load_weights(torch.from_numpy(np.fromfile(weights, np.uint8)), torch.device("cpu"))
    given, device = torch.tensor(tokens), torch.device("cpu")

    found: list[str] = []

    def at_once(prompt: Any) -> list[Any]:
        """Logits `[texts, T, V]`, and every state `[texts, D]`."""
        texts, length = prompt.shape
        batch = module.Batch(texts, length, device)
        states = [batch.empty((texts, *shape), dtype).zero_() for shape, dtype in module.STATES]
        logits, *last = module.forward(batch, held, prompt.reshape(-1), *states)
        return [logits.unflatten(0, (texts, length)), *last]

    decoders = {count: module.Decoder(held, device, count) for count in (1, len(tokens))}

    def continued(prompt: Any) -> list[Any]:
        """Of a decoder: tokens, the last logits and the states, after a prompt and some steps."""
        decoder = decoders[len(prompt)]
        decoder.reset()
        decoder.prompt(prompt)
        likeliest = decoder.logits.argmax(dim=1)
        chosen = decoder.greedy(steps + 1)
        found.extend(["the first token"] * (not torch.equal(chosen[:, 0], likeliest)))
        return [chosen.float(), decoder.logits, *decoder.states]

    # First what writes states over the old ones: a kernel that was tuned before would have nothing to put back.
    for way in (continued, at_once):
        together = way(given)
        for text in range(len(given)):
            alone = way(given[text : text + 1])
            if way is at_once and text == 0:
                with backwards(module):
                    again = way(given[:1])
                found += [
                    f"{way.__name__}, backwards: result {n}"
                    for n, (one, other) in enumerate(zip(alone, again, strict=True))
                    if one.numpy().tobytes() != other.numpy().tobytes()
                ]
            found += [
                f"{way.__name__}, text {text}: result {n}"
                for n, (one, several) in enumerate(zip(alone, together, strict=True))
                if one[0].numpy().tobytes() != several[text].numpy().tobytes()
            ]
    return found


@contextmanager
def backwards(module: Any) -> Iterator[None]:
    """Programs of a launch run from the last to the first: a device has no order, but Triton's interpreter has one.
    Memory holds other numbers than the zeros that a new process mostly finds."""
    from triton.runtime.interpreter import interpreter_builder as builder

    forwards, empty = builder.set_grid_idx, module.Batch.empty
    builder.set_grid_idx = lambda *at: forwards(
        *(size - 1 - n for size, n in zip(builder.grid_dim, at, strict=True))
    )
    module.Batch.empty = lambda *given: empty(*given).fill_(77)
    try:
        yield
    finally:
        builder.set_grid_idx, module.Batch.empty = forwards, empty


def likeliest(logits: list[list[float]]) -> list[int]:
    import torch

    from sterna.targets.triton import decoding

    tokens = torch.zeros(len(logits), dtype=torch.int64)
    decoding.likeliest(torch.tensor(logits), tokens)
    return tokens.tolist()


def main() -> None:
    import torch

    torch.use_deterministic_algorithms(True)  # New memory is NaN: see `targets/triton/server.py`.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        answer = likeliest(**request) if "logits" in request else differences(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
