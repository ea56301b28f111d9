"""The simplest plan of memory, for tests of a target: nothing shares an address with anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects import func
from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, ModuleOp, i64
from xdsl.ir import SSAValue

from sterna.dialects.interpreter import evaluate_weight
from sterna.dialects.layout import buffer_bytes
from sterna.dialects.packing import pack
from sterna.dialects.ternary import LoadOp, WeightOp, tensor
from sterna.dialects.weights import WeightStore


def plan(module: ModuleOp, max_rows: int) -> None:
    """Gives every weight and every result of the only function its own place, as plan-memory does."""
    module.attributes["ternary.max_rows"] = IntegerAttr(max_rows, i64)
    end = 0
    for op in module.ops:
        if isinstance(op, WeightOp):
            op.attributes["offset"] = IntegerAttr(end, i64)
            end += buffer_bytes(op.type, 0)
    module.attributes["ternary.weights_bytes"] = IntegerAttr(end, i64)
    (function,) = (op for op in module.ops if isinstance(op, func.FuncOp))
    returned = function.body.block.last_op
    assert isinstance(returned, func.ReturnOp)
    end = 0

    def place(value: SSAValue) -> int:
        nonlocal end
        if value in returned.arguments:
            return -(returned.arguments.index(value) + 1)
        begin, end = end, end + buffer_bytes(tensor(value), max_rows)
        return begin

    for op in function.body.block.ops:
        if op.results and not isinstance(op, LoadOp):
            places = [place(value) for value in op.results]
            op.attributes["arena"] = DenseArrayBase.from_list(i64, places)
    function.attributes["ternary.arena_bytes"] = IntegerAttr(end, i64)


def packed_weights(module: ModuleOp, store: WeightStore) -> npt.NDArray[np.uint8]:
    """The bytes that a planned module's offsets point into."""
    total: Any = module.attributes["ternary.weights_bytes"]
    data = np.zeros(total.value.data, np.uint8)
    for op in module.ops:
        if isinstance(op, WeightOp) and isinstance(offset := op.attributes.get("offset"), IntegerAttr):
            packed = pack(evaluate_weight(module, op.sym_name.data, store), op.type)
            data[offset.value.data : offset.value.data + packed.nbytes] = packed
    return data
