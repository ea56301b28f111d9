"""The backend that torch finds under the entry point `torch_dynamo_backends`: inference only.

torch.compile traces Python into graphs; AOTAutograd makes each one functional and says it in ATen; the parts of it that
Sterna can import are compiled, and the ops between them run in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx import GraphModule

from sterna.dialects.errors import CompileError
from sterna.dynamo.partition import PartitionedGraph, partition
from sterna.frontends.torch_export import decomposition_table


class Backend:
    """Compiles graphs, and remembers what became of each."""

    def __init__(self) -> None:
        self.graphs: list[PartitionedGraph] = []

    def __call__(self, module: GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        stored = [is_stored(value) for value in example_inputs]

        def compile_inference(graph: GraphModule, fakes: Sequence[Any]) -> Callable[..., Any]:
            same = len(stored) == len(fakes)
            # An emitter that computes with a tensor means its numbers.
            with unset_fake_temporarily():
                partitioned = partition(graph, stored if same else [False] * len(fakes))
            self.graphs.append(partitioned)
            return partitioned.module.forward

        aot: Any = aot_autograd(
            fw_compiler=_refuse_training,
            inference_compiler=compile_inference,
            decompositions=decomposition_table(),
        )
        return aot(module, example_inputs)


def is_stored(value: object) -> bool:
    """Whether torch.compile lifted it from a module: a parameter or a buffer."""
    return isinstance(value, torch.Tensor) and hasattr(value, "_dynamo_static_input_type")


def _refuse_training(graph: GraphModule, fakes: Sequence[Any]) -> Callable[..., Any]:
    raise CompileError(
        "backend 'sterna' is for inference only, and a gradient is required: call the model under torch.no_grad() "
        "or torch.inference_mode()"
    )


def sterna_backend(module: GraphModule, example_inputs: Sequence[Any], **options: Any) -> Callable[..., Any]:
    """What `torch.compile(backend="sterna")` calls."""
    if options:
        raise CompileError(f"backend 'sterna' has no option '{next(iter(options))}'")
    return Backend()(module, example_inputs)
