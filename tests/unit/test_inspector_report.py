"""The report as a file: what is in it, what is not, and that its viewer is what the sources build to."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import urllib.request
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sterna.diagnostics import one_line
from sterna.dialects.context import make_context, parse
from sterna.dialects.errors import CompileError
from sterna.inspector.command import inspect_command
from sterna.inspector.inspect import emitted
from sterna.inspector.observer import RecordPasses
from sterna.inspector.payload import runs
from sterna.inspector.report import repr_html
from sterna.inspector.serve import LivePage, make_server
from sterna.lowering import parse_passes
from sterna.opt import random_store
from sterna.pass_runner import run_passes
from sterna.plugins import find_target
from tests.raised_models import RaisedModel
from tests.unit.test_inspector_recording import PRODUCTS, SubtractPass, record

WEB = Path(__file__).parents[2] / "compiler/inspector/web"
BUNDLE = WEB.parent / "bundle"


def payload_of(page: str) -> dict[str, Any]:
    encoded = re.search(r'id="recording">([^<]*)<', page)
    assert encoded is not None
    return json.loads(gzip.decompress(base64.b64decode(encoded[1])))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@given(st.lists(st.integers(0, 50)))
def test_runs_unfold_to_what_they_were(numbers: list[int]) -> None:
    encoded = runs(numbers)
    pairs = zip(encoded[::2], encoded[1::2], strict=True)
    assert [start + n for start, count in pairs for n in range(count)] == numbers


def test_a_report_is_one_file_that_asks_for_nothing(tmp_path: Path) -> None:
    source, report = write(tmp_path / "products.mlir", PRODUCTS), tmp_path / "report.html"
    result = CliRunner().invoke(inspect_command, [str(source), "-p", "canonicalize,cse", "-o", str(report)])
    assert result.exit_code == 0, result.output
    page = report.read_text(encoding="utf-8")
    assert "connect-src 'none'" in page
    assert not re.search(r'(?:src|href)\s*=\s*["\']?(?:https?:)?//', page)
    payload = payload_of(page)
    assert [run["spec"] for run in payload["passes"]] == ["canonicalize", "cse"]
    assert payload["title"] == "products.mlir for cpu"


def test_text_of_the_user_cannot_end_its_element(tmp_path: Path) -> None:
    text = PRODUCTS.replace("arith.mulf %a, %b : f32", 'arith.mulf %a, %b {x = "</script><b>"} : f32', 1)
    source, report = write(tmp_path / "<b>.mlir", text), tmp_path / "report.html"
    assert CliRunner().invoke(inspect_command, [str(source), "-p", "", "-o", str(report)]).exit_code == 0
    page = report.read_text(encoding="utf-8")
    assert page.count("</script>") == 2
    assert "<b>" not in re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL)


def test_a_failing_pass_is_reported_and_shown(tmp_path: Path) -> None:
    source, report = write(tmp_path / "products.mlir", PRODUCTS), tmp_path / "report.html"
    result = CliRunner().invoke(
        inspect_command, [str(source), "-p", "cse,convert-ternary-to-loops", "-o", str(report)]
    )
    assert result.exit_code == 1
    assert "convert-ternary-to-loops" in result.output
    assert payload_of(report.read_text(encoding="utf-8"))["passes"][-1]["error"]


def test_wrong_usage_says_what_to_do(tmp_path: Path) -> None:
    result = CliRunner().invoke(inspect_command, [str(write(tmp_path / "m.mlir", PRODUCTS))])
    assert result.exit_code == 2
    assert "--serve" in result.output


def test_a_notebook_shows_the_report_in_a_frame() -> None:
    cell = repr_html(record_products(), "products")
    assert cell.startswith("<iframe srcdoc=") and "sandbox" in cell
    assert "<script" not in cell


def record_products() -> Any:
    return record(parse(PRODUCTS), SubtractPass())


def test_a_served_report_follows_its_source(tmp_path: Path) -> None:
    source = write(tmp_path / "m.mlir", "first")

    def make(version: str) -> str:
        if "bad" in source.read_text():
            raise CompileError("no <such> op")
        return f"page of {source.read_text()}"

    page = LivePage(source, make, lambda error: one_line(error) if isinstance(error, CompileError) else None)
    server = make_server(page, 0)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        assert read(address) == "page of first"
        version = read(f"{address}/version")
        assert not page.refresh()
        write(source, "the second")
        assert page.refresh()
        assert read(address) == "page of the second"
        assert read(f"{address}/version") != version
        write(source, "a bad one")
        assert page.refresh()
        assert "no &lt;such&gt; op" in read(address)
        with pytest.raises(HTTPError, match="403"):
            read(address, host="rebound.example")
        with pytest.raises(HTTPError, match="404"):
            read(f"{address}/etc/passwd")
    finally:
        server.shutdown()
        server.server_close()


def read(address: str, host: str | None = None) -> str:
    request = urllib.request.Request(address, headers={"Host": f"{host}:1"} if host else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def test_the_committed_viewer_is_what_the_sources_build_to() -> None:
    names = ["build.mjs", "package.json", "package-lock.json", "tsconfig.json"]
    names += [f"src/{path.name}" for path in sorted((WEB / "src").iterdir(), key=lambda path: path.name)]
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (WEB / name).read_bytes() + b"\0")
    recorded = (BUNDLE / "sources.sha256").read_text().strip()
    assert digest.hexdigest() == recorded, "run `make inspector-js` and commit compiler/inspector/bundle"


def test_every_report_carries_the_licences_of_what_it_contains() -> None:
    licences = (BUNDLE / "THIRD_PARTY_LICENSES.txt").read_text(encoding="utf-8")
    for name in ("@dagrejs/dagre", "d3-zoom", "diff", "highlight.js"):
        assert f"\n{name} " in licences
    assert "Redistribution and use in source and binary forms" in (BUNDLE / "viewer.js").read_text(
        encoding="utf-8"
    )


@pytest.mark.slow
def test_every_symbol_is_defined_in_the_emitted_code() -> None:
    module = parse(RaisedModel(layers=2, hidden=32, mlp=64).text())
    target = find_target("cpu")
    passes = parse_passes(target, target.pipeline(max_rows=2))
    observer = RecordPasses()
    run_passes(make_context(random_store(module)), module, passes, [observer])
    codes = emitted(module, target, observer)
    assert {code.kind for code in codes} == set(target.emits)
    for code in codes:
        assert code.symbols
        for symbol in set(code.symbols.values()):
            assert re.search(rf'^define .*@"?{symbol}"?\(|^"?{symbol}"?:', code.text, re.MULTILINE), symbol
