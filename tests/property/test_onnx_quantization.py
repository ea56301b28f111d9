"""Quantized operators of ONNX compute what ONNX Runtime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_programs import Array, by_onnxruntime, finished, interpreted, node_model, value_info

TYPES = {
    np.int8: TensorProto.INT8,
    np.uint8: TensorProto.UINT8,
    np.int16: TensorProto.INT16,
    np.uint16: TensorProto.UINT16,
}
BYTES = [np.int8, np.uint8]
COMMON = 21
"""An opset of these operators that ONNX Runtime has kernels for."""


def floats(draw: st.DrawFn, shape: tuple[int, ...], scale: float = 4.0) -> Array:
    return (np.random.default_rng(draw(st.integers(0, 99))).standard_normal(shape) * scale).astype(np.float32)


def integers(draw: st.DrawFn, shape: tuple[int, ...], dtype: Any) -> Array:
    info = np.iinfo(dtype)
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    return generator.integers(info.min, info.max, shape, dtype, endpoint=True)


def steps(draw: st.DrawFn, shape: tuple[int, ...]) -> Array:
    """Scales, powers of two among them, with which quotients lie exactly between two integers."""
    whole = np.random.default_rng(draw(st.integers(0, 99))).uniform(0.01, 0.5, shape).astype(np.float32)
    return np.full(shape, 0.5, np.float32) if draw(st.booleans()) else whole


@st.composite
def quantizations(draw: st.DrawFn) -> tuple[dict[str, Array], dict[str, Any]]:
    """x, its scale and zero point: one number, one for each element of an axis, or one for each block."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 4)))
    dtype = draw(st.sampled_from(list(TYPES)))
    attributes: dict[str, Any] = {"axis": draw(st.sampled_from([1, -2]))}
    match draw(st.sampled_from(["tensor", "axis", "blocks"])):
        case "axis":
            parameters: tuple[int, ...] = (shape[1],)
        case "blocks":
            attributes["block_size"] = draw(st.integers(1, 3))
            parameters = (shape[0], -(-shape[1] // attributes["block_size"]), shape[2])
        case _:
            parameters, attributes = (), {}
    x = np.round(floats(draw, shape) * 4) / 4
    return {"x": x, "scale": steps(draw, parameters), "zero": integers(draw, parameters, dtype)}, attributes


@settings(max_examples=60)
@given(quantizations(), st.booleans())
def test_quantization_is_that_of_onnxruntime(
    drawn: tuple[dict[str, Array], dict[str, Any]], is_constant: bool
) -> None:
    inputs, attributes = drawn
    outputs = [TYPES[inputs["zero"].dtype.type]]
    constants = ["scale", "zero"] if is_constant else []
    model = node_model(
        "QuantizeLinear", inputs, outputs=outputs, constants=constants, opset=COMMON, **attributes
    )
    (q,), (expected,) = interpreted(model, inputs), by_onnxruntime(model, inputs)
    assert q.dtype == expected.dtype and np.array_equal(q, expected)

    back = {**inputs, "x": expected}
    model = node_model("DequantizeLinear", back, constants=constants, opset=COMMON, **attributes)
    assert np.array_equal(interpreted(model, back)[0], by_onnxruntime(model, back)[0])


@pytest.mark.parametrize("name", ["INT4", "UINT4", "INT2", "UINT2"])
def test_weights_of_few_bits_are_read_as_they_are_packed(name: str) -> None:
    bits, is_signed = int(name[-1]), name[0] == "I"
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    numbers = np.resize(np.arange(low, high + 1), (3, 5))
    packed = helper.make_tensor("w", getattr(TensorProto, name), numbers.shape, numbers.reshape(-1).tolist())
    x = np.ones((2, 3), np.float32)
    scale = numpy_helper.from_array(np.float32(0.25), "scale")
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["v"]),
        helper.make_node("MatMul", ["x", "v"], ["y"]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "test", [value_info("x", x)], [output], [packed, scale])
    opset = 25 if bits == 2 else COMMON
    (y,) = interpreted(finished(graph, opset), {"x": x})
    assert np.array_equal(y, x @ (numbers * np.float32(0.25)))


@settings(max_examples=25)
@given(st.data())
def test_dynamic_quantization_is_that_of_onnxruntime(data: st.DataObject) -> None:
    x = floats(data.draw, (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))))
    x *= data.draw(st.sampled_from([1.0, 0.0, 1e-3]))
    outputs = [TensorProto.UINT8, TensorProto.FLOAT, TensorProto.UINT8]
    model = node_model("DynamicQuantizeLinear", {"x": x}, outputs=outputs, opset=COMMON)
    for found, expected in zip(interpreted(model, {"x": x}), by_onnxruntime(model, {"x": x}), strict=True):
        assert found.dtype == expected.dtype and np.array_equal(found, expected)


@settings(max_examples=40)
@given(st.data())
def test_integer_products_are_those_of_onnxruntime(data: st.DataObject) -> None:
    rows, inner, columns = (data.draw(st.integers(1, 5)) for _ in range(3))
    batch = data.draw(st.sampled_from([(), (2,)]))
    inputs = {
        "a": integers(data.draw, (*batch, rows, inner), data.draw(st.sampled_from(BYTES))),
        "b": integers(data.draw, (inner, columns), data.draw(st.sampled_from(BYTES))),
    }
    if data.draw(st.booleans()):
        inputs["a_zero"] = integers(data.draw, (), inputs["a"].dtype)
        shape = data.draw(st.sampled_from([(), (columns,)]))
        inputs["b_zero"] = integers(data.draw, shape, inputs["b"].dtype)
    model = node_model("MatMulInteger", inputs, outputs=[TensorProto.INT32], constants=["b"], opset=COMMON)
    assert np.array_equal(interpreted(model, inputs)[0], by_onnxruntime(model, inputs)[0])


def requantized(draw: st.DrawFn, left: Array, right: Array, channels: int) -> dict[str, Array]:
    """The inputs of a QLinear operator of two tensors, in its order."""
    return {
        "a": left,
        "a_scale": steps(draw, ()),
        "a_zero": integers(draw, (), left.dtype),
        "b": right,
        "b_scale": steps(draw, draw(st.sampled_from([(), (channels,)]))),
        "b_zero": np.zeros((), right.dtype),
        "y_scale": np.asarray(steps(draw, ()) * np.float32(left.shape[-1] * 16)),
        "y_zero": integers(draw, (), left.dtype),
    }


@settings(max_examples=40)
@given(st.data())
def test_requantized_products_are_within_a_step_of_onnxruntimes(data: st.DataObject) -> None:
    """ONNX leaves open how the three scales are multiplied."""
    rows, inner, columns = (data.draw(st.integers(1, 5)) for _ in range(3))
    left = integers(data.draw, (rows, inner), data.draw(st.sampled_from(BYTES)))
    right = integers(data.draw, (inner, columns), np.int8)
    inputs = requantized(data.draw, left, right, columns)
    if inputs["b_scale"].shape:
        inputs["b_zero"] = np.zeros((columns,), np.int8)
    model = node_model("QLinearMatMul", inputs, outputs=[TYPES[left.dtype.type]], opset=COMMON)
    found, expected = interpreted(model, inputs)[0], by_onnxruntime(model, inputs)[0]
    assert found.dtype == expected.dtype and np.abs(found.astype(int) - expected).max() <= 1


@settings(max_examples=40)
@given(st.data())
def test_integer_convolutions_are_those_of_onnxruntime(data: st.DataObject) -> None:
    columns, channels = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    x = integers(data.draw, (data.draw(st.integers(1, 2)), columns, 5, 4), data.draw(st.sampled_from(BYTES)))
    w = integers(data.draw, (channels, columns, 3, data.draw(st.integers(1, 3))), np.int8)
    pads = [data.draw(st.integers(0, 2)) for _ in range(4)]
    inputs = {"x": x.view(np.uint8), "w": w, "x_zero": integers(data.draw, (), np.uint8)}
    model = node_model("ConvInteger", inputs, outputs=[TensorProto.INT32], pads=pads, opset=COMMON)
    assert np.array_equal(interpreted(model, inputs)[0], by_onnxruntime(model, inputs)[0])

    inputs = requantized(data.draw, x, w, channels)
    inputs["bias"] = integers(data.draw, (channels,), np.int16).astype(np.int32)
    model = node_model("QLinearConv", inputs, outputs=[TYPES[x.dtype.type]], pads=pads, opset=COMMON)
    found, expected = interpreted(model, inputs)[0], by_onnxruntime(model, inputs)[0]
    assert found.dtype == expected.dtype and np.abs(found.astype(int) - expected).max() <= 1


@settings(max_examples=40)
@given(st.data())
def test_products_with_weights_of_few_bits_are_those_of_onnxruntime(data: st.DataObject) -> None:
    bits, block = data.draw(st.sampled_from([2, 4])), data.draw(st.sampled_from([16, 32]))
    rows, columns = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([16, 32, 48, 80]))
    blocks = -(-columns // block)
    inputs = {
        "a": floats(data.draw, (data.draw(st.integers(1, 3)), columns)),
        "b": integers(data.draw, (rows, blocks, block * bits // 8), np.uint8),
        "scales": steps(data.draw, (rows, blocks)),
    }
    if data.draw(st.booleans()):
        inputs["zeros"] = integers(data.draw, (rows, -(-blocks * bits // 8)), np.uint8)
    model = node_model(
        "MatMulNBits",
        inputs,
        constants=[name for name in inputs if name != "a"],
        domain="com.microsoft",
        opset=COMMON,
        N=rows,
        K=columns,
        bits=bits,
        block_size=block,
    )
    (found,), (expected,) = interpreted(model, inputs), by_onnxruntime(model, inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
