"""Which function emits the kernel of which operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xdsl.dialects import tensor
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Operation

from sterna.dialects import ternary
from sterna.dialects.errors import CompileError
from sterna.targets.cpu.attention import emit_attention, emit_positions, emit_rotate
from sterna.targets.cpu.elementwise import emit_elementwise
from sterna.targets.cpu.embedding import emit_embedding
from sterna.targets.cpu.indexing import emit_gather, emit_top_k, emit_windows
from sterna.targets.cpu.kernel import Frame
from sterna.targets.cpu.movement import (
    emit_concat,
    emit_copy,
    emit_extract_slice,
    emit_from_elements,
    emit_insert_slice,
    emit_pad,
    emit_reshape,
)
from sterna.targets.cpu.norm_quantize import emit_norm_quantize
from sterna.targets.cpu.pointwise import emit_elementwise_tensors, emit_empty, emit_filled, emit_moved
from sterna.targets.cpu.products import emit_accumulate, emit_dequantize
from sterna.targets.cpu.project import emit_project
from sterna.targets.cpu.quantize import emit_quantize
from sterna.targets.cpu.reduction import emit_generic, emit_matmul, emit_reduce
from sterna.targets.cpu.rms_norm import emit_rms_norm
from sterna.targets.cpu.scan import emit_scan
from sterna.targets.cpu.sums import emit_convolve
from sterna.targets.cpu.threshold import emit_threshold

KERNELS: dict[type[Operation], Callable[[Any, Frame], None]] = {
    linalg.BroadcastOp: emit_moved,
    linalg.FillOp: emit_filled,
    linalg.GenericOp: emit_generic,
    linalg.MatmulOp: emit_matmul,
    linalg.ReduceOp: emit_reduce,
    linalg.TransposeOp: emit_moved,
    tensor.CastOp: emit_copy,
    tensor.CollapseShapeOp: emit_reshape,
    tensor.ConcatOp: emit_concat,
    tensor.EmptyOp: emit_empty,
    tensor.ExpandShapeOp: emit_reshape,
    tensor.ExtractSliceOp: emit_extract_slice,
    tensor.FromElementsOp: emit_from_elements,
    tensor.InsertSliceOp: emit_insert_slice,
    tensor.PadOp: emit_pad,
    tensor.ReshapeOp: emit_reshape,
    tensor.SplatOp: emit_filled,
    ternary.AccumulateOp: emit_accumulate,
    ternary.AttentionOp: emit_attention,
    ternary.ConvolveOp: emit_convolve,
    ternary.DequantizeOp: emit_dequantize,
    ternary.ElementwiseOp: emit_elementwise,
    ternary.EmbeddingOp: emit_embedding,
    ternary.GatherOp: emit_gather,
    ternary.NormQuantizeOp: emit_norm_quantize,
    ternary.PositionsOp: emit_positions,
    ternary.ProjectOp: emit_project,
    ternary.QuantizeOp: emit_quantize,
    ternary.RmsNormOp: emit_rms_norm,
    ternary.RotateOp: emit_rotate,
    ternary.ScanOp: emit_scan,
    ternary.ThresholdOp: emit_threshold,
    ternary.TopKOp: emit_top_k,
    ternary.WindowsOp: emit_windows,
}


def emitter(op: Operation) -> Callable[[Any, Frame], None]:
    """What emits the kernel of an operation; CompileError if nothing does."""
    if ternary.is_fixed_point(op):
        raise CompileError(f"the CPU target has no kernel for {op.name} in fixed point", op.location)
    if (emit := KERNELS.get(type(op))) is not None:
        return emit
    if op.name.startswith(("arith.", "math.")):
        return emit_elementwise_tensors
    raise CompileError(f"the CPU target has no kernel for {op.name}", op.location)
