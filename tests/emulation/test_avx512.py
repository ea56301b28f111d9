"""The shipped checkpoint's AVX-512 object, as it lies in the artifact, on an emulated Ice Lake: the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sterna
from sterna import api
from sterna.model import CompiledModel
from sterna.targets.program import ProgramTensor
from tests.cpu_programs import ENCODINGS
from tests.emulation import bochs
from tests.emulation.bochs import Array, Call

CHECKPOINT = Path(__file__).parents[2] / "examples/checkpoints/matmulfree-shakespeare"
TOKENS = np.array([42, 7, 901, 16, 300, 55, 55, 1], np.int64)
BARRIER_BYTES = 128


@pytest.fixture(scope="module", params=ENCODINGS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CompiledModel:
    path = tmp_path_factory.mktemp("artifact") / "shakespeare.sterna"
    api.build(CHECKPOINT, path, target_options={"encoding": request.param})
    return sterna.load(path, isa="baseline")


def buffer_of(tensor: ProgramTensor) -> Array:
    return np.zeros(tensor.buffer_bytes // np.dtype(tensor.dtype).itemsize, tensor.dtype)


def test_avx512_object_gives_the_bits_of_the_baseline(model: CompiledModel, tmp_path: Path) -> None:
    """Five tokens at once, then three one by one, each call on the states that the last one left."""
    program = model.program
    weights = model.artifact.map_weights(program.weights_bytes)
    arena, barrier = np.zeros(program.arena_bytes, np.uint8), np.zeros(BARRIER_BYTES, np.uint8)
    state_count = sum(tensor.is_state for tensor in program.inputs)
    states: list[Array] = [buffer_of(tensor) for tensor in program.inputs if tensor.is_state]

    calls: list[Call] = []
    logits: list[Array] = []
    for piece in (TOKENS[:5], TOKENS[5:6], TOKENS[6:7], TOKENS[7:]):
        tokens = buffer_of(program.inputs[0])
        tokens[: len(piece)] = piece
        outputs = [buffer_of(tensor) for tensor in program.outputs]
        calls.append(Call([weights, arena, barrier, tokens, *states, *outputs], len(piece)))
        logits.append(outputs[0])
        states = outputs[-state_count:]
    object_file = (model.artifact.path / "kernels.avx512vnni.o").read_bytes()
    emulated = bochs.run(object_file, calls, [*logits, *states], tmp_path)

    (expected,), expected_states = model.step(TOKENS[None])
    columns = program.outputs[0].columns
    rows = [out.reshape(-1, columns)[: call.rows] for out, call in zip(emulated, calls, strict=False)]
    assert np.concatenate(rows).tobytes() == expected.tobytes()
    for state, want in zip(emulated[-state_count:], expected_states, strict=True):
        assert state[: want.size].tobytes() == want.tobytes()


@pytest.mark.parametrize("model", ["i2"], indirect=True)
def test_a_machine_that_crashes_is_an_error(model: CompiledModel, tmp_path: Path) -> None:
    """A CPU without AVX-512 stops where the registers are enabled: nothing here passes without them."""
    object_file = (model.artifact.path / "kernels.avx512vnni.o").read_bytes()
    out = buffer_of(model.program.outputs[0])
    with pytest.raises(bochs.EmulationError, match="did not finish"):
        bochs.run(object_file, [Call([out], 1)], [out], tmp_path, model="corei7_haswell_4770")
