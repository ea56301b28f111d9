"""Every operation of the `ternary` dialect: its text reads back, and its verifier says what is wrong."""

from __future__ import annotations

from typing import TypeVar

import pytest
from xdsl.dialects.arith import AddfOp
from xdsl.dialects.builtin import DYNAMIC_INDEX, FunctionType, ModuleOp, TensorType, f32, i8
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Operation, Region, SSAValue

from sterna.dialects.context import parse
from sterna.dialects.encodings import EncodingAttr, TritType
from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import (
    AbsmeanOp,
    AccumulateOp,
    DequantizeOp,
    ElementwiseOp,
    EmbeddingOp,
    LoadOp,
    NormQuantizeOp,
    ProjectOp,
    QuantizeOp,
    RmsNormOp,
    ScanOp,
    TernarizeOp,
    Ternary,
    ThresholdOp,
    WeightOp,
    YieldOp,
    find_weight,
    scalar_region,
)

Op = TypeVar("Op", bound=Operation)

VALUES = {
    "x": "tensor<?x8xf32>",
    "y": "tensor<?x6xf32>",
    "vector": "tensor<8xf32>",
    "short": "tensor<6xf32>",
    "scale": "tensor<f32>",
    "q": "tensor<?x8xi8>",
    "step": "tensor<?xf32>",
    "acc": "tensor<?x6xi32>",
    "w": "tensor<6x8xf32>",
    "trits": "tensor<6x8x!ternary.trit>",
    "bits": "tensor<6x8x!ternary.bit>",
    "encoded": "tensor<6x8x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>",
    "tokens": "tensor<?xi64>",
    "table": "tensor<9x8xf16>",
    "one": "tensor<8xf32>",
    "image": "tensor<?x5x16xf32>",
    "start": "tensor<i64>",
    "angles": "tensor<?x2xf32>",
    "half": "tensor<?x4xf32>",
    "cache": "tensor<9x4xf32>",
}
"""Names and types of the function arguments that the examples use."""

EXAMPLES = """
%r = ternary.embedding %tokens, %table : tensor<?xi64>, tensor<9x8xf16> -> tensor<?x8xf32>
%r = ternary.accumulate %x, %trits : tensor<?x8xf32>, tensor<6x8x!ternary.trit> -> tensor<?x6xf32>
%r = ternary.accumulate %image, %trits groups = 2 : tensor<?x5x16xf32>, tensor<6x8x!ternary.trit> -> tensor<?x5x6xf32>
%r = ternary.dequantize %acc, %scale, %short : tensor<?x6xi32>, tensor<f32>, tensor<6xf32> -> tensor<?x6xf32>
%r = ternary.convolve %image, %trits groups = 6 leading = 1 axes = [1] sizes = [3] strides = [1] dilations = [2] \
low = [2] high = [2] padding = 0.000000e+00 : f32 : tensor<?x5x16xf32>, tensor<6x8x!ternary.trit> -> tensor<?x5x6xf32>
%r = ternary.threshold %y, %w base = -4 : tensor<?x6xf32>, tensor<6x8xf32> -> tensor<?x6xi8>
%r, %s = ternary.ternarize %w : tensor<6x8xf32> -> tensor<6x8x!ternary.trit>, tensor<6xf32>
%r = ternary.windows %image leading = 1 axes = [2] sizes = [3] strides = [2] dilations = [1] low = [1] high = [0] \
padding = 0.000000e+00 : f32 : tensor<?x5x16xf32> -> tensor<?x8x5x3xf32>
%r = ternary.gather %w, %tokens axis = 1 : tensor<6x8xf32>, tensor<?xi64> -> tensor<6x?xf32>
%r, %s = ternary.top_k %w k = 3 order = "largest" : tensor<6x8xf32> -> tensor<6x3xf32>, tensor<6x3xi64>
%r, %s = ternary.top_k %w k = 1 order = "smallest" : tensor<6x8xf32> -> tensor<6xf32>, tensor<6xi64>
%r = ternary.rms_norm %x, %vector eps = 1.000000e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
%r, %s = ternary.quantize %x eps = 1.000000e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
%r, %s = ternary.quantize %one eps = 1.000000e-05 : tensor<8xf32> -> tensor<8xi8>, tensor<f32>
%r, %s = ternary.absmean %w eps = 1.000000e-05 : tensor<6x8xf32> -> tensor<6x8x!ternary.trit>, tensor<f32>
%r, %s = ternary.ternarize %w : tensor<6x8xf32> -> tensor<6x8x!ternary.trit>, tensor<f32>
%r = ternary.accumulate %q, %trits : tensor<?x8xi8>, tensor<6x8x!ternary.trit> -> tensor<?x6xi32>
%r = ternary.accumulate %q, %bits : tensor<?x8xi8>, tensor<6x8x!ternary.bit> -> tensor<?x6xi32>
%r = ternary.dequantize %acc, %step, %scale : tensor<?x6xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x6xf32>
%r, %s = ternary.scan %y, %y, %short : tensor<?x6xf32>, tensor<6xf32>
%r, %s = ternary.norm_quantize %x gains(%vector : tensor<8xf32>) eps = 1.000000e-06 quantize_eps = 1.000000e-05 \
lanes = 16 : tensor<?x8xf32> -> (tensor<?x8xi8>), (tensor<?xf32>)
%r, %s, %t, %u = ternary.norm_quantize %x of %one : tensor<8xf32> outer_eps = 1.000000e-06 \
gains(%vector, %one : tensor<8xf32>, tensor<8xf32>) eps = 1.000000e-08 quantize_eps = 1.000000e-05 lanes = 16 \
: tensor<?x8xf32> -> (tensor<?x8xi8>, tensor<?x8xi8>), (tensor<?xf32>, tensor<?xf32>)
%r, %s = ternary.positions %start of %tokens capacity = 9 : tensor<i64>, tensor<?xi64> -> tensor<?xi64>, tensor<i64>
%r = ternary.rotate %x by %angles, %angles : tensor<?x8xf32>, tensor<?x2xf32>
%r, %s, %t = ternary.attention %x, %half, %half at %tokens cache %cache, %cache heads = 4 kv_heads = 2 \
scale = 5.000000e-01 block = 16 lanes = 16 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi64>, tensor<9x4xf32>
%r = ternary.elementwise(%y, %short, %scale : tensor<?x6xf32>, tensor<6xf32>, tensor<f32>) { \
^bb0(%a: f32, %b: f32, %c: f32): \
%d = arith.mulf %a, %b : f32 \
%e = arith.addf %d, %c : f32 \
ternary.yield %e : f32 \
} -> tensor<?x6xf32>
%r = ternary.project quantized(%q : tensor<?x8xi8>) steps(%step : tensor<?xf32>) \
weights(%encoded : tensor<6x8x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>) \
scales(%scale : tensor<f32>) reads = [0] { \
^bb0(%a: f32): \
ternary.yield %a : f32 \
} -> tensor<?x6xf32>
%r = ternary.project quantized(%q, %q : tensor<?x8xi8>, tensor<?x8xi8>) \
steps(%step, %step : tensor<?xf32>, tensor<?xf32>) \
weights(%trits, %trits : tensor<6x8x!ternary.trit>, tensor<6x8x!ternary.trit>) \
scales(%scale, %scale : tensor<f32>, tensor<f32>) reads = [1, 0] with(%short : tensor<6xf32>) { \
^bb0(%a: f32, %b: f32, %c: f32): \
%d = arith.mulf %a, %b : f32 \
ternary.yield %d : f32 \
} -> tensor<?x6xf32>
"""

MODULE_EXAMPLES = """
ternary.weight @w : tensor<4x8xf32>
ternary.weight @"model.layers.0.w" attributes {offset = 64 : i64} : tensor<4x8xf16>
ternary.weight @w : tensor<4x8x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>
ternary.weight @half : tensor<f32> { %c = arith.constant dense<5.000000e-01> : tensor<f32> \
 ternary.yield %c : tensor<f32> }
func.func @f() -> tensor<4xf32> { %w = ternary.load @w : tensor<4xf32> func.return %w : tensor<4xf32> }
"""


def wrap(line: str) -> str:
    """A function around one operation, with every value of VALUES as an argument."""
    arguments = ", ".join(f"%{name} : {type}" for name, type in VALUES.items())
    return f"func.func @f({arguments}) {{\n{line}\nfunc.return\n}}"


def lines(text: str) -> list[str]:
    return text.strip().split("\n")


TEXTS = [*map(wrap, lines(EXAMPLES)), *lines(MODULE_EXAMPLES)]


@pytest.mark.parametrize("text", TEXTS)
def test_text_reads_back_as_it_was_printed(text: str) -> None:
    module = parse(text)
    printed = str(module)
    again = parse(printed)
    assert str(again) == printed
    assert again.is_structurally_equivalent(module)


@pytest.mark.parametrize("line", lines(EXAMPLES))
def test_the_examples_are_written_as_they_are_printed(line: str) -> None:
    printed = " ".join(str(parse(wrap(line))).split())
    assert " ".join(line.split()) in printed


def test_every_operation_has_an_example() -> None:
    met = {op.name for text in TEXTS for op in parse(text).walk()}
    assert {op.name for op in Ternary.operations} <= met


WRONG = """
%r, %s = ternary.positions %step of %tokens capacity = 9 : tensor<?xf32>, tensor<?xi64> -> tensor<?xi64>, tensor<i64>
    start is tensor<i64>
%r, %s = ternary.positions %start of %scale capacity = 9 : tensor<i64>, tensor<f32> -> tensor<?xi64>, tensor<i64>
    leading axis
%r, %s = ternary.positions %start of %tokens capacity = 9 : tensor<i64>, tensor<?xi64> -> tensor<9xi64>, tensor<i64>
    positions is tensor<?xi64>
%r, %s = ternary.positions %start of %tokens capacity = 0 : tensor<i64>, tensor<?xi64> -> tensor<?xi64>, tensor<i64>
    at least 1
%r = ternary.rotate %y by %angles, %angles : tensor<?x6xf32>, tensor<?x2xf32>
    heads of 4
%r = ternary.rotate %x by %one, %one : tensor<?x8xf32>, tensor<8xf32>
    the same rows
%r = ternary.rotate %q by %angles, %angles : tensor<?x8xi8>, tensor<?x2xf32>
    x is
%r, %s, %t = ternary.attention %x, %half, %half at %tokens cache %cache, %cache heads = 4 kv_heads = 3 \
scale = 1.0 block = 16 lanes = 16 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi64>, tensor<9x4xf32>
    3 heads of keys divide 4
%r, %s, %t = ternary.attention %x, %half, %half at %tokens cache %cache, %cache heads = 4 kv_heads = 4 \
scale = 1.0 block = 16 lanes = 16 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi64>, tensor<9x4xf32>
    k is tensor<?x8xf32>
%r, %s, %t = ternary.attention %y, %half, %half at %tokens cache %cache, %cache heads = 4 kv_heads = 2 \
scale = 1.0 block = 16 lanes = 16 : tensor<?x6xf32>, tensor<?x4xf32>, tensor<?xi64>, tensor<9x4xf32>
    4 heads divide the 6 columns
%r, %s, %t = ternary.attention %x, %half, %half at %tokens cache %half, %half heads = 4 kv_heads = 2 \
scale = 1.0 block = 16 lanes = 16 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi64>, tensor<?x4xf32>
    static number of rows
%r, %s, %t = ternary.attention %x, %half, %half at %tokens cache %w, %w heads = 4 kv_heads = 2 \
scale = 1.0 block = 16 lanes = 16 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi64>, tensor<6x8xf32>
    keys is tensor<6x4xf32>
%r, %s, %t = ternary.attention %x, %half, %half at %step cache %cache, %cache heads = 4 kv_heads = 2 \
scale = 1.0 block = 16 lanes = 16 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xf32>, tensor<9x4xf32>
    positions is
%r, %s, %t = ternary.attention %x, %half, %half at %tokens cache %cache, %cache heads = 4 kv_heads = 2 \
scale = 1.0 block = 16 lanes = 3 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi64>, tensor<9x4xf32>
    power of two
%r, %s, %t = ternary.attention %x, %half, %half at %tokens cache %cache, %cache heads = 4 kv_heads = 2 \
scale = 1.0 block = 24 lanes = 16 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi64>, tensor<9x4xf32>
    a block is a power of two of rows
%r, %s, %t = ternary.attention %x, %half, %half at %tokens cache %cache, %cache heads = 4 kv_heads = 2 \
scale = 1.0 block = 8 lanes = 16 : tensor<?x8xf32>, tensor<?x4xf32>, tensor<?xi64>, tensor<9x4xf32>
    no fewer than lanes
%r = ternary.embedding %tokens, %one : tensor<?xi64>, tensor<8xf32> -> tensor<?x8xf32>
    two axes
%r = ternary.embedding %tokens, %table : tensor<?xi64>, tensor<9x8xf16> -> tensor<?x9xf32>
    is tensor<?x8xf32>
%r = ternary.embedding %tokens, %table : tensor<?xi64>, tensor<9x8xf16> -> tensor<?x8xf16>
    is tensor<?x8xf32>
%r = ternary.embedding %step, %table : tensor<?xf32>, tensor<9x8xf16> -> tensor<?x8xf32>
    integers
%r = ternary.embedding %tokens, %trits : tensor<?xi64>, tensor<6x8x!ternary.trit> -> tensor<?x8xf32>
    f32, f16 or bf16
%r = ternary.rms_norm %x, %short eps = 1.0 lanes = 16 : tensor<?x8xf32>, tensor<6xf32>
    the weight is
%r = ternary.rms_norm %q, %vector eps = 1.0 lanes = 16 : tensor<?x8xi8>, tensor<8xf32>
    x is
%r = ternary.rms_norm %x, %vector eps = 1.0 lanes = 12 : tensor<?x8xf32>, tensor<8xf32>
    power of two
%r = ternary.rms_norm %x, %vector eps = 1.0 lanes = 0 : tensor<?x8xf32>, tensor<8xf32>
    power of two
%r, %s = ternary.quantize %q eps = 1.0 : tensor<?x8xi8> -> tensor<?x8xi8>, tensor<?xf32>
    x is
%r, %s = ternary.quantize %x eps = 1.0 : tensor<?x8xf32> -> tensor<?x8xi32>, tensor<?xf32>
    q is
%r, %s = ternary.quantize %x eps = 1.0 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?x8xf32>
    step is
%r, %s = ternary.quantize %scale eps = 1.0 : tensor<f32> -> tensor<i8>, tensor<f32>
    last axis
%r, %s = ternary.absmean %w eps = 1.0 : tensor<6x8xf32> -> tensor<6x9x!ternary.trit>, tensor<f32>
    trits is
%r, %s = ternary.absmean %w eps = 1.0 : tensor<6x8xf32> -> tensor<6x8x!ternary.trit>, tensor<1xf32>
    scale is
%r, %s = ternary.absmean %acc eps = 1.0 : tensor<?x6xi32> -> tensor<?x6x!ternary.trit>, tensor<f32>
    w is
%r, %s = ternary.ternarize %w : tensor<6x8xf32> -> tensor<8x6x!ternary.trit>, tensor<f32>
    trits is
%r, %s = ternary.ternarize %w : tensor<6x8xf32> -> tensor<6x8xi8>, tensor<f32>
    trits is
%r = ternary.accumulate %q, %w : tensor<?x8xi8>, tensor<6x8xf32> -> tensor<?x6xi32>
    trits or bits
%r = ternary.accumulate %acc, %trits : tensor<?x6xi32>, tensor<6x8x!ternary.trit> -> tensor<?x6xi32>
    6 columns, w has 8
%r = ternary.accumulate %x, %trits : tensor<?x8xf32>, tensor<6x8x!ternary.trit> -> tensor<?x6xi32>
    acc is
%r = ternary.accumulate %tokens, %trits : tensor<?xi64>, tensor<6x8x!ternary.trit> -> tensor<6xi32>
    columns
%r = ternary.accumulate %q, %trits groups = 2 : tensor<?x8xi8>, tensor<6x8x!ternary.trit> -> tensor<?x6xi32>
    for each of 2 groups
%r = ternary.accumulate %q, %trits groups = 4 : tensor<?x8xi8>, tensor<6x8x!ternary.trit> -> tensor<?x6xi32>
    4 groups do not divide 6
%r = ternary.convolve %q, %trits leading = 0 axes = [1] sizes = [3] strides = [1] dilations = [1] low = [0] high = [0] \
padding = 0 : i8 : tensor<?x8xi8>, tensor<6x8x!ternary.trit> -> tensor<6x6xi32>
    static size
%r = ternary.convolve %q, %trits leading = 1 axes = [1] sizes = [3] strides = [1] dilations = [1] low = [0] high = [0] \
padding = 0 : i8 : tensor<?x8xi8>, tensor<6x8x!ternary.trit> -> tensor<?x6x6xi32>
    a window has 3 elements, w has 8
%r = ternary.convolve %q, %trits leading = 1 axes = [1] sizes = [8] strides = [1] dilations = [1] low = [0] high = [0] \
padding = 0.0 : f32 : tensor<?x8xi8>, tensor<6x8x!ternary.trit> -> tensor<?x6xi32>
    the padding is of i8
%r = ternary.convolve %q, %trits leading = 1 axes = [1] sizes = [8] strides = [1] dilations = [1] low = [0] high = [0] \
padding = 0 : i8 : tensor<?x8xi8>, tensor<6x8x!ternary.trit> -> tensor<?x1x6xi32>
    acc is
%r = ternary.threshold %acc, %w base = 0 : tensor<?x6xi32>, tensor<6x8xf32> -> tensor<?x6xi8>
    thresholds is
%r = ternary.threshold %acc, %short base = 0 : tensor<?x6xi32>, tensor<6xf32> -> tensor<?x6xi8>
    one row for each of 6
%r = ternary.threshold %y, %w base = 120 : tensor<?x6xf32>, tensor<6x8xf32> -> tensor<?x6xi8>
    not all int8
%r = ternary.threshold %q, %w base = 0 : tensor<?x8xi8>, tensor<6x8xf32> -> tensor<?x8xi8>
    x is of i32 or f32
%r, %s = ternary.ternarize %w : tensor<6x8xf32> -> tensor<6x8x!ternary.trit>, tensor<8xf32>
    scale is
%r = ternary.accumulate %q, %trits : tensor<?x8xi8>, tensor<6x8x!ternary.trit> -> tensor<?x7xi32>
    acc is
%r = ternary.accumulate %q, %trits : tensor<?x8xi8>, tensor<6x8x!ternary.trit> -> tensor<?x6xf32>
    acc is
%r = ternary.dequantize %acc, %x, %scale : tensor<?x6xi32>, tensor<?x8xf32>, tensor<f32> -> tensor<?x6xf32>
    step is
%r = ternary.dequantize %acc, %step, %step : tensor<?x6xi32>, tensor<?xf32>, tensor<?xf32> -> tensor<?x6xf32>
    scale is
%r = ternary.dequantize %acc, %step, %scale : tensor<?x6xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x6xi32>
    result is
%r = ternary.dequantize %y, %step, %scale : tensor<?x6xf32>, tensor<?xf32>, tensor<f32> -> tensor<?x6xf32>
    acc is
%r, %s = ternary.scan %y, %y, %vector : tensor<?x6xf32>, tensor<8xf32>
    init is
%r, %s = ternary.scan %short, %short, %scale : tensor<6xf32>, tensor<f32>
    [T, D]
%r, %s = ternary.norm_quantize %x gains(%short : tensor<6xf32>) eps = 1.0 quantize_eps = 1.0 lanes = 16 \
: tensor<?x8xf32> -> (tensor<?x8xi8>), (tensor<?xf32>)
    a gain is
%r, %s = ternary.norm_quantize %x gains(%vector : tensor<8xf32>) eps = 1.0 quantize_eps = 1.0 lanes = 16 \
: tensor<?x8xf32> -> (tensor<?x6xi8>), (tensor<?xf32>)
    q is
%r, %s, %t = ternary.norm_quantize %x gains(%vector : tensor<8xf32>) eps = 1.0 quantize_eps = 1.0 lanes = 16 \
: tensor<?x8xf32> -> (tensor<?x8xi8>, tensor<?x8xi8>), (tensor<?xf32>)
    one q and one step
%r = ternary.elementwise(%x : tensor<?x8xf32>) \
{ ^bb0(%a: f32): ternary.yield %a : f32 } -> tensor<?x6xf32>
    does not broadcast
%r = ternary.elementwise(%q : tensor<?x8xi8>) \
{ ^bb0(%a: f32): ternary.yield %a : f32 } -> tensor<?x8xf32>
    the region takes 1 arguments of type i8
%r = ternary.elementwise(%x : tensor<?x8xf32>) \
{ ^bb0(%a: f32): ternary.yield %a : f32 } -> tensor<?x8xi32>
    the region ends in a ternary.yield of one i32 a result
%r = ternary.elementwise(%x : tensor<?x8xf32>) \
{ ^bb0: %a = arith.constant 1.0 : f32 ternary.yield %a : f32 } -> tensor<?x8xf32>
    takes 1 arguments
%r = ternary.elementwise(%x : tensor<?x8xf32>) \
{ ^bb0(%a: f32): ternary.yield %a, %a : f32, f32 } -> tensor<?x8xf32>
    one f32 a result
%r = ternary.windows %image leading = 3 axes = [2] sizes = [3] strides = [2] \
dilations = [1] low = [1] high = [0] padding = 0.0 : f32 : tensor<?x5x16xf32> -> tensor<?x8x5x3xf32>
    axes increase
%r = ternary.windows %image leading = 1 axes = [3] sizes = [3] strides = [2] \
dilations = [1] low = [1] high = [0] padding = 0.0 : f32 : tensor<?x5x16xf32> -> tensor<?x8x5x3xf32>
    below 3
%r = ternary.windows %image leading = 1 axes = [] sizes = [] strides = [] \
dilations = [1] low = [1] high = [0] padding = 0.0 : f32 : tensor<?x5x16xf32> -> tensor<?x8x5x3xf32>
    an axis or more
%r = ternary.windows %image leading = 1 axes = [2] sizes = [3, 3] strides = [2] \
dilations = [1] low = [1] high = [0] padding = 0.0 : f32 : tensor<?x5x16xf32> -> tensor<?x8x5x3xf32>
    for each of 1 axes
%r = ternary.windows %image leading = 1 axes = [2] sizes = [3] strides = [0] \
dilations = [1] low = [1] high = [0] padding = 0.0 : f32 : tensor<?x5x16xf32> -> tensor<?x8x5x3xf32>
    expected 1 or more
%r = ternary.windows %image leading = 1 axes = [2] sizes = [18] strides = [2] \
dilations = [1] low = [1] high = [0] padding = 0.0 : f32 : tensor<?x5x16xf32> -> tensor<?x8x5x3xf32>
    longer than axis 2
%r = ternary.windows %image leading = 1 axes = [2] sizes = [3] strides = [1] \
dilations = [1] low = [1] high = [0] padding = 0.0 : f32 : tensor<?x5x16xf32> -> tensor<?x8x5x3xf32>
    the result is
%r = ternary.windows %image leading = 1 axes = [2] sizes = [3] strides = [2] \
dilations = [1] low = [1] high = [0] padding = 0 : i32 : tensor<?x5x16xf32> -> tensor<?x8x5x3xf32>
    padding is of f32
%r = ternary.windows %image leading = 0 axes = [0] sizes = [3] strides = [1] \
dilations = [1] low = [1] high = [0] padding = 0.0 : f32 : tensor<?x5x16xf32> -> tensor<?x8x5x3xf32>
    a dynamic axis slides by 1
%r = ternary.windows %image leading = 1 axes = [2] sizes = [99999999999999999999] strides = [1] \
dilations = [1] low = [1] high = [0] padding = 0.0 : f32 : tensor<?x5x16xf32> -> tensor<?x8x5x3xf32>
    do not fit 64 bits
%r = ternary.gather %w, %x axis = 1 : tensor<6x8xf32>, tensor<?x8xf32> -> tensor<6x?x8xf32>
    indices are integers
%r = ternary.gather %w, %tokens axis = 2 : tensor<6x8xf32>, tensor<?xi64> -> tensor<6x?xf32>
    no axis 2
%r = ternary.gather %w, %tokens axis = 0 : tensor<6x8xf32>, tensor<?xi64> -> tensor<6x?xf32>
    the result is
%r, %s = ternary.top_k %w k = 9 order = "largest" : tensor<6x8xf32> -> tensor<6x9xf32>, tensor<6x9xi64>
    k is 1 to 8
%r, %s = ternary.top_k %w k = 2 order = "sorted" : tensor<6x8xf32> -> tensor<6x2xf32>, tensor<6x2xi64>
    largest or smallest
%r, %s = ternary.top_k %w k = 2 order = "largest" : tensor<6x8xf32> -> tensor<6x2xf32>, tensor<6x2xi32>
    indices is
ternary.project quantized(%q : tensor<?x8xi8>) steps(%step : tensor<?xf32>) \
weights(%w : tensor<6x8xf32>) scales(%scale : tensor<f32>) reads = [0] \
{ ^bb0(%a: f32): ternary.yield %a : f32 } -> tensor<?x6xf32>
    trits or bits
ternary.project quantized(%q : tensor<?x8xi8>) steps(%step : tensor<?xf32>) \
weights(%trits : tensor<6x8x!ternary.trit>) scales(%scale : tensor<f32>) reads = [1] \
{ ^bb0(%a: f32): ternary.yield %a : f32 } -> tensor<?x6xf32>
    by number
ternary.project quantized(%q : tensor<?x8xi8>) steps(%step : tensor<?xf32>) \
weights(%trits : tensor<6x8x!ternary.trit>) scales(%step : tensor<?xf32>) reads = [0] \
{ ^bb0(%a: f32): ternary.yield %a : f32 } -> tensor<?x6xf32>
    a scale is
ternary.project quantized(%q : tensor<?x8xi8>) steps(%step : tensor<?xf32>) \
weights(%trits : tensor<6x8x!ternary.trit>) scales(%scale : tensor<f32>) reads = [0] \
{ ^bb0(%a: f32): ternary.yield %a : f32 } -> tensor<?x8xf32>
    a result is
"""
"""An operation, then, indented, what its verifier says of it."""


@pytest.mark.parametrize(("line", "complaint"), [*zip(lines(WRONG)[::2], lines(WRONG)[1::2], strict=True)])
def test_wrong_types_are_rejected(line: str, complaint: str) -> None:
    with pytest.raises(CompileError) as raised:
        parse(wrap(line))
    assert complaint.strip() in str(raised.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ternary.weight @w : tensor<f32> { }", "expected a single block"),
        ("ternary.weight @w : tensor<f32> { %c = arith.constant dense<1.0> : tensor<2xf32> "
         "ternary.yield %c : tensor<2xf32> }", "but the weight is"),
        ("ternary.weight @w : tensor<f32> { %c = arith.constant dense<1> : tensor<i32> "
         "ternary.yield %c : tensor<i32> }", "but the weight is"),
        ("ternary.weight @w : tensor<f32>\nternary.weight @w : tensor<f32>", "Redefinition"),
    ],
)  # fmt: skip
def test_wrong_weights_are_rejected(text: str, complaint: str) -> None:
    with pytest.raises(CompileError) as raised:
        parse(text)
    assert complaint in str(raised.value)


def test_builders_make_what_the_text_says() -> None:
    """Every constructor, from types alone: the result types are inferred."""
    trits = TensorType(TritType(), [6, 8], EncodingAttr.i2())
    x, weight, gain = TensorType(f32, [DYNAMIC_INDEX, 8]), TensorType(f32, [6, 8]), TensorType(f32, [8])
    function = FuncOp("f", FunctionType.from_lists([x, TensorType(f32, [6])], []))
    rows, state = function.body.block.args

    def emit(op: Op) -> Op:
        function.body.block.add_op(op)
        return op

    def sum_of(arguments: int) -> Region:
        region = scalar_region([f32] * arguments)
        total: SSAValue = region.block.args[0]
        for argument in region.block.args[1:]:
            op = AddfOp(total, argument)
            region.block.add_op(op)
            total = op.result
        region.block.add_op(YieldOp(total))
        return region

    w, t, g = emit(LoadOp("w", weight)), emit(LoadOp("t", trits)), emit(LoadOp("g", gain))
    absmean, exact = emit(AbsmeanOp(w.result, 1e-5)), emit(TernarizeOp(w.result))
    normed = emit(RmsNormOp(rows, g.result, 1e-6))
    quantized = emit(QuantizeOp(normed.result, 1e-5))
    acc = emit(AccumulateOp(quantized.q, absmean.trits))
    channels = emit(TernarizeOp(w.result, per_channel=True))
    y = emit(DequantizeOp(acc.acc, quantized.step, channels.scale))
    emit(ThresholdOp(emit(AccumulateOp(normed.result, exact.trits)).acc, w.result, -4))
    emit(ScanOp(y.result, y.result, state))
    fused = emit(
        NormQuantizeOp(
            rows, [g.result, g.result], eps=1e-6, quantize_eps=1e-5, outer=g.result, outer_eps=1e-6
        )
    )
    emit(ElementwiseOp([y.result, y.result], sum_of(2), [y.result.type]))
    emit(
        ProjectOp(
            fused.q,
            fused.step,
            [t.result, t.result],
            [exact.scale, absmean.scale],
            [y.result],
            [0, 1],
            sum_of(3),
            [y.result.type],
        )
    )
    tokens: Attribute = TensorType(i8, [DYNAMIC_INDEX])
    token_values = function.body.block.insert_arg(tokens, 2)
    function.update_function_type()
    emit(EmbeddingOp(token_values, w.result))
    emit(ReturnOp())
    module = ModuleOp([WeightOp("w", weight), WeightOp("t", trits), WeightOp("g", gain), function])
    module.verify()
    assert parse(str(module)).is_structurally_equivalent(module)
    assert find_weight(module, "t") is not None
    assert find_weight(module, "u") is None
