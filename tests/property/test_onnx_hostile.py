"""Whatever a model file holds, it is imported or it is one clear error: never another exception."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, numpy_helper, parser

from sterna.dialects.errors import CompileError
from sterna.frontends.errors import UnsupportedOpsError
from sterna.frontends.onnx.frontend import OnnxFrontend

TEXTS = (
    "g (float[n, 8] x) => (float[n, 4] y) { h = MatMul(x, w) i = Add(h, b) y = Softmax<axis = -1>(i) }",
    """g (float[2, 3, 4] x) => (float[a, b] y) { s = Shape(x) d = Gather<axis = 0>(s, k) e = Unsqueeze(d, k)
       r = Concat<axis = 0>(e, m) t = Reshape(x, r) y = Transpose<perm = [1, 0]>(t) }""",
    """g (float[2, 6] x) => (float[a, b] y) { p = Pad<mode = "reflect">(x, pads) s = Slice(p, k0, k1, k0, k1)
       a, c = Split<axis = 1>(s, two) y = ReduceMean<keepdims = 1>(a, k1) }""",
    """g (float[5, 3] x, float[3] s) => (float[3] y, float[5, 3] z) { y, z = Scan<num_scan_inputs = 1, body =
       b (float[3] f, float[3] e) => (float[3] g, float[3] h) { g = Add(f, e) h = Identity(g) }>(s, x) }""",
    """g (float[1, 2, 6, 6] x) => (float[a, b, c, d] y) { c = Conv<strides = [2, 1], pads = [1, 1, 1, 1]>(x, kernel)
       p = MaxPool<kernel_shape = [2, 2]>(c) y = Relu(p) }""",
)
WEIGHTS = {
    "w": np.ones((8, 4), np.float32),
    "b": np.arange(4, dtype=np.float32),
    "k": np.array(0),
    "k0": np.array([0]),
    "k1": np.array([1]),
    "m": np.array([-1]),
    "two": np.array([4, 4]),
    "pads": np.array([0, 1, 0, 1]),
    "kernel": np.ones((3, 2, 3, 3), np.float32),
}
NUMBERS = (0, 1, -1, 2, 7, -5, 2**31, 2**40, 2**63 - 1, -(2**63))
OPERATORS = (
    "Add",
    "Concat",
    "Expand",
    "Tile",
    "OneHot",
    "Range",
    "TopK",
    "Loop",
    "If",
    "Einsum",
    "Resize",
    "",
)


def read_model(text: str) -> onnx.ModelProto:
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {text}')
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in WEIGHTS.items() if n in used)
    return proto


MODELS = [read_model(text) for text in TEXTS]
FILES = [model.SerializeToString() for model in MODELS]


def imports_or_refuses(source: bytes | onnx.ModelProto) -> None:
    try:
        OnnxFrontend().load(source).module.verify()
    except UnsupportedOpsError:
        pass
    except CompileError as error:
        assert len(str(error).splitlines()) == 1


def test_the_models_that_are_damaged_below_are_imported_whole() -> None:
    for data in FILES:
        OnnxFrontend().load(data)


@given(data=st.data())
@settings(max_examples=300)
def test_damaged_bytes_are_an_error_or_a_model(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.none() | st.integers(0, len(damaged)))
    imports_or_refuses(bytes(damaged[:end]))


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_any_bytes_are_an_error_or_a_model(data: bytes) -> None:
    imports_or_refuses(data)


@given(data=st.data())
@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
def test_a_model_with_other_names_numbers_and_types_is_an_error_or_a_model(data: st.DataObject) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(data.draw(st.sampled_from(MODELS)))
    for _ in range(data.draw(st.integers(1, 3))):
        damage(data, model.graph)
    imports_or_refuses(model)


def damage(data: st.DataObject, graph: onnx.GraphProto) -> None:
    number = data.draw(st.sampled_from(NUMBERS))
    node = data.draw(st.sampled_from(list(graph.node)))
    names = [
        *(value.name for value in graph.input),
        *(name for n in graph.node for name in n.output),
        "",
        "?",
    ]
    match data.draw(st.integers(0, 7)):
        case 0 if node.attribute:
            attribute = data.draw(st.sampled_from(list(node.attribute)))
            attribute.i = number
            attribute.type = data.draw(
                st.sampled_from([attribute.type, AttributeProto.INT, AttributeProto.FLOAT])
            )
            attribute.ints.extend([number] if attribute.type == AttributeProto.INTS else [])
        case 1:
            node.input[data.draw(st.integers(0, len(node.input) - 1))] = data.draw(st.sampled_from(names))
        case 2:
            node.op_type = data.draw(st.sampled_from(OPERATORS))
        case 3:
            shape = data.draw(st.sampled_from(list(graph.input))).type.tensor_type.shape
            shape.dim[data.draw(st.integers(0, len(shape.dim) - 1))].dim_value = number
        case 4:
            data.draw(st.sampled_from(list(graph.input))).type.tensor_type.elem_type = data.draw(
                st.integers(0, 30)
            )
        case 5 if graph.initializer:
            tensor = data.draw(st.sampled_from(list(graph.initializer)))
            tensor.dims[:] = [*tensor.dims[1:], number]
        case 6 if graph.initializer:
            tensor = data.draw(st.sampled_from(list(graph.initializer)))
            values = np.full(len(tensor.raw_data) // 8, number)
            tensor.raw_data = values.tobytes().ljust(len(tensor.raw_data), b"\xff")
        case _:
            node.output[0] = data.draw(st.sampled_from(names))
