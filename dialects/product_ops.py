"""Products with ternary weights, and what takes their sums on: back to floats, or by thresholds to small integers.

All axes of the activations but the last are rows; there may be any number of them.
"""

from __future__ import annotations

from xdsl.dialects.builtin import I64, IntegerAttr, IntegerType, TensorType, f32, i8, i32, i64
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure

from sterna.dialects.constraints import require, require_type, rows_of, tensor
from sterna.dialects.elements import width_of
from sterna.dialects.encodings import is_trits

MAX_SUMMANDS = 1 << 24
"""A sum of fewer int8 numbers cannot overflow int32."""


@irdl_op_definition
class AccumulateOp(IRDLOperation):
    """acc[t, m] = sum_k x[t, g K + k] * w[m, k] with g = m // (M / G): additions and subtractions only.

    x: i8, integers of another width, or f32 `[..., G K]`; w: trits or bits `[M, K]`; acc: `[..., M]`, f32 as x is, or
    integers. G = `groups`, which divides M, is 1 unless stated: the first M / G channels read the first K columns, and
    so on. Integers: exact, in i32 or in any width that no K numbers of x's width can overflow (K < 2^24). f32: the
    terms are x, -x, or +0 where the trit is 0 (even if x is infinite or NaN), and are added in the order of
    `numerics.lane_sum`.
    """

    name = "ternary.accumulate"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    groups = opt_prop_def(IntegerAttr[I64])
    acc = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x `,` $w (`groups` `=` $groups^)? attr-dict `:` type($x) `,` type($w) `->` type($acc)"

    def __init__(self, x: SSAValue, w: SSAValue, groups: int = 1, sums: Attribute | None = None) -> None:
        """`sums`: the element type of the result, i32 or f32 unless it is given."""
        shape = (*rows_of(tensor(x)), tensor(w).get_shape()[0])
        super().__init__(
            operands=[x, w],
            properties={"groups": IntegerAttr(groups, i64)} if groups != 1 else {},
            result_types=[TensorType(sums or sum_type(x), shape)],
        )

    @property
    def group_count(self) -> int:
        return self.groups.value.data if self.groups is not None else 1

    def verify_(self) -> None:
        x = tensor(self.x)
        require(x.get_num_dims() > 0, "x has a last axis")
        m, k = require_trit_matrix(self.w)
        require_groups(self.group_count, m)
        columns = x.get_shape()[-1]
        if self.group_count == 1:
            require(columns == k, f"x has {columns} columns, w has {k}")
        else:
            require(
                columns == self.group_count * k,
                f"x has {columns} columns, w has {k} for each of {self.group_count} groups",
            )
        if (width := width_of(x)) is None:
            require(x.element_type == f32, f"x is of i8 or f32, or of other integers, found {x}")
            require_type(self.acc, "acc", f32, (*rows_of(x), m))
            return
        require(1 < width <= 32, f"x is of i2 to i32, or of f32, found {x}")
        found = width_of(self.acc.type) or 32
        require_type(self.acc, "acc", IntegerType(found), (*rows_of(x), m))
        needed = min_sum_width(width, k)
        require(
            needed <= found <= 64, f"a sum of {k} terms of i{width} needs i{needed}, and acc is of i{found}"
        )


def min_sum_width(width: int, summands: int) -> int:
    """Bits of a sum of that many terms x or -x, with x of `width` bits: |sum| <= summands * 2^(width - 1)."""
    return (summands << width - 1).bit_length() + 1


def sum_type(x: SSAValue) -> Attribute:
    """The element type of sums of elements of x."""
    return f32 if tensor(x).element_type == f32 else i32


def require_trit_matrix(w: SSAValue) -> tuple[int, int]:
    """(M, K) of a matrix of trits or bits that is not too wide."""
    type = tensor(w)
    require(is_trits(type) and type.get_num_dims() == 2, "w is a matrix of trits or bits")
    m, k = type.get_shape()
    require(k < MAX_SUMMANDS, "K must be below 2^24: a longer sum could overflow int32")
    return m, k


def require_groups(groups: int, channels: int) -> None:
    require(groups > 0 and channels % groups == 0, f"{groups} groups do not divide {channels} channels")


@irdl_op_definition
class DequantizeOp(IRDLOperation):
    """y[t, m] = f32(acc[t, m]) * (step[t] * scale[m]): back to floats, in this order.

    acc: i32 `[..., M]`; step: f32 `[...]`, or a scalar where all rows have one; scale: f32 scalar, or `[M]` where
    every channel of the weight has its own; y: f32 `[..., M]`.
    """

    name = "ternary.dequantize"
    acc = operand_def(TensorType)
    step = operand_def(TensorType)
    scale = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$acc `,` $step `,` $scale attr-dict "
        "`:` type($acc) `,` type($step) `,` type($scale) `->` type($result)"
    )

    def __init__(self, acc: SSAValue, step: SSAValue, scale: SSAValue) -> None:
        super().__init__(operands=[acc, step, scale], result_types=[TensorType(f32, tensor(acc).get_shape())])

    def verify_(self) -> None:
        shape = tensor(self.acc).get_shape()
        require(len(shape) > 0, "acc has a last axis")
        require_type(self.acc, "acc", i32)
        require_type(self.step, "step", f32, shape[:-1] if tensor(self.step).get_num_dims() else ())
        require_type(self.scale, "scale", f32, shape[-1:] if tensor(self.scale).get_num_dims() else ())
        require_type(self.result, "the result", f32, shape)


@irdl_op_definition
class ThresholdOp(IRDLOperation):
    """y[..., m] = base + #{ j : x[..., m] >= thresholds[m, j] }: a step function of every channel.

    x: i32 or f32 `[..., M]`; thresholds: `[M, N]` of the same elements, in any order; y: i8 `[..., M]`. base and
    base + N are int8. A NaN reaches no threshold. Source: multi-thresholding of FINN, arXiv 1612.07119, section 4.2.2.
    """

    name = "ternary.threshold"
    x = operand_def(TensorType)
    thresholds = operand_def(TensorType)
    base = prop_def(IntegerAttr[I64])
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$x `,` $thresholds `base` `=` $base attr-dict `:` type($x) `,` type($thresholds) `->` type($result)"
    )

    def __init__(self, x: SSAValue, thresholds: SSAValue, base: int) -> None:
        super().__init__(
            operands=[x, thresholds],
            properties={"base": IntegerAttr(base, i64)},
            result_types=[TensorType(i8, tensor(x).get_shape())],
        )

    def verify_(self) -> None:
        x, thresholds = tensor(self.x), tensor(self.thresholds)
        require(x.get_num_dims() > 0, "x has a last axis")
        require(x.element_type in (i32, f32), f"x is of i32 or f32, found {x}")
        shape = thresholds.get_shape()
        require(
            len(shape) == 2 and shape[0] == x.get_shape()[-1],
            f"thresholds has one row for each of {x.get_shape()[-1]} channels, found {thresholds}",
        )
        require_type(self.thresholds, "thresholds", x.element_type)
        base, last = self.base.value.data, self.base.value.data + shape[1]
        require(-128 <= base <= last <= 127, f"the levels {base} to {last} are not all int8")
        require_type(self.result, "the result", i8, x.get_shape())
