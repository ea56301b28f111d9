"""Greedy text of the compiled model against the plain PyTorch module. Slow: 2000 tokens through both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from shakespeare import PROMPTS

from sterna.frontends.models.hgrn_bit import HGRNBitForCausalLM, load_model
from sterna.model import CompiledModel

Array = npt.NDArray[np.float32]

NEW_TOKENS = 200
NEAR_TIE = 1e-3
"""PyTorch sums in an order of its own; where its first two logits are closer than this, either may win."""


def logits_one_by_one(reference: HGRNBitForCausalLM, tokens: Array) -> Array:
    """As PyTorch generates: token by token, the states carried along. `[T, V]`."""
    states = reference.initial_states()
    rows: list[Array] = []
    with torch.no_grad():
        for token in tokens:
            logits, *states = reference(torch.tensor([[int(token)]]), *states)
            rows.append(logits[0, 0].numpy())
    return np.stack(rows)


def test_greedy_tokens_equal_those_of_pytorch(
    model: CompiledModel, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every token is judged after the same text: PyTorch reads what the compiled model wrote.

    While they agree that is PyTorch's own greedy text; after a near tie that went the other way, it is a text that
    PyTorch could as well have written, so that all of it still counts. One thread: PyTorch's sums depend on it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    reference = load_model(checkpoint)
    compared = near_ties = 0
    differences: list[Array] = []
    for prompt in PROMPTS:
        generation = model.generate(prompt, max_new_tokens=NEW_TOKENS, temperature=0.0, stop_at_end=False)
        assert len(generation.tokens) == NEW_TOKENS
        tokens = np.array(generation.prompt_tokens + generation.tokens)[:-1]
        expected = logits_one_by_one(reference, tokens)
        differences.append(np.abs(model.logits(tokens) - expected).max(axis=1))
        first = len(generation.prompt_tokens) - 1
        for row, token in zip(expected[first:], generation.tokens, strict=True):
            second, best = np.sort(row)[-2:]
            compared += 1
            if best - second < NEAR_TIE:
                near_ties += 1
                assert row[token] >= second
            else:
                assert token == row.argmax(), f"{prompt!r}: PyTorch prefers another token by {best - second}"
    torch.set_num_threads(threads)
    median, most, largest = np.percentile(np.concatenate(differences), [50, 95, 100])
    with capsys.disabled():
        print(
            f"\n{compared} greedy tokens compared with PyTorch; {near_ties} near ties (top two within {NEAR_TIE}); "
            f"largest difference of a token's logits: median {median:.1e}, 95% {most:.1e}, worst {largest:.1e}"
        )
    # Where a sum's other order moves an int8 activation by one step, logits move by a few hundredths.
    assert median < 1e-4 and largest < 0.5
