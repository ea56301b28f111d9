"""Texts that are continued together: which of them an error of a full context is about."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sterna.targets.program import InputError
from sterna.texts import continue_together

END = 0
CONTEXT = 5


class Device:
    """Text n goes on for `lengths[n]` tokens; `fed` is what the kernels were given of each."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.left, self.fed = list(lengths), np.zeros(len(lengths), np.int64)

    def begin(self, prompts: Sequence[Any]) -> None:
        self.fed += [tokens.size for tokens in prompts]

    def step(self, tokens: Any) -> None:
        self.fed += 1

    def choose(self, text: int, *options: object) -> int:
        self.left[text] -= 1
        return END if self.left[text] < 0 else 7


def produced(device: Device, prompts: Sequence[str], count: int) -> list[int]:
    stream = SimpleNamespace(push=str, flush=str)
    model: Any = SimpleNamespace(
        program=SimpleNamespace(context=CONTEXT),
        tokenizer=lambda: SimpleNamespace(stream=lambda: stream),
        prompt_tokens=lambda prompt, tokenizer: [ord(letter) for letter in prompt],
        special_tokens=lambda field: (END,),
        check_tokens=np.asarray,
    )
    found = continue_together(model, device, prompts, max_new_tokens=count)
    return [len(generation.tokens) for generation in found]


def test_a_text_that_has_ended_is_never_too_long() -> None:
    device = Device([9, 0])
    assert produced(device, ["ab", "abc"], 4) == [4, 0]
    assert device.fed.tolist() == [CONTEXT, CONTEXT + 1]


def test_a_text_that_goes_on_in_a_full_context_is_the_error_that_it_is_alone() -> None:
    message = r"5 tokens and 1 more are not in the context of 5 tokens: .*\(--context 6\)"
    with pytest.raises(InputError, match=message):
        produced(Device([9, 0]), ["ab", "abc"], 5)
    assert produced(Device([9, 9]), ["ab", "abc"], 3) == [3, 3]
    with pytest.raises(InputError, match=message):
        produced(Device([9, 9]), ["ab", "abc"], 4)
