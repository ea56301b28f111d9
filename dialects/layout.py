"""How a tensor lies in memory: one rule for activations and weights, on every target that has an address space.

A tensor is row-major. Its last axis is padded to whole 64-byte (f32) or 256-byte (i8) steps, so that any vector width
can load past the end of a row's elements and stay in the row; buffers start at 64-byte boundaries, and their sizes are
multiples of 64. An axis of dynamic size T takes `max_rows` elements in memory wherever it stands, so that every stride
is known when the program is compiled. i1 takes a byte an element, 0 or 1, padded to 16.
"""

from __future__ import annotations

from itertools import accumulate
from math import prod
from operator import mul

from xdsl.dialects.builtin import DYNAMIC_INDEX, FixedBitwidthType, IndexType, IntegerType, TensorType, i1
from xdsl.ir import Attribute

from sterna.dialects.elements import INTEGERS
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
    """Bytes of an element in memory; CompileError for types that memory does not hold as they are (trits)."""
    match type.get_element_type():
        case IndexType():
            return 8
        case IntegerType(width=width) if width.data == 1:
            return 1
        case IntegerType(width=width) if width.data not in INTEGERS:
            raise CompileError(f"{type} has no layout in memory: its elements are not whole bytes")
        case FixedBitwidthType() as element:
            return element.size
        case element:
            raise CompileError(f"{type} has no layout in memory: {element} needs an encoding")


def is_i1(type: TensorType[Attribute]) -> bool:
    return type.get_element_type() == i1


def row_elements(type: TensorType[Attribute], max_rows: int = 0) -> int:
    """Elements from the start of one row to the start of the next. A dynamic `[T]` is T rows of one element each."""
    shape = type.get_shape()
    if not shape or shape == (DYNAMIC_INDEX,):
        return 1
    last = max_rows if shape[-1] == DYNAMIC_INDEX else shape[-1]
    padding = I8_ROW_BYTES if element_bytes(type) == 1 and not is_i1(type) else ROW_ELEMENTS
    return round_up(last, padding)


def row_stride_bytes(type: TensorType[Attribute], max_rows: int = 0) -> int:
    """Bytes from one row to the next. A static `[M]` is one row."""
    if encoding_of(type) is not None:
        raise CompileError(f"{type} is stored in tiles and has no row stride")
    return row_elements(type, max_rows) * element_bytes(type)


def strides(type: TensorType[Attribute], max_rows: int) -> tuple[int, ...]:
    """Bytes from one element to the next along every axis."""
    shape = _shape(type, max_rows)
    if not shape:
        return ()
    row, element = row_stride_bytes(type, max_rows), element_bytes(type)
    outer = accumulate(reversed(shape[1:-1]), mul, initial=row) if len(shape) > 1 else ()
    return (*reversed(tuple(outer)), element)


def buffer_bytes(type: TensorType[Attribute], max_rows: int) -> int:
    """Bytes that the whole tensor takes, when its dynamic axes are `max_rows` long. A scalar takes 64."""
    shape = _shape(type, max_rows)
    if (encoding := encoding_of(type)) is not None:
        if len(shape) != 2:
            raise CompileError(f"{type}: only a matrix can be encoded")
        return round_up(encoding.packed_bytes(*shape), ALIGNMENT)
    if type.get_shape() == (DYNAMIC_INDEX,):
        elements = round_up(max_rows, ROW_ELEMENTS)
    else:
        elements = prod(shape[:-1]) * row_elements(type, max_rows)
    return max(round_up(elements * element_bytes(type), ALIGNMENT), ALIGNMENT)


def _shape(type: TensorType[Attribute], max_rows: int) -> tuple[int, ...]:
    return tuple(max_rows if size == DYNAMIC_INDEX else size for size in type.get_shape())
