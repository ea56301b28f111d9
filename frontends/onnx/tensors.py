"""Reads a TensorProto: its declared type and shape against the bytes that are there, before anything is allocated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from sterna.frontends.onnx.data_types import DataType, data_type
from sterna.frontends.onnx.errors import OnnxError, Unsupported, shown
from sterna.frontends.onnx.external_data import map_external

Array = npt.NDArray[Any]

LARGEST_RANK = 32

TYPED_FIELDS = {
    "float32": "float_data",
    "float64": "double_data",
    "int64": "int64_data",
    "uint64": "uint64_data",
    "uint32": "uint64_data",
    "string": "string_data",
}
"""Where numbers lie that are not in raw_data; for all other types, in int32_data, small ones packed."""

RAW = {"float16": "<f2", "bfloat16": "<u2", "bool": "u1", "float32": "<f4", "float64": "<f8"}


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor of a model file whose declaration fits the bytes that are there; its numbers are read on demand."""

    proto: TensorProto
    folder: Path | None
    where: str
    shape: tuple[int, ...]
    type: DataType

    @property
    def size(self) -> int:
        return prod(self.shape)

    def read(self) -> Array:
        """The numbers, in the dtype that `DataType.held` names; float16 widened, small integers unpacked."""
        flat = self._raw() if _is_raw(self.proto) else self._typed()
        return flat.reshape(self.shape)

    def _bytes(self) -> Array:
        if self.proto.data_location == TensorProto.EXTERNAL:
            return map_external(self.proto, self.folder, _raw_bytes(self.type, self.size), self.where)
        return np.frombuffer(self.proto.raw_data, np.uint8)

    def _raw(self) -> Array:
        data = self._bytes()
        if self.type.bits < 8 and self.type.kind != "bool":
            return _unpack(data, self.type, self.size)
        values = data.view(RAW.get(self.type.name, np.dtype(self.type.held).newbyteorder("<")))
        return _widen(values, self.type)

    def _typed(self) -> Array:
        field: Sequence[Any] = getattr(self.proto, TYPED_FIELDS.get(self.type.name, "int32_data"))
        match self.type.name:
            case "string":
                return np.array(list(field), object)
            case "float32" | "float64" | "int64" | "uint64":
                return np.array(field, self.type.held)
            case "float16" | "bfloat16":
                return _widen(np.array(field, np.int64).astype(np.uint16), self.type)
            case _ if self.type.bits < 8 and self.type.kind != "bool":
                return _unpack(np.array(field, np.int64).astype(np.uint8), self.type, self.size)
            case _:
                return np.array(field, np.int64).astype(self.type.held)


def stored_tensor(proto: TensorProto, folder: Path | None, where: str) -> StoredTensor:
    """The tensor, its declaration checked. OnnxError, which names the field, for one that its data does not fit."""
    where = f"{where} '{shown(proto.name)}'" if proto.name else where
    shape = tuple(proto.dims)
    if len(shape) > LARGEST_RANK:
        raise OnnxError(f"{where}: dims: expected at most {LARGEST_RANK} axes, found {len(shape)}")
    if any(size < 0 for size in shape):
        raise OnnxError(f"{where}: dims: expected sizes >= 0, found {min(shape)}")
    if proto.HasField("segment"):
        raise OnnxError(f"{where}: segment: tensors in segments are not supported")
    try:
        type = data_type(proto.data_type)
    except Unsupported as error:
        raise OnnxError(f"{where}: data_type: {error} are not supported") from None
    tensor = StoredTensor(proto, folder, where, shape, type)
    _check_amount(tensor)
    return tensor


def _is_raw(proto: TensorProto) -> bool:
    return proto.data_location == TensorProto.EXTERNAL or proto.HasField("raw_data")


def _raw_bytes(type: DataType, count: int) -> int:
    bits = 8 if type.kind == "bool" else type.bits
    return -(-count * bits // 8)


def _check_amount(tensor: StoredTensor) -> None:
    proto, type, where = tensor.proto, tensor.type, tensor.where
    if proto.data_location == TensorProto.EXTERNAL:
        map_external(proto, tensor.folder, _raw_bytes(type, tensor.size), where)
        return
    if proto.HasField("raw_data"):
        expected, found = _raw_bytes(type, tensor.size), len(proto.raw_data)
        if type.kind == "text":
            raise OnnxError(f"{where}: raw_data: strings must be in string_data")
        if expected != found:
            raise OnnxError(
                f"{where}: raw_data: {type.name} of shape {list(tensor.shape)} takes {expected} bytes, found {found}"
            )
        return
    name = TYPED_FIELDS.get(type.name, "int32_data")
    expected, found = tensor.size, len(getattr(proto, name))
    if type.bits < 8 and type.kind in ("signed", "unsigned"):
        expected = -(-expected * type.bits // 8)
    if expected != found:
        raise OnnxError(
            f"{where}: {name}: {type.name} of shape {list(tensor.shape)} takes {expected} numbers, found {found}"
        )


def _widen(values: Array, type: DataType) -> Array:
    match type.name:
        case "bfloat16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        case "bool":
            return values != 0
        case _:
            return values.astype(type.held, copy=False)


def _unpack(data: Array, type: DataType, count: int) -> Array:
    """Several numbers a byte, the first in the lowest bits, sign-extended for a signed type."""
    bits, fields = type.bits, 8 // type.bits
    shifts = np.arange(fields, dtype=np.uint8) * np.uint8(bits)
    values = ((data[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[:count]
    if type.kind == "unsigned":
        return values
    sign = 1 << bits - 1
    return ((values.astype(np.int8) ^ sign) - sign).astype(np.int8)
