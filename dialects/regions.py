"""The ops of the `ternary` dialect whose region is on scalars: one iteration of a parallel loop over [t, m]."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import DenseArrayBase, TensorType, f32, i8, i64
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
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


def _verify_region(op: ElementwiseOp | ProjectOp, scalars: int) -> None:
    """`body` takes `scalars` f32 arguments and yields one f32 a result."""
    block = op.body.block
    require(
        [a.type for a in block.args] == [f32] * scalars, f"the region takes {scalars} arguments of type f32"
    )
    last = block.last_op
    require(
        isinstance(last, YieldOp) and [v.type for v in last.values] == [f32] * len(op.results),
        "the region ends in a ternary.yield of one f32 a result",
    )


def _verify_elements(inputs: Sequence[SSAValue], outs: Sequence[SSAValue], shape: tuple[int, ...]) -> None:
    """Inputs are f32 that broadcast to `shape`; results are f32 of that shape."""
    for value in inputs:
        given = tensor(value).get_shape()
        require(given in (shape, shape[-1:], ()), f"an input of shape {given} does not broadcast to {shape}")
        require_type(value, "an input", f32)
    for out in outs:
        require_type(out, "a result", f32, shape)


@irdl_op_definition
class ElementwiseOp(IRDLOperation):
    """A group of elementwise operations as one op: the region, on scalars, gives element [t, m] of every result.

    inputs: f32 `[T, M]`, `[M]` (the same for every row) or scalar; results: f32 `[T, M]`, all of one type. The region
    may use `arith` and `math` on f32, i32 and i1 scalars, and nothing from outside.
    """

    name = "ternary.elementwise"
    inputs = var_operand_def(TensorType)
    outs = var_result_def(TensorType)
    body = region_def("single_block")
    traits = traits_def(IsolatedFromAbove(), Pure())
    assembly_format = "`(` $inputs `:` type($inputs) `)` $body attr-dict `->` type($outs)"

    def __init__(self, inputs: Sequence[SSAValue], body: Region, result_types: Sequence[Attribute]) -> None:
        super().__init__(operands=[list(inputs)], regions=[body], result_types=[list(result_types)])

    def verify_(self) -> None:
        require(len(self.outs) > 0, "there is a result")
        _verify_region(self, len(self.inputs))
        _verify_elements(self.inputs, self.outs, tensor(self.outs[0]).get_shape())


@irdl_op_definition
class ProjectOp(IRDLOperation):
    """Projections that are computed together, with their elementwise tail: one parallel region over [t, m].

    For every weight j, which reads the quantized rows number `reads[j]`,

        y_j[t, m] = f32(sum_k q[reads[j]][t, k] * weights[j][m, k]) * (steps[reads[j]][t] * scales[j])

    and the region, on the scalars y_0, y_1, ... and then the extras at [t, m], gives element [t, m] of every result.

    q: i8 `[T, K]`; steps: f32 `[T]`, one for every q; weights: trits `[M, K]`, all of one M; scales: f32 scalars, one
    for every weight; extras: f32 `[T, M]`, `[M]` or scalar; results: f32 `[T, M]`.
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
            require_type(scale, "a scale", f32, ())
        require(len(self.outs) > 0, "there is a result")
        _verify_region(self, len(self.weights) + len(self.extras))
        _verify_elements(self.extras, self.outs, (*rows, m))


def scalar_region(arguments: int) -> Region:
    """An empty region for `elementwise` or `project`, with `arguments` f32 block arguments."""
    return Region(Block(arg_types=[f32] * arguments))
