"""Imports a graph of ATen ops, node by node, into a function: what a program of `torch.export`, or a part of what
`torch.compile` traced, consists of.

    graph = GraphImporter(module)
    graph.declare_input(x)
    graph.declare_weight(w, "layers.0.weight")
    graph.import_nodes(live)
    module = graph.finish(inputs=[x], results=[y])
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import torch
from torch.fx import GraphModule, Node
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
from sterna.frontends import (
    aten,
    aten_functions,
    aten_indexing,
    aten_norms,
    aten_products,
    aten_reductions,
    aten_shapes,
    aten_windows,
    cached_attention,
)
from sterna.frontends.errors import FrontendError, UnsupportedOp, UnsupportedOpsError
from sterna.frontends.lowering import Lowering, Sizes, Unsupported, Value
from sterna.frontends.recurrence import emit_scan
from sterna.frontends.source_locations import location_of, module_of, place_of
from sterna.frontends.tensor_builder import TensorBuilder, without_units

TABLES = (
    aten,
    aten_functions,
    aten_indexing,
    aten_norms,
    aten_products,
    aten_reductions,
    aten_shapes,
    aten_windows,
    cached_attention,
)
EMITTERS = {target: emit for table in TABLES for target, emit in table.EMITTERS.items()}
SCAN = torch.ops.higher_order.scan
STRUCTURE = (operator.getitem, SCAN)


def is_imported(node: Node) -> bool:
    """Whether there is an emitter for the op; it may still refuse the arguments."""
    return node.op != "call_function" or node.target in STRUCTURE or node.target in EMITTERS or is_size(node)


def is_size(node: Node) -> bool:
    """Whether the node is arithmetic on sizes, which is read where it is used."""
    return isinstance(node.meta.get("val"), int | torch.SymInt | torch.SymBool)


def live_nodes(module: GraphModule) -> set[Node]:
    """What the results depend on; checks and unused values, which torch leaves in the graph, are not imported."""
    live = {module.graph.output_node()}
    for node in reversed(module.graph.nodes):
        if any(user in live for user in node.users):
            live.add(node)
    return live


class GraphImporter:
    """One graph on its way to a module. `sizes` are the numbers of symbolic sizes that are known."""

    def __init__(self, module: GraphModule, sizes: Mapping[object, int] | None = None) -> None:
        self.block = Block()
        self.build = TensorBuilder(self.block)
        self.sizes = Sizes(sizes or {})
        self.lowering = Lowering(module, self.build, self.sizes)
        self.stored: dict[Node, str | float] = {}
        self.weights: list[WeightOp] = []
        self.unsupported: dict[Node, UnsupportedOp] = {}
        """The ops that have no emitter, or whose emitter refused them."""
        self.failed: set[Node] = set()
        """Those, and what is computed from them."""

    def declare_input(self, node: Node) -> None:
        """The placeholder is an argument of the function. FrontendError if it is none that the IR has."""
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

    def declare_weight(self, node: Node, value: str | float) -> None:
        """The placeholder is a weight of that name, or a number."""
        self.stored[node] = value

    def import_nodes(self, nodes: Collection[Node]) -> None:
        """Imports those of these nodes that compute a tensor, in the order of the graph."""
        for node in self.lowering.module.graph.nodes:
            if node in nodes and node.op in ("call_function", "output"):
                self.load_operands(node)
            if node in nodes and node.op == "call_function" and not is_size(node):
                self.import_node(node)

    def load_operands(self, node: Node) -> None:
        """Weights are loaded where they are first used."""
        self.build.location = location_of(node)
        for source in node.all_input_nodes:
            if source in self.stored and source not in self.lowering.values:
                self._load(source, self.stored[source])

    def _load(self, node: Node, stored: str | float) -> None:
        if not isinstance(stored, str):
            self.lowering.node = node
            self.lowering.values[node] = self.lowering.operand(stored)
            return
        try:
            meta = self.lowering.meta(node)
        except Unsupported as error:
            raise FrontendError(f"weight '{stored}': {error}") from None
        type = TensorType(meta.element, without_units(meta.shape))
        self.weights.append(WeightOp(stored, type))
        self.lowering.values[node] = self.build.add(LoadOp(stored, type))

    def import_node(self, node: Node) -> None:
        if is_imported(node) and any(source in self.failed for source in node.all_input_nodes):
            self.failed.add(node)
            return
        self.lowering.node = node
        try:
            value = self._emit(node)
        except Unsupported as error:
            self.failed.add(node)
            self.unsupported[node] = self.described(node, str(error))
            return
        if isinstance(value, SSAValue) and value.name_hint is None:
            value.name_hint = node.name
        self.lowering.values[node] = value

    def described(self, node: Node, reason: str) -> UnsupportedOp:
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
        return EMITTERS[node.target](self.lowering, *self.lowering.arguments(node))

    def finish(
        self,
        inputs: Sequence[Node],
        results: Sequence[Node],
        states: int = 0,
        names: Sequence[str] | None = None,
    ) -> ModuleOp:
        """The module, whose @forward takes the inputs, which were declared in this order, and returns the results.

        UnsupportedOpsError, for all ops at once, if some were not imported.
        """
        if self.unsupported:
            raise UnsupportedOpsError(list(self.unsupported.values()))
        if names is not None and len(names) != len(inputs):
            raise FrontendError(f"{len(names)} input names were given, the program has {len(inputs)} inputs")
        if not 0 <= states <= min(len(inputs), len(results)):
            raise FrontendError(
                f"{states} states were asked for, of {len(inputs)} inputs and {len(results)} results"
            )
        values = [self._returned(node) for node in results]
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

    def _returned(self, node: Node) -> SSAValue:
        try:
            return self.lowering.value(node)
        except Unsupported as error:
            raise FrontendError(f"result '{node.name}': {error}") from None

    def _shapes(self, nodes: Sequence[Node]) -> ArrayAttr[DenseArrayBase]:
        shapes = [self.lowering.meta(node).shape for node in nodes]
        sizes = [[-1 if size == DYNAMIC_INDEX else size for size in shape] for shape in shapes]
        return ArrayAttr([DenseArrayBase.from_list(i64, shape) for shape in sizes])
