"""Bytes of packed weights: where each element lies, and that nothing is lost."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from xdsl.dialects.builtin import DYNAMIC_INDEX, TensorType, bf16, f16, f32, i1, i8, i64
from xdsl.ir import Attribute

from sterna.dialects import packing
from sterna.dialects.elements import from_bfloat16_bits
from sterna.dialects.encodings import BitType, EncodingAttr, TritType
from sterna.dialects.errors import CompileError
from sterna.dialects.layout import buffer_bytes, row_stride_bytes, strides
from sterna.dialects.packing import pack, unpack

TRITS = st.integers(-1, 1)
FORMATS = st.sampled_from(sorted(EncodingAttr.FORMATS))
SHAPES = st.tuples(
    st.integers(1, 9), st.one_of(st.integers(1, 70), st.sampled_from([255, 256, 257, 512, 600]))
)


def trits_type(
    shape: tuple[int, ...], tile_rows: int = 4, element: Attribute | None = None, format: str = "i2"
) -> TensorType[Attribute]:
    return TensorType(element or TritType(), shape, EncodingAttr.of(format, tile_rows))


def field(
    packed: npt.NDArray[np.uint8], row: int, column: int, columns: int, tile_rows: int, format: str
) -> int:
    """w + 1 of one trit, found as the docstring of EncodingAttr says."""
    tile_columns, row_bytes = (256, 64) if format == "i2" else (80, 16)
    tiles_across = -(-columns // tile_columns)
    tile = (row // tile_rows) * tiles_across + column // tile_columns
    byte = int(packed[(tile * tile_rows + row % tile_rows) * row_bytes + column % row_bytes])
    number = column % tile_columns // row_bytes
    if format == "i2":
        return byte >> 2 * number & 3
    for _ in range(number):
        byte = 3 * byte % 256
    return 3 * byte // 256


@given(
    SHAPES.flatmap(lambda shape: arrays(np.int8, shape, elements=TRITS)), st.sampled_from([1, 4, 8]), FORMATS
)
def test_unpack_is_the_inverse_of_pack(trits: npt.NDArray[np.int8], tile_rows: int, format: str) -> None:
    type = trits_type(trits.shape, tile_rows, format=format)
    packed = pack(trits, type)
    assert packed.dtype == np.uint8
    used = EncodingAttr.of(format, tile_rows).packed_bytes(*trits.shape)
    assert packed.nbytes == -(-used // 64) * 64
    assert np.array_equal(unpack(packed, type), trits)


@given(SHAPES.flatmap(lambda shape: arrays(np.int8, shape, elements=TRITS)), st.sampled_from([1, 4]), FORMATS)
def test_a_trit_is_the_field_that_the_encoding_says(
    trits: npt.NDArray[np.int8], tile_rows: int, format: str
) -> None:
    rows, columns = trits.shape
    packed = pack(trits, trits_type(trits.shape, tile_rows, format=format))
    tile_columns = EncodingAttr.FORMATS[format].columns
    padded = np.zeros((-(-rows // tile_rows) * tile_rows, -(-columns // tile_columns) * tile_columns), int)
    padded[:rows, :columns] = trits
    for row, column in np.ndindex(padded.shape):
        assert field(packed, row, column, columns, tile_rows, format) == padded[row, column] + 1


def test_every_byte_of_four_trits_survives_and_every_other_byte_is_refused() -> None:
    type = trits_type((1, 256), tile_rows=1)
    for byte in range(256):
        packed = np.full(64, byte, np.uint8)
        fields = [byte >> shift & 3 for shift in (0, 2, 4, 6)]
        if 3 in fields:
            with pytest.raises(CompileError, match="a trit is"):
                unpack(packed, type)
        else:
            trits = unpack(packed, type)
            assert np.array_equal(trits.reshape(4, 64)[:, 0], np.array(fields) - 1)
            assert np.array_equal(pack(trits, type), packed)


@pytest.mark.parametrize("format", sorted(EncodingAttr.FORMATS))
def test_slabs_of_rows_pack_as_the_whole(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trits = np.random.default_rng(0).integers(-1, 2, (37, 300)).astype(np.int8)
    type = trits_type(trits.shape, format=format)
    whole = pack(trits, type)
    monkeypatch.setattr(packing, "SLAB_ELEMENTS", 1000)
    assert np.array_equal(pack(trits, type), whole)
    assert np.array_equal(unpack(whole, type), trits)


def test_bits_have_no_zero() -> None:
    bits = np.array([[1, -1, -1]], np.int8)
    type = trits_type((1, 3), element=BitType())
    assert np.array_equal(unpack(pack(bits, type), type), bits)
    with pytest.raises(CompileError, match="a bit is -1 or 1"):
        pack(np.array([[1, 0, 1]], np.int8), type)


@pytest.mark.parametrize("value", [2, -2, 127, -128])
def test_what_is_not_a_trit_is_refused(value: int) -> None:
    with pytest.raises(CompileError, match="a trit is -1, 0 or 1"):
        pack(np.full((2, 3), value, np.int8), trits_type((2, 3)))


@pytest.mark.parametrize(
    ("array", "type"),
    [
        (np.zeros((2, 3), np.int8), trits_type((3, 2))),
        (np.zeros((2, 3), np.float32), trits_type((2, 3))),
        (np.zeros(3, np.float64), TensorType(f32, [3])),
        (np.zeros(3, np.float32), TensorType(f16, [3])),
        (np.zeros(3, np.int8), TensorType(TritType(), [3])),
    ],
)
def test_what_does_not_fit_its_type_is_refused(
    array: npt.NDArray[np.generic], type: TensorType[Attribute]
) -> None:
    with pytest.raises(CompileError):
        pack(array, type)


def test_bytes_of_the_wrong_number_are_refused() -> None:
    with pytest.raises(CompileError, match="is 256 bytes, found 255"):
        unpack(np.zeros(255, np.uint8), trits_type((1, 1)))


FLOATS = st.sampled_from([(f32, np.dtype(np.float32)), (f16, np.dtype(np.float16))])


@given(st.data())
def test_floats_survive_and_padding_is_zero(data: st.DataObject) -> None:
    element, dtype = data.draw(FLOATS)
    shape = data.draw(
        st.one_of(
            st.just(()), st.tuples(st.integers(1, 40)), st.tuples(st.integers(1, 5), st.integers(1, 40))
        )
    )
    array = data.draw(arrays(dtype, shape, elements=st.floats(width=8 * dtype.itemsize)))
    type = TensorType(element, shape)
    packed = pack(array, type)
    assert packed.nbytes == buffer_bytes(type, max_rows=0)
    assert packed.nbytes % 64 == 0
    assert np.array_equal(unpack(packed, type), array, equal_nan=True)
    columns = shape[-1] if shape else 1
    elements = packed.view(dtype)
    stride = row_stride_bytes(type) // dtype.itemsize
    used = array.size // columns * stride
    assert not elements[used:].any()
    assert not elements[:used].reshape(-1, stride)[:, columns:].any()


def test_float16_widens_to_float32_when_packed() -> None:
    array = np.array([0.5, -2.0], np.float16)
    type = TensorType(f32, [2])
    assert np.array_equal(unpack(pack(array, type), type), array.astype(np.float32))


def test_every_bfloat16_survives_and_a_number_between_two_is_refused() -> None:
    numbers = from_bfloat16_bits(np.arange(1 << 16, dtype=np.uint16)).reshape(256, 256)
    type = TensorType(bf16, [256, 256])
    packed = pack(numbers, type)
    assert packed.nbytes == buffer_bytes(type, max_rows=0) == 2 * numbers.size
    assert unpack(packed, type).tobytes() == numbers.tobytes()
    with pytest.raises(CompileError, match="expected elements of bf16, found numbers between them"):
        pack(np.array([1.0, 1.001], np.float32), TensorType(bf16, [2]))


@pytest.mark.parametrize(
    ("type", "row_bytes", "total"),
    [
        (TensorType(f32, []), 4, 64),
        (TensorType(f32, [17]), 128, 128),
        (TensorType(f32, [DYNAMIC_INDEX]), 4, 64 * 4),
        (TensorType(i64, [DYNAMIC_INDEX]), 8, 64 * 8),
        (TensorType(f32, [DYNAMIC_INDEX, 6]), 64, 64 * 64),
        (TensorType(f16, [9, 17]), 64, 576),
        (TensorType(f16, [3, 16]), 32, 128),
        (TensorType(i8, [DYNAMIC_INDEX, 1]), 256, 64 * 256),
        (TensorType(i8, [257]), 512, 512),
    ],
)
def test_layout(type: TensorType[Attribute], row_bytes: int, total: int) -> None:
    assert row_stride_bytes(type) == row_bytes
    assert buffer_bytes(type, max_rows=64) == total


def test_few_rows_take_whole_cache_lines() -> None:
    assert buffer_bytes(TensorType(f32, [DYNAMIC_INDEX]), max_rows=1) == 64
    assert buffer_bytes(TensorType(f32, [DYNAMIC_INDEX]), max_rows=17) == 128
    assert buffer_bytes(TensorType(i64, [DYNAMIC_INDEX]), max_rows=1) == 128, "sixteen are loaded at once"


def test_encoded_trits_take_what_the_encoding_says() -> None:
    type = trits_type((5, 257))
    assert buffer_bytes(type, max_rows=64) == EncodingAttr.i2().packed_bytes(5, 257) == 2 * 2 * 256
    in_base_3 = trits_type((5, 257), format="b3")
    assert buffer_bytes(in_base_3, max_rows=64) == EncodingAttr.b3().packed_bytes(5, 257) == 2 * 4 * 64
    with pytest.raises(CompileError, match="tiles"):
        row_stride_bytes(type)


def test_trits_have_no_layout_without_an_encoding() -> None:
    with pytest.raises(CompileError, match="no layout"):
        buffer_bytes(TensorType(TritType(), [4, 4]), max_rows=4)


@pytest.mark.parametrize(
    ("type", "expected"),
    [
        (TensorType(f32, []), ()),
        (TensorType(f32, [DYNAMIC_INDEX]), (4,)),
        (TensorType(f32, [3, 5, 17]), (5 * 128, 128, 4)),
        (TensorType(f32, [3, DYNAMIC_INDEX, 5]), (24 * 64, 64, 4)),
        (TensorType(i64, [2, DYNAMIC_INDEX]), (32 * 8, 8)),
        (TensorType(i1, [DYNAMIC_INDEX, 3, 2]), (3 * 16, 16, 1)),
        (TensorType(i8, [3, 2]), (256, 1)),
    ],
)
def test_an_axis_takes_as_much_wherever_it_is(type: TensorType[Attribute], expected: tuple[int, ...]) -> None:
    assert strides(type, max_rows=24) == expected
