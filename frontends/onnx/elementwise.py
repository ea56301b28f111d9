"""Elementwise operators with broadcasting: arithmetic, comparisons, logic, casts."""

from __future__ import annotations

from typing import TypeAlias

from xdsl.dialects import arith, math
from xdsl.ir import Operation, SSAValue

from sterna.dialects import exact_functions
from sterna.frontends.onnx.data_types import BOOL, DataType
from sterna.frontends.onnx.emitters import Emitter, EmitterTable
from sterna.frontends.onnx.errors import Unsupported
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.values import Tensor

EMITTERS = EmitterTable()
emits = EMITTERS.of

Choices: TypeAlias = tuple[type[Operation] | None, type[Operation] | None, type[Operation] | None]
"""An op on floats, on signed integers and on unsigned ones; None where there is none."""

ADD: Choices = (arith.AddfOp, arith.AddiOp, arith.AddiOp)
SUB: Choices = (arith.SubfOp, arith.SubiOp, arith.SubiOp)
MUL: Choices = (arith.MulfOp, arith.MuliOp, arith.MuliOp)
DIV: Choices = (arith.DivfOp, arith.DivSIOp, arith.DivUIOp)
MAXIMUM: Choices = (arith.MaximumfOp, arith.MaxSIOp, arith.MaxUIOp)
MINIMUM: Choices = (arith.MinimumfOp, arith.MinSIOp, arith.MinUIOp)
AND: Choices = (None, arith.AndIOp, arith.AndIOp)
OR: Choices = (None, arith.OrIOp, arith.OrIOp)
XOR: Choices = (None, arith.XOrIOp, arith.XOrIOp)


def choose(to: Node, choices: Choices, left: SSAValue, right: SSAValue, type: DataType) -> SSAValue:
    """left op right, elementwise, on values of one shape."""
    floats, signed, unsigned = choices
    op = floats if type.is_float else unsigned if type.is_unsigned else signed
    if op is None:
        raise Unsupported(f"on {type.name}")
    return to.binary(op, left, right)


def combine(to: Node, choices: Choices, x: Tensor, y: Tensor) -> Tensor:
    """x op y, broadcast."""
    shape = to.broadcast_shape(x, y)
    return to.result(
        choose(to, choices, to.broadcast(x, shape), to.broadcast(y, shape), x.type), shape, x.type
    )


def _binary(choices: Choices) -> Emitter:
    def emit(to: Node, x: Tensor, y: Tensor) -> Tensor:
        return combine(to, choices, x, y)

    return emit


def _variadic(choices: Choices) -> Emitter:
    def emit(to: Node, *inputs: Tensor) -> Tensor:
        shape = to.broadcast_shape(*inputs)
        values = [to.broadcast(x, shape) for x in inputs]
        total = values[0]
        for value in values[1:]:
            total = choose(to, choices, total, value, inputs[0].type)
        return to.result(total, shape, inputs[0].type)

    return emit


BINARY: dict[str, Choices] = {
    "Add": ADD,
    "Sub": SUB,
    "Mul": MUL,
    "Div": DIV,
    "And": AND,
    "Or": OR,
    "Xor": XOR,
    "BitwiseAnd": AND,
    "BitwiseOr": OR,
    "BitwiseXor": XOR,
}
for _name, _choices in BINARY.items():
    EMITTERS.add(_name, _binary(_choices))
for _name, _choices in {"Sum": ADD, "Max": MAXIMUM, "Min": MINIMUM}.items():
    EMITTERS.add(_name, _variadic(_choices))


@emits("Mean")
def mean(to: Node, *inputs: Tensor) -> Tensor:
    """The sum, from the left, divided by how many there are."""
    total = _variadic(ADD)(to, *inputs)
    assert isinstance(total, Tensor)
    count = to.splat(len(inputs), total.shape, total.type)
    return to.result(to.binary(arith.DivfOp, to.value(total), count), total.shape, total.type)


def _comparison(predicate: str) -> Emitter:
    def emit(to: Node, x: Tensor, y: Tensor) -> Tensor:
        shape = to.broadcast_shape(x, y)
        left, right = to.broadcast(x, shape), to.broadcast(y, shape)
        return to.result(to.compare(predicate, left, right, x.type), shape, BOOL)

    return emit


COMPARISONS = {"Equal": "eq", "Less": "lt", "LessOrEqual": "le", "Greater": "gt", "GreaterOrEqual": "ge"}
for _name, _predicate in COMPARISONS.items():
    EMITTERS.add(_name, _comparison(_predicate))

FLOAT_UNARY: dict[str, type[Operation]] = {
    "Sqrt": math.SqrtOp,
    "Exp": math.ExpOp,
    "Floor": math.FloorOp,
    "Ceil": math.CeilOp,
    "Round": math.RoundEvenOp,
    "Log": math.LogOp,
    "Erf": math.ErfOp,
    "Tanh": math.TanhOp,
    "Sin": math.SinOp,
    "Cos": math.CosOp,
}


def _unary(op: type[Operation]) -> Emitter:
    def emit(to: Node, x: Tensor) -> Tensor:
        return to.result(to.unary(op, to.value(x)), x.shape, x.type)

    return emit


for _name, _op in FLOAT_UNARY.items():
    EMITTERS.add(_name, _unary(_op))


@emits("Neg")
def negate(to: Node, x: Tensor) -> Tensor:
    value = to.value(x)
    if x.type.is_float:
        return to.result(to.unary(arith.NegfOp, value), x.shape, x.type)
    return to.result(to.binary(arith.SubiOp, to.splat(0, x.shape, x.type), value), x.shape, x.type)


@emits("Abs")
def absolute(to: Node, x: Tensor) -> Tensor:
    if x.type.is_unsigned:
        return x
    op = math.AbsFOp if x.type.is_float else math.AbsIOp
    return to.result(to.unary(op, to.value(x)), x.shape, x.type)


@emits("Reciprocal")
def reciprocal(to: Node, x: Tensor) -> Tensor:
    one = to.splat(1.0, x.shape, x.type)
    return to.result(to.binary(arith.DivfOp, one, to.value(x)), x.shape, x.type)


@emits("Sign")
def sign(to: Node, x: Tensor) -> Tensor:
    """1 where x > 0, -1 where x < 0, else 0; NaN stays NaN."""
    value, zero = to.value(x), to.splat(0, x.shape, x.type)
    positive = to.compare("gt", value, zero, x.type)
    one = to.splat(1, x.shape, x.type)
    if x.type.is_unsigned:
        return to.result(to.select(positive, one, zero), x.shape, x.type)
    negative = to.compare("lt", value, zero, x.type)
    below = to.select(negative, to.splat(-1, x.shape, x.type), value if x.type.is_float else zero)
    return to.result(to.select(positive, one, below), x.shape, x.type)


@emits("Not")
def logical_not(to: Node, x: Tensor) -> Tensor:
    return to.result(to.binary(arith.XOrIOp, to.value(x), to.splat(1, x.shape, BOOL)), x.shape, BOOL)


@emits("BitwiseNot")
def bitwise_not(to: Node, x: Tensor) -> Tensor:
    return to.result(to.binary(arith.XOrIOp, to.value(x), to.splat(-1, x.shape, x.type)), x.shape, x.type)


@emits("BitShift")
def bit_shift(to: Node, x: Tensor, y: Tensor) -> Tensor:
    """Shifts to the right bring in zeros, or copies of a signed number's sign."""
    match to.text("direction"):
        case "LEFT":
            return combine(to, (None, arith.ShLIOp, arith.ShLIOp), x, y)
        case "RIGHT":
            return combine(to, (None, arith.ShRSIOp, arith.ShRUIOp), x, y)
        case other:
            raise Unsupported(f"the direction '{other}'")


@emits("Where")
def where(to: Node, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    shape = to.broadcast_shape(condition, x, y)
    values = [to.broadcast(tensor, shape) for tensor in (condition, x, y)]
    return to.result(to.select(*values), shape, x.type)


@emits("IsNaN")
def is_nan(to: Node, x: Tensor) -> Tensor:
    value = to.value(x)
    return to.result(to.compare("ne", value, value, x.type), x.shape, BOOL)


@emits("IsInf")
def is_inf(to: Node, x: Tensor) -> Tensor:
    value = to.value(x)
    signs = {float("inf"): to.integer("detect_positive", 1), -float("inf"): to.integer("detect_negative", 1)}
    found = [
        to.compare("eq", value, to.splat(number, x.shape, x.type), x.type)
        for number, wanted in signs.items()
        if wanted
    ]
    if not found:
        return to.result(to.splat(0, x.shape, BOOL), x.shape, BOOL)
    either = found[0] if len(found) == 1 else to.binary(arith.OrIOp, *found)
    return to.result(either, x.shape, BOOL)


@emits("Mod")
def modulo(to: Node, x: Tensor, y: Tensor) -> Tensor:
    """fmod = 1: with the sign of x, as C's; otherwise with that of y. Of floats it is exact."""
    is_c = bool(to.integer("fmod", 0))
    if x.type.is_unsigned or (x.type.is_integer and is_c):
        return combine(to, (None, arith.RemSIOp, arith.RemUIOp), x, y)
    shape = to.broadcast_shape(x, y)
    left, right = to.broadcast(x, shape), to.broadcast(y, shape)
    if x.type.is_float:
        function = exact_functions.remainder if is_c else exact_functions.floored_remainder
        return to.result(to.written([left, right], function), shape, x.type)
    quotient = to.binary(arith.FloorDivSIOp, left, right)
    return to.result(to.binary(arith.SubiOp, left, to.binary(arith.MuliOp, quotient, right)), shape, x.type)


@emits("Cast")
def cast(to: Node, x: Tensor) -> Tensor:
    return converted(to, x, to.data_type("to"))


@emits("CastLike")
def cast_like(to: Node, x: Tensor, like: Tensor) -> Tensor:
    return converted(to, x, like.type)


def converted(to: Node, x: Tensor, target: DataType) -> Tensor:
    if x.known is None and target.name == "bfloat16" and x.type != target:
        raise Unsupported("rounding to bfloat16: Sterna computes in float32")
    return to.cast(x, target)


@emits("Clip", since=11)
def clip(to: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    value = to.value(x)
    for bound, choices in ((low, MAXIMUM), (high, MINIMUM)):
        if bound is not None:
            if any(size != 1 for size in bound.shape):
                raise Unsupported("a bound that is no scalar")
            value = choose(to, choices, value, to.broadcast(bound, x.shape), x.type)
    return to.result(value, x.shape, x.type)
