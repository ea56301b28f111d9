"""`tensor`, and what of `linalg` moves elements without computing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from sterna.testing.drawing import Drawing, Shape, Type, Value

ELEMENTS = ("f32", "i32", "i8", "i64")


def literal_shape(to: Drawing, shape: Shape) -> str:
    """Sizes as an operation lists them; T by its operand."""
    return ", ".join(str(to.rows()) if size is None else str(size) for size in shape)


def static_axes(shape: Shape, least: int = 1) -> list[int]:
    return [axis for axis, size in enumerate(shape) if size is not None and size >= least]


def with_static_axis(to: Drawing, elements: tuple[str, ...] = ELEMENTS, least: int = 2) -> tuple[Value, int]:
    """A tensor, and one of its axes that is static and long enough."""
    x = to.tensor(
        elements,
        (1, 4),
        where=lambda shape: bool(static_axes(shape, least)),
        otherwise=lambda: (
            *to.shape((0, 2)),
            to.choose(*(size for size in to.limits.sizes if size >= least)),
        ),
    )
    return x, to.choose(*static_axes(x.shape, least))


def splat(to: Drawing) -> None:
    to.splat(Type(to.choose("f32", *to.limits.integers), to.shape()))


def dim(to: Drawing) -> None:
    x = to.tensor(ELEMENTS, (1, 4))
    axis = to.index(to.integer(0, len(x.shape) - 1))
    to.emit(f"tensor.dim {x}, {axis} : {x.type}", Type("index"))


def fill(to: Drawing) -> None:
    type = Type(to.choose("f32", *to.limits.integers), to.shape())
    scalar, out = to.scalar(type.element), to.empty(type)
    to.emit(f"linalg.fill ins({scalar} : {type.element}) outs({out} : {type}) -> {type}", type)


def from_elements(to: Drawing) -> None:
    element, count = to.choose("f32", "i32", "i64"), to.integer(1, 4)
    values = [to.scalar(element) for _ in range(count)]
    type = Type(element, (count,))
    to.emit(f"tensor.from_elements {', '.join(map(str, values))} : {type}", type)


def cast(to: Drawing) -> None:
    x = to.tensor(ELEMENTS)
    to.emit(f"tensor.cast {x} : {x.type} to {x.type}", x.type)


def extract(to: Drawing) -> None:
    # T may be 0, so an element of a dynamic axis may not be there.
    x = to.tensor(
        ELEMENTS,
        (0, 3),
        where=lambda shape: None not in shape,
        otherwise=lambda: tuple(size or 2 for size in to.shape()),
    )
    indices = [to.index(to.integer(0, (size or 1) - 1)) for size in x.shape]
    to.emit(f"tensor.extract {x}[{', '.join(map(str, indices))}] : {x.type}", Type(x.type.element))


def part_of(to: Drawing, x: Value, axis: int) -> tuple[str, Shape]:
    """Offsets, sizes and strides of a part along one axis, and its shape."""
    whole = x.shape[axis] or 0
    size = to.integer(1, whole)
    stride = to.integer(1, max((whole - 1) // max(size - 1, 1), 1)) if size > 1 else 1
    offset = to.integer(0, whole - 1 - (size - 1) * stride)
    shape = tuple(size if n == axis else each for n, each in enumerate(x.shape))
    offsets = ", ".join(str(offset if n == axis else 0) for n in range(len(shape)))
    strides = ", ".join(str(stride if n == axis else 1) for n in range(len(shape)))
    return f"[{offsets}] [{literal_shape(to, shape)}] [{strides}]", shape


def extract_slice(to: Drawing) -> None:
    x, axis = with_static_axis(to)
    place, shape = part_of(to, x, axis)
    if shape[axis] == 1 and len(shape) > 1 and not to.flag():
        # Imported programs have no axes of size 1.
        shape = shape[:axis] + shape[axis + 1 :]
    type = Type(x.type.element, shape)
    to.emit(f"tensor.extract_slice {x}{place} : {x.type} to {type}", type)


def insert_slice(to: Drawing) -> None:
    x, axis = with_static_axis(to)
    place, shape = part_of(to, x, axis)
    part = to.value(Type(x.type.element, shape))
    to.emit(f"tensor.insert_slice {part} into {x}{place} : {part.type} into {x.type}", x.type)


def concat(to: Drawing) -> None:
    x, axis = with_static_axis(to, least=1)
    size = to.size()
    y = to.value(Type(x.type.element, tuple(size if n == axis else each for n, each in enumerate(x.shape))))
    whole = (x.shape[axis] or 0) + size
    type = Type(x.type.element, tuple(whole if n == axis else each for n, each in enumerate(x.shape)))
    to.emit(f"tensor.concat dim({axis}) {x}, {y} : ({x.type}, {y.type}) -> {type}", type)


def factors(size: int) -> list[int]:
    return [n for n in range(2, size) if size % n == 0]


def split_axis(to: Drawing) -> tuple[Value, int, Shape]:
    """A tensor, an axis of it that is a product, and the shape with the two factors."""
    x = to.tensor(
        ELEMENTS,
        (1, 3),
        where=lambda shape: any(size is not None and factors(size) for size in shape),
        otherwise=lambda: (*to.shape((0, 1)), to.choose(4, 6, 12)),
    )
    axis = to.choose(*(n for n, size in enumerate(x.shape) if size is not None and factors(size)))
    size = x.shape[axis] or 0
    first = to.choose(*factors(size))
    return x, axis, (*x.shape[:axis], first, size // first, *x.shape[axis + 1 :])


def reshape(to: Drawing) -> None:
    x, _, shape = split_axis(to)
    if to.flag():
        # The same elements with the axes of another shape of that size.
        shape = (*(size for size in shape if size is None), *(size for size in shape if size is not None))
    sizes: list[Value] = []
    for size in shape:
        if size is None:
            sizes += to.emit(f"arith.index_cast {to.rows()} : index to i64", Type("i64"))
        else:
            sizes.append(to.constant("i64", str(size)))
    (wanted,) = to.emit(
        f"tensor.from_elements {', '.join(map(str, sizes))} : tensor<{len(sizes)}xi64>",
        Type("i64", (len(sizes),)),
    )
    type = Type(x.type.element, shape)
    to.emit(f"tensor.reshape {x}({wanted}) : ({x.type}, {wanted.type}) -> {type}", type)


def expand_shape(to: Drawing) -> None:
    x, axis, shape = split_axis(to)
    type = Type(x.type.element, shape)
    groups = [[n + (n > axis)] if n != axis else [n, n + 1] for n in range(len(x.shape))]
    to.emit(
        f"tensor.expand_shape {x} {groups} output_shape [{literal_shape(to, shape)}] : {x.type} into {type}",
        type,
    )


def collapse_shape(to: Drawing) -> None:
    x = to.tensor(
        ELEMENTS,
        (2, 4),
        where=lambda shape: any(a and b for a, b in pairwise(shape)),
        otherwise=lambda: (*to.shape((0, 1)), to.size(), to.size()),
    )
    axis = to.choose(*(n for n, (a, b) in enumerate(pairwise(x.shape)) if a and b))
    merged = (x.shape[axis] or 0) * (x.shape[axis + 1] or 0)
    type = Type(x.type.element, (*x.shape[:axis], merged, *x.shape[axis + 2 :]))
    groups = [[n + (n > axis)] if n != axis else [n, n + 1] for n in range(len(type.axes))]
    to.emit(f"tensor.collapse_shape {x} {groups} : {x.type} into {type}", type)


def broadcast(to: Drawing) -> None:
    x = to.tensor(ELEMENTS, (0, 2))
    axis = to.integer(0, len(x.shape))
    free = (
        None not in x.shape
        and to.limits.dynamic != "never"
        and (axis == 0 or to.limits.dynamic == "anywhere")
    )
    size = None if free and not to.flag() else to.size()
    type = Type(x.type.element, (*x.shape[:axis], size, *x.shape[axis:]))
    out = to.empty(type)
    to.emit(f"linalg.broadcast ins({x}:{x.type}) outs({out}:{type}) dimensions = [{axis}]", type)


def transpose(to: Drawing) -> None:
    x = to.tensor(ELEMENTS, (2, 4))
    order = list(range(len(x.shape)))
    a = to.integer(0, len(order) - 2)
    b = to.integer(a + 1, len(order) - 1)
    order[a], order[b] = order[b], order[a]
    type = Type(x.type.element, tuple(x.shape[axis] for axis in order))
    out = to.empty(type)
    to.emit(f"linalg.transpose ins({x}:{x.type}) outs({out}:{type}) permutation = {order}", type)


def pad(to: Drawing) -> None:
    x, axis = with_static_axis(to, least=1)
    low, high = to.integer(0, 3), to.integer(0, 3)
    padded = tuple(size + low + high if n == axis and size else size for n, size in enumerate(x.shape))
    type = Type(x.type.element, padded)
    number = to.scalar(x.type.element)
    lows, highs = (
        ", ".join(str(amount if n == axis else 0) for n in range(len(padded))) for amount in (low, high)
    )
    indices = ", ".join(f"{to.name('r')} : index" for _ in padded)
    to.emit(
        f"tensor.pad {x} low[{lows}] high[{highs}] {{\n  ^bb0({indices}):\n"
        f"    tensor.yield {number} : {x.type.element}\n  }} : {x.type} to {type}",
        type,
    )


RECIPES: dict[str, Callable[[Drawing], None]] = {
    "tensor.splat": splat,
    "tensor.dim": dim,
    "linalg.fill": fill,
    "tensor.from_elements": from_elements,
    "tensor.cast": cast,
    "tensor.extract": extract,
    "tensor.extract_slice": extract_slice,
    "tensor.insert_slice": insert_slice,
    "tensor.concat": concat,
    "tensor.reshape": reshape,
    "tensor.expand_shape": expand_shape,
    "tensor.collapse_shape": collapse_shape,
    "tensor.pad": pad,
    "linalg.broadcast": broadcast,
    "linalg.transpose": transpose,
}
