# pyright: basic, reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
"""The vocabulary of emitted files, like `prelude.py`: products of int8 rows with packed trits, in both encodings.

Those for few rows take 32-bit words of trits and `dp4a`; those for many unpack int8 tiles for the tensor cores. Weights
that read the same rows share what is loaded of them.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sterna.targets.triton.runtime import OVERLAP, PTX


@triton.jit
def dot4(fields, q, total):
    """total + the products of the four unsigned bytes of `fields` and the four signed ones of `q`."""
    if PTX:
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
def zeros_of_each(COUNT: tl.constexpr, SHAPE: tl.constexpr):
    """So many tensors of int32."""
    found = ()
    for _ in tl.static_range(COUNT):
        found += (tl.zeros(SHAPE, tl.int32),)
    return found


@triton.jit
def i2_vector_products(
    weights,
    q,
    m,
    t,
    rows,
    M: tl.constexpr,
    K: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILES: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """sum over k of q[t, k] * w[m, k] for each w of `weights`, for few rows: int32 `[t, m]`. A program's threads share
    the columns, or, where SPLIT programs do, its part of them.

    A byte holds the trits + 1 of columns 64 apart, so a 32-bit word masked by 0x03 << 2f in every byte meets four
    consecutive activations, and `dot4` takes it without a shift: the sums of field f are 4^f times too large until the
    end. They stay below 2^31 for K < 2^19. What the 1 in trit + 1 adds, sum(q), is taken away.
    """
    ACROSS: tl.constexpr = (K + 255) // 256
    ROWS: tl.constexpr = t.shape[0]
    CHANNELS: tl.constexpr = m.shape[0]
    COUNT: tl.constexpr = len(weights)
    word = tl.arange(0, TILES * 16)
    tile = word // 16
    rows_of_tiles = (m // TILE_ROWS) * (ACROSS * TILE_ROWS * 16) + (m % TILE_ROWS) * 16
    q_row = q.to(tl.pointer_type(tl.int32)) + t.to(tl.int64) * (ACROSS * 64)
    # Every thread reads the activations that its weights meet, so that nothing is exchanged before the end.
    q_rows = q_row[:, None, None] + tl.zeros([ROWS, CHANNELS, 1], tl.int32)
    sums = zeros_of_each(4 * COUNT, [ROWS, CHANNELS, TILES * 16])
    ones = tl.zeros([ROWS, TILES * 64], tl.int32)
    TIMES: tl.constexpr = (ACROSS + TILES * SPLIT - 1) // (TILES * SPLIT)
    begin = tl.program_id(2) * (TIMES * TILES)
    # Unrolled, so that several turns' loads are on their way before the first sum.
    for n in tl.range(0, TIMES, loop_unroll_factor=min(TIMES, 4)):
        first = begin + n * TILES
        inside = (first + tile < ACROSS)[None, None, :]
        at = rows_of_tiles[None, :, None] + ((first + tile) * (TILE_ROWS * 16) + word % 16)[None, None, :]
        wanted = (t < rows)[:, None, None] & inside
        q_at = q_rows + ((first + tile) * 64 + word % 16)[None, None, :]
        x0 = tl.load(q_at, wanted, 0)
        x1 = tl.load(q_at + 16, wanted, 0)
        x2 = tl.load(q_at + 32, wanted, 0)
        x3 = tl.load(q_at + 48, wanted, 0)
        added = ()
        for each in tl.static_range(COUNT):
            words = weights[each].to(tl.pointer_type(tl.int32))
            packed = tl.load(words + at, (m < M)[None, :, None] & inside, 0)
            added += (dot4(packed & 0x03030303, x0, sums[4 * each]),)
            added += (dot4(packed & 0x0C0C0C0C, x1, sums[4 * each + 1]),)
            added += (dot4(packed & 0x30303030, x2, sums[4 * each + 2]),)
            added += (dot4(packed & -0x3F3F3F40, x3, sums[4 * each + 3]),)
        sums = added
        words_of_row = first * 64 + tl.arange(0, TILES * 64)
        in_row = (t < rows)[:, None] & (words_of_row < ACROSS * 64)[None, :]
        x = tl.load(q_row[:, None] + words_of_row[None, :], in_row, 0)
        ones = dot4(tl.full([ROWS, TILES * 64], 0x01010101, tl.int32), x, ones)
    found = ()
    for each in tl.static_range(COUNT):
        fields = (
            sums[4 * each] + (sums[4 * each + 1] >> 2) + (sums[4 * each + 2] >> 4) + (sums[4 * each + 3] >> 6)
        )
        found += (tl.sum(fields, axis=2) - tl.sum(ones, axis=1)[:, None],)
    return found


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
def is_last_of(arrived, SPLIT: tl.constexpr):
    """Whether this program is the last of those that share its channels; what the others added before is then there.

    The sums are of integers, so the order in which programs arrive changes no bit.
    """
    tl.debug_barrier()
    counter = arrived + tl.program_id(0)
    is_last = tl.atomic_add(counter, 1) == SPLIT - 1
    tl.store(counter, 0, mask=is_last)
    return is_last


@triton.jit
def take(where, total, inside):
    """The sum that lies there, and leaves zero for the next launch."""
    return tl.atomic_xchg(where, total * 0, mask=inside, sem="relaxed")


@triton.jit
def next_trits(packed):
    """The lowest trit of every byte, and the bytes with the next one there: int8 both. On CUDA four bytes at a time:
    (0, 1 or 2) + 127 and its top bit turned is a trit, and carries nothing over."""
    if PTX:
        return tl.inline_asm_elementwise(
            "{ .reg .b32 trits; and.b32 trits, $2, 0x03030303; shr.u32 $1, $2, 2; "
            "add.u32 trits, trits, 0x7F7F7F7F; xor.b32 $0, trits, 0x80808080; }",
            "=r,=r,r",
            [packed],
            dtype=(tl.int8, tl.int8),
            is_pure=True,
            pack=4,
        )
    else:
        return (packed & 3) - 1, packed >> 2


@triton.jit
def i2_matrix_products(weights, q, m, t, rows, M: tl.constexpr, K: tl.constexpr, TILE_ROWS: tl.constexpr):
    """The same for many rows, on tensor cores: trits are unpacked to int8 and multiplied 64 columns at a time.

    Channels and rows beyond the last are the last: so no load has a mask, for which bytes would be taken apart.
    """
    ACROSS: tl.constexpr = (K + 255) // 256
    COUNT: tl.constexpr = len(weights)
    byte = tl.arange(0, 64)
    channel = tl.minimum(m, M - 1)
    rows_of_tiles = (channel // TILE_ROWS) * (ACROSS * TILE_ROWS * 64) + (channel % TILE_ROWS) * 64
    at = rows_of_tiles[:, None] + byte[None, :]
    q_at = q + tl.minimum(t, rows - 1).to(tl.int64)[None, :] * (ACROSS * 256) + byte[:, None]
    sums = zeros_of_each(COUNT, [m.shape[0], t.shape[0]])
    for tile in range(ACROSS):
        packed = ()
        for each in tl.static_range(COUNT):
            packed_at = weights[each].to(tl.pointer_type(tl.int8)) + at + tile * (TILE_ROWS * 64)
            packed += (tl.load(packed_at),)
        for field in tl.static_range(4):
            x = tl.load(q_at + (tile * 256 + field * 64))
            added = ()
            others = ()
            for each in tl.static_range(COUNT):
                trits, left = next_trits(packed[each])
                others += (left,)
                added += (tl.dot(trits, x, sums[each], out_dtype=tl.int32),)
            packed = others
            sums = added
    return turned(sums)


@triton.jit
def turned(sums):
    found = ()
    for each in tl.static_range(len(sums)):
        found += (tl.trans(sums[each]),)
    return found


@triton.jit
def digits_dot4(even, odd, q, total):
    """total + the products of four digits, the bytes 1 and 3 of `even` and of `odd`, and the bytes of `q`."""
    if PTX:
        return tl.inline_asm_elementwise(
            "{ .reg .b32 digits; prmt.b32 digits, $1, $2, 0x7351; dp4a.u32.s32 $0, digits, $3, $4; }",
            "=r,r,r,r,r",
            [even, odd, q, total],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    else:
        return dot4(((even >> 8) & 0x00FF00FF) | (odd & -0x00FF0100), q, total)


@triton.jit
def b3_vector_products(
    weights,
    q,
    m,
    t,
    rows,
    M: tl.constexpr,
    K: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILES: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """sum over k of q[t, k] * w[m, k] for each w of `weights`, for few rows: int32 `[t, m]`. A program's threads share
    the columns, or, where SPLIT programs do, its part of them.

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
    COUNT: tl.constexpr = len(weights)
    word = tl.arange(0, TILES * 16)
    tile = word // 4
    rows_of_tiles = (m // TILE_ROWS) * (ACROSS * TILE_ROWS * 4) + (m % TILE_ROWS) * 4
    q_row = q.to(tl.pointer_type(tl.int32)) + t.to(tl.int64) * ROW_WORDS
    q_rows = q_row[:, None, None] + tl.zeros([ROWS, CHANNELS, 1], tl.int32)
    sums = zeros_of_each(COUNT, [ROWS, CHANNELS, TILES * 16])
    TIMES: tl.constexpr = (ACROSS + TILES * 4 * SPLIT - 1) // (TILES * 4 * SPLIT)
    begin = tl.program_id(2) * (TIMES * TILES * 4)
    for n in tl.range(0, TIMES, loop_unroll_factor=min(TIMES, 4)):
        first = begin + n * TILES * 4
        inside = (first + tile < ACROSS)[None, None, :]
        at = rows_of_tiles[None, :, None] + ((first + tile) * (TILE_ROWS * 4) + word % 4)[None, None, :]
        xs = ()
        for digit in tl.static_range(5):
            in_row = ((first + tile) * 20 + digit * 4 < READ_WORDS)[None, None, :]
            q_at = q_rows + ((first + tile) * 20 + digit * 4 + word % 4)[None, None, :]
            xs += (tl.load(q_at, (t < rows)[:, None, None] & in_row, 0),)
        added = ()
        for each in tl.static_range(COUNT):
            words = weights[each].to(tl.pointer_type(tl.int32))
            packed = tl.load(words + at, (m < M)[None, :, None] & inside, 0)
            even = packed & 0x00FF00FF
            odd = (packed >> 8) & 0x00FF00FF
            total = sums[each]
            for digit in tl.static_range(5):
                even *= 3
                odd *= 3
                total = digits_dot4(even, odd, xs[digit], total)
                even &= 0x00FF00FF
                odd &= 0x00FF00FF
            added += (total,)
        sums = added
    ones = tl.zeros([ROWS, TILES * 64], tl.int32)
    EACH_WORDS: tl.constexpr = (READ_WORDS + TILES * 64 * SPLIT - 1) // (TILES * 64 * SPLIT) * (TILES * 64)
    begin = tl.program_id(2) * EACH_WORDS
    for first in range(begin, tl.minimum(begin + EACH_WORDS, READ_WORDS), TILES * 64):
        words_of_row = first + tl.arange(0, TILES * 64)
        in_row = (t < rows)[:, None] & (words_of_row < READ_WORDS)[None, :]
        x = tl.load(q_row[:, None] + words_of_row[None, :], in_row, 0)
        ones = dot4(tl.full([ROWS, TILES * 64], 0x01010101, tl.int32), x, ones)
    found = ()
    for each in tl.static_range(COUNT):
        found += (tl.sum(sums[each], axis=2) - tl.sum(ones, axis=1)[:, None],)
    return found


@triton.jit
def next_digits(packed):
    """The first trit of every byte, and the bytes of the others: int8 both. On CUDA four bytes at a time, tripled two
    at a time, where each has 16 bits."""
    if PTX:
        return tl.inline_asm_elementwise(
            "{ .reg .b32 even, odd, trits; and.b32 even, $2, 0x00FF00FF; prmt.b32 odd, $2, 0, 0x4341; "
            "mul.lo.u32 even, even, 3; mul.lo.u32 odd, odd, 3; prmt.b32 trits, even, odd, 0x7351; "
            "prmt.b32 $1, even, odd, 0x6240; add.u32 trits, trits, 0x7F7F7F7F; xor.b32 $0, trits, 0x80808080; }",
            "=r,=r,r",
            [packed],
            dtype=(tl.int8, tl.int8),
            is_pure=True,
            pack=4,
        )
    else:
        tripled = (packed.to(tl.int16) & 0xFF) * 3
        return (tripled >> 8).to(tl.int8) - 1, tripled.to(tl.int8)


@triton.jit
def b3_matrix_products(weights, q, m, t, rows, M: tl.constexpr, K: tl.constexpr, TILE_ROWS: tl.constexpr):
    """The same for many rows, on tensor cores: one digit of four tiles makes 64 columns."""
    ACROSS: tl.constexpr = (K + 79) // 80
    ROW_BYTES: tl.constexpr = (K + 255) // 256 * 256
    COUNT: tl.constexpr = len(weights)
    byte = tl.arange(0, 64)
    tile = byte // 16
    channel = tl.minimum(m, M - 1)
    rows_of_tiles = (channel // TILE_ROWS) * (ACROSS * TILE_ROWS * 16) + (channel % TILE_ROWS) * 16
    at = rows_of_tiles[:, None] + (tile * (TILE_ROWS * 16) + byte % 16)[None, :]
    q_at = q + tl.minimum(t, rows - 1).to(tl.int64)[None, :] * ROW_BYTES + (tile * 80 + byte % 16)[:, None]
    sums = zeros_of_each(COUNT, [m.shape[0], t.shape[0]])
    for first in range(0, ACROSS, 4):
        packed = ()
        for each in tl.static_range(COUNT):
            packed_at = weights[each].to(tl.pointer_type(tl.int8)) + at + first * (TILE_ROWS * 16)
            # Behind the last tile are trits of zero, as behind the last column.
            packed += (tl.load(packed_at, (first + tile < ACROSS)[None, :], -128),)
        for digit in tl.static_range(5):
            in_row = ((first + tile) * 80 + digit * 16 < ROW_BYTES)[:, None]
            x = tl.load(q_at + (first * 80 + digit * 16), in_row, 0)
            added = ()
            others = ()
            for each in tl.static_range(COUNT):
                trits, left = next_digits(packed[each])
                others += (left,)
                added += (tl.dot(trits, x, sums[each], out_dtype=tl.int32),)
            packed = others
            sums = added
    return turned(sums)
