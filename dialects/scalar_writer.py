"""Scalar arithmetic written as Python expressions: each operator of a `Term` appends an operation to a region.

With `Writer` as its machine, a function of `elementary.py` or `exact_functions.py` writes itself as IR.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, f32, i32
from xdsl.ir import Attribute, Block, Operation, SSAValue


class Constants:
    """The constants of a block, each once, at its start."""

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


Operand: TypeAlias = "Term | np.float32 | int"


@dataclass(frozen=True)
class Writer:
    """The machine of IR values: every operator of a `Term` is an operation before `place`."""

    place: Operation
    constants: Constants

    def emit(self, op: Operation) -> Term:
        op.location = self.place.location
        assert self.place.parent is not None
        self.place.parent.insert_op_before(op, self.place)
        return Term(op.results[0], self)

    def value(self, operand: Operand) -> SSAValue:
        return operand.value if isinstance(operand, Term) else self.constants.get(operand)

    def select(self, condition: Term, chosen: Operand, other: Operand) -> Term:
        return self.emit(arith.SelectOp(condition.value, self.value(chosen), self.value(other)))

    def bits(self, x: Operand) -> Term:
        return self.emit(arith.BitcastOp(self.value(x), i32))

    def from_bits(self, n: Term) -> Term:
        return self.emit(arith.BitcastOp(n.value, f32))

    def to_float(self, n: Term) -> Term:
        return self.emit(arith.SIToFPOp(n.value, f32))

    def sqrt(self, x: Term) -> Term:
        return self.emit(math.SqrtOp(x.value))

    def shift_right_logical(self, n: Operand, by: Operand) -> Term:
        return self.emit(arith.ShRUIOp(self.value(n), self.value(by)))

    def remainder(self, n: Operand, by: Operand) -> Term:
        return self.emit(arith.RemUIOp(self.value(n), self.value(by)))


@dataclass(frozen=True, eq=False)
class Term:
    """A value of f32, i32 or i1 under Python's operators."""

    value: SSAValue
    writer: Writer

    # numpy's scalars leave operators with a term to the term.
    __array_ufunc__: ClassVar[None] = None

    def _apply(self, op: Callable[[SSAValue, SSAValue], Operation], left: Operand, right: Operand) -> Term:
        return self.writer.emit(op(self.writer.value(left), self.writer.value(right)))

    def _compare(self, order: str, other: Operand) -> Term:
        if self.value.type == f32:
            return self._apply(
                lambda a, b: arith.CmpfOp(a, b, "une" if order == "ne" else f"o{order}"), self, other
            )
        predicate = order if order in ("eq", "ne") else f"s{order}"
        return self._apply(lambda a, b: arith.CmpiOp(a, b, predicate), self, other)

    @property
    def _float(self) -> bool:
        return self.value.type == f32

    def __add__(self, other: Operand) -> Term:
        return self._apply(arith.AddfOp if self._float else arith.AddiOp, self, other)

    def __radd__(self, other: Operand) -> Term:
        return self._apply(arith.AddfOp if self._float else arith.AddiOp, other, self)

    def __sub__(self, other: Operand) -> Term:
        return self._apply(arith.SubfOp if self._float else arith.SubiOp, self, other)

    def __rsub__(self, other: Operand) -> Term:
        return self._apply(arith.SubfOp if self._float else arith.SubiOp, other, self)

    def __mul__(self, other: Operand) -> Term:
        return self._apply(arith.MulfOp if self._float else arith.MuliOp, self, other)

    def __rmul__(self, other: Operand) -> Term:
        return self._apply(arith.MulfOp if self._float else arith.MuliOp, other, self)

    def __truediv__(self, other: Operand) -> Term:
        return self._apply(arith.DivfOp, self, other)

    def __rtruediv__(self, other: Operand) -> Term:
        return self._apply(arith.DivfOp, other, self)

    def __neg__(self) -> Term:
        return self.writer.emit(arith.NegfOp(self.value)) if self._float else 0 - self

    def __and__(self, other: Operand) -> Term:
        return self._apply(arith.AndIOp, self, other)

    def __or__(self, other: Operand) -> Term:
        return self._apply(arith.OrIOp, self, other)

    def __xor__(self, other: Operand) -> Term:
        return self._apply(arith.XOrIOp, self, other)

    def __lshift__(self, other: Operand) -> Term:
        return self._apply(arith.ShLIOp, self, other)

    def __rshift__(self, other: Operand) -> Term:
        return self._apply(arith.ShRSIOp, self, other)

    def __lt__(self, other: Operand) -> Term:
        return self._compare("lt", other)

    def __le__(self, other: Operand) -> Term:
        return self._compare("le", other)

    def __gt__(self, other: Operand) -> Term:
        return self._compare("gt", other)

    def __ge__(self, other: Operand) -> Term:
        return self._compare("ge", other)

    def __eq__(self, other: Operand) -> Term:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._compare("eq", other)

    def __ne__(self, other: Operand) -> Term:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._compare("ne", other)


def write_over(
    op: Operation, function: Callable[..., Term], operands: Sequence[SSAValue], constants: Constants
) -> None:
    """Replaces an operation on scalars by that function of these scalars, written out."""
    writer = Writer(op, constants)
    result = function(writer, *(Term(operand, writer) for operand in operands))
    op.results[0].replace_all_uses_with(result.value)
    op.detach()
    op.erase()
