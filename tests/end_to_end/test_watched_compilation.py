"""The shipped checkpoint through `sterna compile` with every instrument on, once: the import takes most of the time."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from shakespeare import CHECKPOINT

from sterna.cli import main
from sterna.dialects.context import parse
from sterna.dialects.interpreter import run
from sterna.dialects.weights import Array
from sterna.frontends.huggingface import Checkpoint
from sterna.instruments.verify_each import first_difference
from sterna.passes import PASSES
from sterna.passes.tolerance import tolerance_of


@dataclass(frozen=True)
class Watched:
    code: int
    out: str
    err: str
    stages: list[tuple[str, Path]]
    """The dumped files, each with the pass that made it, in order; a pass may run twice."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched") / "ir"
    out, err = io.StringIO(), io.StringIO()
    options = ["--verify-each", "--time-passes", "--pass-statistics", "--print-ir-diff", "--run"]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["compile", str(CHECKPOINT), "--dump-ir-dir", str(folder), *options])
    files = sorted(folder.iterdir())
    stages = [(path.stem.partition("-")[2], path) for path in files]
    return Watched(code, out.getvalue(), err.getvalue(), stages)


def test_every_dumped_stage_runs_and_gives_the_logits_of_the_first(watched: Watched) -> None:
    weights = Checkpoint(CHECKPOINT)
    tokens = np.array([10, 20, 30, 40], np.int64)
    results: list[tuple[Array, ...]] = []
    for name, path in watched.stages:
        module = parse(path.read_text(encoding="utf-8"), path.name)
        states = [np.zeros(256, np.float32)] * 4
        results.append(run(module, [tokens, *states], weights=weights))
        if len(results) > 1:
            allowed = tolerance_of(PASSES[name])
            assert first_difference(results[-2], results[-1], allowed) is None, name
    first, last = results[0][0], results[-1][0]
    assert np.abs(last - first).max() <= 2**-6 * np.abs(first).max()
    assert (last.argmax(-1) == first.argmax(-1)).all()


def test_every_pass_is_verified_timed_counted_and_compared(watched: Watched) -> None:
    assert watched.code == 0
    names = [name for name, _ in watched.stages[1:]]
    assert f"verify-each: {2 * len(names)} comparisons on 2 inputs passed\n" in watched.err
    times = watched.err.partition("Time of passes")[2]
    statistics = watched.err.partition("Statistics of passes")[2].partition("Time of passes")[0]
    for name in names:
        assert re.search(rf"^ {name} +\d+\.\d+ ", times, re.MULTILINE)
        assert re.search(rf"^ {name} +\d+ ", statistics, re.MULTILINE)
        assert re.search(
            rf"^// -----// (diff of {name}|{name} changed nothing) //", watched.err, re.MULTILINE
        )
    assert "bytes of i2 weights" in statistics
    assert "matches of RaiseLinear" in statistics


def test_run_prints_the_logits_of_the_last_stage(watched: Watched) -> None:
    assert "// @forward, tokens = [" in watched.out
    assert re.search(r"result 0: f32\[3, 1024\], bits [0-9a-f]{8}\n", watched.out)


def test_stop_after_prints_the_ir_at_that_point(capsys: pytest.CaptureFixture[str], watched: Watched) -> None:
    assert main(["compile", str(CHECKPOINT), "--stop-after", "ternarize"]) == 0
    dumped = dict(watched.stages)["ternarize"].read_text(encoding="utf-8")
    assert dumped.partition("builtin.module")[2] == capsys.readouterr().out.partition("builtin.module")[2]
