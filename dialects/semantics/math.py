"""`math`: only what has one right answer in every bit. The functions of `elementary.py` are on f32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from xdsl.dialects import math
from xdsl.interpreter import InterpreterFunctions, register_impls
from xdsl.ir import Operation

from sterna.dialects import elementary
from sterna.dialects.errors import CompileError
from sterna.dialects.semantics.table import Array, Meaning, pointwise


def on_f32(op_type: type[Operation], function: Callable[..., elementary.Value]) -> Meaning:
    """The operation is that function of `elementary.py`."""
    evaluate = elementary.on_arrays(function)

    def apply(*operands: Array) -> Array:
        if operands[0].dtype != np.float32:
            raise CompileError(f"{op_type.name} is defined on f32, found {operands[0].dtype}")
        return evaluate(*operands)

    return pointwise(op_type, apply)


def round_half_away(x: Array) -> Array:
    whole = np.trunc(x)
    # x - trunc(x) is exact, so a tie is seen as one.
    return np.where(np.abs(x - whole) >= x.dtype.type(0.5), whole + np.copysign(x.dtype.type(1.0), x), whole)


def fma(a: Array, b: Array, c: Array) -> Array:
    """a * b + c with one rounding, for f32: exact in float64 but for the last addition, which rounds to odd.

    A float64 that was rounded to odd rounds to float32 as the exact sum would, because 53 >= 24 + 2 (Boldo and
    Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
    """
    if a.dtype != np.float32:
        raise CompileError(f"math.fma is defined on f32, found {a.dtype}")
    product, addend = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = np.asarray(product + addend)
    rest = total - product
    error = (product - (total - rest)) + (addend - rest)
    even = total.view(np.int64) & 1 == 0
    inexact = np.isfinite(error) & (error != 0)
    odd = np.nextafter(total, np.copysign(np.float64(np.inf), error))
    return np.where(inexact & even, odd, total).astype(np.float32)


@register_impls
class MathFunctions(InterpreterFunctions):
    exp = on_f32(math.ExpOp, elementary.exp)
    log = on_f32(math.LogOp, elementary.log)
    tanh = on_f32(math.TanhOp, elementary.tanh)
    erf = on_f32(math.ErfOp, elementary.erf)
    sin = on_f32(math.SinOp, elementary.sin)
    cos = on_f32(math.CosOp, elementary.cos)
    powf = on_f32(math.PowFOp, elementary.pow)
    sqrt = pointwise(math.SqrtOp, np.sqrt)
    rsqrt = on_f32(math.RsqrtOp, elementary.rsqrt)
    absf = pointwise(math.AbsFOp, np.abs)
    absi = pointwise(math.AbsIOp, np.abs)
    floor = pointwise(math.FloorOp, np.floor)
    ceil = pointwise(math.CeilOp, np.ceil)
    trunc = pointwise(math.TruncOp, np.trunc)
    round = pointwise(math.RoundOp, round_half_away)
    roundeven = pointwise(math.RoundEvenOp, np.rint)
    copysign = pointwise(math.CopySignOp, np.copysign)
    fma = pointwise(math.FmaOp, fma)
