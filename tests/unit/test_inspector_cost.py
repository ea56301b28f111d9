"""Costs against counts made by hand."""

from __future__ import annotations

import pytest
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.context import parse
from sterna.inspector.cost import Cost, cost_table


def total(body: str, arguments: str, *, rows: int = 1, outside: str = "", attributes: str = "") -> Cost:
    return cost_table(function(body, arguments, outside, attributes), rows).total


def function(body: str, arguments: str, outside: str = "", attributes: str = "") -> ModuleOp:
    return parse(f"{outside}\nfunc.func @forward({arguments}) {attributes} {{\n{body}\nfunc.return\n}}")


LINEAR = """
  %w = ternary.load @w : tensor<3x4x!ternary.trit>
  %s = ternary.load @s : tensor<f32>
  %acc = ternary.accumulate %q, %w : tensor<?x4xi8>, tensor<3x4x!ternary.trit> -> tensor<?x3xi32>
  %y = ternary.dequantize %acc, %step, %s : tensor<?x3xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x3xf32>
"""
WEIGHTS = """
ternary.weight @w : tensor<3x4x!ternary.trit>
ternary.weight @s : tensor<f32>
"""


@pytest.mark.parametrize("rows", [1, 5])
def test_an_accumulate_adds_and_never_multiplies(rows: int) -> None:
    cost = total(LINEAR, "%q: tensor<?x4xi8>, %step: tensor<?xf32>", rows=rows, outside=WEIGHTS)
    assert cost.additions == rows * 3 * 4
    # acc * (step * scale): one product a row, one an element.
    assert cost.multiplications == rows + rows * 3
    assert cost.weights == {"trit": 12, "f32": 4}
    # accumulate reads q and writes acc; dequantize reads acc and step, writes y.
    assert cost.activations == rows * ((4 + 3 * 4) + (3 * 4 + 4 + 3 * 4))


def test_an_encoded_weight_counts_its_packed_bytes_with_padding() -> None:
    encoded = "tensor<3x300x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>"
    load = f"%w = ternary.load @w : {encoded}"
    cost = total(load, "", outside=f"ternary.weight @w : {encoded}")
    assert cost == Cost(weights={"i2": 4 * 512 // 4})


def test_an_embedding_reads_one_row_a_token() -> None:
    body = """
      %t = ternary.load @table : tensor<100x8xf16>
      %x = ternary.embedding %tokens, %t : tensor<?xi64>, tensor<100x8xf16> -> tensor<?x8xf32>
    """
    cost = total(body, "%tokens: tensor<?xi64>", rows=3, outside="ternary.weight @table : tensor<100x8xf16>")
    assert cost.weights == {"f16": 3 * 8 * 2}
    assert cost.activations == 3 * 8 + 3 * 8 * 4


def test_states_are_read_and_written() -> None:
    module = function(
        "", "%x: tensor<?xi64>, %a: tensor<8xf32>", attributes="attributes {sterna.states = 1 : i64}"
    )
    assert cost_table(module).total.state == 2 * 8 * 4


def test_a_scan_is_one_multiplication_and_one_addition_an_element() -> None:
    body = "%s, %l = ternary.scan %f, %i, %z : tensor<?x8xf32>, tensor<8xf32>"
    cost = total(body, "%f: tensor<?x8xf32>, %i: tensor<?x8xf32>, %z: tensor<8xf32>", rows=2)
    assert (cost.additions, cost.multiplications) == (16, 16)


def test_a_dense_matmul_multiplies() -> None:
    body = """
      %c = arith.constant 1 : index
      %y = linalg.matmul ins(%a, %b : tensor<2x4xf32>, tensor<4x3xf32>) outs(%o : tensor<2x3xf32>) -> tensor<2x3xf32>
    """
    cost = total(body, "%a: tensor<2x4xf32>, %b: tensor<4x3xf32>, %o: tensor<2x3xf32>")
    assert (cost.additions, cost.multiplications) == (24, 24)


def test_a_region_runs_once_an_element() -> None:
    body = """
      %y = ternary.elementwise (%a, %b : tensor<?x4xf32>, tensor<4xf32>) {
      ^bb0(%p : f32, %q : f32):
        %c = arith.constant 1.0 : f32
        %s = arith.addf %p, %c : f32
        %m = arith.mulf %s, %q : f32
        %d = arith.divf %m, %s : f32
        ternary.yield %d : f32
      } -> tensor<?x4xf32>
    """
    cost = total(body, "%a: tensor<?x4xf32>, %b: tensor<4xf32>", rows=2)
    assert (cost.additions, cost.multiplications, cost.other) == (8, 8, 8)


def test_a_function_counts_once_a_call_and_its_weights_stay_weights() -> None:
    module = parse("""
      ternary.weight @v : tensor<4xf32>
      func.func @forward(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
        %v = ternary.load @v : tensor<4xf32>
        %y = func.call @layer(%x, %v) : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
        %z = func.call @layer(%y, %v) : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
        func.return %z : tensor<?x4xf32>
      }
      func.func private @layer(%x: tensor<?x4xf32>, %v: tensor<4xf32>) -> tensor<?x4xf32> {
        %y = ternary.rms_norm %x, %v eps = 1.0e-06 lanes = 16 : tensor<?x4xf32>, tensor<4xf32>
        func.return %y : tensor<?x4xf32>
      }
    """)
    table = cost_table(module)
    assert [runs for _, runs in table.runs.items()] == [1, 2]
    assert table.total.multiplications == 2 * 3 * 4
    assert table.total.activations == 2 * (16 + 16)
    assert table.total.weights == {"f32": 16}


def test_recursion_has_no_endless_cost() -> None:
    module = parse("""
      func.func private @f(%x: tensor<4xf32>) -> tensor<4xf32> {
        %y = func.call @f(%x) : (tensor<4xf32>) -> tensor<4xf32>
        func.return %y : tensor<4xf32>
      }
    """)
    assert cost_table(module).total == Cost()


def test_norm_quantize_counts_its_formula() -> None:
    body = """
      %q, %s = ternary.norm_quantize %x gains(%g : tensor<8xf32>) eps = 1.0e-06 quantize_eps = 1.0e-05 lanes = 16
        : tensor<?x8xf32> -> (tensor<?x8xi8>), (tensor<?xf32>)
    """
    cost = total(body, "%x: tensor<?x8xf32>, %g: tensor<8xf32>")
    assert cost.additions == 8 + 1
    # x^2, x * g and y * (...) an element; r * (...) and max * r a row.
    assert cost.multiplications == 3 * 8 + 2


def test_a_reduction_combines_all_but_one_element_a_result() -> None:
    body = """
      %y = linalg.reduce ins(%x : tensor<?x8xf32>) outs(%o : tensor<?xf32>) dimensions = [1]
      (%a: f32, %b: f32) {
        %s = arith.addf %a, %b : f32
        linalg.yield %s : f32
      }
    """
    cost = total(body, "%x: tensor<?x8xf32>, %o: tensor<?xf32>", rows=3)
    assert (cost.additions, cost.multiplications) == (3 * 7, 0)
