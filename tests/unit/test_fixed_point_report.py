"""The report of what fixed point costs, and its command."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp

from sterna.api import load_source
from sterna.calibration import CALIBRATION, HELD_OUT, encode, tokens_for
from sterna.cli import main
from sterna.dialects.context import parse
from sterna.dialects.errors import CompileError
from sterna.dialects.weights import ArrayStore
from sterna.fixed_point_report import PIECE, measure, measure_on_text
from sterna.frontends import Imported
from sterna.plugins import find_target

SMALL = Path(__file__).parents[2] / "examples" / "checkpoints" / "matmulfree-shakespeare-small"
TEXT = Path(__file__).parents[2] / "examples" / "data" / "tinyshakespeare.txt"

LOGITS = """
ternary.weight @table : tensor<4x4xf32>
func.func @forward(%tokens : tensor<?xi64>) -> tensor<?x4xf32> {
  %w = ternary.load @table : tensor<4x4xf32>
  %x = ternary.embedding %tokens, %w : tensor<?xi64>, tensor<4x4xf32> -> tensor<?x4xf32>
  func.return %x : tensor<?x4xf32>
}
"""


def logits_are(*rows: list[float]) -> tuple[ModuleOp, ArrayStore]:
    """A model whose logits after token t are rows[t]."""
    return parse(LOGITS), ArrayStore({"table": np.array(rows, np.float32)})


def test_a_uniform_model_needs_the_bits_of_the_alphabet() -> None:
    module, weights = logits_are(*([[0.0] * 4] * 4))
    tokens = np.arange(2 * PIECE + 3) % 4
    report = measure(module, module, weights, tokens, text_bytes=len(tokens) - 1)
    assert report.float_bits_per_byte == report.fixed_bits_per_byte == pytest.approx(2.0)
    assert (report.tokens, report.greedy_agreement, report.max_logit_error) == (len(tokens), 1.0, 0.0)
    assert report.relative_bits == 0


def test_a_sure_model_needs_no_bits() -> None:
    """Each token is followed by the next one, across the ends of pieces too."""
    module, weights = logits_are(*(np.roll(np.eye(4), 1, axis=1) * 100).tolist())
    report = measure(module, module, weights, np.arange(PIECE + 9) % 4, text_bytes=1000)
    assert report.float_bits_per_byte == pytest.approx(0, abs=1e-9)


def test_the_distance_of_two_programs() -> None:
    module, weights = logits_are([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1])
    other = parse(
        LOGITS.replace(
            "  func.return %x",
            """  %y = ternary.elementwise(%x : tensor<?x4xf32>) {
  ^bb0(%a : f32):
    %two = arith.constant -2.0 : f32
    %b = arith.mulf %a, %two : f32
    ternary.yield %b : f32
  } -> tensor<?x4xf32>
  func.return %y""",
        )
    )
    report = measure(module, other, weights, np.array([0, 1, 2, 3]), text_bytes=4)
    assert report.max_logit_error == 3
    assert report.mean_logit_error == 0.75
    assert report.largest_logit == 1
    assert report.greedy_agreement == 0
    assert "of logits up to 1.00" in str(report)
    assert report.to_json()["relative_bits"] == report.relative_bits


def test_the_texts_are_excerpts_of_two_parts() -> None:
    text = TEXT.read_text(encoding="utf-8")
    end_of_training = len(text) * 9 // 10
    assert CALIBRATION.read_text(encoding="utf-8") in text[:end_of_training]
    assert HELD_OUT.read_text(encoding="utf-8") in text[end_of_training:]


@dataclass
class OfPasses:
    passes: str

    def pipeline(self) -> str:
        return self.passes


def test_calibration_tokens_are_for_targets_that_want_them() -> None:
    imported = Imported(parse(LOGITS), ArrayStore(), SMALL / "tokenizer.json", {"bos_token_id": 0})
    assert tokens_for(find_target("cpu"), imported) is None
    tokens = tokens_for(OfPasses("fuse-elementwise,to-fixed-point"), imported)  # pyright: ignore[reportArgumentType]
    assert tokens is not None
    assert tokens[0] == 0
    assert tokens.dtype == np.int64
    assert len(tokens) > 1000


def test_a_model_without_a_tokenizer_cannot_be_shown_a_text() -> None:
    with pytest.raises(CompileError, match="no tokenizer"):
        encode(Imported(parse(LOGITS), ArrayStore(), None, None), "ROMEO:")


@pytest.mark.parametrize("width", ["residual", "size=3", "state=1234", "state=x"])
def test_widths_that_are_no_widths_are_wrong_usage(width: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fixed-point", str(SMALL), "--width", width]) == 2
    assert "expected NAME=BITS" in capsys.readouterr().err


def test_widths_that_are_too_large_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fixed-point", str(SMALL), "--width", "state=60"]) == 2
    assert "state is from 8 to 25 bits" in capsys.readouterr().err


@pytest.mark.slow
def test_the_small_model_loses_less_than_a_percent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slow: a thousand tokens through the interpreter, twice."""
    text = tmp_path / "text.txt"
    text.write_text(HELD_OUT.read_text(encoding="utf-8")[:2000], encoding="utf-8")
    assert main(["fixed-point", str(SMALL), "--text", str(text), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert abs(report["relative_bits"]) < 0.01
    assert report["greedy_agreement"] > 0.97
    assert report["text_bytes"] == 2000
    assert 1.5 < report["float_bits_per_byte"] < 2.6


@pytest.mark.slow
def test_eighteen_bits_for_everything_are_enough() -> None:
    """Slow: as above."""
    from sterna.passes.to_fixed_point import ToFixedPointPass

    rewrite = ToFixedPointPass(residual=18, state=18, reciprocal=18)
    report = measure_on_text(load_source(SMALL, None), text=CALIBRATION, rewrite=rewrite)
    assert report.relative_bits < 0.01
