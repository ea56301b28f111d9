"""What ONNX Runtime's quantizer writes in the format QOperator computes what ONNX Runtime computes, to a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sterna.dialects.interpreter import run
from sterna.dialects.ternary import AccumulateOp
from sterna.frontends.errors import FrontendError
from sterna.frontends.onnx.frontend import OnnxFrontend
from sterna.passes.linear_layers import linear_layers
from tests.onnx_programs import Array, by_onnxruntime, finished, interpreted
from tests.property.test_quantized_models import count, results

DOMAIN = "com.microsoft"
X, Y, Z = (["x", "x_step", "x_zero"], ["w", "w_step", "w_zero"], ["step", "zero"])
CASES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "QLinearAdd": ([*X, *Y, *Z], {}),
    "QLinearMul": ([*X, *Y, *Z], {}),
    "QLinearSigmoid": ([*X, *Z], {}),
    "QLinearLeakyRelu": ([*X, *Z], {"alpha": 0.2}),
    "QLinearAveragePool": ([*X, *Z], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "QLinearGlobalAveragePool": ([*X, *Z], {}),
    "QLinearSoftmax": ([*X, *Z], {"axis": -1, "opset": 17}),
    "QLinearConcat": ([*Z, *X, *X], {"axis": 1}),
}


def quantized_node(
    operator: str, inputs: list[str], x: Array, type: int, **attributes: Any
) -> onnx.ModelProto:
    generator = np.random.default_rng(1)
    constants = {
        "x_step": np.float32(0.02),
        "x_zero": np.array(np.iinfo(x.dtype).min + 120, x.dtype),
        "w": generator.integers(0, 200, x.shape[1:]).astype(x.dtype),
        "w_step": np.float32(0.03),
        "w_zero": np.array(np.iinfo(x.dtype).min + 100, x.dtype),
        "step": np.float32(0.04),
        "zero": np.array(np.iinfo(x.dtype).min + 90, x.dtype),
    }
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"], domain=DOMAIN, **attributes)],
        "test",
        [helper.make_tensor_value_info("x", type, ["n", *x.shape[1:]])],
        [helper.make_tensor_value_info("y", type, None)],
        [
            numpy_helper.from_array(np.asarray(constants[name]), name)
            for name in dict.fromkeys(inputs)
            if name != "x"
        ],
    )
    return finished(graph, 17, DOMAIN)


@pytest.mark.parametrize("type", [TensorProto.UINT8, TensorProto.INT8], ids=["uint8", "int8"])
@pytest.mark.parametrize("operator", CASES)
def test_an_operator_on_quantized_tensors_is_that_of_onnxruntime(operator: str, type: int) -> None:
    inputs, attributes = CASES[operator]
    dtype = helper.tensor_dtype_to_np_dtype(type)
    limits = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(limits.min, limits.max + 1, (3, 4, 6, 6)).astype(dtype)
    model = quantized_node(operator, inputs, x, type, **attributes)
    (found,), (expected,) = interpreted(model, {"x": x}), by_onnxruntime(model, {"x": x})
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert abs(found.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("is_quantized", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_qgemm_is_that_of_onnxruntime_and_ternary(per_channel: bool, is_quantized: bool) -> None:
    generator = np.random.default_rng(0)
    constants = {
        "x_step": np.float32(0.02),
        "x_zero": np.uint8(120),
        "w": (127 * generator.integers(-1, 2, (5, 16))).astype(np.int8),
        "w_step": generator.uniform(0.001, 0.002, 5 if per_channel else ()).astype(np.float32),
        "w_zero": np.zeros(5 if per_channel else (), np.int8),
        "bias": generator.integers(-5000, 5000, 5).astype(np.int32),
        "step": np.float32(0.05),
        "zero": np.uint8(128),
    }
    inputs = [*X, *Y, "bias", *(Z if is_quantized else [])]
    type = TensorProto.UINT8 if is_quantized else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("QGemm", inputs, ["y"], domain=DOMAIN, transB=1, alpha=1.5)],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 16])],
        [helper.make_tensor_value_info("y", type, None)],
        [numpy_helper.from_array(np.asarray(constants[name]), name) for name in inputs if name != "x"],
    )
    model = finished(graph, 17, DOMAIN)
    x = generator.integers(0, 256, (4, 16)).astype(np.uint8)
    module, expected, found = results(model, x)
    assert count(module, AccumulateOp) >= 1 and all(
        layer.weights != "float" for layer in linear_layers(module)
    )
    assert np.array_equal(found, expected)
    (runtime,) = by_onnxruntime(model, {"x": x})
    if is_quantized:
        assert abs(found.view(np.uint8).astype(int) - runtime).max() <= 1
    else:
        np.testing.assert_allclose(found, runtime, rtol=1e-5, atol=1e-5)


def test_parts_of_a_concatenation_come_in_threes() -> None:
    x = np.zeros((3, 4), np.uint8)
    model = quantized_node("QLinearConcat", [*Z, "x", "x_step"], x, TensorProto.UINT8, axis=1)
    with pytest.raises(FrontendError, match="its scale and its zero point, for each part"):
        OnnxFrontend().load(model)


def test_a_batch_and_a_sequence_stay_open_around_packed_weights() -> None:
    """ONNX Runtime's language models: MatMulNBits on [batch, sequence, K]."""
    generator = np.random.default_rng(0)
    packed = generator.integers(0, 256, (8, 2, 8)).astype(np.uint8)
    scales = generator.uniform(0.5, 1, (8, 2)).astype(np.float32)
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain=DOMAIN, K=64, N=8, bits=2, block_size=32
    )
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(packed, "w"), numpy_helper.from_array(scales, "s")],
    )
    model = finished(graph, 21, DOMAIN)
    imported = OnnxFrontend().load(model)
    x = generator.standard_normal((5, 64), np.float32)
    (found,) = run(imported.module, [x], weights=imported.weights)
    np.testing.assert_allclose(found, by_onnxruntime(model, {"x": x[None]})[0][0], rtol=1e-4, atol=1e-4)


def test_a_range_up_to_a_size_that_was_cast_to_float() -> None:
    """What torch's exporter makes of `torch.arange(n, dtype=torch.float32)`."""
    nodes = [
        helper.make_node("Shape", ["x"], ["n"], start=0, end=1),
        helper.make_node("Squeeze", ["n"], ["length"]),
        helper.make_node("Cast", ["length"], ["limit"], to=TensorProto.FLOAT),
        helper.make_node("Range", ["start", "limit", "step"], ["places"]),
        helper.make_node("Add", ["x", "places"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.float32(number), name) for name, number in (("start", 0), ("step", 1))],
    )
    imported = OnnxFrontend().load(finished(graph))
    (found,) = run(imported.module, [np.ones(7, np.float32)], weights=imported.weights)
    assert np.array_equal(found, 1 + np.arange(7))
