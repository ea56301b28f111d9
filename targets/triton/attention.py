"""Kernels of `ternary.attention`, whose ways for few rows and for many are in files of their own.

A batch is texts of one length: row n of an activation is token n % length of text n // length, and every text has a
cache of its own. The first launch writes the keys and values of this call into it, so that all rows are read from
there.
"""

from __future__ import annotations

from sterna.dialects.errors import CompileError
from sterna.dialects.numerics import LANES
from sterna.dialects.ternary import AttentionOp
from sterna.targets.triton.attention_blocks import emit_few_rows
from sterna.targets.triton.attention_tiles import emit_many_rows
from sterna.targets.triton.kernel import Host
from sterna.targets.triton.past import Past

FEW_ROWS = 64
"""Rows of a call up to which programs share a text. One row a text always does: keys are read for it alone."""

MOST_BLOCK = 128
"""Rows over which one sum goes, at most: the scores of more would not fit in registers."""


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
    if (rows := past.static_rows) is None:
        host.lines.append(f"if batch.length == 1 or batch.rows <= {FEW_ROWS}:")
        emit_few_rows(past, depth=1)
        host.lines.append("else:")
        emit_many_rows(past, depth=1)
    elif rows <= FEW_ROWS:
        emit_few_rows(past, depth=0)
    else:
        emit_many_rows(past, depth=0)
