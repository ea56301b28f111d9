"""Imports a program exported by `torch.export`, op by op, into upstream dialects.

What the framework said is kept: nothing is recognised here but the recurrence (see `recurrence`). Parameters, buffers
and constants become `ternary.weight` under their names in the state dict; their numbers are not looked at.
Every op carries the line of the user's source and the path of the module that it came from.

    linear(x, w)   ->   %w = ternary.load @"layers.0.weight" : tensor<8x4xf32>
                        %t = linalg.transpose ins(%w) outs(%0) permutation = [1, 0]
                        %y = linalg.matmul ins(%x, %t) outs(%zeros)
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch.export import ExportedProgram, default_decompositions
from torch.export.graph_signature import InputKind, InputSpec, OutputKind
from torch.fx import Node
from xdsl.dialects import func
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DenseArrayBase,
    FunctionType,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    TensorType,
    i64,
)
from xdsl.ir import Block, Region, SSAValue

from sterna.dialects.ternary import LoadOp, WeightOp
from sterna.frontends import aten, aten_reductions, aten_shapes
from sterna.frontends.errors import FrontendError, UnsupportedOp, UnsupportedOpsError
from sterna.frontends.lowering import Lowering, Sizes, Unsupported, Value, arguments_of
from sterna.frontends.recurrence import emit_scan
from sterna.frontends.source_locations import location_of, module_of, place_of
from sterna.frontends.tensor_builder import TensorBuilder, without_units

EMITTERS = aten.EMITTERS | aten_shapes.EMITTERS | aten_reductions.EMITTERS
SCAN = torch.ops.higher_order.scan
STRUCTURE = (operator.getitem, SCAN)
MUTATIONS = (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION)


def import_program(
    program: ExportedProgram, *, states: int = 0, input_names: Sequence[str] | None = None
) -> ModuleOp:
    """The program as a module with one function, @forward; weights are named and left where they are.

    `states`: how many of the last inputs and last results are recurrent states, paired in order.
    UnsupportedOpsError names every op that has no emitter; FrontendError for a signature that the IR cannot say.
    """
    return _Importer(_decomposed(program)).run(states, input_names)


def constants_of(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """Tensors that belong to the program and are not in the module's state dict, by the names of their weights."""
    return {name: value for name, value in program.constants.items() if isinstance(value, torch.Tensor)}


def _is_imported(node: Node) -> bool:
    return node.op != "call_function" or node.target in STRUCTURE or node.target in EMITTERS


def _decomposed(program: ExportedProgram) -> ExportedProgram:
    """The program without in-place ops and without ops that torch can say in terms of imported ones.

    Decomposing traces the whole program again, so it is done only where it is of use.
    """
    foreign = [node for node in program.graph.nodes if not _is_imported(node)]
    table = cast(Any, default_decompositions())
    if not any(_is_mutable(node.target) or node.target in table for node in foreign):
        return program
    for target in EMITTERS:
        table.pop(target, None)
    with quiet():
        return cast(Any, program).run_decompositions(table)


def _is_mutable(target: object) -> bool:
    schema = getattr(target, "_schema", None)
    return schema is not None and schema.is_mutable


@contextmanager
def quiet() -> Generator[None]:
    """torch warns about its own deprecations while it exports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Importer:
    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.block = Block()
        self.build = TensorBuilder(self.block)
        self.sizes = Sizes()
        self.lowering = Lowering(program.graph_module, self.build, self.sizes)
        self.stored: dict[Node, InputSpec] = {}
        self.weights: list[WeightOp] = []
        self.unsupported: list[UnsupportedOp] = []
        self.failed: set[Node] = set()
        """Unsupported nodes, and what is computed from them."""

    def run(self, states: int, input_names: Sequence[str] | None) -> ModuleOp:
        live = _live(self.program)
        placeholders = {node.name: node for node in self.program.graph.nodes if node.op == "placeholder"}
        inputs = [spec for spec in self.program.graph_signature.input_specs if _is_input(spec)]
        nodes = [placeholders[cast(Any, spec.arg).name] for spec in inputs]
        for node in nodes:
            self._declare_input(node)
        for spec in self.program.graph_signature.input_specs:
            if spec not in inputs and (node := placeholders.get(getattr(spec.arg, "name", ""))) in live:
                self.stored[cast(Node, node)] = spec
        for node in self.program.graph.nodes:
            if node in live and node.op in ("call_function", "output"):
                self._load_operands(node)
            if node in live and node.op == "call_function":
                self._import(node)
        if self.unsupported:
            raise UnsupportedOpsError(self.unsupported)
        return self._finish(nodes, self._results(), states, input_names)

    def _declare_input(self, node: Node) -> None:
        fake = node.meta.get("val")
        if not isinstance(fake, torch.Tensor):
            raise FrontendError(f"input '{node.name}': expected a tensor, found {type(fake).__name__}")
        for size in fake.shape:
            if isinstance(size, torch.SymInt):
                self.sizes.declare(size)
        try:
            meta = self.lowering.meta(node)
        except Unsupported as error:
            raise FrontendError(f"input '{node.name}': {error}") from None
        value = self.block.insert_arg(TensorType(meta.element, meta.ir_shape), len(self.block.args))
        value.name_hint = node.name
        self.lowering.values[node] = value
        if self.build.rows is None and DYNAMIC_INDEX in meta.ir_shape:
            self.build.set_rows(value, meta.ir_shape.index(DYNAMIC_INDEX))

    def _load_operands(self, node: Node) -> None:
        """Weights are loaded where they are first used."""
        self.build.location = location_of(node)
        for source in node.all_input_nodes:
            if source in self.stored and source not in self.lowering.values:
                self._load(source, self.stored[source])

    def _load(self, node: Node, spec: InputSpec) -> None:
        if (constant := self._single_number(spec)) is not None:
            self.lowering.node = node
            self.lowering.values[node] = self.lowering.operand(constant)
            return
        try:
            meta = self.lowering.meta(node)
        except Unsupported as error:
            raise FrontendError(f"weight '{spec.target}': {error}") from None
        type = TensorType(meta.element, without_units(meta.shape))
        name = cast(str, spec.target)
        self.weights.append(WeightOp(name, type))
        self.lowering.values[node] = self.build.add(LoadOp(name, type))

    def _single_number(self, spec: InputSpec) -> float | None:
        """A constant of one element, as in `torch.tensor(3.0)`, is a number in the text."""
        if spec.kind != InputKind.CONSTANT_TENSOR:
            return None
        value = self.program.constants.get(cast(str, spec.target))
        is_number = isinstance(value, torch.Tensor) and value.numel() == 1 and value.device.type != "meta"
        return cast(torch.Tensor, value).item() if is_number else None

    def _import(self, node: Node) -> None:
        if _is_imported(node) and any(source in self.failed for source in node.all_input_nodes):
            self.failed.add(node)
            return
        self.lowering.node = node
        try:
            value = self._emit(node)
        except Unsupported as error:
            self.failed.add(node)
            self.unsupported.append(self._described(node, str(error)))
            return
        if isinstance(value, SSAValue) and value.name_hint is None:
            value.name_hint = node.name
        self.lowering.values[node] = value

    def _described(self, node: Node, reason: str) -> UnsupportedOp:
        tensors = [source.meta.get("val") for source in node.all_input_nodes]
        shapes = [tensor.shape for tensor in tensors if isinstance(tensor, torch.Tensor)]
        texts = [f"[{', '.join(map(self.sizes.text, shape))}]" for shape in shapes]
        return UnsupportedOp(place_of(node), module_of(node), str(node.target), ", ".join(texts), reason)

    def _emit(self, node: Node) -> Value:
        if node.target is operator.getitem:
            source, index = cast(tuple[Node, int], node.args)
            value = cast(Sequence[SSAValue | None], self.lowering.values[source])[index]
            if value is None:
                raise Unsupported(f"result number {index} of {source.target}")
            return value
        if node.target is SCAN:
            step, init, scanned, additional = cast(Any, node.args)
            return emit_scan(self.lowering, step, init, scanned, additional)
        if node.target not in EMITTERS:
            raise Unsupported
        return EMITTERS[node.target](self.lowering, *arguments_of(node))

    def _results(self) -> list[Node]:
        results: list[Node] = []
        output = self.program.graph.output_node()
        specs = self.program.graph_signature.output_specs
        for node, spec in zip(cast(Sequence[object], output.args[0]), specs, strict=True):
            if spec.kind in MUTATIONS:
                raise FrontendError(
                    f"the module writes to '{spec.target}': pass it as an input and return its new value"
                )
            if not isinstance(node, Node) or not isinstance(node.meta.get("val"), torch.Tensor):
                raise FrontendError(f"result number {len(results)}: expected a tensor, found {node}")
            results.append(node)
        return results

    def _finish(
        self, inputs: Sequence[Node], results: Sequence[Node], states: int, names: Sequence[str] | None
    ) -> ModuleOp:
        if names is not None and len(names) != len(inputs):
            raise FrontendError(f"{len(names)} input names were given, the program has {len(inputs)} inputs")
        if not 0 <= states <= min(len(inputs), len(results)):
            raise FrontendError(
                f"{states} states were asked for, of {len(inputs)} inputs and {len(results)} results"
            )
        values = [self.lowering.value(node) for node in results]
        self.block.add_op(func.ReturnOp(*values))
        type = FunctionType.from_lists([arg.type for arg in self.block.args], [v.type for v in values])
        function = func.FuncOp("forward", type, Region(self.block))
        function.attributes |= {
            "sterna.states": IntegerAttr(states, i64),
            "sterna.input_names": ArrayAttr([StringAttr(n) for n in names or [node.name for node in inputs]]),
            "sterna.input_shapes": self._shapes(inputs),
            "sterna.output_shapes": self._shapes(results),
        }
        for number in range(states):
            pair = inputs[len(inputs) - states + number], results[len(results) - states + number]
            if self.lowering.meta(pair[0]) != self.lowering.meta(pair[1]):
                raise FrontendError(f"state '{pair[0].name}' and its new value differ in shape or dtype")
        return ModuleOp([*self.weights, function])

    def _shapes(self, nodes: Sequence[Node]) -> ArrayAttr[DenseArrayBase]:
        shapes = [self.lowering.meta(node).shape for node in nodes]
        sizes = [[-1 if size == DYNAMIC_INDEX else size for size in shape] for shape in shapes]
        return ArrayAttr([DenseArrayBase.from_list(i64, shape) for shape in sizes])


def _is_input(spec: InputSpec) -> bool:
    return spec.kind == InputKind.USER_INPUT and hasattr(spec.arg, "name") and not hasattr(spec.arg, "value")


def _live(program: ExportedProgram) -> set[Node]:
    """What the results depend on; checks and unused values, which torch leaves in the graph, are not imported."""
    live = {program.graph.output_node()}
    for node in reversed(program.graph.nodes):
        if any(user in live for user in node.users):
            live.add(node)
    return live
