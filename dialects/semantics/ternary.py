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
from sterna.dialects.errors import CompileError
from sterna.dialects.semantics.table import Array, applies


def decompose(w: Array) -> tuple[Array, Array]:
    """(trits, scale) with w = trits * scale; CompileError unless the non-zero elements of w have one magnitude."""
    magnitudes = np.unique(np.abs(w[w != 0]))
    if magnitudes.size > 1 or not np.isfinite(magnitudes).all():
        raise CompileError(
            f"the weight is not ternary: its non-zero elements have {magnitudes.size} distinct magnitudes, "
            f"from {magnitudes[0]:g} to {magnitudes[-1]:g}, where one is expected"
        )
    scale = magnitudes[0] if magnitudes.size else np.float32(1.0)
    return np.sign(w).astype(np.int8), np.asarray(scale, np.float32)


def dequantize(acc: Array, step: Array, scale: Array) -> Array:
    return acc.astype(np.float32) * (step * scale)[..., None]


def embed(tokens: Array, table: Array) -> Array:
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < len(table):
        raise CompileError(f"a token is outside [0, {len(table)}): found {tokens.min()} to {tokens.max()}")
    return table[tokens].astype(np.float32)


def fit(values: Sequence[Array], outs: Sequence[SSAValue], operands: Sequence[Array]) -> PythonValues:
    """Spreads what a region yielded over the shape of the results, whose dynamic axes are as long as the operands'."""
    declared = ternary.tensor(outs[0]).get_shape()
    full = next((operand.shape for operand in operands if operand.ndim == len(declared)), declared)
    shape = tuple(
        size if size != DYNAMIC_INDEX else given for size, given in zip(declared, full, strict=True)
    )
    if DYNAMIC_INDEX in shape:
        raise CompileError(f"no input says how many rows {ternary.tensor(outs[0])} has")
    return tuple(np.broadcast_to(value, shape).copy() for value in values)


@register_impls
class TernaryFunctions(InterpreterFunctions):
    """`read_weight` gives the logical array of a weight by name."""

    def __init__(self, read_weight: Callable[[str], Array]) -> None:
        self.read_weight = read_weight

    embedding = applies(ternary.EmbeddingOp, embed)
    accumulate = applies(ternary.AccumulateOp, numerics.accumulate)
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
        return decompose(args[0])

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
        values = interpreter.run_ssacfg_region(op.body, args, "elementwise")
        return fit(values, op.outs, args)

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
        return fit(values, op.outs, products)
