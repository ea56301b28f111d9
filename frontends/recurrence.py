"""Recognises the gated linear recurrence in torch's higher-order op `scan`.

`scan(step, state, (f, i))` imports as `ternary.scan` when its step is `s = f * s + i`, in any spelling, and every
output of the step is the new state. Any other step is an unsupported op.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.fx import GraphModule, Node
from xdsl.dialects import arith

from sterna.dialects.ternary import ScanOp
from sterna.frontends.lowering import Lowering, Unsupported, Value

aten: Any = torch.ops.aten
COPIES = (aten.clone.default, aten.alias.default, aten.detach.default, aten.contiguous.default)


@dataclass(frozen=True)
class Recurrence:
    """Which of the scanned inputs is which in `s = f * s + i`, and how many outputs repeat the state."""

    f: int
    i: int
    outputs: int


def match_recurrence(step: GraphModule) -> Recurrence | None:
    """The roles of the two scanned inputs of `step`, whose first input is its one state; None for another step."""
    inputs = [node for node in step.graph.nodes if node.op == "placeholder"]
    if len(inputs) != 3:
        return None
    state, *scanned = inputs
    results = cast(Sequence[object], step.graph.output_node().args[0])
    new, *others = [_copied(node) for node in results]
    if any(other is not new for other in others) or (terms := _terms(new, state)) is None:
        return None
    f, i = terms
    if {f, i} != set(scanned):
        return None
    return Recurrence(scanned.index(cast(Node, f)), scanned.index(cast(Node, i)), len(results) - 1)


def _terms(new: object, state: Node) -> tuple[object, object] | None:
    """(f, i) of `f * state + i`."""
    match new:
        case Node(target=aten.addcmul.default, args=(i, *factors), kwargs={}) if not new.kwargs:
            return None if (f := _other(factors, state)) is None else (f, _copied(i))
        case Node(target=aten.add.Tensor, args=(x, y)) if not new.kwargs:
            for product, i in ((_copied(x), _copied(y)), (_copied(y), _copied(x))):
                match product:
                    case Node(target=aten.mul.Tensor, args=factors):
                        if (f := _other(factors, state)) is not None:
                            return f, i
                    case _:
                        pass
        case _:
            pass
    return None


def _other(factors: Sequence[object], state: Node) -> object | None:
    """The factor beside the state, of two."""
    copied = [_copied(factor) for factor in factors]
    if len(copied) != 2 or state not in copied:
        return None
    return copied[1 - copied.index(state)]


def _copied(node: object) -> object:
    while isinstance(node, Node) and node.target in COPIES:
        node = node.args[0]
    return node


def emit_scan(
    to: Lowering, step: Node, init: Sequence[Node], scanned: Sequence[Node], additional: Sequence[Node]
) -> Value:
    """The outputs of the higher-order op: the last state, then every state. The scanned axis is the first one."""
    recurrence = match_recurrence(to.submodule(step)) if len(init) == 1 and not additional else None
    if recurrence is None:
        raise Unsupported("only the recurrence s = f * s + i is supported")
    f, i = to.value(scanned[recurrence.f]), to.value(scanned[recurrence.i])
    state, meta, i_meta = to.value(init[0]), to.meta(init[0]), to.meta(scanned[recurrence.i])
    if to.meta(scanned[recurrence.f]).shape != i_meta.shape or i_meta.shape[1:] != meta.shape:
        raise Unsupported("f and i are [T, ...] and the state is [...]")
    if i_meta.shape[0] == 1:
        last = to.binary(arith.AddfOp, to.binary(arith.MulfOp, f, state), i)
        return (last, *[last] * recurrence.outputs)
    width = to.count(meta.shape)
    rows = (i_meta.shape[0], width)
    scan = ScanOp(to.reshape(f, rows), to.reshape(i, rows), to.reshape(state, (width,)))
    to.build.add(scan)
    states = to.reshape(scan.states, i_meta.ir_shape)
    return (to.reshape(scan.last, meta.ir_shape), *[states] * recurrence.outputs)
