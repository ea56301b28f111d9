"""Attention with a cache, as the models of `frontends/models` say it: the operators of `models/attention.py`.

See `aten` for what a table of emitters is. Texts come one at a time: the batch is 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node
from xdsl.ir import SSAValue

from sterna.dialects.ternary import AttentionOp, PositionsOp, RotateOp
from sterna.frontends.aten import EmitterTable
from sterna.frontends.lowering import Lowering, Unsupported
from sterna.frontends.models import attention as operators
from sterna.frontends.tensor_builder import shape_of

EMITTERS = EmitterTable()
emits = EMITTERS.of

assert operators.attention is not None  # imported for the operators that it registers
sterna: Any = torch.ops.sterna


@emits(sterna.positions.default)
def positions(to: Lowering, start: Node, rows: Node, capacity: int) -> tuple[SSAValue, SSAValue]:
    one_text(to, rows)
    op = PositionsOp(to.value(start), to.value(rows), capacity)
    to.build.add(op)
    return op.positions, op.next


@emits(sterna.rotate.default)
def rotate(to: Lowering, x: Node, cos: Node, sin: Node) -> SSAValue:
    one_text(to, x)
    return to.build.add(RotateOp(to.value(x), to.value(cos), to.value(sin)))


@emits(sterna.attention.default)
def attention(
    to: Lowering, q: Node, k: Node, v: Node, places: Node, keys: Node, values: Node, heads: int, kv_heads: int
) -> tuple[SSAValue, SSAValue, SSAValue]:
    one_text(to, q)
    rows, cached = to.meta(q).shape[1:], to.meta(keys).shape[1:]
    shapes = [rows, *[(rows[0], cached[1])] * 2, rows[:1], cached, cached]
    nodes = (q, k, v, places, keys, values)
    operands = [to.reshape(to.value(node), shape) for node, shape in zip(nodes, shapes, strict=True)]
    scale = (rows[1] // heads) ** -0.5
    op = AttentionOp(*operands, heads=heads, kv_heads=kv_heads, scale=scale)
    to.build.add(op)
    after = [to.reshape(value, to.meta(keys).ir_shape) for value in (op.new_keys, op.new_values)]
    return to.reshape(op.result, to.meta(q).ir_shape), after[0], after[1]


@emits(sterna.dense.default)
def dense(to: Lowering, x: Node, weight: Node) -> SSAValue:
    rows, matrix = to.value(x), to.value(weight)
    if len(shape_of(rows)) != 2 or len(shape_of(matrix)) != 2:
        raise Unsupported("expected rows, and a matrix of more than one row and column")
    return to.build.contract(rows, matrix, "tk,mk->tm")


def one_text(to: Lowering, rows: Node) -> None:
    if to.meta(rows).shape[0] != 1:
        raise Unsupported("a batch of several texts")
