# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false
"""What an emitted language model has beside its kernels: texts that are continued on the device.

`emitter.py` copies it as it stands here; `forward`, `STATES` and `Batch` are then the emitted file's own.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from sterna.targets.triton.runtime import INTERPRETED, Batch

STATES: list[tuple[tuple[int, ...], torch.dtype]] = []
"""The shape of every state, of one text, and its elements."""

CAPACITY: int | None = None
"""The most tokens of a text, if it has a cache."""


def forward(batch, weights, tokens, *states) -> tuple[torch.Tensor, ...]:
    raise NotImplementedError


@triton.jit
def likeliest_kernel(logits, tokens, row, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    """The place of the largest of a row; of equal ones the first, as the sampling on the host has it."""
    lane = tl.arange(0, BLOCK)
    start_of_row = logits + tl.program_id(0).to(tl.int64) * row
    best = tl.full([BLOCK], float("-inf"), tl.float32)
    place = lane
    for start in tl.range(0, COLUMNS, BLOCK, loop_unroll_factor=8):
        x = tl.load(start_of_row + start + lane, mask=start + lane < COLUMNS, other=float("-inf"))
        place = tl.where(x > best, start + lane, place)
        best = tl.where(x > best, x, best)
    first = tl.min(tl.where(best == tl.max(best, axis=0), place, 0x7FFFFFFF), axis=0)
    tl.store(tokens + tl.program_id(0), first.to(tl.int64))


def likeliest(logits: torch.Tensor, tokens: torch.Tensor) -> None:
    """Writes the likeliest token of every text, given `[texts, V]` logits, to `[texts]` tokens."""
    texts, columns = logits.shape
    likeliest_kernel[(texts,)](logits, tokens, logits.stride(0), COLUMNS=columns, BLOCK=1024)


def sample(
    logits: torch.Tensor, draws: torch.Tensor, temperature: float, top_k: int | None, top_p: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens `[texts]`, given `[texts, V]` logits and a draw from [0, 1) for each; and how many could have come.

    As `sterna.sampling` has it: temperature, top-k, top-p, then the draw; of equal logits the lower token is likelier.
    In float64, whose exponential is the device's own: a draw that falls between two tokens to the last bits may differ.
    """
    x, tokens = torch.sort(logits.double(), dim=-1, descending=True, stable=True)
    x, tokens = x[:, :top_k], tokens[:, :top_k]
    weights = torch.exp(torch.where(x == x[:, :1], 0.0, (x - x[:, :1]) / temperature))
    probabilities = weights / weights.sum(-1, keepdim=True)
    kept = torch.full_like(tokens[:, 0], tokens.shape[1])
    if top_p is not None:
        before = torch.cumsum(probabilities, -1) - probabilities
        kept = (before < top_p).sum(-1).clamp(min=1)
        chosen = torch.arange(tokens.shape[1], device=tokens.device) < kept[:, None]
        probabilities = torch.where(chosen, probabilities, 0.0)
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    place = (torch.cumsum(probabilities, -1) <= draws[:, None]).sum(-1)
    return tokens.gather(1, torch.minimum(place, kept - 1)[:, None])[:, 0], kept


PIECE = 4096
"""Tokens of a prompt, of all texts together, that are run at once."""


class Decoder:
    """Continues texts, `texts` at once. States, logits and tokens stay on the device; a step is one CUDA graph."""

    def __init__(self, weights: dict[str, torch.Tensor], device: torch.device, texts: int = 1) -> None:
        self.weights, self.texts, self.device = weights, texts, device
        batch = self.batch(1)
        self.states = [batch.empty((texts, *shape), dtype).zero_() for shape, dtype in STATES]
        self.fed = 0
        """Tokens of each text so far. The kernels have a count of their own among the states."""
        self.tokens = torch.zeros(texts, dtype=torch.int64, device=device)
        """The likeliest next ones after a step or a prompt; what the next step is fed."""
        self.logits = torch.empty(0, device=device)
        """`[texts, V]`, of what may follow."""
        self.graph: torch.cuda.CUDAGraph | None = None

    def batch(self, length: int) -> Batch:
        return Batch(self.texts, length, self.device, in_place=True)

    def reset(self) -> None:
        """New texts."""
        self.fed = 0
        for state in self.states:
            state.zero_()

    def count(self, tokens: int) -> None:
        if CAPACITY is not None and self.fed + tokens > CAPACITY:
            raise ValueError(
                f"{self.fed} tokens and {tokens} more are not in the context of {CAPACITY} tokens"
            )
        self.fed += tokens

    def prompt(self, tokens: torch.Tensor) -> None:
        """Feeds `[texts, T]` tokens."""
        self.count(tokens.shape[1])
        length = max(PIECE // self.texts, 1)
        for start in range(0, tokens.shape[1], length):
            piece = tokens[:, start : start + length]
            fed = piece.reshape(-1).to(self.device)
            logits, *_ = forward(self.batch(piece.shape[1]), self.weights, fed, *self.states)
            self.logits = logits.unflatten(0, piece.shape)[:, -1]
        likeliest(self.logits, self.tokens)

    def step(self) -> None:
        """Feeds `tokens`."""
        self.count(1)
        if self.graph is None and self.device.type == "cuda" and not INTERPRETED:
            self.capture()
        if self.graph is None:
            self.logits = self.launch()
        else:
            self.logits = self.graph_logits
            self.graph.replay()

    def launch(self) -> torch.Tensor:
        logits, *_ = forward(self.batch(1), self.weights, self.tokens, *self.states)
        likeliest(logits, self.tokens)
        return logits

    def capture(self) -> None:
        """The first step compiles and tunes kernels, which a graph cannot; then the states are put back."""
        kept = [each.clone() for each in (self.tokens, *self.states)]
        self.launch()
        torch.cuda.synchronize(self.device)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.graph_logits = self.launch()
        for each, value in zip((self.tokens, *self.states), kept, strict=True):
            each.copy_(value)

    def greedy(self, count: int) -> torch.Tensor:
        """The next `[texts, count]` likeliest tokens, the first of which follow what was fed last."""
        out = torch.empty((self.texts, count), dtype=torch.int64, device=self.device)
        for n in range(count):
            if n:
                self.step()
            out[:, n] = self.tokens
        return out
