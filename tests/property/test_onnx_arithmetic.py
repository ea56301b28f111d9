"""Elementwise operators of ONNX on the interpreter and on the CPU: identical to numpy's where all bits are defined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sterna.onnx_backend import SternaBackend
from tests.onnx_programs import Array, by_onnxruntime, interpreted, node_model

FEW = settings(max_examples=6)
CODES = {np.dtype(name): helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in ("f2", "f4", "i4", "i8")}


@pytest.fixture(autouse=True)
def quiet() -> object:
    with np.errstate(all="ignore"):
        yield


def on_both(operator: str, inputs: dict[str, Array], code: int, **attributes: Any) -> Array:
    """The result, after the two agreed on every bit."""
    model = node_model(operator, inputs, outputs=[code], **attributes)
    (ours,) = interpreted(model, inputs)
    (compiled,) = SternaBackend.prepare(model, "cpu").run(inputs)
    np.testing.assert_array_equal(np.asarray(ours, compiled.dtype), compiled)
    return np.asarray(compiled)


@pytest.mark.parametrize("fmod", [0, 1])
def test_mod_of_floats_is_exact(fmod: int) -> None:
    generator = np.random.default_rng(0)
    x = (generator.standard_normal(64) * 10.0 ** generator.integers(-6, 7, 64)).astype(np.float32)
    y = np.concatenate([generator.standard_normal(60), [0.0, np.inf, -np.inf, np.nan]]).astype(np.float32)
    found = on_both("Mod", {"x": x, "y": y}, TensorProto.FLOAT, fmod=fmod, opset=28 if not fmod else 22)
    np.testing.assert_array_equal(found, (np.fmod if fmod else np.mod)(x, y))


@FEW
@given(data=st.data())
def test_a_whole_power_of_integers_is_a_product(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.int32, np.int64]))
    base = np.array(data.draw(st.lists(st.integers(-9, 9), min_size=6, max_size=6)), dtype)
    exponent = np.array(data.draw(st.lists(st.integers(0, 80), min_size=6, max_size=6)), np.int64)
    expected = np.array([pow(int(b), int(n)) for b, n in zip(base, exponent, strict=True)], object)
    in_range = np.array([abs(number) <= np.iinfo(dtype).max for number in expected])
    of_floats = data.draw(st.booleans())
    y = exponent.astype(np.float32) if of_floats else exponent
    found = on_both("Pow", {"x": base, "y": y}, CODES[np.dtype(dtype)])
    assert found[in_range].tolist() == expected[in_range].tolist()


def test_a_negative_power_of_an_integer_is_what_divides_one() -> None:
    base, exponent = np.array([1, -1, -1, 2, -7, 0], np.int32), np.array([-3, -3, -4, -1, -2, -1], np.int32)
    assert on_both("Pow", {"x": base, "y": exponent}, TensorProto.INT32).tolist() == [1, -1, 1, 0, 0, 0]


def test_a_power_that_is_not_whole_is_truncated() -> None:
    base, exponent = np.array([2, 9, 10], np.int64), np.array([0.5, 1.5, 2.5], np.float32)
    assert on_both("Pow", {"x": base, "y": exponent}, TensorProto.INT64).tolist() == [1, 27, 316]


def test_computed_values_are_rounded_to_float16() -> None:
    x = (np.random.default_rng(0).standard_normal(500) * 1000).astype(np.float32)
    x[:6] = [65519.9, 65520, -1e9, np.inf, np.nan, 6e-8]
    found = on_both("Cast", {"x": x}, TensorProto.FLOAT16, to=TensorProto.FLOAT16)
    np.testing.assert_array_equal(found, x.astype(np.float16))


@pytest.mark.parametrize("name", ["INT4", "UINT4", "INT2", "UINT2"])
def test_casts_to_few_bits_keep_the_lowest(name: str) -> None:
    bits, x = int(name[-1]), np.arange(-20, 20, dtype=np.int32)
    code = getattr(TensorProto, name)
    model = node_model("Cast", {"x": x}, outputs=[code], to=code, opset=25)
    (found,) = interpreted(model, {"x": x})
    low = x & ((1 << bits) - 1)
    is_signed = name.startswith("I")
    assert found.tolist() == np.where(is_signed & (low >= 1 << bits - 1), low - (1 << bits), low).tolist()


@FEW
@given(data=st.data())
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_the_largest_of_unsigned_integers_are_found(dtype: Any, data: st.DataObject) -> None:
    top = int(np.iinfo(dtype).max)
    row = st.lists(st.integers(0, 3) | st.integers(top - 3, top), min_size=5, max_size=5)
    x = np.array(data.draw(st.lists(row, min_size=2, max_size=2)), dtype)
    largest = data.draw(st.integers(0, 1))
    inputs = {"x": x, "k": np.array([3])}
    code = helper.np_dtype_to_tensor_dtype(x.dtype)
    model = node_model(
        "TopK", inputs, outputs=[code, TensorProto.INT64], constants=["k"], largest=largest, opset=24
    )
    values, indices = interpreted(model, inputs)
    order = np.argsort(x if not largest else np.iinfo(dtype).max - x, axis=1, kind="stable")[:, :3]
    assert values.dtype == dtype and (values == np.take_along_axis(x, order, 1)).all()
    assert (indices == order).all()


def test_an_operator_that_onnx_defines_by_others_is_unfolded() -> None:
    generator = np.random.default_rng(0)
    inputs = {n: generator.standard_normal((2, 3, 4, 8)).astype(np.float32) for n in ("q", "k", "v")}
    model = node_model("Attention", inputs, opset=23, is_causal=1)
    found = SternaBackend.prepare(model, "cpu").run(inputs)[0]
    np.testing.assert_allclose(found, by_onnxruntime(model, inputs)[0], rtol=1e-5, atol=1e-5)
