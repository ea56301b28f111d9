"""Kernels that move elements from place to place: broadcasts, transposes, reshapes, slices, joins, padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from xdsl.dialects import tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, IntegerType
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Operation, SSAValue

from sterna.dialects.errors import CompileError
from sterna.passes.control_buffers import IN_PLACE
from sterna.passes.operands import tensors_read
from sterna.targets.triton.kernel import Host, Shape, next_power_of_2
from sterna.targets.triton.loops import Loops, finish
from sterna.targets.triton.places import Sizes, all_of
from sterna.targets.triton.scalars import scalar

Number = int | str
"""Known when the kernel is printed, or its name there."""


def emit_moved(op: linalg.BroadcastOp | linalg.TransposeOp, host: Host) -> None:
    loops = Loops(op, host, Shape.of(op.results[0]).sizes)
    rank = len(loops.along)
    if isinstance(op, linalg.BroadcastOp):
        axes = [axis for axis in range(rank) if axis not in op.dimensions.get_values()]
        coordinates = [loops.along[axis] for axis in axes]
    else:
        # Axis n of the result is axis permutation[n] of the source.
        permutation = op.permutation.get_values()
        coordinates = [loops.along[permutation.index(axis)] for axis in range(rank)]
    finish(loops, op.results, [loops.load(op.operands[0], coordinates)])


def emit_reshape(op: Operation, host: Host) -> None:
    """The same elements in the same order."""
    loops = Loops(op, host, Shape.of(op.results[0]).sizes)
    source = op.operands[0]
    finish(loops, op.results, [loops.load(source, loops.coordinates("n", Shape.of(source).sizes))])


def emit_from_elements(op: tensor.FromElementsOp, host: Host) -> None:
    if not any(op.result in tensors_read(use.operation) for use in op.result.uses):
        return  # a shape, which is in the type of what has it
    count = len(op.elements)
    loops = Loops(op, host, Shape.of(op.result).sizes, block=next_power_of_2(count))
    b = loops.builder
    found = scalar(op.elements[-1], b, op)
    for number, value in reversed(list(enumerate(op.elements[:-1]))):
        found = b.assign("value", f"tl.where(n == {number}, {scalar(value, b, op)}, {found})")
    finish(loops, [op.result], [found])


class Box:
    """The elements that a slice is of: where they start, how far apart and how many they are, along every axis."""

    def __init__(
        self, op: tensor.ExtractSliceOp | tensor.InsertSliceOp, loops: Loops, whole: Sizes, part: Sizes
    ) -> None:
        self.op, self.loops = op, loops
        counts = [int(n) for n in op.static_sizes.get_values()]
        self.sizes: Sizes = tuple(None if n == DYNAMIC_INDEX else n for n in counts)
        if DYNAMIC_INDEX in (steps := [int(n) for n in op.static_strides.get_values()]):
            raise CompileError("the GPU target has no slice of a stride that is computed", op.location)
        self.steps = steps
        self.offsets = self.clamped_offsets(whole)
        self.kept = kept_axes(op, self.sizes, part)

    def clamped_offsets(self, whole: Sizes) -> list[Number]:
        """A start that is known only when the kernel runs is moved to where the slice is inside."""
        b, given = self.loops.builder, iter(self.op.offsets)
        found: list[Number] = []
        for n, size, step, limit in zip(
            self.op.static_offsets.get_values(), self.sizes, self.steps, whole, strict=True
        ):
            if n != DYNAMIC_INDEX:
                found.append(int(n))
                continue
            asked = scalar(next(given), b, self.op)
            if size is None or limit is None:
                count, end = (b.rows() if each is None else each for each in (size, limit))
                last: Number = b.assign("last", f"{end} - ({count} - 1) * {step} - 1")
            else:
                last = limit - (size - 1) * step - 1
            found.append(b.assign("offset", f"tl.maximum(tl.minimum({asked}, {last}), 0)"))
        return found

    def places(self, along: Sequence[str]) -> list[str]:
        """Coordinates in the whole tensor of the element that has these in the part."""
        numbers = dict(zip(self.kept, along, strict=True))
        found: list[str] = []
        for axis, (offset, step) in enumerate(zip(self.offsets, self.steps, strict=True)):
            moved = numbers.get(axis, "0") if step == 1 else f"{numbers.get(axis, '0')} * {step}"
            if moved.startswith("0"):
                found.append(str(offset))
            else:
                found.append(moved if offset == 0 else f"({moved} + {offset})")
        return found


def kept_axes(op: tensor.ExtractSliceOp | tensor.InsertSliceOp, box: Sizes, part: Sizes) -> tuple[int, ...]:
    """The axes that the smaller tensor has: it may leave out the first axes of size 1 that fit."""
    units = [axis for axis, size in enumerate(box) if size == 1]
    for dropped in combinations(units, len(box) - len(part)):
        kept = tuple(axis for axis in range(len(box)) if axis not in dropped)
        if all(size in (box[axis], None) for axis, size in zip(kept, part, strict=True)):
            return kept
    raise CompileError(f"a slice of {list(box)} elements is no tensor of {list(part)}", op.location)


def emit_extract_slice(op: tensor.ExtractSliceOp, host: Host) -> None:
    part, whole = Shape.of(op.result).sizes, Shape.of(op.source).sizes
    loops = Loops(op, host, part)
    box = Box(op, loops, whole, part)
    finish(loops, [op.result], [loops.load(op.source, box.places(loops.along))])


def emit_insert_slice(op: tensor.InsertSliceOp, host: Host) -> None:
    """The destination's elements, and over them the source's; in place where nothing else reads the destination."""
    part, whole = Shape.of(op.source).sizes, Shape.of(op.result).sizes
    if IN_PLACE in op.attributes:
        host.values[op.result] = host.expression(op.dest)
    else:
        copy = Loops(op, host, whole, stem="copy")
        finish(copy, [op.result], [copy.load(op.dest, copy.along)])
    loops = Loops(op, host, part)
    box = Box(op, loops, whole, part)
    loops.store(op.result, loops.load(op.source, loops.along), box.places(loops.along))
    loops.launch()


def emit_concat(op: tensor.ConcatOp, host: Host) -> None:
    """A launch for each part."""
    axis, start = op.dim.value.data, 0
    for value in op.inputs:
        sizes = Shape.of(value).sizes
        loops = Loops(op, host, sizes)
        along = list(loops.along)
        if start:
            along[axis] = loops.builder.assign("i", f"{along[axis]} + {start}")
        loops.store(op.result, loops.load(value, loops.along), along)
        loops.launch()
        # Where a part is T long the others have nothing (`passes/dynamic_sizes.py`).
        start += sizes[axis] or 0


def emit_pad(op: tensor.PadOp, host: Host) -> None:
    loops = Loops(op, host, Shape.of(op.result).sizes)
    b, low = loops.builder, padding_numbers(op.static_low, op.low, loops)
    end = op.region.block.last_op
    assert isinstance(end, tensor.YieldOp)
    places: list[str] = []
    conditions: list[str] = []
    for number, first, size in zip(loops.along, low, Shape.of(op.source).sizes, strict=True):
        place = number if first == 0 else b.assign("i", f"{number} - {first}")
        places.append(place)
        conditions += [f"({place} >= 0)"] if first != 0 else []
        conditions.append(f"({place} < {b.rows() if size is None else size})")
    within = b.assign("within", all_of(b, conditions or ["(inside)"]))
    value = loops.load(op.source, places, mask=f"inside & {within}")
    number = padding_number(op, end.operands[0], loops)
    finish(loops, [op.result], [f"tl.where({within}, {value}, {number})"])


def padding_number(op: tensor.PadOp, value: SSAValue, loops: Loops) -> str:
    """What the region yields: its arguments, which say where an element is, have no use."""
    if any(argument.uses for argument in op.region.block.args):
        raise CompileError("the padding differs from place to place; only one number pads", op.location)
    return scalar(value, loops.builder, op)


def padding_numbers(
    static: DenseArrayBase[IntegerType], dynamic: Sequence[SSAValue], loops: Loops
) -> list[Number]:
    given = iter(dynamic)
    return [
        scalar(next(given), loops.builder, loops.op) if n == DYNAMIC_INDEX else int(n)
        for n in static.get_values()
    ]
