"""Reads a model file: bounded, and with one clear line for whatever is wrong with it.

Only what every model must satisfy is checked here (the protobuf, versions, tensors against their bytes, names); what a
node says is checked when it is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, defs

from sterna.frontends.onnx.errors import OnnxError, shown

OLDEST_OPSET = 7
LARGEST_FILE = (1 << 31) - 1
"""Bytes: protobuf's own limit. Larger models keep their tensors in external files."""
LARGEST_VERSION = (1 << 31) - 1
"""Of an opset: onnx keeps them in an int."""
DEEPEST = 16
"""Graphs in attributes of nodes of graphs in attributes..."""

STANDARD_DOMAINS = ("", "ai.onnx")
FunctionKey = tuple[str, str, str]
"""Domain, name and overload."""


@dataclass(frozen=True)
class Model:
    """A model that was read, and where it came from."""

    proto: ModelProto
    name: str
    """How messages call it: the file's name."""
    folder: Path | None
    """Where external data lies."""
    opsets: Mapping[str, int] = field(default_factory=dict[str, int])
    functions: Mapping[FunctionKey, FunctionProto] = field(default_factory=dict[FunctionKey, FunctionProto])


def read_model(source: str | Path | bytes | ModelProto) -> Model:
    """The model in a file, in bytes, or in a ModelProto. OnnxError for what is no model that can be read."""
    if isinstance(source, ModelProto):
        return check_model(source, "ModelProto", None)
    if isinstance(source, bytes):
        return check_model(_parse(source, "model"), "model", None)
    path = Path(source)
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise OnnxError(f"{path}: {size} bytes: a model file has at most {LARGEST_FILE}")
        data = path.read_bytes()
    except OSError as error:
        raise OnnxError(f"{path}: {error.strerror or error}") from None
    return check_model(_parse(data, str(path)), path.name, path.parent)


def _parse(data: bytes, name: str) -> ModelProto:
    proto = ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, RuntimeError, ValueError) as error:
        raise OnnxError(f"{name}: expected an ONNX model: {_first_line(error)}") from None
    if not data or not proto.HasField("graph"):
        raise OnnxError(f"{name}: expected an ONNX model, found no graph in {len(data)} bytes")
    return proto


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or "the protobuf is damaged"


def check_model(proto: ModelProto, name: str, folder: Path | None) -> Model:
    """The model, its versions and names checked."""
    if not proto.HasField("graph"):
        raise OnnxError(f"{name}: graph: the model has none")
    opsets = read_opsets(proto.opset_import, name)
    if not any(domain in opsets for domain in STANDARD_DOMAINS):
        raise OnnxError(f"{name}: opset_import: no version of the standard operators (domain '')")
    functions: dict[FunctionKey, FunctionProto] = {}
    for function in proto.functions:
        _check_function(function, f"{name}: function '{shown(function.name)}'")
        key = (normal_domain(function.domain), function.name, function.overload)
        if key in functions:
            raise OnnxError(f"{name}: functions: '{shown(function.name)}' is defined twice")
        functions[key] = function
    _check_graph(proto.graph, f"{name}: graph", 0)
    return Model(proto, name, folder, opsets, functions)


def normal_domain(domain: str) -> str:
    return "" if domain in STANDARD_DOMAINS else domain


def read_opsets(imports: Sequence[object], name: str) -> dict[str, int]:
    """The opset version of each domain; OnnxError for a version that is not known."""
    opsets: dict[str, int] = {}
    for entry in imports:
        domain, version = normal_domain(getattr(entry, "domain", "")), int(getattr(entry, "version", 0))
        _check_text(name, "opset_import", domain)
        if not 0 <= version <= LARGEST_VERSION:
            raise OnnxError(f"{name}: opset_import: domain '{shown(domain)}' has no version {version}")
        newest = defs.onnx_opset_version()
        if domain == "" and not OLDEST_OPSET <= version <= newest:
            raise OnnxError(
                f"{name}: opset_import: expected opset {OLDEST_OPSET} to {newest}, found {version}: "
                "convert the model with onnx.version_converter, or install a newer onnx"
            )
        if opsets.setdefault(domain, version) != version:
            raise OnnxError(f"{name}: opset_import: domain '{shown(domain)}' has two versions")
    return opsets


def _check_graph(graph: GraphProto, where: str, depth: int) -> None:
    """Names are defined once, and graphs in graphs have an end."""
    if depth > DEEPEST:
        raise OnnxError(f"{where}: graphs are nested more than {DEEPEST} deep")
    _check_text(where, "name", graph.name, *(value.name for value in graph.output))
    _check_names([value.name for value in graph.input], f"{where}: input")
    _check_names([tensor.name for tensor in graph.initializer], f"{where}: initializer")
    if graph.sparse_initializer:
        raise OnnxError(f"{where}: sparse_initializer: sparse tensors are not supported")
    inputs = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    made: dict[str, str] = dict.fromkeys(inputs, "an input or initializer")
    for number, node in enumerate(graph.node):
        place = node_place(node, number)
        _check_node_texts(node, f"{where}: {place}")
        for output in node.output:
            if output and output in made:
                raise OnnxError(f"{where}: {place}: output '{shown(output)}' is also that of {made[output]}")
            made[output] = place
        for inner in graphs_of(node):
            _check_graph(inner, f"{where}: {place}", depth + 1)


def _check_function(function: FunctionProto, where: str) -> None:
    """What it is called, takes and makes, and the names in its nodes, are texts."""
    _check_text(where, "name", function.name, function.domain, function.overload)
    _check_text(where, "output", *function.output)
    _check_text(where, "attribute", *function.attribute, *(each.name for each in function.attribute_proto))
    _check_names(function.input, f"{where}: input")
    for number, node in enumerate(function.node):
        place = f"{where}: {node_place(node, number)}"
        _check_node_texts(node, place)
        for inner in graphs_of(node):
            _check_graph(inner, place, 1)


def _check_node_texts(node: NodeProto, where: str) -> None:
    names = (node.op_type, node.domain, node.overload, node.name, *node.input, *node.output)
    _check_text(where, "name", *names)
    for attribute in node.attribute:
        _check_text(where, "attribute", attribute.name, attribute.ref_attr_name)


def _check_text(where: str, field: str, *values: str) -> None:
    for value in values:
        if not is_text(value):
            raise OnnxError(f"{where}: {field} '{shown(value)}' is not UTF-8")


def is_text(value: object) -> bool:
    """protobuf gives the bytes of a string that is not UTF-8, whatever its type says."""
    return isinstance(value, str)


def _check_names(names: Sequence[str], where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if not name or not is_text(name):
            raise OnnxError(f"{where}: one has no name, or one that is not UTF-8")
        if name in seen:
            raise OnnxError(f"{where}: '{shown(name)}' is there twice")
        seen.add(name)


def graphs_of(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def node_place(node: NodeProto, number: int) -> str:
    """How a message names a node: its name, or its number and its output."""
    op = shown(f"{node.domain}.{node.op_type}" if normal_domain(node.domain) else node.op_type)
    if node.name:
        return f"node '{shown(node.name)}' ({op})"
    output = next((f", which makes '{shown(name)}'" for name in node.output if name), "")
    return f"node {number} ({op}{output})"
