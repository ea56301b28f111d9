"""Dot-product arrays against numpy, in Verilator, and against their specification, by proof."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna.targets.verilog import testbench, tools
from sterna.targets.verilog.arrays.array import Array
from sterna.targets.verilog.arrays.folded import folded_array, shared_array
from sterna.targets.verilog.arrays.lut_ram import CODE_BITS, ENTRIES, codes, gray_path, lut_ram_array
from sterna.targets.verilog.arrays.sum_graph import row_sums, shared_sums

Integers = npt.NDArray[np.int64]

SMALL = st.integers(1, 9)


@given(SMALL, SMALL, st.sampled_from([2, 3]), st.integers(0, 2**32))
def test_sums_of_constants_are_the_product(rows: int, columns: int, arity: int, seed: int):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-1, 2, (rows, columns)).astype(np.int8)
    x = rng.integers(-128, 128, (5, columns))
    for build in (row_sums, shared_sums):
        graph = build(weights, arity=arity)
        assert (graph.evaluate(x) == x @ weights.T.astype(np.int64)).all()
        assert all(2 <= len(terms) <= arity for terms in graph.sums)
        for (low, high), node in zip(graph.bounds([(-128, 127)] * columns), range(graph.nodes), strict=True):
            assert low <= high, node


def test_shared_sums_need_fewer_adders():
    weights = np.random.default_rng(0).integers(-1, 2, (64, 64)).astype(np.int8)
    assert len(shared_sums(weights, arity=3).sums) < 0.6 * len(row_sums(weights, arity=3).sums)


def test_tables_are_filled_one_step_at_a_time():
    path = np.array(gray_path())
    assert len({tuple(pattern) for pattern in path.tolist()}) == ENTRIES
    assert (np.abs(np.diff(path, axis=0)).sum(axis=1) == 1).all() and np.abs(path[0]).sum() == 1


@dataclass
class Driven:
    """An array, what drives it in each cycle, and what it gives: None where anything may be."""

    name: str
    instance: str
    width: int
    source: str
    inputs: list[int]
    outputs: list[int | None]


def word(values: Integers, bits: int) -> int:
    return sum((int(v) & ((1 << bits) - 1)) << (n * bits) for n, v in enumerate(values.reshape(-1)))


def stalled(rng: np.random.Generator, inputs: list[int], outputs: list[int], latency: int, above: int):
    """Cycles that do not advance, strewn in; bit `above` says which do. The outputs stay `latency` cycles behind."""
    driven, expected, steps = list[int](), list[int | None](), 0
    while steps < len(inputs):
        advance = rng.random() < 0.8
        driven.append((inputs[steps] | 1 << above) if advance else 0)
        expected.append(outputs[steps - latency] if steps >= latency else None)
        steps += advance
    return driven, expected


def constants(name: str, array: Array, weights: npt.NDArray[np.int8], rng: np.random.Generator) -> Driven:
    bits = array.columns * array.activation_bits
    x = rng.integers(-128, 128, (60, array.columns))
    x[:3] = [[-128], [127], [0]]
    inputs = [word(row, 8) for row in x]
    outputs = [word(row, array.sum_bits) for row in x @ weights.T.astype(np.int64)]
    ports = f".clock, .advance(i[{bits}]), .x(i[{bits - 1}:0]), .y(o)"
    driven = stalled(rng, inputs, outputs, array.latency, bits)
    return Driven(name, f"{array.module} dut ({ports});", array.rows * array.sum_bits, array.source, *driven)


def adder_tree(rng: np.random.Generator, simd: int) -> Driven:
    bits, total, first = 10 * simd, list[int](), rng.random(80) < 0.4
    x, w = rng.integers(-128, 128, (80, simd)), rng.integers(-1, 2, (80, simd))
    x[:4], w[:4] = -128, -1
    first[0] = True
    for start, value in zip(first, (x * w).sum(axis=1), strict=True):
        total.append(int(value) + (0 if start else total[-1]))
    encoded = np.where(w < 0, 3, w)
    inputs = [
        word(a, 8) | word(b, 2) << 8 * simd | int(f) << bits
        for a, b, f in zip(x, encoded, first, strict=True)
    ]
    ports = f".clock, .advance(i[{bits + 1}]), .first(i[{bits}]), .x(i[{8 * simd - 1}:0])"
    ports += f", .w(i[{bits - 1}:{8 * simd}])"
    driven = stalled(rng, inputs, [t & 0xFFFFF for t in total], (simd - 1).bit_length() + 1, bits + 1)
    instance = f"ternary_adder_tree #(.SIMD({simd}), .WIDTH(8), .SUM(20)) dut ({ports}, .sum(o));"
    return Driven(f"tree{simd}", instance, 20, "", *driven)


def tables(rng: np.random.Generator, rows: int, columns: int) -> Driven:
    array = lut_ram_array("tables", rows=rows, columns=columns, activation_bits=8, adders="carry chains")
    groups, x_bits = -(-columns // 3), 8 * columns
    w_bits = rows * groups * CODE_BITS
    inputs, outputs = list[int](), list[int]()
    for _ in range(3):
        x = rng.integers(-128, 128, columns)
        x[:2] = -128
        fills = [word(x, 8) | n << (x_bits + w_bits) | 1 << (x_bits + w_bits + 5) for n in range(ENTRIES)]
        inputs += [*fills, word(x, 8), 0]
        outputs += [0] * (ENTRIES + 2)
        for _ in range(8):
            w = rng.integers(-1, 2, (rows, columns)).astype(np.int8)
            inputs.append(word(codes(w).astype(np.int64), CODE_BITS) << x_bits)
            outputs.append(word(w.astype(np.int64) @ x, array.sum_bits))
    top = x_bits + w_bits
    ports = (
        f".clock, .advance(i[{top + 6}]), .fill(i[{top + 5}]), .entry(i[{top + 4}:{top}]), "
        f".w(i[{top - 1}:{x_bits}]), .x(i[{x_bits - 1}:0]), .y(o)"
    )
    driven, expected = stalled(rng, inputs, outputs, array.latency, top + 6)
    checked = [value if value else None for value in expected]
    return Driven("tables", f"tables dut ({ports});", rows * array.sum_bits, array.source, driven, checked)


def bench(arrays: list[Driven]) -> str:
    parts: list[str] = []
    for n, each in enumerate(arrays):
        bits = max(value.bit_length() for value in each.inputs)
        parts.append(f"""
  begin : {each.name}
    logic [{bits - 1}:0] given[{len(each.inputs)}], i;
    logic [{each.width}:0] wanted[{len(each.inputs)}];  // the top bit: to be compared
    logic [{each.width - 1}:0] o;
    initial $readmemh("{n}.in.hex", given);
    initial $readmemh("{n}.out.hex", wanted);
    assign i = given[cycle % {len(each.inputs)}];
    {each.instance}
    always @(negedge clock)
      if (cycle < {len(each.inputs)} && wanted[cycle][{each.width}] && wanted[cycle][{each.width - 1}:0] !== o) begin
        $display("{each.name} cycle %0d: %h, not %h", cycle, o, wanted[cycle][{each.width - 1}:0]);
        $fatal;
      end
  end""")
    last = max(len(each.inputs) for each in arrays)
    body = "\n".join(f"  if (1) {part.strip()}" for part in parts)
    return f"""
module bench;
  logic clock = 0;
  int cycle = 0;
  always #1 clock = !clock;
  always @(posedge clock) begin
    cycle <= cycle + 1;
    if (cycle == {last}) begin $display("all equal"); $finish; end
  end
{body}
endmodule
"""


@pytest.mark.slow  # Verilator and a C++ compiler
def test_every_design_equals_numpy_whatever_stalls(tmp_path: Path):
    rng = np.random.default_rng(5)
    weights = rng.integers(-1, 2, (7, 13)).astype(np.int8)
    weights[2] = 0
    weights[3], weights[:, 4] = -1, 0
    arrays = [adder_tree(rng, simd) for simd in (1, 5, 16)]
    arrays += [
        constants(
            "folded2",
            folded_array("folded2", weights, activation_bits=8, adders="carry chains"),
            weights,
            rng,
        ),
        constants(
            "folded3",
            folded_array("folded3", weights, activation_bits=8, adders="ternary adders"),
            weights,
            rng,
        ),
        constants(
            "shared2",
            shared_array("shared2", weights, activation_bits=8, adders="carry chains"),
            weights,
            rng,
        ),
        constants(
            "shared3",
            shared_array("shared3", weights, activation_bits=8, adders="ternary adders"),
            weights,
            rng,
        ),
        tables(rng, 4, 10),
    ]
    for n, each in enumerate(arrays):
        (tmp_path / f"{n}.in.hex").write_text("".join(f"{value:x}\n" for value in each.inputs))
        wanted = [0 if out is None else out | 1 << each.width for out in each.outputs]
        (tmp_path / f"{n}.out.hex").write_text("".join(f"{value:x}\n" for value in wanted))
    source = tmp_path / "bench.sv"
    source.write_text("\n".join([*(each.source for each in arrays), bench(arrays)]))
    needed = [tools.LIBRARY / f"{name}.sv" for name in ("add3", "choose2", "ternary_adder_tree")]
    program = testbench.build_self_checking("bench", [source, *needed], tmp_path)
    assert "all equal" in tools.run_program([str(program)], tmp_path)


SPECIFICATION = """
module proof (input logic clock, input logic [{x_bits}-1:0] x, output logic ok);
  logic [{y_bits}-1:0] found;
  {module} dut (.clock, .advance(1'b1), .x, .y(found));
  logic [{y_bits}-1:0] product, wanted;
{rows}
  logic [{latency}*{y_bits}-1:0] late;
  always_ff @(posedge clock) late <= {{late[({latency}-1)*{y_bits}-1:0], product}};
  assign wanted = late[{latency}*{y_bits}-1 -: {y_bits}];
  assign ok = found == wanted;
endmodule
"""


@pytest.mark.slow  # Yosys starts in seconds
@pytest.mark.parametrize("design", ["folded", "shared-sums"])
def test_array_is_proved_equal_to_its_specification(design: str, tmp_path: Path):
    weights = np.array([[1, -1, 0, 1], [-1, -1, 1, 0], [1, -1, 1, 1], [0, 0, 0, 0]], np.int8)
    build = shared_array if design == "shared-sums" else folded_array
    array = build("array", weights, activation_bits=4, adders="carry chains")
    bits = array.sum_bits
    rows: list[str] = []
    for m, row in enumerate(weights.tolist()):
        terms = [
            f" {'-' if w < 0 else '+'} {bits}'($signed(x[{4 * k} +: 4]))" for k, w in enumerate(row) if w
        ]
        rows.append(f"  assign product[{m * bits} +: {bits}] = {bits}'d0{''.join(terms)};")
    text = SPECIFICATION.format(
        x_bits=16,
        y_bits=array.rows * array.sum_bits,
        module="array",
        rows="\n".join(rows),
        latency=array.latency,
    )
    (tmp_path / "proof.sv").write_text(array.source + text)
    steps = array.latency + 2
    commands = [
        f"read_verilog -sv {tmp_path / 'proof.sv'}",
        "prep -flatten -top proof",
        # A pipeline without feedback: what its registers hold at first is gone after `latency` steps.
        f"sat -verify -seq {steps} -prove-skip {steps - 1} -prove ok 1 proof",
    ]
    assert "SAT proof finished - no model found: SUCCESS!" in tools.run_yosys(commands, tmp_path)


@pytest.mark.slow  # Yosys starts in seconds
def test_xilinx_choice_is_proved_equal_to_the_plain_one(tmp_path: Path):
    (tmp_path / "proof.sv").write_text("""
      module proof (input logic [4:0] a, b, input logic second, output logic ok);
        logic [4:0] p, q;
        choose2_primitives #(5) l (.a, .b, .second, .y(p));
        choose2 #(5) r (.a, .b, .second, .y(q));
        assign ok = p == q;
      endmodule""")
    assert proved_beside_primitives("choose2", tmp_path)


@pytest.mark.slow  # Yosys starts in seconds
def test_xilinx_adder_is_proved_equal_to_the_sum(tmp_path: Path):
    """For no, one and two negated operands: the primitives and the plain expression."""
    parts = [
        f"  logic [5:0] p{n}, q{n};\n  add3_primitives #(6, 3'b{n:03b}) l{n} (.a, .b, .c, .sum(p{n}));\n"
        f"  add3 #(6, 3'b{n:03b}) r{n} (.a, .b, .c, .sum(q{n}));"
        for n in (0, 1, 2, 3, 4, 5, 6)
    ]
    equal = " && ".join(f"p{n} == q{n}" for n in range(7))
    (tmp_path / "proof.sv").write_text(
        "module proof (input logic [5:0] a, b, c, output logic ok);\n"
        + "\n".join(parts)
        + f"\n  assign ok = {equal};\nendmodule\n"
    )
    assert proved_beside_primitives("add3", tmp_path)


def proved_beside_primitives(module: str, folder: Path) -> bool:
    """Whether `proof` always says ok, of the module and of the one that is made of Xilinx primitives."""
    source = tools.LIBRARY / f"{module}.sv"
    commands = [
        "read_verilog +/xilinx/cells_sim.v",
        f"read_verilog -sv -DSTERNA_XILINX {source}",
        f"rename {module} {module}_primitives",
        f"read_verilog -sv {source} {folder / 'proof.sv'}",
        "prep -flatten -top proof",
        "sat -verify -prove ok 1 proof",
    ]
    return "SAT proof finished - no model found: SUCCESS!" in tools.run_yosys(commands, folder)
