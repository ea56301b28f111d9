"""Removes what no result depends on: operations of functions, then weights that nothing loads."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block
from xdsl.traits import IsTerminator

from sterna.dialects.ternary import LoadOp, WeightOp


def erase_dead_operations(block: Block) -> None:
    """Every op with values only is pure here: functions have one block, and tensors are values."""
    for op in reversed(list(block.ops)):
        if not op.has_trait(IsTerminator) and not any(result.uses for result in op.results):
            op.detach()
            op.erase()


def erase_dead_code(module: ModuleOp) -> None:
    """Dead operations of every function, and weights that no live weight or function loads."""
    weights = {op.sym_name.data: op for op in module.ops if isinstance(op, WeightOp)}
    pending: list[str] = []
    for function in (op for op in module.ops if isinstance(op, FuncOp)):
        for block in function.body.blocks:
            erase_dead_operations(block)
        pending += _loaded(function)
    live: set[str] = set()
    while pending:
        if (name := pending.pop()) in live or name not in weights:
            continue
        live.add(name)
        pending += _loaded(weights[name])
    for name, weight in weights.items():
        if name not in live:
            weight.detach()
            weight.erase()


def _loaded(op: FuncOp | WeightOp) -> list[str]:
    return [inner.weight.string_value() for inner in op.walk() if isinstance(inner, LoadOp)]
