"""Texts that a language model is shown when its numbers are given fixed binary points, and measured on afterwards.

Both are excerpts of Shakespeare's plays; the second is from the part that the shipped models were not trained on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sterna.dialects.errors import CompileError
from sterna.dialects.weights import Array

if TYPE_CHECKING:
    from sterna.frontends import Imported
    from sterna.targets import Target

TEXTS = Path(__file__).parent / "texts"
CALIBRATION = TEXTS / "calibration.txt"
HELD_OUT = TEXTS / "held_out.txt"
NEEDS_TOKENS = "to-fixed-point"
"""The pass that asks for them."""


def encode(imported: Imported, text: str) -> Array:
    """The tokens of a text, after the one that begins a text if the model has one."""
    from sterna.frontends.tokenizer import Tokenizer

    if imported.tokenizer is None:
        raise CompileError("the checkpoint has no tokenizer, and so no text can be shown to it")
    folder = imported.tokenizer if imported.tokenizer.is_dir() else imported.tokenizer.parent
    begin = (imported.config or {}).get("bos_token_id")
    tokens = Tokenizer.load(folder).encode(text)
    return np.array([*([begin] if isinstance(begin, int) else []), *tokens], np.int64)


def tokens_for(target: Target, imported: Imported) -> Array | None:
    """The calibration text in tokens, for a language model and a target whose passes look at it."""
    if imported.tokenizer is None or NEEDS_TOKENS not in target.pipeline():
        return None
    return encode(imported, CALIBRATION.read_text(encoding="utf-8"))
