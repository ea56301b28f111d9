"""The `ternary` dialect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from sterna.testing.drawing import TRIT, Drawing, Shape, Type, Value, Weight
from sterna.testing.recipes.regions import region

LANES = (16, 64, 128)
EPS = ("1.0e-05", "1.0e-06", "1.0e-08", "1.0e+00")
REGION_ELEMENTS = ("f32", "i32", "i1")


def rows_of_floats(to: Drawing, ranks: tuple[int, int] = (1, 3)) -> Value:
    """f32 whose last axis is static."""
    return to.tensor(
        "f32",
        ranks,
        where=lambda shape: shape[-1] is not None,
        otherwise=lambda: (*to.shape((ranks[0] - 1, ranks[1] - 1)), to.size()),
    )


def embedding(to: Drawing) -> None:
    # A token outside the table is an error, so nothing else reads these tokens, nor are they computed.
    rows, columns = to.choose(4, 7), to.size()
    tokens = to.argument(Type("i64", (None if to.limits.dynamic != "never" else 3,)))
    to.values.remove(tokens)
    table = to.weight(to.choose("f32", "f16", "bf16"), (rows, columns))
    type = Type("f32", (*tokens.shape, columns))
    to.emit(f"ternary.embedding {tokens}, {table} : {tokens.type}, {table.type} -> {type}", type)


def rms_norm(to: Drawing) -> None:
    x = rows_of_floats(to)
    weight = to.value(Type("f32", x.shape[-1:]))
    eps = to.choose(*EPS)
    to.emit(
        f"ternary.rms_norm {x}, {weight} eps = {eps} lanes = {to.choose(*LANES)} : {x.type}, {weight.type}",
        x.type,
    )


def quantized(to: Drawing, x: Value) -> tuple[Value, Value]:
    q, step = x.type.of("i8"), Type("f32", x.shape[:-1])
    values = to.emit(f"ternary.quantize {x} eps = {to.choose(*EPS)} : {x.type} -> {q}, {step}", q, step)
    return values[0], values[1]


def quantize(to: Drawing) -> None:
    quantized(to, rows_of_floats(to))


def norm_quantize(to: Drawing) -> None:
    x = rows_of_floats(to, (1, 2))
    gain = Type("f32", x.shape[-1:])
    gains = [to.value(gain) for _ in range(to.integer(1, 3))]
    outer = ""
    if to.flag():
        outer = f" of {to.value(gain)} : {gain} outer_eps = {to.choose(*EPS)}"
    q, step = x.type.of("i8"), Type("f32", x.shape[:-1])
    many = len(gains)
    to.emit(
        f"ternary.norm_quantize {x}{outer} gains({', '.join(map(str, gains))} : {', '.join([str(gain)] * many)}) "
        f"eps = {to.choose(*EPS)} quantize_eps = {to.choose(*EPS)} lanes = {to.choose(*LANES)} : {x.type} "
        f"-> ({', '.join([str(q)] * many)}), ({', '.join([str(step)] * many)})",
        *[q] * many,
        *[step] * many,
    )


def absmean(to: Drawing) -> None:
    w = to.tensor(
        "f32", (2, 2), where=lambda shape: None not in shape, otherwise=lambda: (to.size(), to.size())
    )
    trits, scale = Type(TRIT, w.shape), Type("f32", ())
    to.emit(f"ternary.absmean {w} eps = {to.choose(*EPS)} : {w.type} -> {trits}, {scale}", trits, scale)


def ternarize(to: Drawing) -> None:
    w = to.weight("f32", (to.size(), to.size()), "ternary")
    trits, scale = Type(TRIT, w.shape), Type("f32", () if not to.flag() else w.shape[:1])
    to.emit(f"ternary.ternarize {w} : {w.type} -> {trits}, {scale}", trits, scale)


def channels_of(to: Drawing, k: int | None) -> Value:
    """A matrix of trits for rows of K."""
    return to.tensor(TRIT, (2, 2), where=lambda shape: shape[1] == k, otherwise=lambda: (to.size(), k))


def accumulate(to: Drawing) -> None:
    x = to.tensor(
        ("i8", "f32"),
        (1, 3),
        where=lambda shape: shape[-1] is not None,
        otherwise=lambda: (*to.shape((0, 2)), to.size()),
    )
    groups = to.choose(*(n for n in (1, 2, 3) if x.last % n == 0))
    if groups == 1:
        w = channels_of(to, x.last)
    else:
        w = to.weight(TRIT, (groups * to.integer(1, 3), x.last // groups), "trits")
    acc = Type("f32" if x.type.element == "f32" else "i32", (*x.shape[:-1], w.shape[0]))
    attribute = f" groups = {groups}" if groups != 1 else ""
    to.emit(f"ternary.accumulate {x}, {w}{attribute} : {x.type}, {w.type} -> {acc}", acc)


def dequantize(to: Drawing) -> None:
    acc = to.tensor("i32", (1, 3))
    step = to.value(Type("f32", acc.shape[:-1] if not to.flag() else ()))
    scale = to.value(Type("f32", () if not to.flag() else acc.shape[-1:]))
    y = acc.type.of("f32")
    to.emit(f"ternary.dequantize {acc}, {step}, {scale} : {acc.type}, {step.type}, {scale.type} -> {y}", y)


def threshold(to: Drawing) -> None:
    x = to.tensor(
        ("i32", "f32"),
        (1, 3),
        where=lambda shape: shape[-1] is not None,
        otherwise=lambda: (*to.shape((0, 2)), to.size()),
    )
    count = to.choose(1, 3, 15)
    thresholds = to.weight(
        x.type.element, (x.last, count), "floats" if x.type.element == "f32" else "integers"
    )
    base = to.integer(-128, 127 - count)
    y = x.type.of("i8")
    to.emit(f"ternary.threshold {x}, {thresholds} base = {base} : {x.type}, {thresholds.type} -> {y}", y)


def scan(to: Drawing) -> None:
    f = to.tensor(
        "f32",
        (2, 2),
        where=lambda shape: shape[-1] is not None,
        otherwise=lambda: (*to.shape((1, 1)), to.size()),
    )
    i, state = to.value(f.type), Type("f32", f.shape[1:])
    carried = f.shape[0] is None and not to.flag()
    # A state that comes from one call and goes to the next is an argument of its own.
    init = to.argument(state) if carried else to.value(state)
    _, last = to.emit(f"ternary.scan {f}, {i}, {init} : {f.type}, {state}", f.type, state)
    if carried:
        to.values.remove(init)
        to.states.append((init, last))


def elementwise(to: Drawing) -> None:
    shape: Shape = (*to.shape((0, 1)), to.size())
    out = Type("f32", shape)
    # One input has all rows, and says how many there are.
    inputs = [to.value(out)]
    inputs += [to.value(Type("f32", to.choose(shape, shape[-1:], ()))) for _ in range(to.integer(0, 2))]
    results = to.integer(1, 2)
    body = region(to, ["f32"] * len(inputs), ["f32"] * results, REGION_ELEMENTS)
    given = f"{', '.join(map(str, inputs))} : {', '.join(str(value.type) for value in inputs)}"
    to.emit(
        f"ternary.elementwise({given}) {{\n{body}  }} -> {', '.join([str(out)] * results)}", *[out] * results
    )


def project(to: Drawing) -> None:
    rows, m = to.shape((1, 1)), to.size()
    columns = [to.size() for _ in range(to.integer(1, 2))]
    q = [to.value(Type("i8", (*rows, k))) for k in columns]
    steps = [to.value(Type("f32", rows)) for _ in columns]
    reads = [to.integer(0, len(columns) - 1) for _ in range(to.integer(1, 3))]
    weights = [to.weight(TRIT, (m, columns[read]), "trits") for read in reads]
    scales = [to.value(Type("f32", () if not to.flag() else (m,))) for _ in reads]
    out = Type("f32", (*rows, m))
    extras = [to.value(Type("f32", to.choose(out.axes, (m,), ()))) for _ in range(to.integer(0, 2))]
    results = to.integer(1, 2)
    body = region(to, ["f32"] * (len(weights) + len(extras)), ["f32"] * results, REGION_ELEMENTS)
    extra = f" with({_typed(extras)})" if extras else ""
    to.emit(
        f"ternary.project quantized({_typed(q)}) steps({_typed(steps)}) weights({_typed(weights)}) "
        f"scales({_typed(scales)}) reads = {reads}{extra} {{\n{body}  }} -> {', '.join([str(out)] * results)}",
        *[out] * results,
    )


def _typed(values: list[Value]) -> str:
    return f"{', '.join(map(str, values))} : {', '.join(str(value.type) for value in values)}"


def derived_weight(to: Drawing) -> None:
    """Trits and scale of a stored matrix, as folding leaves them."""
    derived_trits(to, to.size(), to.size())


def derived_trits(to: Drawing, m: int, k: int) -> tuple[Value, Value]:
    """The trits `[M, K]` and the scale of a new weight."""
    source = to.add_weight(Weight(to.name("w")[1:], Type("f32", (m, k))))
    trits, scale = Type(TRIT, (m, k)), Type("f32", ())
    loaded: list[Value] = []
    for type, result in ((trits, "%t"), (scale, "%s")):
        body = (
            f"%w = ternary.load @{source.name} : {source.type}",
            f"%t, %s = ternary.absmean %w eps = 1.0e-05 : {source.type} -> {trits}, {scale}",
            f"ternary.yield {result} : {type}",
        )
        loaded.append(to.load(to.add_weight(Weight(to.name("w")[1:], type, body=body, reads=(source.name,)))))
    return loaded[0], loaded[1]


@dataclass(frozen=True)
class Sliding:
    """How windows slide over a tensor."""

    leading: int
    lists: dict[str, list[int]]
    positions: Shape
    held: Shape
    """The axes of one window."""

    def __str__(self) -> str:
        return f"leading = {self.leading} " + " ".join(
            f"{name} = {each}" for name, each in self.lists.items()
        )


def sliding(to: Drawing, x: Value, least_leading: int = 0) -> Sliding:
    """Over one or two of the last axes of x that are static and longer than 1, of which it has one."""
    last = [
        axis for axis, size in enumerate(x.shape) if axis >= least_leading and size is not None and size > 1
    ][-2:]
    axes = last if to.flag() else last[-1:]
    leading = to.integer(least_leading, axes[0])
    names = ("axes", "sizes", "strides", "dilations", "low", "high")
    lists: dict[str, list[int]] = {name: [] for name in names}
    positions: list[int] = []
    for axis in axes:
        length = x.shape[axis] or 0
        low, high = to.integer(0, 2), to.integer(0, 2)
        size, padded = to.choose(2, 3, 1), length + low + high
        size = min(size, padded)
        dilation = to.integer(1, max((padded - 1) // (size - 1), 1)) if size > 1 else 1
        dilation = min(dilation, 3)
        stride = to.integer(1, 3)
        positions.append((padded - (size - 1) * dilation - 1) // stride + 1)
        for name, number in zip(names, (axis, size, stride, dilation, low, high), strict=True):
            lists[name].append(number)
    rest = [size for axis, size in enumerate(x.shape) if axis >= leading and axis not in axes]
    return Sliding(leading, lists, (*x.shape[:leading], *positions), (*rest, *lists["sizes"]))


def padding(to: Drawing, x: Value) -> str:
    number = to.choose("0.0", "-1.5") if x.type.element == "f32" else str(to.integer(-2, 2))
    return f"padding = {number} : {x.type.element}"


def without_units(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def windows(to: Drawing) -> None:
    x = to.tensor(
        ("f32", "i8", "i32"),
        (1, 4),
        where=lambda shape: any(size is not None and size > 1 for size in shape),
        otherwise=lambda: (*to.shape((0, 2)), to.size(), to.choose(4, 8)),
    )
    slid = sliding(to, x)
    type = Type(x.type.element, without_units((*slid.positions, *slid.held)))
    to.emit(f"ternary.windows {x} {slid} {padding(to, x)} : {x.type} -> {type}", type)


def convolve(to: Drawing) -> None:
    # What a window holds is static, so that only the first axis, which leads, may be dynamic.
    x = to.tensor(
        ("i8", "f32"),
        (1, 4),
        where=lambda shape: None not in shape[1:] and any((size or 0) > 1 for size in shape),
        otherwise=lambda: (
            *to.choose((), (2,), (None,)[: to.limits.dynamic != "never"]),
            to.size(),
            to.choose(4, 8),
        ),
    )
    slid = sliding(to, x, least_leading=int(x.shape[0] is None))
    columns = prod(size or 0 for size in slid.held)
    groups = to.choose(*(n for n in (1, 2, 3) if columns % n == 0))
    w = to.weight(TRIT, (groups * to.integer(1, 3), columns // groups), "trits")
    acc = Type("f32" if x.type.element == "f32" else "i32", (*without_units(slid.positions), w.shape[0]))
    attribute = f" groups = {groups}" if groups != 1 else ""
    to.emit(
        f"ternary.convolve {x}, {w}{attribute} {slid} {padding(to, x)} : {x.type}, {w.type} -> {acc}", acc
    )


def gather(to: Drawing) -> None:
    data = to.tensor(
        ("f32", "i8", "i32", "i64"),
        (1, 3),
        where=lambda shape: any(shape),
        otherwise=lambda: (*to.shape((0, 1)), to.size()),
    )
    axis = to.choose(*(n for n, size in enumerate(data.shape) if size))
    indices = to.tensor(("i64", "i32"), (0, 2))
    if None in data.shape and None in indices.shape and to.limits.dynamic == "leading":
        indices = to.value(Type("i64", (2,)))
    type = Type(data.type.element, (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]))
    to.emit(f"ternary.gather {data}, {indices} axis = {axis} : {data.type}, {indices.type} -> {type}", type)


def top_k(to: Drawing) -> None:
    x = to.tensor(
        ("f32", "i32", "i8"),
        (1, 3),
        where=lambda shape: shape[-1] is not None,
        otherwise=lambda: (*to.shape((0, 2)), to.size()),
    )
    k = to.integer(1, x.last)
    shape = tuple(size for size in (*x.shape[:-1], k) if size != 1)
    values, indices = Type(x.type.element, shape), Type("i64", shape)
    order = to.choose("largest", "smallest")
    to.emit(f'ternary.top_k {x} k = {k} order = "{order}" : {x.type} -> {values}, {indices}', values, indices)


RECIPES: dict[str, Callable[[Drawing], None]] = {
    "ternary.rms_norm": rms_norm,
    "ternary.quantize": quantize,
    "ternary.norm_quantize": norm_quantize,
    "ternary.accumulate": accumulate,
    "ternary.dequantize": dequantize,
    "ternary.threshold": threshold,
    "ternary.scan": scan,
    "ternary.embedding": embedding,
    "ternary.elementwise": elementwise,
    "ternary.project": project,
    "ternary.absmean": absmean,
    "ternary.ternarize": ternarize,
    "ternary.weight": derived_weight,
    "ternary.windows": windows,
    "ternary.convolve": convolve,
    "ternary.gather": gather,
    "ternary.top_k": top_k,
}
