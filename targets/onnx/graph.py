"""An ONNX graph in the making: nodes in order, initializers, and names that are used once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper
from xdsl.dialects.builtin import DYNAMIC_INDEX

from sterna.targets.onnx.initializers import TYPES, Initializers, pack_trits

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

ROWS = "T"
"""What the one dynamic size is called in the shapes of inputs and results."""


class Graph:
    """Appends nodes. Every method returns the name of the value that it made."""

    def __init__(self, initializers: Initializers) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.place = ""
        """Where in the model the nodes being made come from."""
        self.rows: str | None = None
        """T, as an int64 of one element."""
        self._sink = initializers
        self._taken: dict[str, int] = {}
        self._constants: dict[tuple[str, Shape, bytes], str] = {}

    def name(self, hint: str) -> str:
        count = self._taken[hint] = self._taken.get(hint, -1) + 1
        return f"{hint}.{count}" if count else hint

    def is_free(self, name: str) -> bool:
        return name not in self._taken

    def nodes_of(self, op: str, inputs: Sequence[str], results: int, **attributes: Any) -> list[str]:
        """A node with several results."""
        outputs = [self.name(op.lower()) for _ in range(results)]
        node = helper.make_node(op, inputs, outputs, name=self.name(self.place or op), **attributes)
        self.nodes.append(node)
        return outputs

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.nodes_of(op, inputs, 1, **attributes)[0]

    def constant(self, array: Array) -> str:
        """A small array, once for all who use it."""
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.initializer(self.name("constant"), array)
        return self._constants[key]

    def integers(self, numbers: Sequence[int]) -> str:
        return self.constant(np.array(numbers, np.int64))

    def float(self, number: float) -> str:
        return self.constant(np.array(number, np.float32))

    def initializer(self, name: str, array: Array) -> str:
        content = np.ascontiguousarray(array).tobytes()
        self.initializers.append(self._sink.add(name, array.shape, TYPES[array.dtype.name], content))
        return name

    def trits(self, name: str, trits: npt.NDArray[np.int8]) -> str:
        """Trits in two bits each, as an int8 value: a runtime widens them once, when it loads the model."""
        packed = f"{name}.int2"
        self.initializers.append(self._sink.add(packed, trits.shape, TensorProto.INT2, pack_trits(trits)))
        return self.cast(packed, TensorProto.INT8)

    def cast(self, value: str, type: int) -> str:
        return self.node("Cast", value, to=type)

    def shape(self, shape: Shape) -> str:
        """A shape as int64, with T where it is dynamic."""
        if DYNAMIC_INDEX not in shape:
            return self.integers(shape)
        assert self.rows is not None, "a dynamic size comes from an input"
        parts = [self.rows if size == DYNAMIC_INDEX else self.integers([size]) for size in shape]
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0)

    def expand(self, value: str, shape: Shape) -> str:
        return self.node("Expand", value, self.shape(shape))

    def reshape(self, value: str, shape: Shape) -> str:
        if shape.count(DYNAMIC_INDEX) <= 1 and 0 not in shape:
            return self.node(
                "Reshape", value, self.integers([-1 if s == DYNAMIC_INDEX else s for s in shape])
            )
        return self.node("Reshape", value, self.shape(shape), allowzero=1)

    def unsqueeze(self, value: str, *axes: int) -> str:
        return self.node("Unsqueeze", value, self.integers(axes)) if axes else value

    def squeeze(self, value: str, *axes: int) -> str:
        return self.node("Squeeze", value, self.integers(axes)) if axes else value

    def proto(
        self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]
    ) -> GraphProto:
        return helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)
