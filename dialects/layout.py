"""How a tensor lies in memory: one rule for activations and weights, on every target that has an address space.

A tensor is rows x last axis. Rows start at whole 64-byte (f32) or 256-byte (i8) steps, so that any vector width can
load past the end of a row's elements and stay in the row; buffers start at 64-byte boundaries, and their sizes are
multiples of 64.
"""

from __future__ import annotations

from math import prod

from xdsl.dialects.builtin import DYNAMIC_INDEX, FixedBitwidthType, IndexType, IntegerType, TensorType
from xdsl.ir import Attribute

from sterna.dialects.encodings import encoding_of
from sterna.dialects.errors import CompileError

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector register."""

I8_ROW_BYTES = 256
"""The columns of a tile of packed trits, so that a row of activations ends where its weights' last tile does."""

ROW_ELEMENTS = 16
"""Rows of wider elements are padded to whole groups of this many: a vector register of f32."""


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def element_bytes(type: TensorType[Attribute]) -> int:
    """Bytes of an element in memory; CompileError for types that memory does not hold as they are (trits, i1)."""
    match type.get_element_type():
        case IndexType():
            return 8
        case IntegerType(width=width) if width.data % 8:
            raise CompileError(f"{type} has no layout in memory: its elements are not whole bytes")
        case FixedBitwidthType() as element:
            return element.size
        case element:
            raise CompileError(f"{type} has no layout in memory: {element} needs an encoding")


def row_elements(type: TensorType[Attribute]) -> int:
    """Elements from the start of one row to the start of the next."""
    shape = type.get_shape()
    if not shape or shape == (DYNAMIC_INDEX,):
        return 1
    if shape[-1] == DYNAMIC_INDEX:
        raise CompileError(f"{type} has no layout in memory: its last axis must be static")
    padding = I8_ROW_BYTES if element_bytes(type) == 1 else ROW_ELEMENTS
    return round_up(shape[-1], padding)


def row_stride_bytes(type: TensorType[Attribute]) -> int:
    """Bytes from one row to the next. A dynamic `[T]` is T rows of one element each; a static `[M]` is one row."""
    if encoding_of(type) is not None:
        raise CompileError(f"{type} is stored in tiles and has no row stride")
    return row_elements(type) * element_bytes(type)


def buffer_bytes(type: TensorType[Attribute], max_rows: int) -> int:
    """Bytes that the whole tensor takes, when its dynamic axes are `max_rows` long. A scalar takes 64."""
    shape = tuple(max_rows if size == DYNAMIC_INDEX else size for size in type.get_shape())
    if (encoding := encoding_of(type)) is not None:
        if len(shape) != 2:
            raise CompileError(f"{type}: only a matrix can be encoded")
        return round_up(encoding.packed_bytes(*shape), ALIGNMENT)
    rows = shape if type.get_shape() == (DYNAMIC_INDEX,) else shape[:-1]
    return max(round_up(prod(rows) * row_stride_bytes(type), ALIGNMENT), ALIGNMENT)
