"""Attention of many rows: a program takes a tile of rows and heads that share keys and values, and all the past.

The order of every sum is the IR's, so tensor cores are of no use. A thread holds two rows of a tile by four keys, or
columns of values, and adds products of what it loads itself (`tile_products`). For neighbouring threads to load
neighbouring keys a launch before turns the keys, columns first. The scores are computed twice, for their maximum and
for their exponentials: kept, they would be a gigabyte for 4096 rows.

A tile has the axes `[held, held, warps, threads]`: the keys or columns that a thread holds, the rows that it holds, a
row of each for every warp, and a key or column of each for every thread of a warp.
"""

from __future__ import annotations

from sterna.dialects.layout import round_up
from sterna.dialects.numerics import LANES
from sterna.targets.triton.kernel import Builder, next_power_of_2
from sterna.targets.triton.past import Past

HELD, WARPS, THREADS = 2, 16, 32
"""Rows that a thread holds, warps, and threads of one."""

ROWS = HELD * WARPS
"""Of a tile: pairs of a row of q and one of the heads that share keys, heads first."""

REGISTERS = 128
"""Of a thread: so many has each of 512."""

TURNED = 64, 32
"""Keys and columns of them that a program turns."""


def emit_many_rows(past: Past, *, depth: int) -> None:
    way = ManyRows(past, depth)
    way.emit_turn()
    way.emit_tiles()


class ManyRows:
    """The launches, and what lies between them: keys `[G D, C]` of every text; and for every tile and head of keys the
    weights `[ROWS, block]`, of which a program takes the columns one by one."""

    def __init__(self, past: Past, depth: int) -> None:
        self.past, self.depth = past, depth
        self.columns = past.kv_heads * past.columns
        self.room = round_up(past.capacity, max(past.block, TURNED[0]))
        self.turned = past.scratch("turned", (f"{past.texts} * {self.columns}", self.room), depth)
        self.tiles = f"triton.cdiv({past.length} * {past.sharing}, {ROWS})"
        rows = f"{past.texts} * {self.tiles} * {past.kv_heads * ROWS}"
        self.weights = past.scratch("scratch", (rows, past.block), depth)

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
            f"count = {past.count(f'{positions} + text * {length} + {length} - 1')}",
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
        q, positions = b.pointer(op.q, "q", op), b.pointer(op.positions, "positions", op)
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
        inside = f"n < {length} * {past.sharing}"
        if next_power_of_2(past.columns) > past.columns:
            inside = f"({inside}) & (d < {past.columns})"
        b.lines.append(f"tl.store({out} + at + d, tl.div_rn(mixed, total), mask={inside})")
        grid = f"({past.kv_heads}, {self.tiles}, {past.texts})"
        kernel = b.kernel(num_warps=WARPS, registers=REGISTERS)
        past.host.launch(kernel, grid, b.all_arguments(), depth=self.depth)

    def place(self, b: Builder, q: str, positions: str, length: str) -> None:
        """The rows of a tile, where the heads lie that it takes of them, and how many rows each sees."""
        past = self.past
        b.lines += [
            "g = tl.program_id(0)",
            # The longest first, so that none of them is left to the end.
            "tile = tl.num_programs(1) - 1 - tl.program_id(1)",
            "text = tl.program_id(2).to(tl.int64)",
            f"held = (tl.arange(0, {HELD}) * {WARPS})[None, :, None, None]",
            f"row = held + tl.arange(0, {WARPS})[None, None, :, None]",
            f"n = tile * {ROWS} + row",
            f"t = text * {length} + tl.minimum(n // {past.sharing}, {length} - 1)",
            f"at = t * {past.row} + (g * {past.sharing} + n % {past.sharing}) * {past.columns}",
            f"x = {q} + at",
            f"count = {past.count(f'{positions} + t')}",
            "least = tl.min(count)",
            "most = tl.max(count)",
        ]

    def find_largest(self, b: Builder, keys: str, score: str) -> None:
        past = self.past
        b.lines += [
            f"j = {across(past.block)}",
            f"key = {keys} + (text * {past.kv_heads} + g) * {past.columns * self.room} + j",
            f'largest = tl.full([1, {HELD}, {WARPS}, 1], float("-inf"), tl.float32)',
            f"for first in range(0, most, {past.block}):",
            f"    {score}",
            '    score = tl.where(first + j < count, score, float("-inf"))',
            "    found = tl.max(tl.max(score, axis=3, keep_dims=True), axis=0, keep_dims=True)",
            "    largest = tl.maximum(largest, found)",
        ]

    def sum_values(self, b: Builder, values: str, own: str, score: str) -> None:
        past, block = self.past, self.past.block
        wide = next_power_of_2(past.columns)
        # Where a head is narrower it has its last column several times over.
        d = "d" if wide == past.columns else f"tl.minimum(d, {past.columns - 1})"
        shape = [wide // min(wide, THREADS), HELD, WARPS, min(wide, THREADS)]
        of_values = "weight", "value", "end", "0", "count - first", str(past.cache_row), "1"
        b.lines += [
            f"d = {across(wide)}",
            f"value = {values} + text * {past.capacity * past.cache_row} + g * {past.columns} + {d}",
            f"own = {own} + ((text * tl.num_programs(1) + tile) * {past.kv_heads} + g) * {ROWS * block}",
            f"weight = own + row * {block}",
            f"row = tl.arange(0, {ROWS})[:, None] * {block} + tl.arange(0, {LANES})[None, :]",
            f"total = tl.zeros([1, {HELD}, {WARPS}, 1], tl.float32)",
            f"mixed = tl.zeros({shape}, tl.float32)",
            f"for first in range(0, most, {block}):",
            f"    {score}",
            f"    e = tl.where(first + j < count, {b.call('exp', 'score - largest')}, 0.0)",
            "    tl.store(weight + j, e)",
            "    tl.debug_barrier()",
            f"    sums = tl.zeros([{ROWS}, {LANES}], tl.float32)",
            f"    for k in tl.static_range(0, {block}, {LANES}):",
            "        sums += tl.load(own + row + k)",
            f"    total += tl.reshape({b.call('halving_trees', 'sums', str(LANES))}, [1, {HELD}, {WARPS}, 1])",
            f"    end = tl.minimum(most - first, {block})",
            f"    if first + {block} <= least:",
            f"        mixed += {b.call('tile_products', *of_values, 'False')}",
            "    else:",
            f"        mixed += {b.call('tile_products', *of_values, 'True')}",
            f"    value += {block * past.cache_row}",
            # The next weights take the place of these.
            "    tl.debug_barrier()",
        ]


def across(size: int) -> str:
    """Numbers of so many keys or columns, along the axes of a tile."""
    threads = min(size, THREADS)
    held = f"(tl.arange(0, {size // threads}) * {threads})[:, None, None, None]"
    return f"{held} + tl.arange(0, {threads})[None, None, None, :]"
