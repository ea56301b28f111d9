"""What the linear layers of a program are, and which operation computes each: a report, not a pass.

fc1: 64x600 ternary, f32 activations, ternary.accumulate
fc2: 64x64 binary, 2-bit activations, ternary.accumulate
head: 10x64 float, f32 activations, linalg.matmul
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp, i8
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from sterna.dialects.encodings import BitType
from sterna.dialects.ternary import AccumulateOp, ConvolveOp, LoadOp, ProjectOp, tensor
from sterna.passes.contractions import match_contraction
from sterna.passes.matching import WeightOnly
from sterna.passes.pointwise import Pointwise
from sterna.passes.quantized_sources import integer_bounds

SUFFIXES = (".trits", ".folded", ".weight")


@dataclass(frozen=True)
class LinearLayer:
    name: str
    """Of its weight, as the source calls it."""
    shape: tuple[int, ...]
    weights: str
    """ternary, binary or float"""
    activations: str
    operation: str

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"{self.name}: {shape} {self.weights}, {self.activations} activations, {self.operation}"


def linear_layers(module: ModuleOp) -> Iterator[LinearLayer]:
    """Every product with a weight, in the order of the program."""
    for function in (op for op in module.ops if isinstance(op, FuncOp)):
        weight_only = WeightOnly()
        for op in function.walk():
            match op:
                case AccumulateOp() | ConvolveOp() if op.x not in weight_only:
                    yield _ternary(op, op.w, op.x)
                case ProjectOp():
                    for weight, read in zip(op.weights, op.reads.get_values(), strict=True):
                        yield _ternary(op, weight, op.q[read])
                case _ if (product := match_contraction(op)) is not None:
                    operands = (product.lhs.value, product.rhs.value)
                    weights = [value for value in operands if value in weight_only]
                    if len(weights) == 1:
                        shape = tensor(weights[0]).get_shape()
                        yield LinearLayer(layer_name(weights[0]), shape, "float", "f32", op.name)
                case _:
                    pass


def _ternary(op: Operation, weight: SSAValue, x: SSAValue) -> LinearLayer:
    kind = "binary" if isinstance(tensor(weight).element_type, BitType) else "ternary"
    return LinearLayer(layer_name(weight), tensor(weight).get_shape(), kind, activations(x), op.name)


def activations(x: SSAValue) -> str:
    """f32, or how many bits the integers that are seen to come have."""
    if tensor(x).element_type != i8:
        return "f32"
    low, high = integer_bounds(Pointwise().of(x))
    return f"{(high - low).bit_length()}-bit"


def layer_name(weight: SSAValue) -> str:
    """The name of the first weight that this one is computed from in the function, without what passes added."""
    pending = [weight]
    while pending:
        value = pending.pop()
        if isinstance(load := value.owner, LoadOp):
            name = load.weight.string_value()
            while (shorter := _without_suffix(name)) != name:
                name = shorter
            return name
        if isinstance(value.owner, Operation):
            pending += reversed(value.owner.operands)
    return "a constant"


def _without_suffix(name: str) -> str:
    head, _, number = name.rpartition(".")
    if number.isdigit() and any(head.endswith(suffix) for suffix in SUFFIXES):
        return head
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
