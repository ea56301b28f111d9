"""What a transformer with a cache of keys and values is made of: positions, rotation, attention.

They are operations because no composition carries what a target needs of them. The keys and values of a text lie in a
state of fixed capacity, and a call must write its own rows of it in place and read those before them and no others: an
`insert_slice` and a masked softmax over the capacity would copy and read all of it for every token.
"""

from __future__ import annotations

from typing import ClassVar

from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    I64,
    Float32Type,
    FloatAttr,
    IntegerAttr,
    TensorType,
    f32,
    i64,
)
from xdsl.ir import SSAValue
from xdsl.irdl import (
    AnyAttr,
    IRDLOperation,
    VarConstraint,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure

from sterna.dialects.constraints import (
    f32_attr,
    lanes_attr,
    require,
    require_lanes,
    require_type,
    rows_of,
    tensor,
)
from sterna.dialects.numerics import BLOCK, LANES


@irdl_op_definition
class PositionsOp(IRDLOperation):
    """Where the rows stand in their text: positions[t] = start + t; next = start + T.

    start, next: i64, a state, which is 0 for a new text; rows: any `[T, ...]`, of which only T is read; positions: i64
    `[T]`. A text of more than `capacity` rows is an error of the caller.
    """

    name = "ternary.positions"
    start = operand_def(TensorType)
    rows = operand_def(TensorType)
    capacity = prop_def(IntegerAttr[I64])
    positions = result_def(TensorType)
    next = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$start `of` $rows `capacity` `=` $capacity attr-dict `:` type($start) `,` type($rows) `->` "
        "type($positions) `,` type($next)"
    )

    def __init__(self, start: SSAValue, rows: SSAValue, capacity: int) -> None:
        super().__init__(
            operands=[start, rows],
            properties={"capacity": IntegerAttr(capacity, i64)},
            result_types=[TensorType(i64, tensor(rows).get_shape()[:1]), TensorType(i64, [])],
        )

    def verify_(self) -> None:
        rows = tensor(self.rows).get_shape()
        require(len(rows) > 0, "rows has a leading axis")
        require_type(self.start, "start", i64, ())
        require_type(self.positions, "positions", i64, rows[:1])
        require_type(self.next, "next", i64, ())
        require(self.capacity.value.data > 0, "the capacity is at least 1")


@irdl_op_definition
class RotateOp(IRDLOperation):
    """Rotary embedding: every head's pairs (a, b) = (x[j], x[j + D/2]) turned by an angle that all heads share.

    y[j] = a * cos[j] - b * sin[j], y[j + D/2] = b * cos[j] + a * sin[j], two products and then their difference or sum.
    x, y: f32 `[T, H D]`, H heads of D columns; cos, sin: f32 `[T, D/2]`. Source: RoFormer, arXiv 2104.09864, with the
    pairs half a head apart, as Llama and BitNet b1.58 have them.
    """

    name = "ternary.rotate"
    T: ClassVar = VarConstraint("T", AnyAttr())
    A: ClassVar = VarConstraint("A", AnyAttr())
    x = operand_def(T)
    cos = operand_def(A)
    sin = operand_def(A)
    result = result_def(T)
    traits = traits_def(Pure())
    assembly_format = "$x `by` $cos `,` $sin attr-dict `:` type($result) `,` type($cos)"

    def __init__(self, x: SSAValue, cos: SSAValue, sin: SSAValue) -> None:
        super().__init__(operands=[x, cos, sin], result_types=[x.type])

    @property
    def half(self) -> int:
        """D / 2."""
        return tensor(self.cos).get_shape()[-1]

    def verify_(self) -> None:
        for value, what in ((self.x, "x"), (self.cos, "cos")):
            require(len(tensor(value).get_shape()) > 0, f"{what} has a last axis")
            require_type(value, what, f32)
        require(rows_of(tensor(self.x)) == rows_of(tensor(self.cos)), "x and the angles have the same rows")
        columns = tensor(self.x).get_shape()[-1]
        require(
            DYNAMIC_INDEX not in (columns, self.half) and self.half > 0 and columns % (2 * self.half) == 0,
            f"the {columns} columns of x are heads of {2 * self.half}",
        )


@irdl_op_definition
class AttentionOp(IRDLOperation):
    """Causal attention over the rows so far, which a cache keeps; grouped queries share keys and values.

    The rows of this call stand at positions p[t] = p[0] + t. Their keys and values take the rows p[0], p[0] + 1, ... of
    the cache; then for row t, head h of q and head g = h // (H / G) of keys and values, over j = 0, ..., p[t]:

        s[j] = (sum over d of q[t, h, d] * new_keys[j, g, d]) * scale
        e[j] = exp(s[j] - max s)
        y[t, h, d] = (sum over j of e[j] * new_values[j, g, d]) / (sum over j of e[j])

    The sum over d is in `lanes` strided partial sums and a halving tree. So are those over j, in every `block` of rows
    of the cache by itself; then the sums of the blocks are added in order. Rows are numbered as the cache has them, so
    no bit depends on how a text is cut into calls, and blocks may be summed side by side. What the cache holds beyond
    p[t] is not read.

    q, y: f32 `[T, H D]`; k, v: f32 `[T, G D]`; positions: i64 `[T]`; keys, values and what follows them: f32
    `[C, G D]`. Rows that do not fit in C are an error of the caller. Source: Vaswani et al., arXiv 1706.03762; grouped
    queries, arXiv 2305.13245.
    """

    name = "ternary.attention"
    Q: ClassVar = VarConstraint("Q", AnyAttr())
    K: ClassVar = VarConstraint("K", AnyAttr())
    C: ClassVar = VarConstraint("C", AnyAttr())
    q = operand_def(Q)
    k = operand_def(K)
    v = operand_def(K)
    positions = operand_def(TensorType)
    keys = operand_def(C)
    values = operand_def(C)
    heads = prop_def(IntegerAttr[I64])
    kv_heads = prop_def(IntegerAttr[I64])
    scale = prop_def(FloatAttr[Float32Type])
    block = prop_def(IntegerAttr[I64])
    lanes = prop_def(IntegerAttr[I64])
    result = result_def(Q)
    new_keys = result_def(C)
    new_values = result_def(C)
    traits = traits_def(Pure())
    assembly_format = (
        "$q `,` $k `,` $v `at` $positions `cache` $keys `,` $values `heads` `=` $heads `kv_heads` `=` $kv_heads "
        "`scale` `=` $scale `block` `=` $block `lanes` `=` $lanes attr-dict "
        "`:` type($result) `,` type($k) `,` type($positions) `,` type($keys)"
    )

    def __init__(
        self,
        q: SSAValue,
        k: SSAValue,
        v: SSAValue,
        positions: SSAValue,
        keys: SSAValue,
        values: SSAValue,
        *,
        heads: int,
        kv_heads: int,
        scale: float,
        block: int = BLOCK,
        lanes: int = LANES,
    ) -> None:
        super().__init__(
            operands=[q, k, v, positions, keys, values],
            properties={
                "heads": IntegerAttr(heads, i64),
                "kv_heads": IntegerAttr(kv_heads, i64),
                "scale": f32_attr(scale),
                "block": IntegerAttr(block, i64),
                "lanes": lanes_attr(lanes),
            },
            result_types=[q.type, keys.type, values.type],
        )

    @property
    def head_columns(self) -> int:
        """D."""
        return tensor(self.q).get_shape()[1] // self.heads.value.data

    @property
    def capacity(self) -> int:
        """C, in rows."""
        return tensor(self.keys).get_shape()[0]

    def verify_(self) -> None:
        heads, kv_heads = self.heads.value.data, self.kv_heads.value.data
        require(kv_heads > 0 and heads % kv_heads == 0, f"{kv_heads} heads of keys divide {heads} of queries")
        for value, what in ((self.q, "q"), (self.k, "k"), (self.keys, "keys")):
            require(len(tensor(value).get_shape()) == 2, f"{what} has two axes")
            require_type(value, what, f32)
        rows, columns = tensor(self.q).get_shape()
        require(columns > 0 and columns % heads == 0, f"{heads} heads divide the {columns} columns of q")
        kv_columns = self.head_columns * kv_heads
        require_type(self.k, "k", f32, (rows, kv_columns))
        require(self.capacity > 0, "the cache has a static number of rows")
        require_type(self.keys, "keys", f32, (self.capacity, kv_columns))
        require_type(self.positions, "positions", i64, (rows,))
        require_lanes(self.lanes.value.data)
        block = self.block.value.data
        require(
            block >= self.lanes.value.data and block & (block - 1) == 0,
            f"a block is a power of two of rows, and no fewer than lanes, found {block}",
        )
