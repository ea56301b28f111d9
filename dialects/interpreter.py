"""The semantics of Sterna's IR: runs a module at any stage, in numpy, simply and slowly.

Built on xDSL's `Interpreter`; what each operation does is in `semantics/`. Every result is checked against its type, so
a wrong dtype or shape stops at the operation that made it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.interpreter import Interpreter, InterpreterFunctions, OpImplResult, PythonValues, ReturnedValues
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.utils.exceptions import InterpretationError
from xdsl.utils.scoped_dict import ScopedDict

from sterna.dialects.elements import dtype_of, is_bfloat16
from sterna.dialects.errors import CompileError
from sterna.dialects.fixed_numerics import limits
from sterna.dialects.semantics.arith import ArithFunctions
from sterna.dialects.semantics.attention import AttentionFunctions
from sterna.dialects.semantics.fixed import FixedFunctions
from sterna.dialects.semantics.func import FuncFunctions
from sterna.dialects.semantics.indexing import IndexingFunctions
from sterna.dialects.semantics.linalg import LinalgFunctions
from sterna.dialects.semantics.math import MathFunctions
from sterna.dialects.semantics.scf import ScfFunctions
from sterna.dialects.semantics.table import Array, odd_width
from sterna.dialects.semantics.tensor import TensorFunctions
from sterna.dialects.semantics.ternary import TernaryFunctions
from sterna.dialects.semantics.weights import WeightReader
from sterna.dialects.weights import WeightStore

WRONG_INPUT = (ValueError, IndexError, OverflowError, InterpretationError)
"""What numpy and xDSL raise where the program, or what it was given, is at fault."""


class RunError(CompileError):
    """An operation that could not be run: the message names it."""


def run(
    module: ModuleOp,
    inputs: Sequence[Array],
    *,
    function: str = "forward",
    weights: WeightStore | None = None,
) -> tuple[Array, ...]:
    """The results of a function on inputs of its IR types; CompileError for a wrong program, input or weight."""
    return ModuleInterpreter(module, weights).run(inputs, function=function)


def evaluate_weight(module: ModuleOp, name: str, weights: WeightStore | None) -> Array:
    """The logical value of a weight, stored or derived: f32, f16, or int8 for trits. No array is kept."""
    return ModuleInterpreter(module, weights, cached_weight_bytes=0).weight(name)


def interpreted_operations() -> set[str]:
    """The names of all operations that have a meaning here, but for the module and its functions."""
    tables = (functions._impls() for functions in _implementations(_no_weights, ModuleOp([])))  # pyright: ignore[reportPrivateUsage]
    return {op.name for table in tables for op, _ in table}


def _no_weights(name: str) -> Array:
    raise CompileError(f"there is no weight @{name}")


def _implementations(
    read_weight: Callable[[str], Array], module: ModuleOp
) -> tuple[InterpreterFunctions, ...]:
    return (
        ArithFunctions(),
        MathFunctions(),
        TensorFunctions(),
        LinalgFunctions(),
        FuncFunctions(),
        ScfFunctions(),
        TernaryFunctions(read_weight),
        AttentionFunctions(),
        IndexingFunctions(),
        FixedFunctions(module),
    )


Observer = Callable[[Operation, Sequence[Array], Sequence[Array]], None]
"""Is told of every operation that has run: its operands and its results."""


class ModuleInterpreter:
    """An interpreter of one module that keeps evaluated weights, up to a budget, from one run to the next."""

    def __init__(
        self,
        module: ModuleOp,
        weights: WeightStore | None = None,
        *,
        cached_weight_bytes: int = 1 << 28,
        observe: Observer | None = None,
    ) -> None:
        self._functions = {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp)}
        self._interpreter = _Interpreter(module, observe)
        self._weights = WeightReader(module, weights, self._interpreter, budget=cached_weight_bytes)
        for functions in _implementations(self._weights.read, module):
            self._interpreter.register_implementations(functions)

    def run(self, inputs: Sequence[Array], *, function: str = "forward") -> tuple[Array, ...]:
        if (op := self._functions.get(function)) is None:
            raise CompileError(
                f"there is no function @{function}, only: {', '.join(self._functions) or 'none'}"
            )
        types = op.function_type.inputs.data
        if len(inputs) != len(types):
            raise CompileError(f"@{function} takes {len(types)} inputs, found {len(inputs)}")
        given = tuple(
            _as_input(value, type, f"input {n} of @{function}")
            for n, (value, type) in enumerate(zip(inputs, types, strict=True))
        )
        with np.errstate(all="ignore"):
            return tuple(np.array(result) for result in self._interpreter.call_op(op, given))

    def region(self, region: Region, arguments: Sequence[Array] = ()) -> tuple[Array, ...]:
        """What a region of one block yields: that of a weight, or one on scalars, for which arrays stand."""
        with np.errstate(all="ignore"):
            return tuple(self._interpreter.run_ssacfg_region(region, tuple(arguments), "region"))

    def weight(self, name: str) -> Array:
        with np.errstate(all="ignore"):
            return self._weights.read(name)


def _as_input(value: Array, type: Attribute, what: str) -> Array:
    array = np.asarray(value)
    expected = dtype_of(type)
    if not np.can_cast(array.dtype, expected, "safe"):
        raise CompileError(f"{what} is {type}, found elements of {array.dtype}")
    if not _has_shape(array, type):
        raise CompileError(f"{what} is {type}, found an array of shape {array.shape}")
    given = array.astype(expected)
    if not fits(given, type):
        raise CompileError(f"{what} is {type}, and a number does not fit")
    return given


def _has_shape(array: Array, type: Attribute) -> bool:
    if not isinstance(type, TensorType):
        return array.ndim == 0
    shape = cast(TensorType[Attribute], type).get_shape()
    return len(shape) == array.ndim and all(
        size in (given, DYNAMIC_INDEX) for size, given in zip(shape, array.shape, strict=True)
    )


class _Interpreter(Interpreter):
    """Regions of one block, values dropped after their last use, results checked, errors with their place."""

    def __init__(self, module: ModuleOp, observe: Observer | None) -> None:
        super().__init__(module)
        self.observe = observe
        self._last_uses: dict[Block, dict[Operation, list[SSAValue]]] = {}

    def run_ssacfg_region(self, region: Region, args: PythonValues, name: str = "unknown") -> PythonValues:
        if len(region.blocks) != 1:
            raise CompileError(f"{name}: control flow between blocks has no meaning here")
        block = region.block
        last_uses = self._last_uses.get(block) or self._last_uses.setdefault(block, find_last_uses(block))
        values: dict[SSAValue, Any] = dict(zip(block.args, args, strict=True))
        outer = self._ctx
        self._ctx = ScopedDict(outer, name=name, local_scope=values)
        try:
            for op in block.ops:
                result = self._run_op(op, self.get_values(op.operands))
                if isinstance(result.terminator_value, ReturnedValues):
                    return result.terminator_value.values
                values.update(zip(op.results, result.values, strict=True))
                for value in last_uses[op]:
                    values.pop(value, None)
        finally:
            self._ctx = outer
        return ()

    def _run_op(self, op: Operation, inputs: PythonValues) -> OpImplResult:
        try:
            result = super()._run_op(op, inputs)
        except RunError:
            raise
        except CompileError as error:
            raise RunError(f"{op.name}: {error.message}", error.location or op.location) from None
        except WRONG_INPUT as error:
            raise RunError(f"{op.name}: {error}", op.location) from None
        values = tuple(np.asarray(value) for value in result.values)
        for value, declared in zip(values, op.results, strict=True):
            type = declared.type
            if value.dtype != dtype_of(type) or not (isinstance(type, TensorType) <= _has_shape(value, type)):
                found = f"{value.dtype} of shape {value.shape}"
                raise RunError(f"{op.name}: the result is {type}, but the program makes {found}", op.location)
            if not fits(value, type):
                raise RunError(f"{op.name}: the result is {type}, and a number does not fit", op.location)
        if self.observe is not None:
            self.observe(op, inputs, values)
        return OpImplResult(values, result.terminator_value)


def fits(value: Array, type: Attribute) -> bool:
    """Are integers within the width of their type (those that fill their dtype are), and float32 numbers that stand for
    bf16 none between its numbers?"""
    if is_bfloat16(type):
        return not (np.asarray(value, np.float32).view(np.uint32) & 0xFFFF).any()
    width = odd_width(type)
    if width is None or not value.size:
        return True
    low, high = limits(width)
    return bool(low <= value.min() and value.max() <= high)


def find_last_uses(block: Block) -> dict[Operation, list[SSAValue]]:
    """For every operation of the block, the values that nothing after it reads."""
    read_later: set[SSAValue] = set()
    last_uses: dict[Operation, list[SSAValue]] = {}
    for op in reversed(tuple(block.ops)):
        touched = {operand for inner in op.walk() for operand in inner.operands} | set(op.results)
        last_uses[op] = [value for value in touched if value not in read_later]
        read_later |= touched
    return last_uses
