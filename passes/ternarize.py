"""Proves that every linear layer is ternary, or says, in one error, which are not.

    %t, %s = ternary.ternarize %w : ...                 the numbers in the store must be ternary, up to one scale
    %t, %s = ternary.absmean %w eps = 1.0e-05 : ...     ternary by construction
    %y = linalg.matmul ins(%x, %w ...) ...              a linear layer that stayed float: an error

Nothing is rewritten. Without a weight store nothing is read, and `ternary.ternarize` is checked when it is
evaluated. A compiler that let one float layer through would be correct and silently slow; so it is an error,
and all of them are listed at once with where they are, which weight they read, and why.

A module with the attribute `sterna.float_layers`, which frontends give to models that nobody claims to be ternary
throughout (ONNX, any `nn.Module`), may keep float layers; where the attribute lists weights (a dense head), theirs
alone. `--pass-statistics` lists them (`passes/linear_layers.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.dialects.linalg.ops import GenericOp, MatmulOp
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass

from sterna.dialects.encodings import is_trits
from sterna.dialects.errors import CompileError, describe_location
from sterna.dialects.interpreter import evaluate_weight
from sterna.dialects.ternary import AbsmeanOp, AccumulateOp, ConvolveOp, ProjectOp, WeightOp, tensor
from sterna.dialects.weight_ops import any_float_layer, named_float_layers
from sterna.dialects.weights import SternaContext, WeightStore
from sterna.passes.contractions import match_contraction
from sterna.passes.derived_weights import weight_name

COUNTED = 1 << 20
"""Elements that an error message looks at."""


def weights_behind(value: SSAValue) -> list[str] | None:
    """The weights that a value is computed from, or None if it depends on an input as well."""
    if isinstance(value, BlockArgument):
        return None
    if (name := weight_name(value)) is not None:
        return [name]
    names: list[str] = []
    for operand in value.owner.operands if isinstance(value.owner, Operation) else ():
        if (more := weights_behind(operand)) is None:
            return None
        names += more
    return names


@dataclass(frozen=True)
class Prover:
    module: ModuleOp
    store: WeightStore | None
    allow_float: bool = False
    float_weights: frozenset[str] = frozenset()
    """Those whose layers may be float, where others may not."""

    def complaints(self) -> Iterator[str]:
        """One for every operation with a weight that is not ternary."""
        weights = {op.sym_name.data: op for op in self.module.ops if isinstance(op, WeightOp)}
        verdicts: dict[str, str | None] = {}
        for op in (op for func in self.module.ops if isinstance(func, FuncOp) for op in func.walk()):
            match op:
                case MatmulOp() | GenericOp() if not self.allow_float and match_contraction(op):
                    for value in op.inputs:
                        names = weights_behind(value)
                        if names and not self.float_weights.issuperset(names):
                            yield describe(op, value, names, self.why_float(names))
                case AccumulateOp() | ConvolveOp() | ProjectOp():
                    for value in op.operands:
                        name = weight_name(value) if is_trits(value.type) else None
                        if name is None or name not in weights:
                            continue
                        if name not in verdicts:
                            verdicts[name] = self.why_not_ternary(weights[name])
                        if (why := verdicts[name]) is not None:
                            yield describe(op, value, [name], why)
                case _:
                    pass

    def why_not_ternary(self, weight: WeightOp) -> str | None:
        """None for trits that are proved, or that no store lets us read."""
        if self.store is None or (weight.body and not needs_proof(weight)):
            return None
        try:
            evaluate_weight(self.module, weight.sym_name.data, self.store)
        except CompileError as error:
            return error.message.removeprefix(f"weight @{weight.sym_name.data}: ")
        return None

    def why_float(self, names: list[str]) -> str:
        if self.store is None or len(names) != 1:
            return "float weights"
        try:
            sample = evaluate_weight(self.module, names[0], self.store).reshape(-1)[:COUNTED]
        except CompileError as error:
            return error.message.removeprefix(f"weight @{names[0]}: ")
        magnitudes = np.unique(np.abs(sample[sample != 0]))
        if magnitudes.size > 1:
            return f"float weights: {magnitudes.size} distinct magnitudes in the first {sample.size} elements"
        return "ternary weights, but its input is not quantized to int8"


def needs_proof(weight: WeightOp) -> bool:
    """Whether anything but an absmean makes the trits of a derived weight."""
    assert weight.body is not None
    made = (op for op in weight.body.walk() if any(is_trits(value.type) for value in op.results))
    return any(not isinstance(op, AbsmeanOp) for op in made)


def describe(op: Operation, value: SSAValue, names: list[str], why: str) -> str:
    shape = "x".join(map(str, tensor(value).get_shape()))
    what = f"{op.name} (@{', @'.join(names)}, {shape}: {why})"
    return f"{place} {what}" if (place := describe_location(op.location)) else what


@dataclass(frozen=True)
class TernarizePass(ModulePass):
    name = "ternarize"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        store = ctx.weights if isinstance(ctx, SternaContext) else None
        prover = Prover(op, store, any_float_layer(op), named_float_layers(op))
        if complaints := list(prover.complaints()):
            raise CompileError(
                f"{len(complaints)} linear layer{'s are' if len(complaints) > 1 else ' is'} not ternary: "
                + "; ".join(complaints)
            )
