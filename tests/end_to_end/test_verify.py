"""`sterna verify` on the shipped checkpoint, on every level. Slow: every kernel is compiled for each of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shakespeare import CHECKPOINT

from sterna import cli
from sterna.plugins import find_target


@pytest.mark.slow
def test_the_shipped_model_is_green(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "verify.json"
    options = [
        "--examples",
        "2",
        "--against",
        "torch",
        "--json",
        str(found),
        "--reproducers",
        str(tmp_path / "r"),
    ]
    assert cli.main(["verify", str(CHECKPOINT), "--targets", "cpu", *options]) == 0
    report = json.loads(found.read_text())
    rows = [row for row in report["results"] if row["verdict"] != "not run"]
    assert report["green"] and {row["verdict"] for row in rows} == {"equal"}
    for kind in ("kernel", "program"):
        assert {row["level"] for row in rows if row["kind"] == kind} == set(find_target("cpu").levels())
    names = {row["name"].rstrip("_0123456789") for row in rows if row["kind"] == "kernel"}
    assert names == {"embedding", "norm_quantize", "project", "scan", "rms_norm", "elementwise"}
    assert "of tokens" in next(row["worst_error"] for row in rows if row["kind"] == "torch")
    assert "0 bad" in capsys.readouterr().out
