"""`ternary`: each operation is the function of `numerics.py` that its docstring states."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from xdsl.dialects.builtin import DYNAMIC_INDEX
from xdsl.interpreter import (
    Interpreter,
    InterpreterFunctions,
    PythonValues,
    ReturnedValues,
    TerminatorValue,
    impl,
    impl_terminator,
    register_impls,
)
from xdsl.ir import SSAValue

from sterna.dialects import numerics, ternary
from sterna.dialects.encodings import BitType
from sterna.dialects.errors import CompileError
from sterna.dialects.semantics.indexing import windows
from sterna.dialects.semantics.table import Array, applies, dtype
from sterna.dialects.weight_ops import SAME_MAGNITUDE

COUNTED = 1 << 20
"""Elements whose magnitudes are told apart for the message about a weight that is not ternary."""


def decompose(w: Array, *, per_channel: bool = False) -> tuple[Array, Array]:
    """(trits, scale) with w = trits * scale, or * scale[m] in row m; CompileError for any other weight.

    Magnitudes are one where they differ by no more than `SAME_MAGNITUDE`; the scale is the largest. In a few reads of
    w, because the head of a large model has 80 million elements.
    """
    rows = w.reshape(len(w), -1) if per_channel else w.reshape(1, -1)
    largest: Array = np.maximum(rows.max(-1, initial=0), -rows.min(-1, initial=0)).astype(np.float32)
    least: Array = (largest * np.float32(1 - SAME_MAGNITUDE))[:, None]
    fits: Array = (rows >= least) | (rows <= -least) | (rows == 0)
    wrong = ~(fits.all(-1) & np.isfinite(largest))
    if wrong.any():
        m = int(np.argmax(wrong))
        whose = f"row {m}'s" if per_channel else "its"
        raise CompileError(
            f"the weight is not ternary: {whose} non-zero elements have {_magnitudes(rows[m])}"
        )
    trits = (w > 0).view(np.int8) - (w < 0).view(np.int8)
    scale = np.where(largest == 0, np.float32(1.0), largest)
    return trits, scale if per_channel else scale[0]


def _magnitudes(row: Array) -> str:
    nonzero = np.abs(row[row != 0])
    count = len(np.unique(nonzero[:COUNTED]))
    found = f"{count}" if nonzero.size <= COUNTED else f"{count} or more"
    return f"{found} distinct magnitudes, from {nonzero.min():g} to {nonzero.max():g}, where one is expected"


def dequantize(acc: Array, step: Array, scale: Array) -> Array:
    """`step` is one number a row, or one for all; `scale` one a channel, or one for all."""
    return acc.astype(np.float32) * (np.expand_dims(step, -1) * scale)


def embed(tokens: Array, table: Array) -> Array:
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < len(table):
        raise CompileError(f"a token is outside [0, {len(table)}): found {tokens.min()} to {tokens.max()}")
    rows = table[tokens]
    return rows.astype(np.float32) if np.issubdtype(rows.dtype, np.floating) else rows


def lay(values: Array, axes: Sequence[int], rank: int) -> Array:
    """A view with `rank` axes: axis n of `values` is number axes[n], the others are 1 long."""
    ordered = values.transpose(np.argsort(axes))
    return ordered.reshape([values.shape[axes.index(axis)] if axis in axes else 1 for axis in range(rank)])


def fit(
    values: Sequence[Array],
    outs: Sequence[SSAValue],
    axes: Sequence[Sequence[int]],
    operands: Sequence[Array],
) -> PythonValues:
    """Spreads what a region yielded over the shape of the results, whose dynamic axes are as long as the operands'."""
    shape = list(ternary.tensor(outs[0]).get_shape())
    sizes = {
        operand.shape[n]
        for operand, followed in zip(operands, axes, strict=False)
        for n, axis in enumerate(followed)
        if shape[axis] == DYNAMIC_INDEX
    }
    if DYNAMIC_INDEX in shape and len(sizes) != 1:
        raise CompileError(f"no input says how many rows {ternary.tensor(outs[0])} has")
    full = [size if size != DYNAMIC_INDEX else next(iter(sizes)) for size in shape]
    return tuple(np.broadcast_to(value, full).copy() for value in values)


@register_impls
class TernaryFunctions(InterpreterFunctions):
    """`read_weight` gives the logical array of a weight by name."""

    def __init__(self, read_weight: Callable[[str], Array]) -> None:
        self.read_weight = read_weight

    embedding = applies(ternary.EmbeddingOp, embed)
    dequantize = applies(ternary.DequantizeOp, dequantize)

    @impl_terminator(ternary.YieldOp)
    def run_yield(
        self, interpreter: Interpreter, op: ternary.YieldOp, args: PythonValues
    ) -> tuple[TerminatorValue, PythonValues]:
        return ReturnedValues(args), ()

    @impl(ternary.WeightOp)
    def weight(self, interpreter: Interpreter, op: ternary.WeightOp, args: PythonValues) -> PythonValues:
        return ()

    @impl(ternary.LoadOp)
    def load(self, interpreter: Interpreter, op: ternary.LoadOp, args: PythonValues) -> PythonValues:
        return (self.read_weight(op.weight.string_value()),)

    @impl(ternary.RmsNormOp)
    def rms_norm(self, interpreter: Interpreter, op: ternary.RmsNormOp, args: PythonValues) -> PythonValues:
        x, weight = args
        return (numerics.rms_norm(x, weight, op.eps.value.data, op.lanes.value.data),)

    @impl(ternary.QuantizeOp)
    def quantize(self, interpreter: Interpreter, op: ternary.QuantizeOp, args: PythonValues) -> PythonValues:
        return numerics.quantize(args[0], op.eps.value.data)

    @impl(ternary.AbsmeanOp)
    def absmean(self, interpreter: Interpreter, op: ternary.AbsmeanOp, args: PythonValues) -> PythonValues:
        return numerics.absmean(args[0], op.eps.value.data)

    @impl(ternary.TernarizeOp)
    def ternarize(
        self, interpreter: Interpreter, op: ternary.TernarizeOp, args: PythonValues
    ) -> PythonValues:
        trits, scale = decompose(args[0], per_channel=ternary.tensor(op.scale).get_num_dims() == 1)
        if isinstance(ternary.tensor(op.trits).element_type, BitType) and not trits.all():
            raise CompileError("the weight is not binary: an element is 0")
        return trits, scale

    @impl(ternary.AccumulateOp)
    def accumulate(
        self, interpreter: Interpreter, op: ternary.AccumulateOp, args: PythonValues
    ) -> PythonValues:
        x, w = args
        return (numerics.accumulate(x, w, op.group_count).astype(dtype(op.acc)),)

    @impl(ternary.ConvolveOp)
    def convolve(self, interpreter: Interpreter, op: ternary.ConvolveOp, args: PythonValues) -> PythonValues:
        x, w = args
        slid = windows(x, op)
        declared = op.full_shape(ternary.tensor(op.x).get_shape())[: op.position_axes]
        rows = [size for size, static in zip(slid.shape, declared, strict=False) if static != 1]
        columns = w.shape[1] * op.group_count
        return (numerics.accumulate(slid.reshape(*rows, columns), w, op.group_count),)

    @impl(ternary.ThresholdOp)
    def threshold(
        self, interpreter: Interpreter, op: ternary.ThresholdOp, args: PythonValues
    ) -> PythonValues:
        x, thresholds = args
        return (numerics.threshold(x, thresholds, op.base.value.data),)

    @impl(ternary.ScanOp)
    def scan(self, interpreter: Interpreter, op: ternary.ScanOp, args: PythonValues) -> PythonValues:
        return numerics.scan(*args)

    @impl(ternary.NormQuantizeOp)
    def norm_quantize(
        self, interpreter: Interpreter, op: ternary.NormQuantizeOp, args: PythonValues
    ) -> PythonValues:
        x, *rest = args
        outer = rest.pop(0) if op.outer is not None else None
        pairs = numerics.norm_quantize(
            x,
            outer,
            rest,
            outer_eps=op.outer_eps.value.data if op.outer_eps is not None else 0.0,
            eps=op.eps.value.data,
            quantize_eps=op.quantize_eps.value.data,
            lanes=op.lanes.value.data,
        )
        return (*(q for q, _ in pairs), *(step for _, step in pairs))

    @impl(ternary.ElementwiseOp)
    def elementwise(
        self, interpreter: Interpreter, op: ternary.ElementwiseOp, args: PythonValues
    ) -> PythonValues:
        rank = ternary.tensor(op.outs[0]).get_num_dims()
        # Elements along the results' axes, 1 long where an input does not depend on one.
        laid = [lay(value, axes, rank) for value, axes in zip(args, op.input_axes(), strict=True)]
        values = interpreter.run_ssacfg_region(op.body, tuple(laid), "elementwise")
        return fit(values, op.outs, op.input_axes(), args)

    @impl(ternary.ProjectOp)
    def project(self, interpreter: Interpreter, op: ternary.ProjectOp, args: PythonValues) -> PythonValues:
        groups = (op.q, op.steps, op.weights, op.scales, op.extras)
        remaining = iter(args)
        q, steps, weights, scales, extras = ([next(remaining) for _ in group] for group in groups)
        products = tuple(
            dequantize(numerics.accumulate(q[read], weight), steps[read], scale)
            for weight, scale, read in zip(weights, scales, op.reads.get_values(), strict=True)
        )
        values = interpreter.run_ssacfg_region(op.body, (*products, *extras), "project")
        return fit(values, op.outs, [tuple(range(products[0].ndim))], products)
