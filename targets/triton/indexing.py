"""Kernels that find elements by position: sliding windows, look-up along an axis, the k largest of a row."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX, f32

from sterna.dialects.ternary import ConvolveOp, GatherOp, TopKOp, WindowsOp
from sterna.targets.triton.kernel import (
    Builder,
    Host,
    Shape,
    default_name,
    element,
    next_power_of_2,
    place,
    product_text,
)
from sterna.targets.triton.loops import Loops, finish
from sterna.targets.triton.places import Places, all_of
from sterna.targets.triton.region import full

COMPARED = 1024
"""Elements of a row that a program compares at once."""

MOST = (1 << 63) - 1


class Windows:
    """Where the elements of windows are in what these slide over (`ternary.windows`, `ternary.convolve`)."""

    def __init__(self, op: WindowsOp | ConvolveOp, places: Places) -> None:
        self.op, self.places = op, places
        self.sizes = Shape.of(op.x).sizes
        self.leading, self.axes = op.leading.value.data, op.axes.get_values()
        self.rest = [axis for axis in range(self.leading, len(self.sizes)) if axis not in self.axes]
        full_shape = op.full_shape(tuple(DYNAMIC_INDEX if size is None else size for size in self.sizes))
        self.full = tuple(None if size == DYNAMIC_INDEX else size for size in full_shape)

    def numbers(self, given: Sequence[str]) -> list[str]:
        """A number for each of the axes of `full`, given those of the axes that are not 1 long."""
        remaining = iter(given)
        return ["0" if size == 1 else next(remaining) for size in self.full]

    def element(self, numbers: Sequence[str]) -> tuple[list[str], list[str]]:
        """Coordinates in x, and what has to hold for x to have an element there."""
        many, first = len(self.axes), len(self.rest) + self.leading + len(self.axes)
        windows, offsets = numbers[self.leading : self.leading + many], numbers[first:]
        found = dict(enumerate(numbers[: self.leading]))
        found |= dict(zip(self.rest, numbers[self.leading + many : first], strict=True))
        conditions: list[str] = []
        for n, axis in enumerate(self.axes):
            found[axis] = self.places.builder.assign("i", self.along(n, windows[n], offsets[n]))
            if self.op.low.get_values()[n]:
                conditions.append(f"({found[axis]} >= 0)")
            if self.op.high.get_values()[n]:
                size = self.sizes[axis]
                end = self.places.builder.rows() if size is None else size
                conditions.append(f"({found[axis]} < {end})")
        return [found[axis] for axis in range(len(self.sizes))], conditions

    def along(self, n: int, window: str, offset: str) -> str:
        """Where an element is along sliding axis number n."""
        stride, dilation, low = (
            numbers.get_values()[n] for numbers in (self.op.strides, self.op.dilations, self.op.low)
        )
        terms = [
            each if factor == 1 else f"{each} * {factor}"
            for each, factor in ((window, stride), (offset, dilation))
            if each != "0"
        ]
        text = " + ".join(terms) or "0"
        return f"{text} - {low}" if low else text

    def load(self, numbers: Sequence[str], mask: str) -> str:
        """The element of a window, or the padding; zero where the mask is not set and there is no padding."""
        b = self.places.builder
        coordinates, conditions = self.element(numbers)
        if not conditions:
            return self.places.load(self.op.x, coordinates, mask=mask)
        within = b.assign("within", all_of(b, conditions))
        value = self.places.load(self.op.x, coordinates, mask=f"{mask} & {within}")
        if not self.op.padding.value.data:
            return value
        padding = full(arith.ConstantOp(self.op.padding))
        return b.assign("padded", f"tl.where({within}, {value}, {padding})")


def emit_windows(op: WindowsOp, host: Host) -> None:
    loops = Loops(op, host, Shape.of(op.result).sizes)
    windows = Windows(op, loops)
    finish(loops, [op.result], [windows.load(windows.numbers(loops.along), "inside")])


def emit_gather(op: GatherOp, host: Host) -> None:
    loops = Loops(op, host, Shape.of(op.result).sizes)
    b, axis, rank = loops.builder, op.axis.value.data, len(Shape.of(op.indices).sizes)
    looked_up = loops.along[axis : axis + rank]
    number = loops.load(op.indices, looked_up, name="indices")
    size = Shape.of(op.data).sizes[axis]
    last = f"{b.rows()} - 1" if size is None else str(size - 1)
    clamped = b.assign("i", f"tl.maximum(tl.minimum({number}.to(tl.int64), {last}), 0)")
    coordinates = [*loops.along[:axis], clamped, *loops.along[axis + rank :]]
    finish(loops, [op.result], [loops.load(op.data, coordinates, name="data")])


def emit_top_k(op: TopKOp, host: Host) -> None:
    """A program a row. Element j is the best of those after element j - 1 in the order of keys and indices."""
    rows, columns = Shape.of(op.x).sizes[:-1], Shape.of(op.x).columns
    b = Builder(default_name(op), host)
    b.doc += [place(op)]
    b.names.taken |= {"row", "i", "j", "x", "key", "best", "index", "last", "at", "unused", "top", "where"}
    b.lines.append("row = tl.program_id(0).to(tl.int64)")
    places = Places(op, b)
    along = places.coordinates("row", rows)
    length = b.rows() if columns is None else str(columns)
    block = COMPARED if columns is None else min(next_power_of_2(max(columns, 1)), COMPARED)
    key = b.call("order_key", "x") if element(op.x, op) == f32 else "x"
    key = f"{key}.to(tl.int64)"
    for value in (op.values, op.indices):
        host.allocate(value)
    first = [*along, "0"] if len(Shape.of(op.values).sizes) > len(rows) else along
    step = " + j" if first != along else ""
    x_row = b.assign("x_row", places.at(op.x, [*along, "0"]))
    to_values = b.assign("values_row", places.at(op.values, first, "values"))
    to_indices = b.assign("indices_row", places.at(op.indices, first, "indices"))
    b.lines += [
        f"last = tl.full([], {MOST}, tl.int64)",
        "at = tl.full([], -1, tl.int64)",
        f"for j in range({op.k.value.data}):",
        f"    best = tl.full([], {-MOST - 1}, tl.int64)",
        f"    index = tl.full([], {MOST}, tl.int64)",
        f"    for start in range(0, {length}, {block}):",
        f"        i = (start + tl.arange(0, {block})).to(tl.int64)",
        f"        x = tl.load({x_row} + i, mask=i < {length}, other=0)",
        f"        key = {key if op.largest else '~' + key}",
        f"        unused = (i < {length}) & ((key < last) | ((key == last) & (i > at)))",
        f"        top = tl.max(tl.where(unused, key, {-MOST - 1}), axis=0)",
        f"        where = tl.min(tl.where(unused & (key == top), i, {MOST}), axis=0)",
        f"        index = tl.where((top > best) | (index == {MOST}), where, index)",
        "        best = tl.maximum(best, top)",
        f"    index = tl.maximum(tl.minimum(index, {length} - 1), 0)",
        f"    tl.store({to_values}{step}, tl.load({x_row} + index))",
        f"    tl.store({to_indices}{step}, index)",
        "    last = best",
        "    at = index",
    ]
    host.launch(b.kernel(), f"({product_text(rows, 'batch.rows')},)", b.all_arguments())
