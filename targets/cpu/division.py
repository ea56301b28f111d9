"""Division of integers, which traps on no operand: a quotient by 0 is 0, its remainder the dividend.

The least integer by -1, which traps too, is itself, and its remainder 0: both are divided by 1.
"""

from __future__ import annotations

from xdsl.ir import SSAValue

from sterna.targets.cpu import instructions as v


def divide(lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    """Rounded toward zero."""
    return _unless_zero(rhs, v.sdiv(lhs, _safe(lhs, rhs)), v.constant(0, lhs.type))


def remainder(lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    """With the sign of the dividend."""
    return _unless_zero(rhs, v.srem(lhs, _safe(lhs, rhs)), lhs)


def divide_unsigned(lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    return _unless_zero(rhs, v.udiv(lhs, _one_for_zero(rhs)), v.constant(0, lhs.type))


def remainder_unsigned(lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    return _unless_zero(rhs, v.urem(lhs, _one_for_zero(rhs)), lhs)


def floor_divide(lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    """Rounded down."""
    divisor, zero = _safe(lhs, rhs), v.constant(0, lhs.type)
    quotient = v.sdiv(lhs, divisor)
    inexact = v.icmp("ne", v.srem(lhs, divisor), zero)
    negative = v.icmp("slt", v.bitxor(lhs, divisor), zero)
    lowered = v.sub(quotient, v.constant(1, lhs.type))
    return _unless_zero(rhs, v.select(v.bitand(inexact, negative), lowered, quotient), zero)


def _unless_zero(divisor: SSAValue, result: SSAValue, otherwise: SSAValue) -> SSAValue:
    return v.select(v.icmp("eq", divisor, v.constant(0, divisor.type)), otherwise, result)


def _one_for_zero(divisor: SSAValue) -> SSAValue:
    return _unless_zero(divisor, divisor, v.constant(1, divisor.type))


def _safe(lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    # Only 0 and the least integer are their own negative.
    own = v.icmp("eq", lhs, v.sub(v.constant(0, lhs.type), lhs))
    overflows = v.bitand(own, v.icmp("eq", rhs, v.constant(-1, rhs.type)))
    return v.select(overflows, v.constant(1, rhs.type), _one_for_zero(rhs))
