"""`linalg`: reductions, broadcasts and dense products, each in a stated order.

A sum of floats (`linalg.reduce` with `arith.addf`, `linalg.matmul`) is `numerics.lane_sum` over the reduced axes,
flattened, and the initial value is added last. Minima, maxima and integers do not depend on the order. Any other region
is applied to one element after the other, in order of index. A `linalg.generic` that reduces is a contraction, with the
order of a matmul.
"""

from __future__ import annotations

from functools import reduce
from math import prod
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
from xdsl.ir import Operation
from xdsl.ir.affine import AffineDimExpr, AffineMap

from sterna.dialects import numerics
from sterna.dialects.contraction import Widening, loops_of, match_contraction, only_op
from sterna.dialects.errors import CompileError
from sterna.dialects.semantics.arith import (
    extend_signed,
    extend_unsigned,
    maximum,
    maximum_signed,
    maximum_unsigned,
    minimum,
    minimum_signed,
    minimum_unsigned,
    wrapping,
)
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
    arith.MaxSIOp: maximum_signed,
    arith.MinSIOp: minimum_signed,
    arith.MaxUIOp: maximum_unsigned,
    arith.MinUIOp: minimum_unsigned,
    arith.AddiOp: wrapping(np.add),
    arith.MuliOp: wrapping(np.multiply),
    arith.AndIOp: np.bitwise_and,
    arith.OrIOp: np.bitwise_or,
    arith.XOrIOp: np.bitwise_xor,
}


def halve(values: Array, function: Any) -> Array:
    """Combines the last axis, which is not empty, by a tree."""
    while (count := values.shape[-1]) > 1:
        half = count // 2
        combined = function(values[..., :half], values[..., half : 2 * half])
        values = np.concatenate([combined, values[..., 2 * half :]], axis=-1)
    return values[..., 0]


def matmul(a: Array, b: Array, to: np.dtype[Any]) -> Array:
    """a @ b. Floats: products rounded one by one, then `lane_sum` over k. Integers: exact modulo 2**width."""
    if to == np.bool_:  # numpy's sum of booleans is 1 from the first one on
        return (a.astype(np.int64) @ b.astype(np.int64) & 1).astype(to)
    if not np.issubdtype(to, np.floating):
        return a.astype(to) @ b.astype(to)
    a, b = a.astype(to), np.ascontiguousarray(b.astype(to).T)
    out = np.empty((a.shape[0], b.shape[0]), to)
    step = max(PRODUCTS_AT_ONCE // max(b.size, 1), 1)
    for start in range(0, a.shape[0], step):
        out[start : start + step] = numerics.lane_sum(a[start : start + step, None, :] * b)
    return out


def lay_along(values: Array, loops: tuple[int, ...] | None, rank: int) -> Array:
    """A view of an operand with one axis a loop: 1 long where the operand does not depend on the loop."""
    if loops is None:
        raise CompileError("an indexing map is not a projection of the loops")
    shape = [1] * rank
    for axis, loop in enumerate(loops):
        shape[loop] = values.shape[axis]
    return values.transpose(np.argsort(loops)).reshape(shape)


def widen(values: Array, widening: Widening, to: np.dtype[Any]) -> Array:
    if widening is None:
        return values
    return (extend_signed if widening is arith.ExtSIOp else extend_unsigned)(values, to)


def sum_of_products(a: Array, b: Array) -> Array:
    """Over the last axis of two arrays that broadcast: floats in the order of `lane_sum`, integers modulo 2**width."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    splits = [axis for axis, size in enumerate(shape[:-1]) if size > 1]
    if np.prod(shape) > PRODUCTS_AT_ONCE and splits:
        axis = splits[0]
        half = shape[axis] // 2
        parts = [
            [v if v.shape[axis] == 1 else v.take(range(*span), axis) for v in (a, b)]
            for span in ((0, half), (half, shape[axis]))
        ]
        return np.concatenate([sum_of_products(*pair) for pair in parts], axis)
    if np.issubdtype(a.dtype, np.floating):
        return numerics.lane_sum(np.broadcast_to(a * b, shape))
    total = wrapping(np.multiply)(a, b)
    return np.bitwise_xor.reduce(total, -1) if a.dtype == np.bool_ else total.sum(-1, dtype=a.dtype)


@register_impls
class LinalgFunctions(InterpreterFunctions):
    def __init__(self) -> None:
        self.loops: list[tuple[int, ...]] = []
        """The shapes of the generics that run, outermost first."""

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
        return (wrapping(np.add)(init, matmul(a, b, init.dtype)),)

    @impl(linalg.ReduceOp)
    def reduce(self, interpreter: Interpreter, op: linalg.ReduceOp, args: PythonValues) -> PythonValues:
        values, init = args
        reduced = axes(op.dimensions)
        kept = tuple(axis for axis in range(values.ndim) if axis not in reduced)
        count = prod(values.shape[axis] for axis in reduced)
        values = values.transpose(*kept, *reduced).reshape(*(values.shape[axis] for axis in kept), count)
        combine = only_op(op.region.block)
        if values.shape[-1] == 0:
            return (init,)
        if isinstance(combine, arith.AddfOp):
            return (init + numerics.lane_sum(values),)
        if combine is not None and (function := ORDER_FREE.get(type(combine))):
            return (function(init, halve(values, function)),)
        steps = np.moveaxis(values, -1, 0)
        run = interpreter.run_ssacfg_region
        return (reduce(lambda total, step: run(op.region, (step, total), "reduce")[0], steps, init),)

    @impl(linalg.GenericOp)
    def generic(self, interpreter: Interpreter, op: linalg.GenericOp, args: PythonValues) -> PythonValues:
        """Parallel loops, over operands indexed by some of the loops each, or a contraction."""
        maps = [loops_of(map.data) for map in op.indexing_maps]
        rank = len(op.iterator_types)
        views = [lay_along(values, loops, rank) for values, loops in zip(args, maps, strict=True)]
        if contraction := match_contraction(op):
            a, b, out = views
            to = out.dtype
            products = widen(a, contraction.widen_left, to), widen(b, contraction.widen_right, to)
            total = np.broadcast_to(sum_of_products(*products), out.shape[:-1])
            return (wrapping(np.add)(args[2], total.transpose(contraction.out)),)
        if any(kind.data != IteratorType.PARALLEL for kind in op.iterator_types):
            raise CompileError(
                "a linalg.generic that reduces sums products over its last loop; use linalg.reduce for others"
            )
        shape = np.broadcast_shapes(*(view.shape for view in views))
        self.loops.append(shape)
        results = interpreter.run_ssacfg_region(op.body, tuple(views), "generic")
        self.loops.pop()
        outs: list[Array] = []
        for result, loops, init in zip(results, maps[len(op.inputs) :], args[len(op.inputs) :], strict=True):
            full = np.broadcast_to(result, shape).transpose(loops)
            outs.append(full.reshape(init.shape).astype(init.dtype))
        return tuple(outs)

    @impl(linalg.IndexOp)
    def index(self, interpreter: Interpreter, op: linalg.IndexOp, args: PythonValues) -> PythonValues:
        """The number of the turn of a loop, along its axis."""
        shape, loop = self.loops[-1], op.dim.value.data
        if not 0 <= loop < len(shape):
            raise CompileError(f"there is no loop {loop} of {len(shape)}")
        along = [size if axis == loop else 1 for axis, size in enumerate(shape)]
        return (np.arange(shape[loop]).reshape(along),)


def axes(dimensions: DenseArrayBase[IntegerType]) -> tuple[int, ...]:
    return dimensions.get_values()
