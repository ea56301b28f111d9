"""The report of linear layers: names of the source, what the weights are, the activations' bits, the operation."""

from __future__ import annotations

from sterna.dialects.context import parse
from sterna.passes.linear_layers import linear_layers

MODULE = """
ternary.weight @fc1.weight.folded.trits.1 : tensor<6x8x!ternary.trit>
ternary.weight @fc2.weight.trits : tensor<4x6x!ternary.bit>
ternary.weight @head.weight : tensor<4x3xf32>
func.func @forward(%x : tensor<?x8xf32>, %steps : tensor<6x3xi32>, %init : tensor<?x3xf32>) -> tensor<?x3xf32> {
  %a = ternary.load @fc1.weight.folded.trits.1 : tensor<6x8x!ternary.trit>
  %y = ternary.accumulate %x, %a : tensor<?x8xf32>, tensor<6x8x!ternary.trit> -> tensor<?x6xf32>
  %t = ternary.load @fc2.weight.trits : tensor<4x6x!ternary.bit>
  %f = arith.constant dense<0.0> : tensor<6x3xf32>
  %q = ternary.threshold %y, %f base = -1 : tensor<?x6xf32>, tensor<6x3xf32> -> tensor<?x6xi8>
  %acc = ternary.accumulate %q, %t : tensor<?x6xi8>, tensor<4x6x!ternary.bit> -> tensor<?x4xi32>
  %step = arith.constant dense<0.5> : tensor<f32>
  %z = ternary.dequantize %acc, %step, %step : tensor<?x4xi32>, tensor<f32>, tensor<f32> -> tensor<?x4xf32>
  %h = ternary.load @head.weight : tensor<4x3xf32>
  %o = linalg.matmul ins(%z, %h : tensor<?x4xf32>, tensor<4x3xf32>) outs(%init : tensor<?x3xf32>) -> tensor<?x3xf32>
  func.return %o : tensor<?x3xf32>
}
"""


def test_every_layer_is_listed_by_the_name_of_its_source() -> None:
    assert [str(layer) for layer in linear_layers(parse(MODULE))] == [
        "fc1: 6x8 ternary, f32 activations, ternary.accumulate",
        "fc2: 4x6 binary, 2-bit activations, ternary.accumulate",
        "head: 4x3 float, f32 activations, linalg.matmul",
    ]
