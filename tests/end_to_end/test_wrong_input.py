"""`sterna run` and `sterna compile` on what is not a model: one clear line, exit code 1, nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sterna import cli
from sterna.frontends.huggingface import WEIGHTS_NAME

Damage = Callable[[Path], None]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def change_config(**fields: object) -> Damage:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **fields}))

    return change


def change_tensor(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS_NAME)
        tensors[name] = change(tensors[name])
        save_file(tensors, folder / WEIGHTS_NAME)

    return damage


def truncate(folder: Path) -> None:
    data = (folder / WEIGHTS_NAME).read_bytes()
    (folder / WEIGHTS_NAME).write_bytes(data[: len(data) // 2])


def remove_weights(folder: Path) -> None:
    (folder / WEIGHTS_NAME).unlink()


O_PROJ = "model.layers.1.attn.o_proj.weight"
DAMAGES: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "no weights": (remove_weights, ("model.safetensors",)),
    "truncated weights": (truncate, ("model.safetensors", "of the data, which has")),
    "wrong dtype": (change_tensor(O_PROJ, lambda w: w.astype(np.int32)), (O_PROJ, "I32", "F16")),
    "wrong shape": (change_tensor(O_PROJ, lambda w: w[:, :-1].copy()), (O_PROJ, "[256, 255]")),
    "negative size": (change_config(hidden_size=-256), ("config.json", "hidden_size", "-256")),
    "impossible size": (change_config(hidden_size=10**12), ("config.json",)),
    "a size that is text": (change_config(vocab_size="many"), ("config.json", "vocab_size", "many")),
    "another model": (change_config(model_type="llama"), ("config.json", "model_type", "llama")),
    "config is not JSON": (
        lambda folder: (folder / "config.json").write_text("{") and None,
        ("config.json", "JSON"),
    ),
}


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), captured.err
    return lines[0]


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint(
    name: str, checkpoint: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, words = DAMAGES[name]
    model = tmp_path / "model"
    shutil.copytree(checkpoint, model)
    damage(model)
    assert cli.main(["run", str(model), "--prompt", "x", "-n", "1"]) == 1
    line = one_error_line(capsys)
    assert all(word in line for word in words), line
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert cli.main(["compile", str(model), "-o", str(tmp_path / "out.sterna")]) == 1
    one_error_line(capsys)
    assert {path.name for path in tmp_path.iterdir()} <= {"model", "cache"}


def test_a_damaged_tokenizer(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    """The program is as it should be, so the model compiles; it just cannot read text."""
    model = tmp_path / "model"
    shutil.copytree(checkpoint, model)
    (model / "tokenizer.json").write_text("{")
    assert cli.main(["run", str(model), "--prompt", "x"]) == 1
    assert "tokenizer.json: not a tokenizer" in one_error_line(capsys)


def test_a_model_that_claims_to_be_ternary_and_is_not_lists_its_linears() -> None:
    """A checkpoint's importer makes the claim; that of any module does not, and is made to here."""
    import torch
    from torch import nn

    from sterna.dialects.errors import CompileError
    from sterna.dialects.weight_ops import FLOAT_LAYERS
    from sterna.frontends.torch_module import TorchModuleFrontend
    from sterna.lowering import lower
    from sterna.plugins import find_target

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 16, bias=False), nn.ReLU(), nn.Linear(16, 8, bias=False))
    imported = TorchModuleFrontend().load(net.eval(), (torch.randn(2, 32),))
    del imported.module.attributes[FLOAT_LAYERS]
    with pytest.raises(CompileError) as error:
        lower(imported.module, imported.weights, find_target("cpu"))
    assert "2 linear layers are not ternary" in str(error.value)
    assert all(f"@{n}." in str(error.value) for n in (0, 2))
    assert "\n" not in str(error.value)


def test_missing_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("missing", "missing.sterna", "missing/model.safetensors"):
        assert cli.main(["run", str(tmp_path / path), "--prompt", "x"]) == 1
        assert "no such file or directory" in one_error_line(capsys)
    (tmp_path / "empty").mkdir()
    assert cli.main(["run", str(tmp_path / "empty"), "--prompt", "x"]) == 1
    one_error_line(capsys)
    assert cli.main(["compile", str(tmp_path / "empty"), "-o", str(tmp_path / "x.sterna")]) == 1
    assert "config.json" in one_error_line(capsys)
    assert everything_below(tmp_path) == ["empty"]


@pytest.fixture
def damaged(artifact: Path, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "model.sterna"
    shutil.copytree(artifact, path)
    yield path


@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors", "kernels.avx2.o", "config.json"])
def test_an_artifact_with_one_flipped_byte(
    name: str, damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = damaged / name
    data = bytearray(file.read_bytes())
    for place in (0, len(data) // 3, len(data) - 1):
        data[place] ^= 0x10
        file.write_bytes(data)
        assert cli.main(["run", str(damaged), "--prompt", "x"]) == 1
        assert name in one_error_line(capsys)
        data[place] ^= 0x10


def test_a_target_or_instruction_set_that_is_not_there(
    artifact: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", str(artifact), "--prompt", "x", "--isa", "mmx"]) == 1
    assert "mmx" in one_error_line(capsys)
    assert cli.main(["compile", str(checkpoint), "--target", "tpu", "-o", str(tmp_path / "x.sterna")]) == 1
    assert "unknown target 'tpu', expected one of: cpu" in one_error_line(capsys)
    assert cli.main(["compile", str(checkpoint), "--emit", "wasm"]) == 1
    assert "'wasm'" in one_error_line(capsys)
    assert cli.main(["compile", str(checkpoint), "--emit", "mlir", "--stage", "baked"]) == 1
    assert "unknown stage 'baked'" in one_error_line(capsys)


def test_a_folder_of_something_else_is_not_overwritten(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    assert cli.main(["compile", str(checkpoint), "-o", str(tmp_path / "thesis")]) == 1
    assert "is not an artifact" in one_error_line(capsys)
    assert everything_below(tmp_path) == ["thesis", "thesis/chapter.tex"]
