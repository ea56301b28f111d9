"""Kernels of `ternary.attention`, whose ways for few rows and for many are in files of their own.

A batch is texts of one length: row n of an activation is token n % length of text n // length, and every text has a
cache of its own. The first launch writes the keys and values of this call into it, so that the others read all rows
from there.
"""

from __future__ import annotations

from sterna.dialects.errors import CompileError
from sterna.dialects.numerics import LANES
from sterna.dialects.ternary import AttentionOp
from sterna.targets.triton.attention_blocks import emit_few_rows
from sterna.targets.triton.attention_tiles import emit_many_rows
from sterna.targets.triton.kernel import Host, next_power_of_2
from sterna.targets.triton.past import Past, row_of

FEW_ROWS = 64
"""Rows of a call up to which programs share a text. One row a text always does: keys are read for it alone."""

MOST_BLOCK = 128
"""Rows over which one sum goes, at most: the scores of more would not fit in registers."""

WRITTEN = 1024
"""Columns of a row that a program writes."""


def emit_attention(op: AttentionOp, host: Host) -> None:
    block, lanes = op.block.value.data, op.lanes.value.data
    if block > MOST_BLOCK or lanes != LANES:
        raise CompileError(
            f"{op.name}: the GPU target has sums in {LANES} lanes and blocks of at most {MOST_BLOCK} rows, "
            f"not lanes = {lanes} and block = {block}",
            op.location,
        )
    for given, after in ((op.keys, op.new_keys), (op.values, op.new_values)):
        host.values[after] = name = host.names.new(after.name_hint or "cache")
        only_reader = len(list(given.uses)) == 1
        host.lines.append(f"{name} = batch.cache({host.expression(given)}, {only_reader})")
    host.allocate(op.result)
    past = Past(op, host)
    emit_write(past)
    if (rows := past.static_rows) is None:
        host.lines.append(f"if batch.length == 1 or batch.rows <= {FEW_ROWS}:")
        emit_few_rows(past, depth=1)
        host.lines.append("else:")
        emit_many_rows(past, depth=1)
    elif rows <= FEW_ROWS:
        emit_few_rows(past, depth=0)
    else:
        emit_many_rows(past, depth=0)


def emit_write(past: Past) -> None:
    """The keys and values of this call into the rows of the cache that its positions say."""
    op, columns, row = past.op, past.columns * past.kv_heads, row_of(past.op.k)
    b = past.builder("write_cache")
    k, v = b.pointer(op.k, "k", op), b.pointer(op.v, "v", op)
    positions = b.pointer(op.positions, "positions", op)
    keys, values = b.pointer(op.new_keys, "keys", op), b.pointer(op.new_values, "values", op)
    length = b.new_pointer("length", "i32", past.length)
    block = min(next_power_of_2(columns), WRITTEN)
    b.lines += [
        "t = tl.program_id(0).to(tl.int64)",
        f"c = tl.program_id(1) * {block} + tl.arange(0, {block})",
        f"p = tl.load({positions} + t + c * 0)",
        # A position outside is an error of the caller; what is beside the cache must not be written all the same.
        f"inside = (c < {columns}) & (p >= 0) & (p < {past.capacity})",
        f"at = (t // {length} * {past.capacity} + p) * {past.cache_row} + c",
        f"tl.store({keys} + at, tl.load({k} + t * {row} + c, mask=inside), mask=inside)",
        f"tl.store({values} + at, tl.load({v} + t * {row} + c, mask=inside), mask=inside)",
    ]
    grid = f"({past.rows}, {-(-columns // block)})"
    past.host.launch(b.kernel(num_warps=2), grid, b.all_arguments())
