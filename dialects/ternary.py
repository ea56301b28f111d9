"""The `ternary` dialect: what is particular to MatMul-free models, and nothing that an upstream dialect says already.

Notation in the docstrings: a *row* is one token's vector; `T` rows, `K` columns in, `M` columns out. Rows may be absent
(a `tensor<K>` is one row) or dynamic (`tensor<?xKxf32>`). Reductions run over the last axis in the order of
`numerics.lane_sum`.
"""

from __future__ import annotations

from xdsl.ir import Dialect, Operation

from sterna.dialects.attention_ops import AttentionOp, PositionsOp, RotateOp
from sterna.dialects.constraints import Tensor, f32_attr, lanes_attr, quantized_types, rows_of, tensor
from sterna.dialects.convolve_op import ConvolveOp
from sterna.dialects.elements import width_of
from sterna.dialects.encodings import BitType, EncodingAttr, TritType
from sterna.dialects.indexing_ops import GatherOp, TopKOp, WindowsOp
from sterna.dialects.product_ops import AccumulateOp, DequantizeOp, ThresholdOp
from sterna.dialects.regions import ElementwiseOp, ProjectOp, YieldOp, scalar_region
from sterna.dialects.row_ops import EmbeddingOp, NormQuantizeOp, QuantizeOp, RmsNormOp, ScanOp
from sterna.dialects.weight_ops import AbsmeanOp, LoadOp, TernarizeOp, WeightOp, find_weight

__all__ = [
    "AbsmeanOp",
    "AccumulateOp",
    "AttentionOp",
    "ConvolveOp",
    "DequantizeOp",
    "ElementwiseOp",
    "EmbeddingOp",
    "GatherOp",
    "LoadOp",
    "NormQuantizeOp",
    "PositionsOp",
    "ProjectOp",
    "QuantizeOp",
    "RmsNormOp",
    "RotateOp",
    "ScanOp",
    "Tensor",
    "TernarizeOp",
    "Ternary",
    "ThresholdOp",
    "TopKOp",
    "WeightOp",
    "WindowsOp",
    "YieldOp",
    "f32_attr",
    "find_weight",
    "is_fixed_point",
    "lanes_attr",
    "quantized_types",
    "rows_of",
    "scalar_region",
    "tensor",
]


def is_fixed_point(op: Operation) -> bool:
    """Is it one of the operations that also take integers of other widths, and given such? Kernels are for the rest."""
    match op:
        case AccumulateOp():
            return (width_of(op.x.type), width_of(op.acc.type)) not in ((None, None), (8, 32))
        case EmbeddingOp():
            return width_of(op.table.type) is not None
        case _:
            return False


Ternary = Dialect(
    "ternary",
    [
        AbsmeanOp,
        AccumulateOp,
        AttentionOp,
        ConvolveOp,
        DequantizeOp,
        ElementwiseOp,
        EmbeddingOp,
        GatherOp,
        LoadOp,
        NormQuantizeOp,
        PositionsOp,
        ProjectOp,
        QuantizeOp,
        RmsNormOp,
        RotateOp,
        ScanOp,
        TernarizeOp,
        ThresholdOp,
        TopKOp,
        WeightOp,
        WindowsOp,
        YieldOp,
    ],
    [TritType, BitType, EncodingAttr],
)
