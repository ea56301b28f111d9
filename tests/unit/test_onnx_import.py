"""ONNX models as text, imported and run by the interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import run
from sterna.frontends.errors import UnsupportedOpsError
from sterna.frontends.onnx.frontend import OnnxFrontend

Array = np.ndarray[Any, Any]


def model(text: str, opset: int = 21, **initializers: Array) -> onnx.ModelProto:
    """A model of ONNX's text format, `graph (inputs) => (outputs) { nodes }`, and its initializers."""
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in initializers.items())
    return proto


def interpret(proto: onnx.ModelProto, *inputs: Array, **options: Any) -> Sequence[Array]:
    imported = OnnxFrontend().load(proto, **options)
    imported.module.verify()
    arrays = [x.reshape([n for n in x.shape if n != 1]) for x in inputs]
    return run(imported.module, arrays, weights=imported.weights)


def test_a_linear_layer_computes_what_it_says() -> None:
    weight, bias = np.arange(32, dtype=np.float32).reshape(8, 4) / 8, np.ones(4, np.float32)
    proto = model("g (float[n, 8] x) => (float[n, 4] y) { h = MatMul(x, w) y = Add(h, b) }", w=weight, b=bias)
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 8)
    (y,) = interpret(proto, x)
    np.testing.assert_allclose(y, x @ weight + bias, rtol=1e-5, atol=1e-6)


def test_arithmetic_on_shapes_is_done_when_importing() -> None:
    proto = model("""g (float[n, 2, 3] x) => (float[n, 6] y) <int64[1] start = {0}, int64[1] six = {6}> {
        s = Shape(x)  zero = Constant<value = int64 {0}>()  n = Gather(s, zero)
        axes = Constant<value_ints = [0]>()  first = Unsqueeze(n, axes)
        target = Concat<axis = 0>(first, six)  y = Reshape(x, target) }""")
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    (y,) = interpret(proto, x)
    assert (y == x.reshape(2, 6)).all()


def test_a_function_of_the_model_is_unfolded_where_it_is_called() -> None:
    proto = parser.parse_model("""<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
        g (float[4] x) => (float[4] y) { y = local.Twice<factor = 2.0>(x) }
        <domain: "local", opset_import: ["" : 21]> Twice<factor>(a) => (b) {
            two = Constant<value_float: float = @factor>() b = Mul(a, two) }""")
    (y,) = interpret(proto, np.arange(4, dtype=np.float32))
    assert y.tolist() == [0, 2, 4, 6]


def test_all_unsupported_nodes_are_listed() -> None:
    proto = model("g (float[4] x) => (float[4] y) { a = Det(x) b = Exp(a) y = Multinomial(b) }")
    with pytest.raises(UnsupportedOpsError) as caught:
        OnnxFrontend().load(proto)
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 ops are not supported:"
    assert "Det on [4]" in lines[1] and "Multinomial" in lines[2]


BAD_MODELS: Mapping[str, tuple[str, str]] = {
    "cycle": (
        "g (float[4] x) => (float[4] y) { a = Add(x, b) b = Exp(a) y = Exp(b) }",
        "a cycle, or the nodes",
    ),
    "nothing": ("g (float[4] x) => (float[4] y) { y = Add(x, z) }", "input 'z': nothing makes it"),
    "twice": ("g (float[4] x) => (float[4] y) { y = Exp(x) y = Abs(x) }", "output 'y' is also that of"),
    "types": ("g (float[4] x, int64[4] k) => (float[4] y) { y = Add(x, k) }", "'A' and 'B' have one type"),
    "shapes": ("g (float[4] x, float[3] k) => (float[4] y) { y = Add(x, k) }", r"\[4\] and \[3\] do not fit"),
    "inputs": ("g (float[4] x) => (float[4] y) { y = Add(x) }", "expected 2 inputs, found 1"),
    "attribute": ("g (float[4] x) => (float[4] y) { y = Exp<alpha = 1.0>(x) }", "no attribute 'alpha'"),
    "kind": ("g (float[4] x) => (float[4] y) { y = Cast<to = 1.0>(x) }", "expected INT, found FLOAT"),
    "open": (
        "g (float[n, m] x, float[k] z) => (float[n, m] y) { y = Exp(x) }",
        "'m', 'k' are open, and one",
    ),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_wrong_model_is_one_line(name: str) -> None:
    text, expected = BAD_MODELS[name]
    with pytest.raises(CompileError, match=expected) as caught:
        OnnxFrontend().load(model(text))
    assert len(str(caught.value).splitlines()) == 1


def test_a_declared_tensor_of_4_gb_is_refused_before_it_is_allocated() -> None:
    proto = model("g (float[4] x) => (float[4] y) { y = Add(x, w) }", w=np.ones(4, np.float32))
    proto.graph.initializer[0].dims[:] = [1 << 30]
    with pytest.raises(CompileError, match=r"initializer 'w': raw_data: .* takes 4294967296 bytes, found 16"):
        OnnxFrontend().load(proto)


def test_an_old_opset_and_a_new_one_are_refused() -> None:
    for opset in (6, 10_000):
        with pytest.raises(CompileError, match=f"expected opset 7 to .*, found {opset}"):
            OnnxFrontend().load(model("g (float[4] x) => (float[4] y) { y = Exp(x) }", opset))


def test_external_data_is_mapped_and_stays_below_the_models_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    weight = np.arange(4, dtype=np.float32)
    weight.tofile(folder / "w.bin")
    weight.tofile(tmp_path / "outside.bin")
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    proto = model("g (float[4] x) => (float[4] y) { y = Add(x, w) }", w=weight)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL

    def load(location: str, **fields: str) -> Array:
        del tensor.external_data[:]
        for key, value in {"location": location, **fields}.items():
            tensor.external_data.add(key=key, value=value)
        (folder / "m.onnx").write_bytes(proto.SerializeToString())
        imported = OnnxFrontend().load(folder / "m.onnx")
        return run(imported.module, [weight], weights=imported.weights)[0]

    assert load("w.bin").tolist() == [0, 2, 4, 6]
    for location in ("../outside.bin", str(tmp_path / "outside.bin"), "a/../../outside.bin", ""):
        with pytest.raises(CompileError, match="expected a file below the model's folder"):
            load(location)
    with pytest.raises(CompileError, match="is a link out of the model's folder"):
        load("link.bin")
    with pytest.raises(CompileError, match="no such file"):
        load("missing.bin")
    with pytest.raises(CompileError, match="bytes 8 to 24 are not in"):
        load("w.bin", offset="8", length="16")
    with pytest.raises(CompileError, match="length: the tensor takes 16 bytes, found 12"):
        load("w.bin", offset="4")


def test_functions_that_call_each_other_for_ever_are_refused() -> None:
    proto = parser.parse_model("""<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
        g (float[4] x) => (float[4] y) { y = local.F(x) }
        <domain: "local", opset_import: ["" : 21, "local" : 1]> F (a) => (b) { b = local.F(a) }""")
    with pytest.raises(CompileError, match="call each other more than 32 deep"):
        OnnxFrontend().load(proto)


def test_dimensions_are_given_by_name() -> None:
    proto = model("g (float[batch, seq] x) => (float[batch, seq] y) { y = Exp(x) }")
    imported = OnnxFrontend().load(proto, sizes={"batch": 2, "seq": "T"})
    assert "(%x: tensor<2x?xf32>)" in str(imported.module)
    with pytest.raises(CompileError, match="no input has a dimension 'k'"):
        OnnxFrontend().load(proto, sizes={"k": 2})


def test_a_graph_without_outputs_is_refused() -> None:
    graph = helper.make_graph([], "g", [], [])
    with pytest.raises(CompileError, match="it has no outputs"):
        OnnxFrontend().load(helper.make_model(graph))


ATTENTION = """g (float[batch, seq, 8] x) => (float[batch, seq, 8] y) {
    q = MatMul(x, w)  t = Transpose<perm = [0, 2, 1]>(x)  s = MatMul(q, t)  p = Softmax<axis = -1>(s)
    z = MatMul(p, x)  k = Shape(x)  r = Reshape(z, k)  y = Add(r, x) }"""


def test_a_batch_of_sequences_is_imported_for_one_sample_with_proof() -> None:
    weight = np.eye(8, dtype=np.float32)
    imported = OnnxFrontend().load(model(ATTENTION, w=weight))
    assert "(%x: tensor<?x8xf32>)" in str(imported.module)
    assert "sterna.input_batch = array<i64: 0>" in str(imported.module)


MIXED = {
    "sum": "y = ReduceSum<keepdims = 1>(x, zero)",
    "softmax": "y = Softmax<axis = 0>(x)",
    "first": "a = Gather<axis = 0>(x, zero)  y = Add(a, x)",
    "transposed": "a = Transpose<perm = [1, 0]>(x)  y = MatMul(x, a)",
    "reshape": "t = Transpose<perm = [1, 0]>(x)  s = Shape(x)  y = Reshape(t, s)",
    "reversed": "y = Slice(x, last, lowest, zero, last)",
    "padded": "y = Pad(x, pads)",
    "unknown": 'y = Einsum<equation = "bi,ci->bi">(x, x)',
}


@pytest.mark.parametrize("name", MIXED)
def test_a_graph_that_mixes_the_samples_of_a_batch_is_refused(name: str) -> None:
    proto = model(
        f"g (float[batch, 4] x, float[1, seq] z) => (float[a, b] y) {{ {MIXED[name]} w = Exp(z) }}",
        zero=np.array([0]),
        last=np.array([-1]),
        lowest=np.array([-(2**40)]),
        pads=np.array([1, 0, 0, 0]),
    )
    with pytest.raises(UnsupportedOpsError):
        OnnxFrontend().load(proto)


def test_computed_numbers_are_joined() -> None:
    proto = model("g (float[1, 3] x, float[1] z) => (float[3] y) { s = ReduceSum<keepdims = 0>(x, one) "
                  "y = Concat<axis = 0>(s, z, z) }", one=np.array([1]))  # fmt: skip
    x, z = np.array([[1, 2, 3]], np.float32), np.array([7], np.float32)
    assert interpret(proto, x, z)[0].tolist() == [6, 7, 7]
