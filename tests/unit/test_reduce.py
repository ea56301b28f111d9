"""`sterna reduce` and the search under it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects import arith
from xdsl.dialects.builtin import ModuleOp

from sterna.cli import main
from sterna.dialects.context import parse
from sterna.interestingness import Command, SameFailure
from sterna.ir_text import print_ir
from sterna.reduction import reduce_file
from sterna.shrinking import count_operations, is_valid, shrink
from tests.planted_passes import planted
from tests.raised_models import RaisedModel

__all__ = ["planted"]


def chain(kinds: list[str]) -> str:
    """A function that applies those elementwise operations one after the other."""
    lines = [f"  %v{n + 1} = arith.{kind} %v{n}, %y : tensor<4xf32>" for n, kind in enumerate(kinds)]
    last = f"  func.return %v{len(kinds)} : tensor<4xf32>"
    head = "func.func @forward(%v0: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {"
    return "\n".join([head, *lines, last, "}\n"])


THIRTY = (
    ["addf", "subf", "mulf", "maximumf"] * 3 + ["mulf", "divf"] + ["addf", "subf", "minimumf", "mulf"] * 4
)


@pytest.mark.usefixtures("planted")
def test_thirty_operations_shrink_to_the_two_guilty_ones(tmp_path: Path) -> None:
    module = parse(chain(THIRTY))
    assert count_operations(module) == 31
    command = Command.parse("sterna-opt {} -p crash-on-divided-product")
    check = SameFailure(command, tmp_path, failure="pass 'crash-on-divided-product' failed: KeyError")
    small = shrink(module, check)
    assert [op.name for op in small.walk()] == [
        "builtin.module",
        "func.func",
        "arith.mulf",
        "arith.divf",
        "func.return",
    ]
    assert check(small)


@given(st.lists(st.sampled_from(["addf", "subf", "mulf", "divf"]), max_size=12), st.data())
@settings(max_examples=25)
def test_a_shrunk_module_is_valid_interesting_and_minimal(kinds: list[str], data: st.DataObject) -> None:
    wanted = data.draw(st.sampled_from(["addf", "subf", "mulf", "divf"]))
    module = parse(chain([*kinds, wanted]))
    before = print_ir(module)

    def interesting(candidate: ModuleOp) -> bool:
        return any(op.name == f"arith.{wanted}" for op in candidate.walk())

    small = shrink(module, interesting)
    assert is_valid(small)
    assert interesting(small)
    assert count_operations(small) == 2, "the function and the operation"
    assert print_ir(module) == before, "the given module is left alone"


def test_weights_functions_and_regions_shrink(tmp_path: Path) -> None:
    module = parse(RaisedModel(layers=2, hidden=16, mlp=16, vocabulary=8).text())
    small = shrink(module, lambda candidate: "ternary.accumulate" in print_ir(candidate))
    assert [op.name for op in small.walk()] == [
        "builtin.module",
        "func.func",
        "ternary.accumulate",
        "func.return",
    ]


def test_unused_inputs_of_fused_regions_go() -> None:
    module = parse("""
    func.func @forward(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
      %z = ternary.elementwise(%x, %y : tensor<4xf32>, tensor<4xf32>) {
      ^bb0(%a: f32, %b: f32):
        %s = arith.addf %a, %b : f32
        %e = math.exp %s : f32
        ternary.yield %e : f32
      } -> tensor<4xf32>
      func.return %z : tensor<4xf32>
    }""")
    small = shrink(module, lambda candidate: "math.exp" in print_ir(candidate))
    assert re.search(r"ternary\.elementwise\(%\w+ : tensor<4xf32>\)", print_ir(small))
    assert not any(isinstance(op, arith.AddfOp) for op in small.walk())


UNPLANNABLE = """
func.func @forward(%w: tensor<4x4xf32>, %v: tensor<f32>) -> tensor<f32> {
  %trits, %scale = ternary.absmean %w eps = 1.0e-05 : tensor<4x4xf32> -> tensor<4x4x!ternary.trit>, tensor<f32>
  %a = arith.addf %scale, %v : tensor<f32>
  %b = arith.mulf %a, %scale : tensor<f32>
  func.return %b : tensor<f32>
}
"""
"""What quantizes an input as if it were a weight: plan-memory refuses it, because no kernel does that."""


def test_the_command_line_writes_a_small_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    big, small = tmp_path / "big.mlir", tmp_path / "small.mlir"
    big.write_text(UNPLANNABLE)
    command = f"{Path(sys.executable).parent / 'sterna-opt'} {{}} -p plan-memory"
    assert main(["reduce", str(big), "--command", command, "-o", str(small)]) == 0
    assert "4 operations reduced to 2" in capsys.readouterr().err
    text = small.read_text()
    assert text.startswith(f"// {command}\n// error: pass 'plan-memory' failed: ")
    assert text.count("ternary.absmean") == 2  # in the complaint, and the operation
    assert "arith." not in text


def test_another_program_is_judged_by_what_it_prints(tmp_path: Path) -> None:
    path = tmp_path / "big.mlir"
    path.write_text(chain(["addf", "subf", "mulf", "subf"]))
    reduced = reduce_file(path, "grep subf {}", "subf")
    assert reduced.text.count("arith.subf") == 2
    assert reduced.after == 2


@pytest.mark.parametrize(
    ("command", "pattern", "complaint"),
    [
        ("sterna-opt -p cse", None, "'{}' must stand where the file goes"),
        ("true {}", None, "the command succeeds"),
        ("cat {}", "absent", "does not match 'absent'"),
        ("cat {}", "(", "not a regular expression"),
        ("no-such-program {}", None, "cannot run no-such-program"),
        ("cat '{}", None, "--command: No closing quotation"),
    ],
)
def test_what_cannot_be_reduced_is_one_line(
    command: str, pattern: str | None, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "big.mlir"
    path.write_text(chain(["addf"]))
    options = [] if pattern is None else ["--output-matches", pattern]
    assert main(["reduce", str(path), "--command", command, *options]) == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
