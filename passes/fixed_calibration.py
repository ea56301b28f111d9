"""How large the numbers of a float program get: its values on calibration inputs, and what its norms compute inside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerAttr, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from sterna.dialects import numerics
from sterna.dialects.elements import dtype_of
from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.semantics.ternary import dequantize
from sterna.dialects.ternary import EmbeddingOp, NormQuantizeOp, ProjectOp, RmsNormOp, tensor
from sterna.dialects.weights import WeightStore

Array = npt.NDArray[Any]


class Ranges:
    """The largest magnitudes of a program's float values, by value; 0 for one that never was computed."""

    def __init__(self) -> None:
        self.largest: defaultdict[SSAValue, float] = defaultdict(float)
        self.outer: defaultdict[NormQuantizeOp, float] = defaultdict(float)
        """max |x * outer|"""
        self.gained: defaultdict[tuple[NormQuantizeOp, int], float] = defaultdict(float)
        """max |x * gain j|"""
        self.weighted: defaultdict[RmsNormOp, float] = defaultdict(float)
        """max |x * weight|"""
        self.reciprocal_root: defaultdict[RmsNormOp, float] = defaultdict(float)
        """max 1 / sqrt(sum x^2 + K eps)"""

    def observe(self, op: Operation, operands: Sequence[Array], results: Sequence[Array]) -> None:
        for result, values in zip(op.results, results, strict=True):
            self.see(result, values)
        match op:
            case NormQuantizeOp():
                x, *weights = operands
                if op.outer is not None:
                    self.outer[op] = max(self.outer[op], _largest(x * weights.pop(0)))
                for j, gain in enumerate(weights):
                    self.gained[op, j] = max(self.gained[op, j], _largest(x * gain))
            case RmsNormOp():
                x, weight = operands
                self.weighted[op] = max(self.weighted[op], _largest(x * weight))
                squares = (x.astype(np.float64) ** 2).sum(-1) + x.shape[-1] * op.eps.value.data
                self.reciprocal_root[op] = max(self.reciprocal_root[op], _largest(1 / np.sqrt(squares)))
            case ProjectOp():
                self._see_products(op, operands)
            case _:
                pass

    def _see_products(self, op: ProjectOp, operands: Sequence[Array]) -> None:
        given = dict(zip(op.operands, operands, strict=True))
        arguments = op.body.block.args
        for argument, weight, scale, read in zip(
            arguments, op.weights, op.scales, op.reads.get_values(), strict=False
        ):
            sums = numerics.accumulate(given[op.q[read]], given[weight])
            self.see(argument, dequantize(sums, given[op.steps[read]], given[scale]))

    def see(self, value: SSAValue, numbers: Array) -> None:
        if numbers.dtype == np.float32:
            self.largest[value] = max(self.largest[value], _largest(numbers))


def _largest(values: Array) -> float:
    """The largest finite magnitude."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def measure_ranges(
    module: ModuleOp,
    weights: WeightStore | None,
    inputs: Sequence[Sequence[Array]],
    function: str = "forward",
) -> Ranges:
    ranges = Ranges()
    interpreter = ModuleInterpreter(module, weights, observe=ranges.observe)
    (entry,) = (op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == function)
    for each in inputs:
        for argument, values in zip(entry.body.block.args, each, strict=True):
            ranges.see(argument, values)
        interpreter.run(each, function=function)
    return ranges


def inputs_for_tokens(function: FuncOp, tokens: Array) -> list[Array]:
    """One run over the tokens, from states of zeros."""
    states = _state_count(function)
    types = [tensor(argument) for argument in function.body.block.args]
    if len(types) != states + 1 or types[0].get_shape() != (DYNAMIC_INDEX,):
        raise CompileError("calibration tokens are for a program whose only input is the tokens")
    zeros = [np.zeros(type.get_shape(), dtype_of(type)) for type in types[1:]]
    return [np.asarray(tokens, dtype_of(types[0])), *zeros]


def random_inputs(module: ModuleOp, function: FuncOp, *, rows: int, seed: int) -> list[Array]:
    """Tokens of the vocabulary and normal numbers, states of zeros: for programs that nobody has a text for."""
    vocabulary = min(
        (tensor(op.table).get_shape()[0] for op in module.walk() if isinstance(op, EmbeddingOp)), default=2
    )
    generator = np.random.default_rng(seed)
    arguments = function.body.block.args
    first_state = len(arguments) - _state_count(function)
    inputs: list[Array] = []
    for number, argument in enumerate(arguments):
        shape = tuple(rows if size == DYNAMIC_INDEX else size for size in tensor(argument).get_shape())
        dtype = dtype_of(argument.type)
        if number >= first_state:
            inputs.append(np.zeros(shape, dtype))
        elif dtype.kind == "f":
            inputs.append(generator.standard_normal(shape).astype(dtype))
        else:
            inputs.append(generator.integers(0, vocabulary, shape).astype(dtype))
    return inputs


def _state_count(function: FuncOp) -> int:
    states = function.attributes.get("sterna.states")
    return cast("IntegerAttr[Any]", states).value.data if isinstance(states, IntegerAttr) else 0
