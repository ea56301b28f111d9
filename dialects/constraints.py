"""Types of operands and results, and the checks of them that an op's declaration cannot say."""

from __future__ import annotations

from typing import cast

from xdsl.dialects.builtin import I64, Float32Type, FloatAttr, IntegerAttr, TensorType, f32, i8, i64
from xdsl.ir import Attribute, SSAValue
from xdsl.utils.exceptions import VerifyException

Tensor = TensorType[Attribute]


def tensor(value: SSAValue) -> Tensor:
    """The tensor type of a value that its op's constraints made a tensor."""
    assert value.type.name == TensorType.name
    return cast(Tensor, value.type)


def f32_attr(value: float) -> FloatAttr[Float32Type]:
    return FloatAttr(value, f32)


def lanes_attr(value: int) -> IntegerAttr[I64]:
    return IntegerAttr(value, i64)


def rows_of(type: Tensor) -> tuple[int, ...]:
    """The shape without its last axis."""
    return type.get_shape()[:-1]


def require(condition: bool, message: str) -> None:
    if not condition:
        raise VerifyException(message)


def require_type(
    value: SSAValue, what: str, element: Attribute, shape: tuple[int, ...] | None = None
) -> None:
    """The value is a tensor of such elements, and of that shape if one is given; its encoding is free."""
    type = tensor(value)
    expected = TensorType(element, type.get_shape() if shape is None else shape)
    same = type.get_shape() == expected.get_shape() and type.get_element_type() == element
    require(same, f"{what} is {expected}, found {type}")


def require_lanes(lanes: int) -> None:
    require(lanes > 0 and lanes & (lanes - 1) == 0, f"lanes is a power of two, found {lanes}")


def quantized_types(x: Tensor) -> tuple[Tensor, Tensor]:
    """The types of (q, step) for rows of type `x`."""
    return TensorType(i8, x.get_shape()), TensorType(f32, rows_of(x))


def require_quantized(x: SSAValue, q: SSAValue, step: SSAValue) -> None:
    shape = tensor(x).get_shape()
    require(len(shape) > 0, "x has a last axis")
    require_type(x, "x", f32)
    require_type(q, "q", i8, shape)
    require_type(step, "step", f32, shape[:-1])
