"""Kernels of parallel loops: `linalg.generic` without a reduction; fill, broadcast, transpose; `arith` on tensors.

The innermost loop is the last axis of the first result, in vectors of sixteen; inputs are read along it as vectors, as
one element for all lanes, or element by element. Threads share the other loops, or the vectors if there are no others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import tensor
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap

from sterna.dialects.errors import CompileError
from sterna.dialects.numerics import LANES
from sterna.passes.operands import tensors_read
from sterna.targets.cpu.instructions import constant, index, mul, splat
from sterna.targets.cpu.kernel import Buffer, Extent, Frame, each
from sterna.targets.cpu.region import Lanes
from sterna.targets.cpu.views import View, blocks, numbers_from, store_element

Compute = Callable[[Lanes, Sequence[SSAValue]], Sequence[SSAValue]]
"""The results for elements of the inputs, on so many lanes."""


def emit_loops(
    frame: Frame, extents: Sequence[Extent], inputs: Sequence[View], outputs: Sequence[View], compute: Compute
) -> None:
    """For every index tuple: the elements of the outputs are `compute` of those of the inputs."""
    if not extents:
        emit_scalar(frame, inputs, outputs, compute)
        return
    order = loops_of_result(outputs[0], extents)
    inner, outer = order[-1], order[:-1]
    extent = extents[inner]
    used = LANES if extent is None else max(min(extent, LANES), 1)

    def block(indices: Sequence[SSAValue], number: SSAValue) -> None:
        start = mul(number, index(LANES))
        along: list[SSAValue | None] = [None] * len(extents)
        for loop, value in zip(outer, indices, strict=True):
            along[loop] = value

        def number_of(loop: int) -> SSAValue:
            value = along[loop]
            return numbers_from(start) if value is None else splat(value)

        size = frame.extent(extent)
        values = [view.load_lanes(view.at(along), inner, start, size, used) for view in inputs]
        results = compute(Lanes(LANES, number_of, frame.scalars), values)
        for view, value in zip(outputs, results, strict=True):
            view.store_lanes(value, view.at(along), inner, start, extent, frame)

    count = blocks(frame, extent)
    if not outer:
        frame.share(count, lambda number: block((), number))
    else:
        frame.share_all(
            [extents[loop] for loop in outer],
            lambda *indices: each(index(0), count, lambda number: block(indices, number)),
        )


def emit_scalar(frame: Frame, inputs: Sequence[View], outputs: Sequence[View], compute: Compute) -> None:
    def once(_: SSAValue) -> None:
        results = compute(Lanes(1, None, frame.scalars), [view.load(()) for view in inputs])
        for view, value in zip(outputs, results, strict=True):
            store_element(value, view.at(()))

    frame.share(index(1), once)


def loops_of_result(view: View, extents: Sequence[Extent]) -> list[int]:
    """The loops in the order of the axes of a tensor that all of them run over."""
    if sorted(view.loops) != list(range(len(extents))):
        raise CompileError("a result of parallel loops has one axis for each of them")
    return list(view.loops)


def loop_extents(buffers: Sequence[Buffer], maps: Sequence[AffineMap]) -> list[Extent]:
    """The lengths of the loops, from the axes that they run over."""
    extents: dict[int, Extent] = {}
    for buffer, map in zip(buffers, maps, strict=True):
        for expression, extent in zip(map.results, buffer.shape, strict=True):
            if isinstance(expression, AffineDimExpr):
                extents[expression.position] = extent
    missing = [loop for loop in range(maps[0].num_dims) if loop not in extents]
    if missing:
        raise CompileError(f"nothing says how long loop {missing[0]} is")
    return [extents[loop] for loop in range(maps[0].num_dims)]


def generic_inputs(op: linalg.GenericOp, frame: Frame) -> list[View | SSAValue | None]:
    """For each operand a view, a scalar, or None for an output that is not read."""
    read = dict(zip(tensors_read(op), frame.operands, strict=True))
    found: list[View | SSAValue | None] = []
    for number, (value, map) in enumerate(zip(op.operands, op.indexing_maps, strict=True)):
        if value in frame.scalars:
            found.append(frame.scalars[value])
        elif number < len(op.inputs) or op.body.block.args[number].uses:
            found.append(View.of(read[value], map.data))
        else:
            found.append(None)
    return found


def emit_parallel(op: linalg.GenericOp, frame: Frame) -> None:
    given = generic_inputs(op, frame)
    maps = [map.data for map in op.indexing_maps]
    outputs = [
        View.of(buffer, map) for buffer, map in zip(frame.results, maps[len(op.inputs) :], strict=True)
    ]
    views = [each_ for each_ in given if isinstance(each_, View)]
    extents = extents_of(op, frame, given)

    def compute(lanes: Lanes, values: Sequence[SSAValue]) -> Sequence[SSAValue]:
        loaded = iter(values)
        arguments: list[SSAValue] = []
        for value, argument in zip(given, op.body.block.args, strict=True):
            match value:
                case View():
                    arguments.append(next(loaded))
                case None:
                    arguments.append(constant(0, lanes.type_of(argument.type, op)))
                case _:
                    arguments.append(lanes.splat(value))
        return lanes.run(op.body.block, arguments)

    emit_loops(frame, extents, views, outputs, compute)


def extents_of(op: linalg.GenericOp, frame: Frame, given: Sequence[View | SSAValue | None]) -> list[Extent]:
    maps = [map.data for map in op.indexing_maps]
    pairs = [(view.buffer, map) for view, map in zip(given, maps, strict=True) if isinstance(view, View)]
    pairs += zip(frame.results, maps[len(op.inputs) :], strict=True)
    return loop_extents([buffer for buffer, _ in pairs], [map for _, map in pairs])


def emit_elementwise_tensors(op: Operation, frame: Frame) -> None:
    """An operation of `arith` or `math` on whole tensors, and a condition that may be a scalar."""
    (out,) = frame.results
    identity = AffineMap.identity(len(out.shape))
    views = iter([View.of(buffer, identity) for buffer in frame.operands])
    given = [frame.scalars.get(value) or next(views) for value in op.operands]

    def compute(lanes: Lanes, values: Sequence[SSAValue]) -> Sequence[SSAValue]:
        loaded = iter(values)
        return (
            lanes.emit(
                op, [next(loaded) if isinstance(each_, View) else lanes.splat(each_) for each_ in given]
            ),
        )

    inputs = [each_ for each_ in given if isinstance(each_, View)]
    emit_loops(frame, out.shape, inputs, [View.of(out, identity)], compute)


def emit_moved(op: linalg.BroadcastOp | linalg.TransposeOp, frame: Frame) -> None:
    (source,), (out,) = frame.operands, frame.results
    rank = len(out.shape)
    if isinstance(op, linalg.BroadcastOp):
        axes = [axis for axis in range(rank) if axis not in op.dimensions.get_values()]
    else:
        # Axis n of the result is axis permutation[n] of the source.
        permutation = op.permutation.get_values()
        axes = [permutation.index(axis) for axis in range(rank)]
    map = AffineMap(rank, 0, tuple(AffineDimExpr(axis) for axis in axes))
    emit_loops(frame, out.shape, [View.of(source, map)], [View.of(out, AffineMap.identity(rank))], same)


def same(lanes: Lanes, values: Sequence[SSAValue]) -> Sequence[SSAValue]:
    return values


def emit_filled(op: linalg.FillOp | tensor.SplatOp, frame: Frame) -> None:
    (out,) = frame.results
    value = frame.scalars[op.operands[0]]
    identity = AffineMap.identity(len(out.shape))
    emit_loops(frame, out.shape, [], [View.of(out, identity)], lambda lanes, _: [lanes.splat(value)])


def emit_empty(op: tensor.EmptyOp, frame: Frame) -> None:
    """Zeros: what is in it may be anything, but must be the same in every run."""
    (out,) = frame.results
    identity = AffineMap.identity(len(out.shape))

    def zeros(lanes: Lanes, values: Sequence[SSAValue]) -> Sequence[SSAValue]:
        return [constant(0, lanes.type_of(op.tensor.type, op))]

    emit_loops(frame, out.shape, [], [View.of(out, identity)], zeros)
