"""Invariants of a memory plan, computed again from the planned module."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, ModuleOp
from xdsl.dialects.func import CallOp, FuncOp
from xdsl.dialects.scf import ForOp
from xdsl.ir import BlockArgument, Operation

from sterna.dialects.context import make_context, parse
from sterna.dialects.errors import CompileError
from sterna.dialects.layout import ALIGNMENT, buffer_bytes
from sterna.dialects.ternary import LoadOp, WeightOp, tensor
from sterna.passes import PASSES
from sterna.passes.plan_memory import Buffer, PlanMemoryPass, place_buffers
from tests.raised_models import PIPELINE, RaisedModel, programs


def planned(text: str, max_rows: int) -> ModuleOp:
    module = parse(text)
    ctx = make_context()
    for name in PIPELINE[:-1]:
        PASSES[name]().apply(ctx, module)
    PlanMemoryPass(max_rows=max_rows).apply(ctx, module)
    module.verify()
    return parse(str(module))


def integer(op: Operation, name: str) -> int:
    attribute = op.attributes[name]
    assert isinstance(attribute, IntegerAttr)
    return attribute.value.data


def places(op: Operation) -> tuple[int, ...]:
    attribute = op.attributes["arena"]
    assert isinstance(attribute, DenseArrayBase)
    return tuple(int(place) for place in attribute.get_values())


def functions_of(module: ModuleOp) -> dict[str, FuncOp]:
    return {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp)}


def assert_function_is_planned(func: FuncOp, functions: dict[str, FuncOp], max_rows: int) -> None:
    ops = list(func.body.block.ops)
    number = {op: n for n, op in enumerate(ops)}
    returned = list(ops[-1].operands)
    assert len(set(returned)) == len(returned)
    assert not any(isinstance(v, BlockArgument) or isinstance(v.owner, LoadOp) for v in returned)
    taken: list[tuple[range, range]] = []  # bytes, and the operations during which they are taken
    for n, op in enumerate(ops[:-1]):
        if isinstance(op, LoadOp):
            assert "arena" not in op.attributes
            continue
        assert len(places(op)) == len(op.results)
        for value, place in zip(op.results, places(op), strict=True):
            if value in returned:
                assert place == -(returned.index(value) + 1)
                continue
            last = max((number[use.operation] for use in value.uses), default=n)
            taken.append((range(place, place + buffer_bytes(tensor(value), max_rows)), range(n, last + 1)))
        if isinstance(op, CallOp):
            callee = functions[op.callee.string_value()]
            start = integer(op, "callee_arena")
            taken.append((range(start, start + integer(callee, "ternary.arena_bytes")), range(n, n + 1)))
    for place, _ in taken:
        assert place.start >= 0 and place.start % ALIGNMENT == 0
        assert place.stop <= integer(func, "ternary.arena_bytes")
    for (a, lives), (b, lives_too) in combinations(taken, 2):
        if lives.start < lives_too.stop and lives_too.start < lives.stop:
            assert a.stop <= b.start or b.stop <= a.start


def assert_weights_are_planned(module: ModuleOp, max_rows: int) -> None:
    loaded = {
        op.weight.string_value()
        for func in functions_of(module).values()
        for op in func.walk()
        if isinstance(op, LoadOp)
    }
    weights = {op.sym_name.data: op for op in module.ops if isinstance(op, WeightOp)}
    assert {name for name, op in weights.items() if "offset" in op.attributes} == loaded
    end = 0
    for op in sorted((weights[name] for name in loaded), key=lambda op: integer(op, "offset")):
        assert integer(op, "offset") == end
        end += buffer_bytes(op.type, max_rows)
    assert integer(module, "ternary.weights_bytes") == end


def assert_planned(module: ModuleOp, max_rows: int) -> None:
    assert integer(module, "ternary.max_rows") == max_rows
    functions = functions_of(module)
    for func in functions.values():
        assert_function_is_planned(func, functions, max_rows)
    assert_weights_are_planned(module, max_rows)


@settings(max_examples=20)
@given(st.data(), st.sampled_from((1, 3, 64)))
def test_plans_of_any_program(data: st.DataObject, max_rows: int) -> None:
    text, _ = data.draw(programs(24))
    assert_planned(planned(text, max_rows), max_rows)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_plans_of_models(layers: int) -> None:
    assert_planned(planned(RaisedModel(layers=layers, hidden=24, mlp=40, vocabulary=19).text(), 5), 5)


@pytest.mark.slow
def test_the_arena_does_not_grow_with_depth() -> None:
    few, many = (planned(RaisedModel(layers=n, hidden=16, mlp=32).text(), 8) for n in (3, 6))
    arenas = [integer(functions_of(module)["forward"], "ternary.arena_bytes") for module in (few, many)]
    assert arenas[0] == arenas[1]


def test_weights_are_in_the_order_of_execution() -> None:
    module = planned(RaisedModel(layers=4, hidden=16, mlp=32).text(), 8)
    weights = [op for op in module.ops if isinstance(op, WeightOp) and "offset" in op.attributes]
    names = [op.sym_name.data for op in sorted(weights, key=lambda op: integer(op, "offset"))]
    layers = [int(name.split(".")[1]) for name in names if name.startswith("layers.")]
    assert names[0] == "embeddings"
    assert layers == sorted(layers)
    assert names[-1] == "lm_head.scale"


BUFFERS = st.lists(
    st.builds(
        lambda blocks, first, length: Buffer(64 * blocks, first, first + length),
        st.integers(1, 9),
        st.integers(0, 12),
        st.integers(0, 5),
    )
)


@given(BUFFERS)
def test_buffers_that_live_together_do_not_overlap(buffers: list[Buffer]) -> None:
    offsets = place_buffers(buffers)
    assert all(offset >= 0 and offset % 64 == 0 for offset in offsets)
    for (a, x), (b, y) in combinations(zip(buffers, offsets, strict=True), 2):
        if a.lives_with(b):
            assert x + a.size <= y or y + b.size <= x


def test_buffers_reuse_the_bytes_of_the_dead() -> None:
    assert place_buffers([Buffer(64, 0, 1), Buffer(64, 1, 2), Buffer(64, 2, 3)]) == [0, 64, 0]


def test_recursion_is_an_error() -> None:
    text = """
func.func @forward(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = func.call @forward(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  func.return %y : tensor<?x8xf32>
}"""
    with pytest.raises(CompileError, match="@forward calls itself"):
        PlanMemoryPass().apply(make_context(), parse(text))


ROWS = "tensor<?x4xf32>"
LONGER = {
    "concat": f"tensor.concat dim(0) %x, %y : ({ROWS}, tensor<2x4xf32>) -> {ROWS}",
    "concat of T and T": f"tensor.concat dim(0) %x, %x : ({ROWS}, {ROWS}) -> {ROWS}",
    "pad": f"""tensor.pad %x low[0, 0] high[1, 0] {{
               ^bb0(%a : index, %b : index):
                 tensor.yield %number : f32
               }} : {ROWS} to {ROWS}""",
    "collapse_shape": f"tensor.collapse_shape %x [[0, 1]] : {ROWS} into tensor<?xf32>",
    "expand_shape": f"tensor.expand_shape %x [[0, 1], [2]] output_shape [2, %two, 4] : {ROWS} into tensor<2x?x4xf32>",
    "splat": f"tensor.splat %number[%two] : {ROWS}",
    "empty": f"tensor.empty(%two) : {ROWS}",
    "extract_slice": f"tensor.extract_slice %x[0, 0] [%two, 4] [1, 1] : {ROWS} to {ROWS}",
}


@pytest.mark.parametrize("name", sorted(LONGER))
def test_an_axis_of_another_dynamic_size_than_t_is_an_error(name: str) -> None:
    """A kernel would write beyond the memory of its result."""
    text = f"""func.func @forward(%x : {ROWS}, %y : tensor<2x4xf32>) -> {ROWS} {{
      %number = arith.constant 0.5 : f32
      %two = arith.constant 2 : index
      %z = {LONGER[name]}
      func.return %x : {ROWS}
    }}"""
    with pytest.raises(CompileError, match=rf"^tensor\.{name.split()[0]}: an axis of .* would not be T long"):
        PlanMemoryPass().apply(make_context(), parse(text))


def test_nothing_beside_t_rows_is_t_rows() -> None:
    text = f"""func.func @forward(%x : {ROWS}, %y : tensor<0x4xf32>) -> {ROWS} {{
      %z = tensor.concat dim(0) %y, %x : (tensor<0x4xf32>, {ROWS}) -> {ROWS}
      func.return %z : {ROWS}
    }}"""
    PlanMemoryPass().apply(make_context(), parse(text))


def test_returned_arguments_of_any_type_are_copied() -> None:
    module = parse(
        "func.func @forward(%x: tensor<?x3xi64>) -> tensor<?x3xi64> { func.return %x : tensor<?x3xi64> }"
    )
    PlanMemoryPass().apply(make_context(), module)
    module.verify()
    (copy, _) = functions_of(module)["forward"].body.block.ops
    assert places(copy) == (-1,)


LOOP = """
func.func @forward(%a: tensor<8xf32>, %b: tensor<8xf32>, %n: tensor<?xf32>) -> (tensor<8xf32>, tensor<8xf32>) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %count = tensor.dim %n, %zero : tensor<?xf32>
  %r:2 = scf.for %i = %zero to %count step %one iter_args(%s = %a, %t = %b) -> (tensor<8xf32>, tensor<8xf32>) {
    YIELD
  }
  func.return %r#0, %r#1 : tensor<8xf32>, tensor<8xf32>
}
"""


def test_what_a_loop_carries_has_one_place() -> None:
    body = """
    %u = arith.addf %s, %t : tensor<8xf32>
    scf.yield %t, %u : tensor<8xf32>, tensor<8xf32>"""
    module = parse(LOOP.replace("YIELD", body))
    PlanMemoryPass().apply(make_context(), module)
    module.verify()
    (loop,) = (op for op in functions_of(module)["forward"].body.block.ops if isinstance(op, ForOp))
    end = loop.body.block.last_op
    assert end is not None
    for start, yielded, place in zip(loop.iter_args, end.operands, (-1, -2), strict=True):
        assert isinstance(start.owner, Operation)
        assert isinstance(yielded.owner, Operation)
        assert places(start.owner) == places(yielded.owner) == (place,)
    assert places(loop) == (-1, -2)
