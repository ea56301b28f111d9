"""`linalg`: reductions, broadcasts and dense products, each in a stated order.

A sum of floats (`linalg.reduce` with `arith.addf`, `linalg.matmul`) is `numerics.lane_sum` over the reduced axes,
flattened, and the initial value is added last. Minima, maxima and integers do not depend on the order. Any other region
is applied to one element after the other, in order of index.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects.builtin import DenseArrayBase, IntegerType
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.interpreter import (
    Interpreter,
    InterpreterFunctions,
    PythonValues,
    ReturnedValues,
    TerminatorValue,
    impl,
    impl_terminator,
    register_impls,
)
from xdsl.ir import Block, Operation
from xdsl.ir.affine import AffineDimExpr, AffineMap

from sterna.dialects import numerics
from sterna.dialects.errors import CompileError
from sterna.dialects.semantics.arith import maximum, minimum
from sterna.dialects.semantics.table import Array

PRODUCTS_AT_ONCE = 1 << 22
"""Elements of the temporary of a dense product."""

ROW, COLUMN, INNER = (AffineDimExpr(loop) for loop in range(3))
MATMUL_MAPS = (
    AffineMap(3, 0, (ROW, INNER)),
    AffineMap(3, 0, (INNER, COLUMN)),
    AffineMap(3, 0, (ROW, COLUMN)),
)

ORDER_FREE: dict[type[Operation], Any] = {
    arith.MaximumfOp: maximum,
    arith.MinimumfOp: minimum,
    arith.MaxSIOp: np.maximum,
    arith.MinSIOp: np.minimum,
    arith.AddiOp: np.add,
    arith.AndIOp: np.bitwise_and,
    arith.OrIOp: np.bitwise_or,
    arith.XOrIOp: np.bitwise_xor,
}


def only_op(block: Block) -> Operation | None:
    """The operation of a region that combines its two arguments, in either order, by one operation."""
    first, last = block.first_op, block.last_op
    if first is None or last is None or first.next_op is not last or len(block.args) != 2:
        return None
    combines = tuple(first.operands) in (tuple(block.args), tuple(reversed(block.args)))
    return first if combines and tuple(last.operands) == tuple(first.results) else None


def halve(values: Array, function: Any) -> Array:
    """Combines the last axis, which is not empty, by a tree."""
    while (count := values.shape[-1]) > 1:
        half = count // 2
        combined = function(values[..., :half], values[..., half : 2 * half])
        values = np.concatenate([combined, values[..., 2 * half :]], axis=-1)
    return values[..., 0]


def matmul(a: Array, b: Array, to: np.dtype[Any]) -> Array:
    """a @ b. Floats: products rounded one by one, then `lane_sum` over k. Integers: exact modulo 2**width."""
    if not np.issubdtype(to, np.floating):
        return a.astype(to) @ b.astype(to)
    a, b = a.astype(to), np.ascontiguousarray(b.astype(to).T)
    out = np.empty((a.shape[0], b.shape[0]), to)
    step = max(PRODUCTS_AT_ONCE // max(b.size, 1), 1)
    for start in range(0, a.shape[0], step):
        out[start : start + step] = numerics.lane_sum(a[start : start + step, None, :] * b)
    return out


def lay_along(values: Array, map: AffineMap, rank: int) -> Array:
    """A view of an operand with one axis a loop: 1 long where the operand does not depend on the loop."""
    if not all(isinstance(result, AffineDimExpr) for result in map.results):
        raise CompileError(f"the indexing map {map} is not a projection of the loops")
    loops = [result.position for result in map.results if isinstance(result, AffineDimExpr)]
    order = np.argsort(loops)
    shape = [1] * rank
    for axis, loop in enumerate(loops):
        shape[loop] = values.shape[axis]
    return values.transpose(order).reshape(shape)


@register_impls
class LinalgFunctions(InterpreterFunctions):
    @impl_terminator(linalg.YieldOp)
    def run_yield(
        self, interpreter: Interpreter, op: linalg.YieldOp, args: PythonValues
    ) -> tuple[TerminatorValue, PythonValues]:
        return ReturnedValues(args), ()

    @impl(linalg.FillOp)
    def fill(self, interpreter: Interpreter, op: linalg.FillOp, args: PythonValues) -> PythonValues:
        value, out = args
        return (np.full(out.shape, value, out.dtype),)

    @impl(linalg.BroadcastOp)
    def broadcast(self, interpreter: Interpreter, op: linalg.BroadcastOp, args: PythonValues) -> PythonValues:
        values, init = args
        expanded = np.expand_dims(values, axes(op.dimensions))
        return (np.broadcast_to(expanded, init.shape).copy(),)

    @impl(linalg.TransposeOp)
    def transpose(self, interpreter: Interpreter, op: linalg.TransposeOp, args: PythonValues) -> PythonValues:
        return (args[0].transpose(axes(op.permutation)),)

    @impl(linalg.MatmulOp)
    def matmul(self, interpreter: Interpreter, op: linalg.MatmulOp, args: PythonValues) -> PythonValues:
        if tuple(map.data for map in op.indexing_maps) != MATMUL_MAPS:
            raise CompileError(
                "a matmul with its own indexing maps is not supported; write a linalg.transpose"
            )
        a, b, init = args
        return (init + matmul(a, b, init.dtype),)

    @impl(linalg.ReduceOp)
    def reduce(self, interpreter: Interpreter, op: linalg.ReduceOp, args: PythonValues) -> PythonValues:
        values, init = args
        reduced = axes(op.dimensions)
        kept = tuple(axis for axis in range(values.ndim) if axis not in reduced)
        values = values.transpose(*kept, *reduced).reshape(*(values.shape[axis] for axis in kept), -1)
        combine = only_op(op.region.block)
        if values.shape[-1] == 0:
            return (init,)
        if isinstance(combine, arith.AddfOp):
            return (init + numerics.lane_sum(values),)
        if combine is not None and (function := ORDER_FREE.get(type(combine))) and values.dtype != np.bool_:
            return (function(init, halve(values, function)),)
        steps = np.moveaxis(values, -1, 0)
        run = interpreter.run_ssacfg_region
        return (reduce(lambda total, step: run(op.region, (step, total), "reduce")[0], steps, init),)

    @impl(linalg.GenericOp)
    def generic(self, interpreter: Interpreter, op: linalg.GenericOp, args: PythonValues) -> PythonValues:
        """Parallel loops only, over operands indexed by some of the loops each."""
        if any(kind.data != IteratorType.PARALLEL for kind in op.iterator_types):
            raise CompileError("a linalg.generic that reduces has no stated order; use linalg.reduce")
        maps = [map.data for map in op.indexing_maps]
        rank = len(op.iterator_types)
        views = [lay_along(values, map, rank) for values, map in zip(args, maps, strict=True)]
        shape = np.broadcast_shapes(*(view.shape for view in views))
        results = interpreter.run_ssacfg_region(op.body, tuple(views), "generic")
        outs: list[Array] = []
        for result, map, init in zip(results, maps[len(op.inputs) :], args[len(op.inputs) :], strict=True):
            loops = [expr.position for expr in map.results if isinstance(expr, AffineDimExpr)]
            full = np.broadcast_to(result, shape).transpose(loops)
            outs.append(full.reshape(init.shape).astype(init.dtype))
        return tuple(outs)


def axes(dimensions: DenseArrayBase[IntegerType]) -> tuple[int, ...]:
    return dimensions.get_values()
