"""What it means that two results are the same: every bit, some ulp, a tolerance, or the same tokens.

A contract says of a result and what was expected whether it holds, and where it first does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sterna.passes.tolerance import Tolerance

Array = npt.NDArray[Any]

FAR = 1 << 62
"""Ulps between values that no number of steps joins: a NaN and a number, say."""


@dataclass(frozen=True)
class Difference:
    """The worst place where a contract does not hold."""

    output: int
    index: tuple[int, ...]
    expected: str
    found: str
    ulps: int | None
    wrong: int
    """Elements, or rows of tokens, that break the contract."""
    total: int

    def __str__(self) -> str:
        at = f" at {list(self.index)}" if self.index else ""
        apart = (
            ""
            if self.ulps is None
            else f", {self.ulps} ulp apart"
            if self.ulps < FAR
            else ", no number of ulp apart"
        )
        return (
            f"output {self.output}{at}: expected {self.expected}, found {self.found}{apart} "
            f"({self.wrong} of {self.total} wrong)"
        )


class Contract(Protocol):
    @property
    def source(self) -> str:
        """As Python writes it."""
        ...

    def broken(self, expected: Array, found: Array) -> Array:
        """Which elements (or rows) break the contract; both arrays have one shape and dtype."""
        ...


def compare(contract: Contract, expected: Sequence[Array], found: Sequence[Array]) -> Difference | None:
    """The worst difference of the first output that breaks the contract; None where all hold."""
    if len(expected) != len(found):
        return Difference(0, (), f"{len(expected)} outputs", f"{len(found)}", None, 1, 1)
    for number, (a, b) in enumerate(zip(expected, found, strict=True)):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or (a.dtype != b.dtype and isinstance(contract, BitExact)):
            return Difference(
                number, (), f"{a.dtype}{list(a.shape)}", f"{b.dtype}{list(b.shape)}", None, 1, 1
            )
        with np.errstate(all="ignore"):
            wrong = np.asarray(contract.broken(a, b))
        if wrong.any():
            return _worst(number, a, b, wrong)
    return None


def _worst(number: int, a: Array, b: Array, wrong: Array) -> Difference:
    if wrong.shape != a.shape:
        # Rows of scores, of which the tokens differ.
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        first, second = (f"token {int(np.argmax(x[at]))}" for x in (a, b))
        return Difference(number, at, first, second, None, int(wrong.sum()), wrong.size)
    distances = ulps(a, b)
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.where(wrong, distances, -1))), a.shape))
    return Difference(
        number, at, str(a[at]), str(b[at]), int(distances[at]), int(wrong.sum()), int(wrong.size)
    )


def ulps(a: Array, b: Array) -> npt.NDArray[np.int64]:
    """How many representable values lie between two arrays of one shape, element by element; -0 is next to +0.

    Any NaN equals any NaN. For integers it is their difference.
    """
    if a.dtype.kind != "f":
        return np.minimum(np.abs(a.astype(np.float64) - b.astype(np.float64)), FAR).astype(np.int64)
    b = b.astype(a.dtype)
    bits = np.dtype(f"i{a.dtype.itemsize}")
    least = np.int64(np.iinfo(bits).min)
    ordered: list[Array] = []
    for values in (a, b):
        whole = np.ascontiguousarray(values).view(bits).astype(np.int64).reshape(values.shape)
        ordered.append(np.where(whole < 0, least - whole - 1, whole))
    distance = np.abs(ordered[0] - ordered[1])
    one_nan = np.isnan(a) != np.isnan(b)
    return np.where(np.isnan(a) & np.isnan(b), 0, np.where(one_nan, FAR, distance))


def worst_ulps(expected: Sequence[Array], found: Sequence[Array]) -> int:
    """The largest distance over all outputs; FAR where shapes differ."""
    pairs = list(zip(expected, found, strict=False))
    if len(expected) != len(found) or any(a.shape != b.shape for a, b in pairs):
        return FAR
    return max((int(ulps(a, b).max(initial=0)) for a, b in pairs), default=0)


@dataclass(frozen=True)
class BitExact:
    """Equal shapes, dtypes and bits; any NaN is as good as another, and -0 is not +0."""

    source: str = "bit_exact"

    def broken(self, expected: Array, found: Array) -> Array:
        return ulps(expected, found) != 0


bit_exact = BitExact()


@dataclass(frozen=True)
class ulp:
    """At most `n` representable values apart, and infinities and NaN in the same places."""

    n: int

    @property
    def source(self) -> str:
        return f"ulp({self.n})"

    def broken(self, expected: Array, found: Array) -> Array:
        wrong = ulps(expected, found) > self.n
        if expected.dtype.kind == "f":
            wrong |= (np.isinf(expected) | np.isinf(found)) & (expected != found)
        return wrong


@dataclass(frozen=True)
class tolerance:
    """|found - expected| <= atol + rtol * |expected|; NaN where NaN is expected.

    With `of_largest`, the allowance is the same for all elements: atol + rtol * max|expected|.
    """

    rtol: float = 0.0
    atol: float = 0.0
    of_largest: bool = False

    @property
    def source(self) -> str:
        return f"tolerance({self.rtol!r}, {self.atol!r}{', of_largest=True' if self.of_largest else ''})"

    def broken(self, expected: Array, found: Array) -> Array:
        a, b = expected.astype(np.float64), found.astype(np.float64)
        magnitude = np.abs(a)
        if self.of_largest:
            magnitude = np.asarray(magnitude[np.isfinite(magnitude)].max(initial=0.0))
        close = np.abs(b - a) <= self.atol + self.rtol * magnitude
        return ~(close | (a == b) | (np.isnan(a) & np.isnan(b)))


@dataclass(frozen=True)
class token_agreement:
    """The largest of the last axis stands at the same place in at least this part of the rows.

    Rows whose two largest expected scores are within `ties` do not count: noise decides them.
    """

    at_least: float = 1.0
    ties: float = 0.0

    @property
    def source(self) -> str:
        return f"token_agreement({self.at_least!r}, ties={self.ties!r})"

    def broken(self, expected: Array, found: Array) -> Array:
        wrong = np.argmax(expected, -1) != np.argmax(found, -1)
        if expected.shape[-1] > 1:
            largest = np.sort(expected, -1)[..., -2:]
            wrong &= largest[..., 1] - largest[..., 0] > self.ties
        agreed = 1 - wrong.mean() if wrong.size else 1.0
        return np.zeros_like(wrong) if agreed >= self.at_least else wrong


def of_pass(stated: Tolerance) -> Contract:
    """What a pass promises (`sterna.passes.tolerance`)."""
    return tolerance(stated.relative, of_largest=True) if stated.relative else bit_exact
