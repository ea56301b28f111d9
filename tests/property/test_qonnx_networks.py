"""Random networks in QONNX, before and after the passes, give what the reference executor gives."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from xdsl.dialects.builtin import ModuleOp

import sterna
from sterna.dialects.context import make_context
from sterna.dialects.interpreter import run
from sterna.dialects.weights import WeightStore
from sterna.frontends.onnx.frontend import OnnxFrontend
from sterna.lowering import parse_passes
from sterna.pass_runner import run_passes
from sterna.targets.cpu import CpuTarget
from sterna.targets.triton.engine import INTERPRETER
from tests.onnx_programs import Array, by_qonnx, finished, in_ir

DOMAIN = "onnx.brevitas"


@dataclass
class Network:
    """A graph that grows node by node; each method gives the name of what it added."""

    random: np.random.Generator
    nodes: list[NodeProto] = field(default_factory=list[NodeProto])
    constants: dict[str, Array] = field(default_factory=dict[str, Array])

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def number(self, number: float) -> str:
        return self.constant(np.array(number, np.float32))

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], domain=domain, **attributes))
        return name

    def quant(self, x: str, bits: int, scale: float, *, signed: bool) -> str:
        inputs = [self.number(scale), self.number(0), self.number(bits)]
        return self.add(
            "Quant", x, *inputs, domain=DOMAIN, signed=int(signed), narrow=int(signed), rounding_mode="ROUND"
        )

    def weight(self, shape: tuple[int, ...], *, is_binary: bool) -> str:
        """Floats that a quantizer makes ternary, or binary, times a scale."""
        w, scale = self.constant(self.random.standard_normal(shape).astype(np.float32)), 0.5
        if is_binary:
            return self.add("BipolarQuant", w, self.number(scale), domain=DOMAIN)
        return self.quant(w, 2, scale, signed=True)

    def batch_norm(self, x: str, channels: int) -> str:
        """With factors of both signs."""
        scale, bias, mean = (
            self.constant(self.random.standard_normal(channels).astype(np.float32)) for _ in range(3)
        )
        variance = self.constant(self.random.uniform(0.5, 4, channels).astype(np.float32))
        return self.add("BatchNormalization", x, scale, bias, mean, variance, epsilon=1e-5)

    def activation(self, x: str, kind: str) -> str:
        match kind:
            case "binary":
                return self.add("BipolarQuant", x, self.number(1), domain=DOMAIN)
            case "signed":
                return self.quant(x, 2, 1.0, signed=True)
            case _:
                return self.quant(self.add("Relu", x), 2, 0.5, signed=False)

    def model(self, x: ValueInfoProto, y: str) -> ModelProto:
        initializers = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        output = helper.make_tensor_value_info(y, TensorProto.FLOAT, None)
        return finished(helper.make_graph(self.nodes, "test", [x], [output], initializers), 14, DOMAIN)


KINDS = st.sampled_from(["binary", "signed", "unsigned"])


def check(model: ModelProto, x: Array, products: int) -> None:
    """The same results from the reference, from what is imported, what the passes make of it, and the CPU."""
    (expected,) = by_qonnx(model, {"x": x})
    imported = OnnxFrontend().load(model)
    (y,) = run(imported.module, [in_ir(x)], weights=imported.weights)
    np.testing.assert_allclose(np.reshape(y, expected.shape), expected, rtol=1e-4, atol=1e-4)
    executable = sterna.jit(imported.module, imported.weights)
    (y,) = executable.run([in_ir(x)])
    np.testing.assert_allclose(np.reshape(y, expected.shape), expected, rtol=1e-4, atol=1e-4)
    target = CpuTarget()
    passes = parse_passes(target, target.pipeline(max_rows=8).split("choose-encodings")[0].rstrip(","))
    run_passes(make_context(imported.weights), imported.module, passes)
    counts = Counter(op.name for op in imported.module.walk())
    ternary = sum(counts[name] for name in ("ternary.accumulate", "ternary.convolve", "ternary.project"))
    assert ternary >= products and counts["ternary.threshold"] >= products - 1
    (y,) = run(imported.module, [in_ir(x)], weights=imported.weights)
    np.testing.assert_allclose(np.reshape(y, expected.shape), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow  # the reference executor makes a session a node
@settings(max_examples=12)
@given(st.integers(0, 999), KINDS, st.booleans(), st.integers(1, 3))
@example(seed=87, kind="binary", is_binary=False, layers=2)  # all sums of a layer give one level
def test_perceptrons_are_those_of_the_reference(seed: int, kind: str, is_binary: bool, layers: int) -> None:
    network = Network(np.random.default_rng(seed))
    widths = [int(n) for n in network.random.integers(2, 24, layers + 2)]
    value = network.activation("x", kind)
    for columns, rows in pairwise(widths[:-1]):
        w = network.add("Transpose", network.weight((rows, columns), is_binary=is_binary), perm=[1, 0])
        value = network.activation(network.batch_norm(network.add("MatMul", value, w), rows), kind)
    bias = network.constant(network.random.standard_normal(widths[-1]).astype(np.float32))
    value = network.add(
        "Gemm", value, network.weight((widths[-1], widths[-2]), is_binary=is_binary), bias, transB=1
    )
    x = (network.random.standard_normal((5, widths[0])) * 2).astype(np.float32)
    model = network.model(helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape), value)
    check(model, x, layers + 1)


def convolutional(seed: int, kind: str, *, is_binary: bool, groups: int) -> tuple[ModelProto, Array]:
    """A network of two convolutions, a pooling and a product, and what it is to take."""
    network = Network(np.random.default_rng(seed))
    x = (network.random.standard_normal((2, 4, 8, 7)) * 2).astype(np.float32)
    value = network.activation("x", kind)
    first = network.weight((8, 4 // groups, 3, 3), is_binary=is_binary)
    value = network.add("Conv", value, first, group=groups, pads=[1, 0, 1, 0], strides=[1, 2])
    value = network.activation(network.batch_norm(value, 8), kind)
    value = network.add("MaxPool", value, kernel_shape=[2, 2], strides=[2, 1])
    value = network.add("Conv", value, network.weight((6, 8, 2, 2), is_binary=is_binary), dilations=[2, 1])
    value = network.activation(network.batch_norm(value, 6), kind)
    value = network.add("Flatten", value)
    w = network.add("Transpose", network.weight((3, 12), is_binary=is_binary), perm=[1, 0])
    value = network.add("MatMul", value, w)
    return network.model(helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape), value), x


@pytest.mark.slow
@settings(max_examples=12)
@given(st.integers(0, 999), KINDS, st.booleans(), st.sampled_from([1, 2, 4]))
def test_convolutional_networks_are_those_of_the_reference(
    seed: int, kind: str, is_binary: bool, groups: int
) -> None:
    check(*convolutional(seed, kind, is_binary=is_binary, groups=groups), 3)


@pytest.mark.slow  # in Triton's interpreter
@pytest.mark.parametrize(("kind", "groups"), [("binary", 1), ("signed", 2), ("unsigned", 4)])
def test_convolutional_networks_have_the_same_bits_on_gpus(kind: str, groups: int) -> None:
    model, x = convolutional(groups, kind, is_binary=kind == "binary", groups=groups)
    found = [
        sterna.jit(*loaded(model), target, isa=isa).run([in_ir(x)])[0]
        for target, isa in (("cpu", None), ("triton", INTERPRETER))
    ]
    assert np.array_equal(found[0], found[1])


def loaded(model: ModelProto) -> tuple[ModuleOp, WeightStore]:
    imported = OnnxFrontend().load(model)
    return imported.module, imported.weights
