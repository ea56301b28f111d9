"""Sums of signed inputs as a graph of adders: what an array whose weights are constants consists of.

A node is an input, or the sum of two or three nodes, each of which may be negated: an adder subtracts at no
cost. Sums that several rows have in common are found greedily, the pair that most rows share first (the
pairwise elimination of common subexpressions of multiple constant multiplication; Hosangadi, Fallah and
Kastner, doi 10.1109/TCAD.2005.859490).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Trits = npt.NDArray[np.int8]


@dataclass(frozen=True, order=True)
class Term:
    """A node of the graph, or its negation."""

    node: int
    negative: bool = False

    def times(self, negative: bool) -> Term:
        return Term(self.node, self.negative != negative)


@dataclass
class SumGraph:
    """Nodes 0 to inputs - 1 are the inputs; node inputs + n is the sum of `sums[n]`. A row without weights is None."""

    inputs: int
    arity: int
    """How many terms an adder takes: 3 where a look-up table compresses three bits to two before the carry chain."""
    sums: list[tuple[Term, ...]] = field(default_factory=list[tuple[Term, ...]])
    rows: list[Term | None] = field(default_factory=list["Term | None"])

    @property
    def nodes(self) -> int:
        return self.inputs + len(self.sums)

    def add(self, terms: Sequence[Term]) -> int:
        assert 2 <= len(terms) <= self.arity
        self.sums.append(tuple(terms))
        return self.nodes - 1

    def depths(self) -> list[int]:
        """How many adders lie between the inputs and each node."""
        depths = [0] * self.inputs
        for terms in self.sums:
            depths.append(1 + max(depths[term.node] for term in terms))
        return depths

    def bounds(self, inputs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """The least and the greatest value of each node, for the inputs' own."""
        bounds = list(inputs)
        for terms in self.sums:
            ends = [bounds[term.node][::-1] if term.negative else bounds[term.node] for term in terms]
            signs = [-1 if term.negative else 1 for term in terms]
            bounds.append(
                (
                    sum(sign * end[0] for sign, end in zip(signs, ends, strict=True)),
                    sum(sign * end[1] for sign, end in zip(signs, ends, strict=True)),
                )
            )
        return bounds

    def evaluate(self, x: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Every row's sum for the activations x `[..., inputs]`."""
        values = [x[..., n] for n in range(self.inputs)]
        for terms in self.sums:
            values.append(
                sum((-values[t.node] if t.negative else values[t.node] for t in terms), 0 * values[0])
            )
        zero = 0 * values[0]
        signed = [zero if r is None else -values[r.node] if r.negative else values[r.node] for r in self.rows]
        return np.stack(signed, axis=-1)


def row_sums(weights: Trits, *, arity: int) -> SumGraph:
    """A tree of adders for each row of weights `[M, K]`; zeros cost nothing."""
    graph = SumGraph(weights.shape[1], arity)
    for row in weights:
        _finish_row(graph, [Term(int(k), bool(row[k] < 0)) for k in np.flatnonzero(row)])
    return graph


def shared_sums(weights: Trits, *, arity: int) -> SumGraph:
    """The same rows, with the sums of two that several rows have in common computed once."""
    rows, columns = weights.shape
    graph = SumGraph(columns, arity)
    # Column c says with which sign node c stands in each row; there is room for every sum that can be shared.
    table = np.zeros((rows, columns + int(np.count_nonzero(weights))), np.int16)
    table[:, :columns] = weights
    depths = np.zeros(table.shape[1], np.int64)
    shared = _PairCounts(table, columns)
    while (best := shared.best(depths)) is not None:
        first, second, opposite = best
        left, right = table[:, first], table[:, second]
        uses = (left * right) == (-1 if opposite else 1)
        sign = np.where(uses, left, 0)
        node = graph.add((Term(first), Term(second, opposite)))
        table[uses, first] = 0
        table[uses, second] = 0
        table[:, node] = sign
        depths[node] = 1 + max(depths[first], depths[second])
        shared.update((first, second, node))
    for row in table:
        _finish_row(graph, [Term(int(n), bool(row[n] < 0)) for n in np.flatnonzero(row)])
    return graph


class _PairCounts:
    """In how many rows two nodes stand together, with equal and with opposite signs."""

    def __init__(self, table: npt.NDArray[np.int16], columns: int) -> None:
        self._table = table
        self._width = columns
        self._equal = np.zeros((table.shape[1], table.shape[1]), np.int16)
        self._opposite = np.zeros_like(self._equal)
        self.update(range(columns))

    def update(self, nodes: Sequence[int]) -> None:
        """Counts anew what has one of the nodes in it."""
        changed = list(nodes)
        self._width = max(self._width, *(node + 1 for node in changed)) if changed else self._width
        block = self._table[:, : self._width].astype(np.float32)
        columns = block[:, changed]
        product = columns.T @ block
        both = np.abs(columns).T @ np.abs(block)
        equal, opposite = ((both + product) / 2).astype(np.int16), ((both - product) / 2).astype(np.int16)
        for index, node in enumerate(changed):
            for counts, fresh in ((self._equal, equal), (self._opposite, opposite)):
                counts[node, : self._width] = fresh[index]
                counts[: self._width, node] = fresh[index]
                counts[node, node] = 0

    def best(self, depths: npt.NDArray[np.int64]) -> tuple[int, int, bool] | None:
        """The pair that most rows share, the shallowest of equals; None if no two rows share one."""
        width = self._width
        equal, opposite = self._equal[:width, :width], self._opposite[:width, :width]
        most = max(int(equal.max(initial=0)), int(opposite.max(initial=0)))
        if most < 2:
            return None
        candidates: list[tuple[int, int, int, bool]] = []
        for counts, sign in ((equal, False), (opposite, True)):
            left, right = np.nonzero(np.triu(counts == most))
            if left.size:
                depth = np.maximum(depths[left], depths[right])
                at = int(depth.argmin())
                candidates.append((int(depth[at]), int(left[at]), int(right[at]), sign))
        _, first, second, sign = min(candidates)
        return first, second, sign


def _finish_row(graph: SumGraph, terms: Sequence[Term]) -> None:
    """Adds a row's terms up, the shallowest first, and appends the result as the next row."""
    if not terms:
        graph.rows.append(None)
        return
    depths = graph.depths()
    heap = [(depths[term.node], term.node, term) for term in terms]
    heapq.heapify(heap)
    first = True
    while len(heap) > 1:
        # One small adder, if need be, so that all that follow are full: as in a Huffman code.
        take = graph.arity
        if first and (spare := (len(heap) - 1) % (graph.arity - 1)):
            take = spare + 1
        first = False
        taken = sorted(heapq.heappop(heap) for _ in range(min(take, len(heap))))
        negative = all(term.negative for _, _, term in taken)
        node = graph.add(
            [term.times(negative) for _, _, term in sorted(taken, key=lambda each: each[2].negative)]
        )
        heapq.heappush(heap, (1 + max(depth for depth, _, _ in taken), node, Term(node, negative)))
    graph.rows.append(heap[0][2])
