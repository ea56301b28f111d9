"""Integer types of exact width, and where their binary point is."""

from __future__ import annotations

from typing import Any, cast

from xdsl.dialects.builtin import IntAttr, IntegerAttr, IntegerType, TensorType, i64
from xdsl.ir import Attribute, ParametrizedAttribute, SSAValue
from xdsl.irdl import irdl_attr_definition, param_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from sterna.dialects.constraints import Tensor, require
from sterna.dialects.elements import width_of
from sterna.dialects.fixed_numerics import WIDEST


@irdl_attr_definition
class PointAttr(ParametrizedAttribute):
    """The binary point of a tensor's integers: the number x is x * 2^-F in `tensor<8xi18, #fixed.point<F>>`.

    It says what the numbers stand for, and changes nothing that an operation computes. F may be negative, or
    larger than the width.
    """

    name = "fixed.point"
    bits: IntAttr = param_def()

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[Attribute]:
        with parser.in_angle_brackets():
            return [IntAttr(parser.parse_integer())]

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string(f"<{self.bits.data}>")


def rows(shape: tuple[int, ...], width: int, point: int | None = None) -> Tensor:
    """A tensor of integers of that width, with its binary point unless they are plain integers."""
    if point is None:
        return TensorType(IntegerType(width), shape)
    return cast(Tensor, TensorType(IntegerType(width), shape, PointAttr(IntAttr(point))))


def point_of(type: Attribute) -> int | None:
    """The binary point that a tensor type states; None for plain integers and floats."""
    encoding = cast(Tensor, type).encoding if isinstance(type, TensorType) else None
    return encoding.bits.data if isinstance(encoding, PointAttr) else None


def require_integers(*values: SSAValue) -> None:
    """Integers, or tensors of them, of one shape and of 2 to 63 bits."""
    for value in values:
        width = width_of(value.type)
        require(
            width is not None and 2 <= width <= WIDEST, f"integers of 2 to {WIDEST} bits, found {value.type}"
        )
    shapes = {shape_of(value.type) for value in values}
    require(len(shapes) == 1, "operands and results have one shape")


def shape_of(type: Attribute) -> tuple[int, ...] | None:
    """None for a scalar."""
    return cast(Tensor, type).get_shape() if isinstance(type, TensorType) else None


def like(type: Attribute, width: int) -> Attribute:
    """The type of `type`'s shape with integers of that width."""
    shape = shape_of(type)
    return IntegerType(width) if shape is None else TensorType(IntegerType(width), shape)


def bits_attr(bits: int) -> IntegerAttr[Any]:
    return IntegerAttr(bits, i64)


def exact_width(value: SSAValue) -> int:
    """The width of a value that the verifier has found to be of integers."""
    width = width_of(value.type)
    if width is None:
        raise VerifyException(f"integers are expected, found {value.type}")
    return width
