"""Kernels that reduce: `linalg.reduce`, `linalg.matmul`, and `linalg.generic` with a reduction loop.

A float sum is 16 partial sums over the flattened reduced axes and a halving tree (`numerics.lane_sum`), plus the
initial value. Two forms give these bits. With lanes *along the reduction* the partial sums are the lanes of one vector:
for operands that lie along it. With lanes *along the result* there are sixteen vectors, each a partial sum of sixteen
elements of the result: for operands that lie along the result's last axis, as the second one of a matmul does. The form
with fewer elements to gather is taken. What is no float sum needs one accumulator: along the reduction where the order
does not matter, else along the result, in order of index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from xdsl.dialects import arith
from xdsl.dialects.builtin import f32
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.ir import Attribute, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap

from sterna.dialects.contraction import Widening, match_contraction, only_op
from sterna.dialects.errors import CompileError
from sterna.dialects.numerics import LANES
from sterna.targets.cpu import instructions as v
from sterna.targets.cpu.instructions import add, constant, fadd, icmp, index, loop, mul, select, smin, sub
from sterna.targets.cpu.kernel import Extent, Frame, each
from sterna.targets.cpu.pointwise import emit_parallel, loop_extents
from sterna.targets.cpu.region import Lanes, integer
from sterna.targets.cpu.views import View, blocks, gather, load_element, store_element

Term = Callable[[Lanes, Sequence[SSAValue]], SSAValue]
"""What is summed up, from elements of the inputs."""

Combine = Callable[[Lanes, SSAValue, SSAValue], SSAValue]
"""(lanes, element, total) to the new total."""

ORDER_FREE = (
    arith.MaximumfOp,
    arith.MinimumfOp,
    arith.MaxSIOp,
    arith.MinSIOp,
    arith.MaxUIOp,
    arith.MinUIOp,
    arith.AndIOp,
    arith.OrIOp,
)
"""Operations whose result does not depend on order, nor on how often an operand takes part."""

Indices = Sequence[SSAValue | None]


@dataclass(frozen=True)
class Reduction:
    """A loop nest: parallel loops, in the order of the result's axes, then reduced ones."""

    frame: Frame
    inputs: Sequence[View]
    initial: View
    result: View
    extents: Sequence[Extent]
    parallel: Sequence[int]
    reduced: Sequence[int]
    term: Term

    @property
    def element(self) -> Attribute:
        return self.result.element

    def along_reduction_gathers(self) -> int:
        """Inputs that lanes along the reduction read element by element."""
        last = self.reduced[-1]
        flat = len(self.reduced) == 1
        return sum(
            not (flat and (view.is_contiguous(last) or view.is_invariant(last))) for view in self.inputs
        )

    def along_result_gathers(self) -> int:
        if not self.parallel:
            return len(self.inputs) + 1
        last = self.parallel[-1]
        return sum(not (view.is_contiguous(last) or view.is_invariant(last)) for view in self.inputs)

    def place(self, parallel: Sequence[SSAValue], reduced: Sequence[SSAValue | None] = ()) -> Indices:
        """Indices of all loops, from those of the parallel ones (perhaps not the last) and of the reduced ones."""
        found: list[SSAValue | None] = [None] * len(self.extents)
        for number, value in [
            *zip(self.parallel, parallel, strict=False),
            *zip(self.reduced, reduced, strict=False),
        ]:
            found[number] = value
        return found

    def count(self) -> int | None:
        """Elements that are reduced to one, if that is known now."""
        sizes = [self.extents[number] for number in self.reduced]
        known = [size for size in sizes if size is not None]
        return prod(known) if len(known) == len(sizes) or 0 in known else None

    def total(self) -> SSAValue:
        return self.frame.total([self.extents[number] for number in self.reduced])

    def unravel(self, flat: SSAValue) -> list[SSAValue]:
        return self.frame.unravel(flat, [self.extents[number] for number in self.reduced])

    # Both forms share the elements of the result, or blocks of sixteen of them, between the threads.

    def each_element(self, body: Callable[[Sequence[SSAValue]], None]) -> None:
        extents = [self.extents[number] for number in self.parallel]
        self.frame.share_all(extents, lambda *indices: body(indices))

    def each_block(self, body: Callable[[Sequence[SSAValue], SSAValue], None]) -> None:
        """`body(indices of the outer loops, first of sixteen along the last)`."""
        *outer, inner = self.parallel
        count = blocks(self.frame, self.extents[inner])
        if not outer:
            self.frame.share(count, lambda number: body((), mul(number, index(LANES))))
            return
        extents = [self.extents[number] for number in outer]
        self.frame.share_all(
            extents,
            lambda *indices: each(index(0), count, lambda number: body(indices, mul(number, index(LANES)))),
        )

    def lanes(self, count: int = LANES) -> Lanes:
        return Lanes(count, None, self.frame.scalars)

    def load_along_result(self, view: View, indices: Indices, start: SSAValue) -> SSAValue:
        inner = self.parallel[-1]
        extent = self.extents[inner]
        used = LANES if extent is None else max(min(extent, LANES), 1)
        return view.load_lanes(view.at(indices), inner, start, self.frame.extent(extent), used)

    def terms_along_result(self, indices: Indices, start: SSAValue) -> SSAValue:
        values = [self.load_along_result(view, indices, start) for view in self.inputs]
        return self.term(self.lanes(), values)

    def store_along_result(self, value: SSAValue, indices: Indices, start: SSAValue) -> None:
        inner = self.parallel[-1]
        self.result.store_lanes(value, self.result.at(indices), inner, start, self.extents[inner], self.frame)

    def terms_along_reduction(self, parallel: Sequence[SSAValue], block: SSAValue, end: SSAValue) -> SSAValue:
        """The terms of sixteen flat indices from 16 * block on; those past the end are anything."""
        start = mul(block, index(LANES))
        if len(self.reduced) == 1:
            (only,) = self.reduced
            known = self.count()
            used = LANES if known is None else max(min(known, LANES), 1)
            base = self.place(parallel)
            values = [view.load_lanes(view.at(base), only, start, end, used) for view in self.inputs]
        else:
            last = sub(end, index(1))
            places = [
                self.place(parallel, self.unravel(smin(add(start, index(n)), last))) for n in range(LANES)
            ]
            values = [
                gather([load_element(view.at(place), view.element) for place in places])
                for view in self.inputs
            ]
        return self.term(self.lanes(), values)

    def reduce_blocks(
        self,
        parallel: Sequence[SSAValue],
        start: SSAValue,
        combine: Callable[[SSAValue, SSAValue], SSAValue],
    ) -> SSAValue:
        """Sixteen lanes along the reduction; `start` is in every lane at first, and in those past the end."""
        end = self.total()
        known = self.count()
        whole = v.splat(start)
        masked = known is None or known % LANES != 0

        def step(block: SSAValue, carried: SSAValue) -> tuple[SSAValue]:
            value = self.terms_along_reduction(parallel, block, end)
            if masked:
                left = sub(end, mul(block, index(LANES)))
                inside = icmp("slt", v.constants(range(LANES), left.type), v.splat(left))  # pyright: ignore
                value = select(inside, value, whole)
            return (combine(value, carried),)

        count = v.udiv(add(end, index(LANES - 1)), index(LANES))
        (total,) = loop(index(0), count, step, [whole])
        return total


def emit_float_sum(nest: Reduction, *, keeps_empty: bool) -> None:
    """`keeps_empty`: of nothing the sum is the initial value itself, not that plus 0 (which differ for -0)."""
    if keeps_empty and nest.count() == 0:
        copy_initial(nest)
        return
    empty = icmp("eq", nest.total(), index(0)) if keeps_empty and nest.count() is None else None

    def finish(initial: SSAValue, total: SSAValue) -> SSAValue:
        added = fadd(initial, total)
        if empty is None:
            return added
        return select(v.splat(empty) if v.lanes_of(added) > 1 else empty, initial, added)

    if nest.along_reduction_gathers() <= nest.along_result_gathers():

        def reduce_element(parallel: Sequence[SSAValue]) -> None:
            lanes = nest.reduce_blocks(parallel, constant(0.0, f32), lambda value, total: fadd(total, value))
            place = nest.place(parallel)
            initial = load_element(nest.initial.at(place), nest.element)
            total = finish(initial, v.tree(fadd, lanes))
            store_element(total, nest.result.at(place))

        nest.each_element(reduce_element)
        return

    def reduce_block(outer: Sequence[SSAValue], start: SSAValue) -> None:
        partial = partial_sums(nest, outer, start)
        while len(partial) > 1:
            half = len(partial) // 2
            partial = [fadd(a, b) for a, b in zip(partial[:half], partial[half:], strict=True)]
        place = nest.place(outer)
        initial = nest.load_along_result(nest.initial, place, start)
        nest.store_along_result(finish(initial, partial[0]), place, start)

    nest.each_block(reduce_block)


def partial_sums(nest: Reduction, outer: Sequence[SSAValue], start: SSAValue) -> list[SSAValue]:
    """Partial sum j is a vector: elements j, j + 16, ... of the reduction, for sixteen elements of the result."""
    known, end = nest.count(), nest.total()

    def term(flat: SSAValue) -> SSAValue:
        return nest.terms_along_result(nest.place(outer, nest.unravel(flat)), start)

    def step(block: SSAValue, *sums: SSAValue) -> list[SSAValue]:
        first = mul(block, index(LANES))
        return [fadd(total, term(add(first, index(j)))) for j, total in enumerate(sums)]

    zeros = [constant(0.0, v.FLOATS)] * LANES
    whole = v.udiv(end, index(LANES)) if known is None else index(known // LANES)
    sums = list(loop(index(0), whole, step, zeros)) if known is None or known >= LANES else zeros
    first = mul(whole, index(LANES))
    for j in range(LANES - 1 if known is None else known % LANES):
        flat = add(first, index(j))
        if known is not None:
            sums[j] = fadd(sums[j], term(flat))
            continue
        inside = icmp("slt", flat, end)
        value = term(select(inside, flat, index(0)))
        sums[j] = fadd(sums[j], select(v.splat(inside), value, zeros[0]))
    return sums


def emit_order_free(nest: Reduction, combine: Combine, *, idempotent: bool) -> None:
    """`idempotent`: the initial value may take part many times. Otherwise it is a sum of integers."""
    if nest.along_reduction_gathers() and nest.parallel:
        emit_in_order(nest, combine)
        return

    def join(a: SSAValue, b: SSAValue) -> SSAValue:
        return combine(nest.lanes(v.lanes_of(a)), a, b)

    def reduce_element(parallel: Sequence[SSAValue]) -> None:
        place = nest.place(parallel)
        initial = load_element(nest.initial.at(place), nest.element)
        start = initial if idempotent else constant(0, nest.element)
        total = v.tree(join, nest.reduce_blocks(parallel, start, join))
        store_element(total if idempotent else add(initial, total), nest.result.at(place))

    nest.each_element(reduce_element)


def emit_in_order(nest: Reduction, combine: Combine) -> None:
    """One total for each element of the result, which meets the reduced elements in order of index."""
    if not nest.parallel:
        nest.each_element(lambda _: reduce_to_scalar(nest, combine))
        return

    def reduce_block(outer: Sequence[SSAValue], start: SSAValue) -> None:
        place = nest.place(outer)
        initial = nest.load_along_result(nest.initial, place, start)

        def step(reduced: Sequence[SSAValue], total: SSAValue) -> SSAValue:
            return combine(nest.lanes(), nest.terms_along_result(nest.place(outer, reduced), start), total)

        nest.store_along_result(in_order(nest, initial, step), place, start)

    nest.each_block(reduce_block)


def reduce_to_scalar(nest: Reduction, combine: Combine) -> None:
    place, lanes = nest.place(()), nest.lanes(1)

    def step(reduced: Sequence[SSAValue], total: SSAValue) -> SSAValue:
        addresses = [view.at(nest.place((), reduced)) for view in nest.inputs]
        values = [load_element(at, view.element) for at, view in zip(addresses, nest.inputs, strict=True)]
        return combine(lanes, nest.term(lanes, values), total)

    initial = load_element(nest.initial.at(place), nest.element)
    store_element(in_order(nest, initial, step), nest.result.at(place))


def in_order(
    nest: Reduction, initial: SSAValue, step: Callable[[Sequence[SSAValue], SSAValue], SSAValue]
) -> SSAValue:
    """`total = step(indices of the reduced loops, total)`, nested loops."""

    def run(done: Sequence[SSAValue], rest: Sequence[int], total: SSAValue) -> SSAValue:
        if not rest:
            return step(done, total)
        end = nest.frame.extent(nest.extents[rest[0]])

        def turn(i: SSAValue, carried: SSAValue) -> tuple[SSAValue]:
            return (run((*done, i), rest[1:], carried),)

        return loop(index(0), end, turn, [total])[0]

    return run((), nest.reduced, initial)


def copy_initial(nest: Reduction) -> None:
    def copy(parallel: Sequence[SSAValue]) -> None:
        place = nest.place(parallel)
        store_element(load_element(nest.initial.at(place), nest.element), nest.result.at(place))

    nest.each_element(copy)


def merged(
    extents: Sequence[Extent], views: Sequence[View], reduced: Sequence[int]
) -> tuple[list[Extent], list[View], list[int]]:
    """Reduced loops that move through every input like one: that one, with the number of the last of them."""
    sizes, kept, last = list(extents), list(reduced), reduced[-1] if reduced else 0
    for outer in reversed(reduced[:-1]):
        first, second = sizes[outer], sizes[last]
        if (
            first is None
            or not second
            or any(view.steps[outer] != view.steps[last] * second for view in views)
        ):
            break
        sizes[outer], sizes[last] = 1, first * second
        kept.remove(outer)
    return sizes, list(views), kept


def emit_matmul(op: linalg.MatmulOp, frame: Frame) -> None:
    a, b, initial = frame.operands
    (out,) = frame.results
    row, column, inner = (AffineDimExpr(number) for number in range(3))
    views = [
        View.of(buffer, AffineMap(3, 0, axes))
        for buffer, axes in (
            (a, (row, inner)),
            (b, (inner, column)),
            (initial, (row, column)),
            (out, (row, column)),
        )
    ]

    def product(lanes: Lanes, values: Sequence[SSAValue]) -> SSAValue:
        if views[3].element == f32:
            return v.fmul(*values)
        return mul(
            *(
                value if view.element == views[3].element else widened(value, arith.ExtSIOp, views[3].element)
                for value, view in zip(values, views, strict=False)
            )
        )

    extents = [out.shape[0], out.shape[1], a.shape[1]]
    emit_sum(
        Reduction(frame, views[:2], views[2], views[3], extents, (0, 1), (2,), product), keeps_empty=False
    )


def widened(value: SSAValue, widening: Widening, element: Attribute) -> SSAValue:
    """An operand as the result's elements are."""
    if widening is None:
        return value
    return (v.sext if widening is arith.ExtSIOp else v.zext)(value, integer(element))


def emit_sum(nest: Reduction, *, keeps_empty: bool) -> None:
    if nest.element == f32:
        emit_float_sum(nest, keeps_empty=keeps_empty)
    else:
        emit_order_free(nest, lambda _, a, b: add(a, b), idempotent=False)


def emit_generic(op: linalg.GenericOp, frame: Frame) -> None:
    if all(kind.data != IteratorType.REDUCTION for kind in op.iterator_types):
        emit_parallel(op, frame)
        return
    contraction = match_contraction(op)
    if contraction is None:
        raise CompileError(
            "a linalg.generic that reduces is a contraction: one such loop, the last, and total + a * b",
            op.location,
        )
    left, right, initial = frame.operands
    (out,) = frame.results
    maps = [map.data for map in op.indexing_maps]
    views = [
        View.of(buffer, map)
        for buffer, map in zip((left, right, initial, out), [*maps, maps[-1]], strict=True)
    ]

    def product(lanes: Lanes, values: Sequence[SSAValue]) -> SSAValue:
        a = widened(values[0], contraction.widen_left, views[3].element)
        b = widened(values[1], contraction.widen_right, views[3].element)
        return v.fmul(a, b) if views[3].element == f32 else mul(a, b)

    extents = loop_extents([left, right, out], maps)
    nest = Reduction(
        frame, views[:2], views[2], views[3], extents, contraction.out, (contraction.reduced,), product
    )
    emit_sum(nest, keeps_empty=False)


def emit_reduce(op: linalg.ReduceOp, frame: Frame) -> None:
    x, initial = frame.operands
    (out,) = frame.results
    rank = len(x.shape)
    reduced = sorted(op.dimensions.get_values())
    parallel = [axis for axis in range(rank) if axis not in reduced]
    kept = AffineMap(rank, 0, tuple(AffineDimExpr(axis) for axis in parallel))
    extents, inputs, loops = merged(x.shape, [View.of(x, AffineMap.identity(rank))], reduced)
    nest = Reduction(
        frame,
        inputs,
        View.of(initial, kept),
        View.of(out, kept),
        extents,
        parallel,
        loops,
        lambda _, values: values[0],
    )
    block = op.region.block
    combine = only_op(block)

    def body(lanes: Lanes, value: SSAValue, total: SSAValue) -> SSAValue:
        return lanes.run(block, [value, total])[0]

    match combine:
        case arith.AddfOp():
            emit_float_sum(nest, keeps_empty=True)
        case arith.AddiOp():
            emit_order_free(nest, body, idempotent=False)
        case _ if isinstance(combine, ORDER_FREE):
            emit_order_free(nest, body, idempotent=True)
        case _:
            emit_in_order(nest, body)
