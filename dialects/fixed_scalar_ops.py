"""Integer operations on scalars, or on every element of tensors, that `arith` does not have.

Every number is signed, two's complement, of the exact width that its type states, unless the op says otherwise.
"""

from __future__ import annotations

from xdsl.dialects.builtin import I64, IntegerAttr, SymbolRefAttr
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import IRDLOperation, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure, SymbolTable, SymbolUserOpInterface

from sterna.dialects.constraints import require
from sterna.dialects.fixed_point import bits_attr, exact_width, like, require_integers
from sterna.dialects.fixed_table import TableOp


@irdl_op_definition
class RescaleOp(IRDLOperation):
    """y = saturate(floor(x / 2^by + 1/2)): moves the binary point, rounds half up, and saturates to the result's width.

    In hardware: an adder of the constant 2^(by - 1), wires, and a clamp. With a negative `by`, x * 2^-by; with 0 the
    clamp alone. x and y: integers or tensors of one shape.
    """

    name = "fixed.rescale"
    x = operand_def()
    by = prop_def(IntegerAttr[I64])
    result = result_def()
    traits = traits_def(Pure())
    assembly_format = "$x `by` $by attr-dict `:` type($x) `to` type($result)"

    def __init__(self, x: SSAValue, by: int, to: Attribute) -> None:
        super().__init__(operands=[x], properties={"by": bits_attr(by)}, result_types=[to])

    def verify_(self) -> None:
        require_integers(self.x, self.result)
        require(abs(self.by.value.data) <= 64, "by is from -64 to 64")


@irdl_op_definition
class ShiftRightOp(IRDLOperation):
    """y = saturate(floor(x / 2^n + 1/2)), each x by its own n, which is read without a sign: a barrel shifter.

    x, n, y: integers or tensors of one shape.
    """

    name = "fixed.shift_right"
    x = operand_def()
    by = operand_def()
    result = result_def()
    traits = traits_def(Pure())
    assembly_format = "$x `by` $by attr-dict `:` type($x) `,` type($by) `to` type($result)"

    def __init__(self, x: SSAValue, by: SSAValue, to: Attribute) -> None:
        super().__init__(operands=[x, by], result_types=[to])

    def verify_(self) -> None:
        require_integers(self.x, self.by, self.result)


@irdl_op_definition
class NormalizeOp(IRDLOperation):
    """max(x, 1) = m * 2^(L - P - n), m truncated: a leading-zero count n, and the P bits that follow the zeros.

    x: integer of L + 1 bits; m: P bits, read without a sign, the top one (with `step` 2: one of the top two) set;
    n: a multiple of `step`, which divides L.
    """

    name = "fixed.normalize"
    x = operand_def()
    step = prop_def(IntegerAttr[I64])
    mantissa = result_def()
    zeros = result_def()
    traits = traits_def(Pure())
    assembly_format = "$x `step` $step attr-dict `:` type($x) `to` type($mantissa) `,` type($zeros)"

    def __init__(self, x: SSAValue, step: int, mantissa_width: int) -> None:
        zeros_width = (exact_width(x) - 1).bit_length() + 1
        super().__init__(
            operands=[x],
            properties={"step": bits_attr(step)},
            result_types=[like(x.type, mantissa_width), like(x.type, zeros_width)],
        )

    def verify_(self) -> None:
        require_integers(self.x, self.mantissa, self.zeros)
        capacity, step = exact_width(self.x) - 1, self.step.value.data
        require(step in (1, 2) and capacity > 0, "step is 1 or 2, and x has a bit beside its sign")
        require(capacity % step == 0, f"step {step} does not divide the {capacity} bits of x")
        require(exact_width(self.zeros) > capacity.bit_length(), f"the number of zeros may be {capacity}")


class _InterpolatesTable(SymbolUserOpInterface):
    def verify(self, op: Operation) -> None:
        assert isinstance(op, InterpolateOp)
        table = SymbolTable.lookup_symbol(op, op.table)
        require(isinstance(table, TableOp), f"{op.table} is not a fixed.table of this module")
        assert isinstance(table, TableOp)
        widths = (exact_width(op.x), exact_width(op.result))
        stated = (table.input_width, table.result_width)
        require(widths == stated, f"{op.table} is from i{stated[0]} to i{stated[1]}")


@irdl_op_definition
class InterpolateOp(IRDLOperation):
    """A function that a `fixed.table` holds, linear between its samples.

    With T = the table, 2^B + 1 samples, x of N bits (for a signed table plus 2^(N-1)), and L = N - B:
    j = x >> L, l = x & (2^L - 1), y = T[j] + floor((T[j + 1] - T[j]) * l / 2^L + 1/2).
    """

    name = "fixed.interpolate"
    x = operand_def()
    table = prop_def(SymbolRefAttr)
    result = result_def()
    traits = traits_def(Pure(), _InterpolatesTable())
    assembly_format = "$x `,` $table attr-dict `:` type($x) `to` type($result)"

    def __init__(self, x: SSAValue, table: TableOp) -> None:
        super().__init__(
            operands=[x],
            properties={"table": SymbolRefAttr(table.sym_name.data)},
            result_types=[like(x.type, table.result_width)],
        )

    def verify_(self) -> None:
        require_integers(self.x, self.result)
