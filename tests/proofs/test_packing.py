"""The packer and the unpacker of trits are inverses: every value of every byte of a tile's row, by enumeration."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute

from sterna.dialects.encodings import BitType, EncodingAttr, TritType
from sterna.dialects.errors import CompileError
from sterna.dialects.packing import BASE_3, ZERO_TRITS, pack, unpack

FORMATS = sorted(EncodingAttr.FORMATS)
POSITIONS = [(name, n) for name in FORMATS for n in range(EncodingAttr.FORMATS[name].row_bytes)]


def row(format: str, element: Attribute | None = None) -> TensorType[Attribute]:
    """One row of one tile."""
    encoding = EncodingAttr.of(format, 1)
    return TensorType(element or TritType(), [1, encoding.tile_columns], encoding)


def two_bits(byte: int) -> list[int] | None:
    fields = [byte >> 2 * field & 3 for field in range(4)]
    return None if 3 in fields else fields


def base_3(byte: int) -> list[int] | None:
    """By division, where kernels multiply."""
    if byte not in BASE_3:
        return None
    number = BASE_3.index(byte)
    return [number // 3**place % 3 for place in reversed(range(5))]


FIELDS: dict[str, Callable[[int], list[int] | None]] = {"i2": two_bits, "b3": base_3}
"""What a byte holds, trits + 1, if it is one that packing gives."""


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("element", [TritType(), BitType()], ids=["trits", "bits"])
def test_every_byte_is_a_value_of_its_elements_or_is_refused(element: Attribute, format: str) -> None:
    """So unpacking is total on what packing gives, and packing on what unpacking gives; nothing else is either."""
    type, layout = row(format, element), EncodingAttr.FORMATS[format]
    allowed = {0, 1, 2} if isinstance(element, TritType) else {0, 2}
    accepted: set[tuple[int, ...]] = set()
    for byte in range(256):
        packed = np.full(64, ZERO_TRITS[format])
        packed[: layout.row_bytes] = byte
        fields = FIELDS[format](byte)
        if fields is None or not allowed.issuperset(fields):
            with pytest.raises(CompileError, match=r"a (trit|bit|byte of five trits) is"):
                unpack(packed, type)
            continue
        elements = unpack(packed, type)
        assert np.array_equal(pack(elements, type), packed)
        accepted.add(tuple(elements.reshape(layout.fields, layout.row_bytes)[:, 0].tolist()))
    assert accepted == set(product(sorted(field - 1 for field in allowed), repeat=layout.fields))


@pytest.mark.parametrize(("format", "position"), POSITIONS)
def test_a_byte_says_its_own_columns_and_no_other(format: str, position: int) -> None:
    type, layout = row(format), EncodingAttr.FORMATS[format]
    for byte in range(256):
        if (fields := FIELDS[format](byte)) is None:
            continue
        packed = np.full(64, ZERO_TRITS[format])
        packed[position] = byte
        elements = unpack(packed, type).reshape(layout.fields, layout.row_bytes)
        assert elements[:, position].tolist() == [field - 1 for field in fields]
        assert not np.delete(elements, position, axis=1).any()
        assert np.array_equal(pack(elements.reshape(1, -1), type), packed)


def test_one_bad_field_among_good_ones_is_refused() -> None:
    for position, field in product((0, 31, 63), range(4)):
        packed = np.full(64, ZERO_TRITS["i2"])
        packed[position] |= 3 << 2 * field
        with pytest.raises(CompileError, match="a trit is"):
            unpack(packed, row("i2"))


@pytest.mark.parametrize("position", range(16))
def test_each_of_the_13_bytes_that_are_no_number_is_refused(position: int) -> None:
    for byte in set(range(256)) - set(BASE_3):
        packed = np.full(64, ZERO_TRITS["b3"])
        packed[position] = byte
        with pytest.raises(CompileError, match=f"a byte of five trits is one of 243, found {byte}"):
            unpack(packed, row("b3"))
