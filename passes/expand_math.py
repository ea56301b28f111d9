"""Writes the transcendental functions of regions as arithmetic, so that every target computes the same bits.

    %y = math.exp %x : f32

becomes the operations of `numerics.exp` in the order in which it has them (Cephes `expf`, within 2 ulp), from

    %above = arith.cmpf ogt, %x, %high : f32
    %bounded = arith.select %above, %high, %x : f32

to the multiplication by two powers of two. `math.rsqrt` becomes 1 / sqrt, two roundings. What stays is exact or
correctly rounded everywhere: `arith`, `math.sqrt`, `math.absf`. Any other function has no expansion yet, and is
an error.

Why it is right: `math.exp` means `numerics.exp` in every stage of the IR; the test compares them for every kind
of float. Derived weights are left alone: the interpreter computes them, once, when an artifact is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, ModuleOp, f32, i32
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.passes import ModulePass

from sterna.dialects import numerics
from sterna.dialects.errors import CompileError, describe_location
from sterna.dialects.ternary import ElementwiseOp, ProjectOp

ALLOWED = (math.SqrtOp, math.AbsFOp)
"""IEEE 754 says every bit of these, and every target has them."""


class Constants:
    """The constants of a region, each once, at its start."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._last: arith.ConstantOp | None = None
        self._values: dict[Attribute, SSAValue] = {}
        for op in list(block.ops):
            if isinstance(op, arith.ConstantOp):
                op.detach()
                op.result.replace_all_uses_with(self._insert(op))

    def _insert(self, op: arith.ConstantOp) -> SSAValue:
        if op.value not in self._values:
            if self._last is not None:
                self._block.insert_op_after(op, self._last)
            elif self._block.first_op is not None:
                self._block.insert_op_before(op, self._block.first_op)
            self._last = op
            self._values[op.value] = op.result
        return self._values[op.value]

    def get(self, value: np.float32 | int) -> SSAValue:
        attr = IntegerAttr(value, i32) if isinstance(value, int) else FloatAttr(float(value), f32)
        return self._values.get(attr) or self._insert(arith.ConstantOp(attr))


@dataclass(frozen=True)
class Arithmetic:
    """Writes scalar f32 and i32 operations before `place`."""

    block: Block
    place: Operation
    constants: Constants

    def const(self, value: np.float32 | int) -> SSAValue:
        return self.constants.get(value)

    def emit(self, op: Operation) -> SSAValue:
        op.location = self.place.location
        self.block.insert_op_before(op, self.place)
        return op.results[0]

    def add(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.emit(arith.AddiOp(a, b) if a.type == i32 else arith.AddfOp(a, b))

    def sub(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.emit(arith.SubiOp(a, b) if a.type == i32 else arith.SubfOp(a, b))

    def mul(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.emit(arith.MulfOp(a, b))

    def replace_if(self, predicate: str, x: SSAValue, bound: SSAValue) -> SSAValue:
        """`bound` where the comparison of x with it holds, else x (so NaN stays)."""
        return self.emit(arith.SelectOp(self.emit(arith.CmpfOp(x, bound, predicate)), bound, x))

    def power_of_two(self, n: SSAValue) -> SSAValue:
        """2**n from the bits of its exponent."""
        shifted = self.emit(arith.ShLIOp(self.add(n, self.const(127)), self.const(23)))
        return self.emit(arith.BitcastOp(shifted, f32))


def exp(a: Arithmetic, x: SSAValue) -> SSAValue:
    """`numerics.exp`, line by line."""
    low, high = numerics.EXP_CLAMP
    magic = a.const(numerics.ROUND_MAGIC)
    x = a.replace_if("ogt", x, a.const(high))
    x = a.replace_if("olt", x, a.const(low))
    shifted = a.add(a.mul(x, a.const(numerics.LOG2_E)), magic)
    bits = a.emit(arith.BitcastOp(shifted, i32))
    n = a.sub(bits, a.const(int(numerics.ROUND_MAGIC.view(np.int32))))
    n_float = a.sub(shifted, magic)
    r = a.sub(x, a.mul(n_float, a.const(numerics.LN2_HIGH)))
    r = a.sub(r, a.mul(n_float, a.const(numerics.LN2_LOW)))
    p = a.const(numerics.EXP_COEFFICIENTS[0])
    for c in numerics.EXP_COEFFICIENTS[1:]:
        p = a.add(a.mul(p, r), a.const(c))
    y = a.add(a.add(a.mul(p, a.mul(r, r)), r), a.const(numerics.ONE))
    half = a.emit(arith.ShRSIOp(n, a.const(1)))
    return a.mul(a.mul(y, a.power_of_two(half)), a.power_of_two(a.sub(n, half)))


def rsqrt(a: Arithmetic, x: SSAValue) -> SSAValue:
    return a.emit(arith.DivfOp(a.const(numerics.ONE), a.emit(math.SqrtOp(x))))


EXPANSIONS: dict[type[Operation], Callable[[Arithmetic, SSAValue], SSAValue]] = {
    math.ExpOp: exp,
    math.RsqrtOp: rsqrt,
}


def expand(block: Block) -> list[Operation]:
    """Expands the functions of a region; what has no expansion is returned."""
    constants = Constants(block)
    unknown: list[Operation] = []
    for op in list(block.ops):
        if expansion := EXPANSIONS.get(type(op)):
            result = expansion(Arithmetic(block, op, constants), op.operands[0])
            op.results[0].replace_all_uses_with(result)
            op.detach()
            op.erase()
        elif op.name.startswith("math.") and not isinstance(op, ALLOWED):
            unknown.append(op)
    return unknown


@dataclass(frozen=True)
class ExpandMathPass(ModulePass):
    name = "expand-math"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        functions = [func for func in op.ops if isinstance(func, FuncOp)]
        fused = [op for func in functions for op in func.walk() if isinstance(op, ElementwiseOp | ProjectOp)]
        if unknown := [op for fused_op in fused for op in expand(fused_op.body.block)]:
            places = dict.fromkeys(f"{op.name} {describe_location(op.location)}".strip() for op in unknown)
            known = ", ".join(op.name for op in (*EXPANSIONS, *ALLOWED))
            raise CompileError(f"no arithmetic of fixed bits for {'; '.join(places)} (there is for {known})")
