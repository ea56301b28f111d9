"""Integer operations on rows: reductions, the recurrence, and the edges where floats come in and go out."""

from __future__ import annotations

from xdsl.dialects.builtin import I64, Float32Type, IntegerAttr, TensorType, f32
from xdsl.ir import SSAValue
from xdsl.irdl import IRDLOperation, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure

from sterna.dialects.constraints import Tensor, require, require_type, rows_of, tensor
from sterna.dialects.fixed_numerics import WIDEST
from sterna.dialects.fixed_point import bits_attr, exact_width, point_of, require_integers, rows


def sum_width(width: int, summands: int) -> int:
    """Bits that hold every sum of that many numbers of `width` bits."""
    return width + max(summands - 1, 0).bit_length()


@irdl_op_definition
class SumOp(IRDLOperation):
    """y[t] = sum_k x[t, k], exact: the result has the bits that K numbers of x's width can need.

    x: integers `[T, K]`; y: `[T]`.
    """

    name = "fixed.sum"
    x = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue, width: int | None = None) -> None:
        type = tensor(x)
        enough = sum_width(exact_width(x), type.get_shape()[-1])
        super().__init__(operands=[x], result_types=[rows(rows_of(type), width or enough, point_of(type))])

    def verify_(self) -> None:
        shape = _require_rows(self.x, self.result)
        needed = sum_width(exact_width(self.x), shape[-1])
        found = exact_width(self.result)
        require(
            found >= needed, f"a sum of {shape[-1]} numbers may need {needed} bits, the result has {found}"
        )
        require(found <= WIDEST, f"a sum has at most {WIDEST} bits")


@irdl_op_definition
class MaxOp(IRDLOperation):
    """y[t] = max_k x[t, k]. x: integers `[T, K]` with K > 0; y: `[T]` of the same width."""

    name = "fixed.max"
    x = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue) -> None:
        type = tensor(x)
        super().__init__(operands=[x], result_types=[rows(rows_of(type), exact_width(x), point_of(type))])

    def verify_(self) -> None:
        shape = _require_rows(self.x, self.result)
        require(shape[-1] != 0, "a row has an element")
        require(exact_width(self.x) == exact_width(self.result), "the maximum has the width of the elements")


def _require_rows(x: SSAValue, result: SSAValue) -> tuple[int, ...]:
    shape = tensor(x).get_shape()
    require(len(shape) > 0 and shape[-1] >= 0, "a row has a static number of elements")
    require(tensor(result).get_shape() == shape[:-1], f"the result has the shape {list(shape[:-1])}")
    for value in (x, result):
        require_integers(value)
    return shape


@irdl_op_definition
class ScanOp(IRDLOperation):
    """The gated recurrence: s[t] = saturate(floor(f[t] * s[t-1] / 2^by + 1/2) + i[t]), saturated to the state's width.

    f: integers `[T, D]` whose binary point is `by`; i: `[T, D]` with the point of the state; init = s[-1] `[D]`;
    results: every s `[T, D]`, and the last `[D]`. Source: arXiv 2406.02528, section 3.3.1.
    """

    name = "fixed.scan"
    f = operand_def(TensorType)
    i = operand_def(TensorType)
    init = operand_def(TensorType)
    by = prop_def(IntegerAttr[I64])
    states = result_def(TensorType)
    last = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$f `,` $i `,` $init `by` $by attr-dict `:` type($f) `,` type($i) `,` type($init) `->` type($states) `,` "
        "type($last)"
    )

    def __init__(self, f: SSAValue, i: SSAValue, init: SSAValue, by: int) -> None:
        state = rows(tensor(i).get_shape(), exact_width(init), point_of(init.type))
        super().__init__(
            operands=[f, i, init], properties={"by": bits_attr(by)}, result_types=[state, init.type]
        )

    def verify_(self) -> None:
        shape = tensor(self.i).get_shape()
        require(len(shape) == 2, "f and i are [T, D]")
        require_integers(self.f, self.i, self.states)
        require_integers(self.init, self.last)
        require(tensor(self.init).get_shape() == shape[1:], "init is [D]")
        width = exact_width(self.init)
        same = exact_width(self.states) == exact_width(self.last) == width
        require(same, "every state has the width of init")
        require(exact_width(self.f) + width <= WIDEST, f"f * s has at most {WIDEST} bits")
        require(exact_width(self.i) <= WIDEST - 1, f"i has at most {WIDEST - 1} bits")
        require(0 <= self.by.value.data <= WIDEST, f"by is from 0 to {WIDEST}")


@irdl_op_definition
class FromFloatOp(IRDLOperation):
    """y = saturate(round_half_even(x * 2^F)), F the binary point of the result; NaN becomes 0. Not for hardware.

    x: f32 of any shape; y: integers of the same shape, with a `#fixed.point`.
    """

    name = "fixed.from_float"
    x = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue, width: int, point: int) -> None:
        super().__init__(operands=[x], result_types=[rows(tensor(x).get_shape(), width, point)])

    def verify_(self) -> None:
        _require_edge(self.x, self.result)


@irdl_op_definition
class ToFloatOp(IRDLOperation):
    """y = x / 2^F, F the binary point of x, rounded once to f32. Not for hardware.

    x: integers of any shape, with a `#fixed.point`; y: f32 of the same shape.
    """

    name = "fixed.to_float"
    x = operand_def(TensorType)
    result = result_def(TensorType[Float32Type])
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue) -> None:
        super().__init__(operands=[x], result_types=[TensorType(f32, tensor(x).get_shape())])

    def verify_(self) -> None:
        _require_edge(self.result, self.x)


def _require_edge(floats: SSAValue, integers: SSAValue) -> None:
    type: Tensor = tensor(integers)
    require_integers(integers)
    require_type(floats, "the floats", f32, type.get_shape())
    require(point_of(type) is not None, f"the integers have a #fixed.point, found {type}")
    require(abs(point_of(type) or 0) <= 512, "a binary point is from -512 to 512")
