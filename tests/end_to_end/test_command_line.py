"""`sterna run`, `compile` and their cache, on the shipped checkpoint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sterna import api, cli
from sterna.model import CompiledModel

WITHOUT_THE_COMPILER = """
import sys
for name in ("torch", "xdsl", "safetensors", "rich"):
    sys.modules[name] = None  # importing it is an error now
from sterna import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def test_an_artifact_runs_without_torch_and_without_the_compiler(
    model: CompiledModel, artifact: Path
) -> None:
    command = ["run", str(artifact), "--prompt", "ROMEO:", "-n", "20", "--greedy"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_COMPILER, *command], capture_output=True, text=True
    )
    expected = model.generate("ROMEO:", max_new_tokens=20, temperature=0)
    assert (done.returncode, done.stdout) == (0, f"{expected}\n")
    assert "generated: 20 tokens" in done.stderr


def test_the_prompt_may_come_from_a_pipe(model: CompiledModel, artifact: Path) -> None:
    command = [sys.executable, "-m", "sterna.cli", "run", str(artifact), "-n", "5", "--seed", "3", "--quiet"]
    done = subprocess.run(command, input="JULIET:\n", capture_output=True, text=True)
    expected = model.generate("JULIET:\n", max_new_tokens=5, seed=3)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{expected}\n", "")


def test_text_streams_in_whole_characters(model: CompiledModel) -> None:
    pieces = list(model.stream("HAMLET: é", max_new_tokens=40, temperature=1.5, seed=5))
    assert "".join(pieces) == model.generate("HAMLET: é", max_new_tokens=40, temperature=1.5, seed=5).text


def test_tokens_and_text_are_the_same_prompt(model: CompiledModel) -> None:
    from_text = model.generate("KING:", max_new_tokens=10, temperature=0)
    from_tokens = model.generate(from_text.prompt_tokens, max_new_tokens=10, temperature=0)
    assert from_tokens.tokens == from_text.tokens


def test_a_checkpoint_is_compiled_once(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, cache = tmp_path / "checkpoint", tmp_path / "cache"
    shutil.copytree(checkpoint, copy)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    builds: list[object] = []
    build = api.build
    monkeypatch.setattr(api, "build", lambda *args, **options: builds.append(args) or build(*args, **options))

    def run() -> str:
        assert cli.main(["run", str(copy), "--prompt", "ROMEO:", "-n", "5", "--greedy", "-q"]) == 0
        return capsys.readouterr().out

    first = run()
    assert run() == first and len(builds) == 1
    (cached,) = cache.rglob("*.sterna")
    weights = cached / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert run() == first and len(builds) == 2, "a damaged artifact in the cache is compiled again"
    os.utime(copy / "model.safetensors")
    assert run() == first and len(builds) == 3, "a changed checkpoint is compiled again"
    assert len(list(cache.rglob("*.sterna"))) == 1, "and the old one goes"


@pytest.mark.parametrize(
    ("kind", "words"), [("llvm", ["define", '@"forward"']), ("asm", ["forward:", "ret"])]
)
def test_what_the_target_makes_can_be_printed(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], kind: str, words: list[str]
) -> None:
    assert cli.main(["compile", str(checkpoint), "--emit", kind, "--isa", "avx2", "-q"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words)


def test_several_prompts_are_texts_of_their_own(
    artifact: Path, model: CompiledModel, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", str(artifact), "-p", "ROMEO:", "-p", "JULIET:", "-n", "5", "--seed", "3", "-q"]
    expected = [model.generate(prompt, max_new_tokens=5, seed=3) for prompt in ("ROMEO:", "JULIET:")]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == "\n\n".join(map(str, expected)) + "\n"
