"""Sizes that are known only when a program runs: sums of products of T, the number of rows, and the batch.

They come from the dimensions of inputs, pass through the arithmetic that graphs do on shapes, and end as dimensions of
tensors. A symbol is at least 1, and beyond that nothing is known of it: what would depend on more is `Unsupported`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from xdsl.dialects.builtin import DYNAMIC_INDEX

from sterna.frontends.onnx.errors import Unsupported

ROWS = "T"
BATCH = "B"

Product: TypeAlias = tuple[str, ...]
"""Symbols that are multiplied, sorted; none for the constant term."""


@dataclass(frozen=True)
class Size:
    """A sum of integer multiples of products of symbols, at least one of which is no number."""

    terms: tuple[tuple[Product, int], ...]

    @staticmethod
    def symbol(name: str) -> Size:
        return Size((((name,), 1),))

    def __add__(self, other: Dim) -> Dim:
        return _sum([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return _sum((product, -count) for product, count in self.terms)

    def __sub__(self, other: Dim) -> Dim:
        return self + -other

    def __rsub__(self, other: int) -> Dim:
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        return _sum(
            (tuple(sorted(p + q)), count * times) for p, count in self.terms for q, times in _terms(other)
        )

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        """The quotient, where nothing is left over."""
        if len(terms := _terms(other)) == 1:
            ((divisor, times),) = terms
            quotient = [(_without(p, divisor), count) for p, count in self.terms]
            if times and all(p is not None and count % times == 0 for p, count in quotient):
                return _sum((p, count // times) for p, count in quotient if p is not None)
        if self == other:
            return 1
        raise Unsupported(f"({self}) / ({other}) is not a whole number for every size")

    def __rfloordiv__(self, other: int) -> Dim:
        raise Unsupported(f"{other} / ({self}) is not a whole number for every size")

    def __mod__(self, other: Dim) -> Dim:
        return self - (self // other) * other

    def __str__(self) -> str:
        return " + ".join(_text(product, count) for product, count in self.terms)

    def has(self, symbol: str) -> bool:
        return any(symbol in product for product, _ in self.terms)

    def lower_bound(self) -> int | None:
        """The least value, if it is known."""
        return self._at_one() if all(count > 0 or not p for p, count in self.terms) else None

    def upper_bound(self) -> int | None:
        return self._at_one() if all(count < 0 or not p for p, count in self.terms) else None

    def _at_one(self) -> int:
        return sum(count for _, count in self.terms)


Dim: TypeAlias = "int | Size"
Shape: TypeAlias = tuple[Dim, ...]


def _terms(size: Dim) -> Sequence[tuple[Product, int]]:
    return size.terms if isinstance(size, Size) else [((), int(size))]


def _sum(terms: Iterable[tuple[Product, int]]) -> Dim:
    counts: dict[Product, int] = {}
    for product, count in terms:
        counts[product] = counts.get(product, 0) + count
    kept = tuple(sorted((product, count) for product, count in counts.items() if count))
    if all(not product for product, _ in kept):
        return sum(count for _, count in kept)
    return Size(kept)


def _without(product: Product, divisor: Product) -> Product | None:
    rest = list(product)
    for symbol in divisor:
        if symbol not in rest:
            return None
        rest.remove(symbol)
    return tuple(rest)


def _text(product: Product, count: int) -> str:
    return " ".join([*([str(count)] if count != 1 or not product else []), *product])


def is_less(left: Dim, right: Dim) -> bool:
    """left < right; Unsupported if it depends on the sizes."""
    difference = left - right
    if isinstance(difference, int):
        return difference < 0
    if (low := difference.lower_bound()) is not None and low >= 0:
        return False
    if (high := difference.upper_bound()) is not None and high < 0:
        return True
    raise Unsupported(f"whether {left} is less than {right} decides the graph: give the size a number")


def is_equal(left: Dim, right: Dim) -> bool:
    """left == right; Unsupported if it depends on the sizes."""
    difference = left - right
    if isinstance(difference, int):
        return difference == 0
    bounds = difference.lower_bound(), difference.upper_bound()
    if (bounds[0] is not None and bounds[0] > 0) or (bounds[1] is not None and bounds[1] < 0):
        return False
    raise Unsupported(f"whether {left} equals {right} decides the graph: give the size a number")


def ir_size(size: Dim) -> int:
    """What the size is in the IR: the batch is 1 there. Unsupported for what is neither a number nor T."""
    if not isinstance(size, Size):
        return size
    if len(size.terms) == 1:
        (product, count) = size.terms[0]
        rows = product.count(ROWS)
        if count > 0 and product.count(BATCH) <= 1 and (rows == 0 or (rows == 1 and count == 1)):
            return DYNAMIC_INDEX if rows else count
    raise Unsupported(f"the size {size} is neither a number nor T")


def ir_shape(shape: Shape) -> tuple[int, ...]:
    """The shape in the IR, which has no axes of size 1."""
    return tuple(size for size in map(ir_size, shape) if size != 1)


def count_elements(shape: Sequence[Dim]) -> Dim:
    total: Dim = 1
    for size in shape:
        total = total * size
    return total


def has_batch(size: Dim) -> bool:
    return isinstance(size, Size) and size.has(BATCH)


def shape_text(shape: Sequence[Dim]) -> str:
    return f"[{', '.join(map(str, shape))}]"
