"""A part of a graph that was traced by torch, compiled when it runs.

Of the sizes that torch leaves open the last one, a sequence's rather than a batch's, stays open where it can: what is
compiled then serves every length up to a power of two. The other sizes are numbers, and so is that one in a graph that
cannot be compiled for T rows: each combination of numbers is compiled by itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from xdsl.dialects.builtin import UnitAttr

from sterna.dialects.errors import CompileError
from sterna.dialects.weight_ops import FLOAT_LAYERS
from sterna.frontends.errors import FrontendError
from sterna.frontends.graph_import import GraphImporter, is_size
from sterna.frontends.torch_module import TensorStore
from sterna.in_memory import jit

if TYPE_CHECKING:
    from sterna.targets import Executable

MOST_VERSIONS = 32
"""Combinations of sizes that a part is kept compiled for; the one that was not used for longest is dropped."""
LEAST_CAPACITY = 64
"""Rows for which a part is compiled that takes any number up to there."""

Stamp = tuple[int, int]
"""Where a weight is, and how often it was written to."""


@dataclass(frozen=True)
class Version:
    """The part compiled for one combination of sizes, with the weights as they were."""

    executable: Executable
    stamps: tuple[Stamp, ...]


class Part(nn.Module):
    """Runs compiled code where there was a graph of ATen ops.

    Weights are read when a version is compiled; a weight that was written to since, as torch's version counter says,
    has the version compiled again. What the compiler refuses after all runs in PyTorch, and `refusal` says why.
    """

    def __init__(self, graph: GraphModule, stored: Sequence[bool]) -> None:
        super().__init__()
        self.graph = graph
        self.refusal: str | None = None
        self.compilations = 0
        self._placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
        self._stored = tuple(stored)
        self._results = _results(graph)
        self._single = isinstance(graph.graph.output_node().args[0], Node)
        self._dtypes = [cast(Tensor, node.meta["val"]).dtype for node in self._results]
        self._versions: OrderedDict[tuple[object, ...], Version] = OrderedDict()
        self._may_stay_open = True

    @property
    def op_count(self) -> int:
        return sum(node.op == "call_function" for node in self.graph.graph.nodes)

    def forward(self, *arguments: Any) -> Any:
        if self.refusal is not None:
            return self.graph(*arguments)
        try:
            version = self._version_for(arguments)
        except (CompileError, FrontendError) as error:
            self.refusal = str(error)
            return self.graph(*arguments)
        inputs = [_array(value) for value in self._inputs(arguments)]
        outputs = [_tensor(*pair) for pair in zip(version.executable.run(inputs), self._dtypes, strict=True)]
        return outputs[0] if self._single else tuple(outputs)

    def _inputs(self, arguments: Sequence[Any]) -> list[Tensor]:
        return [
            value
            for value, stored in zip(arguments, self._stored, strict=True)
            if isinstance(value, Tensor) and not stored
        ]

    def _version_for(self, arguments: Sequence[Any]) -> Version:
        sizes = self._sizes(arguments)
        if sizes and self._may_stay_open:
            try:
                return self._compiled(arguments, *_with_one_open(sizes))
            except (CompileError, FrontendError):
                self._may_stay_open = False
        return self._compiled(arguments, sizes)

    def _compiled(
        self, arguments: Sequence[Any], sizes: Mapping[object, int], capacity: int = LEAST_CAPACITY
    ) -> Version:
        """For these numbers, and up to `capacity` of the size that is not among them."""
        key = (capacity, *sizes.items())
        stamps = tuple(_stamp(value) for value, stored in zip(arguments, self._stored, strict=True) if stored)
        version = self._versions.get(key)
        if version is None or version.stamps != stamps:
            version = self._versions[key] = Version(self._compile(arguments, sizes, capacity), stamps)
        self._versions.move_to_end(key)
        if len(self._versions) > MOST_VERSIONS:
            self._versions.popitem(last=False)
        return version

    def _compile(self, arguments: Sequence[Any], sizes: Mapping[object, int], capacity: int) -> Executable:
        importer = GraphImporter(self.graph, sizes)
        tensors: dict[str, Tensor] = {}
        inputs: list[Node] = []
        for node, value, stored in zip(self._placeholders, arguments, self._stored, strict=True):
            if stored:
                tensors[node.name] = value
                importer.declare_weight(node, node.name)
            elif not is_size(node):
                inputs.append(node)
                importer.declare_input(node)
        importer.import_nodes(set(self.graph.graph.nodes))
        module = importer.finish(inputs, self._results)
        module.attributes[FLOAT_LAYERS] = UnitAttr()
        executable = jit(module, TensorStore(tensors), max_rows=capacity)
        self.compilations += 1
        return executable

    def _sizes(self, arguments: Sequence[Any]) -> dict[object, int]:
        """The numbers that this call has for the symbols of the graph, those of tensors last."""
        numbers: dict[object, int] = {}
        pairs = list(zip(self._placeholders, arguments, strict=True))
        for node, value in sorted(pairs, key=lambda pair: isinstance(pair[1], Tensor)):
            fake: Any = node.meta["val"]
            sizes = (
                zip(fake.shape, value.shape, strict=True) if isinstance(value, Tensor) else [(fake, value)]
            )
            for symbol, number in sizes:
                if isinstance(symbol, torch.SymInt) and (expression := cast(Any, symbol).node.expr).is_Symbol:
                    numbers.pop(expression, None)
                    numbers[expression] = int(number)
        return numbers


def _with_one_open(sizes: Mapping[object, int]) -> tuple[dict[object, int], int]:
    """All numbers but the last, and a capacity that the last one does not exceed."""
    *known, (_, length) = sizes.items()
    return dict(known), max(LEAST_CAPACITY, 1 << (length - 1).bit_length())


def _results(graph: GraphModule) -> list[Node]:
    returned: Any = graph.graph.output_node().args[0]
    return [returned] if isinstance(returned, Node) else list(returned)


def _stamp(weight: Tensor) -> Stamp:
    # A tensor of inference mode counts no versions, for it cannot be written to outside of it.
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


def _array(value: Tensor) -> Any:
    if value.dtype in (torch.float16, torch.bfloat16):
        value = value.float()
    array = value.detach().contiguous().numpy()
    return array.view(np.int8) if array.dtype == np.uint8 else array


def _tensor(array: Any, dtype: torch.dtype) -> Tensor:
    tensor = cast(Any, torch).from_numpy(array)
    return tensor.view(torch.uint8) if dtype == torch.uint8 else tensor.to(dtype)
