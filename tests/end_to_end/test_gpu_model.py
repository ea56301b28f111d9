"""The shipped model on the GPU target, under Triton's interpreter: the bits and the texts of the CPU's.

Slow: the interpreter takes seconds a token.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from shakespeare import CHECKPOINT

import sterna
from sterna.api import build
from sterna.model import CompiledModel
from tests.cpu_programs import ENCODINGS

pytestmark = pytest.mark.slow

TOKENS = 6
"""More than `FEW_ROWS`, so that a prompt takes the way of many rows, and steps that of few."""


@pytest.fixture(scope="module", params=ENCODINGS)
def gpu_artifact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpu") / "model.sterna"
    build(CHECKPOINT, path, "triton", target_options={"encoding": request.param})
    return path


def test_a_prompt_and_the_steps_after_it_give_the_bits_of_the_cpu(
    gpu_artifact: Path, model: CompiledModel, text_tokens: npt.NDArray[np.int64]
) -> None:
    gpu = sterna.load(gpu_artifact, isa="interpreter")
    tokens = text_tokens[: TOKENS + 1]
    states, expected_states = model.initial_states(), model.initial_states()
    for piece in (tokens[:TOKENS], tokens[TOKENS:]):
        (found,), states = gpu.step(piece[None], states=states)
        (expected,), expected_states = model.step(piece[None], states=expected_states)
        assert found.tobytes() == expected.tobytes()
        for state, wanted in zip(states, expected_states, strict=True):
            assert state.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("prompts", [("RO",), ("RO", "To be", "K")])
def test_the_command_line_writes_the_same_texts_with_all_on_the_device(
    gpu_artifact: Path, model: CompiledModel, prompts: tuple[str, ...]
) -> None:
    """In a process in which Triton interprets, so that the decoder runs: prompts, steps of all texts, draws."""
    given = [option for prompt in prompts for option in ("--prompt", prompt)]
    command = ["run", str(gpu_artifact), *given, "-n", "3", "--top-k", "5", "--seed", "1", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "sterna.cli", *command],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    generated = [model.generate(each, max_new_tokens=3, top_k=5, seed=1) for each in prompts]
    assert done.stdout == "\n\n".join(map(str, generated)) + "\n"
