"""What the operations of the `fixed` dialect compute, in numpy: exact on int64, which holds every width up to 63."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]

WIDEST = 63
"""Bits of the widest operand: one fewer than int64 has, so that no step below overflows."""


def limits(width: int) -> tuple[int, int]:
    """The least and the greatest integer of that many bits, two's complement."""
    return -(1 << width - 1), (1 << width - 1) - 1


def wrap(values: Array, width: int) -> Array:
    """The integer of that width which has the same low bits, in the same dtype, which is no narrower."""
    unused = values.dtype.type(values.dtype.itemsize * 8 - width)
    return np.asarray((values << unused) >> unused)


def as_unsigned(values: Array, width: int) -> Integers:
    """The same bits without a sign."""
    return values.astype(np.int64) & np.int64((1 << width) - 1)


def saturate(values: Integers, width: int) -> Integers:
    low, high = limits(width)
    return np.clip(values, np.int64(low), np.int64(high))


def round_shift(values: Integers, bits: int) -> Integers:
    """floor(x / 2**bits + 1/2) for bits >= 0: the bit below the last one kept is added to what is kept."""
    if bits == 0:
        return values
    above = values >> min(bits - 1, WIDEST)
    return (above + 1) >> 1


def round_shifts(values: Integers, bits: Integers) -> Integers:
    """The same, every number by its own bits."""
    above = values >> np.clip(bits - 1, 0, WIDEST)
    return np.where(bits == 0, values, (above + 1) >> 1)


def shift_left(values: Integers, bits: int, width: int) -> Integers:
    """x * 2**bits, or the limit of that width which it lies beyond."""
    low, high = limits(width)
    lowest = -(1 << width - 1 - bits) if bits < width else 0
    highest = high >> bits if bits < width else 0
    inside = np.clip(values, lowest, highest) << np.int64(min(bits, WIDEST))
    return np.where(values > highest, high, np.where(values < lowest, low, inside))


def rescale(values: Array, bits: int, width: int) -> Integers:
    """x / 2**bits, rounded half up and saturated to that width; negative `bits` multiply."""
    exact = values.astype(np.int64)
    if bits < 0:
        return shift_left(exact, -bits, width)
    return saturate(round_shift(exact, bits), width)


def shift_right(values: Array, bits: Array, bits_width: int, width: int) -> Integers:
    """The same with a number of bits, read without a sign, for every value."""
    return saturate(round_shifts(values.astype(np.int64), as_unsigned(bits, bits_width)), width)


def leading_zeros(values: Integers, width: int) -> Integers:
    """How many of the top bits of a positive integer of that many bits are zero."""
    remaining, length = values.copy(), np.zeros_like(values)
    for step in (32, 16, 8, 4, 2, 1):
        wide = remaining >> step > 0
        length += np.where(wide, step, 0)
        remaining = np.where(wide, remaining >> step, remaining)
    return width - 1 - length


def normalize(values: Array, width: int, mantissa: int, step: int) -> tuple[Integers, Integers]:
    """(m, n) of max(x, 1), which has `width` bits without its sign: x = m * 2**(width - mantissa - n), m truncated.

    n is the largest multiple of `step` that shifts no one out.
    """
    positive = np.maximum(values.astype(np.int64), 1)
    shift = leading_zeros(positive, width) // step * step
    shifted = positive << shift
    kept = shifted >> (width - mantissa) if width >= mantissa else shifted << (mantissa - width)
    return kept, shift


def interpolate(values: Array, width: int, samples: Integers, *, is_signed: bool) -> Integers:
    """Piecewise linear between samples at equal distances over the whole range of `width` bits, rounded half up."""
    position = values.astype(np.int64) + (1 << width - 1) if is_signed else as_unsigned(values, width)
    low = width - (len(samples) - 1).bit_length() + 1
    index, rest = position >> low, position & ((1 << low) - 1)
    return samples[index] + round_shift((samples[index + 1] - samples[index]) * rest, low)


def scan(f: Array, i: Array, state: Array, bits: int, width: int) -> tuple[Integers, Integers]:
    """s = saturate(round(f[t] * s / 2**bits) + i[t]) over axis -2; returns every s, and the last."""
    forget, inputs, state = f.astype(np.int64), i.astype(np.int64), state.astype(np.int64)
    states = np.empty_like(inputs)
    for t in range(inputs.shape[-2]):
        state = saturate(round_shift(forget[..., t, :] * state, bits) + inputs[..., t, :], width)
        states[..., t, :] = state
    return states, state


def from_float(values: Array, point: int, width: int) -> Integers:
    """x * 2**point, rounded half to even and saturated; 0 for NaN."""
    scaled = np.rint(
        np.nan_to_num(values.astype(np.float64) * 2.0**point, nan=0.0, posinf=np.inf, neginf=-np.inf)
    )
    low, high = limits(width)
    # The greatest integer of 54 bits and more is no float64: compare first.
    inside = np.where((scaled >= low) & (scaled < float(high + 1)), scaled, 0.0).astype(np.int64)
    return np.where(scaled >= float(high + 1), high, np.where(scaled < low, low, inside))


def to_float(values: Array, point: int) -> npt.NDArray[np.float32]:
    """x / 2**point in float32, rounded once."""
    return (values.astype(np.float64) * 2.0**-point).astype(np.float32)
