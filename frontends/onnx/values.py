"""What flows along the edges of a graph being imported: ONNX's view of a tensor, and where its numbers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.ir import SSAValue

from sterna.frontends.onnx.data_types import INT64, DataType
from sterna.frontends.onnx.errors import Unsupported
from sterna.frontends.onnx.sizes import Dim, Shape, ir_shape, ir_size
from sterna.frontends.onnx.tensors import StoredTensor

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor: a value in the IR, or numbers that are known when compiling, which become one when they are needed."""

    shape: Shape
    """ONNX's shape: axes of size 1 included."""
    type: DataType
    value: SSAValue | None = None
    """Of the IR type `ir_shape x type.element`."""
    known: Array | StoredTensor | None = None
    """The numbers: an array of `type.dtype` (of dtype object where sizes are among them), or a model's initializer."""
    name: str = ""
    """What a weight with these numbers is called."""
    size: Dim | None = None
    """The size that a float of one element is, where it was cast from one."""

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def ir_shape(self) -> tuple[int, ...]:
        return ir_shape(self.shape)

    @property
    def is_known(self) -> bool:
        return self.known is not None

    def axis(self, axis: int) -> int:
        """An ONNX axis, maybe negative, counted from the front. Unsupported if there is no such axis."""
        if not -self.rank <= axis < max(self.rank, 1):
            raise Unsupported(f"axis {axis} of a tensor of {self.rank} axes")
        return axis % self.rank if self.rank else 0

    def ir_axis(self, axis: int) -> int | None:
        """Where that axis is in the IR; None if it has size 1, and so is not there."""
        axis = self.axis(axis)
        if not self.shape or ir_size(self.shape[axis]) == 1:
            return None
        return len(ir_shape(self.shape[:axis]))

    def ir_axes(self, axes: list[int]) -> list[int]:
        """Those axes that the IR has, in increasing order."""
        return sorted({place for axis in axes if (place := self.ir_axis(axis)) is not None})


def known(array: Array, type: DataType = INT64, name: str = "") -> Tensor:
    """Numbers that are known when compiling."""
    return Tensor(tuple(array.shape), type, known=array, name=name)


def dims_array(dims: list[Dim]) -> Array:
    """Sizes as numbers that a graph may compute with."""
    if all(isinstance(size, int) for size in dims):
        return np.array(dims, np.int64)
    array = np.empty(len(dims), object)
    array[:] = dims
    return array
