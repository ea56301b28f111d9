"""The type of a stream between stages: rows of integers, some elements of which move together."""

from __future__ import annotations

from typing import cast

from xdsl.dialects.builtin import IntAttr, IntegerType
from xdsl.ir import Attribute, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import irdl_attr_definition, param_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException


@irdl_attr_definition
class RowsType(ParametrizedAttribute, TypeAttribute):
    """A stream of rows: `!stream.rows<256 by 16 : i18>` has rows of 256 integers, 16 of which move in a cycle (a beat).

    Rows follow each other without a mark between them: both ends count. A row of one element is a scalar of its row.
    """

    name = "stream.rows"
    size: IntAttr = param_def()
    lanes: IntAttr = param_def()
    element: IntegerType = param_def()

    @staticmethod
    def of(size: int, width: int, lanes: int = 1) -> RowsType:
        return RowsType(IntAttr(size), IntAttr(lanes), IntegerType(width))

    @property
    def beats(self) -> int:
        """Beats a row."""
        return self.size.data // self.lanes.data

    @property
    def width(self) -> int:
        """Bits of an element."""
        return self.element.width.data

    @property
    def bits(self) -> int:
        """Bits of a beat."""
        return self.width * self.lanes.data

    def by(self, lanes: int) -> RowsType:
        """The same rows with so many lanes."""
        return RowsType.of(self.size.data, self.width, lanes)

    def verify(self) -> None:
        size, lanes = self.size.data, self.lanes.data
        if size < 1 or lanes < 1 or size % lanes:
            raise VerifyException(f"a row of {size} elements does not move {lanes} at a time")
        if not 1 <= self.width <= 63:
            raise VerifyException(f"an element has 1 to 63 bits, found {self.width}")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        with parser.in_angle_brackets():
            size = parser.parse_integer()
            parser.parse_keyword("by")
            lanes = parser.parse_integer()
            parser.parse_punctuation(":")
            element = parser.parse_type()
            if not isinstance(element, IntegerType):
                parser.raise_error("a stream is of integers")
            return [IntAttr(size), IntAttr(lanes), element]

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string(f"<{self.size.data} by {self.lanes.data} : i{self.width}>")


@irdl_attr_definition
class RegionAttr(ParametrizedAttribute):
    """Where an array's weights are in the memory outside the chip: `#stream.region<4096, 512 x 64, ahead = 32>` is 512
    words of 64 bits from byte 4096 on, which are read in order, again and again, up to 32 of them before they are used.

    A region begins on a page of 4096 bytes, so that no burst of a power of two crosses one (AXI4, A3.4.1).
    """

    name = "stream.region"
    at: IntAttr = param_def()
    beats: IntAttr = param_def()
    width: IntAttr = param_def()
    ahead: IntAttr = param_def()

    @staticmethod
    def of(at: int, beats: int, width: int, ahead: int) -> RegionAttr:
        return RegionAttr(IntAttr(at), IntAttr(beats), IntAttr(width), IntAttr(ahead))

    @property
    def bytes(self) -> int:
        return self.beats.data * self.width.data // 8

    def verify(self) -> None:
        if self.at.data < 0 or self.at.data % PAGE:
            raise VerifyException(f"a region begins on a page of {PAGE} bytes, not at {self.at.data}")
        if self.width.data not in MEMORY_WIDTHS:
            raise VerifyException(f"a memory has {_or(MEMORY_WIDTHS)} bits, not {self.width.data}")
        if self.beats.data < 1 or self.ahead.data < 1:
            raise VerifyException("a region has a word or more, and one or more are read ahead")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        with parser.in_angle_brackets():
            at = parser.parse_integer()
            parser.parse_punctuation(",")
            beats = parser.parse_integer()
            parser.parse_keyword("x")
            width = parser.parse_integer()
            parser.parse_punctuation(",")
            parser.parse_keyword("ahead")
            parser.parse_punctuation("=")
            return [IntAttr(number) for number in (at, beats, width, parser.parse_integer())]

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string(
            f"<{self.at.data}, {self.beats.data} x {self.width.data}, ahead = {self.ahead.data}>"
        )


PAGE = 4096
MEMORY_WIDTHS = (64, 128, 256, 512)


def _or(numbers: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} or {numbers[-1]}"


def rows_type(value: SSAValue) -> RowsType:
    """The type of a value that its op's constraints made a stream."""
    assert value.type.name == RowsType.name
    return cast(RowsType, value.type)
