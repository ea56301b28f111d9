"""`sterna inspect` on an artifact: the stages that it keeps, and no compiling."""

from __future__ import annotations

from pathlib import Path

import pytest

from sterna.cli import main
from sterna.inspector.inspect import Request, inspect_source


def test_an_artifact_shows_its_stages(artifact: Path, tmp_path: Path) -> None:
    inspection = inspect_source(Request(artifact))
    assert [run.name for run in inspection.recording.passes] == ["raised", "fused", "scheduled"]
    assert [code.kind for code in inspection.codes] == ["llvm"]
    page = tmp_path / "report.html"
    assert main(["inspect", str(artifact), "-o", str(page)]) == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_an_artifact_takes_no_passes(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    assert main(["inspect", str(artifact), "-p", "cse", "-o", str(page)]) == 1
    assert "was compiled already" in capsys.readouterr().err
    assert not page.exists()
