"""What quantizers and exporters write into ONNX files runs on the ternary kernels, and computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.context import make_context
from sterna.dialects.interpreter import run
from sterna.dialects.ternary import AccumulateOp, ConvolveOp, QuantizeOp
from sterna.frontends.onnx.frontend import OnnxFrontend
from sterna.passes import PASSES
from sterna.passes.linear_layers import linear_layers
from tests.onnx_programs import Array, by_onnxruntime, finished, in_ir

SEEDS = st.integers(0, 2**32 - 1)
RAISING = ("raise-bit-linear", "fold-weights", "raise-ternary-products", "fuse-convolutions", "ternarize")


def results(model: onnx.ModelProto, x: Array) -> tuple[ModuleOp, Array, Array]:
    """The raised module, and what the model computes as imported and as raised."""
    imported = OnnxFrontend().load(model)
    (expected,) = run(imported.module, [in_ir(x)], weights=imported.weights)
    context = make_context(imported.weights)
    for name in RAISING:
        PASSES[name]().apply(context, imported.module)
        imported.module.verify()
    (found,) = run(imported.module, [in_ir(x)], weights=imported.weights)
    return imported.module, expected, found


def count(module: ModuleOp, kind: type) -> int:
    return sum(isinstance(op, kind) for op in module.walk())


def dynamically_quantized(
    product: str, weight: Array, shape: list[Any], **attributes: Any
) -> onnx.ModelProto:
    """DynamicQuantizeLinear, a product of integers, and the rescaling: as ONNX Runtime's quantizer writes it."""
    inputs = ["q", "w", "zero", *(["w_zero"] if weight.dtype == np.uint8 else [])]
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "step", "zero"]),
        helper.make_node(product, inputs, ["sums"], **attributes),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "step"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array(1, np.uint8), "w_zero")],
    )
    return finished(graph, 13)


def stored(trits: Array, is_unsigned: bool) -> Array:
    return (trits + 1).astype(np.uint8) if is_unsigned else (127 * trits).astype(np.int8)


@settings(max_examples=8, deadline=None)
@given(
    seed=SEEDS, is_unsigned=st.booleans(), k=st.integers(2, 9), m=st.integers(1, 5), rows=st.integers(2, 4)
)
def test_dynamically_quantized_rows_are_multiplied_by_trits(
    seed: int, is_unsigned: bool, k: int, m: int, rows: int
) -> None:
    generator = np.random.default_rng(seed)
    weight = stored(generator.integers(-1, 2, (k, m)), is_unsigned)
    x = generator.uniform(-1, 3, (rows, k)).astype(np.float32)
    module, expected, found = results(dynamically_quantized("MatMulInteger", weight, ["n", k]), x)
    assert count(module, AccumulateOp) >= 1 and all(
        layer.weights != "float" for layer in linear_layers(module)
    )
    assert np.array_equal(found, expected)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_padding_of_a_dynamically_quantized_convolution_is_its_zero_point(data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(SEEDS))
    groups, channels = data.draw(st.sampled_from(((1, 4), (2, 4), (4, 4), (1, 1))))
    axes = data.draw(st.integers(1, 2))
    sizes, strides, dilations = ([data.draw(st.integers(1, n)) for _ in range(axes)] for n in (3, 2, 2))
    pads = [data.draw(st.integers(0, 2)) for _ in range(2 * axes)]
    rows = data.draw(st.sampled_from((1, "n")))
    weight = stored(
        generator.integers(-1, 2, (2 * groups, channels // groups, *sizes)), data.draw(st.booleans())
    )
    x = generator.uniform(-1, 3, (3 if rows == "n" else 1, channels, *[7] * axes)).astype(np.float32)
    model = dynamically_quantized(
        "ConvInteger",
        weight,
        [rows, *x.shape[1:]],
        group=groups,
        strides=strides,
        dilations=dilations,
        pads=pads,
    )
    module, expected, found = results(model, x)
    assert all(layer.weights != "float" for layer in linear_layers(module))
    assert np.array_equal(found, expected)


def test_a_dynamically_quantized_convolution_is_fused_along_an_axis_of_any_length() -> None:
    generator = np.random.default_rng(0)
    weight = stored(generator.integers(-1, 2, (8, 4, 3)), is_unsigned=False)
    x = generator.uniform(-1, 3, (1, 4, 11)).astype(np.float32)
    model = dynamically_quantized("ConvInteger", weight, [1, 4, "t"], pads=[1, 1])
    module, expected, found = results(model, x)
    assert count(module, ConvolveOp) == 2, "the sums, and those of the trits that meet an element"
    assert np.array_equal(found, expected)
    assert np.array_equal(found.reshape(8, 11), by_onnxruntime(model, {"x": x})[0].reshape(8, 11))


def test_dequantized_dynamically_is_int8_too() -> None:
    generator = np.random.default_rng(0)
    graph = helper.make_graph(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "step", "zero"]),
            helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["close"]),
            helper.make_node("MatMul", ["close", "w"], ["y"]),
        ],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array((generator.integers(-1, 2, (9, 5)) * 0.5).astype(np.float32), "w")],
    )
    module, expected, found = results(
        finished(graph, 13), generator.uniform(-1, 3, (4, 9)).astype(np.float32)
    )
    assert [layer.activations for layer in linear_layers(module)] == ["8-bit"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def bit_linear(weight: Array) -> onnx.ModelProto:
    """BitLinear whose weight an exporter has computed."""
    nodes = [
        helper.make_node("Abs", ["x"], ["magnitudes"]),
        helper.make_node("ReduceMax", ["magnitudes", "axis"], ["largest"], keepdims=1),
        helper.make_node("Clip", ["largest", "eps"], ["divisor"]),
        helper.make_node("Div", ["top", "divisor"], ["scale"]),
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["whole"]),
        helper.make_node("Div", ["whole", "scale"], ["close"]),
        helper.make_node("MatMul", ["close", "w"], ["y"]),
    ]
    constants = {"axis": np.array([-1]), "eps": np.float32(1e-5), "top": np.float32(127), "w": weight}
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return finished(graph)


def straight_through(generator: np.random.Generator, trits: Array) -> Array:
    """w + (q - w) in float32: what is left of the straight-through form of a trained weight."""
    latent = generator.standard_normal(trits.shape, np.float32)
    return latent + ((trits * np.float32(0.0617)).astype(np.float32) - latent)


@pytest.mark.parametrize("scales", ["one", "each channel's", "with roundings"])
def test_a_weight_that_an_exporter_folded_is_that_of_a_bit_linear(scales: str) -> None:
    generator = np.random.default_rng(0)
    trits = generator.integers(-1, 2, (64, 16))
    weight = {
        "one": (trits * 0.25).astype(np.float32),
        "each channel's": (trits * generator.uniform(0.1, 1, 16)).astype(np.float32),
        "with roundings": straight_through(generator, trits),
    }[scales]
    assert (len(np.unique(np.abs(weight))) == 2) == (scales == "one")
    x = generator.standard_normal((4, 64), np.float32)
    module, expected, found = results(bit_linear(weight), x)
    assert count(module, QuantizeOp) == 1
    assert [(layer.weights, layer.activations) for layer in linear_layers(module)] == [("ternary", "8-bit")]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_bit_linear_of_more_than_two_bits_stays_float() -> None:
    generator = np.random.default_rng(0)
    weight = generator.integers(-7, 8, (64, 16)).astype(np.float32)
    module, expected, found = results(bit_linear(weight), generator.standard_normal((4, 64), np.float32))
    assert [layer.weights for layer in linear_layers(module)] == ["float"]
    assert np.array_equal(found, expected)
