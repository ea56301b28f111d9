"""The arithmetic that kernels take trits out of base 3 with: every byte by enumeration, sums and words by z3."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import z3

from sterna.dialects.packing import BASE_3, ZERO_TRITS
from sterna.targets.cpu.dot_b3 import DIGITS, GROUP, MAX_COLUMNS
from tests.proofs.test_integer_products import int8, prove

BYTES = np.arange(256)


def digit_and_rest(x: z3.BitVecRef) -> tuple[z3.BitVecRef, z3.BitVecRef]:
    """3 x = 256 d + x', for a byte x in a 32-bit word."""
    return z3.LShR(3 * x, 8), (3 * x) & 0xFF


def a_byte(name: str) -> z3.BitVecRef:
    return z3.ZeroExt(24, z3.BitVec(name, 8))


def test_tripling_a_byte_brings_its_digits_out_one_by_one() -> None:
    """Of all 243 numbers: the highest first, as `EncodingAttr` says."""
    for number, digits in enumerate(product(range(3), repeat=DIGITS)):
        byte = BASE_3[number]
        assert 0 <= byte < 256
        for digit in digits:
            tripled = 3 * byte
            assert tripled >> 8 == digit
            byte = tripled & 0xFF
    assert len(set(BASE_3)) == 243


def test_any_byte_reads_as_five_digits_and_the_unused_ones_as_a_neighbour() -> None:
    """No byte leads a kernel to a digit above 2, so that what its sums are proved to fit in holds for any memory."""

    def digits(byte: int) -> tuple[int, ...]:
        found: list[int] = []
        for _ in range(DIGITS):
            found.append(3 * byte >> 8)
            byte = 3 * byte & 0xFF
        return tuple(found)

    unused = sorted(set(range(256)) - set(BASE_3))
    assert len(unused) == 13
    for byte in unused:
        assert max(digits(byte)) <= 2
        assert digits(byte) in {digits(byte - 1), digits(byte + 1)}


def test_zero_trits_stay_as_they_are() -> None:
    zero = int(ZERO_TRITS["b3"])
    assert zero == BASE_3[121]  # the digits 1, 1, 1, 1, 1
    assert (3 * zero >> 8, 3 * zero & 0xFF) == (1, zero)


# --- avx512vnni: sums of bytes, not of digits


def test_a_digit_is_a_difference_of_the_bytes_before_and_after_it() -> None:
    x = a_byte("x")
    digit, rest = digit_and_rest(x)
    prove(3 * x - rest == 256 * digit)
    prove(z3.ULE(digit, 2))


def test_sums_with_bytes_differ_by_256_times_the_sum_with_digits() -> None:
    """For any number of products, modulo 2^32: the step of the induction."""
    before, after, exact = z3.BitVecs("before after exact", 32)
    x, q = a_byte("x"), int8("q")
    digit, rest = digit_and_rest(x)
    step = 3 * (before + x * q) - (after + rest * q) == 256 * (exact + digit * q)
    prove(step, 3 * before - after == 256 * exact)


def test_the_difference_of_a_lane_fits_and_shifts_back_exactly() -> None:
    """A lane has four bytes of each sixteen columns, and five digits of a byte."""
    bound = MAX_COLUMNS // 4 * 2 * 128
    assert bound * 256 <= 1 << 31
    exact = z3.BitVec("exact", 32)
    # -2^31 itself fits; +2^31 would not, and the largest activation is 127.
    fits = z3.And(exact >= -bound, exact <= bound * 127 // 128)
    prove((exact * 256) >> 8 == exact, fits)


# --- avx2: digits by comparison


def test_two_comparisons_give_the_digit() -> None:
    assert np.array_equal((BYTES > 85).astype(int) + (BYTES > 170), 3 * BYTES >> 8)


def test_bytes_128_lower_compare_as_signed_ones_and_triple_as_the_others() -> None:
    signed = (BYTES - 128).astype(np.int8)
    assert np.array_equal(signed, (BYTES ^ 128).astype(np.uint8).view(np.int8)), (
        "adding 128 wraps to the same"
    )
    for bound in (85, 170):
        assert np.array_equal(signed > bound - 128, bound < BYTES)
    tripled = signed + signed + signed
    assert tripled.dtype == np.int8
    assert np.array_equal(tripled.astype(int) + 128, 3 * BYTES & 0xFF)


@pytest.mark.parametrize(
    ("additions", "bound"),
    [(GROUP * DIGITS, 2 * 2 * 128), (GROUP * DIGITS * 2, 2 * 128)],
    ids=["avx2: pairs", "baseline: two parities"],
)
def test_sums_of_a_group_fit_int16(additions: int, bound: int) -> None:
    """Addition number n of a group: from any sum of n - 1, which is as large as n - 1 additions make it."""
    n, total, added = z3.BitVecs("n total added", 32)
    low, high = -bound, bound * 127 // 128
    given = z3.And(n >= 0, n < additions, total >= n * low, total <= n * high, added >= low, added <= high)
    narrow = z3.Extract(15, 0, total) + z3.Extract(15, 0, added)
    prove(z3.SignExt(16, narrow) == total + added, given)
    prove(z3.And(total + added >= (n + 1) * low, total + added <= (n + 1) * high), given)


# --- baseline, GPU: bytes in lanes of 16 bits


def test_a_tripled_byte_has_its_digit_above_it_in_16_bits() -> None:
    word = z3.BitVec("word", 16)
    for x in (word & 0xFF, z3.LShR(word, 8)):
        byte = z3.ZeroExt(16, x)
        digit, rest = digit_and_rest(byte)
        prove(z3.ZeroExt(16, z3.LShR(3 * x, 8)) == digit)
        prove(z3.ZeroExt(16, 3 * x & 0xFF) == rest)


def test_bytes_of_a_word_triple_two_at_a_time() -> None:
    """`b3_vector_product`: even and odd bytes, and the digits of all four where `dp4a` takes the bytes."""
    word, mask = z3.BitVec("word", 32), 0x00FF00FF
    even, odd = 3 * (word & mask), 3 * (z3.LShR(word, 8) & mask)
    fields = (z3.LShR(even, 8) & mask) | (odd & ~z3.BitVecVal(mask, 32))
    rests = (even & mask) | ((odd & mask) << 8)
    for n in range(4):
        digit, rest = digit_and_rest(z3.ZeroExt(24, z3.Extract(8 * n + 7, 8 * n, word)))
        prove(z3.ZeroExt(24, z3.Extract(8 * n + 7, 8 * n, fields)) == digit)
        prove(z3.ZeroExt(24, z3.Extract(8 * n + 7, 8 * n, rests)) == rest)
