"""Which tensors an operation reads: not those that only say what type its result has."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import tensor
from xdsl.dialects.builtin import TensorType
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Operation, SSAValue


def tensors_read(op: Operation) -> list[SSAValue]:
    """The operands whose elements the operation reads, in order."""
    return [value for value in _read(op) if isinstance(value.type, TensorType)]


def _read(op: Operation) -> Sequence[SSAValue]:
    match op:
        case linalg.GenericOp():
            initial = op.body.block.args[len(op.inputs) :]
            return [
                *op.inputs,
                *(out for out, argument in zip(op.outputs, initial, strict=True) if argument.uses),
            ]
        case linalg.BroadcastOp() | linalg.TransposeOp() | tensor.ReshapeOp():
            return op.operands[:1]
        case linalg.FillOp() | tensor.DimOp():
            return ()
        case _:
            return op.operands
