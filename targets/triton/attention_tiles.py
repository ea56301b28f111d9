"""Attention of many rows: a program takes a tile of rows and heads that share keys and values, and all the past.

It takes three launches: the first writes the keys and values of the call into the cache, and turns queries and keys by
their positions; the next turns the cache of keys, columns first, so that neighbouring threads load neighbouring keys.

The order of every sum is the IR's, so tensor cores are of no use. A thread holds some rows of a tile by four keys, or
columns of values, and adds products of what it loads itself (`tile_products`). The scores are computed twice, for their
maximum and for their exponentials: kept, they would be a gigabyte for 4096 rows.

A tile has the axes `[held, held, warps, threads]`: the keys or columns that a thread holds, the rows that it holds, a
row of each for every warp, and a key or column of each for every thread of a warp.
"""

from __future__ import annotations

from dataclasses import dataclass

from sterna.dialects.layout import round_up
from sterna.dialects.numerics import LANES
from sterna.targets.triton.kernel import Builder, next_power_of_2
from sterna.targets.triton.past import Past
from sterna.targets.triton.source import indented

THREADS = 32
"""Of a warp."""

TURNED = 64, 32
"""Keys and columns of them that a program turns."""

WRITTEN = 8
"""Rows of one head that a program writes into the cache."""

PIECE = 128
"""Columns of a head whose values are summed at once: the sums of more would not fit in registers."""


@dataclass(frozen=True)
class Tile:
    """Pairs of a row of q and one of the heads that share keys, heads first."""

    held: int
    """That a thread holds."""
    warps: int
    registers: int
    """Of a thread: all that so many warps can have."""

    @property
    def rows(self) -> int:
        return self.held * self.warps

    @staticmethod
    def of(columns: int) -> Tile:
        """For heads of so many columns: a thread has the sums of a PIECE five times at once, and those of all values.

        Twice the registers for half the warps leave room for twice the rows, which share more of what is loaded, or for
        all pieces of the widest heads.
        """
        if columns <= PIECE:
            return Tile(2, 16, 128)
        return Tile(4 if columns <= 2 * PIECE else 2, 8, 255)


def emit_many_rows(past: Past, *, depth: int) -> None:
    way = ManyRows(past, depth)
    way.emit_entry()
    way.emit_turn()
    way.emit_tiles()


class ManyRows:
    """The launches, and what lies between them: keys `[G D, C]` of every text; and for every tile and head of keys the
    weights `[rows, block]`, of which a program takes the columns one by one."""

    def __init__(self, past: Past, depth: int) -> None:
        self.past, self.depth, self.tile = past, depth, Tile.of(past.columns)
        self.turned_q = past.scratch_for_q(depth)
        self.columns = past.kv_heads * past.columns
        self.room = round_up(past.capacity, max(past.block, TURNED[0]))
        self.turned = past.scratch("turned", (f"{past.texts} * {self.columns}", self.room), depth)
        self.tiles = f"triton.cdiv({past.length} * {past.sharing}, {self.tile.rows})"
        rows = f"{past.texts} * {self.tiles} * {past.kv_heads * self.tile.rows}"
        self.weights = past.scratch("scratch", (rows, past.block), depth)

    def emit_entry(self) -> None:
        """Programs of one head: those of keys and values write both, those of queries turn them."""
        past, op = self.past, self.past.op
        b = past.builder("write_cache")
        positions = b.pointer(op.positions, "positions", op)
        keys, values = b.pointer(op.new_keys, "keys", op), b.pointer(op.new_values, "values", op)
        length = b.new_pointer("length", "i32", past.length)
        depth = 1 if self.turned_q is None else 2
        written = past.cache_written(b, keys, values, head="head", row="t", wanted="inside", depth=depth)
        b.lines += [
            "head = tl.program_id(0)",
            f"t = (tl.program_id(1).to(tl.int64) * {WRITTEN} + tl.arange(0, {WRITTEN}))[:, None]",
            f"there = t < {b.rows() if past.static_rows is None else past.static_rows}",
        ]
        body = [
            f"p = tl.load({positions} + t, mask=there, other=-1)",
            # A position outside is an error of the caller; what is beside the cache must not be written all the same.
            f"inside = (p >= 0) & (p < {past.capacity})",
            f"at = (t // {length} * {past.capacity} + p) * {past.cache_row} + head * {past.columns}",
            *written,
        ]
        heads = past.kv_heads
        if self.turned_q is None:
            b.lines += body
        else:
            out = b.new_pointer("turned_q", "*fp32", self.turned_q)
            turn = past.heads_written(
                b,
                op.q,
                "q",
                rotation=past.q_rotation,
                out=f"{out} + t * {past.row} + head * {past.columns}",
                head="head",
                row="t",
                wanted="there",
                depth=2,
            )
            b.lines += [
                f"if head < {heads}:",
                *indented(body),
                "else:",
                f"    head -= {heads}",
                *indented(turn),
            ]
            heads += past.heads
        grid = f"({heads}, triton.cdiv({past.rows}, {WRITTEN}))"
        past.host.launch(b.kernel(), grid, b.all_arguments(), depth=self.depth)

    def emit_turn(self) -> None:
        """As far as there are keys."""
        past, op, (some_keys, some_columns) = self.past, self.past.op, TURNED
        b = past.builder("turn_keys")
        positions, keys = b.pointer(op.positions, "positions", op), b.pointer(op.new_keys, "keys", op)
        out = b.new_pointer("turned", "*fp32", self.turned)
        length = b.new_pointer("length", "i32", past.length)
        masked = f"mask=(j < count)[:, None] & (c < {self.columns})[None, :]"
        b.lines += [
            "text = tl.program_id(2).to(tl.int64)",
            f"count = {past.count(f'tl.load({positions} + text * {length} + {length} - 1)')}",
            f"first = tl.program_id(0) * {some_keys}",
            "if first < count:",
            f"    j = first + tl.arange(0, {some_keys})",
            f"    c = tl.program_id(1) * {some_columns} + tl.arange(0, {some_columns})",
            f"    at = (text * {past.capacity} + j)[:, None] * {past.cache_row} + c[None, :]",
            f"    key = tl.load({keys} + at, {masked}, other=0.0)",
            f"    at = (text * {self.columns} + c)[:, None] * {self.room} + j[None, :]",
            f"    tl.store({out} + at, tl.trans(key), mask=(c < {self.columns})[:, None])",
        ]
        grid = f"({-(-past.capacity // some_keys)}, {-(-self.columns // some_columns)}, {past.texts})"
        past.host.launch(b.kernel(), grid, b.all_arguments(), depth=self.depth)

    def emit_tiles(self) -> None:
        past, op = self.past, self.past.op
        b = past.builder("attention")
        q = b.pointer(op.q, "q", op) if self.turned_q is None else b.new_pointer("q", "*fp32", self.turned_q)
        positions = b.pointer(op.positions, "positions", op)
        keys, values = b.new_pointer("turned", "*fp32", self.turned), b.pointer(op.new_values, "values", op)
        out = b.pointer(op.result, "out", op)
        own = b.new_pointer("scratch", "*fp32", self.weights)
        length = b.new_pointer("length", "i32", past.length)
        # A number of the launch, since over one that it knows the compiler unrolls loops, and spills.
        columns = b.new_pointer("columns", "i32", str(past.columns))
        self.place(b, q, positions, length)
        products = b.call(
            "tile_products", "x", "key + first", columns, "0", "count", str(self.room), "1", "False"
        )
        score = f"score = {products} * {past.scale}"
        self.find_largest(b, keys, score)
        self.sum_values(b, values, own, score)
        self.store(b, out, f"n < {length} * {past.sharing}")
        grid = f"({past.kv_heads}, {self.tiles}, {past.texts})"
        kernel = b.kernel(num_warps=self.tile.warps, registers=self.tile.registers)
        past.host.launch(kernel, grid, b.all_arguments(), depth=self.depth)

    def place(self, b: Builder, q: str, positions: str, length: str) -> None:
        """The rows of a tile, where the heads lie that it takes of them, and how many rows each sees."""
        past, tile = self.past, self.tile
        b.lines += [
            "g = tl.program_id(0)",
            # The longest first, so that none of them is left to the end.
            "tile = tl.num_programs(1) - 1 - tl.program_id(1)",
            "text = tl.program_id(2).to(tl.int64)",
            f"held = (tl.arange(0, {tile.held}) * {tile.warps})[None, :, None, None]",
            f"row = held + tl.arange(0, {tile.warps})[None, None, :, None]",
            f"n = tile * {tile.rows} + row",
            f"t = text * {length} + tl.minimum(n // {past.sharing}, {length} - 1)",
            f"at = t * {past.row} + (g * {past.sharing} + n % {past.sharing}) * {past.columns}",
            f"x = {q} + at",
            f"count = {past.count(f'tl.load({positions} + t)')}",
            "least = tl.min(count)",
            "most = tl.max(count)",
        ]

    def find_largest(self, b: Builder, keys: str, score: str) -> None:
        past = self.past
        b.lines += [
            f"j = {across(past.block)}",
            f"key = {keys} + (text * {past.kv_heads} + g) * {past.columns * self.room} + j",
            f'largest = tl.full([1, {self.tile.held}, {self.tile.warps}, 1], float("-inf"), tl.float32)',
            f"for first in range(0, most, {past.block}):",
            f"    {score}",
            '    score = tl.where(first + j < count, score, float("-inf"))',
            "    found = tl.max(tl.max(score, axis=3, keep_dims=True), axis=0, keep_dims=True)",
            "    largest = tl.maximum(largest, found)",
        ]

    def sum_values(self, b: Builder, values: str, own: str, score: str) -> None:
        past, block, tile, row = self.past, self.past.block, self.tile, self.past.cache_row
        pairs = f"[1, {tile.held}, {tile.warps}, 1]"
        b.lines += [
            f"value = {values} + text * {past.capacity * row} + g * {past.columns}",
            f"own = {own} + ((text * tl.num_programs(1) + tile) * {past.kv_heads} + g) * {tile.rows * block}",
            f"weight = own + row * {block}",
            f"row = tl.arange(0, {tile.rows})[:, None] * {block} + tl.arange(0, {LANES})[None, :]",
            f"total = tl.zeros({pairs}, tl.float32)",
            *dict.fromkeys(line for piece in self.value_pieces() for line in piece.columns),
            *(f"{piece.sums} = {piece.zeros(tile)}" for piece in self.value_pieces()),
            f"for first in range(0, most, {block}):",
            f"    {score}",
            f"    e = tl.where(first + j < count, {b.call('exp', 'score - largest')}, 0.0)",
            "    tl.store(weight + j, e)",
            "    tl.debug_barrier()",
            f"    sums = tl.zeros([{tile.rows}, {LANES}], tl.float32)",
            f"    for k in tl.static_range(0, {block}, {LANES}):",
            "        sums += tl.load(own + row + k)",
            f"    total += tl.reshape({b.call('halving_trees', 'sums', str(LANES))}, {pairs})",
            f"    end = tl.minimum(most - first, {block})",
            "    reach = count - first",
            f"    if first + {block} <= least:",
            *indented(self.piece_sums(b, partly=False), 2),
            "    else:",
            *indented(self.piece_sums(b, partly=True), 2),
            f"    value += {block * row}",
            # The next weights take the place of these.
            "    tl.debug_barrier()",
        ]

    def value_pieces(self) -> list[ValuePiece]:
        return [
            ValuePiece(first, min(PIECE, self.past.columns - first))
            for first in range(0, self.past.columns, PIECE)
        ]

    def piece_sums(self, b: Builder, *, partly: bool) -> list[str]:
        """One after the other, of the same weights."""
        stride = str(self.past.cache_row)
        lines: list[str] = []
        for piece in self.value_pieces():
            value = f"value{piece.start} + {piece.within}"
            products = b.call("tile_products", "weight", value, "end", "0", "reach", stride, "1", str(partly))
            lines.append(f"{piece.sums} += {products}")
        return lines

    def store(self, b: Builder, out: str, inside: str) -> None:
        for piece in self.value_pieces():
            seen = f"({inside}) & ({piece.d} < {piece.count})" if piece.is_wider else inside
            b.lines.append(
                f"tl.store({out} + at{piece.start} + {piece.d}, tl.div_rn({piece.sums}, total), mask={seen})"
            )


@dataclass(frozen=True)
class ValuePiece:
    """Neighbouring columns of the values, and the names of where they are, beginning with 0, and of their sums."""

    first: int
    count: int

    @property
    def wide(self) -> int:
        return next_power_of_2(self.count)

    @property
    def d(self) -> str:
        """That of whole pieces is one, so that the same registers have their addresses."""
        return "d" if self.wide == PIECE or not self.first else "last_d"

    @property
    def sums(self) -> str:
        return f"mixed_{self.first // PIECE}" if self.first else "mixed"

    @property
    def start(self) -> str:
        return f" + {self.first}" if self.first else ""

    @property
    def is_wider(self) -> bool:
        return self.wide > self.count

    @property
    def within(self) -> str:
        return f"{self.d}_within" if self.is_wider else self.d

    @property
    def columns(self) -> list[str]:
        """Where a head is narrower it has its last column several times over."""
        narrower = [f"{self.within} = tl.minimum({self.d}, {self.count - 1})"] if self.is_wider else []
        return [f"{self.d} = {across(self.wide)}", *narrower]

    def zeros(self, tile: Tile) -> str:
        threads = min(self.wide, THREADS)
        return f"tl.zeros({[self.wide // threads, tile.held, tile.warps, threads]}, tl.float32)"


def across(size: int) -> str:
    """Numbers of so many keys or columns, along the axes of a tile."""
    threads = min(size, THREADS)
    held = f"(tl.arange(0, {size // threads}) * {threads})[:, None, None, None]"
    return f"{held} + tl.arange(0, {threads})[None, None, None, :]"
