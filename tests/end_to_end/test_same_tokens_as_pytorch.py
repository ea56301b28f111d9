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
ONE_STEP = 0.05
"""What an int8 activation that is one step off does to a near choice. Where a product lies next to a half, the last bit
of a sum decides how it is rounded; PyTorch's own logits move as much between one token at a time and all at once."""
MOST_DECIDED_BY_A_STEP = 10


def logits_one_by_one(reference: HGRNBitForCausalLM, tokens: Array) -> Array:
    """As PyTorch generates: token by token, the states carried along. `[T, V]`."""
    states = reference.initial_states()
    rows: list[Array] = []
    with torch.no_grad():
        for token in tokens:
            logits, *states = reference(torch.tensor([[int(token)]]), *states)
            rows.append(logits[0, 0].numpy())
    return np.stack(rows)


def logits_at_once(reference: HGRNBitForCausalLM, tokens: Array) -> Array:
    with torch.no_grad():
        return reference(torch.tensor(tokens)[None], *reference.initial_states())[0][0].numpy()


def largest_differences(a: Array, b: Array) -> str:
    """Of every token's logits the largest difference: its median, 95th percentile and maximum."""
    median, most, largest = np.percentile(np.abs(a - b).max(axis=1), [50, 95, 100])
    return f"median {median:.1e}, 95% {most:.1e}, worst {largest:.1e}"


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
    compiled: list[Array] = []
    one_by_one: list[Array] = []
    at_once: list[Array] = []
    for prompt in PROMPTS:
        generation = model.generate(prompt, max_new_tokens=NEW_TOKENS, temperature=0.0, stop_at_end=False)
        assert len(generation.tokens) == NEW_TOKENS
        tokens = np.array(generation.prompt_tokens + generation.tokens)[:-1]
        compiled.append(model.logits(tokens)[-NEW_TOKENS:])
        assert tuple(compiled[-1].argmax(axis=1)) == generation.tokens
        one_by_one.append(logits_one_by_one(reference, tokens)[-NEW_TOKENS:])
        at_once.append(logits_at_once(reference, tokens)[-NEW_TOKENS:])
    torch.set_num_threads(threads)

    ours, theirs, theirs_at_once = map(np.concatenate, (compiled, one_by_one, at_once))
    second, best = np.sort(theirs, axis=1)[:, -2:].T
    preferred = np.take_along_axis(theirs, ours.argmax(axis=1)[:, None], axis=1)[:, 0]
    loss = best - preferred  # how much less PyTorch likes our token than its own: 0 where they are the same
    near_ties = best - second < NEAR_TIE
    by_a_step = loss[~near_ties & (loss > 0)]
    with capsys.disabled():
        print(
            f"\n{len(loss)} greedy tokens compared with PyTorch; near ties (top two within {NEAR_TIE}): "
            f"{near_ties.sum()}, {(loss[near_ties] > 0).sum()} of them decided otherwise; "
            f"others decided otherwise: {len(by_a_step)}, by {np.sort(by_a_step).round(4).tolist()}"
            f"\nlargest difference of a token's logits: compiled and PyTorch {largest_differences(ours, theirs)}; "
            f"PyTorch at once and one by one {largest_differences(theirs_at_once, theirs)}"
        )
    assert (loss[near_ties] < NEAR_TIE).all()
    assert (by_a_step < ONE_STEP).all()
    assert len(by_a_step) <= MOST_DECIDED_BY_A_STEP
    assert np.median(np.abs(ours - theirs).max(axis=1)) < 1e-4
