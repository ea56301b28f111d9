"""Rounding to int8 and to whole numbers, checked for every float32 where it could go wrong.

Adding 1.5 * 2^23 rounds because float32 has no fractions there. Every float of the binades from 2^-2 to 2^8 is
tried, of both signs: below, the sum is the constant itself, as correctly rounded addition is monotone and +-2^-2
already gives it; above, no caller goes (int8 is clamped to [-128, 127], and the arguments of exponentials to 151).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from sterna.dialects.numerics import ROUND_MAGIC, round_to_int8

F32 = npt.NDArray[np.float32]

BINADE = 1 << 23
"""Floats between one power of two and the next."""


def binades(first: int, last: int) -> Iterator[F32]:
    """Every float of both signs with 2^first <= |x| < 2^last, a binade of one sign at a time."""
    for exponent in range(first, last):
        bits = np.arange(exponent + 127 << 23, exponent + 128 << 23, dtype=np.uint32)
        for sign in (0, 1 << 31):
            yield (bits | np.uint32(sign)).view(np.float32)


def by_magic(x: F32) -> npt.NDArray[np.int32]:
    return (x + ROUND_MAGIC).view(np.int32) - ROUND_MAGIC.view(np.int32)


@pytest.mark.slow
def test_the_magic_constant_rounds_half_to_even() -> None:
    """168 million floats, all that there are from 2^-2 to 2^8; and by monotony the smaller ones."""
    for x in binades(-2, 8):
        assert np.array_equal(by_magic(x), np.rint(x).astype(np.int32))
    around_zero = np.array([0.25, -0.25, 0.0, -0.0, 1e-45, -1e-45], np.float32)
    assert not by_magic(around_zero).any()


@pytest.mark.slow
def test_clamping_before_rounding_is_clamping_after() -> None:
    """What the kernels do against what `numerics.round_to_int8` says, wherever either bound is near."""
    for x in binades(5, 9):
        kernel = by_magic(np.clip(x, np.float32(-128.0), np.float32(127.0)))
        assert np.array_equal(kernel.astype(np.int8), round_to_int8(x))
        assert kernel.min() >= -128 and kernel.max() <= 127


def test_what_is_far_out_or_not_finite_is_clamped() -> None:
    x = np.array([512.0, 3e38, np.inf, -512.0, -3e38, -np.inf, np.nan], np.float32)
    assert round_to_int8(x).tolist() == [127, 127, 127, -128, -128, -128, 0]
