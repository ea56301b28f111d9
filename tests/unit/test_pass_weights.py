"""What passes do with the numbers of a store."""

from __future__ import annotations

import numpy as np
import pytest
from xdsl.dialects.arith import AddfOp, MulfOp

from sterna.dialects.context import make_context, parse
from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import evaluate_weight, run
from sterna.dialects.weights import ArrayStore
from sterna.passes import PASSES
from sterna.passes.derived_weights import DerivedWeights

PLACE = 'loc("net.fc"("m.py":7:0))'
CLAIMED = f"""
ternary.weight @w : tensor<4x8xf32>
ternary.weight @t : tensor<4x8x!ternary.trit> {{
  %w = ternary.load @w : tensor<4x8xf32>
  %t, %s = ternary.ternarize %w : tensor<4x8xf32> -> tensor<4x8x!ternary.trit>, tensor<f32>
  ternary.yield %t : tensor<4x8x!ternary.trit>
}}
func.func @forward(%q: tensor<?x8xi8>) -> tensor<?x4xi32> {{
  %t = ternary.load @t : tensor<4x8x!ternary.trit>
  %a = ternary.accumulate %q, %t : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xi32> {PLACE}
  func.return %a : tensor<?x4xi32>
}}
"""
TERNARY = np.sign(np.random.default_rng(0).standard_normal((4, 8))).astype(np.float32) * np.float32(0.3)


@pytest.mark.parametrize("w", [TERNARY, np.zeros_like(TERNARY), TERNARY.astype(np.float16)])
def test_a_weight_of_one_magnitude_is_ternary(w: np.ndarray) -> None:
    PASSES["ternarize"]().apply(make_context(ArrayStore({"w": w})), parse(CLAIMED))


@pytest.mark.parametrize(
    ("w", "why"),
    [
        (TERNARY * np.linspace(1, 2, 8, dtype=np.float32), "8 distinct magnitudes"),
        (np.full((4, 8), np.nan, np.float32), "distinct magnitudes"),
        (TERNARY[:2], r"expected shape \(4, 8\), found \(2, 8\)"),
    ],
)
def test_a_weight_that_is_not_ternary_is_named_with_its_place(w: np.ndarray, why: str) -> None:
    with pytest.raises(CompileError, match=rf"m.py:7: net.fc ternary.accumulate \(@t, 4x8: .*{why}"):
        PASSES["ternarize"]().apply(make_context(ArrayStore({"w": w})), parse(CLAIMED))


def test_a_weight_that_the_store_lacks_is_named() -> None:
    with pytest.raises(CompileError, match="no tensor of this name"):
        PASSES["ternarize"]().apply(make_context(ArrayStore({})), parse(CLAIMED))


def test_ternary_weights_on_a_float_input_are_an_error_too() -> None:
    text = """
ternary.weight @w : tensor<8x4xf32>
func.func @forward(%x: tensor<?x8xf32>, %init: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %w = ternary.load @w : tensor<8x4xf32>
  %y = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x4xf32>) outs(%init : tensor<?x4xf32>) -> tensor<?x4xf32>
  func.return %y : tensor<?x4xf32>
}"""
    with pytest.raises(CompileError, match="ternary weights, but its input is not quantized to int8"):
        PASSES["ternarize"]().apply(make_context(ArrayStore({"w": TERNARY.reshape(8, 4)})), parse(text))


EMBEDDING = """
ternary.weight @table : tensor<5x8xf32>
func.func @forward(%t: tensor<?xi64>) -> tensor<?x8xf32> {
  %w = ternary.load @table : tensor<5x8xf32>
  %x = ternary.embedding %t, %w : tensor<?xi64>, tensor<5x8xf32> -> tensor<?x8xf32>
  func.return %x : tensor<?x8xf32>
}
"""
TIED = """
ternary.weight @trits : tensor<5x8x!ternary.trit> {
  %w = ternary.load @table : tensor<5x8xf32>
  %t, %s = ternary.absmean %w eps = 1.0e-05 : tensor<5x8xf32> -> tensor<5x8x!ternary.trit>, tensor<f32>
  ternary.yield %t : tensor<5x8x!ternary.trit>
}
"""


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        (EMBEDDING, "F16", "f16"),
        (EMBEDDING, "BF16", "bf16"),
        (EMBEDDING, "F32", "f32"),
        (EMBEDDING + TIED, "F16", "f32"),
        (EMBEDDING + TIED, "BF16", "f32"),
    ],
)
def test_an_embedding_table_keeps_the_width_that_it_is_stored_in(
    text: str, dtype: str, expected: str
) -> None:
    class Store(ArrayStore):
        def dtype(self, name: str) -> str:
            return dtype

    module = parse(text)
    ctx = make_context(Store({"table": np.zeros((5, 8), np.float16)}))
    PASSES["choose-encodings"]().apply(ctx, module)
    module.verify()
    assert f"ternary.weight @table : tensor<5x8x{expected}>" in str(module)
    assert f"ternary.load @table : tensor<5x8x{expected}>" in str(module)


def test_derived_weights_that_are_equal_are_one_and_others_get_other_names() -> None:
    module = parse("ternary.weight @a : tensor<2xf32>\nternary.weight @b : tensor<2xf32>")
    weights = DerivedWeights(module)
    names = [
        weights.derive("a.b", ["a", "b"], lambda v, op=op: op(v[0], v[1]))
        for op in (MulfOp, AddfOp, MulfOp, AddfOp)
    ]
    assert names == ["a.b", "a.b.1", "a.b", "a.b.1"]
    module.verify()
    store = ArrayStore({"a": np.array([2, 3], np.float32), "b": np.array([5, 7], np.float32)})
    assert evaluate_weight(module, "a.b", store).tolist() == [10, 21]
    assert evaluate_weight(module, "a.b.1", store).tolist() == [7, 10]


def test_what_depends_on_an_input_is_not_folded_wherever_the_input_stands() -> None:
    module = parse("""
ternary.weight @w : tensor<4xf32>
func.func @forward(%x: tensor<4xf32>) -> tensor<4xf32> {
  %w = ternary.load @w : tensor<4xf32>
  %y = arith.divf %w, %x : tensor<4xf32>
  %n = arith.negf %w : tensor<4xf32>
  %z = arith.subf %n, %y : tensor<4xf32>
  func.return %z : tensor<4xf32>
}
""")
    PASSES["fold-weights"]().apply(make_context(), module)
    module.verify()
    text = str(module)
    assert "ternary.weight @w.folded" in text
    assert (
        "arith.divf" in text.partition("func.func")[2] and "arith.negf" not in text.partition("func.func")[2]
    )
    w, x = np.array([1, 2, 3, 4], np.float32), np.array([2, 4, 8, 16], np.float32)
    (z,) = run(module, [x], weights=ArrayStore({"w": w}))
    np.testing.assert_array_equal(z, -w - w / x)


MAPS = "[affine_map<(d0, d1) -> (d1)>, affine_map<(d0, d1) -> ({})>, affine_map<(d0, d1) -> (d0)>]"


@pytest.mark.parametrize(
    ("map", "right", "made"),
    [
        ("d1", "tensor<2xi32>", "tensor.splat %c : tensor<2xi32>"),
        ("d1, d0", "tensor<2x?xi32>", "tensor.splat %c[%T] : tensor<2x?xi32>"),
    ],
)
def test_a_product_that_is_none_of_a_matrix_stays_whole(map: str, right: str, made: str) -> None:
    """Its sums are the same along an axis, or there is no matrix of one size; nothing is left that reads its values."""
    module = parse(f"""
      func.func @forward(%x : tensor<?xi32>) -> tensor<?xi32> {{
        %zero = arith.constant 0 : index
        %T = tensor.dim %x, %zero : tensor<?xi32>
        %c = arith.constant 2599 : i32
        %a = tensor.splat %c : tensor<2xi32>
        %b = {made}
        %y = linalg.generic {{indexing_maps = {MAPS.format(map)}, iterator_types = ["parallel", "reduction"]}}
          ins(%a, %b : tensor<2xi32>, {right}) outs(%x : tensor<?xi32>) {{
        ^bb0(%p : i32, %q : i32, %total : i32):
          %product = arith.muli %p, %q : i32
          %sum = arith.addi %total, %product : i32
          linalg.yield %sum : i32
        }} -> tensor<?xi32>
        func.return %y : tensor<?xi32>
      }}""")
    x = np.arange(3, dtype=np.int32)
    (before,) = run(module, [x])
    PASSES["raise-ternary-products"]().apply(make_context(ArrayStore({})), module)
    assert np.array_equal(run(module, [x])[0], before)
    for op in module.walk():
        for use in (use for result in op.results for use in result.uses):
            assert use.operation.parent is not None, f"{use.operation.name} is in no program"


def test_what_a_region_reads_goes_into_the_weight_with_it() -> None:
    module = parse("""
      ternary.weight @w : tensor<3xf32>
      func.func @forward() -> tensor<5xf32> {
        %w = ternary.load @w : tensor<3xf32>
        %half = arith.constant 0.5 : f32
        %y = tensor.pad %w low[1] high[1] {
        ^bb0(%i : index):
          tensor.yield %half : f32
        } : tensor<3xf32> to tensor<5xf32>
        func.return %y : tensor<5xf32>
      }""")
    store = ArrayStore({"w": np.arange(3, dtype=np.float32)})
    PASSES["fold-weights"]().apply(make_context(store), module)
    module.verify()
    (y,) = run(module, [], weights=store)
    assert np.array_equal(y, np.array([0.5, 0, 1, 2, 0.5], np.float32))
