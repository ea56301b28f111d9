"""The names that a graph's nodes see, and how numbers that are known when compiling become values of the IR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt
from onnx import GraphProto
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import TensorType, i64
from xdsl.ir import SSAValue

from sterna.dialects.ternary import LoadOp, WeightOp
from sterna.frontends.errors import UnsupportedOp
from sterna.frontends.onnx.data_types import DataType
from sterna.frontends.onnx.errors import Unsupported
from sterna.frontends.onnx.reader import Model
from sterna.frontends.onnx.sizes import BATCH, Size, ir_shape
from sterna.frontends.onnx.tensors import StoredTensor
from sterna.frontends.onnx.values import Tensor, known
from sterna.frontends.onnx.weights import OnnxStore
from sterna.frontends.tensor_builder import TensorBuilder

Array = npt.NDArray[Any]
GraphRunner: TypeAlias = "Callable[[GraphProto, Scope, Sequence[Tensor]], list[Tensor]]"

LONGEST_TABLE = 64
"""Integers up to this many are a constant in the text; more, and floats, are a weight."""
LARGEST_FOLD = 1 << 16
"""Elements of what is computed when compiling."""


@dataclass
class Program:
    """What all graphs of a model being imported share."""

    model: Model
    store: OnnxStore = field(default_factory=OnnxStore)
    weights: list[WeightOp] = field(default_factory=list[WeightOp])
    unsupported: list[UnsupportedOp] = field(default_factory=list[UnsupportedOp])
    names: dict[Tensor, str] = field(default_factory=dict[Tensor, str])
    """The weight that holds a tensor's numbers."""
    nodes_left: int = 1_000_000
    """How many more nodes are imported: functions that call functions can ask for more than there is memory."""


class Scope:
    """The names of one graph: its own, then those of the graph around it."""

    def __init__(
        self, program: Program, build: TensorBuilder, run: GraphRunner, outer: Scope | None = None
    ) -> None:
        self.program = program
        self.build = build
        self.outer = outer
        self.names: dict[str, Tensor | None] = {}
        """None where a node that makes the tensor is not supported."""
        self._run = run
        self._values: dict[Tensor, SSAValue] = {}

    @property
    def model(self) -> Model:
        return self.program.model

    def knows(self, name: str) -> bool:
        return name in self.names or (self.outer is not None and self.outer.knows(name))

    def find(self, name: str) -> Tensor | None:
        if name in self.names or self.outer is None:
            return self.names[name]
        return self.outer.find(name)

    def run(self, graph: GraphProto, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of a graph in a node's attribute, emitted where the builder stands."""
        inner = Scope(self.program, self.build, self._run, self)
        return self._run(graph, inner, inputs)

    def read(self, numbers: Array | StoredTensor) -> Array:
        return numbers.read() if isinstance(numbers, StoredTensor) else numbers

    def single(self, numbers: Array | StoredTensor) -> float | None:
        """The number of a tensor of one element; None for another tensor, and for a size."""
        if np.prod(numbers.shape, dtype=object) != 1:
            return None
        number = self.read(numbers).reshape(-1).tolist()[0]
        return None if isinstance(number, Size | str | bytes) else number

    def value(self, source: Tensor) -> SSAValue:
        if source.value is not None:
            return source.value
        if (made := self._made(source)) is None:
            made = self._values[source] = self._materialize(source)
        return made

    def _made(self, source: Tensor) -> SSAValue | None:
        """The value, if it was made here or in a graph around this one."""
        if source in self._values or self.outer is None:
            return self._values.get(source)
        return self.outer._made(source)

    def _materialize(self, source: Tensor) -> SSAValue:
        assert source.known is not None
        shape, element = ir_shape(source.shape), source.type.element
        if (number := self.single(source.known)) is not None:
            return self.build.splat(number, shape, element)
        if isinstance(source.known, StoredTensor):
            return self._load(source, source.known)
        if source.known.dtype == object:
            return self._sizes(source.known, shape)
        if source.known.size and (source.known == source.known.flat[0]).all():
            return self.build.splat(source.known.flat[0].item(), shape, element)
        if not source.type.is_float and 0 < source.known.size <= LONGEST_TABLE:
            return self.build.dense(source.known.reshape(-1).tolist(), shape, element)
        return self._load(source, source.known)

    def _load(self, source: Tensor, numbers: Array | StoredTensor) -> SSAValue:
        type = TensorType(source.type.element, ir_shape(source.shape))
        if (name := self.program.names.get(source)) is None:
            name = self.program.store.add(source.name or "constant", source.type, numbers)
            self.program.names[source] = name
            self.program.weights.append(WeightOp(name, type))
        return self.build.add(LoadOp(name, type))

    def _sizes(self, sizes: Array, shape: tuple[int, ...]) -> SSAValue:
        """Sizes of inputs, as numbers of the running program."""
        scalars = [self._scalar(size) for size in sizes.reshape(-1).tolist()]
        if not shape:
            return self.build.add(tensor.SplatOp(scalars[0], [], TensorType(i64, ())))
        flat = self.build.add(tensor.FromElementsOp(*scalars, result_type=TensorType(i64, (len(scalars),))))  # pyright: ignore
        reshaped = self.build.reshape(flat, shape)
        assert reshaped is not None
        return reshaped

    def _scalar(self, size: int | Size) -> SSAValue:
        if not isinstance(size, Size):
            return self.build.scalar(size, i64)
        if size.has(BATCH):
            raise Unsupported("the size of the batch is used as a number: give it one with --size")
        assert self.build.rows is not None
        rows = self.build.add(arith.IndexCastOp(self.build.rows, i64))
        total: SSAValue | None = None
        for product, count in size.terms:
            term = self.build.scalar(count, i64)
            for _ in product:
                term = self.build.add(arith.MuliOp(term, rows))
            total = term if total is None else self.build.add(arith.AddiOp(total, term))
        assert total is not None
        return total

    def converted(self, source: Tensor, to: DataType) -> Tensor | None:
        """Known numbers in another type; None where that is for the running program to do."""
        assert source.known is not None
        is_large = isinstance(source.known, StoredTensor) and source.known.size > LARGEST_FOLD
        if is_large and source.type.ir is not None:
            return None
        array = self.read(source.known)
        if array.dtype == object:
            return known(array, to, source.name) if to.is_integer and to.bits >= 32 else None
        if (converted := convert_array(array, source.type, to)) is None:
            return None
        return known(converted, to, source.name)


def convert_array(array: Array, source: DataType, to: DataType) -> Array | None:
    """ONNX's Cast on known numbers: floats round to the nearest, or truncate to integers; integers wrap."""
    if "text" in (source.kind, to.kind) or (to.is_integer and to.bits < 8):
        return None
    with np.errstate(all="ignore"):
        if to.is_float:
            rounded = array.astype(ml_dtypes.bfloat16 if to.name == "bfloat16" else to.name)
            return rounded.astype(to.held)
        if source.is_float and to.is_integer:
            array = np.nan_to_num(array, nan=0, posinf=2**62, neginf=-(2**62)).astype(np.int64)
        return array.astype(to.held)
