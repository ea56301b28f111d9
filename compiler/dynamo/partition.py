"""Parts a graph into what is compiled and what PyTorch runs.

A trial import of the whole graph finds the ops that cannot be imported; its other ops are gathered into the largest
parts that depend on one another in no cycle (torch's own partitioner).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.fx import GraphModule, Node
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner, Partition
from torch.fx.passes.operator_support import OperatorSupportBase

from sterna.dynamo.part import Part
from sterna.frontends.errors import FrontendError, UnsupportedOp
from sterna.frontends.graph_import import GraphImporter, is_size
from sterna.frontends.lowering import Unsupported

aten: Any = torch.ops.aten
MOVES = {
    operator.getitem,
    *(
        getattr(aten, name).default
        for name in (
            "alias",
            "clone",
            "detach",
            "t",
            "permute",
            "view",
            "_unsafe_view",
            "unsqueeze",
            "expand",
        )
    ),
    aten.select.int,
    aten.slice.Tensor,
    aten.transpose.int,
}
"""Ops that only move elements: a part of nothing else stays in PyTorch, where most of them cost nothing."""


@dataclass(frozen=True)
class PartitionedGraph:
    """A graph whose compiled parts are submodules."""

    module: GraphModule
    parts: tuple[Part, ...]
    left: tuple[UnsupportedOp, ...]
    """What could not be imported, and so runs in PyTorch."""


class _Trial(GraphImporter):
    """Imports what it can; the results of what it cannot count as inputs, so that each op is tried by itself."""

    def __init__(self, module: GraphModule, stored: Sequence[bool], sizes: Mapping[object, int]) -> None:
        super().__init__(module, sizes)
        placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
        for node, is_weight in zip(placeholders, stored, strict=True):
            self._introduce(node, is_weight)
        for node in module.graph.nodes:
            if node.op == "call_function" and not is_size(node):
                self._try(node)

    def _introduce(self, node: Node, is_weight: bool = False) -> None:
        """A value that comes from elsewhere; what cannot come stays unknown."""
        try:
            self.lowering.meta(node)
            if is_weight:
                self.declare_weight(node, node.name)
            else:
                self.declare_input(node)
        except (FrontendError, Unsupported):
            return

    def _try(self, node: Node) -> None:
        sources = [source for source in node.all_input_nodes if not is_size(source)]
        foreign = [
            source for source in sources if source not in self.lowering.values and source not in self.stored
        ]
        if foreign or not _is_on_cpu(node):
            reason = "its operands are no tensors that the compiler knows" if foreign else "not on the CPU"
            self.unsupported[node] = self.described(node, reason)
        else:
            self.load_operands(node)
            self.import_node(node)
            self.failed.clear()
        if node in self.unsupported:
            self._introduce(node)


def _is_on_cpu(node: Node) -> bool:
    value: Any = node.meta.get("val")
    tensors = cast("Sequence[object]", value if isinstance(value, tuple | list) else [value])
    return all(tensor.device.type == "cpu" for tensor in tensors if isinstance(tensor, torch.Tensor))


class _Support(OperatorSupportBase):
    def __init__(self, supported: set[Node]) -> None:
        self.supported = supported

    def is_node_supported(self, submodules: Any, node: Node) -> bool:
        return node in self.supported


def partition(module: GraphModule, stored: Sequence[bool]) -> PartitionedGraph:
    """Replaces the parts of the graph that can be imported, in place. `stored`: which placeholders are weights."""
    trial = _Trial(module, stored, hints(module))
    weights = {
        node.name
        for node, is_weight in zip(
            (node for node in module.graph.nodes if node.op == "placeholder"), stored, strict=True
        )
        if is_weight
    }
    supported = {
        node
        for node in module.graph.nodes
        if node.op == "call_function" and not is_size(node) and node not in trial.unsupported
    }
    partitioner = CapabilityBasedPartitioner(module, _Support(supported), allows_single_node_partition=True)
    chosen = [each for each in partitioner.propose_partitions() if _computes(each)]
    fused = partitioner.fuse_partitions(chosen, prefix="sterna_")
    parts: list[Part] = []
    for node in fused.graph.nodes:
        if node.op == "call_module" and str(node.target).startswith("sterna_"):
            inner = cast(GraphModule, fused.get_submodule(str(node.target)))
            kept = [source.name in weights for source in cast(Sequence[Node], node.args)]
            parts.append(Part(inner, kept))
            delattr(fused, str(node.target))
            fused.add_module(str(node.target), parts[-1])
    fused.recompile()
    return PartitionedGraph(fused, tuple(parts), tuple(trial.unsupported.values()))


def _computes(part: Partition) -> bool:
    return any(node.target not in MOVES for node in part.nodes)


def hints(module: GraphModule) -> dict[object, int]:
    """The numbers that torch saw for symbolic sizes when it traced."""
    numbers: dict[object, int] = {}
    for node in module.graph.nodes:
        value: Any = node.meta.get("val")
        sizes = value.shape if isinstance(value, torch.Tensor) else [value]
        for size in sizes:
            inner = cast(Any, size).node if isinstance(size, torch.SymInt) else None
            if inner is not None and inner.has_hint() and inner.expr.is_Symbol:
                numbers[inner.expr] = int(inner.hint)
    return numbers
