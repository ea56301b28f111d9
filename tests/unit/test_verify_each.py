"""`--verify-each` finds miscompiles and names them; failing passes leave reproducers."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from sterna import opt
from tests.planted_passes import planted
from tests.raised_models import RaisedModel
from tests.unit.test_instruments import PIPELINE, SUBTRACT, Opt, run_opt

__all__ = ["planted", "run_opt"]

DIVIDE = """func.func @forward(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %z = arith.divf %x, %y : tensor<4xf32> loc("layers.0.norm"("model.py":12:0))
  func.return %z : tensor<4xf32>
}
"""


def test_the_real_pipeline_passes(run_opt: Opt) -> None:
    model = RaisedModel(layers=2, hidden=32, mlp=48, vocabulary=40).text()
    ran = run_opt(model, "-p", PIPELINE, "--weights", "random", "--verify-each")
    assert ran.err == "verify-each: 16 comparisons on 2 inputs passed\n"
    assert ran.code == 0


@pytest.mark.usefixtures("planted")
def test_swapped_operands_are_caught_and_named(run_opt: Opt) -> None:
    ran = run_opt(SUBTRACT, "-p", "cse,swap-operands,canonicalize", "--verify-each")
    assert ran.code == 1
    assert ran.err.startswith(
        "error: pass 'swap-operands' failed: miscompile: @forward, result 0 at [0, 0] was "
    )
    found = re.search(
        r"was (\S+) and is (\S+), on input x = \[(\S+), .*\]; y = \[(\S+), .*\] \(rows 1, seed 0\)", ran.err
    )
    assert found, ran.err
    was, now, x, y = map(float, found.groups())
    assert was == -now == pytest.approx(x - y)


@pytest.mark.usefixtures("planted")
def test_a_miscompile_inside_a_model_is_caught(run_opt: Opt) -> None:
    model = RaisedModel(layers=1, hidden=32, mlp=32, vocabulary=16).text()
    pipeline = PIPELINE.replace("expand-math", "swap-operands,expand-math")
    ran = run_opt(model, "-p", pipeline, "--weights", "random", "--verify-each")
    assert ran.err.startswith(
        "error: pass 'swap-operands' failed: miscompile: @forward, result 0 at [0, 0] was "
    )


@pytest.mark.usefixtures("planted")
def test_a_stated_tolerance_is_allowed_and_no_more(run_opt: Opt, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """func.func @forward(%x: f32) -> f32 {
      %c = arith.constant 3.0 : f32
      %z = arith.mulf %x, %c : f32
      func.return %z : f32
    }"""
    assert run_opt(text, "-p", "move-roundings", "--verify-each").code == 0
    from sterna.passes.tolerance import Tolerance
    from tests.planted_passes import RoundPass

    monkeypatch.setattr(RoundPass, "tolerance", Tolerance(2**-20, "too little"))
    ran = run_opt(text, "-p", "move-roundings", "--verify-each")
    assert "(more than 9.53674e-07 of the largest apart)" in ran.err


@pytest.mark.usefixtures("planted")
def test_a_crashing_pass_leaves_a_reproducer_that_reproduces(
    run_opt: Opt, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reproducer = tmp_path / "reproducer.mlir"
    ran = run_opt(DIVIDE, "-p", "cse,crash{times=2},canonicalize", "--weights", "random:7")
    line = (
        "model.py:12: layers.0.norm: pass 'crash' failed: KeyError: 'no such divisor', at arith.divf; "
        f"to reproduce: sterna-opt --run-reproducer {reproducer}\n"
    )
    assert (ran.code, ran.err) == (1, f"error: {line}")
    text = reproducer.read_text()
    assert text.startswith("// configuration: --passes 'crash{times=2},canonicalize' --weights random:7\n")
    assert 'raise KeyError("no such divisor")' in text
    assert opt.main(["--run-reproducer", str(reproducer), "--reproducer", str(reproducer)]) == 1
    assert capsys.readouterr().err == f"error: {line}"


@pytest.mark.usefixtures("planted")
def test_the_reproducer_of_a_miscompile_verifies_again(
    run_opt: Opt, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_opt(SUBTRACT, "-p", "cse,swap-operands", "--verify-each", "--seed", "5")
    assert opt.main(["--run-reproducer", str(tmp_path / "reproducer.mlir"), "--reproducer", "/dev/null"]) == 1
    again = capsys.readouterr().err
    assert again.partition("; to reproduce")[0] == ran.err.partition("; to reproduce")[0]


@pytest.mark.usefixtures("planted")
def test_a_complaint_about_the_input_says_pass_and_place(run_opt: Opt) -> None:
    ran = run_opt(SUBTRACT, "-p", "refuse")
    assert ran.err.startswith(
        "error: model.py:12: layers.0.norm: pass 'refuse' failed: subtraction is not for us; to reproduce: "
    )


@pytest.mark.usefixtures("planted")
def test_a_pass_that_breaks_the_module_is_named(run_opt: Opt) -> None:
    ran = run_opt(
        SUBTRACT.replace("%y: tensor<?x4xf32>", "%y: tensor<?x4xf32>, %w: tensor<4xf32>"), "-p", "break-types"
    )
    assert ran.code == 1
    assert ran.err.startswith(
        "error: model.py:12: layers.0.norm: pass 'break-types' failed: VerifyException: "
    )
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("builtin.module {}", "not a reproducer"),
        ("// configuration: --passes 'cse", "cannot be read"),
        ("// configuration: --passes cse --output-file /etc/passwd", "unknown option '--output-file'"),
        ("// configuration: --passes cse --seed x", "seed is 'x'"),
    ],
)
def test_a_damaged_reproducer_is_one_line(
    text: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.mlir"
    path.write_text(text)
    assert opt.main(["--run-reproducer", str(path)]) == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("text", "pipeline", "leaves_one"),
    [(DIVIDE, "crash", True), (SUBTRACT, "swap-operands", True), (SUBTRACT, "refuse", False)],
)
def test_a_defect_leaves_a_reproducer_unasked_and_a_complaint_none(
    text: str, pipeline: str, leaves_one: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "input.mlir"
    path.write_text(text)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert opt.main([str(path), "-p", pipeline, "--verify-each"]) == 1
    assert len(list(tmp_path.glob(f"sterna-{pipeline}-*.mlir"))) == leaves_one
