"""Inputs and weights that break kernels, drawn from a seed: zeros, outliers, ties, denormals, NaN, ends of int8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.ir import Attribute

from sterna.dialects.elements import dtype_of, is_bfloat16, truncated_to_bfloat16
from sterna.dialects.encodings import BitType, is_trits
from sterna.dialects.weight_ops import WeightOp
from sterna.targets.interface import (
    EntryValue,
    draw_position,
    entry_values,
    find_entry,
    ir_shape,
    place_capacity,
    text_capacity,
    token_limit,
)
from sterna.targets.program import DYNAMIC
from sterna.testing import nasty

Array = npt.NDArray[Any]
Generator = np.random.Generator

MOST_KINDS = 4
"""Kinds of rows in one array."""


@dataclass(frozen=True)
class Interface:
    """What a program takes, and how many rows at once."""

    entry: func.FuncOp
    functions: Mapping[str, func.FuncOp]

    @staticmethod
    def of(module: ModuleOp) -> Interface:
        functions = {op.sym_name.data: op for op in module.ops if isinstance(op, func.FuncOp)}
        return Interface(find_entry(module), functions)

    @property
    def inputs(self) -> list[EntryValue]:
        return entry_values(self.entry, "input")

    @property
    def outputs(self) -> list[EntryValue]:
        return entry_values(self.entry, "output")

    @property
    def is_dynamic(self) -> bool:
        return any(DYNAMIC in each.shape for each in self.inputs)

    @property
    def capacity(self) -> int | None:
        """The most rows of a text, if something bounds them."""
        bounds = (text_capacity, place_capacity)
        found = [bound(each.value, self.functions) for each in self.inputs for bound in bounds]
        return min((capacity for capacity in found if capacity is not None), default=None)

    def draw(self, generator: Generator, rows: int, *, special: bool) -> list[Array]:
        """Arrays for every input, in the framework's shapes; states too. With `special`, NaN and infinities."""
        return [self._input(generator, each, rows, special=special) for each in self.inputs]

    def _input(self, generator: Generator, port: EntryValue, rows: int, *, special: bool) -> Array:
        shape = sized(ir_shape(port.value), rows)
        position = draw_position(port.value, self.functions, rows, generator.integers)
        if position is not None:
            return position.reshape(sized(port.shape, rows))
        limit = token_limit(port.value, self.functions)
        array = draw_array(generator, port.value.type, shape, limit=limit, special=special)
        return array.reshape(sized(port.shape, rows))


def sized(shape: Sequence[int], rows: int) -> tuple[int, ...]:
    return tuple(rows if size == DYNAMIC else size for size in shape)


def draw_array(
    generator: Generator,
    type: Attribute,
    shape: Sequence[int],
    *,
    limit: int | None = None,
    special: bool = True,
) -> Array:
    """An array for a tensor type; the rows along its last axis are of kinds that the generator chooses."""
    dtype = dtype_of(type)
    if limit is not None:
        return generator.integers(0, limit, shape).astype(dtype)
    if is_trits(type):
        trits = nasty.rows_of_trits(generator, shape, _kinds(generator, nasty.TRITS))
        element = cast("TensorType[Attribute]", type).get_element_type()
        return np.where(trits == 0, np.int8(1), trits) if isinstance(element, BitType) else trits
    match dtype.kind:
        case "f":
            kinds = _kinds(generator, nasty.ANY if special else nasty.FINITE)
            with np.errstate(all="ignore"):
                floats = nasty.rows_of_floats(generator, shape, kinds)
                return truncated_to_bfloat16(floats) if is_bfloat16(type) else floats.astype(dtype)
        case "b":
            return generator.integers(0, 2, shape).astype(np.bool_)
        case _:
            return nasty.rows_of_integers(generator, shape, dtype, _kinds(generator, nasty.INTEGERS))


def draw_weights(module: ModuleOp, generator: Generator) -> dict[str, Array]:
    """Numbers for the stored weights of a module."""
    stored = (op for op in module.ops if isinstance(op, WeightOp) and op.body is None)
    return {op.sym_name.data: draw_array(generator, op.type, op.type.get_shape()) for op in stored}


def _kinds(generator: Generator, kinds: Mapping[str, object]) -> list[str]:
    names = list(kinds)
    return [names[n] for n in generator.integers(0, len(names), generator.integers(1, MOST_KINDS + 1))]
