"""Convolutions and poolings of ONNX compute what ONNX Runtime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from sterna.frontends.onnx.errors import OnnxError
from tests.onnx_programs import Array, by_onnxruntime, interpreted, node_model

Drawn = tuple[dict[str, Array], dict[str, Any]]


def numbers(seed: int, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    generator = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return generator.integers(info.min, info.max, shape, dtype, endpoint=True)
    return generator.standard_normal(shape).astype(dtype)


@st.composite
def placements(draw: st.DrawFn, rank: int, *, auto: bool = True) -> dict[str, Any]:
    """Strides, dilations and paddings over `rank` axes."""
    attributes: dict[str, Any] = {"strides": [draw(st.integers(1, 3)) for _ in range(rank)]}
    way = draw(
        st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"] if auto else ["NOTSET"])
    )
    if way == "NOTSET":
        attributes["dilations"] = [draw(st.integers(1, 2)) for _ in range(rank)]
        attributes["pads"] = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
    else:
        attributes["auto_pad"] = way
    return attributes


@st.composite
def convolutions(draw: st.DrawFn) -> Drawn:
    rank = draw(st.integers(1, 3))
    groups, per_group, columns = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    spatial = [draw(st.integers(1, 6)) for _ in range(rank)]
    seed = draw(st.integers(0, 99))
    inputs = {
        "x": numbers(seed, (draw(st.integers(1, 2)), groups * columns, *spatial)),
        "w": numbers(seed + 1, (groups * per_group, columns, *kernel)),
    }
    if draw(st.booleans()):
        inputs["b"] = numbers(seed + 2, (groups * per_group,))
    return inputs, {"group": groups, **draw(placements(rank))}


def expected_or_rejected(model: Any, inputs: dict[str, Array]) -> list[Array]:
    """ONNX Runtime's outputs; the example is left out where it refuses the model, or the result is empty."""
    try:
        outputs = by_onnxruntime(model, inputs)
    except Exception as error:  # onnxruntime has an exception class for each status, without a common base
        assert type(error).__module__.startswith(onnxruntime.__name__), error
        outputs = []
    assume(bool(outputs) and all(output.size for output in outputs))
    return outputs


@settings(max_examples=60)
@given(convolutions(), st.booleans())
def test_convolutions_are_those_of_onnxruntime(drawn: Drawn, is_constant: bool) -> None:
    inputs, attributes = drawn
    model = node_model(
        "Conv", inputs, constants=[name for name in inputs if name != "x" and is_constant], **attributes
    )
    (expected,) = expected_or_rejected(model, inputs)
    (y,) = interpreted(model, inputs)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@st.composite
def poolings(draw: st.DrawFn, dtype: Any = np.float32) -> Drawn:
    rank = draw(st.integers(1, 3))
    attributes = draw(placements(rank))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    shape = (
        draw(st.integers(1, 2)),
        draw(st.integers(1, 3)),
        *(draw(st.integers(1, 7)) for _ in range(rank)),
    )
    assume(all(pad < kernel[axis % rank] for axis, pad in enumerate(attributes.get("pads", []))))
    if not attributes.get("auto_pad", "").startswith("SAME"):
        # ONNX Runtime also takes windows that do not fit.
        pads = np.array(attributes.get("pads", [0] * (2 * rank))).reshape(2, -1).sum(0)
        dilations = attributes.get("dilations", [1] * rank)
        spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
        assume(all(span <= size + pad for span, size, pad in zip(spans, shape[2:], pads, strict=True)))
    else:
        # There the padding of ONNX Runtime is negative where a stride is longer than the kernel.
        assume(all(s <= size for s, size in zip(attributes["strides"], kernel, strict=True)))
    attributes |= {"kernel_shape": kernel}
    if "auto_pad" not in attributes:
        attributes["ceil_mode"] = draw(st.integers(0, 1))
    return {"x": numbers(draw(st.integers(0, 99)), shape, dtype)}, attributes


@settings(max_examples=50)
@given(st.one_of(poolings(), poolings(np.int8), poolings(np.uint8)))
def test_max_pools_are_those_of_onnxruntime(drawn: Drawn) -> None:
    inputs, attributes = drawn
    element = {"f": TensorProto.FLOAT, "i": TensorProto.INT8, "u": TensorProto.UINT8}[inputs["x"].dtype.kind]
    model = node_model("MaxPool", inputs, outputs=[element], **attributes)
    (expected,) = expected_or_rejected(model, inputs)
    (y,) = interpreted(model, inputs)
    # Of a window in the padding alone, ONNX Runtime's largest is the least finite number.
    y = np.maximum(y, np.finfo(np.float32).min) if y.dtype == np.float32 else y
    assert y.dtype == expected.dtype and np.array_equal(y, expected)


@settings(max_examples=50)
@given(poolings(), st.integers(0, 1))
def test_average_pools_are_those_of_onnxruntime(drawn: Drawn, counts_padding: int) -> None:
    inputs, attributes = drawn
    model = node_model("AveragePool", inputs, count_include_pad=counts_padding, **attributes)
    (expected,) = expected_or_rejected(model, inputs)
    (y,) = interpreted(model, inputs)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=15)
@given(poolings(), st.integers(1, 2))
def test_lp_pools_are_those_of_onnxruntime(drawn: Drawn, p: int) -> None:
    inputs, attributes = drawn
    attributes.pop("ceil_mode", None)
    model = node_model("LpPool", inputs, p=p, **attributes)
    (expected,) = expected_or_rejected(model, inputs)
    (y,) = interpreted(model, inputs)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 1, 1), (2, 1, 7)])
def test_global_pools_are_those_of_onnxruntime(operator: str, shape: tuple[int, ...]) -> None:
    inputs = {"x": numbers(0, shape)}
    model = node_model(operator, inputs, opset=18)
    np.testing.assert_allclose(interpreted(model, inputs)[0], by_onnxruntime(model, inputs)[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"strides": [0, 1]}, "strides: expected 2 numbers of 1 or more"),
        ({"pads": [0, 0, -1, 0]}, "pads: expected 4 numbers of 0 or more"),
        ({"auto_pad": "SAME"}, "auto_pad: 'SAME' is none of"),
        ({"group": 2}, "group: 2 groups do not fit"),
        ({"kernel_shape": [2, 2]}, r"kernel_shape: expected \[3, 3\]"),
        ({"dilations": [9, 9]}, "a window of 19 is longer than its axis"),
    ],
)
def test_attributes_that_do_not_fit_are_named(attributes: dict[str, Any], message: str) -> None:
    inputs = {"x": numbers(0, (1, 3, 8, 8)), "w": numbers(1, (4, 3, 3, 3))}
    with pytest.raises(OnnxError, match=message):
        interpreted(node_model("Conv", inputs, **attributes), inputs)
