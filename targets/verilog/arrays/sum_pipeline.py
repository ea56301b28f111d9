"""Verilog of a graph of sums: one register behind every adder, and delays where a sum is used later than it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sterna.targets.verilog.arrays.array import Adders, signed_bits
from sterna.targets.verilog.arrays.sum_graph import SumGraph, Term


@dataclass(frozen=True)
class SumPipeline:
    """Statements for a module that has `clock` and `advance`, and the inputs as signals `x0`, `x1`, ..."""

    text: str
    rows: list[str | None]
    """The signal of each row's sum, all of one cycle; None for a row of zeros."""
    latency: int
    delays: int
    """Flip-flops that only wait."""


def print_pipeline(graph: SumGraph, bounds: Sequence[tuple[int, int]], *, adders: Adders) -> SumPipeline:
    """The pipeline for inputs in those bounds; all rows come out together, after the deepest one.

    A row that is the negation of a sum is negated by who reads it.
    """
    depths = graph.depths()
    widths = [signed_bits(*bound) for bound in graph.bounds(bounds)]
    latency = max((depths[row.node] for row in graph.rows if row is not None), default=0)
    last_use = list(depths)
    for index, terms in enumerate(graph.sums):
        for term in terms:
            last_use[term.node] = max(last_use[term.node], depths[graph.inputs + index] - 1)
    for row in graph.rows:
        if row is not None:
            last_use[row.node] = latency
    name = _Names(graph.inputs, depths)
    lines: list[str] = []
    clocked: list[str] = []
    for node in range(graph.nodes):
        width, born = widths[node], depths[node]
        if node >= graph.inputs:
            terms = graph.sums[node - graph.inputs]
            signal = name.of(node, born)
            lines.append(f"  logic signed [{width - 1}:0] {signal};")
            if adders == "ternary adders" and len(terms) == 3:
                lines.append(f"  wire signed [{width - 1}:0] {signal}_sum;")
                lines.append(_add3(signal, terms, [name.of(t.node, born - 1) for t in terms], width))
                clocked.append(f"      {signal} <= {signal}_sum;")
            else:
                clocked.append(f"      {signal} <= {_expression(terms, name, born - 1, width)};")
        for time in range(born + 1, last_use[node] + 1):
            lines.append(f"  logic signed [{width - 1}:0] {name.of(node, time)};")
            clocked.append(f"      {name.of(node, time)} <= {name.of(node, time - 1)};")
    block = ["  always_ff @(posedge clock)", "    if (advance) begin", *clocked, "    end"] if clocked else []
    return SumPipeline(
        "\n".join([*lines, *block]),
        [None if row is None else name.of(row.node, latency) for row in graph.rows],
        latency,
        sum(widths[n] * (last_use[n] - depths[n]) for n in range(graph.nodes)),
    )


@dataclass(frozen=True)
class _Names:
    inputs: int
    depths: list[int]

    def of(self, node: int, time: int) -> str:
        """The signal that carries a node's value `time` cycles after the inputs."""
        base = f"x{node}" if node < self.inputs else f"s{node - self.inputs}"
        waited = time - self.depths[node]
        return f"{base}_d{waited}" if waited else base


def _expression(terms: tuple[Term, ...], name: _Names, time: int, width: int) -> str:
    parts = [("- " if t.negative else "+ ") + f"{width}'({name.of(t.node, time)})" for t in terms]
    return " ".join(parts).removeprefix("+ ")


def _add3(signal: str, terms: tuple[Term, ...], operands: list[str], width: int) -> str:
    a, b, c = (f"{width}'({operand})" for operand in operands)
    negate = "".join("1" if term.negative else "0" for term in reversed(terms))
    return f"  add3 #({width}, 3'b{negate}) {signal}_add (.a({a}), .b({b}), .c({c}), .sum({signal}_sum));"
