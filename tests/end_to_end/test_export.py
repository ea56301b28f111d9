"""`sterna export`: ONNX Runtime writes what `sterna run` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from shakespeare import CHECKPOINT

import sterna
from examples.classify_digits import network, shipped_digits
from sterna import cli
from sterna.onnx_export import export

TOKENS = 50


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "shakespeare.onnx"
    assert cli.main(["export", str(CHECKPOINT), "-o", str(path), "--quiet"]) == 0
    return path


def continue_greedily(path: Path, prompt: tuple[int, ...]) -> list[int]:
    """Tokens from ONNX Runtime, the states of one call being those of the next."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    states: dict[str, npt.NDArray[Any]] = {
        port.name: np.zeros(port.shape, np.float32) for port in session.get_inputs()[1:]
    }
    tokens, reads = [], list(prompt)
    for _ in range(TOKENS):
        logits, *after = session.run(None, {"tokens": np.array([reads], np.int64), **states})
        states = dict(zip(states, map(np.asarray, after), strict=True))
        reads = [int(np.asarray(logits)[0, -1].argmax())]
        tokens += reads
    return tokens


def test_onnx_runtime_writes_the_same_tokens(exported: Path) -> None:
    ours = sterna.compile(CHECKPOINT).generate(
        "ROMEO:", max_new_tokens=TOKENS, temperature=0.0, stop_at_end=False
    )
    assert continue_greedily(exported, ours.prompt_tokens) == list(ours.tokens)


def test_the_file_holds_trits_in_two_bits(exported: Path) -> None:
    model = onnx.load(exported)
    trits = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT2]
    assert sum(len(t.raw_data) for t in trits) == sum(np.prod(t.dims) for t in trits) / 4
    assert sum(np.prod(t.dims) for t in trits) > 3_000_000
    assert exported.stat().st_size < 0.3 * (CHECKPOINT / "model.safetensors").stat().st_size


def test_external_data_holds_the_same(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    assert export(CHECKPOINT, path, external_data=True) == [path, tmp_path / "model.onnx.data"]
    assert path.stat().st_size < 200_000
    prompt = (42, 459)
    assert continue_greedily(path, prompt) == continue_greedily(exported, prompt)
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "model.onnx.data"]


@pytest.mark.parametrize(
    ("model", "output", "said"),
    [
        ("nothing", "model.onnx", "nothing"),
        (str(CHECKPOINT), "no/folder/model.onnx", "no/folder"),
    ],
)
def test_a_wrong_path_is_one_line(
    model: str, output: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", model, "-o", str(tmp_path / output)]) == 1
    (line,) = capsys.readouterr().err.strip().split("\n")
    assert said in line
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # compiles a network, which finds thresholds
@pytest.mark.parametrize("name", ["TFC_2W2A", "TFC_1W1A"])
def test_a_quantized_network_leaves_with_its_trits_and_thresholds(name: str, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    export(network(name), path)
    model = onnx.load(path)
    weights = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT2]
    assert len(weights) == 4 and not [node for node in model.graph.node if node.op_type in ("MatMul", "Conv")]
    images = shipped_digits()[0][:100]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = np.concatenate(
        [session.run(None, {session.get_inputs()[0].name: image[None]})[0] for image in images]
    )
    np.testing.assert_allclose(found, sterna.compile(network(name))(images), rtol=0, atol=1e-5)
