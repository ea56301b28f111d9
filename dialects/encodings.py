"""Element types of the `ternary` dialect, and how a packed weight lies in memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar, cast

from xdsl.dialects.builtin import ArrayAttr, IntAttr, StringAttr, TensorType
from xdsl.ir import Attribute, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition, param_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException


@irdl_attr_definition
class TritType(ParametrizedAttribute, TypeAttribute):
    """One of -1, 0, +1."""

    name = "ternary.trit"


@irdl_attr_definition
class BitType(ParametrizedAttribute, TypeAttribute):
    """One of -1, +1."""

    name = "ternary.bit"


@dataclass(frozen=True)
class Format:
    """How the bytes of a packed row hold its trits."""

    fields: int
    """Trits in a byte."""
    row_bytes: int
    """Bytes of a tile's row, and so columns between two trits of one byte."""

    @property
    def columns(self) -> int:
        """Columns of a tile."""
        return self.fields * self.row_bytes


@irdl_attr_definition
class EncodingAttr(ParametrizedAttribute):
    """How the trits of a matrix `[M, K]` lie in memory: `#ternary.encoding<i2, tile = [4, 256]>`.

    The matrix is padded with zero trits to whole tiles of `tile[0]` rows by `tile[1]` columns. Tiles are stored in
    row-major order of tiles, and a tile stores its rows one after the other.

    `i2`, 2 bits a trit: a tile has 256 columns, a row 64 bytes. A trit w is the 2-bit field w + 1; byte b of a row
    holds in its bits 2f and 2f+1 the trit of column 64 f + b. So a 64-byte load (or two of 32, four of 16) masked by
    `0x03 << 2f` meets 64 consecutive activations, whatever the width of the vector, and one artifact serves every
    instruction set.

    `b3`, 1.6 bits: a tile has 80 columns, a row 16 bytes. A trit w is the digit w + 1 of a number in base 3; byte b
    holds the trits of the columns b, 16 + b, 32 + b, 48 + b and 64 + b, the first as the digit of the highest value.
    Of that number v, in 0 to 242, the byte is x = ceil(v * 256 / 243), a fraction of 256: 3 x is 256 times the first
    digit, plus the byte of the digits after it. So digits come out by multiplying bytes by 3 (two additions), four of
    them in one 32-bit word or 64 in a vector; 16 bytes, one load of a GPU's thread, meet 5 times 16 consecutive
    activations, and a vector of 64 bytes holds four rows. Zero trits are the byte 128, which stays as it is: 3 * 128 =
    256 + 128. The 13 bytes that no v gives read as trits too, the same as one of the bytes next to them.
    """

    name = "ternary.encoding"

    FORMATS: ClassVar = {"i2": Format(fields=4, row_bytes=64), "b3": Format(fields=5, row_bytes=16)}

    format: StringAttr = param_def()
    tile: ArrayAttr[IntAttr] = param_def()

    @staticmethod
    def of(format: str, tile_rows: int = 4) -> EncodingAttr:
        """The encoding of that name, which has to be one of `FORMATS`."""
        columns = EncodingAttr.FORMATS[format].columns
        return EncodingAttr(StringAttr(format), ArrayAttr([IntAttr(tile_rows), IntAttr(columns)]))

    @staticmethod
    def i2(tile_rows: int = 4) -> EncodingAttr:
        return EncodingAttr.of("i2", tile_rows)

    @staticmethod
    def b3(tile_rows: int = 4) -> EncodingAttr:
        return EncodingAttr.of("b3", tile_rows)

    def verify(self) -> None:
        if (name := self.format.data) not in self.FORMATS:
            raise VerifyException(f"unknown encoding '{name}', expected one of {', '.join(self.FORMATS)}")
        columns = self.layout.columns
        if len(self.tile) != 2 or self.tile.data[0].data < 1 or self.tile.data[1].data != columns:
            raise VerifyException(f"the tile of an encoding {name} is [rows, {columns}] with rows >= 1")

    @property
    def layout(self) -> Format:
        return self.FORMATS[self.format.data]

    @property
    def tile_rows(self) -> int:
        return self.tile.data[0].data

    @property
    def tile_columns(self) -> int:
        return self.tile.data[1].data

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Bytes that a matrix of `rows` x `columns` trits takes, padding included."""
        tiles = ceil(rows / self.tile_rows) * ceil(columns / self.tile_columns)
        return tiles * self.tile_rows * self.layout.row_bytes

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        with parser.in_angle_brackets():
            format = parser.parse_identifier("encoding format")
            parser.parse_punctuation(",")
            parser.parse_keyword("tile")
            parser.parse_punctuation("=")
            tile = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
        return [StringAttr(format), ArrayAttr([IntAttr(size) for size in tile])]

    def print_parameters(self, printer: Printer) -> None:
        tile = ", ".join(str(size.data) for size in self.tile)
        printer.print_string(f"<{self.format.data}, tile = [{tile}]>")


def encoding_of(type: TensorType[Attribute]) -> EncodingAttr | None:
    """The encoding that a weight's tensor type carries, if any was chosen yet."""
    return type.encoding if isinstance(type.encoding, EncodingAttr) else None


def is_trits(type: Attribute) -> bool:
    if not isinstance(type, TensorType):
        return False
    return isinstance(cast(TensorType[Attribute], type).element_type, TritType | BitType)
