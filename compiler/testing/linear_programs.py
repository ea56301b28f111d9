"""A strategy for one BitLinear as IR: a norm, rows to int8, a product with trits, and what follows it.

@given(st.data())
def test_my_kernel(data):
    program = data.draw(bit_linears())
    (x,) = data.draw(inputs_of(program.module))
    assert_equivalent(program, Compiled(program.text, program.weights), [x])
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from sterna.testing.arrays import COLUMNS
from sterna.testing.drawing import TRIT, Drawing, Limits, Type, Value
from sterna.testing.programs import IrProgram, finish
from sterna.testing.recipes.ternary import EPS, derived_trits, quantized

CHANNELS = (2, 1, 3, 4, 5, 16, 17, 33)
"""M at and around the rows of a tile and the channels of a block."""
ROW_NORMS = ("none", "rms", "rms of rms")
TRITS = ("stored", "ternarize", "absmean")
"""Where the trits come from: stored, floats that are ternary already, or quantized from any floats."""
EPILOGUES = ("none", "bias", "residual", "gate")


@st.composite
def bit_linears(
    draw: st.DrawFn, *, columns: Sequence[int] = COLUMNS, channels: Sequence[int] = CHANNELS
) -> IrProgram:
    """`[T, K]` to `[T, M]` as raising leaves it, in any of its forms: norms, scales, one or two products, an epilogue.

    `columns` and `channels` are the sizes K and M to choose from, the plainest first.
    """
    to = Drawing(draw, Limits(dynamic="leading"))
    k, m = draw(st.sampled_from(tuple(columns))), draw(st.sampled_from(tuple(channels)))
    x = to.argument(Type("f32", (None, k)))
    rows = x
    norm = to.choose(*ROW_NORMS)
    for _ in range(ROW_NORMS.index(norm)):
        rows = _norm(to, rows)
    y = _product(to, rows, m)
    match to.choose(*EPILOGUES):
        case "bias":
            bias = _for_all_rows(to, to.weight("f32", (m,)), y.type)
            to.emit(f"arith.addf {y}, {bias} : {y.type}", y.type)
        case "residual":
            other = to.argument(y.type)
            to.emit(f"arith.addf {y}, {other} : {y.type}", y.type)
        case "gate":
            up = _product(to, rows, m)
            to.emit(f"arith.mulf {y}, {up} : {y.type}", y.type)
        case _:
            pass
    return finish(draw, to)


def _norm(to: Drawing, x: Value) -> Value:
    gain = to.weight("f32", x.shape[-1:])
    (y,) = to.emit(
        f"ternary.rms_norm {x}, {gain} eps = {to.choose(*EPS)} lanes = 128 : {x.type}, {gain.type}", x.type
    )
    return y


def _product(to: Drawing, x: Value, m: int) -> Value:
    q, step = quantized(to, x)
    trits, scale = _weight(to, m, x.last)
    acc = Type("i32", (*x.shape[:-1], m))
    (sums,) = to.emit(f"ternary.accumulate {q}, {trits} : {q.type}, {trits.type} -> {acc}", acc)
    y = acc.of("f32")
    (rescaled,) = to.emit(
        f"ternary.dequantize {sums}, {step}, {scale} : {acc}, {step.type}, {scale.type} -> {y}", y
    )
    return rescaled


def _weight(to: Drawing, m: int, k: int) -> tuple[Value, Value]:
    scale = Type("f32", to.choose((), (m,)))
    match to.choose(*TRITS):
        case "stored":
            return to.weight(TRIT, (m, k), "trits"), to.weight("f32", scale.axes)
        case "ternarize":
            weight, trits = to.weight("f32", (m, k), "ternary"), Type(TRIT, (m, k))
            found, size = to.emit(
                f"ternary.ternarize {weight} : {weight.type} -> {trits}, {scale}", trits, scale
            )
            return found, size
        case _:
            return derived_trits(to, m, k)


def _for_all_rows(to: Drawing, vector: Value, type: Type) -> Value:
    out = to.empty(type)
    (row,) = to.emit(
        f"linalg.broadcast ins({vector}:{vector.type}) outs({out}:{type}) dimensions = [0]", type
    )
    return row
