"""Every operator that is imported: the tables of all families."""

from __future__ import annotations

from sterna.frontends.onnx import (
    activations,
    contractions,
    control_flow,
    convolutions,
    elementwise,
    indexing,
    integer_products,
    matmul_nbits,
    multithreshold,
    norms,
    older,
    pooling,
    powers,
    qonnx,
    qoperator,
    quantization,
    reductions,
    shapes,
    slicing,
)
from sterna.frontends.onnx.emitters import EmitterTable

EMITTERS = EmitterTable(
    activations.EMITTERS,
    contractions.EMITTERS,
    control_flow.EMITTERS,
    convolutions.EMITTERS,
    elementwise.EMITTERS,
    indexing.EMITTERS,
    integer_products.EMITTERS,
    matmul_nbits.EMITTERS,
    multithreshold.EMITTERS,
    norms.EMITTERS,
    older.EMITTERS,
    pooling.EMITTERS,
    powers.EMITTERS,
    qoperator.EMITTERS,
    qonnx.EMITTERS,
    quantization.EMITTERS,
    reductions.EMITTERS,
    shapes.EMITTERS,
    slicing.EMITTERS,
)
