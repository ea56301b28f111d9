"""Compositions that passes look for: a BitLinear, gates, halves, a row that is added to every row."""

from __future__ import annotations

from collections.abc import Callable

from sterna.testing.drawing import Drawing, Type, Value
from sterna.testing.recipes.ternary import derived_trits, quantized, rows_of_floats

Idiom = Callable[[Drawing], None]


def ternary_product(to: Drawing, x: Value, m: int) -> Value:
    """A norm, then int8 activations by ternary weights: rows of K to rows of M, as raising leaves a BitLinear."""
    (normed,) = to.emit(
        f"ternary.rms_norm {x}, {to.weight('f32', x.shape[-1:])} eps = 1.0e-08 lanes = 128 : "
        f"{x.type}, {Type('f32', x.shape[-1:])}",
        x.type,
    )
    trits, scale = derived_trits(to, m, x.last)
    q, step = quantized(to, normed)
    rows = x.shape[:-1]
    (acc,) = to.emit(
        f"ternary.accumulate {q}, {trits} : {q.type}, {trits.type} -> {Type('i32', (*rows, m))}",
        Type("i32", (*rows, m)),
    )
    type = Type("f32", (*rows, m))
    (y,) = to.emit(
        f"ternary.dequantize {acc}, {step}, {scale} : {acc.type}, {step.type}, {scale.type} -> {type}", type
    )
    return y


def bit_linear(to: Drawing) -> None:
    ternary_product(to, rows_of_floats(to, (2, 2)), to.size())


def gated(to: Drawing) -> None:
    """One product whose columns are two halves, each of which goes its own way."""
    x, half = rows_of_floats(to, (2, 2)), to.size()
    both = ternary_product(to, x, 2 * half)
    type = Type("f32", (*x.shape[:-1], half))
    sizes = ", ".join(str(to.rows()) if size is None else str(size) for size in type.axes)
    for at in (0, half):
        to.emit(f"tensor.extract_slice {both}[0, {at}] [{sizes}] [1, 1] : {both.type} to {type}", type)


def sigmoid(to: Drawing) -> None:
    x = rows_of_floats(to, (2, 2))
    one = to.constant("f32", "1.0")
    sizes = to.sizes(x.shape)
    at = f"[{', '.join(map(str, sizes))}]" if sizes else ""
    (ones,) = to.emit(f"tensor.splat {one}{at} : {x.type}", x.type)
    (negated,) = to.emit(f"arith.negf {x} : {x.type}", x.type)
    (e,) = to.emit(f"math.exp {negated} : {x.type}", x.type)
    (d,) = to.emit(f"arith.addf {ones}, {e} : {x.type}", x.type)
    (y,) = to.emit(f"arith.divf {ones}, {d} : {x.type}", x.type)
    to.emit(f"arith.mulf {x}, {y} : {x.type}", x.type)


def row_for_all(to: Drawing) -> None:
    """A vector that is a weight, added to every row."""
    x = rows_of_floats(to, (2, 2))
    vector, out = to.weight("f32", x.shape[-1:]), to.empty(x.type)
    (row,) = to.emit(
        f"linalg.broadcast ins({vector}:{vector.type}) outs({out}:{x.type}) dimensions = [0]", x.type
    )
    to.emit(f"arith.addf {x}, {row} : {x.type}", x.type)


IDIOMS: dict[str, Idiom] = {
    "bit-linear": bit_linear,
    "gated": gated,
    "sigmoid": sigmoid,
    "row-for-all": row_for_all,
}
