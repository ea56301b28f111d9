"""Networks that others trained (examples/networks) give what their reference executor gives, on ternary kernels."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
from xdsl.dialects.func import FuncOp

import sterna
from examples.classify_digits import CLOSE, PUBLISHED, network, shipped_digits
from sterna.dialects.context import parse
from tests.onnx_programs import Array, by_qonnx, model_inputs

INPUTS = 1000
NETWORKS = [*PUBLISHED, "unsw_nb15-mlp-w2a2"]


def inputs_of(name: str) -> Array:
    """Digits; for the network that detects intrusions, whose data is not here, random numbers of -1 and 1."""
    if name in PUBLISHED:
        return shipped_digits()[0]
    return np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (INPUTS, 600))


@cache
def compiled(name: str) -> sterna.CompiledModel:
    return sterna.compile(network(name))


def reference(name: str, x: Array) -> Array:
    """The outputs of the reference executor, all inputs as one batch."""
    model = network(name)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == "batch":
                dim.dim_value = len(x)
    return by_qonnx(model, {model_inputs(model)[0]: x})[0]


@pytest.mark.slow  # compiles for four instruction sets; the reference takes seconds a network
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_the_reference(name: str) -> None:
    x = inputs_of(name)
    found, expected = compiled(name)(x), reference(name, x)
    assert found.shape == expected.shape and len(found) >= INPUTS
    assert (found.argmax(1) == expected.argmax(1)).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_accuracy_is_close_to_what_was_published(name: str) -> None:
    images, labels = shipped_digits()
    percent = 100 * (compiled(name)(images).argmax(1) == labels).mean()
    assert abs(percent - PUBLISHED[name]) <= CLOSE


@pytest.mark.slow  # in Triton's interpreter
@pytest.mark.parametrize("name", ["TFC_2W2A", "unsw_nb15-mlp-w2a2"])
def test_outputs_have_the_same_bits_on_gpus(name: str) -> None:
    on_gpu = sterna.compile(network(name), target="triton", isa="interpreter")
    x = inputs_of(name)[::499]
    assert np.array_equal(on_gpu(x), compiled(name)(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_product_is_ternary_and_activations_of_few_bits_are_thresholds(name: str) -> None:
    module = parse(compiled(name).ir("raised"))
    counts = Counter(
        op.name for function in module.ops if isinstance(function, FuncOp) for op in function.walk()
    )
    assert counts["ternary.accumulate"] == 4
    assert counts["linalg.matmul"] == counts["linalg.reduce"] == 0
    # The first activation of the network for intrusions has 8 bits, and its input is float.
    assert counts["ternary.threshold"] == (3 if name in PUBLISHED else 2)
