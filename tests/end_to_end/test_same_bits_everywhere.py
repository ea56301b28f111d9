"""One program, the same bits: interpreter and kernels, any threads, any instruction set, any pieces of the text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shakespeare import CHECKPOINT, Planned

import sterna
from sterna.api import build
from sterna.artifact import read_manifest
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.model import CompiledModel
from sterna.targets.cpu.codegen import LoadedCode
from sterna.targets.cpu.executable import CpuExecutable
from sterna.targets.cpu.isa import ISAS, best_isa
from sterna.targets.cpu.target import CpuTarget

Array = npt.NDArray[np.float32]
Results = tuple[Array, ...]

HERE = ISAS[ISAS.index(best_isa()) :]
BEYOND = ISAS[: ISAS.index(best_isa())]


@pytest.fixture(scope="session")
def interpreted(planned: Planned, model: CompiledModel, text_tokens: npt.NDArray[np.int64]) -> Results:
    """Logits and last states as the interpreter has them, in the framework's shapes."""
    states = [state.reshape(-1) for state in model.initial_states()]
    results = ModuleInterpreter(planned.module, planned.weights).run([text_tokens, *states])
    shapes = [tensor.shape for tensor in model.program.outputs]
    return tuple(
        result.reshape([len(text_tokens) if size == -1 else size for size in shape])
        for result, shape in zip(results, shapes, strict=True)
    )


def in_pieces(model: CompiledModel, tokens: npt.NDArray[np.int64], sizes: Sequence[int]) -> Results:
    """Logits and last states of the text, run piece by piece."""
    states: Sequence[Array] = model.initial_states()
    logits: list[Array] = []
    start = 0
    for size in [*sizes, len(tokens)]:
        piece = tokens[start : start + size]
        start += size
        if len(piece):
            (rows,), states = model.step(piece[None], states=states)
            logits.append(rows)
    return (np.concatenate(logits, axis=1), *states)


def same_bits(a: Results, b: Results) -> bool:
    return all(x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("isa", [isa.name for isa in HERE])
def test_kernels_equal_the_interpreter(
    model: CompiledModel, text_tokens: npt.NDArray[np.int64], interpreted: Results, isa: str, threads: int
) -> None:
    compiled = sterna.load(model.artifact.path, threads=threads, isa=isa, verify=False)
    assert same_bits(in_pieces(compiled, text_tokens, []), interpreted)
    assert same_bits(in_pieces(compiled, text_tokens, [1] * len(text_tokens)), interpreted)


@pytest.fixture(scope="session")
def in_base_3(tmp_path_factory: pytest.TempPathFactory) -> CompiledModel:
    path = tmp_path_factory.mktemp("base3") / "shakespeare.sterna"
    build(CHECKPOINT, path, target_options={"encoding": "b3"})
    assert read_manifest(path).model.encoding == "b3"
    return sterna.load(path)


@pytest.mark.parametrize("isa", [isa.name for isa in HERE])
def test_weights_in_base_3_equal_the_interpreter(
    in_base_3: CompiledModel, text_tokens: npt.NDArray[np.int64], interpreted: Results, isa: str
) -> None:
    compiled = sterna.load(in_base_3.artifact.path, threads=2, isa=isa, verify=False)
    assert same_bits(in_pieces(compiled, text_tokens, []), interpreted)
    assert same_bits(in_pieces(compiled, text_tokens, [1] * len(text_tokens)), interpreted)


@pytest.mark.parametrize("isa", [isa.name for isa in BEYOND])
def test_kernels_of_a_stronger_machine_equal_the_interpreter(
    model: CompiledModel, planned: Planned, text_tokens: npt.NDArray[np.int64], interpreted: Results, isa: str
) -> None:
    """The instructions that this machine lacks are emulated, each by its definition."""
    code = LoadedCode.of(CpuTarget().build_object(planned.module, isa, emulate=True))
    weights = model.artifact.map_weights(model.program.weights_bytes)
    executable = CpuExecutable(code, "forward", model.program, weights, isa=isa, threads=2)
    assert same_bits(executable.run([text_tokens[None], *model.initial_states()]), interpreted)


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 40), max_size=12))
def test_any_pieces_give_the_same_bits(
    model: CompiledModel, text_tokens: npt.NDArray[np.int64], interpreted: Results, sizes: list[int]
) -> None:
    assert same_bits(in_pieces(model, text_tokens, sizes), interpreted)


def test_more_rows_than_a_kernel_takes_run_in_pieces(model: CompiledModel) -> None:
    tokens = np.arange(3 * model.program.max_rows + 7, dtype=np.int64) % 1000
    assert same_bits(in_pieces(model, tokens, []), in_pieces(model, tokens, [model.program.max_rows - 1]))
