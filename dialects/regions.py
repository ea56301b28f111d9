"""The ops of the `ternary` dialect whose region is on scalars: one iteration of a parallel loop over [t, m]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import I64, ArrayAttr, DenseArrayBase, TensorType, f32, i8, i64
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import IsolatedFromAbove, IsTerminator, Pure

from sterna.dialects.constraints import require, require_type, rows_of, tensor
from sterna.dialects.encodings import is_trits


@irdl_op_definition
class YieldOp(IRDLOperation):
    """Ends the region of a `weight`, an `elementwise` or a `project`."""

    name = "ternary.yield"
    values = var_operand_def()
    traits = traits_def(IsTerminator())
    assembly_format = "$values attr-dict `:` type($values)"

    def __init__(self, *values: SSAValue) -> None:
        super().__init__(operands=[list(values)])


def _verify_region(
    op: ElementwiseOp | ProjectOp, arguments: Sequence[Attribute], results: Sequence[Attribute]
) -> None:
    """`body` takes scalars of these types and yields scalars of those."""
    block = op.body.block
    require(
        [argument.type for argument in block.args] == list(arguments),
        f"the region takes {len(arguments)} arguments of type {_listed(arguments)}",
    )
    last = block.last_op
    require(
        isinstance(last, YieldOp) and [value.type for value in last.values] == list(results),
        f"the region ends in a ternary.yield of one {_listed(results)} a result",
    )


def _listed(types: Sequence[Attribute]) -> str:
    return ", ".join(dict.fromkeys(map(str, types))) or "f32"


def _verify_elements(inputs: Sequence[SSAValue], outs: Sequence[SSAValue], shape: tuple[int, ...]) -> None:
    """Inputs broadcast to `shape`; results have that shape."""
    for value in inputs:
        given = tensor(value).get_shape()
        require(given in (shape, shape[-1:], ()), f"an input of shape {given} does not broadcast to {shape}")
    for out in outs:
        require_type(out, "a result", tensor(out).element_type, shape)


@irdl_op_definition
class ElementwiseOp(IRDLOperation):
    """A group of elementwise operations as one op: the region, on scalars, gives element [t, m] of every result.

    results: tensors of one shape, of any elements; inputs: `[T, M]`, `[M]` (the same for every row) or scalars. With
    `axes`, which names for every input the axes of the result that its own follow, in any order, an input is any
    broadcast and transpose: for results `[T, H, M]`, axes [1] are an `[H]`, axes [2, 0] an `[M, T]`. The region may
    use `arith` and `math`, and nothing from outside.
    """

    name = "ternary.elementwise"
    inputs = var_operand_def(TensorType)
    axes = opt_prop_def(ArrayAttr[DenseArrayBase[I64]])
    outs = var_result_def(TensorType)
    body = region_def("single_block")
    traits = traits_def(IsolatedFromAbove(), Pure())
    assembly_format = (
        "`(` $inputs `:` type($inputs) `)` (`axes` `=` $axes^)? $body attr-dict `->` type($outs)"
    )

    def __init__(
        self,
        inputs: Sequence[SSAValue],
        body: Region,
        result_types: Sequence[Attribute],
        axes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """`axes` that say what is so without them are left out."""
        rank = tensor_rank(result_types[0]) if result_types else 0
        plain = [tuple(range(rank - tensor(value).get_num_dims(), rank)) for value in inputs]
        ranks = [tensor(value).get_num_dims() for value in inputs]
        needed = axes is not None and (
            [tuple(each) for each in axes] != plain or any(n not in (rank, 1, 0) for n in ranks)
        )
        properties: dict[str, Attribute] = (
            {"axes": ArrayAttr([DenseArrayBase.from_list(i64, list(each)) for each in axes])}
            if axes is not None and needed
            else {}
        )
        super().__init__(
            operands=[list(inputs)],
            properties=properties,
            regions=[body],
            result_types=[list(result_types)],
        )

    def input_axes(self) -> list[tuple[int, ...]]:
        """The axes of the result that those of every input follow."""
        if self.axes is not None:
            return [tuple(each.get_values()) for each in self.axes]
        rank = tensor(self.outs[0]).get_num_dims()
        return [tuple(range(rank - tensor(value).get_num_dims(), rank)) for value in self.inputs]

    def verify_(self) -> None:
        require(len(self.outs) > 0, "there is a result")
        given, made = ([tensor(value).element_type for value in group] for group in (self.inputs, self.outs))
        _verify_region(self, given, made)
        shape = tensor(self.outs[0]).get_shape()
        _verify_elements(self.inputs if self.axes is None else (), self.outs, shape)
        if self.axes is None:
            return
        require(len(self.axes) == len(self.inputs), "axes names those of every input")
        for value, followed in zip(self.inputs, self.input_axes(), strict=True):
            distinct = len(set(followed)) == len(followed) and all(
                0 <= axis < len(shape) for axis in followed
            )
            require(distinct, f"axes are distinct and below {len(shape)}, found {list(followed)}")
            size = tuple(shape[axis] for axis in followed)
            require_type(value, "an input", tensor(value).element_type, size)


def tensor_rank(type: Attribute) -> int:
    return len(cast("TensorType[Attribute]", type).get_shape())


@irdl_op_definition
class ProjectOp(IRDLOperation):
    """Projections that are computed together, with their elementwise tail: one parallel region over [t, m].

    For every weight j, which reads the quantized rows number `reads[j]`,

        y_j[t, m] = f32(sum_k q[reads[j]][t, k] * weights[j][m, k]) * (steps[reads[j]][t] * scales[j][m])

    and the region, on the scalars y_0, y_1, ... and then the extras at [t, m], gives element [t, m] of every result.

    q: i8 `[T, K]`; steps: f32 `[T]`, one for every q; weights: trits `[M, K]`, all of one M; scales: f32 scalars or
    `[M]`, one for every weight; extras: f32 `[T, M]`, `[M]` or scalar; results: f32 `[T, M]`.
    """

    name = "ternary.project"
    q = var_operand_def(TensorType)
    steps = var_operand_def(TensorType)
    weights = var_operand_def(TensorType)
    scales = var_operand_def(TensorType)
    extras = var_operand_def(TensorType)
    reads = prop_def(DenseArrayBase.constr(i64))
    outs = var_result_def(TensorType)
    body = region_def("single_block")
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(IsolatedFromAbove(), Pure())
    assembly_format = (
        "`quantized` `(` $q `:` type($q) `)` `steps` `(` $steps `:` type($steps) `)` "
        "`weights` `(` $weights `:` type($weights) `)` `scales` `(` $scales `:` type($scales) `)` `reads` `=` $reads "
        "(`with` `(` $extras^ `:` type($extras) `)`)? $body attr-dict `->` type($outs)"
    )

    def __init__(
        self,
        q: Sequence[SSAValue],
        steps: Sequence[SSAValue],
        weights: Sequence[SSAValue],
        scales: Sequence[SSAValue],
        extras: Sequence[SSAValue],
        reads: Sequence[int],
        body: Region,
        result_types: Sequence[Attribute],
    ) -> None:
        super().__init__(
            operands=[list(q), list(steps), list(weights), list(scales), list(extras)],
            properties={"reads": DenseArrayBase.from_list(i64, list(reads))},
            regions=[body],
            result_types=[list(result_types)],
        )

    def verify_(self) -> None:
        reads = self.reads.get_values()
        require(len(self.q) == len(self.steps) > 0, "one step a quantized input")
        require(len(self.weights) == len(self.scales) == len(reads) > 0, "one scale and one read a weight")
        require(all(0 <= r < len(self.q) for r in reads), "reads names quantized inputs by number")
        rows = rows_of(tensor(self.q[0]))
        for q, step in zip(self.q, self.steps, strict=True):
            require_type(q, "q", i8)
            require(rows_of(tensor(q)) == rows, "every q has the same rows")
            require_type(step, "a step", f32, rows)
        m = tensor(self.weights[0]).get_shape()[0]
        for weight, scale, read in zip(self.weights, self.scales, reads, strict=True):
            k = tensor(self.q[read]).get_shape()[-1]
            require(is_trits(weight.type), "weights are matrices of trits or bits")
            require(tensor(weight).get_shape() == (m, k), f"a weight that reads {k} columns is {m} x {k}")
            require(k < 1 << 24, "K must be below 2^24: a longer sum could overflow int32")
            require_type(scale, "a scale", f32, (m,) if tensor(scale).get_num_dims() else ())
        require(len(self.outs) > 0, "there is a result")
        _verify_region(self, [f32] * (len(self.weights) + len(self.extras)), [f32] * len(self.outs))
        for value in (*self.extras, *self.outs):
            require_type(value, "an input" if value in self.extras else "a result", f32)
        _verify_elements(self.extras, self.outs, (*rows, m))


def scalar_region(arguments: Sequence[Attribute]) -> Region:
    """An empty region for `elementwise` or `project`, with scalar block arguments of these types."""
    return Region(Block(arg_types=list(arguments)))
