"""Proofs by z3 of the integer identities that passes and kernels rest on.

Numbers are bit vectors of the machine's own width, so that wrapping is part of what is proved. Where a sum has any
length, the proof is by induction over it: a first sum of nothing, and one step from an arbitrary sum that fits.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import z3

from sterna.targets.cpu import dot
from sterna.targets.cpu.dot import AVX2_GROUP, BASELINE_GROUP, FIELDS, MAX_TILES, ROW_BYTES

COLUMNS = 6
"""Of the products that are written out."""


def prove(claim: z3.BoolRef, *given: z3.BoolRef) -> None:
    solver = z3.Solver()
    solver.set("timeout", 60_000)
    solver.add(*given, z3.Not(claim))
    found = solver.check()
    assert found == z3.unsat, f"{found}: {solver.model() if found == z3.sat else solver.reason_unknown()}"


def int8(name: str, width: int = 32) -> z3.BitVecRef:
    """Any int8, as an integer of that width."""
    return z3.SignExt(width - 8, z3.BitVec(name, 8))


def trit(name: str) -> tuple[z3.BitVecRef, z3.BoolRef]:
    value = z3.BitVec(name, 32)
    return value, z3.And(value >= -1, value <= 1)


def product(q: z3.BitVecRef, w: z3.BitVecRef) -> z3.BitVecRef:
    """q * w for a trit: an addition, a subtraction or nothing."""
    return z3.If(w == 1, q, z3.If(w == -1, -q, z3.BitVecVal(0, 32)))


def rows(count: int = COLUMNS) -> tuple[list[z3.BitVecRef], list[z3.BitVecRef], list[z3.BoolRef]]:
    w, are_trits = zip(*(trit(f"w{k}") for k in range(count)), strict=True)
    return [int8(f"q{k}") for k in range(count)], list(w), list(are_trits)


def accumulate(q: list[z3.BitVecRef], w: list[z3.BitVecRef]) -> z3.BitVecRef:
    return sum((product(a, b) for a, b in zip(q, w, strict=True)), z3.BitVecVal(0, 32))


def test_a_product_with_a_trit_is_an_addition() -> None:
    w, is_trit = trit("w")
    prove(product(int8("q"), w) == int8("q") * w, is_trit)


@pytest.mark.parametrize("cut", range(COLUMNS + 1))
def test_an_accumulate_splits_over_its_columns(cut: int) -> None:
    q, w, are_trits = rows()
    prove(accumulate(q, w) == accumulate(q[:cut], w[:cut]) + accumulate(q[cut:], w[cut:]), *are_trits)


def test_an_accumulate_may_run_in_any_order_of_columns() -> None:
    """Tiles, fields, lanes and threads are orders of the columns; exchanging neighbours makes them all."""
    q, w, are_trits = rows()
    for k, other in pairwise(range(COLUMNS)):
        order = list(range(COLUMNS))
        order[k], order[other] = other, k
        prove(accumulate(q, w) == accumulate([q[n] for n in order], [w[n] for n in order]), *are_trits)


def test_rows_of_weights_that_are_stacked_give_their_own_sums() -> None:
    """Batching: a projection of two weights at once has the elements of both, whatever the other's weights are."""
    q, w, are_trits = rows()
    others = [z3.BitVec(f"v{k}", 32) for k in range(COLUMNS)]
    stacked = [w, others]
    prove(accumulate(q, stacked[0]) == accumulate(q, w), *are_trits)


def exact_product(q: z3.ArithRef, w: z3.ArithRef) -> z3.ArithRef:
    """q * w for w from -1 to 2, in integers without bound."""
    return z3.If(w == 1, q, z3.If(w == -1, -q, z3.If(w == 2, 2 * q, z3.IntVal(0))))


def test_an_integer_scale_commutes_with_an_accumulate() -> None:
    """The step of the induction over the columns; reducing modulo 2^32 keeps sums and products."""
    scale, acc, scaled, q, w = z3.Ints("scale acc scaled q w")
    step = exact_product(scale * q, w)
    prove(scaled + step == scale * (acc + exact_product(q, w)), scaled == scale * acc, w >= -1, w <= 1)


def test_a_negated_row_of_weights_negates_its_sum() -> None:
    """The step of the induction over the columns, modulo 2^32."""
    acc, negated = z3.BitVecs("acc negated", 32)
    w, is_trit = trit("w")
    q = int8("q")
    prove(negated + product(q, -w) == -(acc + product(q, w)), negated == -acc, is_trit)


def test_comparisons_turn_around_when_both_sides_are_negated() -> None:
    """So a threshold on a falling channel is one on its negated weights: sums of 2^24 int8 and trits fit by far."""
    acc, bound = z3.BitVecs("acc bound", 32)
    limit = 1 << 31 - 1
    fit = [z3.And(v >= -limit, v <= limit) for v in (acc, bound)]
    prove((acc <= bound) == (-acc >= -bound), *fit)


def test_weights_stored_with_an_offset_need_one_subtraction_a_row() -> None:
    """sum q (w + 1) - sum q = sum q w, for any number of columns: the step of the induction, modulo 2^32."""
    sum_of_fields, sum_of_q, acc = z3.BitVecs("fields activations acc", 32)
    w, is_trit = trit("w")
    q = int8("q")
    hypothesis = sum_of_fields - sum_of_q == acc
    prove(sum_of_fields + q * (w + 1) - (sum_of_q + q) == acc + product(q, w), hypothesis, is_trit)


def test_padded_columns_add_nothing_whatever_their_weight() -> None:
    field = z3.BitVec("field", 32)
    prove(z3.BitVecVal(0, 32) * field == 0)


# --- avx512vnni: fields masked where they are, shifted once at the end


@pytest.mark.parametrize("field", range(FIELDS))
def test_a_mask_without_a_shift_gives_the_field_times_a_power_of_four(field: int) -> None:
    byte = z3.BitVec("byte", 8)
    masked = byte & (dot._mask(field) & 0xFF)  # pyright: ignore[reportPrivateUsage]
    prove(z3.ZeroExt(24, masked) == (z3.ZeroExt(24, z3.LShR(byte, 2 * field)) & 3) << 2 * field)


@pytest.mark.parametrize("field", range(FIELDS))
def test_fields_in_place_add_up_in_int32_and_shift_back_exactly(field: int) -> None:
    """For every width up to MAX_TILES tiles. A lane adds four products (one `vpdpbusd`) of a field a tile."""
    scale, largest = 4**field, 4 * (2 << 2 * field) * 128
    tiles, total, exact = z3.Ints("tiles total exact")
    values, activations = z3.Ints("f0 f1 f2 f3"), z3.Ints("q0 q1 q2 q3")
    given = [tiles >= 0, tiles < MAX_TILES, total == scale * exact]
    given += [total <= tiles * largest, total >= -tiles * largest]
    given += [z3.And(f >= 0, f <= 2) for f in values]
    given += [z3.And(q >= -128, q <= 127) for q in activations]
    added = z3.Sum([exact_product(q, f) for f, q in zip(values, activations, strict=True)])
    after = total + scale * added
    prove(z3.And(after <= (tiles + 1) * largest, after >= -(tiles + 1) * largest), *given)
    prove(z3.And(after < 1 << 31, after >= -(1 << 31)), *given)
    prove(after == scale * (exact + added), *given)
    # What the one shift at the end gives, in the machine's words.
    word = z3.BitVec("word", 32)
    fits = (
        z3.And(word <= (1 << 31 - 2 * field) - 1, word >= -(1 << 31 - 2 * field))
        if field
        else z3.BoolVal(True)
    )
    prove((word << 2 * field) >> 2 * field == word, fits)


def test_the_sum_of_four_shifted_fields_is_the_row_of_bytes() -> None:
    """All lanes and fields of a row: at most 2 * 128 a column."""
    columns = MAX_TILES * ROW_BYTES * FIELDS
    assert columns * 2 * 128 <= 1 << 31
    # -2^31 itself fits; +2^31 would not, and the largest activation is 127.
    assert columns * 2 * 127 < 1 << 31


# --- avx2: saturating pairs, int16 sums over AVX2_GROUP tiles


@pytest.mark.parametrize(("in_place", "bound"), [(0, 512), (2, 2048)])
def test_a_pair_of_vpmaddubsw_never_saturates(in_place: int, bound: int) -> None:
    """Two products, unsigned by signed, added in int16 with saturation."""
    fields = [z3.BitVec(f"f{n}", 32) for n in range(2)]
    given = [z3.And(f >= 0, f <= 2) for f in fields]
    exact = sum(((f << in_place) * int8(f"q{n}") for n, f in enumerate(fields)), z3.BitVecVal(0, 32))
    prove(z3.And(exact >= -bound, exact <= bound * 127 // 128), *given)


@pytest.mark.parametrize(
    ("additions", "bound"),
    [
        # In a tile: two halves and two fields of each kind, as pairs (avx2) or four quarters, two parities, two fields.
        (AVX2_GROUP * 4, 2 * 2 * 128),
        (AVX2_GROUP * 4, 2 * 8 * 128),
        (BASELINE_GROUP * 16, 2 * 128),
        (BASELINE_GROUP * 16, 8 * 128),
    ],
    ids=["avx2 low", "avx2 high", "baseline low", "baseline high"],
)
def test_sums_of_a_group_fit_int16(additions: int, bound: int) -> None:
    """Addition number n of a group: from any sum of n - 1, which is as large as n - 1 additions make it."""
    n, total, added = z3.BitVecs("n total added", 32)
    low, high = -bound, bound * 127 // 128
    given = z3.And(n >= 0, n < additions, total >= n * low, total <= n * high, added >= low, added <= high)
    narrow = z3.Extract(15, 0, total) + z3.Extract(15, 0, added)
    prove(z3.SignExt(16, narrow) == total + added, given)
    prove(z3.And(total + added >= (n + 1) * low, total + added <= (n + 1) * high), given)


@pytest.mark.parametrize("group", [AVX2_GROUP * 4 * 4, BASELINE_GROUP * 16 * 2], ids=["avx2", "baseline"])
def test_fields_two_bits_up_shift_back_exactly_and_both_halves_fit(group: int) -> None:
    """`low + (high >> 2)` where high is four times a sum; `group` products of at most 2 * 128 reach either."""
    low, high = z3.BitVecs("low high", 32)
    bound = group * 128
    given = [z3.And(v >= -bound, v <= bound) for v in (low, high)]
    fits = high << 2 >= -(1 << 15), high << 2 < 1 << 15
    narrow = z3.Extract(15, 0, low) + (z3.Extract(15, 0, high << 2) >> 2)
    prove(z3.SignExt(16, narrow) == low + high, *given, *fits)


def test_a_shift_of_words_and_the_masks_give_the_upper_fields_of_both_bytes() -> None:
    """avx2 shifts 16-bit words by 4: what crosses from the other byte is masked away."""
    word = z3.BitVec("word", 16)
    shifted = z3.LShR(word, 4)
    for byte in range(2):
        original, moved = (z3.Extract(8 * byte + 7, 8 * byte, v) for v in (word, shifted))
        prove(moved & 0x03 == z3.LShR(original, 4) & 0x03)
        prove(moved & 0x0C == (z3.LShR(original, 6) & 0x03) << 2)


# --- baseline: lanes of int16 with two bytes each


def test_words_hold_the_fields_and_activations_of_two_bytes() -> None:
    word = z3.BitVec("word", 16)
    low, high = z3.Extract(7, 0, word), z3.Extract(15, 8, word)
    prove((word << 8) >> 8 == z3.SignExt(8, low))
    prove(word >> 8 == z3.SignExt(8, high))
    for bits, byte, pair in ((0, low, 0), (4, low, 2), (8, high, 0), (12, high, 2)):
        shifted = z3.LShR(word, bits)
        for mask, up, field in ((0x03, 0, pair), (0x0C, 2, pair + 1)):
            expected = z3.ZeroExt(8, z3.LShR(byte, 2 * field) & 3) << up
            prove(shifted & mask == expected)


def test_pairs_of_int16_widen_to_their_sum() -> None:
    first, second = z3.BitVecs("first second", 16)
    pair = z3.Concat(second, first)
    widened = ((pair << 16) >> 16) + (pair >> 16)
    prove(widened == z3.SignExt(16, first) + z3.SignExt(16, second))
    # And so does vpmaddwd by ones.
    prove(widened == z3.SignExt(16, first) * 1 + z3.SignExt(16, second) * 1)
