"""What a transformer with a cache is made of. Rows of a call, of which `inputs_of` draws few, fit every cache here."""

from __future__ import annotations

from collections.abc import Callable

from sterna.testing.drawing import Drawing, Type, Value

CAPACITIES = (16, 20, 40)
"""Rows of a cache: a block, not a whole number of them, several."""


def rows(to: Drawing, columns: int) -> Type:
    """f32 `[T, columns]`."""
    return Type("f32", (None if to.limits.dynamic != "never" else 3, columns))


def state(to: Drawing, type: Type) -> Value:
    """An argument that one operation alone reads."""
    argument = to.argument(type)
    to.values.remove(argument)
    return argument


def counted(to: Drawing, x: Value, capacity: int) -> Value:
    """Where the rows of x stand."""
    start, places = state(to, Type("i64", ())), Type("i64", x.shape[:1])
    text = f"ternary.positions {start} of {x} capacity = {capacity} : {start.type}, {x.type}"
    positions, following = to.emit(f"{text} -> {places}, {start.type}", places, start.type)
    to.states.append((start, following))
    return positions


def positions(to: Drawing) -> None:
    counted(to, to.value(rows(to, to.size())), to.choose(*CAPACITIES))


def rotate(to: Drawing) -> None:
    half = to.choose(2, 1, 4, 10)
    x, angles = to.value(rows(to, 2 * half * to.integer(1, 3))), rows(to, half)
    cos, sin = to.value(angles), to.value(angles)
    to.emit(f"ternary.rotate {x} by {cos}, {sin} : {x.type}, {angles}", x.type)


def attention(to: Drawing) -> None:
    kv_heads, columns, capacity = to.integer(1, 2), to.choose(4, 1, 16, 20), to.choose(*CAPACITIES)
    heads = kv_heads * to.integer(1, 3)
    wide, narrow = rows(to, heads * columns), rows(to, kv_heads * columns)
    q, k, v = to.value(wide), to.value(narrow), to.value(narrow)
    places = counted(to, q, capacity)
    cache = Type("f32", (capacity, kv_heads * columns))
    keys, values = state(to, cache), state(to, cache)
    sizes = f"heads = {heads} kv_heads = {kv_heads} scale = {to.choose('0.5', '1.0')} block = 16 lanes = 16"
    _, new_keys, new_values = to.emit(
        f"ternary.attention {q}, {k}, {v} at {places} cache {keys}, {values} {sizes} "
        f": {wide}, {narrow}, {places.type}, {cache}",
        wide,
        cache,
        cache,
    )
    to.states += [(keys, new_keys), (values, new_values)]


RECIPES: dict[str, Callable[[Drawing], None]] = {
    "ternary.positions": positions,
    "ternary.rotate": rotate,
    "ternary.attention": attention,
}
