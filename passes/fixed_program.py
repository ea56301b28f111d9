"""A function in integers, written operation by operation beside the function of floats that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseIntOrFPElementsAttr, ModuleOp, TensorType, f32
from xdsl.ir import Block, Operation, Region, SSAValue

from sterna.dialects.errors import CompileError
from sterna.dialects.fixed import FromFloatOp, point_of, rows
from sterna.dialects.fixed_point import exact_width
from sterna.dialects.ternary import ElementwiseOp, LoadOp, YieldOp, tensor
from sterna.dialects.weights import WeightStore
from sterna.passes.derived_weights import DerivedWeights, weight_name
from sterna.passes.fixed_calibration import Ranges
from sterna.passes.fixed_formats import Format, Widths
from sterna.passes.fixed_scalars import Scalar, ScalarCode
from sterna.passes.fixed_tables import Tables
from sterna.passes.fold_weights import operations_behind
from sterna.passes.weight_values import WeightValues

Array = npt.NDArray[Any]
ROW, ELEMENT, COLUMN, ONE = (0,), (0, 1), (1,), ()
"""The axes of `[T, M]` that an input of a stage has: one number a row, an element, one a column, one for all."""

Input = tuple[SSAValue, tuple[int, ...]]


@dataclass(frozen=True)
class Step:
    """What a sum of quantized numbers is multiplied by, one number a row; `absorbed` is a factor of it already."""

    value: SSAValue
    absorbed: float


@dataclass
class FixedProgram:
    """What has been written so far, and the integers that stand for each value of the program in floats."""

    module: ModuleOp
    store: WeightStore | None
    ranges: Ranges
    widths: Widths
    block: Block
    arguments: dict[SSAValue, SSAValue]
    """The new function's, by those of the old one."""
    values: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    """Integers by the floats, and by the int8 numbers, that they stand for."""
    steps: dict[SSAValue, Step] = field(default_factory=dict[SSAValue, Step])
    formats: dict[SSAValue, Format] = field(default_factory=dict[SSAValue, Format])
    """Of values that must have one, whatever their range is."""

    def __post_init__(self) -> None:
        self.tables = Tables(self.module)
        self.weights = DerivedWeights(self.module)
        self._numbers = WeightValues(self.module, self.store)

    def add(self, op: Operation, source: Operation) -> Operation:
        op.location = source.location
        self.block.add_op(op)
        return op

    def format_for(self, largest: float, width: int | None = None) -> Format:
        """Of a value that calibration has seen to be at most that large."""
        return Format.holding(largest * 2.0**self.widths.headroom, width or self.widths.activations)

    def numbers(self, value: SSAValue) -> Array:
        """Of a value that is weights alone; CompileError for any other."""
        found = self._numbers.read(value)
        if found is None:
            raise CompileError("a weight is expected here, and a store to read it from (--weights)")
        return found

    def is_weight(self, value: SSAValue) -> bool:
        return value in self._numbers.weight_only

    def integers(self, value: SSAValue, source: Operation) -> SSAValue:
        """What stands for a float value."""
        if (found := self.values.get(value)) is None:
            if value in self.arguments:
                to = self.format_for(self.ranges.largest[value])
                integers = FromFloatOp(self.arguments[value], to.width, to.point)
                self.values[value] = self.add(integers, source).results[0]
                return self.values[value]
            if not self.is_weight(value):
                raise CompileError("it reads a value that has no fixed-point form here")
            to = Format.holding(float(np.abs(self.numbers(value)).max(initial=0.0)), self.widths.gains)
            return self.weight(value, to, source)
        return found

    def weight(self, value: SSAValue, to: Format, source: Operation, *, factor: float = 1.0) -> SSAValue:
        """A weight times a factor as a derived weight in that format, loaded here."""
        copies: dict[SSAValue, SSAValue] = {}
        body = Block([step.clone(copies) for step in operations_behind(value)])
        number = copies[value]
        if factor != 1.0:
            splat = cast(Any, DenseIntOrFPElementsAttr).from_list(
                TensorType(f32, tensor(value).get_shape()), [factor]
            )
            body.add_op(scale := arith.ConstantOp(splat))
            body.add_op(product := arith.MulfOp(number, scale.result))
            number = product.result
        body.add_op(integers := FromFloatOp(number, to.width, to.point))
        body.add_op(YieldOp(integers.result))
        name = weight_name(value)
        derived = self.weights.define(f"{name or 'constant'}.fixed", Region(body), after=name)
        return self.add(self.weights.load(derived), source).results[0]

    def load(self, value: SSAValue, source: Operation) -> SSAValue:
        """A weight as it is."""
        if not isinstance(load := value.owner, LoadOp):
            raise CompileError("a weight is expected here")
        return self.add(load.clone(), source).results[0]

    def stage(
        self,
        source: Operation,
        inputs: Sequence[Input],
        build: Callable[[ScalarCode, list[Scalar]], Sequence[Scalar]],
        shape: tuple[int, ...],
    ) -> list[SSAValue]:
        """One `ternary.elementwise` over that shape: its results are the scalars that `build` gives."""
        types = [tensor(value).element_type for value, _ in inputs]
        code = ScalarCode(types, source)
        arguments = [
            Scalar(argument, point_of(value.type) or 0)
            for argument, (value, _) in zip(code.block.args, inputs, strict=True)
        ]
        made = build(code, arguments)
        results = [rows(shape, scalar.width, scalar.point) for scalar in made]
        op = ElementwiseOp(
            [value for value, _ in inputs],
            code.finish([scalar.value for scalar in made]),
            results,
            [axes for _, axes in inputs],
        )
        return list(self.add(op, source).results)


def axes_of(value: SSAValue, shape: tuple[int, ...]) -> tuple[int, ...]:
    """How a value lies along `[T, M]`, if a plain broadcast says it."""
    given = tensor(value).get_shape()
    return ELEMENT if given == shape else ONE if not given else COLUMN


def require_rows(value: SSAValue) -> tuple[int, ...]:
    """The shape `[T, K]` of rows; CompileError for another."""
    shape = tensor(value).get_shape()
    if len(shape) != 2 or shape[1] == DYNAMIC_INDEX:
        raise CompileError(f"fixed point is for rows [T, K], found {value.type}")
    return shape


def scalar_of(value: SSAValue, argument: SSAValue) -> Scalar:
    return Scalar(argument, point_of(value.type) or 0)


def width(value: SSAValue) -> int:
    return exact_width(value)
