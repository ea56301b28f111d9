"""Kernels that copy elements from place to place: slices, joins, reshapes, padding, tables.

All are loops over a box of index tuples, each moving one element; the innermost loop is over the last axis, so that
LLVM makes vectors or a `memcpy` of it where source and destination are dense.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import cast

from xdsl.dialects import tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, IntegerType, i1, i8
from xdsl.ir import Attribute, Operation, SSAValue

from sterna.dialects.errors import CompileError
from sterna.targets.cpu.instructions import (
    add,
    bitand,
    icmp,
    index,
    load,
    mul,
    offset,
    select,
    smax,
    smin,
    store,
    sub,
    udiv,
    zext,
)
from sterna.targets.cpu.kernel import Buffer, Extent, Frame, each
from sterna.targets.cpu.region import Lanes, machine_type
from sterna.targets.cpu.views import bytes_of, store_element

Address = Callable[[Sequence[SSAValue]], SSAValue]
"""Where the element with these indices is."""


@dataclass(frozen=True)
class Strided:
    """Addresses that move by a fixed number of bytes along every loop."""

    pointer: SSAValue
    steps: Sequence[SSAValue | int]

    def __call__(self, indices: Sequence[SSAValue]) -> SSAValue:
        address = self.pointer
        for number, step in zip(indices, self.steps, strict=True):
            if step == 0:
                continue
            address = offset(address, mul(number, index(step) if isinstance(step, int) else step))
        return address


def memory_type(buffer: Buffer) -> Attribute:
    """What is loaded and stored of an element: of i1, its byte."""
    element = machine_type(buffer.type)
    if element is None:
        raise CompileError(f"the CPU target has no kernel for elements of {buffer.type}")
    return i8 if element == i1 else element


def for_all(frame: Frame, extents: Sequence[SSAValue], body: Callable[[Sequence[SSAValue]], None]) -> None:
    """Runs the body for all index tuples; threads share all loops but the innermost, or that if it is the only one."""
    if not extents:
        frame.share(index(1), lambda _: body(()))
    elif len(extents) == 1:
        frame.share(extents[0], lambda i: body((i,)))
    else:
        *outer, inner = extents
        frame.share_sizes(outer, lambda *i: each(index(0), inner, lambda j: body((*i, j))))


def move(
    frame: Frame, extents: Sequence[SSAValue], source: Address, target: Address, type: Attribute
) -> None:
    def element(indices: Sequence[SSAValue]) -> None:
        width = bytes_of(type)
        store(load(source(indices), type, width), target(indices), width)

    for_all(frame, extents, element)


def sizes(frame: Frame, extents: Sequence[Extent]) -> list[SSAValue]:
    return [frame.extent(extent) for extent in extents]


def emit_copy(op: Operation, frame: Frame) -> None:
    """The same elements, as `tensor.cast` and copies before a return have them."""
    (source,), (out,) = frame.operands, frame.results
    move(
        frame,
        sizes(frame, out.shape),
        Strided(source.pointer, source.strides),
        Strided(out.pointer, out.strides),
        memory_type(out),
    )


def emit_reshape(op: Operation, frame: Frame) -> None:
    """The same elements in the same row-major order."""
    (source,), (out,) = frame.operands, frame.results
    if (refined := refine(source, out)) is not None:
        extents, before, after = refined
        move(
            frame,
            sizes(frame, extents),
            Strided(source.pointer, before),
            Strided(out.pointer, after),
            memory_type(out),
        )
        return

    def unravelled(indices: Sequence[SSAValue]) -> SSAValue:
        flat = index(0)
        for number, extent in zip(indices, out.shape, strict=True):
            flat = add(mul(flat, frame.extent(extent)), number)
        return source.at(*frame.unravel(flat, source.shape))

    move(frame, sizes(frame, out.shape), unravelled, Strided(out.pointer, out.strides), memory_type(out))


def refine(a: Buffer, b: Buffer) -> tuple[list[Extent], list[int], list[int]] | None:
    """Loops that split the axes of both: their lengths, and the bytes each moves in both; None if there are none."""
    left, right = list(zip(a.shape, a.strides, strict=True)), list(zip(b.shape, b.strides, strict=True))
    loops: list[tuple[Extent, int, int]] = []
    if 0 in a.shape:
        return None
    while left and right:
        (m, p), (n, q) = left.pop(), right.pop()
        if m == n:
            loops.append((m, p, q))
        elif m is None or n is None:
            return None
        elif m % n == 0:
            loops.append((n, p, q))
            left.append((m // n, p * n))
        elif n % m == 0:
            loops.append((m, p, q))
            right.append((n // m, q * m))
        else:
            return None
    if any(size != 1 for size, _ in (*left, *right)):
        return None
    loops.reverse()
    return [size for size, _, _ in loops], [p for _, p, _ in loops], [q for _, _, q in loops]


@dataclass(frozen=True)
class Slice:
    """A box inside a buffer: where it starts, how far each of its loops moves, and how many turns they take."""

    start: SSAValue
    steps: list[SSAValue | int]
    extents: list[SSAValue]

    @staticmethod
    def of(op: tensor.ExtractSliceOp | tensor.InsertSliceOp, buffer: Buffer, frame: Frame) -> Slice:
        counts = _numbers(op.static_sizes, op.sizes, frame)
        strides = _numbers(op.static_strides, op.strides, frame)
        offsets = clamped_offsets(op, buffer, frame)
        start = buffer.pointer
        steps: list[SSAValue | int] = []
        for first, by, stride in zip(offsets, strides, buffer.strides, strict=True):
            if first != 0:
                start = offset(start, mul(_value(first), index(stride)))
            steps.append(by * stride if isinstance(by, int) else mul(by, index(stride)))
        return Slice(start, steps, [_value(count) for count in counts])

    def dropping(self, kept: Sequence[int]) -> Slice:
        """Without the axes, of one element each, that the smaller tensor has not."""
        return Slice(self.start, [self.steps[n] for n in kept], [self.extents[n] for n in kept])


def clamped_offsets(
    op: tensor.ExtractSliceOp | tensor.InsertSliceOp, buffer: Buffer, frame: Frame
) -> list[SSAValue | int]:
    """Where a slice starts; a start that is known only now is moved to where the slice is inside."""
    found: list[SSAValue | int] = []
    offsets = _numbers(op.static_offsets, op.offsets, frame)
    counts = _numbers(op.static_sizes, op.sizes, frame)
    strides = _numbers(op.static_strides, op.strides, frame)
    for first, count, stride, extent in zip(offsets, counts, strides, buffer.shape, strict=True):
        if not isinstance(first, int):
            span = add(mul(sub(_value(count), index(1)), _value(stride)), index(1))
            first = smax(smin(first, sub(frame.extent(extent), span)), index(0))
        found.append(first)
    return found


def _numbers(
    static: DenseArrayBase[IntegerType], dynamic: Sequence[SSAValue], frame: Frame
) -> list[SSAValue | int]:
    given = iter(dynamic)
    return [frame.scalars[next(given)] if n == DYNAMIC_INDEX else n for n in static.get_values()]


def _value(number: SSAValue | int) -> SSAValue:
    return index(number) if isinstance(number, int) else number


def kept_axes(op: tensor.ExtractSliceOp | tensor.InsertSliceOp, small: Sequence[Extent]) -> list[int]:
    """The axes of the box that the smaller tensor has: it may leave out the first axes of size 1 that fit."""
    declared = cast("DenseArrayBase[IntegerType]", op.static_sizes).get_values()
    known = [None if size == DYNAMIC_INDEX else size for size in declared]
    units = [axis for axis, size in enumerate(known) if size == 1]
    for dropped in combinations(units, len(known) - len(small)):
        kept = [axis for axis in range(len(known)) if axis not in dropped]
        if all(size in (known[axis], None) for axis, size in zip(kept, small, strict=True)):
            return kept
    raise CompileError(f"a slice of {list(declared)} elements is no tensor of {list(small)}", op.location)


def emit_extract_slice(op: tensor.ExtractSliceOp, frame: Frame) -> None:
    source, out = frame.operands[0], frame.results[0]
    box = Slice.of(op, source, frame).dropping(kept_axes(op, out.shape))
    move(
        frame,
        box.extents,
        Strided(box.start, box.steps),
        Strided(out.pointer, out.strides),
        memory_type(out),
    )


def emit_insert_slice(op: tensor.InsertSliceOp, frame: Frame) -> None:
    """The destination's elements, and over them the source's: each element of the result is written once."""
    source, dest = frame.operands
    (out,) = frame.results
    box = Slice.of(op, out, frame)
    kept = kept_axes(op, source.shape)
    inner = box.dropping(kept)
    type, width = memory_type(out), bytes_of(memory_type(out))
    if "in_place" in op.attributes:
        move(
            frame,
            inner.extents,
            Strided(source.pointer, source.strides),
            Strided(inner.start, inner.steps),
            type,
        )
        return
    offsets = [_value(n) for n in clamped_offsets(op, out, frame)]
    strides = [_value(n) for n in _numbers(op.static_strides, op.strides, frame)]

    def element(indices: Sequence[SSAValue]) -> None:
        places: list[SSAValue] = []
        inside: SSAValue | None = None
        for number, first, stride, count in zip(indices, offsets, strides, box.extents, strict=True):
            distance = sub(number, first)
            turn = udiv(distance, stride)
            exact = icmp("eq", mul(turn, stride), distance)
            hit = bitand(exact, bitand(icmp("sge", distance, index(0)), icmp("slt", turn, count)))
            inside = hit if inside is None else bitand(inside, hit)
            places.append(smax(smin(turn, sub(count, index(1))), index(0)))
        small = [places[axis] for axis in kept]
        behind = Strided(dest.pointer, dest.strides)(indices)
        address = behind if inside is None else select(inside, source.at(*small), behind)
        if inside is None:
            address = source.at()
        store(load(address, type, width), Strided(out.pointer, out.strides)(indices), width)

    for_all(frame, sizes(frame, out.shape), element)


def emit_concat(op: tensor.ConcatOp, frame: Frame) -> None:
    (out,) = frame.results
    axis = op.dim.value.data
    start = out.pointer
    for buffer in frame.operands:
        move(
            frame,
            sizes(frame, buffer.shape),
            Strided(buffer.pointer, buffer.strides),
            Strided(start, out.strides),
            memory_type(out),
        )
        start = offset(start, mul(frame.extent(buffer.shape[axis]), index(out.strides[axis])))


def emit_from_elements(op: tensor.FromElementsOp, frame: Frame) -> None:
    (out,) = frame.results
    shape = [extent or 0 for extent in out.shape]

    def write(_: SSAValue) -> None:
        for number, value in enumerate(op.elements):
            address, rest = out.pointer, number
            for extent, stride in reversed(list(zip(shape, out.strides, strict=True))):
                address = offset(address, rest % extent * stride)
                rest //= extent
            store_element(frame.scalars[value], address)

    frame.share(index(1), write)


def emit_pad(op: tensor.PadOp, frame: Frame) -> None:
    (source,), (out,) = frame.operands, frame.results
    low = [_value(number) for number in _numbers(op.static_low, op.low, frame)]
    end = op.region.block.last_op
    assert isinstance(end, tensor.YieldOp)
    padding = Lanes(1, None, frame.scalars).value(op.region.block, end.operands[0], op)

    def place(indices: Sequence[SSAValue]) -> Sequence[SSAValue]:
        return [sub(number, first) for number, first in zip(indices, low, strict=True)]

    emit_bounded(frame, source, out, place, zext(padding, i8) if padding.type == i1 else padding)


def emit_bounded(
    frame: Frame,
    source: Buffer,
    out: Buffer,
    place: Callable[[Sequence[SSAValue]], Sequence[SSAValue]],
    padding: SSAValue,
) -> None:
    """Element n of the result is the source's at `place(n)`, or the padding where the source has none."""
    type = memory_type(out)

    def element(indices: Sequence[SSAValue]) -> None:
        inside: SSAValue | None = None
        bounded: list[SSAValue] = []
        for number, extent in zip(place(indices), source.shape, strict=True):
            size = frame.extent(extent)
            hit = icmp("ult", number, size)
            inside = hit if inside is None else bitand(inside, hit)
            bounded.append(smax(smin(number, sub(size, index(1))), index(0)))
        value = load(source.at(*bounded), type, bytes_of(type))
        if inside is not None:
            value = select(inside, value, padding)
        store(value, Strided(out.pointer, out.strides)(indices), bytes_of(type))

    for_all(frame, sizes(frame, out.shape), element)
