"""Rounding of float32 to whole numbers, exact, in additions and comparisons that every machine has on vectors.

Adding 2^23 to a magnitude below it leaves the magnitude rounded half to even, in the rounding mode that every program
starts with; a float of 2^23 or more is whole. The sign of the operand is the sign of the result, zeros included.
"""

from __future__ import annotations

from xdsl.dialects.builtin import f32, i32
from xdsl.ir import SSAValue

from sterna.targets.cpu import instructions as v

WHOLE = float(2**23)


def _constant(number: float, like: SSAValue) -> SSAValue:
    return v.constant(number, v.like(like, f32))


def copysign(magnitude: SSAValue, sign: SSAValue) -> SSAValue:
    ints = v.like(sign, i32)
    kept = v.bitand(v.bitcast(magnitude, ints), v.constant(0x7FFFFFFF, ints))
    taken = v.bitand(v.bitcast(sign, ints), v.constant(-(1 << 31), ints))
    return v.bitcast(v.bitor(kept, taken), v.like(sign, f32))


def round_half_even(x: SSAValue) -> SSAValue:
    magnitude, whole = v.fabs(x), _constant(WHOLE, x)
    rounded = copysign(v.fsub(v.fadd(magnitude, whole), whole), x)
    return v.select(v.fcmp("olt", magnitude, whole), rounded, x)


def floor(x: SSAValue) -> SSAValue:
    nearest = round_half_even(x)
    above = v.fcmp("ogt", nearest, x)
    return v.select(above, v.fsub(nearest, _constant(1.0, x)), nearest)


def ceil(x: SSAValue) -> SSAValue:
    nearest = round_half_even(x)
    below = v.fcmp("olt", nearest, x)
    # Of -0.7 the nearest is -1, and -1 + 1 is +0.
    return copysign(v.select(below, v.fadd(nearest, _constant(1.0, x)), nearest), x)


def trunc(x: SSAValue) -> SSAValue:
    magnitude = v.fabs(x)
    return copysign(floor(magnitude), x)


def round_half_away(x: SSAValue) -> SSAValue:
    """x - trunc(x) is exact, so a tie is seen as one."""
    whole = trunc(x)
    up = v.fcmp("oge", v.fabs(v.fsub(x, whole)), _constant(0.5, x))
    return v.select(up, v.fadd(whole, copysign(_constant(1.0, x), x)), whole)
