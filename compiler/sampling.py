"""How the next token is chosen from the logits.

In this order: temperature, top-k, top-p, then one draw. Tokens are ranked by falling logit, and of equal logits the
lower token comes first; that decides ties everywhere: in greedy choice, at the edge of top-k and at that of top-p.
Arithmetic is float64, and the draw is one number of numpy's PCG64, so a seed gives one text on one machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from sterna.dialects.errors import CompileError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class SamplingError(CompileError, ValueError):
    """A parameter outside its range, or logits that no token can be drawn from."""


@dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy; top_k keeps the k likeliest tokens; top_p the fewest that have that much probability."""

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and isfinite(self.temperature)):
            raise SamplingError(f"temperature: expected a number >= 0, found {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise SamplingError(f"top_k: expected an integer >= 1, found {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise SamplingError(f"top_p: expected a number in (0, 1], found {self.top_p}")
        if self.seed is not None and self.seed < 0:
            raise SamplingError(f"seed: expected an integer >= 0, found {self.seed}")

    def generator(self) -> np.random.Generator:
        """The source of draws for one text; without a seed, another one each time."""
        return np.random.Generator(np.random.PCG64(self.seed))


GREEDY = Sampling(temperature=0.0)


def distribution(logits: npt.NDArray[Any], sampling: Sampling) -> tuple[I64, F64]:
    """The tokens that may come next, likeliest first, and their probabilities. logits: `[V]`, -inf for never."""
    x = np.asarray(logits, np.float64)
    if x.ndim != 1 or not x.size or np.isnan(x).any() or x.max() == -np.inf:
        raise SamplingError(
            f"logits of shape {list(x.shape)} with {int(np.isnan(x).sum())} NaN have no likeliest token"
        )
    if sampling.temperature == 0:
        return np.array([x.argmax()]), np.ones(1)
    tokens = np.argsort(-x, kind="stable")[: sampling.top_k]
    x = x[tokens]
    # A difference, then the division: a tiny temperature must not turn inf - inf into NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.where(x == x[0], 0.0, (x - x[0]) / sampling.temperature)
    weights = np.exp(scaled)
    probabilities = weights / weights.sum()
    if sampling.top_p is not None:
        before = np.cumsum(probabilities) - probabilities
        kept = max(1, int(np.count_nonzero(before < sampling.top_p)))
        tokens, probabilities = tokens[:kept], probabilities[:kept]
        probabilities = probabilities / probabilities.sum()
    return tokens, probabilities


def choose(logits: npt.NDArray[Any], sampling: Sampling, generator: np.random.Generator) -> int:
    """The next token. Greedy choice draws nothing from the generator."""
    tokens, probabilities = distribution(logits, sampling)
    if len(tokens) == 1:
        return int(tokens[0])
    # The last sum may round below 1, and a draw above it still means the last token.
    index = int(np.searchsorted(np.cumsum(probabilities), generator.random(), side="right"))
    return int(tokens[min(index, len(tokens) - 1)])
