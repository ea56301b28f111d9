"""The operators of QONNX compute what its reference executes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qonnx.custom_op.general.bipolar_quant import binary_quant
from qonnx.custom_op.general.multithreshold import multithreshold
from qonnx.custom_op.general.quant import quant
from qonnx.custom_op.general.trunc import trunc_v1, trunc_v2

from sterna.frontends.onnx.errors import OnnxError
from tests.onnx_programs import Array, interpreted, node_model

DOMAINS = ["onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general"]
ROUNDINGS = ["ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN", "round"]
SHAPE = (2, 3, 4)


def numbers(draw: st.DrawFn, scale: float = 4.0) -> Array:
    """Normal numbers, and quarters, which fall between two integers."""
    x = np.random.default_rng(draw(st.integers(0, 99))).standard_normal(SHAPE).astype(
        np.float32
    ) * np.float32(scale)
    return np.round(x * 4) / 4 if draw(st.booleans()) else x


def scales(draw: st.DrawFn) -> Array:
    """One for the tensor, or one for each channel."""
    shape = draw(st.sampled_from([(), (1,), (3, 1), (1, 3, 1)]))
    uniform = np.random.default_rng(draw(st.integers(0, 99))).uniform(0.05, 1, shape).astype(np.float32)
    return draw(st.sampled_from([np.ones(shape, np.float32), np.full(shape, 0.5, np.float32), uniform]))


def single(number: float) -> Array:
    return np.array(number, np.float32)


@settings(max_examples=120)
@given(st.data())
def test_quant_is_that_of_the_reference(data: st.DataObject) -> None:
    inputs = {
        "x": numbers(data.draw),
        "scale": scales(data.draw),
        "zero": single(data.draw(st.sampled_from([0, 0, 1, 3, 0.5]))),
        "bits": single(data.draw(st.integers(1, 12))),
    }
    attributes: dict[str, Any] = {
        "signed": data.draw(st.integers(0, 1)),
        "narrow": data.draw(st.integers(0, 1)),
        "rounding_mode": data.draw(st.sampled_from(ROUNDINGS)),
    }
    if inputs["bits"] == 1 and attributes["narrow"] and not attributes["signed"]:
        attributes["narrow"] = 0
    constants = ["scale", "zero", "bits"] if data.draw(st.booleans()) else ["bits"]
    domain = data.draw(st.sampled_from(DOMAINS))
    model = node_model("Quant", inputs, constants=constants, domain=domain, **attributes)
    (y,) = interpreted(model, inputs)
    expected = quant(
        *inputs.values(), attributes["signed"], attributes["narrow"], attributes["rounding_mode"]
    )
    assert np.array_equal(y, np.asarray(expected, np.float32))


@settings(max_examples=20)
@given(st.data())
def test_bipolar_quant_is_that_of_the_reference(data: st.DataObject) -> None:
    inputs = {"x": numbers(data.draw) * data.draw(st.integers(0, 1)), "scale": scales(data.draw)}
    (y,) = interpreted(node_model("BipolarQuant", inputs, constants=["scale"], domain=DOMAINS[0]), inputs)
    assert np.array_equal(y, binary_quant(inputs["x"], inputs["scale"]))


@settings(max_examples=60)
@given(st.data())
def test_trunc_is_that_of_the_reference(data: st.DataObject) -> None:
    scale, zero = (
        single(data.draw(st.sampled_from([1.0, 0.5, 0.125]))),
        single(data.draw(st.sampled_from([0, 2]))),
    )
    mode = data.draw(st.sampled_from(ROUNDINGS))
    x = (np.round(numbers(data.draw, 16.0)) - zero) * scale
    inputs = {"x": x, "scale": scale, "zero": zero, "in_bits": single(8)}
    if data.draw(st.booleans()):
        inputs["out_bits"] = single(data.draw(st.integers(2, 8)))
        expected = trunc_v1(*inputs.values(), mode)
        attributes: dict[str, Any] = {}
    else:
        attributes = {"signed": data.draw(st.integers(0, 1)), "narrow": data.draw(st.integers(0, 1))}
        inputs["out_scale"] = single(scale * 2 ** data.draw(st.integers(0, 4)))
        inputs["out_bits"] = single(data.draw(st.integers(2, 8)))
        bounds = attributes["narrow"], attributes["signed"]
        expected = trunc_v2(
            *list(inputs.values())[:4], *bounds, inputs["out_scale"], inputs["out_bits"], mode
        )
    constants = [name for name in inputs if name != "x"]
    model = node_model(
        "Trunc", inputs, constants=constants, domain=DOMAINS[1], rounding_mode=mode, **attributes
    )
    assert np.array_equal(interpreted(model, inputs)[0], np.asarray(expected, np.float32))


@settings(max_examples=60)
@given(st.data())
def test_multi_threshold_is_that_of_the_reference(data: st.DataObject) -> None:
    channels, steps = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([1, 2, 3, 15, 200, 255]))
    shape, layout = data.draw(
        st.sampled_from(
            [
                ((2, channels), "NC"),
                ((2, channels, 3), "NCW"),
                ((2, 3, channels), ""),
                ((1, channels, 2, 2), ""),
            ]
        )
    )
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    rows = data.draw(st.sampled_from([1, channels]))
    inputs = {
        "x": np.round(generator.standard_normal(shape).astype(np.float32) * 4) / 2,
        "thresholds": np.sort(
            np.round(generator.standard_normal((rows, steps)).astype(np.float32) * 8) / 4, axis=1
        ),
    }
    attributes: dict[str, Any] = {"out_dtype": "UINT8"} | ({"data_layout": layout} if layout else {})
    if data.draw(st.booleans()):
        attributes |= {"out_scale": 2.0, "out_bias": -1.0}
    constants = ["thresholds"] if data.draw(st.booleans()) else []
    model = node_model("MultiThreshold", inputs, constants=constants, domain=DOMAINS[1], **attributes)
    axis = 2 if layout == "" and len(shape) == 3 else 1
    factor, bias = attributes.get("out_scale", 1.0), attributes.get("out_bias", 0.0)
    expected = multithreshold(inputs["x"].swapaxes(axis, 1), inputs["thresholds"], factor, bias).swapaxes(
        axis, 1
    )
    assert np.array_equal(interpreted(model, inputs)[0], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": single(2.5)}, "bit_width: expected a whole number from 1 to 64, found 2.5"),
        ({"bits": single(-3)}, "bit_width: expected a whole number"),
        ({"scale": np.ones((5, 2, 3, 4), np.float32)}, "more elements than the tensor"),
    ],
)
def test_parameters_that_do_not_fit_are_named(change: dict[str, Array], message: str) -> None:
    inputs = {
        "x": np.ones(SHAPE, np.float32),
        "scale": single(1),
        "zero": single(0),
        "bits": single(2),
        **change,
    }
    model = node_model("Quant", inputs, constants=["scale", "zero", "bits"], domain=DOMAINS[0])
    with pytest.raises(OnnxError, match=message):
        interpreted(model, inputs)
