"""The command line: exit codes, streams and what is left after an interruption. No model is compiled here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sterna
from sterna import cli

MODULE = """
ternary.weight @w : tensor<4x4xf32>
func.func @forward(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %unused = ternary.load @w : tensor<4x4xf32>
  func.return %x : tensor<?x4xf32>
}
"""


def run_python(code: str, *, env: dict[str, str] | None = None, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})},
        **options,  # pyright: ignore[reportArgumentType, reportCallIssue]
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"sterna {sterna.__version__}\n"


@pytest.mark.parametrize("command", [[], ["run"], ["compile"], ["targets"]])
def test_help_shows_how(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command, "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and "Usage: sterna" in captured.out
    assert "targets" in command or "sterna run" in captured.out or "sterna compile" in captured.out


@pytest.mark.parametrize(
    "args",
    [
        ["run"],
        ["fly"],
        ["run", "x", "--temperature", "-1"],
        ["run", "x", "-n", "many"],
        ["run", "x", "--top-p", "0"],
        ["run", "x", "--greedy", "--top-k", "3"],
        ["compile", "x"],
        ["compile", "x", "--emit", "asm", "--stage", "raised"],
        ["compile", "x", "-o", "y", "--max-rows", "0"],
        ["--what"],
    ],
)
def test_wrong_usage_is_exit_code_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "Error: " in captured.err


def test_opt_is_sterna_opt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "module.mlir"
    path.write_text(MODULE)
    assert cli.main(["opt", str(path), "-p", "canonicalize", "--weights", "random:3"]) == 0
    assert "ternary.load" not in capsys.readouterr().out
    assert cli.main(["opt", str(path), "-p", "canonicalise"]) == 1
    assert capsys.readouterr().err == "error: unknown pass 'canonicalise'; did you mean 'canonicalize'?\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("func.func @f(", "module.mlir:1:"),
        ("\x00\xff", "module.mlir"),
        (
            "func.func @f(%x: i32) -> f32 { func.return %x : i32 }",
            "Expected arguments to have the same types",
        ),
        ("ternary.weight @w : tensor<4x!ternary.trit, #ternary.encoding<i3, tile = [4, 256]>>", "i3"),
    ],
)
def test_wrong_ir_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, complaint: str
) -> None:
    path = tmp_path / "module.mlir"
    path.write_text(text)
    assert cli.main(["opt", str(path)]) == 1
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1 and error.startswith("error: ")


def test_targets_names_what_this_machine_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["targets"]) == 0
    out = capsys.readouterr().out
    assert "cpu" in out and "baseline" in out


def test_a_reader_that_goes_away_is_not_an_error() -> None:
    code = "import sys; from sterna import cli; sys.exit(cli.main(['opt', '--help']))"
    process = run_python(code)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(60) in (0, cli.EXIT_BROKEN_PIPE)
    assert process.stderr.read() == b""


WRITING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born deaf to it
from pathlib import Path
from sterna import api, cli
from sterna.artifact_writer import replacing_folder
def build(source, path, target, **_):
    with replacing_folder(Path(path)) as folder:
        (folder / "weights.safetensors").write_bytes(bytes(1000))
        print("writing", flush=True)
        time.sleep(60)
api.build = build
sys.exit(cli.main(["compile", ".", "-o", "model.sterna"]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_nothing_half_written(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = run_python(WRITING, cwd=tmp_path)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"writing\n"
    time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(60) == code
    assert list(tmp_path.iterdir()) == []
    assert b"Traceback" not in process.stderr.read()


def test_importing_sterna_imports_little() -> None:
    code = "import sys, sterna, sterna.cli; print([m for m in ('torch', 'xdsl', 'numpy', 'rich') if m in sys.modules])"
    process = run_python(code)
    assert process.communicate()[0] == b"[]\n"


@pytest.mark.parametrize("target", ["cpu", "triton"])
def test_an_encoding_is_an_option_of_the_target(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compile", "--target", target, "--help"]) == 0
    assert "--encoding FORMAT" in capsys.readouterr().out
    assert cli.main(["compile", "nothing", "--target", target, "--encoding", "b4", "--emit", "mlir"]) == 2
    assert "Error: --encoding b4: expected one of i2, b3\n" in capsys.readouterr().err
