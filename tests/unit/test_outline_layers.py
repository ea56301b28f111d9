"""Which layers become functions."""

from __future__ import annotations

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import CallOp, FuncOp

from sterna.dialects.context import make_context, parse
from sterna.dialects.interpreter import run
from sterna.dialects.ternary import LoadOp
from sterna.in_memory import load_planned
from sterna.passes import PASSES
from sterna.passes.outline_layers import OutlineLayersPass
from sterna.passes.plan_memory import PlanMemoryPass
from tests.raised_models import PIPELINE, RaisedModel, RaisedProgram, rows

UNTIL_OUTLINED = PIPELINE[: PIPELINE.index("outline-layers") + 1]


def outlined(text: str) -> tuple[FuncOp, dict[str, FuncOp]]:
    """The entry, and the private functions by name."""
    module = parse(text)
    for name in UNTIL_OUTLINED:
        PASSES[name]().apply(make_context(), module)
    module.verify()
    functions = {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp)}
    return functions.pop("forward"), functions


def calls(func: FuncOp) -> list[str]:
    return [op.callee.string_value() for op in func.walk() if isinstance(op, CallOp)]


@pytest.mark.parametrize(
    ("layers", "lower_bounds", "count"), [(1, False, 0), (2, False, 2), (4, False, 4), (4, True, 3)]
)
def test_every_layer_that_is_like_the_others_is_a_call(layers: int, lower_bounds: bool, count: int) -> None:
    text = RaisedModel(layers=layers, hidden=16, mlp=32, lower_bounds=lower_bounds).text()
    forward, functions = outlined(text)
    assert calls(forward) == ["layer_0"] * count
    assert list(functions) == ["layer_0"][:count]


def test_a_layer_takes_rows_and_state_and_then_its_weights() -> None:
    forward, functions = outlined(RaisedModel(layers=4, hidden=16, mlp=32).text())
    layer = functions["layer_0"]
    inputs, outputs = layer.function_type.inputs.data, layer.function_type.outputs.data
    assert [str(type) for type in inputs[:2]] == ["tensor<?x16xf32>", "tensor<16xf32>"]
    assert sorted(map(str, outputs)) == ["tensor<16xf32>", "tensor<?x16xf32>"]
    assert not any(isinstance(op, LoadOp) for op in layer.walk())
    for op in forward.walk():
        if isinstance(op, CallOp):
            assert all(isinstance(value.owner, LoadOp) for value in op.arguments[2:])


def test_code_does_not_grow_with_depth() -> None:
    def kernels(layers: int) -> int:
        forward, functions = outlined(RaisedModel(layers=layers, hidden=16, mlp=32).text())
        ops = [op for func in (forward, *functions.values()) for op in func.walk()]
        return sum(not isinstance(op, LoadOp | CallOp) for op in ops)

    assert kernels(3) == kernels(6)


def chain(widths: list[int]) -> str:
    """A norm and a negation for every width; equal neighbours are alike."""
    program = RaisedProgram()
    arguments = {k: program.argument(f"%x{k}", rows(k)) for k in sorted(set(widths))}
    for n, k in enumerate(widths):
        arguments[k] = program.unary("arith.negf", program.norm(arguments[k], f"norm{n}", k), k)
    return program.function([(value, rows(k)) for k, value in arguments.items()])


def test_layers_of_two_kinds_are_two_functions() -> None:
    forward, functions = outlined(chain([16, 16, 16, 8, 8]))
    assert calls(forward) == ["layer_0"] * 3 + ["layer_1"] * 2
    assert [str(func.function_type.inputs.data[0]) for func in functions.values()] == [rows(16), rows(8)]


def test_interleaved_kinds_are_one_longer_layer() -> None:
    forward, _ = outlined(chain([16, 8, 16, 8]))
    assert calls(forward) == ["layer_0"] * 2


def test_a_result_that_one_layer_alone_gives_away_is_given_by_all() -> None:
    program = RaisedProgram()
    x = program.argument("%x", rows(8))
    normed = [x]
    for n in range(3):
        normed.append(program.norm(x, f"norm{n}", 8))
        x = program.unary("arith.negf", normed[-1], 8)
    text = program.function([(x, rows(8)), (normed[2], rows(8))])
    forward, functions = outlined(text)
    assert calls(forward) == ["layer_0"] * 3
    assert len(functions["layer_0"].function_type.outputs) == 2


def test_values_that_are_one_outside_are_one_in_every_layer() -> None:
    """The second layer reads one value twice where the first reads two: they are not alike."""
    text = """
ternary.weight @w : tensor<8xf32>
func.func @forward(%x: tensor<?x8xf32>, %y: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %w = ternary.load @w : tensor<8xf32>
  %a = ternary.elementwise(%x, %y : tensor<?x8xf32>, tensor<?x8xf32>) {
  ^bb0(%0: f32, %1: f32):
    %2 = arith.addf %0, %1 : f32
    ternary.yield %2 : f32
  } -> tensor<?x8xf32>
  %b = ternary.rms_norm %a, %w eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %c = ternary.elementwise(%b, %b : tensor<?x8xf32>, tensor<?x8xf32>) {
  ^bb0(%0: f32, %1: f32):
    %2 = arith.addf %0, %1 : f32
    ternary.yield %2 : f32
  } -> tensor<?x8xf32>
  %d = ternary.rms_norm %c, %w eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  func.return %d : tensor<?x8xf32>
}"""
    module = parse(text)
    PASSES["outline-layers"]().apply(make_context(), module)
    assert "func.call" not in str(module)


def test_regions_that_swap_their_arguments_are_not_alike() -> None:
    def layer(n: int, left: str, right: str) -> str:
        return f"""
  %n{n} = ternary.rms_norm %x{n}, %w eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %x{n + 1} = ternary.elementwise(%n{n}, %x{n} : tensor<?x8xf32>, tensor<?x8xf32>) {{
  ^bb0(%a: f32, %b: f32):
    %c = arith.subf {left}, {right} : f32
    ternary.yield %c : f32
  }} -> tensor<?x8xf32>"""

    def module(*layers: str) -> ModuleOp:
        return parse(f"""
ternary.weight @w : tensor<8xf32>
func.func @forward(%x0: tensor<?x8xf32>) -> tensor<?x8xf32> {{
  %w = ternary.load @w : tensor<8xf32>{"".join(layers)}
  func.return %x{len(layers)} : tensor<?x8xf32>
}}""")

    alike, swapped = (
        module(layer(0, "%a", "%b"), layer(1, "%a", "%b")),
        module(layer(0, "%a", "%b"), layer(1, "%b", "%a")),
    )
    for text, expected in ((alike, 2), (swapped, 0)):
        PASSES["outline-layers"]().apply(make_context(), text)
        assert str(text).count("func.call") == expected


def test_sizes_and_numbers_stay_outside_of_layers() -> None:
    x = "tensor<?x3x8xf32>"
    layers = "\n".join(
        f"""
        %axis{n} = arith.constant 0 : index
        %T{n} = tensor.dim %y{n}, %axis{n} : {x}
        %half{n} = arith.constant 0.5 : f32
        %s{n} = tensor.splat %half{n}[%T{n}] : {x}
        %y{n + 1} = ternary.elementwise (%y{n}, %s{n} : {x}, {x}) {{
        ^bb0(%a : f32, %b : f32):
          %c = arith.mulf %a, %b : f32
          ternary.yield %c : f32
        }} -> {x}"""
        for n in range(3)
    )
    module = parse(f"func.func @forward(%y0 : {x}) -> {x} {{ {layers}\n func.return %y3 : {x} }}")
    before = run(module, [np.ones((2, 3, 8), np.float32)])
    OutlineLayersPass().apply(make_context(), module)
    module.verify()
    _, layer = module.ops
    assert isinstance(layer, FuncOp)
    assert sorted(map(str, layer.function_type.inputs)) == ["f32", "index", x]
    assert [*map(str, layer.function_type.outputs)] == [x]
    assert np.array_equal(run(module, [np.ones((2, 3, 8), np.float32)])[0], before[0])
    PlanMemoryPass().apply(make_context(), module)
    executable = load_planned(module, threads=1)
    assert np.array_equal(executable.run([np.ones((2, 3, 8), np.float32)])[0], before[0])
