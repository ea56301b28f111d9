"""Which function prints the kernel of which operation. Those on rows, which join their neighbours, are in `rows.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xdsl.dialects import tensor
from xdsl.dialects.builtin import TensorType, i8
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Operation

from sterna.dialects import ternary
from sterna.targets.triton.attention import emit_attention
from sterna.targets.triton.batched import emit_generic, emit_matmul
from sterna.targets.triton.gathered import emit_sums
from sterna.targets.triton.indexing import emit_gather, emit_top_k, emit_windows
from sterna.targets.triton.kernel import Host
from sterna.targets.triton.loops import (
    emit_dequantize,
    emit_elementwise,
    emit_filled,
    emit_tensors,
    emit_threshold,
)
from sterna.targets.triton.movement import (
    emit_concat,
    emit_extract_slice,
    emit_from_elements,
    emit_insert_slice,
    emit_moved,
    emit_pad,
    emit_reshape,
)
from sterna.targets.triton.positions import emit_positions, emit_rotate
from sterna.targets.triton.products import MOST_COLUMNS, emit_accumulate, emit_project
from sterna.targets.triton.reductions import emit_reduce
from sterna.targets.triton.scan import emit_scan

Emit = Callable[[Any, Host], None]


def emit_product(op: ternary.AccumulateOp, host: Host) -> None:
    """On words of packed trits where the columns are a row of int8."""
    x = ternary.tensor(op.x)
    plain = op.group_count == 1 and x.element_type == i8 and x.get_shape()[-1] < MOST_COLUMNS
    (emit_accumulate if plain else emit_sums)(op, host)


KERNELS: dict[type[Operation], Emit] = {
    linalg.BroadcastOp: emit_moved,
    linalg.FillOp: emit_filled,
    linalg.GenericOp: emit_generic,
    linalg.MatmulOp: emit_matmul,
    linalg.ReduceOp: emit_reduce,
    linalg.TransposeOp: emit_moved,
    tensor.CastOp: emit_reshape,
    tensor.CollapseShapeOp: emit_reshape,
    tensor.ConcatOp: emit_concat,
    tensor.ExpandShapeOp: emit_reshape,
    tensor.ExtractSliceOp: emit_extract_slice,
    tensor.FromElementsOp: emit_from_elements,
    tensor.InsertSliceOp: emit_insert_slice,
    tensor.PadOp: emit_pad,
    tensor.ReshapeOp: emit_reshape,
    tensor.SplatOp: emit_filled,
    ternary.AccumulateOp: emit_product,
    ternary.AttentionOp: emit_attention,
    ternary.ConvolveOp: emit_sums,
    ternary.DequantizeOp: emit_dequantize,
    ternary.ElementwiseOp: emit_elementwise,
    ternary.GatherOp: emit_gather,
    ternary.PositionsOp: emit_positions,
    ternary.ProjectOp: emit_project,
    ternary.RotateOp: emit_rotate,
    ternary.ScanOp: emit_scan,
    ternary.ThresholdOp: emit_threshold,
    ternary.TopKOp: emit_top_k,
    ternary.WindowsOp: emit_windows,
}


def emitter_of(op: Operation) -> Emit | None:
    """What prints the kernel of an operation on tensors; None for one that has none here."""
    if ternary.is_fixed_point(op):
        return None
    if type(op) in KERNELS:
        return KERNELS[type(op)]
    if op.name.startswith(("arith.", "math.")) and op.results and isinstance(op.results[0].type, TensorType):
        return emit_tensors
    return None
