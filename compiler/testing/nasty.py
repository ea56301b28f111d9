"""Numbers that break kernels, from a numpy generator alone: rows of zeros, one huge outlier, ties, denormals, NaN.

`rows_of_floats(generator, (T, K), kinds)` makes every row one of the kinds. The strategies of this package draw the
kinds with Hypothesis, so that a failure shrinks to plain rows; `sterna verify` draws them from its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Generator = np.random.Generator

SPECIAL = (0.0, -0.0, 1e-45, 1e-38, 3e38, np.inf, -np.inf, np.nan)
"""Kinds of floats that arithmetic treats in its own way."""

DENORMAL = np.float32(1e-40)
HUGE = np.float32(1e6)
NEAR_OVERFLOW = np.float32(1e18)
"""Its square is just finite."""


def _zero(generator: Generator, count: int) -> Array:
    return np.zeros(count, np.float32)


def _one_hot(generator: Generator, count: int) -> Array:
    row = np.zeros(count, np.float32)
    row[generator.integers(count)] = 1
    return row


def _small_integers(generator: Generator, count: int) -> Array:
    return generator.integers(-4, 5, count).astype(np.float32)


def _normal(generator: Generator, count: int) -> Array:
    return generator.standard_normal(count, np.float32)


def _ties(generator: Generator, count: int) -> Array:
    """Largest magnitude 127, so that quantization multiplies by one and halves are ties of its rounding."""
    row = generator.integers(-254, 255, count).astype(np.float32) / np.float32(2)
    row[0] = 127
    return row


def _outlier(generator: Generator, count: int) -> Array:
    row = _normal(generator, count)
    row[generator.integers(count)] = HUGE
    return row


def _denormal(generator: Generator, count: int) -> Array:
    return _normal(generator, count) * DENORMAL


def _large(generator: Generator, count: int) -> Array:
    return _normal(generator, count) * NEAR_OVERFLOW


def _saturated(generator: Generator, count: int) -> Array:
    """Every element at one end of the int8 range once it is quantized."""
    return generator.choice(np.array([-3e4, 3e4], np.float32), count)


def _mixed_magnitudes(generator: Generator, count: int) -> Array:
    return _normal(generator, count) * np.float32(10.0) ** generator.integers(-6, 7, count).astype(np.float32)


def _with_special(generator: Generator, count: int) -> Array:
    row = _normal(generator, count)
    row[generator.integers(count)] = generator.choice(np.array(SPECIAL, np.float32))
    return row


def _any_bits(generator: Generator, count: int) -> Array:
    # One quiet NaN stands for all: which NaN an operation gives is nobody's promise.
    row = generator.integers(0, 1 << 32, count, np.uint32).view(np.float32)
    return np.where(np.isnan(row), np.float32(np.nan), row)


FINITE: dict[str, Callable[[Generator, int], Array]] = {
    "zero": _zero,
    "one-hot": _one_hot,
    "small integers": _small_integers,
    "normal": _normal,
    "ties": _ties,
    "outlier": _outlier,
    "denormal": _denormal,
    "large": _large,
    "saturated": _saturated,
    "mixed magnitudes": _mixed_magnitudes,
}
"""Kinds of rows whose elements are finite, the plainest first."""

ANY: dict[str, Callable[[Generator, int], Array]] = {
    **FINITE,
    "with a special value": _with_special,
    "any bits": _any_bits,
}
"""And those that may hold NaN or infinities."""


def rows_of_floats(generator: Generator, shape: Sequence[int], kinds: Sequence[str]) -> Array:
    """float32 of that shape, whose rows (along the last axis) are of the kinds in turn."""
    shape = tuple(shape)
    columns = shape[-1] if shape else 1
    rows = np.zeros((int(np.prod(shape[:-1])), columns), np.float32)
    if columns:
        for n, row in enumerate(rows):
            row[:] = ANY[kinds[n % len(kinds)]](generator, columns)
    return rows.reshape(shape)


INTEGERS: dict[str, Callable[[Generator, np.dtype[Any], int], Array]] = {
    "zero": lambda generator, dtype, count: np.zeros(count, dtype),
    "small": lambda generator, dtype, count: generator.integers(-2, 3, count).astype(dtype),
    "any": lambda generator, dtype, count: generator.integers(
        np.iinfo(dtype).min, np.iinfo(dtype).max, count, dtype, endpoint=True
    ),
    "least": lambda generator, dtype, count: np.full(count, np.iinfo(dtype).min, dtype),
    "greatest": lambda generator, dtype, count: np.full(count, np.iinfo(dtype).max, dtype),
    "ends": lambda generator, dtype, count: generator.choice(
        np.array([np.iinfo(dtype).min, -1, 0, 1, np.iinfo(dtype).max], dtype), count
    ),
}
"""Kinds of rows of integers: at one end of the range is where sums that are too narrow overflow."""


def rows_of_integers(
    generator: Generator, shape: Sequence[int], dtype: npt.DTypeLike, kinds: Sequence[str]
) -> Array:
    """Signed integers of that shape and dtype, whose rows are of the kinds in turn."""
    shape, dtype = tuple(shape), np.dtype(dtype)
    columns = shape[-1] if shape else 1
    rows = np.zeros((int(np.prod(shape[:-1])), columns), dtype)
    for n, row in enumerate(rows):
        row[:] = INTEGERS[kinds[n % len(kinds)]](generator, dtype, columns)
    return rows.reshape(shape)


TRITS: dict[str, Callable[[Generator, int], Array]] = {
    "zero": lambda generator, count: np.zeros(count, np.int8),
    "all +1": lambda generator, count: np.ones(count, np.int8),
    "all -1": lambda generator, count: np.full(count, -1, np.int8),
    "any": lambda generator, count: generator.integers(-1, 2, count).astype(np.int8),
    "sparse": lambda generator, count: (
        generator.integers(-1, 2, count) * (generator.integers(0, 10, count) == 0)
    ).astype(np.int8),
}


def rows_of_trits(generator: Generator, shape: Sequence[int], kinds: Sequence[str]) -> Array:
    """int8 in {-1, 0, +1} of that shape, whose rows are of the kinds in turn."""
    shape = tuple(shape)
    columns = shape[-1] if shape else 1
    rows = np.zeros((int(np.prod(shape[:-1])), columns), np.int8)
    for n, row in enumerate(rows):
        row[:] = TRITS[kinds[n % len(kinds)]](generator, columns)
    return rows.reshape(shape)
