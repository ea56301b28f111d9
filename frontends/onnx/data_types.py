"""The element types of ONNX, and what holds them in the IR.

Floats of 16 bits are computed in f32. Unsigned integers share the IR's types with signed ones, and the ops say which
they are. Integers of 2 and 4 bits are held in i8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from onnx import TensorProto
from xdsl.dialects.builtin import IntegerType, f32, i1, i8, i16, i32, i64
from xdsl.ir import Attribute

from sterna.frontends.onnx.errors import Unsupported, shown

Kind = Literal["float", "signed", "unsigned", "bool", "text"]


@dataclass(frozen=True)
class DataType:
    code: int
    """The number that ONNX gives it."""
    name: str
    """numpy's name, or that of ml_dtypes."""
    kind: Kind
    bits: int
    held: str
    """The numpy dtype in which the importer holds its numbers."""
    ir: Attribute | None
    """None where the IR has none; such tensors may still be known when compiling, and be converted."""

    @property
    def element(self) -> Attribute:
        if self.ir is None:
            raise Unsupported(f"tensors of {self.name}")
        return self.ir

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        return self.kind in ("signed", "unsigned")

    @property
    def is_unsigned(self) -> bool:
        """Widened with zeros, compared and divided as unsigned."""
        return self.kind in ("unsigned", "bool")

    @property
    def smallest(self) -> float:
        """The least value: of floats, minus infinity."""
        if self.is_float:
            return -np.inf
        return -(1 << self.bits - 1) if self.kind == "signed" else 0

    @property
    def largest(self) -> float:
        if self.is_float:
            return np.inf
        return (1 << self.bits - (self.kind == "signed")) - 1

    @property
    def held_bits(self) -> int:
        """The width of an integer in the IR."""
        return cast(IntegerType, self.element).width.data

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return np.dtype(self.held)


def _integers(bits: int, signed: int, unsigned: int, element: Attribute) -> list[DataType]:
    held = max(bits, 8)
    return [
        DataType(signed, f"int{bits}", "signed", bits, f"int{held}", element),
        DataType(unsigned, f"uint{bits}", "unsigned", bits, f"uint{held}", element),
    ]


def _code(name: str) -> int:
    """The type's number; -1 where the installed onnx does not know it."""
    return dict(TensorProto.DataType.items()).get(name, -1)


DATA_TYPES = {
    type.code: type
    for type in (
        DataType(TensorProto.FLOAT, "float32", "float", 32, "float32", f32),
        DataType(TensorProto.FLOAT16, "float16", "float", 16, "float32", f32),
        DataType(TensorProto.BFLOAT16, "bfloat16", "float", 16, "float32", f32),
        DataType(TensorProto.DOUBLE, "float64", "float", 64, "float64", None),
        DataType(TensorProto.BOOL, "bool", "bool", 1, "bool", i1),
        DataType(TensorProto.STRING, "string", "text", 0, "object", None),
        *_integers(8, TensorProto.INT8, TensorProto.UINT8, i8),
        *_integers(16, TensorProto.INT16, TensorProto.UINT16, i16),
        *_integers(32, TensorProto.INT32, TensorProto.UINT32, i32),
        *_integers(64, TensorProto.INT64, TensorProto.UINT64, i64),
        *_integers(4, _code("INT4"), _code("UINT4"), i8),
        *_integers(2, _code("INT2"), _code("UINT2"), i8),
    )
    if type.code >= 0
}
BY_NAME = {type.name: type for type in DATA_TYPES.values()}

FLOAT = BY_NAME["float32"]
BOOL = BY_NAME["bool"]
INT8 = BY_NAME["int8"]
INT32 = BY_NAME["int32"]
INT64 = BY_NAME["int64"]


def data_type(code: int) -> DataType:
    """The type of that number. Unsupported for a type that is not known here (complex numbers, 8-bit floats)."""
    if code not in DATA_TYPES:
        names = {number: name for name, number in TensorProto.DataType.items()}
        raise Unsupported(f"elements of {shown(names.get(code, f'type {code}'))}")
    return DATA_TYPES[code]
