"""The ops of the `ternary` dialect that move elements by position: sliding windows, look-up, the k largest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    I64,
    AnyFloat,
    DenseArrayBase,
    Float32Type,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    StringAttr,
    TensorType,
    i64,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    base,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.irdl.declarative_assembly_format import (
    AttributeVariable,
    CustomDirective,
    ParsingState,
    PrintingState,
    irdl_custom_directive,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure

from sterna.dialects.constraints import Tensor, require, require_type, rows_of, tensor

Shape = tuple[int, ...]


@irdl_custom_directive
class Integers(CustomDirective):
    """A list of integers as `[1, 2]`."""

    list: AttributeVariable

    def parse(self, parser: Parser, state: ParsingState) -> None:
        numbers = parser.parse_comma_separated_list(Parser.Delimiter.SQUARE, parser.parse_integer)
        if any(not -(1 << 63) <= number < 1 << 63 for number in numbers):
            parser.raise_error("these integers do not fit 64 bits")
        self.list.set(state, DenseArrayBase.from_list(i64, numbers))

    def print(self, printer: Printer, state: PrintingState, op: IRDLOperation) -> None:
        numbers = cast("DenseArrayBase[IntegerType]", self.list.get(op)).get_values()
        state.print_whitespace(printer)
        printer.print_string(f"[{', '.join(map(str, numbers))}]")
        state.should_emit_space = state.last_was_punctuation = True


def without_units(shape: Sequence[int]) -> Shape:
    """The IR has no axes of static size 1."""
    return tuple(size for size in shape if size != 1)


@irdl_op_definition
class WindowsOp(IRDLOperation):
    """All windows that slide over some axes: what a convolution multiplies, and a pooling reduces.

    x: `[*leading, *others]`, of which `axes` slide; result: `[*leading, *positions, *rest, *offsets]` without axes of
    static size 1, where rest are the axes behind the leading ones that do not slide, and for axis a number j of `axes`

        positions[j] = (low[j] + size of a + high[j] - ((sizes[j] - 1) * dilations[j] + 1)) / strides[j] + 1
        offsets[j]   = sizes[j]

    The element at position p and offset o is that of x at `p * strides + o * dilations - low` along `axes`, and
    `padding` where x has none. So `[N, C, H, W]` becomes `[N, OH, OW, C, KH, KW]` with one leading axis, and
    `[N, C, OH, OW, KH, KW]` with two. A dynamic axis slides where it has as many positions as elements.
    """

    name = "ternary.windows"
    x = operand_def(TensorType)
    leading = prop_def(IntegerAttr[I64])
    axes = prop_def(DenseArrayBase.constr(i64))
    sizes = prop_def(DenseArrayBase.constr(i64))
    strides = prop_def(DenseArrayBase.constr(i64))
    dilations = prop_def(DenseArrayBase.constr(i64))
    low = prop_def(DenseArrayBase.constr(i64))
    high = prop_def(DenseArrayBase.constr(i64))
    padding = prop_def(base(FloatAttr[AnyFloat]) | base(IntegerAttr[IntegerType]))
    result = result_def(TensorType)
    traits = traits_def(Pure())
    custom_directives = (Integers,)
    assembly_format = (
        "$x `leading` `=` $leading `axes` `=` custom<Integers>($axes) `sizes` `=` custom<Integers>($sizes) "
        "`strides` `=` custom<Integers>($strides) `dilations` `=` custom<Integers>($dilations) "
        "`low` `=` custom<Integers>($low) `high` `=` custom<Integers>($high) `padding` `=` $padding attr-dict "
        "`:` type($x) `->` type($result)"
    )

    def __init__(
        self,
        x: SSAValue,
        *,
        leading: int,
        axes: Sequence[int],
        sizes: Sequence[int],
        padding: FloatAttr[AnyFloat] | IntegerAttr[IntegerType],
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        low: Sequence[int] | None = None,
        high: Sequence[int] | None = None,
    ) -> None:
        ones, zeros = [1] * len(axes), [0] * len(axes)
        lists = {
            "axes": axes,
            "sizes": sizes,
            "strides": ones if strides is None else strides,
            "dilations": ones if dilations is None else dilations,
            "low": zeros if low is None else low,
            "high": zeros if high is None else high,
        }
        properties: dict[str, Attribute] = {
            name: DenseArrayBase.from_list(i64, list(numbers)) for name, numbers in lists.items()
        }
        properties |= {"leading": IntegerAttr(leading, i64), "padding": padding}
        shape = without_units(all_windows(tensor(x).get_shape(), leading, lists))
        super().__init__(
            operands=[x], properties=properties, result_types=[TensorType(tensor(x).element_type, shape)]
        )

    def full_shape(self, shape: Shape) -> Shape:
        """The shape of the result for x of that shape, axes of size 1 included; DYNAMIC_INDEX stays."""
        lists = {
            name: cast("DenseArrayBase[IntegerType]", self.properties[name]).get_values()
            for name in ("axes", "sizes", "strides", "dilations", "low", "high")
        }
        return all_windows(shape, self.leading.value.data, lists)

    def verify_(self) -> None:
        x = tensor(self.x)
        require(self.padding.type == x.element_type, f"the padding is of {x.element_type}")
        require_type(self.result, "the result", x.element_type, without_units(self.full_shape(x.get_shape())))


def all_windows(shape: Shape, leading: int, lists: Mapping[str, Sequence[int]]) -> Shape:
    axes = lists["axes"]
    require(len(axes) > 0, "a window slides over an axis or more")
    increase = all(a < b for a, b in pairwise(axes))
    require(
        increase and 0 <= leading <= axes[0] and axes[-1] < len(shape),
        f"axes increase, from the number of leading ones up, below {len(shape)}",
    )
    for name, numbers in lists.items():
        least = 0 if name in ("axes", "low", "high") else 1
        require(len(numbers) == len(axes), f"{name} has a number for each of {len(axes)} axes")
        require(all(n >= least for n in numbers), f"{name}: expected {least} or more")
    positions: list[int] = []
    for j, axis in enumerate(axes):
        span = (lists["sizes"][j] - 1) * lists["dilations"][j] + 1
        stride, margin = lists["strides"][j], lists["low"][j] + lists["high"][j]
        if shape[axis] == DYNAMIC_INDEX:
            same = stride == 1 and margin == span - 1
            require(same, "a dynamic axis slides by 1, padded to as many positions as it has elements")
            positions.append(DYNAMIC_INDEX)
        else:
            padded = shape[axis] + margin
            require(
                span <= padded, f"a window of {span} is longer than axis {axis}, {padded} with its padding"
            )
            positions.append((padded - span) // stride + 1)
    rest = [size for axis, size in enumerate(shape) if axis >= leading and axis not in axes]
    return (*shape[:leading], *positions, *rest, *lists["sizes"])


@irdl_op_definition
class GatherOp(IRDLOperation):
    """Look-up along one axis: result[p, i, s] = data[p, clamp(indices[i], 0, n - 1), s], n the size of the axis.

    data: `[*P, n, *S]` of any elements; indices: signed integers `[*I]`; result: `[*P, *I, *S]`. The clamp keeps every
    read inside data; an importer says itself what a negative index means.
    """

    name = "ternary.gather"
    data = operand_def(TensorType)
    indices = operand_def(TensorType)
    axis = prop_def(IntegerAttr[I64])
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$data `,` $indices `axis` `=` $axis attr-dict `:` type($data) `,` type($indices) `->` type($result)"
    )

    def __init__(self, data: SSAValue, indices: SSAValue, axis: int) -> None:
        type = TensorType(tensor(data).element_type, _gathered(tensor(data), tensor(indices), axis))
        properties: dict[str, Attribute] = {"axis": IntegerAttr(axis, i64)}
        super().__init__(operands=[data, indices], properties=properties, result_types=[type])

    def verify_(self) -> None:
        data, indices, axis = tensor(self.data), tensor(self.indices), self.axis.value.data
        require(isinstance(indices.element_type, IntegerType), "indices are integers")
        require(0 <= axis < data.get_num_dims(), f"data has no axis {axis}")
        require(data.get_shape()[axis] != 0, f"axis {axis} of data is empty")
        require_type(self.result, "the result", data.element_type, _gathered(data, indices, axis))


def _gathered(data: Tensor, indices: Tensor, axis: int) -> Shape:
    shape = data.get_shape()
    return (*shape[:axis], *indices.get_shape(), *shape[axis + 1 :])


@irdl_op_definition
class TopKOp(IRDLOperation):
    """The k largest, or smallest, elements of the last axis, in that order, and where they were.

    x: f32 or signed integers `[*, N]`; values: `[*, k]`; indices: i64 `[*, k]`; both are `[*]` where k = 1. Equal
    elements (-0 equals +0) come in the order of their indices; NaN is greater than any number.
    """

    name = "ternary.top_k"
    x = operand_def(TensorType)
    k = prop_def(IntegerAttr[I64])
    order = prop_def(StringAttr)
    values = result_def(TensorType)
    indices = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$x `k` `=` $k `order` `=` $order attr-dict `:` type($x) `->` type($values) `,` type($indices)"
    )

    def __init__(self, x: SSAValue, k: int, *, largest: bool) -> None:
        shape = without_units((*rows_of(tensor(x)), k))
        order = StringAttr("largest" if largest else "smallest")
        super().__init__(
            operands=[x],
            properties={"k": IntegerAttr(k, i64), "order": order},
            result_types=[TensorType(tensor(x).element_type, shape), TensorType(i64, shape)],
        )

    @property
    def largest(self) -> bool:
        return self.order.data == "largest"

    def verify_(self) -> None:
        x, k = tensor(self.x), self.k.value.data
        require(isinstance(x.element_type, Float32Type | IntegerType), "x is of f32 or integers")
        require(x.get_num_dims() > 0, "x has a last axis")
        n = x.get_shape()[-1]
        require(k >= 1 and (n == DYNAMIC_INDEX or k <= n), f"k is 1 to {n}, found {k}")
        require(self.order.data in ("largest", "smallest"), "order is largest or smallest")
        shape = without_units((*rows_of(x), k))
        require_type(self.values, "values", x.element_type, shape)
        require_type(self.indices, "indices", i64, shape)
