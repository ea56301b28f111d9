"""`math`: only what has one right answer in every bit. `exp` is the polynomial of `numerics.exp`, on f32."""

from __future__ import annotations

import numpy as np
from xdsl.dialects import math
from xdsl.interpreter import InterpreterFunctions, register_impls

from sterna.dialects import numerics
from sterna.dialects.errors import CompileError
from sterna.dialects.semantics.table import Array, pointwise


def exp(x: Array) -> Array:
    if x.dtype != np.float32:
        raise CompileError(f"math.exp is defined on f32, found {x.dtype}")
    return numerics.exp(x)


def rsqrt(x: Array) -> Array:
    """1 / sqrt(x), two roundings."""
    return x.dtype.type(1.0) / np.sqrt(x)


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
    exp = pointwise(math.ExpOp, exp)
    sqrt = pointwise(math.SqrtOp, np.sqrt)
    rsqrt = pointwise(math.RsqrtOp, rsqrt)
    absf = pointwise(math.AbsFOp, np.abs)
    absi = pointwise(math.AbsIOp, np.abs)
    floor = pointwise(math.FloorOp, np.floor)
    ceil = pointwise(math.CeilOp, np.ceil)
    trunc = pointwise(math.TruncOp, np.trunc)
    round = pointwise(math.RoundOp, round_half_away)
    roundeven = pointwise(math.RoundEvenOp, np.rint)
    copysign = pointwise(math.CopySignOp, np.copysign)
    fma = pointwise(math.FmaOp, fma)
