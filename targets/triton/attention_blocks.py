"""Attention of few rows: programs share a text, one for each piece of its cache and head of keys and values.

A program serves the heads of queries that share those, so that they are read once. It takes three launches:

    scores    of a piece of the cache, and the largest of them
    sums      over a block of the cache: of the weights, and of the weighted values
    total     of all blocks, in their order

The grid is for the capacity of the cache, since how long a text is lies on the device: programs beyond end at once.
Where a program has room for more heads than there are, it does the last one several times over.
"""

from __future__ import annotations

from sterna.dialects.layout import round_up
from sterna.dialects.numerics import LANES
from sterna.targets.triton.kernel import Builder, next_power_of_2
from sterna.targets.triton.past import Past
from sterna.targets.triton.source import indented

PIECE = 64
"""Rows of the cache whose scores a program computes."""

COLUMNS = 64
"""Columns of the values that a program sums, at most."""

HEADS = 8
"""Heads of queries that a program serves, at most."""


def emit_few_rows(past: Past, *, depth: int) -> None:
    way = FewRows(past, depth)
    way.emit_scores()
    way.emit_sums()
    way.emit_total()


class FewRows:
    """The launches, and what lies between them: for every row and head the scores `[C]`, the largest of each piece,
    and of each block the sum of the weights and that of the weighted values `[D]`."""

    def __init__(self, past: Past, depth: int) -> None:
        self.past, self.depth = past, depth
        self.served = min(next_power_of_2(past.sharing), HEADS)
        self.groups = -(-past.sharing // self.served)
        """Programs for a head of keys."""
        self.pieces, self.blocks = -(-past.capacity // PIECE), -(-past.capacity // past.block)
        rows = f"{past.rows} * {past.heads}"
        self.scores = past.scratch("scores", (rows, past.capacity), depth)
        self.largest = past.scratch("largest", (rows, self.pieces), depth)
        self.weight_sums = past.scratch("weight_sums", (rows, self.blocks), depth)
        self.value_sums = past.scratch("value_sums", (rows, self.blocks, past.columns), depth)

    def emit_scores(self) -> None:
        past, op = self.past, self.past.op
        b = past.builder("attention_scores")
        q, positions = b.pointer(op.q, "q", op), b.pointer(op.positions, "positions", op)
        keys = b.pointer(op.new_keys, "keys", op)
        scores = b.new_pointer("scores", "*fp32", self.scores)
        largest = b.new_pointer("largest", "*fp32", self.largest)
        length = b.new_pointer("length", "i32", past.length)
        whole = past.columns % LANES == 0
        trees = f"tl.reshape(partial, [{self.served * PIECE}, {LANES}])", str(LANES)
        body = [
            f"j = first + tl.arange(0, {PIECE})",
            f"lane = tl.arange(0, {LANES})",
            f"x = {q} + t * {past.row} + (h * {past.columns})[:, None, None] + lane[None, None, :]",
            f"key = {keys} + (t // {length} * {past.capacity} + j)[None, :, None] * {past.cache_row}",
            f"key += (g * {past.columns} + lane)[None, None, :]",
            f"partial = tl.zeros([{self.served}, {PIECE}, {LANES}], tl.float32)",
            "seen = (j < count)[None, :, None]",
            f"for d in tl.static_range(0, {past.columns}, {LANES}):",
            *([] if whole else [f"    inside = (d + lane < {past.columns})[None, None, :]"]),
            f"    wanted = tl.load(x + d{'' if whole else ', mask=inside, other=0.0'})",
            f"    partial += wanted * tl.load(key + d, mask=seen{'' if whole else ' & inside'}, other=0.0)",
            f"score = {b.call('halving_trees', *trees)}",
            f"score = tl.reshape(score, [{self.served}, {PIECE}]) * {past.scale}",
            "seen = (j < count)[None, :]",
            f"at = head[:, None] * {round_up(past.capacity, LANES)} + j[None, :]",
            f"tl.store({scores} + at, score, mask=seen)",
            'found = tl.max(tl.where(seen, score, float("-inf")), axis=1)',
            f"tl.store({largest} + head * {round_up(self.pieces, LANES)} + tl.program_id(0), found)",
        ]
        self.place(b, positions)
        b.lines += [f"first = tl.program_id(0) * {PIECE}", "if first < count:", *indented(body)]
        self.launch(b, self.pieces)

    def emit_sums(self) -> None:
        past, op = self.past, self.past.op
        b = past.builder("attention_sums")
        positions = b.pointer(op.positions, "positions", op)
        scores = b.new_pointer("scores", "*fp32", self.scores)
        largest = b.new_pointer("largest", "*fp32", self.largest)
        values = b.pointer(op.new_values, "values", op)
        weight_sums = b.new_pointer("weight_sums", "*fp32", self.weight_sums)
        value_sums = b.new_pointer("value_sums", "*fp32", self.value_sums)
        length = b.new_pointer("length", "i32", past.length)
        size = min(next_power_of_2(past.columns), COLUMNS)
        parts, whole = -(-past.columns // size), past.columns % size == 0
        columns = f"tl.arange(0, {size})" if parts == 1 else f"part * {size} + tl.arange(0, {size})"
        seen = "j < count" if whole else f"(j < count) & (d < {past.columns})[None, None, :]"
        row, pieces = round_up(past.columns, LANES), round_up(self.pieces, LANES)
        body = [
            f"lane = tl.arange(0, {LANES})",
            f"d = {columns}",
            f'most = tl.full([{self.served}, 1, 1], float("-inf"), tl.float32)',
            f"for piece in range(0, (count + {PIECE - 1}) // {PIECE}, {LANES}):",
            f"    at = head[:, None, None] * {pieces} + (piece + lane)[None, :, None]",
            f"    begun = ((piece + lane) * {PIECE} < count)[None, :, None]",
            f'    found = tl.load({largest} + at, mask=begun, other=float("-inf"))',
            "    most = tl.maximum(most, tl.max(found, axis=1, keep_dims=True))",
            f"weight = tl.zeros([{self.served}, {LANES}, 1], tl.float32)",
            f"mixed = tl.zeros([{self.served}, {LANES}, {size}], tl.float32)",
            f"for n in tl.static_range(0, {past.block}, {LANES}):",
            "    j = (first + n + lane)[None, :, None]",
            f"    at = head[:, None, None] * {round_up(past.capacity, LANES)} + j",
            f"    score = tl.load({scores} + at, mask=j < count, other=0.0)",
            f"    e = tl.where(j < count, {b.call('exp', 'score - most')}, 0.0)",
            f"    at = (t // {length} * {past.capacity} + j) * {past.cache_row}",
            f"    value = {values} + at + (g * {past.columns} + d)[None, None, :]",
            "    weight += e",
            f"    mixed += e * tl.load(value, mask={seen}, other=0.0)",
            f"mix = {b.call('halving_trees_between', 'mixed', str(LANES))}",
            f"at = (head[:, None] * {self.blocks} + block) * {row} + d[None, :]",
            f"tl.store({value_sums} + at, mix{'' if whole else f', mask=(d < {past.columns})[None, :]'})",
            f"at = head[:, None] * {round_up(self.blocks, LANES)} + block",
            f"tl.store({weight_sums} + at, {b.call('halving_trees_between', 'weight', str(LANES))})",
        ]
        self.place(b, positions)
        if parts > 1:
            b.lines += [f"part = tl.program_id(0) % {parts}", f"block = tl.program_id(0) // {parts}"]
        else:
            b.lines += ["block = tl.program_id(0)"]
        b.lines += [f"first = block * {past.block}", "if first < count:", *indented(body)]
        self.launch(b, self.blocks * parts)

    def emit_total(self) -> None:
        past, op = self.past, self.past.op
        b = past.builder("attention_total")
        positions = b.pointer(op.positions, "positions", op)
        weight_sums = b.new_pointer("weight_sums", "*fp32", self.weight_sums)
        value_sums = b.new_pointer("value_sums", "*fp32", self.value_sums)
        out = b.pointer(op.result, "out", op)
        size = next_power_of_2(past.columns)
        masked = "" if size == past.columns else f", mask=d < {past.columns}"
        b.lines += [
            "h = tl.program_id(0)",
            "t = tl.program_id(1).to(tl.int64)",
            f"count = {past.count(f'{positions} + t')}",
            f"head = t * {past.heads} + h",
            f"d = tl.arange(0, {size})",
            "weight = tl.full([], 0.0, tl.float32)",
            f"mixed = tl.zeros([{size}], tl.float32)",
            f"for block in tl.range(0, (count + {past.block - 1}) // {past.block}, loop_unroll_factor=4):",
            f"    weight += tl.load({weight_sums} + head * {round_up(self.blocks, LANES)} + block)",
            f"    at = (head * {self.blocks} + block) * {round_up(past.columns, LANES)} + d",
            f"    mixed += tl.load({value_sums} + at{masked})",
            f"tl.store({out} + t * {past.row} + h * {past.columns} + d, tl.div_rn(mixed, weight){masked})",
        ]
        grid = f"({past.heads}, {past.rows})"
        past.host.launch(b.kernel(num_warps=1), grid, b.all_arguments(), depth=self.depth)

    def place(self, b: Builder, positions: str) -> None:
        """The row t and how many rows it sees; the heads h of queries, that share head g of keys and values."""
        past, group = self.past, "tl.program_id(1)"
        some = f"tl.arange(0, {self.served})"
        if self.groups > 1:
            some = f"{group} % {self.groups} * {self.served} + {some}"
            group = f"{group} // {self.groups}"
        if past.sharing % self.served:
            some = f"tl.minimum({some}, {past.sharing - 1})"
        b.lines += [
            f"g = {group}",
            f"h = g * {past.sharing} + {some}",
            "t = tl.program_id(2).to(tl.int64)",
            f"count = {past.count(f'{positions} + t')}",
            f"head = t * {past.heads} + h",
        ]

    def launch(self, b: Builder, programs: int) -> None:
        grid = f"({programs}, {self.past.kv_heads * self.groups}, {self.past.rows})"
        self.past.host.launch(b.kernel(), grid, b.all_arguments(), depth=self.depth)
