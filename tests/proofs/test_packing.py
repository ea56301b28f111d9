"""The packer and the unpacker of trits are inverses: every value of every byte of a tile's row, by enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute

from sterna.dialects.encodings import BitType, EncodingAttr, TritType
from sterna.dialects.errors import CompileError
from sterna.dialects.packing import FIELD_STRIDE, FIELDS, ZERO_TRITS, pack, unpack

TRITS = TensorType(TritType(), [1, 256], EncodingAttr.i2(1))
BITS = TensorType(BitType(), [1, 256], EncodingAttr.i2(1))


def fields_of(byte: int) -> list[int]:
    return [byte >> 2 * field & 3 for field in range(FIELDS)]


@pytest.mark.parametrize("type", [TRITS, BITS], ids=["trits", "bits"])
def test_every_byte_is_a_value_of_four_elements_or_is_refused(type: TensorType[Attribute]) -> None:
    """So unpacking is total on what packing gives, and packing on what unpacking gives; field 3 is never either."""
    allowed = {0, 1, 2} if type is TRITS else {0, 2}
    accepted: set[tuple[int, ...]] = set()
    for byte in range(256):
        packed = np.full(FIELD_STRIDE, byte, np.uint8)
        if not allowed.issuperset(fields_of(byte)):
            with pytest.raises(CompileError, match=r"a (trit|bit) is"):
                unpack(packed, type)
            continue
        elements = unpack(packed, type)
        assert np.array_equal(pack(elements, type), packed)
        accepted.add(tuple(elements.reshape(FIELDS, FIELD_STRIDE)[:, 0].tolist()))
    assert accepted == set(product(sorted(field - 1 for field in allowed), repeat=FIELDS))


@pytest.mark.parametrize("position", range(FIELD_STRIDE))
def test_a_byte_says_its_own_four_columns_and_no_other(position: int) -> None:
    for byte in range(256):
        fields = fields_of(byte)
        if 3 in fields:
            continue
        packed = np.full(FIELD_STRIDE, ZERO_TRITS)
        packed[position] = byte
        elements = unpack(packed, TRITS).reshape(FIELDS, FIELD_STRIDE)
        assert elements[:, position].tolist() == [field - 1 for field in fields]
        assert not np.delete(elements, position, axis=1).any()
        assert np.array_equal(pack(elements.reshape(1, 256), TRITS), packed)


def test_one_bad_field_among_good_ones_is_refused() -> None:
    for position, field in product((0, 31, 63), range(FIELDS)):
        packed = np.full(FIELD_STRIDE, ZERO_TRITS)
        packed[position] |= 3 << 2 * field
        with pytest.raises(CompileError, match="a trit is"):
            unpack(packed, TRITS)
