"""Kernels of `ternary.positions`, `ternary.rotate` and `ternary.attention`.

A thread takes pairs of a row and a head. For each it writes the scores of the rows so far to its stack, makes weights
of them, and sums the values, block by block of the cache: partial sum n of the sixteen takes the rows n, n + 16, ... of
a block, sixteen columns at a time. Rows of this call are read from k and v and not from the cache, so that no thread
waits for another to write them, and the new cache may lie where the old one does. Where it does not, the rows of the
old one are copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.dialects import llvm, math
from xdsl.dialects.builtin import f32, i64
from xdsl.ir import Block, SSAValue

from sterna.dialects.errors import CompileError
from sterna.dialects.layout import round_up
from sterna.dialects.numerics import LANES
from sterna.dialects.scalar_writer import Constants
from sterna.dialects.ternary import AttentionOp, PositionsOp, RotateOp, YieldOp
from sterna.passes import expand_math
from sterna.targets.cpu.instructions import (
    FLOATS,
    add,
    constant,
    constants,
    fadd,
    fcmp,
    fdiv,
    fmul,
    fsub,
    icmp,
    index,
    insert,
    lane,
    load,
    loop,
    mul,
    offset,
    select,
    splat,
    store,
    sub,
    tree,
    udiv,
)
from sterna.targets.cpu.kernel import Buffer, Frame, blocks_of, each, load_floats, require_lanes, store_floats
from sterna.targets.cpu.region import vectorise

FLOAT_BYTES = 4
MOST_SCORES = 1 << 18
"""Rows of a cache whose scores a thread's stack holds: a mebibyte."""


def _exponential() -> Block:
    """A region of one float that is `math.exp`, as `expand-math` writes it."""
    block = Block(arg_types=[f32])
    op = math.ExpOp(block.args[0])
    block.add_ops([op, YieldOp(op.result)])
    expand_math.expand(op, Constants(block))
    return block


# Here, because in a kernel that is being built every operation that is made becomes a part of it.
EXPONENTIAL = _exponential()


def emit_positions(op: PositionsOp, frame: Frame) -> None:
    start, rows = frame.operands
    positions, following = frame.results
    first = load(start.pointer, i64, 8)
    count = frame.extent(rows.shape[0])
    frame.share(count, lambda t: store(add(first, t), positions.at(t), 8))
    frame.share(index(1), lambda _: store(add(first, count), following.pointer, 8))


@dataclass(frozen=True)
class Columns:
    """So many floats that lie one after the other, in vectors of sixteen; they may start at any float."""

    count: int
    aligned: bool
    """Do they start at a multiple of sixteen floats?"""

    @property
    def blocks(self) -> int:
        return blocks_of(self.count)

    def width(self, block: int) -> int:
        return min(LANES, self.count - block * LANES)

    def load(self, at: SSAValue, block: int) -> SSAValue:
        """Zeros past the end: what lies there is another head's, or none of ours."""
        address, width = offset(at, block * LANES * FLOAT_BYTES), self.width(block)
        if width == LANES:
            return load(address, FLOATS, LANES * FLOAT_BYTES if self.aligned else FLOAT_BYTES)
        value = constant(0.0, FLOATS)
        for number in range(width):
            value = insert(load(offset(address, number * FLOAT_BYTES), f32, FLOAT_BYTES), value, number)
        return value

    def store(self, value: SSAValue, at: SSAValue, block: int) -> None:
        address, width = offset(at, block * LANES * FLOAT_BYTES), self.width(block)
        if width == LANES:
            store(value, address, LANES * FLOAT_BYTES if self.aligned else FLOAT_BYTES)
            return
        for number in range(width):
            store(lane(value, number), offset(address, number * FLOAT_BYTES), FLOAT_BYTES)


def emit_rotate(op: RotateOp, frame: Frame) -> None:
    x, cos, sin = frame.operands
    (result,) = frame.results
    assert x.columns is not None
    half = Columns(op.half, op.half % LANES == 0)
    angles = Columns(op.half, aligned=True)
    heads = x.columns // (2 * op.half)

    def rotate(*at: SSAValue) -> None:
        *t, head = at
        first = mul(head, index(2 * op.half * FLOAT_BYTES))
        source, target = offset(x.row(*t), first), offset(result.row(*t), first)
        second = op.half * FLOAT_BYTES
        for block in range(half.blocks):
            a, b = half.load(source, block), half.load(offset(source, second), block)
            c, s = angles.load(cos.row(*t), block), angles.load(sin.row(*t), block)
            half.store(fsub(fmul(a, c), fmul(b, s)), target, block)
            half.store(fadd(fmul(b, c), fmul(a, s)), offset(target, second), block)

    frame.share_all((*x.rows, heads), rotate)


def emit_attention(op: AttentionOp, frame: Frame) -> None:
    require_lanes(op, op.lanes.value.data)
    if op.capacity > MOST_SCORES:
        raise CompileError(
            f"{op.name}: the cache has {op.capacity} rows, and the CPU target takes at most {MOST_SCORES}",
            op.location,
        )
    attention = Attention(op, frame)
    attention.write_cache()
    attention.attend()


class Attention:
    """One kernel, being written."""

    def __init__(self, op: AttentionOp, frame: Frame) -> None:
        self.op, self.frame = op, frame
        self.q, self.k, self.v, self.positions, self.keys, self.values = frame.operands
        self.result, self.new_keys, self.new_values = frame.results
        self.head = Columns(op.head_columns, op.head_columns % LANES == 0)
        self.rows = frame.extent(self.q.shape[0])
        # Without a row there is no position to read, and nothing is written.
        some = icmp("ne", self.rows, index(0))
        self.start = select(some, load(self.positions.pointer, i64, 8), index(0))

    # The cache.

    def write_cache(self) -> None:
        self.write_rows(self.k, self.keys, self.new_keys)
        self.write_rows(self.v, self.values, self.new_values)

    def write_rows(self, rows: Buffer, old: Buffer, new: Buffer) -> None:
        """Those of this call; and all others, unless the new cache lies where the old one does."""
        self.frame.share(self.rows, lambda t: copy_row(rows.row(t), new.row(add(self.start, t)), rows))
        addresses = [llvm.PtrToIntOp(buffer.pointer).output for buffer in (old, new)]
        in_place = icmp("eq", *addresses)
        kept = sub(index(self.op.capacity), self.rows)

        def copy(n: SSAValue) -> None:
            row = select(icmp("slt", n, self.start), n, add(n, self.rows))
            copy_row(old.row(row), new.row(row), old)

        self.frame.share(select(in_place, index(0), kept), copy)

    # The sums.

    def attend(self) -> None:
        scores = self.frame.stack(round_up(self.op.capacity, LANES) * FLOAT_BYTES)
        heads = self.op.heads.value.data
        sharing = heads // self.op.kv_heads.value.data
        head_bytes = self.op.head_columns * FLOAT_BYTES

        def one(t: SSAValue, h: SSAValue) -> None:
            count = add(add(self.start, t), index(1))
            own, shared = mul(h, index(head_bytes)), mul(udiv(h, index(sharing)), index(head_bytes))
            largest = self.score(offset(self.q.row(t), own), shared, scores, count)
            total = self.weigh(scores, largest, count)
            self.mix(offset(self.result.row(t), own), shared, scores, total, count)

        self.frame.share_all((self.q.shape[0], heads), one)

    def row(self, j: SSAValue, cache: Buffer, rows: Buffer, shared: SSAValue) -> SSAValue:
        """Where the head's columns of row j of the text lie: in the old cache, or among those of this call."""
        old, new = cache.row(j), rows.row(sub(j, self.start))
        return offset(select(icmp("slt", j, self.start), old, new), shared)

    def score(self, q: SSAValue, shared: SSAValue, scores: SSAValue, count: SSAValue) -> SSAValue:
        """Writes the scores of the rows so far; the largest."""
        wanted = [self.head.load(q, block) for block in range(self.head.blocks)]
        scale = constant(self.op.scale.value.data, f32)

        def step(j: SSAValue, largest: SSAValue) -> Sequence[SSAValue]:
            row = self.row(j, self.keys, self.k, shared)
            total = constant(0.0, FLOATS)
            for block, columns in enumerate(wanted):
                total = fadd(total, fmul(columns, self.head.load(row, block)))
            score = fmul(tree(fadd, total), scale)
            store(score, offset(scores, mul(j, index(FLOAT_BYTES))), FLOAT_BYTES)
            return [select(fcmp("ogt", score, largest), score, largest)]

        (largest,) = loop(index(0), count, step, [constant(float("-inf"), f32)])
        return largest

    def weigh(self, scores: SSAValue, largest: SSAValue, count: SSAValue) -> SSAValue:
        """Makes exp(score - largest) of every score, in its place; their sum."""
        most, zero = splat(largest), constant(0.0, FLOATS)

        def step(n: SSAValue, total: SSAValue) -> Sequence[SSAValue]:
            (weights,) = vectorise(EXPONENTIAL, [fsub(load_floats(scores, n), most)])
            left = sub(count, mul(n, index(LANES)))
            weights = select(icmp("slt", constants(range(LANES), i64), splat(left)), weights, zero)
            store_floats(weights, scores, n)
            return [fadd(total, weights)]

        def sum_of_block(begin: SSAValue, end: SSAValue) -> SSAValue:
            vectors = udiv(begin, index(LANES)), udiv(add(end, index(LANES - 1)), index(LANES))
            (total,) = loop(*vectors, step, [zero])
            return tree(fadd, total)

        return self.sum_of_blocks(count, sum_of_block, constant(0.0, f32))

    def sum_of_blocks(
        self, count: SSAValue, sum_of_block: Callable[[SSAValue, SSAValue], SSAValue], zero: SSAValue
    ) -> SSAValue:
        """Of what it gives for the rows of each, from one to before another, in order."""
        rows = self.op.block.value.data

        def step(begin: SSAValue, total: SSAValue) -> Sequence[SSAValue]:
            end = add(begin, index(rows))
            return [fadd(total, sum_of_block(begin, select(icmp("slt", end, count), end, count)))]

        (total,) = loop(index(0), count, step, [zero], rows)
        return total

    def mix(
        self, out: SSAValue, shared: SSAValue, weights: SSAValue, total: SSAValue, count: SSAValue
    ) -> None:
        """The weighted sum of the values, sixteen columns at a time."""
        for block in range(self.head.blocks):

            def sum_of_block(begin: SSAValue, end: SSAValue, block: int = block) -> SSAValue:
                (mixed,) = halved(self.partial_sums(shared, weights, begin, end, block))
                return mixed

            mixed = self.sum_of_blocks(count, sum_of_block, constant(0.0, FLOATS))
            self.head.store(fdiv(mixed, splat(total)), out, block)

    def partial_sums(
        self, shared: SSAValue, weights: SSAValue, begin: SSAValue, end: SSAValue, block: int
    ) -> list[SSAValue]:
        """The sixteen of some rows, each a vector of sixteen columns."""

        def term(j: SSAValue) -> SSAValue:
            weight = load(offset(weights, mul(j, index(FLOAT_BYTES))), f32, FLOAT_BYTES)
            return fmul(splat(weight), self.head.load(self.row(j, self.values, self.v, shared), block))

        def step(n: SSAValue, *sums: SSAValue) -> Sequence[SSAValue]:
            first = add(begin, mul(n, index(LANES)))
            return [fadd(partial, term(add(first, index(number)))) for number, partial in enumerate(sums)]

        zero, whole = constant(0.0, FLOATS), udiv(sub(end, begin), index(LANES))
        sums = list(loop(index(0), whole, step, [zero] * LANES))
        first = add(begin, mul(whole, index(LANES)))
        for number in range(LANES - 1):
            j = add(first, index(number))
            inside = icmp("slt", j, end)
            value = term(select(inside, j, index(0)))
            sums[number] = fadd(sums[number], select(splat(inside), value, zero))
        return sums


def halved(sums: list[SSAValue]) -> list[SSAValue]:
    """The halving tree over vectors."""
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [fadd(a, b) for a, b in zip(sums[:half], sums[half:], strict=True)]
    return sums


def copy_row(source: SSAValue, target: SSAValue, like: Buffer) -> None:
    assert like.columns is not None
    each(
        index(0),
        index(blocks_of(like.columns)),
        lambda block: store_floats(load_floats(source, block), target, block),
    )
