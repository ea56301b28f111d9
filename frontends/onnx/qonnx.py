"""The operators of QONNX: floats that only take the values that a quantizer gives them (arXiv 2206.07527).

    Quant(x, scale, zero_point, bit_width) = (q - zero_point) * scale
    q = round(clamp(x / scale + zero_point))

q is an integer tensor in the IR wherever it fits 8 or 32 bits, so that what is computed from it can be done on
integers. A NaN becomes 0; in QONNX it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from xdsl.dialects import arith, math
from xdsl.ir import SSAValue

from sterna.frontends.onnx.data_types import BY_NAME, FLOAT, INT32
from sterna.frontends.onnx.emitters import Emitter, EmitterTable
from sterna.frontends.onnx.errors import OnnxError
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.quantization import clamped, narrowed
from sterna.frontends.onnx.sizes import Shape
from sterna.frontends.onnx.values import Tensor, known

EMITTERS = EmitterTable()


DOMAINS: tuple[str, ...] = ("onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general")
"""What exporters have called the domain of these operators."""
UNVERSIONED: Mapping[str, int] = dict.fromkeys(DOMAINS, 1)
"""The version of those domains in models that import none: older exporters left it out."""
WIDEST = 24
"""Bits: f32 holds every integer up to there."""
HELD = [BY_NAME["int8"], BY_NAME["uint8"], INT32]


def emits(*operators: str) -> Callable[[Emitter], Emitter]:
    """Enters a function for these operators of each domain."""

    def enter(emitter: Emitter) -> Emitter:
        for domain in DOMAINS:
            EMITTERS.of(*operators, domain=domain)(emitter)
        return emitter

    return enter


def _number(to: Node, tensor: Tensor) -> float | None:
    """The one number of a tensor, if it is known."""
    return None if tensor.known is None else to.scope.single(tensor.known)


def _divided(to: Node, value: SSAValue, by: Tensor, shape: Shape) -> SSAValue:
    return value if _number(to, by) == 1 else to.binary(arith.DivfOp, value, to.broadcast(by, shape))


def _times(to: Node, value: SSAValue, by: Tensor, shape: Shape) -> SSAValue:
    return value if _number(to, by) == 1 else to.binary(arith.MulfOp, value, to.broadcast(by, shape))


def _plus(to: Node, value: SSAValue, addend: Tensor, shape: Shape) -> SSAValue:
    return value if _number(to, addend) == 0 else to.binary(arith.AddfOp, value, to.broadcast(addend, shape))


def _minus(to: Node, value: SSAValue, by: Tensor, shape: Shape) -> SSAValue:
    return value if _number(to, by) == 0 else to.binary(arith.SubfOp, value, to.broadcast(by, shape))


def _fits(to: Node, x: Tensor, *parameters: Tensor) -> None:
    for tensor in parameters:
        if to.broadcast_shape(x, tensor) != x.shape:
            raise OnnxError(f"{to.place}: a parameter of more elements than the tensor that it quantizes")


def _bits(to: Node, tensor: Tensor, what: str) -> int:
    bits = to.scalar(tensor, what)
    if not 1 <= bits <= 64 or bits != int(bits):
        raise OnnxError(f"{to.place}: {what}: expected a whole number from 1 to 64, found {bits}")
    return int(bits)


def integer_range(bits: int, *, is_signed: bool, is_narrow: bool) -> tuple[int, int]:
    """The least and the greatest q."""
    if not is_signed:
        return 0, (1 << bits) - 1 - is_narrow
    return -(1 << bits - 1) + is_narrow, (1 << bits - 1) - 1


def rounded(to: Node, value: SSAValue, mode: str, shape: Shape) -> SSAValue:
    """By one of QONNX's rounding modes, each by the operations that its reference executes."""
    match mode.upper():
        case "ROUND" | "HALF_EVEN":
            return to.unary(math.RoundEvenOp, value)
        case "CEIL":
            return to.unary(math.CeilOp, value)
        case "FLOOR":
            return to.unary(math.FloorOp, value)
        case "DOWN":
            return to.unary(math.TruncOp, value)
        case "UP":
            return _with_sign(to, to.unary(math.CeilOp, to.unary(math.AbsFOp, value)), value)
        case "HALF_UP":
            half = to.binary(arith.AddfOp, to.unary(math.AbsFOp, value), to.splat(0.5, shape, FLOAT))
            return _with_sign(to, to.unary(math.FloorOp, half), value)
        case "HALF_DOWN":
            half = to.binary(arith.SubfOp, to.unary(math.AbsFOp, value), to.splat(0.5, shape, FLOAT))
            return _with_sign(to, to.unary(math.CeilOp, half), value)
        case _:
            raise OnnxError(f"{to.place}: rounding_mode: '{mode}' is not one of QONNX's")


def _with_sign(to: Node, magnitude: SSAValue, sign: SSAValue) -> SSAValue:
    return to.binary(math.CopySignOp, magnitude, sign)


def _as_integers(to: Node, value: SSAValue, shape: Shape, low: float, high: float) -> Tensor:
    """Whole floats between two bounds as integers that hold them; floats still if they are large."""
    for type in HELD:
        if type.smallest <= low and high <= min(type.largest, 1 << WIDEST):
            return to.result(narrowed(to, value, type), shape, type)
    return Tensor(shape, FLOAT, value)


@emits("Quant", "IntQuant")
def quant(to: Node, x: Tensor, scale: Tensor, zero: Tensor, bit_width: Tensor) -> Tensor:
    _fits(to, x, scale, zero)
    bits, is_signed = _bits(to, bit_width, "bit_width"), bool(to.integer("signed", 1))
    value = _plus(to, _divided(to, to.value(x), scale, x.shape), zero, x.shape)
    if bits == 1 and is_signed:
        q = _signs(to, value, x.shape)
    else:
        low, high = integer_range(bits, is_signed=is_signed, is_narrow=bool(to.integer("narrow", 1)))
        value = rounded(to, clamped(to, value, low, high), to.text("rounding_mode", "ROUND"), x.shape)
        q = _as_integers(to, value, x.shape, low, high)
    floats = to.value(to.cast(q, FLOAT))
    return to.result(_times(to, _minus(to, floats, zero, x.shape), scale, x.shape), x.shape, FLOAT)


def _signs(to: Node, value: SSAValue, shape: Shape) -> Tensor:
    """1 where value >= 0, else -1, as int8."""
    type = BY_NAME["int8"]
    is_positive = to.compare("ge", value, to.splat(0.0, shape, FLOAT), FLOAT)
    return to.result(to.select(is_positive, to.splat(1, shape, type), to.splat(-1, shape, type)), shape, type)


@emits("BipolarQuant")
def bipolar_quant(to: Node, x: Tensor, scale: Tensor) -> Tensor:
    """scale where x >= 0, else -scale."""
    _fits(to, x, scale)
    signs = to.value(to.cast(_signs(to, to.value(x), x.shape), FLOAT))
    return to.result(_times(to, signs, scale, x.shape), x.shape, FLOAT)


@emits("Trunc")
def trunc(to: Node, x: Tensor, scale: Tensor, zero: Tensor, in_bits: Tensor, *rest: Tensor) -> Tensor:
    """Drops the lowest bits of a quantized tensor. Version 1 drops in_bits - out_bits of them; version 2, which has two
    more inputs, as many as the scales are apart, and clamps."""
    _fits(to, x, scale, zero)
    mode = to.text("rounding_mode", "FLOOR")
    whole = to.unary(math.RoundEvenOp, _plus(to, _divided(to, to.value(x), scale, x.shape), zero, x.shape))
    if len(rest) == 1:
        factor = 2.0 ** (_bits(to, in_bits, "in_bit_width") - _bits(to, rest[0], "out_bit_width"))
        value = to.binary(arith.DivfOp, whole, to.splat(factor, x.shape, FLOAT))
        value = _minus(to, rounded(to, value, mode, x.shape), zero, x.shape)
        return to.result(_times(to, value, scale, x.shape), x.shape, FLOAT)
    if len(rest) != 2:
        raise OnnxError(f"{to.place}: expected 5 or 6 inputs, found {4 + len(rest)}")
    out_scale, out_bits = rest
    _fits(to, x, out_scale)
    factors = _ratio(to, scale, out_scale)
    low, high = integer_range(
        _bits(to, out_bits, "out_bit_width"),
        is_signed=bool(to.integer("signed", 1)),
        is_narrow=bool(to.integer("narrow", 0)),
    )
    value = clamped(to, _divided(to, whole, factors, x.shape), low, high)
    q = _as_integers(to, rounded(to, value, mode, x.shape), x.shape, low, high)
    value = to.value(to.cast(q, FLOAT))
    if _number(to, zero) != 0:
        value = to.binary(arith.SubfOp, value, _divided(to, to.broadcast(zero, x.shape), factors, x.shape))
    return to.result(_times(to, value, out_scale, x.shape), x.shape, FLOAT)


def _ratio(to: Node, scale: Tensor, out_scale: Tensor) -> Tensor:
    """The power of two next to out_scale / scale."""
    numbers = [to.known(tensor, what) for tensor, what in ((scale, "scale"), (out_scale, "out_scale"))]
    with np.errstate(all="ignore"):
        ratio = np.asarray(2 ** np.round(np.log2(numbers[1] / numbers[0])), np.float32)
    return known(ratio, FLOAT, f"{to.output_name(0)}.ratio")
