"""Attention of few rows: programs share a text, one for each piece of its cache and head of keys and values.

A program serves the heads of queries that share those, so that they are read once. It takes two launches:

    scores    of a piece of the cache, and the largest of them; rows of this call that belong there are written before
    sums      over a block of the cache: of the weights, and of the weighted values; the last program of a text and of
              some heads to arrive adds those of all blocks, in their order

There is no third way, since weights need the largest score of all. Several rows of a text see keys of this call that
lie in a piece; each of their programs writes them, with the same bits, rather than wait for another.

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

UNROLLED = 8
"""Blocks whose sums a program asks for before it adds the first."""

WRITTEN = 8
"""Keys of the call that a program writes at once."""


def emit_few_rows(past: Past, *, depth: int) -> None:
    way = FewRows(past, depth)
    way.emit_scores()
    way.emit_sums()


class FewRows:
    """The launches, and what lies between them: for every row and head the scores `[C]`, the largest of each piece,
    and of each block the sum of the weights and that of the weighted values `[D]`; and how many blocks are summed."""

    def __init__(self, past: Past, depth: int) -> None:
        self.past, self.depth = past, depth
        self.served = min(next_power_of_2(past.sharing), HEADS)
        self.groups = -(-past.sharing // self.served)
        """Programs for a head of keys."""
        self.pieces, self.blocks = -(-past.capacity // PIECE), -(-past.capacity // past.block)
        self.size = min(next_power_of_2(past.columns), COLUMNS)
        self.parts = -(-past.columns // self.size)
        """Of the columns of the values, programs for each block."""
        self.turned = past.scratch_for_q(depth)
        rows = f"{past.rows} * {past.heads}"
        self.scores = past.scratch("scores", (rows, past.capacity), depth)
        self.largest = past.scratch("largest", (rows, self.pieces), depth)
        self.weight_sums = past.scratch("weight_sums", (rows, self.blocks), depth)
        self.value_sums = past.scratch("value_sums", (rows, self.blocks, past.columns), depth)
        self.counters = next_power_of_2(self.parts)
        programs = (f"{past.rows} * {past.kv_heads * self.groups}", self.counters)
        self.arrived = past.scratch("arrived", programs, depth, "torch.int32")

    def emit_scores(self) -> None:
        past, op = self.past, self.past.op
        b = past.builder("attention_scores")
        q, turned = self.turned_q(b)
        positions, keys = b.pointer(op.positions, "positions", op), b.pointer(op.new_keys, "keys", op)
        scores = b.new_pointer("scores", "*fp32", self.scores)
        largest = b.new_pointer("largest", "*fp32", self.largest)
        arrived = b.new_pointer("arrived", "*i32", self.arrived)
        length = b.new_pointer("length", "i32", past.length)
        whole = past.columns % LANES == 0
        inside = [] if whole else [f"inside = d + lane < {past.columns}"]
        trees = f"tl.reshape(partial, [{self.served * PIECE}, {LANES}])", str(LANES)
        body = [
            f"new = tl.maximum(p - t % {length}, first).to(tl.int32)",
            f"end = tl.minimum(first + {PIECE}, count)",
            *turned,
            *self.write_rows(b, keys, length),
            # What is written is read by other threads.
            "tl.debug_barrier()",
            f"j = first + tl.arange(0, {PIECE})",
            f"lane = tl.arange(0, {LANES})[None, None, :]",
            f"x = {q} + t * {past.row} + (h * {past.columns})[:, None, None] + lane",
            f"key = {keys} + (t // {length} * {past.capacity} + j)[None, :, None] * {past.cache_row}",
            f"key += g * {past.columns} + lane",
            f"partial = tl.zeros([{self.served}, {PIECE}, {LANES}], tl.float32)",
            "seen = (j < count)[None, :, None]",
            f"for d in tl.static_range(0, {past.columns}, {LANES}):",
            *indented(inside),
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
        b.lines += [
            f"first = tl.program_id(0) * {PIECE}",
            "if first == 0:",
            f"    tl.store({self.counter(arrived)} + tl.arange(0, {self.counters}), 0)",
            "if first < count:",
            *indented(body),
        ]
        self.launch(b, self.pieces)

    def turned_q(self, b: Builder) -> tuple[str, list[str]]:
        """Where the heads of row t are read, and what writes them there."""
        past, op = self.past, self.past.op
        if self.turned is None:
            return b.pointer(op.q, "q", op), []
        turned = b.new_pointer("turned", "*fp32", self.turned)
        lines = past.heads_written(
            b,
            op.q,
            "q",
            rotation=past.q_rotation,
            out=f"{turned} + t * {past.row} + served * {past.columns}",
            head="served",
            row="t",
            wanted=f"served < {past.heads}",
            depth=2,
        )
        return turned, ["served = h[:, None]", *lines]

    def write_rows(self, b: Builder, keys: str, length: str) -> list[str]:
        """Those of this call that row t sees in the piece, into the cache."""
        past, op = self.past, self.past.op
        values = b.pointer(op.new_values, "values", op)
        lines = past.cache_written(b, keys, values, head="g", row="row", wanted="j < end", depth=3)
        return [
            f"for some in range(new, end, {WRITTEN}):",
            f"    j = (some + tl.arange(0, {WRITTEN}))[:, None]",
            "    row = t - p + j",
            f"    at = (t // {length} * {past.capacity} + j) * {past.cache_row} + g * {past.columns}",
            *indented(lines),
        ]

    def emit_sums(self) -> None:
        past, op = self.past, self.past.op
        b = past.builder("attention_sums")
        positions = b.pointer(op.positions, "positions", op)
        scores = b.new_pointer("scores", "*fp32", self.scores)
        largest = b.new_pointer("largest", "*fp32", self.largest)
        values = b.pointer(op.new_values, "values", op)
        weight_sums = b.new_pointer("weight_sums", "*fp32", self.weight_sums)
        value_sums = b.new_pointer("value_sums", "*fp32", self.value_sums)
        arrived = b.new_pointer("arrived", "*i32", self.arrived)
        out = b.pointer(op.result, "out", op)
        length = b.new_pointer("length", "i32", past.length)
        size, parts, whole = self.size, self.parts, past.columns % self.size == 0
        columns = f"tl.arange(0, {size})" if parts == 1 else f"part * {size} + tl.arange(0, {size})"
        seen = "j < count" if whole else f"(j < count) & (d < {past.columns})[None, None, :]"
        masked = "" if whole else f", mask=(d < {past.columns})[None, :]"
        row, pieces = round_up(past.columns, LANES), round_up(self.pieces, LANES)
        weights_at = f"{weight_sums} + head[:, None] * {round_up(self.blocks, LANES)}"
        values_at = f"{value_sums} + (head[:, None] * {self.blocks} + {{}}) * {row} + d[None, :]"
        last = b.call("arrives_last", f"{self.counter(arrived)}{' + part' if parts > 1 else ''}", "blocks")
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
            f"tl.store({values_at.format('block')}, mix{masked})",
            f"tl.store({weights_at} + block, {b.call('halving_trees_between', 'weight', str(LANES))})",
            f"blocks = (count + {past.block - 1}) // {past.block}",
            f"if {last}:",
            f"    total = tl.zeros([{self.served}, 1], tl.float32)",
            f"    result = tl.zeros([{self.served}, {size}], tl.float32)",
            f"    for each in tl.range(0, blocks, loop_unroll_factor={UNROLLED}):",
            f"        total += tl.load({weights_at} + each)",
            f"        summed = {values_at.format('each')}",
            f"        result += tl.load(summed{masked})",
            f"    place = t * {past.row} + (h * {past.columns})[:, None] + d[None, :]",
            f"    tl.store({out} + place, tl.div_rn(result, total){masked})",
        ]
        self.place(b, positions)
        if parts > 1:
            b.lines += [f"part = tl.program_id(0) % {parts}", f"block = tl.program_id(0) // {parts}"]
        else:
            b.lines += ["block = tl.program_id(0)"]
        b.lines += [f"first = block * {past.block}", "if first < count:", *indented(body)]
        self.launch(b, self.blocks * parts)

    def counter(self, arrived: str) -> str:
        """Where the programs of row t and of these heads count themselves, part by part of the columns."""
        row = round_up(self.counters, LANES)
        return f"{arrived} + (t * {self.past.kv_heads * self.groups} + tl.program_id(1)) * {row}"

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
            f"p = tl.load({positions} + t)",
            f"count = {past.count('p')}",
            f"head = t * {past.heads} + h",
        ]

    def launch(self, b: Builder, programs: int) -> None:
        grid = f"({programs}, {self.past.kv_heads * self.groups}, {self.past.rows})"
        self.past.host.launch(b.kernel(), grid, b.all_arguments(), depth=self.depth)
