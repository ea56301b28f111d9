"""Kernels of `ternary.windows`, `ternary.gather` and `ternary.top_k`: elements that are found by position."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import DYNAMIC_INDEX, f32, i1, i64
from xdsl.ir import SSAValue

from sterna.dialects.ternary import GatherOp, TopKOp, WindowsOp
from sterna.targets.cpu import instructions as v
from sterna.targets.cpu.instructions import (
    add,
    bitand,
    bitor,
    constant,
    fcmp,
    icmp,
    index,
    load,
    loop,
    mul,
    offset,
    select,
    sext,
    smax,
    smin,
    store,
    sub,
)
from sterna.targets.cpu.kernel import Frame
from sterna.targets.cpu.movement import Strided, emit_bounded, for_all, memory_type, sizes
from sterna.targets.cpu.region import integer
from sterna.targets.cpu.views import bytes_of, load_element, store_element


def emit_windows(op: WindowsOp, frame: Frame) -> None:
    (source,), (out,) = frame.operands, frame.results
    full = op.full_shape(tuple(DYNAMIC_INDEX if size is None else size for size in source.shape))
    axes, leading = op.axes.get_values(), op.leading.value.data
    rest = [axis for axis in range(len(source.shape)) if axis >= leading and axis not in axes]

    def place(indices: Sequence[SSAValue]) -> Sequence[SSAValue]:
        given = iter(indices)
        numbers = [index(0) if size == 1 else next(given) for size in full]
        first, windows = numbers[:leading], numbers[leading : leading + len(axes)]
        others = numbers[leading + len(axes) : leading + len(axes) + len(rest)]
        offsets = numbers[len(numbers) - len(axes) :]
        places = dict(enumerate(first)) | dict(zip(rest, others, strict=True))
        for n, axis in enumerate(axes):
            moved = mul(windows[n], index(op.strides.get_values()[n]))
            inner = mul(offsets[n], index(op.dilations.get_values()[n]))
            places[axis] = sub(add(moved, inner), index(op.low.get_values()[n]))
        return [places[axis] for axis in range(len(source.shape))]

    # i1 is a byte in memory, 0 or 1, and so is the padding.
    number = op.padding.value.data
    padding = constant(abs(number) if op.padding.type == i1 else number, memory_type(out))
    emit_bounded(frame, source, out, place, padding)


def emit_gather(op: GatherOp, frame: Frame) -> None:
    data, indices = frame.operands
    (out,) = frame.results
    axis, rank = op.axis.value.data, len(indices.shape)
    type, width = memory_type(out), bytes_of(memory_type(out))
    last = sub(frame.extent(data.shape[axis]), index(1))

    def element(numbers: Sequence[SSAValue]) -> None:
        before, looked_up, after = numbers[:axis], numbers[axis : axis + rank], numbers[axis + rank :]
        number = as_index(load_element(indices.at(*looked_up), memory_type(indices)))
        place = smax(smin(number, last), index(0))
        value = load(data.at(*before, place, *after), type, width)
        store(value, Strided(out.pointer, out.strides)(numbers), width)

    for_all(frame, sizes(frame, out.shape), element)


def as_index(value: SSAValue) -> SSAValue:
    return value if integer(value.type) == i64 else sext(value, i64)


def emit_top_k(op: TopKOp, frame: Frame) -> None:
    """Selection: element j is the best of those that come after element j - 1 in the order of values and indices."""
    (x,) = frame.operands
    values, indices = frame.results
    k = op.k.value.data
    element = memory_type(x)
    stride = x.strides[-1]

    def select_row(*row: SSAValue) -> None:
        base = x.at(*row)

        def at(number: SSAValue) -> SSAValue:
            return load_element(offset(base, mul(number, index(stride))), element)

        def better(a: SSAValue, i: SSAValue, b: SSAValue, j: SSAValue) -> SSAValue:
            """Whether element i = a comes before element j = b."""
            first = before(a, b, op.largest)
            return bitor(first, bitand(equal(a, b), icmp("slt", i, j)))

        def pick(number: SSAValue, last_value: SSAValue, last_index: SSAValue) -> list[SSAValue]:
            def look(i: SSAValue, best: SSAValue, best_index: SSAValue) -> list[SSAValue]:
                value = at(i)
                # The first round has no element before it: its index is -1.
                unused = bitor(icmp("slt", last_index, index(0)), better(last_value, last_index, value, i))
                first = icmp("slt", best_index, index(0))
                wins = bitand(unused, bitor(first, better(value, i, best, best_index)))
                return [select(wins, value, best), select(wins, i, best_index)]

            best = loop(index(0), frame.extent(x.shape[-1]), look, [constant(0, element), index(-1)])
            place = (*row, number) if len(values.shape) > len(row) else row
            store_element(best[0], values.at(*place))
            store(smax(best[1], index(0)), indices.at(*place), 8)
            return list(best)

        loop(index(0), index(k), pick, [constant(0, element), index(-1)])

    frame.share_all(x.shape[:-1], select_row)


def before(a: SSAValue, b: SSAValue, largest: bool) -> SSAValue:
    """Whether a is strictly better than b; NaN is greater than any number."""
    if a.type != f32:
        return icmp("sgt" if largest else "slt", a, b)
    a_nan, b_nan = fcmp("uno", a, a), fcmp("uno", b, b)
    one = constant(1, i1)
    if largest:
        return bitor(fcmp("ogt", a, b), bitand(a_nan, v.bitxor(b_nan, one)))
    return bitor(fcmp("olt", a, b), bitand(b_nan, v.bitxor(a_nan, one)))


def equal(a: SSAValue, b: SSAValue) -> SSAValue:
    """-0 equals +0, and NaN NaN."""
    if a.type != f32:
        return icmp("eq", a, b)
    return bitor(fcmp("oeq", a, b), bitand(fcmp("uno", a, a), fcmp("uno", b, b)))
