"""Times a ternary convolution and a multi-layer perceptron of thresholds beside ONNX Runtime on the same networks.

    python benchmarks/ternary_networks.py

Both get one thread and the same inputs, in turns; the medians and their ratio are printed.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import sterna

TURNS = 30


class Network:
    """An ONNX model of ternary layers with 2-bit activations, built layer by layer."""

    def __init__(self, shape: list[int]) -> None:
        self.generator = np.random.default_rng(0)
        self.shape, self.nodes, self.numbers = shape, list[Any](), list[Any]()

    def constant(self, numbers: Any) -> str:
        name = f"c{len(self.numbers)}"
        self.numbers.append(numpy_helper.from_array(np.asarray(numbers, np.float32), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, [*inputs], [f"v{len(self.nodes)}"], **attributes))
        return f"v{len(self.nodes) - 1}"

    def weight(self, *shape: int) -> str:
        return self.constant(self.generator.integers(-1, 2, shape) * 0.5)

    def quantize(self, x: str) -> str:
        step = self.constant(0.25)
        q = self.add("Round", self.add("Div", x, step))
        return self.add("Mul", self.add("Clip", q, self.constant(0), self.constant(3)), step)

    def model(self, y: str, shape: list[int]) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)]
        outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, shape)]
        graph = helper.make_graph(self.nodes, "network", inputs, outputs, self.numbers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def convolution() -> onnx.ModelProto:
    network = Network([1, 64, 28, 28])
    x = network.quantize("x")
    return network.model(network.add("Conv", x, network.weight(64, 64, 3, 3), pads=[1] * 4), [1, 64, 28, 28])


def perceptron() -> onnx.ModelProto:
    network = Network([1, 784])
    x = "x"
    for k, m in ((784, 1024), (1024, 1024), (1024, 1024)):
        x = network.add("MatMul", network.quantize(x), network.weight(k, m))
        x = network.add("Add", x, network.constant(network.generator.standard_normal(m)))
    return network.model(network.add("MatMul", network.quantize(x), network.weight(1024, 10)), [1, 10])


def compare(name: str, model: onnx.ModelProto) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(model.SerializeToString(), options)
    compiled: Any = sterna.compile(model, threads=1)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x: npt.NDArray[np.float32] = np.random.default_rng(1).random(shape, np.float32)
    expected, found = session.run(None, {"x": x})[0], np.asarray(compiled(x))
    runs = {"onnxruntime": lambda: session.run(None, {"x": x}), "sterna": lambda: compiled(x)}
    times: dict[str, list[float]] = {each: [] for each in runs}
    for _ in range(TURNS):
        for each, run in runs.items():
            start = perf_counter()
            run()
            times[each].append(perf_counter() - start)
    theirs, ours = median(times["onnxruntime"]), median(times["sterna"])
    print(
        f"{name}: sterna {ours * 1e6:.0f} us, onnxruntime {theirs * 1e6:.0f} us, ratio {theirs / ours:.2f}; "
        f"largest difference {np.abs(found - expected).max():.2g}"
    )


if __name__ == "__main__":
    compare("convolution 64 -> 64, 3x3, 28x28", convolution())
    compare("perceptron 784-1024-1024-1024-10", perceptron())
