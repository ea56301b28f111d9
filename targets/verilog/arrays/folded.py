"""Arrays whose weights are constants: adders and wires, and for a zero weight nothing at all.

`folded_array` gives each row a tree of its own; `shared_array` computes what rows have in common once.
"""

from __future__ import annotations

from collections.abc import Callable

from sterna.targets.verilog.arrays.array import Adders, Array, dot_product_bounds, signed_bits
from sterna.targets.verilog.arrays.sum_graph import SumGraph, Trits, row_sums, shared_sums
from sterna.targets.verilog.arrays.sum_pipeline import print_pipeline


def folded_array(module: str, weights: Trits, *, activation_bits: int, adders: Adders) -> Array:
    """A tree of adders a row, for weights `[M, K]`."""
    return _print(module, weights, row_sums, activation_bits, adders)


def shared_array(module: str, weights: Trits, *, activation_bits: int, adders: Adders) -> Array:
    """The same sums, common sub-sums shared across all rows."""
    return _print(module, weights, shared_sums, activation_bits, adders)


def _print(
    module: str, weights: Trits, build: Callable[..., SumGraph], activation_bits: int, adders: Adders
) -> Array:
    rows, columns = weights.shape
    graph = build(weights, arity=3 if adders == "ternary adders" else 2)
    low, high = -(1 << (activation_bits - 1)), (1 << (activation_bits - 1)) - 1
    pipeline = print_pipeline(graph, [(low, high)] * columns, adders=adders)
    sum_bits = signed_bits(*dot_product_bounds(columns, activation_bits))
    used = {term.node for terms in graph.sums for term in terms} | {
        r.node for r in graph.rows if r is not None
    }
    inputs = [
        f"  wire signed [{activation_bits - 1}:0] x{k} = x[{k * activation_bits} +: {activation_bits}];"
        for k in range(columns)
        if k in used
    ]
    idle = [f"x[{k * activation_bits} +: {activation_bits}]" for k in range(columns) if k not in used]
    outputs = [
        f"      y[{m * sum_bits} +: {sum_bits}] <= {_signed(graph, pipeline.rows, m, sum_bits)};"
        for m in range(rows)
    ]
    source = f"""\
// {rows} x {columns} constant ternary weights, {len(graph.sums)} adders.
// Initiation interval 1, latency {pipeline.latency + 1}.
module {module} (
    input  logic clock,
    input  logic advance,
    input  logic [{columns * activation_bits - 1}:0] x,  // {columns} activations of {activation_bits} bits
    output logic [{rows * sum_bits - 1}:0] y  // {rows} sums of {sum_bits} bits
);
{chr(10).join(inputs)}
{pipeline.text}
  always_ff @(posedge clock)
    if (advance) begin
{chr(10).join(outputs)}
    end
{f"  wire unused = &{{1'b0, {', '.join(idle)}}};{chr(10)}" if idle else ""}endmodule
"""
    return Array(
        module=module,
        modules={module: source},
        rows=rows,
        columns=columns,
        activation_bits=activation_bits,
        sum_bits=sum_bits,
        latency=pipeline.latency + 1,
    )


def _signed(graph: SumGraph, signals: list[str | None], row: int, width: int) -> str:
    term, signal = graph.rows[row], signals[row]
    if term is None or signal is None:
        return f"{width}'d0"
    return f"-({width}'({signal}))" if term.negative else f"{width}'({signal})"
