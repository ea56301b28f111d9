"""Logical arrays to the bytes of a packed artifact, and back: `layout.py` in numpy.

A large matrix is worked on in slabs of rows, so that what lives beside the input and the output stays small.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import TensorType, bf16
from xdsl.ir import Attribute

from sterna.dialects.elements import bfloat16_bits, dtype_of, from_bfloat16_bits
from sterna.dialects.encodings import BitType, EncodingAttr, encoding_of
from sterna.dialects.errors import CompileError
from sterna.dialects.layout import buffer_bytes, round_up, row_elements

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

ZERO_TRITS = {"i2": np.uint8(0b01_01_01_01), "b3": np.uint8(128)}
"""A byte of zero trits, which is what padding holds."""

BASE_3 = tuple(-(-number * 256 // 243) for number in range(243))
"""The byte of every number of five digits in base 3 (`EncodingAttr`, format b3)."""

SLAB_ELEMENTS = 1 << 22


def pack(array: Array, type: TensorType[Attribute]) -> Bytes:
    """The `buffer_bytes` bytes of a static tensor. Padding is zero; trits are int8 values in [-1, 1]."""
    if array.shape != type.get_shape():
        raise CompileError(f"cannot pack an array of shape {array.shape} as {type}")
    if (encoding := encoding_of(type)) is not None:
        return _pack_trits(array, type, encoding)
    element = dtype_of(type)
    if array.dtype != element and not np.can_cast(array.dtype, element, "safe"):
        raise CompileError(f"cannot pack {array.dtype} as {type} without rounding")
    held = bfloat16_bits(array.astype(element)) if type.element_type == bf16 else array
    out = np.zeros(buffer_bytes(type, max_rows=0), np.uint8)
    _rows(out, type)[...] = held.reshape(_matrix_shape(type))
    return out


def unpack(packed: Bytes, type: TensorType[Attribute]) -> Array:
    """The logical array that `pack` was given, from its bytes."""
    expected = buffer_bytes(type, max_rows=0)
    if packed.dtype != np.uint8 or packed.shape != (expected,):
        raise CompileError(f"{type} is {expected} bytes, found {packed.nbytes}")
    if (encoding := encoding_of(type)) is not None:
        return _unpack_trits(packed, type, encoding)
    held = _rows(packed, type).reshape(type.get_shape())
    return from_bfloat16_bits(held) if type.element_type == bf16 else held.copy()


def _matrix_shape(type: TensorType[Attribute]) -> tuple[int, int]:
    shape = type.get_shape() or (1,)
    return prod(shape[:-1]), shape[-1]


def _rows(buffer: Bytes, type: TensorType[Attribute]) -> Array:
    """A view of the elements in a buffer as rows x columns."""
    rows, columns = _matrix_shape(type)
    stride = row_elements(type)
    elements = buffer.view(np.uint16 if type.element_type == bf16 else dtype_of(type))
    return elements[: rows * stride].reshape(rows, stride)[:, :columns]


def _slabs(shape: tuple[int, ...], tile_rows: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows, of whole tiles but for the last, of about SLAB_ELEMENTS elements."""
    rows, columns = shape
    step = max(SLAB_ELEMENTS // max(columns, 1) // tile_rows, 1) * tile_rows
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


def _tiles(buffer: Bytes, type: TensorType[Attribute], encoding: EncodingAttr) -> Bytes:
    """A view of packed trits as [row of tiles, row in the tile, column of tiles, byte]."""
    rows, columns = type.get_shape()
    down, across = ceil(rows / encoding.tile_rows), ceil(columns / encoding.tile_columns)
    used = buffer[: encoding.packed_bytes(rows, columns)]
    return used.reshape(down, across, encoding.tile_rows, encoding.layout.row_bytes).transpose(0, 2, 1, 3)


def _pack_trits(array: Array, type: TensorType[Attribute], encoding: EncodingAttr) -> Bytes:
    if array.dtype != np.int8:
        raise CompileError(f"trits are packed from int8, found {array.dtype}")
    name, layout = encoding.format.data, encoding.layout
    out = np.full(buffer_bytes(type, max_rows=0), ZERO_TRITS[name])
    tiles = _tiles(out, type, encoding)
    _, tile_rows, across, _ = tiles.shape
    for start, stop in _slabs(array.shape, tile_rows):
        slab = array[start:stop]
        _check_trits(slab, type)
        padded = np.ones((round_up(len(slab), tile_rows), across * encoding.tile_columns), np.uint8)
        padded[: len(slab), : slab.shape[1]] = slab + np.int8(1)
        packed = PACKERS[name](padded.reshape(-1, tile_rows, across, layout.fields, layout.row_bytes))
        first = start // tile_rows
        tiles[first : first + len(packed)] = packed
    return out


def _unpack_trits(packed: Bytes, type: TensorType[Attribute], encoding: EncodingAttr) -> Array:
    array = np.empty(type.get_shape(), np.int8)
    tiles = _tiles(packed, type, encoding)
    tile_rows = encoding.tile_rows
    for start, stop in _slabs(array.shape, tile_rows):
        some = tiles[start // tile_rows : ceil(stop / tile_rows)]
        fields = UNPACKERS[encoding.format.data](some)
        trits = fields.reshape(len(some) * tile_rows, -1)[: stop - start, : array.shape[1]].view(
            np.int8
        ) - np.int8(1)
        _check_trits(trits, type)
        array[start:stop] = trits
    return array


def _pack_i2(fields: Bytes) -> Bytes:
    """Trits + 1 `[..., fields, bytes]` to bytes."""
    packed = fields[..., 0, :].copy()
    for field in range(1, fields.shape[-2]):
        packed |= fields[..., field, :] << np.uint8(2 * field)
    return packed


def _unpack_i2(packed: Bytes) -> Bytes:
    """The inverse; a field may be 3."""
    return np.stack([packed >> np.uint8(2 * field) & np.uint8(3) for field in range(4)], axis=-2)


def _pack_b3(fields: Bytes) -> Bytes:
    number = fields[..., 0, :].copy()
    for field in range(1, fields.shape[-2]):
        number *= np.uint8(3)
        number += fields[..., field, :]
    return np.array(BASE_3, np.uint8)[number]


def _unpack_b3(packed: Bytes) -> Bytes:
    """Digits come out as kernels take them; CompileError for a byte that `_pack_b3` never gives."""
    unused = np.ones(256, np.bool_)
    unused[list(BASE_3)] = False
    if (bad := unused[packed]).any():
        raise CompileError(f"a byte of five trits is one of 243, found {packed[bad][0]}")
    digits: list[Bytes] = []
    for _ in range(5):
        tripled = packed.astype(np.uint16) * np.uint16(3)
        digits.append((tripled >> np.uint16(8)).astype(np.uint8))
        packed = tripled.astype(np.uint8)
    return np.stack(digits, axis=-2)


PACKERS = {"i2": _pack_i2, "b3": _pack_b3}
UNPACKERS = {"i2": _unpack_i2, "b3": _unpack_b3}


def _check_trits(values: Array, type: TensorType[Attribute]) -> None:
    if values.size and (values.min() < -1 or values.max() > 1):
        raise CompileError(f"a trit is -1, 0 or 1, found {values.min()} to {values.max()}")
    if isinstance(type.get_element_type(), BitType) and not values.all():
        raise CompileError("a bit is -1 or 1, found 0")
