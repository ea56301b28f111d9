"""Kernel of `ternary.convolve`, and sums of gathered columns by packed trits.

For each position of a window, shared between the threads: the columns that each group of channels reads are gathered
into a row on the thread's stack, whole tiles of them. Then every row of tiles, four channels, is one inner product with
it, of int8 or of f32.

Beyond its last column a gathered row is zero up to a whole tile. The trits there are zero too, but what was never
written need not be the same number twice, once added and once taken away (`dot.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from xdsl.dialects.builtin import DYNAMIC_INDEX, f32, i8, i32
from xdsl.ir import Attribute, Operation, SSAValue

from sterna.dialects.errors import CompileError
from sterna.dialects.layout import I8_ROW_BYTES, round_up
from sterna.dialects.ternary import AccumulateOp, ConvolveOp, tensor
from sterna.targets.cpu.dot import TILE_ROWS
from sterna.targets.cpu.float_dot import sum_signed
from sterna.targets.cpu.instructions import (
    add,
    bitand,
    constant,
    icmp,
    index,
    load,
    mul,
    offset,
    select,
    smax,
    smin,
    splat,
    store,
    sub,
    udiv,
    urem,
    vector_type,
)
from sterna.targets.cpu.kernel import Buffer, Frame, each
from sterna.targets.cpu.packed import PackedRow, require_tiles

LINE = 64
"""Bytes of a cache line, at which stack memory starts."""

GATHERED_BYTES = 1 << 20
"""The largest row that is gathered on the stack of a thread."""


@dataclass(frozen=True)
class Sums:
    """The sums of one row of the result by all channels, given where each group's columns are."""

    weights: Buffer
    element: Attribute
    groups: int
    scratch: SSAValue
    """Sixteen bytes of this thread's."""

    @property
    def columns(self) -> int:
        return self.weights.type.get_shape()[1]

    @property
    def packed(self) -> PackedRow:
        return PackedRow.of(self.weights.type)

    @property
    def channels(self) -> int:
        return self.weights.type.get_shape()[0]

    @property
    def group_bytes(self) -> int:
        """From one group's columns to the next where they are gathered."""
        return round_up(self.columns, I8_ROW_BYTES) * (4 if self.element == f32 else 1)

    @property
    def gathered_bytes(self) -> int:
        return self.groups * self.group_bytes

    @staticmethod
    def of(op: AccumulateOp | ConvolveOp, frame: Frame) -> Sums:
        weights = frame.operands[1]
        require_tiles(weights.type, op)
        return Sums(weights, tensor(op.x).element_type, op.group_count, frame.scratch)

    def emit(self, columns: SSAValue, out: SSAValue) -> None:
        """Writes the sums of `columns`, of all groups, to the row `out`."""
        if self.groups == 1:
            total = self._total(columns)
            each(index(0), index(self.tile_rows), lambda n: self.four(n, columns, total, out))
            return
        by_group = self.channels // self.groups

        def group(g: SSAValue) -> None:
            own = offset(columns, mul(g, index(self.group_bytes)))
            total = self._total(own)
            if by_group % TILE_ROWS == 0:
                each(
                    index(0),
                    index(by_group // TILE_ROWS),
                    lambda n: self.four(add(mul(g, index(by_group // TILE_ROWS)), n), own, total, out),
                )
            else:
                each(
                    index(0),
                    index(by_group),
                    lambda n: self._one(add(mul(g, index(by_group)), n), own, total, out),
                )

        each(index(0), index(self.groups), group)

    @property
    def tile_rows(self) -> int:
        return -(-self.channels // TILE_ROWS)

    def _total(self, columns: SSAValue) -> SSAValue | None:
        return None if self.element == f32 else self.packed.sum_activations(columns)

    def _products(self, tile_row: SSAValue, columns: SSAValue, total: SSAValue | None) -> list[SSAValue]:
        """The sums by the four channels of a row of tiles: one vector, or four scalars."""
        weights = offset(self.weights.pointer, mul(tile_row, index(self.packed.bytes)))
        if total is None:
            return sum_signed(weights, columns, self.packed.format, self.columns)
        return [sub(self.packed.call_dot(weights, columns), splat(total, TILE_ROWS))]

    def four(self, tile_row: SSAValue, columns: SSAValue, total: SSAValue | None, out: SSAValue) -> None:
        """A result's row ends at a multiple of sixteen elements, so that the last four may be more than there are."""
        place = offset(out, mul(tile_row, index(4 * TILE_ROWS)))
        products = self._products(tile_row, columns, total)
        for n, value in enumerate(products):
            store(value, offset(place, 4 * n), 16 if len(products) == 1 else 4)

    def _one(self, channel: SSAValue, columns: SSAValue, total: SSAValue | None, out: SSAValue) -> None:
        products = self._products(udiv(channel, index(TILE_ROWS)), columns, total)
        for n, value in enumerate(products):
            store(value, offset(self.scratch, 4 * n), 16 if len(products) == 1 else 4)
        type = f32 if self.element == f32 else i32
        value = load(offset(self.scratch, mul(urem(channel, index(TILE_ROWS)), index(4))), type, 4)
        store(value, offset(out, mul(channel, index(4))), 4)


def emit_convolve(op: ConvolveOp, frame: Frame) -> None:
    x, (out,) = frame.operands[0], frame.results
    sums = Sums.of(op, frame)
    gathered = gathered_row(op, sums, frame)
    gather = Gather(op, x, sums, gathered, frame)

    def row(*t: SSAValue) -> None:
        gather.emit(t)
        sums.emit(gathered, out.row(*t))

    frame.share_all(out.rows, row)


def bytes_of(element: Attribute) -> int:
    return 4 if element == f32 else 1


def gathered_row(op: Operation, sums: Sums, frame: Frame) -> SSAValue:
    """Zeros on this thread's stack, where a row of columns has place."""
    if sums.gathered_bytes > GATHERED_BYTES:
        raise CompileError(
            f"{op.name}: the columns of one sum take {sums.gathered_bytes} bytes, and the CPU target gathers at most "
            f"{GATHERED_BYTES}",
            op.location,
        )
    row, zeros = frame.stack(sums.gathered_bytes), constant(0, vector_type(i8, LINE))
    count = sums.gathered_bytes // LINE
    each(index(0), index(count), lambda n: store(zeros, offset(row, mul(n, index(LINE))), LINE))
    return row


@dataclass(frozen=True)
class Gather:
    """Brings the elements of one window together, in row-major order, each group's where `Sums` looks for them."""

    op: ConvolveOp
    x: Buffer
    sums: Sums
    target: SSAValue
    frame: Frame

    def emit(self, position: Sequence[SSAValue]) -> None:
        op, x = self.op, self.x
        full = op.full_shape(tuple(DYNAMIC_INDEX if size is None else size for size in x.shape))
        given = iter(position)
        numbers = [index(0) if size == 1 else next(given) for size in full[: op.position_axes]]
        leading = op.leading.value.data
        inner = full[op.position_axes :]
        axes = op.axes.get_values()
        rest = [axis for axis in range(len(x.shape)) if axis >= leading and axis not in axes]

        def element(*at: SSAValue) -> None:
            places = dict(enumerate(numbers[:leading])) | dict(zip(rest, at, strict=False))
            inside: SSAValue | None = None
            for n, axis in enumerate(axes):
                place, fits = self._place(n, numbers[leading + n], at[len(rest) + n])
                places[axis] = place
                if fits is not None:
                    inside = fits if inside is None else bitand(inside, fits)
            size = bytes_of(self.sums.element)
            value = load(x.at(*(places[axis] for axis in range(len(x.shape)))), self.sums.element, size)
            if inside is not None:
                value = select(inside, value, constant(op.padding.value.data, self.sums.element))
            store(value, self._column(at, inner), size)

        self.frame.each(inner, element)

    def _place(self, n: int, position: SSAValue, at: SSAValue) -> tuple[SSAValue, SSAValue | None]:
        """Where sliding axis number n is read, and whether x has an element there; None if it always has."""
        op = self.op
        stride, dilation, low, high = (
            numbers.get_values()[n] for numbers in (op.strides, op.dilations, op.low, op.high)
        )
        place = sub(add(mul(position, index(stride)), mul(at, index(dilation))), index(low))
        if not low and not high:
            return place, None
        last = sub(self.frame.extent(self.x.shape[op.axes.get_values()[n]]), index(1))
        fits = bitand(icmp("sge", place, index(0)), icmp("sle", place, last))
        return smax(smin(place, last), index(0)), fits

    def _column(self, at: Sequence[SSAValue], shape: Sequence[int]) -> SSAValue:
        """The address of a column: the number of the element in its window, by group."""
        number = index(0)
        for n, place in enumerate(at):
            number = add(number, mul(place, index(prod(shape[n + 1 :]))))
        size = index(bytes_of(self.sums.element))
        if self.sums.groups == 1:
            return offset(self.target, mul(number, size))
        group, column = udiv(number, index(self.sums.columns)), urem(number, index(self.sums.columns))
        return offset(self.target, add(mul(group, index(self.sums.group_bytes)), mul(column, size)))
