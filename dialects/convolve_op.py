"""Convolution with ternary weights: windows that slide, and the sum over each, as one operation."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

from xdsl.dialects.builtin import (
    I64,
    AnyFloat,
    DenseArrayBase,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    TensorType,
    f32,
    i8,
    i64,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    base,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure

from sterna.dialects.constraints import require, require_type, tensor
from sterna.dialects.indexing_ops import Integers, Shape, all_windows, without_units
from sterna.dialects.product_ops import require_groups, require_trit_matrix, sum_type

WINDOW_LISTS = ("axes", "sizes", "strides", "dilations", "low", "high")


@irdl_op_definition
class ConvolveOp(IRDLOperation):
    """`ternary.accumulate` of `ternary.windows`, which are never in memory all at once.

    x: i8 or f32 `[*leading, *others]`, of which `axes` slide as in `ternary.windows`; w: trits or bits `[M, K]`; acc:
    `[*leading, *positions, M]`, without positions of static size 1, of i32 or f32 as x is. The columns that a position
    sums over are those of its window in row-major order, the axes that do not slide first: as they are many as
    `groups` times K, and the groups read them as in `ternary.accumulate`.
    """

    name = "ternary.convolve"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    groups = opt_prop_def(IntegerAttr[I64])
    leading = prop_def(IntegerAttr[I64])
    axes = prop_def(DenseArrayBase.constr(i64))
    sizes = prop_def(DenseArrayBase.constr(i64))
    strides = prop_def(DenseArrayBase.constr(i64))
    dilations = prop_def(DenseArrayBase.constr(i64))
    low = prop_def(DenseArrayBase.constr(i64))
    high = prop_def(DenseArrayBase.constr(i64))
    padding = prop_def(base(FloatAttr[AnyFloat]) | base(IntegerAttr[IntegerType]))
    acc = result_def(TensorType)
    traits = traits_def(Pure())
    custom_directives = (Integers,)
    assembly_format = (
        "$x `,` $w (`groups` `=` $groups^)? `leading` `=` $leading `axes` `=` custom<Integers>($axes) "
        "`sizes` `=` custom<Integers>($sizes) `strides` `=` custom<Integers>($strides) "
        "`dilations` `=` custom<Integers>($dilations) `low` `=` custom<Integers>($low) "
        "`high` `=` custom<Integers>($high) `padding` `=` $padding attr-dict "
        "`:` type($x) `,` type($w) `->` type($acc)"
    )

    def __init__(
        self,
        x: SSAValue,
        w: SSAValue,
        *,
        groups: int = 1,
        leading: int,
        lists: Sequence[Sequence[int]],
        padding: FloatAttr[AnyFloat] | IntegerAttr[IntegerType],
    ) -> None:
        """`lists`: axes, sizes, strides, dilations, low, high."""
        properties: dict[str, Attribute] = {
            name: DenseArrayBase.from_list(i64, list(numbers))
            for name, numbers in zip(WINDOW_LISTS, lists, strict=True)
        }
        properties |= {"leading": IntegerAttr(leading, i64), "padding": padding}
        if groups != 1:
            properties["groups"] = IntegerAttr(groups, i64)
        named: dict[str, Sequence[int]] = dict(zip(WINDOW_LISTS, lists, strict=True))
        positions = all_windows(tensor(x).get_shape(), leading, named)[: leading + len(named["axes"])]
        shape = (*without_units(positions), tensor(w).get_shape()[0])
        super().__init__(
            operands=[x, w], properties=properties, result_types=[TensorType(sum_type(x), shape)]
        )

    @property
    def group_count(self) -> int:
        return self.groups.value.data if self.groups is not None else 1

    def full_shape(self, shape: Shape) -> Shape:
        """The shape of the windows of x of that shape, axes of size 1 included; DYNAMIC_INDEX stays."""
        lists = {
            name: cast("DenseArrayBase[IntegerType]", self.properties[name]).get_values()
            for name in WINDOW_LISTS
        }
        return all_windows(shape, self.leading.value.data, lists)

    @property
    def position_axes(self) -> int:
        """How many axes of `full_shape` number the windows."""
        return self.leading.value.data + len(self.axes.get_values())

    def verify_(self) -> None:
        x = tensor(self.x)
        require(x.element_type in (i8, f32), f"x is of i8 or f32, found {x}")
        require(self.padding.type == x.element_type, f"the padding is of {x.element_type}")
        m, k = require_trit_matrix(self.w)
        require_groups(self.group_count, m)
        full = self.full_shape(x.get_shape())
        columns = prod(full[self.position_axes :])
        require(min(full[self.position_axes :], default=1) >= 0, "what a window holds is of static size")
        require(
            columns == self.group_count * k,
            f"a window has {columns} elements, w has {k} columns for each of {self.group_count} groups",
        )
        shape = (*without_units(full[: self.position_axes]), m)
        require_type(self.acc, "acc", sum_type(self.x), shape)
