"""What becomes of a model under `torch.compile(backend="sterna")`: compiled parts, and what broke them, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch._dynamo as dynamo

from sterna.dynamo.backend import Backend
from sterna.frontends.errors import UnsupportedOp
from sterna.frontends.torch_export import plainly


@dataclass(frozen=True)
class GraphBreak:
    """Where torch.compile itself stopped tracing, and why."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True)
class CompiledPart:
    """A subgraph that runs compiled."""

    ops: int
    compilations: int


@dataclass(frozen=True)
class RefusedPart:
    """A subgraph that was imported and then refused: PyTorch runs it."""

    ops: int
    reason: str


@dataclass(frozen=True)
class Explanation:
    """What ran where. `str()` is the report."""

    graphs: int
    graph_breaks: tuple[GraphBreak, ...]
    compiled: tuple[CompiledPart, ...]
    refused: tuple[RefusedPart, ...]
    left: tuple[UnsupportedOp, ...]
    """Single ops that PyTorch runs, each with the line of the user's source."""

    @property
    def is_whole(self) -> bool:
        """Whether the model is one compiled subgraph, and nothing runs in PyTorch."""
        return len(self.compiled) == self.graphs == 1 and not self.refused and not self.left

    def __str__(self) -> str:
        ops = sum(part.ops for part in self.compiled)
        outside = len(self.left) + sum(part.ops for part in self.refused)
        lines = [
            f"{_count(self.graphs, 'graph')} traced by torch.compile; "
            f"{_count(len(self.compiled), 'subgraph')} compiled, {_count(ops, 'op')}; "
            f"{_count(outside, 'op')} in PyTorch"
        ]
        lines += [f"  in PyTorch: {op}" for op in self.left]
        lines += [
            f"  in PyTorch: a subgraph of {_count(part.ops, 'op')}: {part.reason}" for part in self.refused
        ]
        lines += [f"  graph break: {each}" for each in self.graph_breaks]
        return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def explain(model: Callable[..., Any], inputs: Sequence[Any]) -> Explanation:
    """Runs `model(*inputs)` under torch.compile, twice, without gradients, and says what became of it.

    Forgets what torch.compile traced before (`torch._dynamo.reset`).
    """
    backend, run = Backend(), cast(Any, torch).compile
    with torch.no_grad(), plainly():
        breaks = _graph_breaks(cast(Any, dynamo).explain(model)(*inputs))
        dynamo.reset()
        run(model, backend=backend)(*inputs)
        dynamo.reset()
    parts = [part for graph in backend.graphs for part in graph.parts]
    return Explanation(
        graphs=len(backend.graphs),
        graph_breaks=breaks,
        compiled=tuple(CompiledPart(p.op_count, p.compilations) for p in parts if p.refusal is None),
        refused=tuple(RefusedPart(p.op_count, p.refusal) for p in parts if p.refusal is not None),
        left=tuple(op for graph in backend.graphs for op in graph.left),
    )


def _graph_breaks(output: Any) -> tuple[GraphBreak, ...]:
    found: list[GraphBreak] = []
    for each in cast("list[Any]", output.break_reasons):
        frame = each.user_stack[-1] if each.user_stack else None
        place = f"{frame.filename}:{frame.lineno}" if frame else "?"
        found.append(GraphBreak(place, next((line for line in str(each.reason).splitlines() if line), "")))
    return tuple(found)
