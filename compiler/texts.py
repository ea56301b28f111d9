"""Several texts that a language model continues together, on a target that can: one step for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from sterna.model import CompiledModel, Generation, require_count
from sterna.sampling import Sampling
from sterna.targets.inputs import check_room

if TYPE_CHECKING:
    from sterna.targets import Texts


def continue_together(
    model: CompiledModel,
    together: Texts,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop_at_end: bool = True,
) -> list[Generation]:
    """Every text as `CompiledModel.generate` has it. The seconds are those of all texts: what each waited."""
    require_count(max_new_tokens)
    sampling = Sampling(temperature, top_k, top_p, seed)
    tokenizer = model.tokenizer()
    starts = [model.prompt_tokens(prompt, tokenizer) for prompt in prompts]
    ends = model.special_tokens("eos_token_id") if stop_at_end else ()
    generators = [sampling.generator() for _ in prompts]
    produced: list[list[int]] = [[] for _ in prompts]
    began = perf_counter()
    together.begin([model.check_tokens(start) for start in starts])
    prefill, decode = perf_counter() - began, 0.0
    going = set(range(len(prompts)))
    for n in range(max_new_tokens):
        for text in sorted(going):
            token = together.choose(text, temperature, top_k, top_p, generators[text])
            if token in ends:
                going.remove(text)
            else:
                produced[text].append(token)
        if not going:
            break
        if n + 1 < max_new_tokens:
            for text in sorted(going):
                check_room(model.program.context, len(starts[text]) + len(produced[text]) - 1, 1)
            began = perf_counter()
            # A text that has ended goes on with anything: nobody reads it.
            together.step(np.array([tokens[-1] if tokens else 0 for tokens in produced], np.int64))
            decode += perf_counter() - began
    texts: list[str] = []
    for tokens in produced:
        text = tokenizer.stream()
        texts.append("".join([*map(text.push, tokens), text.flush()]))
    return [
        Generation(prompt, text, tuple(start), tuple(tokens), prefill, decode)
        for prompt, text, start, tokens in zip(prompts, texts, starts, produced, strict=True)
    ]
