"""Where the numbers of an exported graph go: into the protobuf, or into a file beside it, one weight at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

Array = npt.NDArray[Any]

TYPES: dict[str, int] = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "int16": TensorProto.INT16,
    "int8": TensorProto.INT8,
    "bool": TensorProto.BOOL,
    "float64": TensorProto.DOUBLE,
    "bfloat16": TensorProto.BFLOAT16,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
}
"""The ONNX type of each dtype that the interpreter computes in, and of those that only inputs and results have."""

ALIGNMENT = 4096
"""Bytes: a weight in a file starts at a page, so that a runtime can map it."""


def pack_trits(trits: npt.NDArray[np.int8]) -> bytes:
    """Trits as ONNX's INT2: two's complement, four to a byte, the first in the lowest bits, row after row."""
    fields = np.zeros(-(-trits.size // 4) * 4, np.uint8)
    fields[: trits.size] = trits.reshape(-1).view(np.uint8) & 3
    quads = fields.reshape(-1, 4)
    return (quads[:, 0] | quads[:, 1] << 2 | quads[:, 2] << 4 | quads[:, 3] << 6).astype(np.uint8).tobytes()


class Initializers(Protocol):
    """Takes a graph's initializers as they are made."""

    def add(self, name: str, shape: tuple[int, ...], type: int, content: bytes) -> TensorProto: ...


class Inline:
    """In the model itself: one file, at most 2 GB."""

    def add(self, name: str, shape: tuple[int, ...], type: int, content: bytes) -> TensorProto:
        return TensorProto(name=name, dims=shape, data_type=type, raw_data=content)


class External:
    """In a file beside the model, which names it: `location` is relative to the model."""

    SMALL = 1024
    """Bytes: what is smaller stays in the model, where shape inference can read it."""

    def __init__(self, file: BinaryIO, location: str) -> None:
        self._file = file
        self._location = location

    def add(self, name: str, shape: tuple[int, ...], type: int, content: bytes) -> TensorProto:
        if len(content) < self.SMALL:
            return Inline().add(name, shape, type, content)
        self._file.write(bytes(-self._file.tell() % ALIGNMENT))
        place = {"location": self._location, "offset": str(self._file.tell()), "length": str(len(content))}
        self._file.write(content)
        tensor = TensorProto(name=name, dims=shape, data_type=type, data_location=TensorProto.EXTERNAL)
        tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in place.items())
        return tensor


def is_too_large(path: Path) -> bool:
    return path.stat().st_size >= onnx.checker.MAXIMUM_PROTOBUF
