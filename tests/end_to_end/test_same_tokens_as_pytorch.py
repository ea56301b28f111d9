"""Greedy text of the compiled model against the plain PyTorch module. Slow: 2000 tokens through both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sterna.frontends.models.hgrn_bit import load_model
from sterna.model import CompiledModel

from .conftest import PROMPTS

NEW_TOKENS = 200
NEAR_TIE = 1e-3
"""PyTorch sums in an order of its own; where its first two logits are closer than this, either may win."""


def test_greedy_tokens_equal_those_of_pytorch(
    model: CompiledModel, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every token is judged after the same text: PyTorch reads what the compiled model wrote.

    While they agree that is PyTorch's own greedy text; after a near tie that went the other way, it is a text that
    PyTorch could as well have written, so that all of it still counts.
    """
    reference = load_model(checkpoint)
    compared = near_ties = 0
    largest = 0.0
    for prompt in PROMPTS:
        generation = model.generate(prompt, max_new_tokens=NEW_TOKENS, temperature=0.0, stop_at_end=False)
        assert len(generation.tokens) == NEW_TOKENS
        tokens = np.array(generation.prompt_tokens + generation.tokens)
        with torch.no_grad():
            expected = reference(torch.from_numpy(tokens[None, :-1]), *reference.initial_states())[0][
                0
            ].numpy()
        logits = model.logits(tokens[:-1])
        largest = max(largest, float(np.abs(logits - expected).max()))
        first = len(generation.prompt_tokens) - 1
        for row, token in zip(expected[first:], generation.tokens, strict=True):
            second, best = np.sort(row)[-2:]
            compared += 1
            if best - second < NEAR_TIE:
                near_ties += 1
                assert row[token] >= second
            else:
                assert token == row.argmax(), f"{prompt!r}: PyTorch prefers another token by {best - second}"
    with capsys.disabled():
        print(
            f"\n{compared} greedy tokens compared with PyTorch; "
            f"{near_ties} near ties (top two within {NEAR_TIE}); largest difference of a logit {largest:.2e}"
        )
