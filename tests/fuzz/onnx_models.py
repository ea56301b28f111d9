"""The fuzz target of the ONNX import: small models of many kinds, and changes to them that stay protobufs.

Bytes that are changed at random rarely stay a protobuf, and never make a name that is used elsewhere. So three of four
inputs are read as a model, changed field by field (numbers, names, repeated and nested messages), and written again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import numpy_helper, parser

from sterna.dialects.context import parse
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
    """g (float[n, 8] x) => (float[n, 4] y) { q, s, z = DynamicQuantizeLinear(x) a = MatMulInteger(q, trits, z)
       f = Cast<to = 1>(a) y = Mul(f, s) }""",
    """g (float[3, 4] x) => (float[3, 4] y) { l = LayerNormalization<axis = -1, epsilon = 0.001>(x, b, b)
       q = QuantizeLinear(l, one, zero) d = DequantizeLinear(q, one, zero) c = Clip(d, low, one) y = Erf(c) }""",
    """g (float[2, 4] x) => (float[2, 4] y) { t = ReduceSum<keepdims = 0>(x) c = Greater(t, one)
       y = If<then_branch = p () => (float[2, 4] u) { u = Neg(x) },
       else_branch = q () => (float[2, 4] v) { v = Exp(x) }>(c) }""",
    """g (float[4] x) => (float[4] y) { y = Loop<body = l (int64 n, bool k, float[4] v) => (bool m, float[4] w)
       { m = Identity(k) w = Add(v, x) }>(trips, go, x) }""",
    """g (float[2, 4] x) => (float[2, 2] v, int64[2, 2] i) {
       v, i = TopK<axis = 1, largest = 1, sorted = 1>(x, two1) }""",
    """g (int64[n] x) => (float[n, 4] y) { e = Gather(w, x) s = Sigmoid(e) t = CumSum(s, one64)
       y = Where(mask, t, e) }""",
    """g (float[n, 8] x) => (float[n, 4] y) { t = qonnx.custom_op.general.Quant<signed = 1, narrow = 1,
       rounding_mode = "ROUND">(w, one, low, bits) y = MatMul(x, t) }""",
    """g (float[2, 3] x, float[3, 4] z) => (float[a, b] y) { e = Einsum<equation = "ij,jk->ik">(x, z)
       f = Gemm<alpha = 0.5, transB = 1>(e, w, eight) y = Flatten(f) }""",
)
WEIGHTS: dict[str, np.ndarray[Any, Any]] = {
    "w": np.ones((8, 4), np.float32),
    "b": np.arange(4, dtype=np.float32),
    "k": np.array(0),
    "k0": np.array([0]),
    "k1": np.array([1]),
    "m": np.array([-1]),
    "two": np.array([4, 4]),
    "two1": np.array([2]),
    "pads": np.array([0, 1, 0, 1]),
    "kernel": np.ones((3, 2, 3, 3), np.float32),
    "trits": (np.arange(32).reshape(8, 4) % 3).astype(np.int8) - 1,
    "one": np.array(1, np.float32),
    "one64": np.array(1),
    "zero": np.array(0, np.int8),
    "low": np.array(0, np.float32),
    "bits": np.array(2, np.float32),
    "trips": np.array(3),
    "go": np.array(True),
    "mask": np.array([True, False, True, True]),
    "eight": np.arange(8, dtype=np.float32),
}
OPSETS = '<ir_version: 10, opset_import: ["" : 21, "qonnx.custom_op.general" : 1]>'

FUNCTION = """<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
g (float[n, 4] x) => (float[n, 4] y) { y = own.scaled<by = 2.0>(x) }
<opset_import: ["" : 21], domain: "own"> scaled <by>(a) => (c) {
  s = Constant<value_float: float = @by>() c = Mul(a, s) }
"""

NUMBERS = (0, 1, -1, 2, 7, -5, 127, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 3e38, float("inf"), float("nan"))
NAMES = (
    "",
    "?",
    "x",
    "y",
    "Add",
    "Loop",
    "If",
    "Einsum",
    "TopK",
    "Resize",
    "ai.onnx",
    "ROUND",
    "\x00",
    "a" * 5000,
    "é",
)


@cache
def onnx_seeds() -> list[bytes]:
    models = [parser.parse_model(f"{OPSETS} {text}") for text in TEXTS]
    for model in models:
        used = set(names_in(model.graph))
        model.graph.initializer.extend(
            numpy_helper.from_array(array, name) for name, array in WEIGHTS.items() if name in used
        )
    return [model.SerializeToString() for model in (*models, parser.parse_model(FUNCTION))]


def names_in(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            yield from names_in(attribute.g)


def run_onnx(data: bytes) -> None:
    """What is imported verifies, and its text says the same program."""
    module = OnnxFrontend().load(data).module
    module.verify()
    text = str(module)
    assert str(parse(text)) == text


def mutate_model(data: bytes, seed: int) -> bytes:
    """The model with one to four fields changed; bytes that are no model come back with a byte changed."""
    generator = random.Random(seed)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
        for _ in range(generator.choice((1, 1, 2, 4))):
            change(generator, model, [*messages(model)])
        changed = model.SerializeToString()
    except (DecodeError, UnicodeError, ValueError):
        changed = data
    return damaged(generator, changed) if changed == data or not generator.randrange(8) else changed


def damaged(generator: random.Random, data: bytes) -> bytes:
    """One byte set, often to one that no UTF-8 text has."""
    if not data:
        return b"\n"
    at = generator.randrange(len(data))
    return data[:at] + bytes([generator.choice((0xFF, 0x80, 0, generator.randrange(256)))]) + data[at + 1 :]


def messages(message: Message) -> Iterator[Message]:
    """The message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                yield from messages(inner)


def change(generator: random.Random, model: Message, inside: list[Message]) -> None:
    """One field of one message: another value, more of it, less of it, or none."""
    message = generator.choice(inside)
    present = [field for field, _ in message.ListFields()]
    fields = present if present and generator.randrange(4) else list(message.DESCRIPTOR.fields)
    field = generator.choice(fields)
    if generator.randrange(12) == 0:
        message.ClearField(field.name)
    elif field.is_repeated:
        change_list(generator, field, getattr(message, field.name), inside)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        same = [other for other in inside if other.DESCRIPTOR is field.message_type]
        if same:
            copy_into(getattr(message, field.name), generator.choice(same))
    else:
        setattr(message, field.name, scalar(generator, field, inside))


def change_list(generator: random.Random, field: FieldDescriptor, values: Any, inside: list[Message]) -> None:
    at = generator.randrange(len(values)) if len(values) else 0
    match generator.randrange(3):
        case 0 if len(values):
            del values[at]
        case 1 if len(values) and field.type != FieldDescriptor.TYPE_MESSAGE:
            values[at] = scalar(generator, field, inside)
        case _ if field.type == FieldDescriptor.TYPE_MESSAGE:
            same = [other for other in inside if other.DESCRIPTOR is field.message_type]
            if same:
                copy_into(values.add(), generator.choice(same))
        case _:
            values.append(scalar(generator, field, inside))


def copy_into(message: Message, other: Message) -> None:
    # A message may hold the other, which is then copied before it changes.
    message.MergeFromString(other.SerializeToString())


def scalar(generator: random.Random, field: FieldDescriptor, inside: list[Message]) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return generator.choice((*NAMES, *texts(inside)))
        case FieldDescriptor.TYPE_BYTES:
            return generator.choice((b"", b"\xff", generator.randbytes(generator.randrange(40)), b"\0" * 128))
        case FieldDescriptor.TYPE_FLOAT | FieldDescriptor.TYPE_DOUBLE:
            return generator.choice(FLOATS)
        case FieldDescriptor.TYPE_ENUM:
            return generator.choice(list(field.enum_type.values_by_number))
        case FieldDescriptor.TYPE_INT32:
            return generator.choice((*NUMBERS[:7], *range(24)))
        case FieldDescriptor.TYPE_UINT64:
            return abs(generator.choice(NUMBERS))
        case _:
            return generator.choice((*NUMBERS, generator.randrange(24)))


def texts(inside: list[Message]) -> Iterator[str]:
    """The names in a model, so that one may stand in another's place."""
    for message in inside:
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_STRING:
                yield from value if field.is_repeated else [value]
