"""Element types of the `ternary` dialect, and how a packed weight lies in memory."""

from __future__ import annotations

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


@irdl_attr_definition
class EncodingAttr(ParametrizedAttribute):
    """How the trits of a matrix `[M, K]` lie in memory: `#ternary.encoding<i2, tile = [4, 256]>`.

    `i2`: a trit w is the 2-bit field w + 1. The matrix is padded with zero trits (field value 1) to whole tiles
    of `tile[0]` rows by `tile[1]` = 256 columns. Tiles are stored in row-major order of tiles, and a tile stores its
    rows one after the other, 64 bytes each; byte b of a row holds in its bits 2f and 2f+1 the trit of column 64 f + b.
    So a 64-byte load (or two of 32, four of 16) masked by `0x03 << 2f` meets 64 consecutive activations,
    whatever the width of the vector, and one artifact serves every instruction set.
    """

    name = "ternary.encoding"

    FORMATS: ClassVar = ("i2",)

    format: StringAttr = param_def()
    tile: ArrayAttr[IntAttr] = param_def()

    @staticmethod
    def i2(tile_rows: int = 4) -> EncodingAttr:
        return EncodingAttr(StringAttr("i2"), ArrayAttr([IntAttr(tile_rows), IntAttr(256)]))

    def verify(self) -> None:
        if self.format.data not in self.FORMATS:
            raise VerifyException(
                f"unknown encoding '{self.format.data}', expected one of {', '.join(self.FORMATS)}"
            )
        if len(self.tile) != 2 or self.tile.data[0].data < 1 or self.tile.data[1].data != 256:
            raise VerifyException("the tile of an i2 encoding is [rows, 256] with rows >= 1")

    @property
    def tile_rows(self) -> int:
        return self.tile.data[0].data

    @property
    def tile_columns(self) -> int:
        return self.tile.data[1].data

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Bytes that a matrix of `rows` x `columns` trits takes, padding included."""
        tiles = ceil(rows / self.tile_rows) * ceil(columns / self.tile_columns)
        return tiles * self.tile_rows * self.tile_columns // 4

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
