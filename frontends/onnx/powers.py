"""`Pow`: floats by `math.powf`, integers by multiplication."""

from __future__ import annotations

from xdsl.dialects import arith, math
from xdsl.ir import SSAValue

from sterna.frontends.onnx.data_types import FLOAT, INT64, DataType
from sterna.frontends.onnx.elementwise import combine
from sterna.frontends.onnx.emitters import EmitterTable
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.sizes import Shape
from sterna.frontends.onnx.values import Tensor

EMITTERS = EmitterTable()
emits = EMITTERS.of


@emits("Pow")
def power(to: Node, x: Tensor, y: Tensor) -> Tensor:
    """Small whole exponents are products, 1/2 a root; others `math.powf`, and on integers products of squares.

    An integer to a whole power wraps as its products do; to a negative one it is 0, but for 1 and -1. To a power that
    is not whole it is computed in float32, and truncated.
    """
    shape = to.broadcast_shape(x, y)
    exponent = to.scope.single(y.known) if y.known is not None else None
    if (
        exponent is not None
        and (value := _known_power(to, to.broadcast(x, shape), x.type, exponent)) is not None
    ):
        return to.result(value, shape, x.type)
    if x.type.is_float:
        return combine(to, (math.PowFOp, None, None), x, to.cast(y, x.type))
    exponents = to.broadcast(y, shape)
    whole = exponents if not y.type.is_float else to.convert(exponents, y.type, INT64)
    wide = Tensor(shape, y.type if not y.type.is_float else INT64, whole)
    power = _whole_power(to, Tensor(shape, x.type, to.broadcast(x, shape)), to.cast(wide, INT64), shape)
    if y.type.is_float:
        is_whole = to.compare("eq", to.convert(whole, INT64, FLOAT), exponents, FLOAT)
        base = to.convert(to.broadcast(x, shape), x.type, FLOAT)
        other = to.convert(to.binary(math.PowFOp, base, exponents), FLOAT, x.type)
        power = to.select(is_whole, power, other)
    return to.result(power, shape, x.type)


def _known_power(to: Node, base: SSAValue, type: DataType, exponent: float) -> SSAValue | None:
    multiply = arith.MulfOp if type.is_float else arith.MuliOp
    if exponent == 0.5 and type.is_float:
        return to.unary(math.SqrtOp, base)
    if exponent == 1:
        return base
    if exponent in (2, 3):
        square = to.binary(multiply, base, base)
        return square if exponent == 2 else to.binary(multiply, square, base)
    return None


LONGEST = 64
"""From here on an even base gives 0, and others but 1 and -1 nothing in range: only whether the power is odd counts."""


def _whole_power(to: Node, base: Tensor, exponent: Tensor, shape: Shape) -> SSAValue:
    """base to a power of i64: the product of its squares at the exponent's bits."""
    value, n = to.value(base), to.value(exponent)
    one = to.splat(1, shape, base.type)
    zero, unit, longest = (to.splat(number, shape, INT64) for number in (0, 1, LONGEST))
    parity = to.binary(arith.AndIOp, n, unit)
    is_long = to.compare("gt", n, longest, INT64)
    rest = to.select(is_long, to.binary(arith.AddiOp, longest, parity), n)
    result, square = one, value
    for bit in range(LONGEST.bit_length()):
        is_set = to.compare("ne", to.binary(arith.AndIOp, rest, unit), zero, INT64)
        result = to.select(is_set, to.binary(arith.MuliOp, result, square), result)
        if bit + 1 < LONGEST.bit_length():
            square = to.binary(arith.MuliOp, square, square)
            rest = to.binary(arith.ShRUIOp, rest, unit)
    is_negative = to.compare("lt", n, zero, INT64)
    # What divides 1 is its own inverse.
    signed = to.select(to.compare("ne", parity, zero, INT64), value, one)
    is_unit = to.compare("eq", to.binary(arith.MuliOp, value, value), one, base.type)
    inverse = to.select(is_unit, signed, to.splat(0, shape, base.type))
    return to.select(is_negative, inverse, result)
