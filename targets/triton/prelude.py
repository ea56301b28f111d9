# pyright: basic, reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
"""The vocabulary of emitted files: functions that `emitter.py` copies, as they stand here, where a kernel calls them.

All of them give the interpreter's bits: no function of Triton is called whose last bit is left open.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sterna.targets.triton.runtime import OVERLAP


@triton.jit
def take_turn():
    """Lets the next kernel start, as far as its own `take_turn`, and waits until the kernels before have ended."""
    if OVERLAP:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


@triton.jit
def negate(x):
    """-x, of zeros too: the compiler may write `-x` as 0 - x."""
    return x * -1.0


@triton.jit
def as_float(x):
    """A float of 16 or 32 bits as float32; of bfloat16 by its bits: Triton's interpreter takes small ones for zeros."""
    if x.dtype == tl.bfloat16:
        return (x.to(tl.int16, bitcast=True).to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        return x.to(tl.float32)


@triton.jit
def magnitude(x):
    return (x.to(tl.int32, bitcast=True) & 0x7FFFFFFF).to(tl.float32, bitcast=True)


@triton.jit
def with_sign_of(x, sign):
    bits = magnitude(x).to(tl.int32, bitcast=True) | (sign.to(tl.int32, bitcast=True) & -0x80000000)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def round_half_even(x):
    """Adding 2^23 to a magnitude below it rounds it; a larger one is whole."""
    rounded = (magnitude(x) + 8388608.0) - 8388608.0
    return tl.where(magnitude(x) < 8388608.0, with_sign_of(rounded, x), x)


@triton.jit
def truncate(x):
    """Rounds to nearest, as above, and takes one away where that was up. The device's own floor takes small numbers
    for zeros."""
    size = magnitude(x)
    near = (size + 8388608.0) - 8388608.0
    whole = tl.where(near > size, near - 1.0, near)
    return tl.where(size < 8388608.0, with_sign_of(whole, x), x)


@triton.jit
def round_down(x):
    whole = truncate(x)
    return tl.where(whole > x, whole - 1.0, whole)


@triton.jit
def round_up(x):
    return negate(round_down(negate(x)))


@triton.jit
def round_half_away(x):
    """x - truncate(x) is exact, so a tie is seen as one."""
    whole = truncate(x)
    up = magnitude(x - whole) >= 0.5
    return tl.where(up, whole + with_sign_of(x * 0.0 + 1.0, x), whole)


@triton.jit
def positive_first(x, y):
    """Of two zeros the one that is positive, if one is; of equal numbers either."""
    both = x.to(tl.int32, bitcast=True) & y.to(tl.int32, bitcast=True)
    return both.to(tl.float32, bitcast=True)


@triton.jit
def negative_first(x, y):
    both = x.to(tl.int32, bitcast=True) | y.to(tl.int32, bitcast=True)
    return both.to(tl.float32, bitcast=True)


@triton.jit
def maximum(x, y):
    """NaN if either is."""
    return tl.where(x > y, x, tl.where(y > x, y, tl.where(x == y, positive_first(x, y), x + y)))


@triton.jit
def minimum(x, y):
    return tl.where(x < y, x, tl.where(y < x, y, tl.where(x == y, negative_first(x, y), x + y)))


@triton.jit
def maximum_number(x, y):
    """The other where one is NaN."""
    return tl.where(x != x, y, tl.where(y != y, x, maximum(x, y)))


@triton.jit
def minimum_number(x, y):
    return tl.where(x != x, y, tl.where(y != y, x, minimum(x, y)))


@triton.jit
def rows_ahead(x, at, ROW: tl.constexpr, inside, left, NEUTRAL: tl.constexpr, COUNT: tl.constexpr):
    """The elements `at` of COUNT rows, all asked for before one is used; NEUTRAL where only `left` are there."""
    found = ()
    for n in tl.static_range(COUNT):
        there = inside & (at * 0 + n < left)
        found += (tl.load(x + at + n * ROW, mask=there, other=NEUTRAL),)
    return found


@triton.jit
def reciprocal_root(x):
    return tl.div_rn(1.0, tl.sqrt_rn(x))


@triton.jit
def largest_magnitude(x):
    """max |x| of a row: as integers the bits of magnitudes are in order, and NaN is above them all."""
    return tl.max(x.to(tl.int32, bitcast=True) & 0x7FFFFFFF, axis=0).to(tl.float32, bitcast=True)


@triton.jit
def order_key(x):
    """Integers in the order of the numbers: -0 as +0, NaN above all."""
    bits = (x + 0.0).to(tl.int32, bitcast=True)
    return tl.where(x == x, tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits), 0x7FFFFFFF)


@triton.jit
def at_least(x, bound):
    """The larger; NaN stays."""
    return tl.where(x < bound, bound, x)


@triton.jit
def to_int8(x):
    """Rounded half to even, clamped to [-128, 127]; NaN is 0. Adding 1.5 * 2^23 rounds."""
    x = tl.where(x == x, x, 0.0)
    x = tl.where(x > 127.0, 127.0, x)
    x = tl.where(x < -128.0, -128.0, x)
    return ((x + 12582912.0).to(tl.int32, bitcast=True) - 0x4B400000).to(tl.int8)


@triton.jit
def dot4(fields, q, total, DP4A: tl.constexpr):
    """total + the products of the four unsigned bytes of `fields` and the four signed ones of `q`."""
    if DP4A:
        return tl.inline_asm_elementwise(
            "dp4a.u32.s32 $0, $1, $2, $3;",
            "=r,r,r,r",
            [fields, q, total],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    else:
        for byte in tl.static_range(4):
            total += ((fields >> (8 * byte)) & 0xFF) * ((q << (24 - 8 * byte)) >> 24)
        return total


@triton.jit
def i2_vector_product(
    w,
    q,
    m,
    t,
    rows,
    M: tl.constexpr,
    K: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILES: tl.constexpr,
    SPLIT: tl.constexpr,
    DP4A: tl.constexpr,
):
    """sum over k of q[t, k] * w[m, k], for few rows: int32 `[t, m]`. A program's threads share the columns, or,
    where SPLIT programs do, its part of them.

    A byte holds the trits + 1 of columns 64 apart, so a 32-bit word masked by 0x03 << 2f in every byte meets four
    consecutive activations, and `dot4` takes it without a shift: the sums of field f are 4^f times too large until the
    end. They stay below 2^31 for K < 2^19. What the 1 in trit + 1 adds, sum(q), is taken away.
    """
    ACROSS: tl.constexpr = (K + 255) // 256
    ROWS: tl.constexpr = t.shape[0]
    CHANNELS: tl.constexpr = m.shape[0]
    word = tl.arange(0, TILES * 16)
    tile = word // 16
    rows_of_tiles = (m // TILE_ROWS) * (ACROSS * TILE_ROWS * 16) + (m % TILE_ROWS) * 16
    packed_row = w.to(tl.pointer_type(tl.int32)) + rows_of_tiles
    q_row = q.to(tl.pointer_type(tl.int32)) + t.to(tl.int64) * (ACROSS * 64)
    # Every thread reads the activations that its weights meet, so that nothing is exchanged before the end.
    q_rows = q_row[:, None, None] + tl.zeros([ROWS, CHANNELS, 1], tl.int32)
    acc0 = tl.zeros([ROWS, CHANNELS, TILES * 16], tl.int32)
    acc1 = tl.zeros([ROWS, CHANNELS, TILES * 16], tl.int32)
    acc2 = tl.zeros([ROWS, CHANNELS, TILES * 16], tl.int32)
    acc3 = tl.zeros([ROWS, CHANNELS, TILES * 16], tl.int32)
    ones = tl.zeros([ROWS, TILES * 64], tl.int32)
    TIMES: tl.constexpr = (ACROSS + TILES * SPLIT - 1) // (TILES * SPLIT)
    begin = tl.program_id(2) * (TIMES * TILES)
    # Unrolled, so that several turns' loads are on their way before the first sum.
    for n in tl.range(0, TIMES, loop_unroll_factor=min(TIMES, 4)):
        first = begin + n * TILES
        inside = (first + tile < ACROSS)[None, None, :]
        at = (first + tile) * (TILE_ROWS * 16) + word % 16
        packed = tl.load(packed_row[None, :, None] + at[None, None, :], (m < M)[None, :, None] & inside, 0)
        wanted = (t < rows)[:, None, None] & inside
        q_at = q_rows + ((first + tile) * 64 + word % 16)[None, None, :]
        acc0 = dot4(packed & 0x03030303, tl.load(q_at, wanted, 0), acc0, DP4A)
        acc1 = dot4(packed & 0x0C0C0C0C, tl.load(q_at + 16, wanted, 0), acc1, DP4A)
        acc2 = dot4(packed & 0x30303030, tl.load(q_at + 32, wanted, 0), acc2, DP4A)
        acc3 = dot4(packed & -0x3F3F3F40, tl.load(q_at + 48, wanted, 0), acc3, DP4A)
        words = first * 64 + tl.arange(0, TILES * 64)
        x = tl.load(q_row[:, None] + words[None, :], (t < rows)[:, None] & (words < ACROSS * 64)[None, :], 0)
        ones = dot4(tl.full([ROWS, TILES * 64], 0x01010101, tl.int32), x, ones, DP4A)
    fields = acc0 + (acc1 >> 2) + (acc2 >> 4) + (acc3 >> 6)
    return tl.sum(fields, axis=2) - tl.sum(ones, axis=1)[:, None]


@triton.jit
def fetch(
    w, M: tl.constexpr, ROW: tl.constexpr, CHANNELS: tl.constexpr, SPLIT: tl.constexpr, MANY: tl.constexpr
):
    """Asks for a program's packed rows, of ROW bytes each, before its turn comes: then the L2 cache has them."""
    if OVERLAP and not MANY:
        LINES: tl.constexpr = (CHANNELS * ROW + 128 * SPLIT - 1) // (128 * SPLIT)
        line = tl.program_id(2) * LINES + tl.minimum(tl.arange(0, triton.next_power_of_2(LINES)), LINES - 1)
        byte = tl.program_id(0).to(tl.int64) * (CHANNELS * ROW) + line * 128
        address = (w + tl.minimum(byte, M * ROW - 1)).to(tl.int64)
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.b32 $0, 0;",
            "=r,l",
            [address],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )


@triton.jit
def arrives_last(counter, count):
    """Whether this program is the last of `count` to count itself; what all of them wrote before is then there.

    The barrier puts what every thread wrote before the addition, which one thread makes for all: it releases that, and
    acquires what the others released. Its result goes to all threads through another barrier.
    """
    tl.debug_barrier()
    return tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu") == count - 1


@triton.jit
def is_last_of(arrived, SPLIT: tl.constexpr):
    """Whether this program is the last of those that share its channels; what the others added before is then there.

    The sums are of integers, so the order in which programs arrive changes no bit.
    """
    counter = arrived + tl.program_id(0)
    is_last = arrives_last(counter, SPLIT)
    tl.store(counter, 0, mask=is_last)
    return is_last


@triton.jit
def take(where, total, inside):
    """The sum that lies there, and leaves zero for the next launch."""
    return tl.atomic_xchg(where, total * 0, mask=inside, sem="relaxed")


@triton.jit
def i2_matrix_product(w, q, m, t, rows, M: tl.constexpr, K: tl.constexpr, TILE_ROWS: tl.constexpr):
    """The same for many rows, on tensor cores: trits are unpacked to int8 and multiplied 64 columns at a time."""
    ACROSS: tl.constexpr = (K + 255) // 256
    byte = tl.arange(0, 64)
    rows_of_tiles = (m // TILE_ROWS) * (ACROSS * TILE_ROWS * 64) + (m % TILE_ROWS) * 64
    packed_at = w + rows_of_tiles[:, None] + byte[None, :]
    q_at = q + t.to(tl.int64)[None, :] * (ACROSS * 256) + byte[:, None]
    acc = tl.zeros([m.shape[0], t.shape[0]], tl.int32)
    for tile in range(ACROSS):
        packed = tl.load(packed_at + tile * (TILE_ROWS * 64), (m < M)[:, None], 0x55)
        for field in tl.static_range(4):
            trits = ((packed >> (2 * field)) & 3).to(tl.int8) - 1
            x = tl.load(q_at + (tile * 256 + field * 64), (t < rows)[None, :], 0)
            acc = tl.dot(trits, x, acc, out_dtype=tl.int32)
    return tl.trans(acc)


@triton.jit
def digits_dot4(even, odd, q, total, DP4A: tl.constexpr):
    """total + the products of four digits, the bytes 1 and 3 of `even` and of `odd`, and the bytes of `q`."""
    if DP4A:
        return tl.inline_asm_elementwise(
            "{ .reg .b32 digits; prmt.b32 digits, $1, $2, 0x7351; dp4a.u32.s32 $0, digits, $3, $4; }",
            "=r,r,r,r,r",
            [even, odd, q, total],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    else:
        return dot4(((even >> 8) & 0x00FF00FF) | (odd & -0x00FF0100), q, total, False)


@triton.jit
def b3_vector_product(
    w,
    q,
    m,
    t,
    rows,
    M: tl.constexpr,
    K: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILES: tl.constexpr,
    SPLIT: tl.constexpr,
    DP4A: tl.constexpr,
):
    """sum over k of q[t, k] * w[m, k], for few rows: int32 `[t, m]`. A program's threads share the columns, or,
    where SPLIT programs do, its part of them.

    A byte holds the trits + 1 of five columns, 16 apart, in base 3, as a fraction of 256: three times it is 256 times
    the first digit, plus the byte of the others. The bytes of a 32-bit word are tripled two at a time, where each has
    16 bits. A thread's 16 bytes of trits meet five times 16 bytes of activations; the last may lie beyond a row's end,
    where trits are zero, and are not read.
    """
    ACROSS: tl.constexpr = (K + 79) // 80
    ROW_WORDS: tl.constexpr = (K + 255) // 256 * 64
    READ_WORDS: tl.constexpr = min(ACROSS * 20, ROW_WORDS)
    ROWS: tl.constexpr = t.shape[0]
    CHANNELS: tl.constexpr = m.shape[0]
    word = tl.arange(0, TILES * 16)
    tile = word // 4
    rows_of_tiles = (m // TILE_ROWS) * (ACROSS * TILE_ROWS * 4) + (m % TILE_ROWS) * 4
    packed_row = w.to(tl.pointer_type(tl.int32)) + rows_of_tiles
    q_row = q.to(tl.pointer_type(tl.int32)) + t.to(tl.int64) * ROW_WORDS
    q_rows = q_row[:, None, None] + tl.zeros([ROWS, CHANNELS, 1], tl.int32)
    acc = tl.zeros([ROWS, CHANNELS, TILES * 16], tl.int32)
    TIMES: tl.constexpr = (ACROSS + TILES * 4 * SPLIT - 1) // (TILES * 4 * SPLIT)
    begin = tl.program_id(2) * (TIMES * TILES * 4)
    for n in tl.range(0, TIMES, loop_unroll_factor=min(TIMES, 4)):
        first = begin + n * TILES * 4
        inside = (first + tile < ACROSS)[None, None, :]
        at = (first + tile) * (TILE_ROWS * 4) + word % 4
        packed = tl.load(packed_row[None, :, None] + at[None, None, :], (m < M)[None, :, None] & inside, 0)
        even = packed & 0x00FF00FF
        odd = (packed >> 8) & 0x00FF00FF
        for digit in tl.static_range(5):
            in_row = ((first + tile) * 20 + digit * 4 < READ_WORDS)[None, None, :]
            q_at = q_rows + ((first + tile) * 20 + digit * 4 + word % 4)[None, None, :]
            x = tl.load(q_at, (t < rows)[:, None, None] & in_row, 0)
            even *= 3
            odd *= 3
            acc = digits_dot4(even, odd, x, acc, DP4A)
            even &= 0x00FF00FF
            odd &= 0x00FF00FF
    ones = tl.zeros([ROWS, TILES * 64], tl.int32)
    EACH_WORDS: tl.constexpr = (READ_WORDS + TILES * 64 * SPLIT - 1) // (TILES * 64 * SPLIT) * (TILES * 64)
    begin = tl.program_id(2) * EACH_WORDS
    for first in range(begin, tl.minimum(begin + EACH_WORDS, READ_WORDS), TILES * 64):
        words = first + tl.arange(0, TILES * 64)
        x = tl.load(q_row[:, None] + words[None, :], (t < rows)[:, None] & (words < READ_WORDS)[None, :], 0)
        ones = dot4(tl.full([ROWS, TILES * 64], 0x01010101, tl.int32), x, ones, DP4A)
    return tl.sum(acc, axis=2) - tl.sum(ones, axis=1)[:, None]


@triton.jit
def b3_matrix_product(w, q, m, t, rows, M: tl.constexpr, K: tl.constexpr, TILE_ROWS: tl.constexpr):
    """The same for many rows, on tensor cores: one digit of four tiles makes 64 columns."""
    ACROSS: tl.constexpr = (K + 79) // 80
    ROW_BYTES: tl.constexpr = (K + 255) // 256 * 256
    byte = tl.arange(0, 64)
    tile = byte // 16
    rows_of_tiles = (m // TILE_ROWS) * (ACROSS * TILE_ROWS * 16) + (m % TILE_ROWS) * 16
    packed_at = w + rows_of_tiles[:, None] + (tile * (TILE_ROWS * 16) + byte % 16)[None, :]
    q_at = q + t.to(tl.int64)[None, :] * ROW_BYTES + (tile * 80 + byte % 16)[:, None]
    acc = tl.zeros([m.shape[0], t.shape[0]], tl.int32)
    for first in range(0, ACROSS, 4):
        inside = (first + tile < ACROSS)[None, :]
        packed = tl.load(packed_at + first * (TILE_ROWS * 16), (m < M)[:, None] & inside, 0x80).to(tl.int16)
        for digit in tl.static_range(5):
            packed *= 3
            trits = (packed >> 8).to(tl.int8) - 1
            packed &= 0xFF
            in_row = ((first + tile) * 80 + digit * 16 < ROW_BYTES)[:, None]
            x = tl.load(q_at + (first * 80 + digit * 16), (t < rows)[None, :] & in_row, 0)
            acc = tl.dot(trits, x, acc, out_dtype=tl.int32)
    return tl.trans(acc)
