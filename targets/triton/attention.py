"""Kernels of `ternary.positions`, `ternary.rotate` and `ternary.attention`.

A batch is texts of one length: row n of an activation is token n % length of text n // length, and every text has a
position and a cache of its own. Attention is two launches, so that the second reads every row from the cache: one
writes the keys and values of this call, one has a program for each row and head. That computes the scores twice, for
their maximum and for their exponentials, and keeps none of them; its sixteen partial sums are the rows of a tile.
"""

from __future__ import annotations

from xdsl.ir import SSAValue

from sterna.dialects.ternary import AttentionOp, PositionsOp, RotateOp, tensor
from sterna.targets.triton.kernel import (
    Builder,
    Host,
    Shape,
    next_power_of_2,
    number_text,
    place,
    product_text,
)

BLOCK = 1024
LANES = 16
SCORES = 64
"""Rows of the cache whose scores are computed at once for their maximum."""


def emit_positions(op: PositionsOp, host: Host) -> None:
    host.allocate(op.positions)
    host.values[op.next] = after = host.names.new(op.next.name_hint or "next")
    start = host.expression(op.start)
    written_over = "batch.in_place" if len(list(op.start.uses)) == 1 else "False"
    host.lines.append(f"{after} = {start} if {written_over} else batch.empty((batch.texts,), torch.int64)")
    b = Builder("positions", host)
    b.doc += [place(op)]
    first, out = b.pointer(op.start, "start", op), b.pointer(op.positions, "positions", op)
    following = b.pointer(op.next, "following", op)
    length = b.new_pointer("length", "i32", length_of(op.rows))
    b.names.taken |= {"text", "before", "t", "begin"}
    b.lines += [
        "text = tl.program_id(0)",
        f"before = tl.load({first} + text)",
        f"for begin in range(0, {length}, 128):",
        "    t = begin + tl.arange(0, 128)",
        f"    tl.store({out} + text * {length} + t, before + t, mask=t < {length})",
        # The next position may take the place of the first, which other threads may not have read.
        "tl.debug_barrier()",
        f"tl.store({following} + text, before + {length})",
    ]
    host.launch(b.kernel(), "(batch.texts,)", b.all_arguments())


def length_of(value: SSAValue) -> str:
    """Rows of one text."""
    size = Shape.of(value).sizes[0]
    return "batch.length" if size is None else str(size)


def rows_of(size: int | None) -> str:
    return "batch.rows" if size is None else str(size)


def emit_rotate(op: RotateOp, host: Host) -> None:
    """A thread turns a pair."""
    shape, half = Shape.of(op.x), op.half
    columns = shape.columns
    assert columns is not None
    host.allocate(op.result)
    b = Builder("rotate", host)
    b.doc += [place(op)]
    x, cos, sin = b.pointer(op.x, "x", op), b.pointer(op.cos, "cos", op), b.pointer(op.sin, "sin", op)
    out = b.pointer(op.result, "out", op)
    rows = product_text(shape.leading, b.rows() if None in shape.leading else "1")
    b.names.taken |= {"n", "inside", "j", "t", "at", "a", "b", "c", "s"}
    angle = Shape.of(op.cos).row
    b.lines += [
        f"n = tl.program_id(0).to(tl.int64) * {BLOCK} + tl.arange(0, {BLOCK})",
        f"t = n // {columns // 2}",
        f"inside = t < {rows}",
        f"j = n % {half}",
        f"at = t * {shape.row} + (n // {half}) % {columns // (2 * half)} * {2 * half} + j",
        f"a = tl.load({x} + at, mask=inside, other=0)",
        f"b = tl.load({x} + at + {half}, mask=inside, other=0)",
        f"c = tl.load({cos} + t * {angle} + j, mask=inside, other=0)",
        f"s = tl.load({sin} + t * {angle} + j, mask=inside, other=0)",
        f"tl.store({out} + at, a * c - b * s, mask=inside)",
        f"tl.store({out} + at + {half}, b * c + a * s, mask=inside)",
    ]
    total = product_text((*shape.leading, columns // 2), "batch.rows")
    host.launch(b.kernel(), f"(triton.cdiv({total}, {BLOCK}),)", b.all_arguments())


def emit_attention(op: AttentionOp, host: Host) -> None:
    for given, after in ((op.keys, op.new_keys), (op.values, op.new_values)):
        host.values[after] = name = host.names.new(after.name_hint or "cache")
        only_reader = len(list(given.uses)) == 1
        host.lines.append(f"{name} = batch.cache({host.expression(given)}, {only_reader})")
    emit_write(op, host)
    emit_attend(op, host)


def emit_write(op: AttentionOp, host: Host) -> None:
    """The keys and values of this call into the rows of the cache that its positions say."""
    shape = Shape.of(op.k)
    columns = shape.columns
    assert columns is not None
    b = Builder("write_cache", host)
    b.doc += [place(op)]
    k, v = b.pointer(op.k, "k", op), b.pointer(op.v, "v", op)
    positions = b.pointer(op.positions, "positions", op)
    keys, values = b.pointer(op.new_keys, "keys", op), b.pointer(op.new_values, "values", op)
    length = b.new_pointer("length", "i32", length_of(op.k))
    b.names.taken |= {"t", "c", "inside", "p", "at"}
    block = min(next_power_of_2(columns), BLOCK)
    cache_row = Shape.of(op.keys).row
    b.lines += [
        "t = tl.program_id(0).to(tl.int64)",
        f"c = tl.program_id(1) * {block} + tl.arange(0, {block})",
        f"p = tl.load({positions} + t + c * 0)",
        # A position outside is an error of the caller; what is beside the cache must not be written all the same.
        f"inside = (c < {columns}) & (p >= 0) & (p < {op.capacity})",
        f"at = (t // {length} * {op.capacity} + p) * {cache_row} + c",
        f"tl.store({keys} + at, tl.load({k} + t * {shape.row} + c, mask=inside), mask=inside)",
        f"tl.store({values} + at, tl.load({v} + t * {shape.row} + c, mask=inside), mask=inside)",
    ]
    grid = f"({rows_of(shape.sizes[0])}, {-(-columns // block)})"
    host.launch(b.kernel(num_warps=2), grid, b.all_arguments())


def emit_attend(op: AttentionOp, host: Host) -> None:
    shape, heads = Shape.of(op.q), op.heads.value.data
    size, sharing = op.head_columns, heads // op.kv_heads.value.data
    host.allocate(op.result)
    b = Builder("attention", host)
    b.doc += [place(op)]
    q, positions = b.pointer(op.q, "q", op), b.pointer(op.positions, "positions", op)
    keys, values = b.pointer(op.new_keys, "keys", op), b.pointer(op.new_values, "values", op)
    out = b.pointer(op.result, "out", op)
    length = b.new_pointer("length", "i32", length_of(op.q))
    b.names.taken |= {
        *("t", "h", "count", "cache", "row", "lane", "d", "first", "j", "score", "largest", "weight"),
        *("weights", "mixed", "value", "wide", "total", "at", "inside"),
    }
    cache_row = Shape.of(op.keys).row
    wide = max(next_power_of_2(size), LANES)
    masked = "" if size == wide else f" & (wide < {size})[None, :]"
    scores = b.call("attention_scores", "row", f"{keys} + cache", "j", "count", *map(str, (cache_row, size)))
    scale = number_text(op.scale.value.data)
    b.lines += [
        "t = tl.program_id(0).to(tl.int64)",
        "h = tl.program_id(1)",
        f"count = tl.minimum(tl.load({positions} + t) + 1, {tensor(op.keys).get_shape()[0]}).to(tl.int32)",
        f"cache = t // {length} * {op.capacity * (cache_row or 0)} + h // {sharing} * {size}",
        f"row = {q} + t * {shape.row} + h * {size}",
        'largest = tl.full([], float("-inf"), tl.float32)',
        f"for first in range(0, count, {SCORES}):",
        f"    j = first + tl.arange(0, {SCORES})",
        f"    score = {scores} * {scale}",
        '    largest = tl.maximum(largest, tl.max(tl.where(j < count, score, float("-inf")), axis=0))',
        f"wide = tl.arange(0, {wide})",
        f"weights = tl.zeros([{LANES}], tl.float32)",
        f"mixed = tl.zeros([{LANES}, {wide}], tl.float32)",
        f"for first in range(0, count, {LANES}):",
        f"    j = first + tl.arange(0, {LANES})",
        f"    score = {scores} * {scale}",
        f"    weight = tl.where(j < count, {b.call('exp', 'score - largest')}, 0.0)",
        f"    at = cache + (j.to(tl.int64) * {cache_row})[:, None] + wide[None, :]",
        f"    inside = (j < count)[:, None]{masked}",
        f"    value = tl.load({values} + at, mask=inside, other=0.0)",
        "    weights += weight",
        "    mixed += weight[:, None] * value",
        f"total = {b.call('halving_tree', 'weights', str(LANES))}",
        f"mixed = tl.div_rn({b.call('halving_trees', 'tl.trans(mixed)', str(LANES))}, total)",
        f"tl.store({out} + t * {shape.row} + h * {size} + wide, mixed, mask=wide < {size})",
    ]
    host.launch(b.kernel(), f"({rows_of(shape.sizes[0])}, {heads})", b.all_arguments())
