"""The options that watch passes, through `sterna-opt`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sterna import opt
from sterna.dialects.context import parse
from sterna.dialects.interpreter import run
from sterna.instruments.inputs import entry_function, generate_inputs
from sterna.instruments.verify_each import first_difference
from sterna.passes.fuse_norm_quantize import FuseNormQuantizePass
from tests.planted_passes import planted
from tests.raised_models import RaisedModel

__all__ = ["planted"]

SUBTRACT = """func.func @forward(%x: tensor<?x4xf32>, %y: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %c = arith.constant 1.0 : f32
  %z = arith.subf %x, %y : tensor<?x4xf32> loc("layers.0.norm"("model.py":12:0))
  %unused = arith.addf %x, %x : tensor<?x4xf32>
  func.return %z : tensor<?x4xf32>
}
"""

PIPELINE = (
    "ternarize,fuse-norm-quantize,fuse-projections,fuse-elementwise,expand-math,"
    "choose-encodings,outline-layers,plan-memory{max-rows=8}"
)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Opt = Callable[..., Ran]


@pytest.fixture
def run_opt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Opt:
    """Runs `sterna-opt` on IR text with some options; reproducers go to `tmp_path / reproducer.mlir`."""

    def run(text: str, *options: str) -> Ran:
        path = tmp_path / "input.mlir"
        path.write_text(text)
        capsys.readouterr()
        code = opt.main([str(path), "--reproducer", str(tmp_path / "reproducer.mlir"), *options])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


def test_print_ir_before_and_after_name_their_pass(run_opt: Opt) -> None:
    ran = run_opt(
        SUBTRACT,
        "-p",
        "canonicalize,cse",
        "--print-ir-before",
        "canonicalize",
        "--print-ir-after",
        "canonicalize",
    )
    before, after = re.split(r"// -----// IR after canonicalize //----- //\n", ran.err)
    assert before.startswith("// -----// IR before canonicalize //----- //\nbuiltin.module {")
    assert "%unused" in before
    assert "%unused" not in after


def test_print_ir_after_all_prints_every_pass(run_opt: Opt) -> None:
    ran = run_opt(SUBTRACT, "-p", "cse,canonicalize,cse", "--print-ir-after-all")
    assert re.findall(r"IR after (\S+) //", ran.err) == ["cse", "canonicalize", "cse"]


def test_print_ir_after_change_prints_only_changes(run_opt: Opt) -> None:
    ran = run_opt(SUBTRACT, "-p", "canonicalize,canonicalize", "--print-ir-after-change")
    assert re.findall(r"IR after (\S+) //", ran.err) == ["canonicalize"]
    assert ran.err.count("builtin.module") == 1
    assert ran.err.rstrip().endswith("// -----// canonicalize changed nothing //----- //")


def test_print_ir_diff_is_a_unified_diff(run_opt: Opt) -> None:
    ran = run_opt(SUBTRACT, "-p", "canonicalize", "--print-ir-diff")
    assert "--- input\n+++ canonicalize\n@@ " in ran.err
    assert "-    %unused = arith.addf %x, %x : tensor<?x4xf32>\n" in ran.err
    assert "\x1b[" not in ran.err


def test_color_colours_the_diff(run_opt: Opt) -> None:
    ran = run_opt(SUBTRACT, "-p", "canonicalize", "--print-ir-diff", "--color")
    assert "\x1b[31m-    %unused" in ran.err
    assert "\x1b[" not in run_opt(SUBTRACT, "-p", "canonicalize", "--print-ir-after-all", "--no-color").err


def test_print_debuginfo_prints_known_locations(run_opt: Opt) -> None:
    ran = run_opt(SUBTRACT, "-p", "cse", "--print-ir-after", "cse", "--print-debuginfo")
    assert 'loc("layers.0.norm"("model.py":12:0))' in ran.err
    assert "unknown" not in ran.err


def test_a_pass_that_is_not_in_the_pipeline_is_an_error_with_a_hint(run_opt: Opt) -> None:
    for option in ("--print-ir-before", "--print-ir-after", "--stop-after"):
        ran = run_opt(SUBTRACT, "-p", "canonicalize", option, "canonicalise")
        assert ran.code == 1
        assert ran.err == "error: the pipeline has no pass 'canonicalise'; did you mean 'canonicalize'?\n"


def test_time_passes_lists_every_pass_and_the_total(run_opt: Opt) -> None:
    ran = run_opt(SUBTRACT, "-p", "cse,canonicalize", "--time-passes")
    rows = [line.split() for line in ran.err.splitlines()]
    assert [row[0] for row in rows] == ["Time", "pass", "cse", "canonicalize", "total"]
    times = [float(row[1]) for row in rows[2:]]
    assert times[0] + times[1] == pytest.approx(times[2], abs=2e-4)


@pytest.mark.usefixtures("planted")
def test_pass_statistics_count_matches_and_operations(run_opt: Opt) -> None:
    ran = run_opt(SUBTRACT, "-p", "canonicalize,swap-operands,cse", "--pass-statistics")
    facts = [" ".join(line.split()) for line in ran.err.splitlines()]
    assert "1 arith.addf removed" in facts
    assert "swap-operands 1 matches of SwapOperands" in facts
    assert "cse 0 changes" in facts


def test_pass_statistics_count_bytes_by_encoding(run_opt: Opt) -> None:
    model = RaisedModel(layers=1, hidden=256, mlp=256, vocabulary=64)
    ran = run_opt(model.text(), "-p", PIPELINE, "--weights", "random", "--pass-statistics")
    facts = [" ".join(line.split()) for line in ran.err.splitlines()]
    # i, f, g, o, gate and up, down: seven of 256 x 256, and the head.
    trits = 7 * 256 * 256 + 64 * 256
    assert any(fact.endswith(f"-{trits} bytes of trit weights") for fact in facts)
    assert f"+{trits // 4} bytes of i2 weights" in facts
    assert f"{trits - trits // 4} bytes of weights saved" in facts


def test_stop_after_leaves_the_rest_of_the_pipeline(run_opt: Opt) -> None:
    model = RaisedModel(layers=1, hidden=32, mlp=32, vocabulary=16).text()
    ran = run_opt(model, "-p", PIPELINE, "--weights", "random", "--stop-after", "fuse-norm-quantize")
    assert "ternary.norm_quantize" in ran.out
    assert "ternary.project" not in ran.out


def test_run_interprets_given_inputs(run_opt: Opt, tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.array([[1, 1, 1, 1.5]], np.float32))
    ran = run_opt(SUBTRACT, "--run", "--input", f"y={tmp_path / 'y.npy'}", "--input", "x=[[1, 2, 3, 4]]")
    assert ran.out.endswith("[[0.  1.  2.  2.5]]\n")
    np.savez(tmp_path / "both.npz", x=np.ones((1, 4), np.float32), y=np.zeros((1, 4), np.float32))
    ran = run_opt(SUBTRACT, "--run", "--input", str(tmp_path / "both.npz"))
    assert ran.out.endswith("[[1. 1. 1. 1.]]\n")


def test_run_generates_the_same_inputs_from_the_same_seed(run_opt: Opt) -> None:
    first, again, other = (run_opt(SUBTRACT, "--run", "--rows", "2", "--seed", seed).out for seed in "112")
    assert first == again != other
    assert "result 0: f32[2, 4], bits " in first


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("z=[1]", "the function has no input 'z', it has: x, y"),
        ("x=[[1], [1, 2]]", "expected a number"),
        ("x=hello", "expected a number"),
        ('x=["a"]', "expected numbers"),
        ("x=[[1, 2]]", "found an array of shape (1, 2)"),
        ("x=missing.npy", "missing.npy: No such file"),
        ("x=" + "[" * 100000, "expected a number"),
    ],
)
def test_a_wrong_input_is_one_line(run_opt: Opt, value: str, complaint: str) -> None:
    ran = run_opt(SUBTRACT, "--run", "--input", value)
    assert ran.code == 1
    assert ran.err.startswith("error: ")
    assert complaint in ran.err
    assert ran.err.count("\n") == 1


def test_a_pickle_is_not_loaded(run_opt: Opt, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    ran = run_opt(SUBTRACT, "--run", "--input", f"x={tmp_path / 'x.npy'}")
    assert ran.code == 1
    assert "not a file of arrays" in ran.err


@pytest.mark.slow
def test_every_dumped_stage_parses_back_and_gives_the_same_results(run_opt: Opt, tmp_path: Path) -> None:
    model = RaisedModel(layers=2, hidden=32, mlp=48, vocabulary=40).text()
    folder = tmp_path / "dump"
    assert run_opt(model, "-p", PIPELINE, "--weights", "random", "--dump-ir-dir", str(folder)).code == 0
    files = sorted(folder.iterdir())
    names = PIPELINE.partition("{")[0].split(",")
    assert [path.name for path in files] == [
        f"{n:02}-{name}.mlir" for n, name in enumerate(["input", *names])
    ]
    modules = [parse(path.read_text(), path.name) for path in files]
    store = opt.random_store(modules[0])
    inputs = generate_inputs(modules[0], entry_function(modules[0]))
    results = [run(module, inputs, weights=store) for module in modules]
    fused = names.index("fuse-norm-quantize") + 1
    assert all(first_difference(results[0], result) is None for result in results[:fused])
    assert first_difference(results[0], results[fused], FuseNormQuantizePass.tolerance) is None
    assert all(first_difference(results[fused], result) is None for result in results[fused:])


def test_a_dumped_stage_says_how_to_run_it(run_opt: Opt, tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    run_opt(SUBTRACT, "-p", "cse", "--weights", "random:3", "--dump-ir-dir", str(folder))
    lines = (folder / "01-cse.mlir").read_text().splitlines()
    assert lines[1] == "// run it: sterna-opt 01-cse.mlir --run --weights random:3"


def test_a_dump_replaces_the_dump_before_it_and_no_other_file(run_opt: Opt, tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    folder.mkdir()
    (folder / "03-notes.mlir").write_text("mine\n")
    run_opt(SUBTRACT, "-p", "cse,canonicalize", "--dump-ir-dir", str(folder))
    run_opt(SUBTRACT, "-p", "cse", "--dump-ir-dir", str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["00-input.mlir", "01-cse.mlir", "03-notes.mlir"]
