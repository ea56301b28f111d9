"""A BitNet transformer with random weights: one program, the same bits on every target, in pieces, and in batches.

Slow: kernels for every instruction set, and Triton's interpreter.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.weights import WeightStore
from sterna.frontends.checkpoint import CheckpointFrontend
from sterna.in_memory import load_planned
from sterna.lowering import lower
from sterna.plugins import find_target
from sterna.targets.program import InputError, Program
from tests.bitnet_checkpoints import PACKED, TIED, write_bitnet

pytestmark = pytest.mark.slow

Array = npt.NDArray[Any]
CONTEXT = 40
TOKENS = np.arange(CONTEXT) * 7 % PACKED.vocab_size


@dataclass
class Lowered:
    module: ModuleOp
    weights: WeightStore

    @staticmethod
    def of(path: Path, target: str) -> Lowered:
        imported = CheckpointFrontend().load(path, context=CONTEXT)
        lower(imported.module, imported.weights, find_target(target), max_rows=8)
        return Lowered(imported.module, imported.weights)

    @cached_property
    def program(self) -> Program:
        return Program.of(self.module)

    @property
    def new_text(self) -> list[Array]:
        return [np.zeros(each.shape, each.dtype) for each in self.program.inputs if each.is_state]

    def interpreted(self, tokens: Array) -> tuple[Array, ...]:
        """Logits and states in the framework's shapes."""
        states = [
            state.reshape(each.ir_shape)
            for state, each in zip(self.new_text, self.program.inputs[1:], strict=True)
        ]
        results = ModuleInterpreter(self.module, self.weights).run([tokens, *states])
        shapes = ([len(tokens) if n == -1 else n for n in each.shape] for each in self.program.outputs)
        return tuple(result.reshape(shape) for result, shape in zip(results, shapes, strict=True))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bitnet(tmp_path_factory.mktemp("bitnet"), TIED)


@pytest.fixture(scope="module")
def cpu(checkpoint: Path) -> Lowered:
    return Lowered.of(checkpoint, "cpu")


@pytest.fixture(scope="module")
def interpreted(cpu: Lowered) -> tuple[Array, ...]:
    return cpu.interpreted(TOKENS)


def same_bits(a: Sequence[Array], b: Sequence[Array]) -> bool:
    return all(x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512vnni"])
def test_kernels_equal_the_interpreter(
    cpu: Lowered, interpreted: tuple[Array, ...], isa: str, threads: int
) -> None:
    here = isa in find_target("cpu").levels()
    executable = load_planned(cpu.module, cpu.weights, "cpu", isa=isa, threads=threads, emulate=not here)
    assert same_bits(executable.run([TOKENS[None], *cpu.new_text]), interpreted)
    for sizes in ([1] * CONTEXT, [5, 1, 1, 20, 13]):
        session, start, rows = executable.session(), 0, list[Array]()
        for size in sizes:
            rows += session.run([TOKENS[None, start : start + size]])
            start += size
        assert same_bits([np.concatenate(rows, axis=1)], interpreted[:1])
        with pytest.raises(InputError, match="40 tokens and 1 more are not in the context of 40"):
            session.run([TOKENS[None, :1]])


ON_DEVICE = """
import sys, numpy as np, torch, importlib.util
spec = importlib.util.spec_from_file_location("kernels", sys.argv[1])
kernels = importlib.util.module_from_spec(spec)
sys.modules["kernels"] = kernels
spec.loader.exec_module(kernels)
weights = kernels.load_weights(torch.from_numpy(np.load(sys.argv[2])), torch.device("cpu"))
decoder = kernels.Decoder(weights, torch.device("cpu"), texts=2)
tokens = torch.from_numpy(np.load(sys.argv[3]))
rows = []
decoder.prompt(tokens[:, :5])
rows.append(decoder.logits.clone())
for n in (5, 6):
    decoder.tokens.copy_(tokens[:, n])
    decoder.step()
    rows.append(decoder.logits.clone())
try:
    decoder.prompt(torch.zeros(2, 64, dtype=torch.int64))
except ValueError as error:
    print(error)
np.save(sys.argv[4], torch.stack(rows, 1).numpy())
"""


def test_two_texts_on_the_device_are_the_interpreters(checkpoint: Path, tmp_path: Path) -> None:
    """Caches, positions and rows of a batch, a prompt and steps after it; and the same program in `run`."""
    from sterna.in_memory import pack_weights

    gpu = Lowered.of(checkpoint, "triton")
    tokens = np.stack([TOKENS[:7], TOKENS[10:17]])
    names = ("kernels.py", "weights.npy", "tokens.npy", "logits.npy")
    kernels, weights, given, found = (tmp_path / name for name in names)
    kernels.write_bytes(find_target("triton").build(gpu.module)["kernels.py"])
    np.save(weights, pack_weights(gpu.module, gpu.weights))
    np.save(given, tokens)
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICE, *map(str, (kernels, weights, given, found))],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "7 tokens and 64 more are not in the context of 40 tokens\n"
    expected = [gpu.interpreted(text)[0][0, 4:] for text in tokens]
    assert np.load(found).tobytes() == np.stack(expected).tobytes()


def test_a_call_under_tritons_interpreter_has_the_bits_of_the_cpu(
    checkpoint: Path, interpreted: tuple[Array, ...]
) -> None:
    gpu = Lowered.of(checkpoint, "triton")
    executable = load_planned(gpu.module, gpu.weights, "triton", isa="interpreter")
    logits, *states = executable.run([TOKENS[None, :6], *gpu.new_text])
    after, *_ = executable.run([TOKENS[None, 6:7], *states])
    assert np.concatenate([logits, after], axis=1).tobytes() == interpreted[0][:, :7].tobytes()
