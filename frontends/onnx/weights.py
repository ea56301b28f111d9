"""The numbers of an imported model: initializers as its files hold them, read one at a time, and folded constants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sterna.frontends.onnx.data_types import DataType
from sterna.frontends.onnx.tensors import StoredTensor

Array = npt.NDArray[Any]


@dataclass
class OnnxStore:
    """A weight store over the tensors of one model. Unsigned integers come as the signed ones of the same bits."""

    tensors: dict[str, tuple[DataType, StoredTensor | Array]] = field(
        default_factory=dict[str, "tuple[DataType, StoredTensor | Array]"]
    )

    def add(self, name: str, type: DataType, numbers: StoredTensor | Array) -> str:
        """Keeps a tensor under that name, or a similar one if it is taken; returns the name."""
        unique, copies = name, 0
        while unique in self.tensors:
            copies += 1
            unique = f"{name}.{copies}"
        self.tensors[unique] = (type, numbers)
        return unique

    def read(self, name: str) -> Array:
        type, numbers = self.tensors[name]
        array = numbers.read() if isinstance(numbers, StoredTensor) else numbers
        return array.view(f"int{8 * array.itemsize}") if type.kind == "unsigned" else array

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name][1].shape)

    def dtype(self, name: str) -> str:
        dtype = np.dtype(self.tensors[name][0].held)
        return "BOOL" if dtype == np.bool_ else f"{'F' if dtype.kind == 'f' else 'I'}{8 * dtype.itemsize}"
