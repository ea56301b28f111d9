"""Imports a graph, node by node, into upstream dialects.

What the model says is kept: nothing is recognised here. Initializers become `ternary.weight` under their names; their
numbers are not looked at, but where a node must know them (shapes, axes). What only depends on such numbers is computed
here. Every op carries the node it came from: its name, and its number in the graph where a source would have a line.

    MatMul(x, w)   ->   %w = ternary.load @w : tensor<8x4xf32>
                        %y = linalg.matmul ins(%x, %w) outs(%zeros)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto
from xdsl.dialects import func
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DenseArrayBase,
    FileLineColLoc,
    FunctionType,
    IntAttr,
    IntegerAttr,
    ModuleOp,
    NameLoc,
    StringAttr,
    TensorType,
    i64,
)
from xdsl.ir import Block, Operation, Region
from xdsl.utils.exceptions import VerifyException

from sterna.frontends.errors import UnsupportedOp, UnsupportedOpsError
from sterna.frontends.onnx.batch import batch_axis, check_batch
from sterna.frontends.onnx.emitters import Emitter
from sterna.frontends.onnx.errors import OnnxError, Unsupported, shown
from sterna.frontends.onnx.folding import fold
from sterna.frontends.onnx.interface import bind_sizes, bound_shape, constant_input, input_type, model_inputs
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.older import is_known
from sterna.frontends.onnx.operators import EMITTERS
from sterna.frontends.onnx.qonnx import UNVERSIONED
from sterna.frontends.onnx.reader import Model, graphs_of, node_place, normal_domain, read_opsets
from sterna.frontends.onnx.schemas import check_call, check_node, schema_of
from sterna.frontends.onnx.scope import Program, Scope
from sterna.frontends.onnx.sizes import ir_shape, ir_size, shape_text
from sterna.frontends.onnx.standard_functions import definition, has_definition
from sterna.frontends.onnx.tensors import stored_tensor
from sterna.frontends.onnx.values import Tensor
from sterna.frontends.onnx.weights import OnnxStore
from sterna.frontends.tensor_builder import TensorBuilder

DEEPEST_CALL = 32
"""Functions that call functions."""


class Failed(Exception):
    """A graph has unsupported nodes, which are listed already."""


def import_model(
    model: Model, sizes: Mapping[str, int | str], constants: Mapping[str, ArrayLike]
) -> tuple[ModuleOp, OnnxStore]:
    """The model as a module with one function, @forward, and a store of its numbers.

    `sizes` gives open dimensions of the inputs a number, by name, or "T" to the one that stays open; `constants` gives
    inputs a value. A first axis that is open may be a batch, which is imported for one sample (see `batch`): where two
    sizes are open, and where the model cannot be imported for a number T of samples. OnnxError for a model that is
    malformed; UnsupportedOpsError names every node that cannot be imported.
    """
    try:
        return _Importer(model).run(sizes, constants)
    except UnsupportedOpsError as error:
        if not any("unknown size" in op.reason or " nor T" in op.reason for op in error.ops):
            raise
        try:
            return _Importer(model, by_sample=True).run(sizes, constants)
        except UnsupportedOpsError:
            raise error from None


class _Importer:
    def __init__(self, model: Model, *, by_sample: bool = False) -> None:
        self.model = model
        self.by_sample = by_sample
        self.inputs = model_inputs(model.proto)
        self.program = Program(model)
        self.block = Block()
        self.build = TensorBuilder(self.block)
        self.nodes = _Nodes(model, self.program, model.opsets)
        self.scope = Scope(self.program, self.build, self.nodes.run_graph)

    def run(
        self, sizes: Mapping[str, int | str], constants: Mapping[str, ArrayLike]
    ) -> tuple[ModuleOp, OnnxStore]:
        graph = self.model.proto.graph
        self._declare_constants(constants)
        inputs = self._declare_inputs(sizes)
        declare_initializers(graph, self.scope)
        if not graph.output:
            raise OnnxError(f"{self.model.name}: graph: it has no outputs")
        self.nodes.run(graph.node, [value.name for value in graph.output], self.scope)
        for value in graph.output:
            if not self.scope.knows(value.name):
                raise OnnxError(f"{self.model.name}: output '{shown(value.name)}': nothing makes it")
        if self.program.unsupported:
            raise UnsupportedOpsError(self.program.unsupported)
        return self._finish(inputs, self._outputs(graph)), self.program.store

    def _declare_constants(self, constants: Mapping[str, ArrayLike]) -> None:
        """Inputs that are given a value are known when compiling."""
        declared = {value.name: value for value in self.inputs}
        for name, number in constants.items():
            if name not in declared:
                raise OnnxError(f"{self.model.name}: constants: the model has no input '{shown(name)}'")
            self.scope.names[name] = constant_input(declared[name], number, f"{self.model.name}: input")
        self.inputs = [value for value in self.inputs if value.name not in constants]

    def _declare_inputs(self, sizes: Mapping[str, int | str]) -> list[Tensor]:
        declared = self.inputs
        types = [input_type(value, f"{self.model.name}: input") for value in declared]
        bound = bind_sizes([shape for _, shape in types], sizes, self.model.name, by_sample=self.by_sample)
        inputs: list[Tensor] = []
        for value, (type, named) in zip(declared, types, strict=True):
            shape = bound_shape(named, bound)
            argument = self.block.insert_arg(TensorType(type.element, ir_shape(shape)), len(self.block.args))
            argument.name_hint = _hint(value.name)
            inputs.append(Tensor(shape, type, argument))
            self.scope.names[value.name] = inputs[-1]
        for tensor in inputs:
            if self.build.rows is None and DYNAMIC_INDEX in tensor.ir_shape:
                assert tensor.value is not None
                self.build.set_rows(tensor.value, tensor.ir_shape.index(DYNAMIC_INDEX))
        return inputs

    def _outputs(self, graph: GraphProto) -> list[Tensor]:
        outputs: list[Tensor] = []
        for value in graph.output:
            tensor = self.scope.find(value.name)
            assert tensor is not None
            place = f"{self.model.name}: output '{shown(value.name)}'"
            declared = value.type.tensor_type.elem_type
            if value.type.HasField("tensor_type") and declared not in (0, tensor.type.code):
                raise OnnxError(f"{place}: the graph makes {tensor.type.name}, and declares another type")
            try:
                outputs.append(Tensor(tensor.shape, tensor.type, self.scope.value(tensor)))
            except Unsupported as error:
                raise OnnxError(f"{place}: {error}") from None
        return outputs

    def _finish(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> ModuleOp:
        values = [self.scope.value(output) for output in outputs]
        self.block.add_op(func.ReturnOp(*values))
        type = FunctionType.from_lists([arg.type for arg in self.block.args], [v.type for v in values])
        function = func.FuncOp("forward", type, Region(self.block))
        graph = self.model.proto.graph
        function.attributes |= {
            "sterna.states": IntegerAttr(0, i64),
            "sterna.input_names": _texts([value.name for value in self.inputs]),
            "sterna.output_names": _texts([value.name for value in graph.output]),
            "sterna.input_shapes": _shapes(inputs),
            "sterna.output_shapes": _shapes(outputs),
            "sterna.input_types": _texts([tensor.type.name for tensor in inputs]),
            "sterna.output_types": _texts([tensor.type.name for tensor in outputs]),
        }
        batches = [[batch_axis(tensor) for tensor in tensors] for tensors in (inputs, outputs)]
        if any(axis is not None for axes in batches for axis in axes):
            for kind, axes in zip(("input", "output"), batches, strict=True):
                numbers = [-1 if axis is None else axis for axis in axes]
                function.attributes[f"sterna.{kind}_batch"] = DenseArrayBase.from_list(i64, numbers)
        return ModuleOp([*self.program.weights, function])


@dataclass(frozen=True)
class _Nodes:
    """Imports lists of nodes: of the model's graph, of one in an attribute, or of a function's body."""

    model: Model
    program: Program
    opsets: Mapping[str, int]
    depth: int = 0

    def run_graph(self, graph: GraphProto, scope: Scope, inputs: Sequence[Tensor]) -> list[Tensor]:
        """A graph in an attribute: its inputs are `inputs`; names that it lacks are those of the graph around it."""
        if len(graph.input) != len(inputs):
            raise OnnxError(
                f"{self.model.name}: graph '{shown(graph.name)}': expected {len(inputs)} inputs, "
                f"found {len(graph.input)}"
            )
        declare_initializers(graph, scope)
        scope.names.update(zip((value.name for value in graph.input), inputs, strict=True))
        return self.outputs(graph.node, [value.name for value in graph.output], scope)

    def outputs(self, nodes: Sequence[NodeProto], names: Sequence[str], scope: Scope) -> list[Tensor]:
        """The tensors of those names. Failed if one depends on a node that is not supported."""
        self.run(nodes, names, scope)
        for name in names:
            if not scope.knows(name):
                raise OnnxError(
                    f"{self.model.name}: output '{shown(name)}' of an inner graph: nothing makes it"
                )
        tensors = [scope.find(name) for name in names]
        if any(tensor is None for tensor in tensors):
            raise Failed
        return [tensor for tensor in tensors if tensor is not None]

    def run(self, nodes: Sequence[NodeProto], wanted: Sequence[str], scope: Scope) -> None:
        """Imports the nodes that the wanted names depend on."""
        live = _live(nodes, wanted)
        later = {name: number for number, node in enumerate(nodes) for name in node.output if name}
        for number, node in enumerate(nodes):
            if number not in live:
                continue
            place = f"{self.model.name}: {node_place(node, number)}"
            self.program.nodes_left -= 1
            if self.program.nodes_left < 0:
                raise OnnxError(f"{place}: functions and graphs unfold to more nodes than can be meant")
            for name in node.input:
                if name and not scope.knows(name):
                    reason = "a cycle, or the nodes are not in order" if name in later else "nothing makes it"
                    raise OnnxError(f"{place}: input '{shown(name)}': {reason}")
            scope.build.location = _location(self.model, node, number)
            self._import(node, number, scope, place)

    def _import(self, node: NodeProto, number: int, scope: Scope, place: str) -> None:
        domain = normal_domain(node.domain)
        inputs = [scope.find(name) if name else None for name in node.input]
        is_failed = any(name and scope.find(name) is None for name in node.input)
        try:
            outputs = self._emit(node, domain, scope, inputs, place, is_failed)
        except Failed:
            outputs = [None] * len(node.output)
        except Unsupported as error:
            outputs = [None] * len(node.output)
            self.program.unsupported.append(self._described(node, number, inputs, str(error)))
        for name, output in zip(node.output, outputs, strict=False):
            if name:
                scope.names[name] = output
                if output is not None and output.value is not None and output.value.name_hint is None:
                    output.value.name_hint = _hint(name)
        for name in node.output[len(outputs) :]:
            scope.names[name] = None

    def _emit(
        self,
        node: NodeProto,
        domain: str,
        scope: Scope,
        inputs: Sequence[Tensor | None],
        place: str,
        is_failed: bool,
    ) -> Sequence[Tensor | None]:
        key = (domain, node.op_type, node.overload)
        if (function := self.model.functions.get(key)) is not None:
            if is_failed:
                raise Failed
            return self._call(function, node, scope, inputs, place)
        if (version := self.opsets.get(domain, UNVERSIONED.get(domain))) is None:
            raise Unsupported(f"the model imports no version of the domain '{shown(domain)}'")
        schema = schema_of(domain, node.op_type, version)
        if schema is None and domain == "":
            raise Unsupported(f"opset {version} has no such operator")
        emitter = EMITTERS.find(domain, node.op_type, version)
        if domain == "" and emitter is not None and not is_known(node.op_type, version):
            emitter = None
        if emitter is None and (schema is None or not has_definition(schema)):
            if all(known != domain for known, _ in EMITTERS):
                raise Unsupported(f"an operator of the domain '{shown(domain)}', of which nothing is known")
            raise Unsupported(
                "" if EMITTERS.find(domain, node.op_type, version) is None else f"of opset {version}"
            )
        if is_failed:
            raise Failed
        if schema is not None:
            check_node(node, schema, inputs, place)
            if emitter is None:
                return self._call(definition(schema, node, inputs, version), node, scope, inputs, place)
        assert emitter is not None
        if schema is None:
            check_call(emitter, inputs, place)
        return self._apply(emitter, Node(node, scope, version, place), inputs)

    def _apply(
        self, emitter: Emitter, node: Node, inputs: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        if (folded := fold(node, inputs)) is not None:
            return folded
        before = node.build.block.last_op
        try:
            made = emitter(node, *inputs)
            _verify_after(before, node.build.block)
        except (VerifyException, ValueError, IndexError, OverflowError) as error:
            # What an emitter does not check itself, the ops that it makes do.
            reason = next((line for line in str(error).splitlines() if line), type(error).__name__)
            raise OnnxError(
                f"{node.place}: its inputs or attributes do not fit: {shown(reason, 200)}"
            ) from error
        outputs = [made] if isinstance(made, Tensor) else list(made)
        check_batch(node, inputs, outputs)
        return outputs

    def _call(
        self,
        function: FunctionProto,
        node: NodeProto,
        scope: Scope,
        inputs: Sequence[Tensor | None],
        place: str,
    ) -> Sequence[Tensor | None]:
        """The body of a function, with its inputs and attributes in their places."""
        if self.depth >= DEEPEST_CALL:
            raise OnnxError(f"{place}: functions call each other more than {DEEPEST_CALL} deep")
        if len(inputs) > len(function.input) or len(node.output) > len(function.output):
            raise OnnxError(f"{place}: more inputs or outputs than the function '{shown(function.name)}' has")
        given = {attribute.name: attribute for attribute in node.attribute}
        defaults = {attribute.name: attribute for attribute in function.attribute_proto}
        body = [_bound_attributes(each, {**defaults, **given}) for each in function.node]
        opsets = {**self.opsets, **read_opsets(function.opset_import, f"{place}: function")}
        inner = _Nodes(self.model, self.program, opsets, self.depth + 1)
        inner_scope = Scope(self.program, scope.build, inner.run_graph)
        present = {name: t for name, t in zip(function.input, inputs, strict=False) if t is not None}
        inner_scope.names.update(present)
        for name in set(function.input) - set(present):
            body = [_without_input(each, name) for each in body]
        # Of the function's outputs the call may leave some out, and nothing then need make them.
        wanted = [own for own, name in zip(function.output, node.output, strict=False) if name]
        made = iter(inner.outputs(body, wanted, inner_scope))
        return [next(made) if name else None for name in node.output]

    def _described(
        self, node: NodeProto, number: int, inputs: Sequence[Tensor | None], reason: str
    ) -> UnsupportedOp:
        place = f"{self.model.name}: node {number}"
        op = (
            f"{shown(node.domain)}.{shown(node.op_type)}"
            if normal_domain(node.domain)
            else shown(node.op_type)
        )
        shapes = ", ".join(shape_text(tensor.shape) for tensor in inputs if tensor is not None)
        return UnsupportedOp(place, shown(node.name), op, shapes or "no tensors", reason)


def _verify_after(last: Operation | None, block: Block) -> None:
    """Verifies the operations behind `last`."""
    op = block.first_op if last is None else last.next_op
    while op is not None:
        op.verify()
        op = op.next_op


def declare_initializers(graph: GraphProto, scope: Scope) -> None:
    """Enters the graph's tensors in its scope, each checked against the bytes that are there."""
    for proto in graph.initializer:
        stored = stored_tensor(proto, scope.model.folder, f"{scope.model.name}: initializer")
        scope.names[proto.name] = Tensor(stored.shape, stored.type, known=stored, name=proto.name)


def _live(nodes: Sequence[NodeProto], wanted: Sequence[str]) -> set[int]:
    """The numbers of the nodes that the wanted names depend on."""
    names = set(wanted)
    live: set[int] = set()
    for number in range(len(nodes) - 1, -1, -1):
        if any(output in names for output in nodes[number].output if output):
            live.add(number)
            names |= _reads(nodes[number])
    return live


def _reads(node: NodeProto) -> set[str]:
    """The names that a node, or a graph in its attributes, reads; those that the inner graph makes, too."""
    names = set(node.input)
    for graph in graphs_of(node):
        names.update(value.name for value in graph.output)
        for inner in graph.node:
            names |= _reads(inner)
    return names


def _bound_attributes(node: NodeProto, values: Mapping[str, AttributeProto]) -> NodeProto:
    """A node of a function's body with the call's attributes in the place of references to them."""
    bound = NodeProto()
    bound.CopyFrom(node)
    del bound.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            kept = bound.attribute.add()
            kept.CopyFrom(attribute)
            if kept.type == AttributeProto.GRAPH:
                _bind_graph(kept.g, values)
        elif attribute.ref_attr_name in values:
            kept = bound.attribute.add()
            kept.CopyFrom(values[attribute.ref_attr_name])
            kept.name = attribute.name
    return bound


def _bind_graph(graph: GraphProto, values: Mapping[str, AttributeProto]) -> None:
    nodes = [_bound_attributes(node, values) for node in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _without_input(node: NodeProto, name: str) -> NodeProto:
    """The node with an input that the caller left out left out."""
    if name not in node.input:
        return node
    changed = NodeProto()
    changed.CopyFrom(node)
    inputs = ["" if each == name else each for each in node.input]
    del changed.input[:]
    changed.input.extend(inputs)
    return changed


def _location(model: Model, node: NodeProto, number: int) -> NameLoc:
    place = FileLineColLoc(StringAttr(model.name), IntAttr(number), IntAttr(0))
    name = node.name or next(iter(node.output), "") or node.op_type
    return NameLoc(StringAttr(shown(name, 200)), place)


def _hint(name: str) -> str | None:
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name)[:60]
    return clean if re.match(r"[A-Za-z_]", clean) else f"v_{clean}"


def _texts(texts: Sequence[str]) -> ArrayAttr[StringAttr]:
    return ArrayAttr([StringAttr(text) for text in texts])


def _shapes(tensors: Sequence[Tensor]) -> ArrayAttr[DenseArrayBase]:
    sizes = [[-1 if ir_size(n) == DYNAMIC_INDEX else ir_size(n) for n in tensor.shape] for tensor in tensors]
    return ArrayAttr([DenseArrayBase.from_list(i64, shape) for shape in sizes])
