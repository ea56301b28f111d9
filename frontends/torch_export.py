"""Imports a program exported by `torch.export`, op by op, into upstream dialects.

What the framework said is kept: nothing is recognised here but the recurrence (see `recurrence`). Parameters, buffers
and constants become `ternary.weight` under their names in the state dict; their numbers are not looked at.
Every op carries the line of the user's source and the path of the module that it came from.

    linear(x, w)   ->   %w = ternary.load @"layers.0.weight" : tensor<8x4xf32>
                        %t = linalg.transpose ins(%w) outs(%0) permutation = [1, 0]
                        %y = linalg.matmul ins(%x, %t) outs(%zeros)
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch._decomp as decompositions
from torch.export import ExportedProgram, default_decompositions
from torch.export.graph_signature import InputKind, InputSpec, OutputKind
from torch.fx import Node
from xdsl.dialects.builtin import ModuleOp

from sterna.frontends.aten import aten
from sterna.frontends.errors import FrontendError
from sterna.frontends.graph_import import EMITTERS, GraphImporter, is_imported, live_nodes

RESAMPLING: list[Any] = [
    getattr(packet, overload)
    for packet in (aten.upsample_nearest1d, aten.upsample_nearest2d, aten.upsample_bilinear2d)
    for overload in ("default", "vec")
]
"""Not core ATen's own decompositions, and torch has one."""
MUTATIONS = (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION)


def import_program(
    program: ExportedProgram, *, states: int = 0, input_names: Sequence[str] | None = None
) -> ModuleOp:
    """The program as a module with one function, @forward; weights are named and left where they are.

    `states`: how many of the last inputs and last results are recurrent states, paired in order.
    UnsupportedOpsError names every op that has no emitter; FrontendError for a signature that the IR cannot say.
    """
    return _ProgramImporter(_decomposed(program)).run(states, input_names)


def constants_of(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """Tensors that belong to the program and are not in the module's state dict, by the names of their weights."""
    return {name: value for name, value in program.constants.items() if isinstance(value, torch.Tensor)}


def _decomposed(program: ExportedProgram) -> ExportedProgram:
    """The program without in-place ops and without ops that torch can say in terms of imported ones.

    Decomposing traces the whole program again, so it is done only where it is of use.
    """
    live = live_nodes(program.graph_module)
    # What an op writes in place is read by later ones, though nothing reads its result.
    foreign = [node for node in program.graph.nodes if not is_imported(node)]
    if not any(node in live or _is_mutable(node.target) for node in foreign):
        return program
    with plainly():
        return cast(Any, program).run_decompositions(decomposition_table())


def decomposition_table() -> dict[Any, Any]:
    """How torch says ops that have no emitter in terms of others: its core ATen decompositions."""
    table = cast(Any, default_decompositions())
    table.update(cast(Any, decompositions).get_decompositions(RESAMPLING))
    for target in EMITTERS:
        table.pop(target, None)
    return table


def _is_mutable(target: object) -> bool:
    schema = getattr(target, "_schema", None)
    return schema is not None and schema.is_mutable


@contextmanager
def plainly() -> Generator[None]:
    """Without torch's warnings of its own deprecations, and without attention as one op that no table says."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _ProgramImporter(GraphImporter):
    """The signature of a program says what its placeholders are."""

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__(program.graph_module)
        self.program = program

    def run(self, states: int, input_names: Sequence[str] | None) -> ModuleOp:
        live = live_nodes(self.program.graph_module)
        placeholders = {node.name: node for node in self.program.graph.nodes if node.op == "placeholder"}
        inputs = [spec for spec in self.program.graph_signature.input_specs if _is_input(spec)]
        nodes = [placeholders[cast(Any, spec.arg).name] for spec in inputs]
        for node in nodes:
            self.declare_input(node)
        for spec in self.program.graph_signature.input_specs:
            if spec not in inputs and (node := placeholders.get(getattr(spec.arg, "name", ""))) in live:
                self.declare_weight(cast(Node, node), self._stored(spec))
        self.import_nodes(live)
        return self.finish(nodes, self._results() if not self.unsupported else [], states, input_names)

    def _stored(self, spec: InputSpec) -> str | float:
        """A weight's name; the number itself of a constant of one element, as in `torch.tensor(3.0)`."""
        name = cast(str, spec.target)
        value = self.program.constants.get(name) if spec.kind == InputKind.CONSTANT_TENSOR else None
        is_number = isinstance(value, torch.Tensor) and value.numel() == 1 and value.device.type != "meta"
        return cast(torch.Tensor, value).item() if is_number else name

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


def _is_input(spec: InputSpec) -> bool:
    return spec.kind == InputKind.USER_INPUT and hasattr(spec.arg, "name") and not hasattr(spec.arg, "value")
