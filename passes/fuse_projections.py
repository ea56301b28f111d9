"""Makes one op of the projections that read the same quantized rows.

    %ai = ternary.accumulate %qi, %wi : tensor<?x256xi8>, tensor<256x256x!ternary.trit> -> tensor<?x256xi32>
    %yi = ternary.dequantize %ai, %di, %si : tensor<?x256xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x256xf32>
    ... the same for f and g, whose quantized rows come from the same op as %qi ...

becomes

    %yi, %yf, %yg = ternary.project quantized(%qi, %qf, %qg : ...) steps(%di, %df, %dg : ...)
        weights(%wi, %wf, %wg : ...) scales(%si, %sf, %sg : ...) reads = [0, 1, 2] {
    ^bb0(%i : f32, %f : f32, %g : f32):
      ternary.yield %i, %f, %g : f32, f32, f32
    } -> tensor<?x256xf32>, tensor<?x256xf32>, tensor<?x256xf32>

A projection whose result is only ever read in slices of its columns (the gate and up halves of a gated linear
unit) is first split into one projection a slice, whose weights are rows of the trit matrix; so the halves meet
in one element of one region.

Why it is right: every bit stays. Results of a projection are independent of each other, and the regions's
arguments are by definition the dequantized values. The fused op stands where its first member stood: what a
member reads is the common quantized input, and weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from xdsl.context import Context
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp, TensorType, f32
from xdsl.dialects.func import FuncOp
from xdsl.dialects.tensor import DimOp, ExtractSliceOp
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.transforms.common_subexpression_elimination import cse
from xdsl.transforms.dead_code_elimination import region_dce

from sterna.dialects.ternary import (
    AccumulateOp,
    DequantizeOp,
    LoadOp,
    NormQuantizeOp,
    ProjectOp,
    QuantizeOp,
    Tensor,
    YieldOp,
    rows_of,
    scalar_region,
    tensor,
)
from sterna.passes.derived_weights import DerivedWeights, weight_name


@dataclass(frozen=True)
class Projection:
    """An accumulate and one dequantize that reads it."""

    accumulate: AccumulateOp
    dequantize: DequantizeOp

    @property
    def rows(self) -> tuple[SSAValue, SSAValue]:
        """The quantized rows and their steps."""
        return self.accumulate.x, self.dequantize.step

    @property
    def moves(self) -> bool:
        """Nothing but the quantized rows must stand before it (a weight is loaded wherever it is needed)."""
        others = (self.accumulate.w, self.dequantize.scale)
        return self.dequantize.step.owner is self.accumulate.x.owner and all(
            isinstance(value, BlockArgument) or weight_name(value) is not None for value in others
        )


def match_projection(op: Operation) -> Projection | None:
    """One row, or rows with one axis, that have a step each."""
    if not isinstance(op, DequantizeOp) or not isinstance(accumulate := op.acc.owner, AccumulateOp):
        return None
    rank = tensor(op.acc).get_num_dims()
    if rank > 2 or tensor(op.step).get_num_dims() != rank - 1 or accumulate.group_count != 1:
        return None
    return Projection(accumulate, op)


def sliced_columns(op: Operation, type: Tensor) -> tuple[int, int] | None:
    """(first, count) of the columns that a slice takes out of every row of `type`; None for any other operation."""
    if not isinstance(op, ExtractSliceOp) or type.get_num_dims() not in (1, 2):
        return None
    *first_row, first = op.static_offsets.get_values()
    *rows, count = op.static_sizes.get_values()
    if any(first_row) or any(stride != 1 for stride in op.static_strides.get_values()):
        return None
    # One program has one dynamic size: the number of tokens.
    dynamic_rows = all(isinstance(size.owner, DimOp) for size in op.sizes)
    if tuple(rows) != rows_of(type) or not dynamic_rows or DYNAMIC_INDEX in (first, count):
        return None
    return (first, count) if rows_of(tensor(op.result)) == rows_of(type) else None


def split_columns(projection: Projection, weights: DerivedWeights) -> bool:
    """Replaces a projection that is only read in disjoint slices by one for every slice."""
    accumulate, dequantize = projection.accumulate, projection.dequantize
    readers = [use.operation for use in dequantize.result.uses]
    slices = {op: columns for op in readers if (columns := sliced_columns(op, tensor(dequantize.result)))}
    ranges = sorted(set(slices.values()))
    disjoint = all(a + count <= b for (a, count), (b, _) in pairwise(ranges))
    name = weight_name(accumulate.w)
    if name is None or not slices or len(slices) != len(readers) or not disjoint:
        return False

    k = tensor(accumulate.w).get_shape()[1]
    parts: dict[tuple[int, int], SSAValue] = {}
    for number, (first, count) in enumerate(ranges):
        type = TensorType(tensor(accumulate.w).element_type, [count, k])
        part = weights.derive(
            f"{name}.{number}",
            [name],
            lambda w, at=first, type=type: ExtractSliceOp(w[0], [at, 0], [*type.get_shape()], [1, 1], type),
        )
        w = weights.load(part)
        acc = AccumulateOp(accumulate.x, w.result)
        y = DequantizeOp(acc.acc, dequantize.step, dequantize.scale)
        acc.location, y.location = accumulate.location, dequantize.location
        Rewriter.insert_op([w, acc, y], InsertPoint.before(dequantize))
        parts[first, count] = y.result
    for op, columns in slices.items():
        Rewriter.replace_op(op, [], [parts[columns]])
    return True


@dataclass(frozen=True)
class FuseProjectionsPass(ModulePass):
    name = "fuse-projections"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        weights = DerivedWeights(op)
        for func in op.ops:
            if not isinstance(func, FuncOp):
                continue
            for projection in filter(None, map(match_projection, list(func.walk()))):
                split_columns(projection, weights)
            region_dce(func.body)
            for group in group_projections(func):
                fuse(group)
            region_dce(func.body)
            cse(func)


def group_projections(func: FuncOp) -> list[list[Projection]]:
    """Projections of one width that read results of one quantization; a projection that cannot move is alone."""
    groups: dict[tuple[object, ...], list[Projection]] = {}
    for projection in filter(None, map(match_projection, func.walk())):
        source = projection.accumulate.x.owner
        together = isinstance(source, NormQuantizeOp | QuantizeOp) and projection.moves
        key = (source, projection.dequantize.parent) if together else (projection,)
        groups.setdefault((*key, projection.dequantize.result.type), []).append(projection)
    return list(groups.values())


def fuse(group: list[Projection]) -> None:
    inputs = list(dict.fromkeys(member.rows for member in group))
    first = group[0].dequantize
    loads: list[LoadOp] = []

    def at_first(value: SSAValue) -> SSAValue:
        if not isinstance(load := value.owner, LoadOp):
            return value
        loads.append(load.clone())
        return loads[-1].result

    body = scalar_region([f32] * len(group))
    body.block.add_op(YieldOp(*body.block.args))
    project = ProjectOp(
        q=[q for q, _ in inputs],
        steps=[step for _, step in inputs],
        weights=[at_first(member.accumulate.w) for member in group],
        scales=[at_first(member.dequantize.scale) for member in group],
        extras=[],
        reads=[inputs.index(member.rows) for member in group],
        body=body,
        result_types=[member.dequantize.result.type for member in group],
    )
    project.location = first.location
    Rewriter.insert_op([*loads, project], InsertPoint.before(first))
    for member, out in zip(group, project.outs, strict=True):
        Rewriter.replace_op(member.dequantize, [], [out])
