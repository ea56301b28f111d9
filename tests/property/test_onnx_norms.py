"""Normalizations of ONNX compute what ONNX's reference evaluator computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from sterna.frontends.onnx.errors import OnnxError
from tests.onnx_programs import Array, interpreted, node_model


def normal(draw: st.DrawFn, shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(draw(st.integers(0, 99))).standard_normal(shape).astype(np.float32)


def assert_as_reference(
    operator: str, inputs: dict[str, Array], *, opset: int, outputs: int = 1, **attributes: Any
) -> None:
    types = [TensorProto.FLOAT] * outputs
    constants = [name for name in inputs if name != "x"]
    model = node_model(operator, inputs, outputs=types, constants=constants, opset=opset, **attributes)
    expected = ReferenceEvaluator(model).run(None, {"x": inputs["x"]})
    assert isinstance(expected, list)
    for found, wanted in zip(interpreted(model, inputs), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


images = st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 4, 6]), st.integers(1, 4), st.integers(2, 4))


@settings(max_examples=25)
@given(st.data(), images, st.integers(2, 4))
def test_batch_norm_is_that_of_the_reference(data: st.DataObject, shape: tuple[int, ...], rank: int) -> None:
    inputs = {name: normal(data.draw, shape[1:2]) for name in ("scale", "bias", "mean", "variance")}
    inputs = {"x": normal(data.draw, shape[:rank]), **inputs, "variance": np.abs(inputs["variance"])}
    assert_as_reference(
        "BatchNormalization", inputs, opset=15, epsilon=data.draw(st.sampled_from([1e-5, 0.25]))
    )


@settings(max_examples=25)
@given(st.data(), images)
def test_layer_norms_are_those_of_the_reference(data: st.DataObject, shape: tuple[int, ...]) -> None:
    axis = data.draw(st.integers(-4, 3))
    inputs = {"x": normal(data.draw, shape), "scale": normal(data.draw, shape[axis:])}
    if data.draw(st.booleans()):
        assert_as_reference("RMSNormalization", inputs, opset=23, axis=axis)
    if data.draw(st.booleans()):
        inputs["bias"] = normal(data.draw, shape[axis:])
    assert_as_reference(
        "LayerNormalization", inputs, opset=17, outputs=data.draw(st.sampled_from([1, 3])), axis=axis
    )


@settings(max_examples=25)
@given(st.data(), images)
def test_instance_and_group_norms_are_those_of_the_reference(
    data: st.DataObject, shape: tuple[int, ...]
) -> None:
    channels = shape[1]
    groups = data.draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
    inputs = {"x": normal(data.draw, shape)} | {
        name: normal(data.draw, (channels,)) for name in ("scale", "bias")
    }
    assert_as_reference("InstanceNormalization", inputs, opset=18, epsilon=0.1)
    assert_as_reference("GroupNormalization", inputs, opset=21, num_groups=groups, epsilon=0.1)


@pytest.mark.parametrize(
    ("operator", "attributes", "message"),
    [
        ("GroupNormalization", {"num_groups": 4}, "num_groups: 4 do not divide the channels"),
        ("LayerNormalization", {"axis": 7}, "axis 7 of a tensor of 3 axes"),
        ("InstanceNormalization", {}, r"input 'scale': expected \[6\], found \[4\]"),
    ],
)
def test_attributes_and_inputs_that_do_not_fit_are_named(
    operator: str, attributes: dict[str, Any], message: str
) -> None:
    inputs = {
        "x": np.ones((2, 6, 3), np.float32),
        "scale": np.ones(4, np.float32),
        "bias": np.ones(4, np.float32),
    }
    with pytest.raises(Exception, match=message) as caught:
        interpreted(node_model(operator, inputs, opset=21, **attributes), inputs)
    assert isinstance(caught.value, OnnxError) or "not supported" in str(caught.value)
