"""How far a program in fixed point is from the one in floats that it was made of: on a text, token by token."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from sterna.calibration import CALIBRATION, HELD_OUT, encode
from sterna.dialects.context import make_context
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.weights import Array, WeightStore
from sterna.frontends import Imported
from sterna.pass_runner import run_passes
from sterna.passes import PASSES
from sterna.passes.fixed_calibration import inputs_for_tokens
from sterna.passes.to_fixed_point import ToFixedPointPass
from sterna.progress import Progress, no_progress
from sterna.targets.interface import find_entry

FLOAT_PASSES = (
    "raise-bit-linear",
    "fold-weights",
    "raise-ternary-products",
    "ternarize",
    "fuse-norm-quantize",
    "fuse-projections",
    "fuse-elementwise",
)
"""From what a frontend imports to what `to-fixed-point` reads."""
PIECE = 512
"""Tokens that are interpreted at once; states go from one piece to the next."""


@dataclass(frozen=True)
class FixedPointReport:
    """The distance of two programs on one text."""

    tokens: int
    text_bytes: int
    max_logit_error: float
    mean_logit_error: float
    largest_logit: float
    """Of the float program: what the errors are to be compared with."""
    greedy_agreement: float
    """The part of the tokens after which both programs would choose the same next one."""
    float_bits_per_byte: float
    fixed_bits_per_byte: float

    @property
    def relative_bits(self) -> float:
        """How much worse the fixed-point program predicts the text: 0.01 is one percent."""
        return self.fixed_bits_per_byte / self.float_bits_per_byte - 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"relative_bits": self.relative_bits}

    def __str__(self) -> str:
        return (
            f"fixed point against floats, {self.tokens:,} tokens ({self.text_bytes:,} bytes) of held-out text:\n"
            f"  bits per byte     {self.fixed_bits_per_byte:.4f} against {self.float_bits_per_byte:.4f} "
            f"({self.relative_bits:+.3%})\n"
            f"  greedy agreement  {self.greedy_agreement:.2%} of the tokens\n"
            f"  logit error       {self.mean_logit_error:.4f} on average, {self.max_logit_error:.4f} at most, "
            f"of logits up to {self.largest_logit:.2f}\n"
        )


def to_fixed_point(
    imported: Imported, *, calibration: Path = CALIBRATION, rewrite: ToFixedPointPass | None = None
) -> tuple[ModuleOp, ModuleOp]:
    """(the program in floats, the program in fixed point) of a language model, which stays as it is."""
    floats = imported.module.clone()
    tokens = encode(imported, calibration.read_text(encoding="utf-8"))
    context = make_context(imported.weights, tokens)
    run_passes(context, floats, [PASSES[name]() for name in FLOAT_PASSES])
    fixed = floats.clone()
    run_passes(context, fixed, [rewrite or ToFixedPointPass()])
    return floats, fixed


def measure(
    floats: ModuleOp,
    fixed: ModuleOp,
    weights: WeightStore | None,
    tokens: Array,
    *,
    text_bytes: int,
    progress: Progress = no_progress,
) -> FixedPointReport:
    """Runs both on the tokens of a text of that many bytes, from states of zeros.

    The first result of each is logits f32 `[T, V]`; bits are those of every token but the first.
    """
    agreed = compared = 0
    largest = max_error = total_error = 0.0
    bits = np.zeros(2)
    pairs = zip(_logits(floats, weights, tokens), _logits(fixed, weights, tokens), strict=True)
    for number, (a, b) in enumerate(pairs):
        progress("measuring fixed point", number * PIECE, len(tokens))
        error = np.abs(a.astype(np.float64) - b)
        largest, max_error = max(largest, float(np.abs(a).max())), max(max_error, float(error.max()))
        total_error += float(error.sum())
        compared += error.size
        agreed += int((a.argmax(-1) == b.argmax(-1)).sum())
        following = tokens[number * PIECE + 1 :][: len(a)]
        bits += [_bits(each[: len(following)], following) for each in (a, b)]
    return FixedPointReport(
        tokens=len(tokens),
        text_bytes=text_bytes,
        max_logit_error=max_error,
        mean_logit_error=total_error / compared,
        largest_logit=largest,
        greedy_agreement=agreed / len(tokens),
        float_bits_per_byte=float(bits[0]) / text_bytes,
        fixed_bits_per_byte=float(bits[1]) / text_bytes,
    )


def measure_on_text(
    imported: Imported,
    *,
    text: Path = HELD_OUT,
    calibration: Path = CALIBRATION,
    rewrite: ToFixedPointPass | None = None,
    progress: Progress = no_progress,
) -> FixedPointReport:
    """The report for a language model as a frontend imports it."""
    progress("to fixed point", 0, 1)
    floats, fixed = to_fixed_point(imported, calibration=calibration, rewrite=rewrite)
    words = text.read_text(encoding="utf-8")
    return measure(
        floats,
        fixed,
        imported.weights,
        encode(imported, words),
        text_bytes=len(words.encode()),
        progress=progress,
    )


def _logits(module: ModuleOp, weights: WeightStore | None, tokens: Array) -> Iterator[Array]:
    """Of piece after piece of the text."""
    interpreter = ModuleInterpreter(module, weights)
    _, *states = inputs_for_tokens(find_entry(module), tokens)
    for start in range(0, len(tokens), PIECE):
        logits, *states = interpreter.run([tokens[start : start + PIECE], *states])
        yield logits


def _bits(logits: Array, following: Array) -> float:
    """-log2 of the probability of each token that follows, in total."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    chosen = shifted[np.arange(len(following)), following]
    return float((np.log(np.exp(shifted).sum(-1)) - chosen).sum()) / math.log(2)
