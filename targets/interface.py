"""The interface of a planned module, read from its entry and its attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects import func
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DenseArrayBase,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    StringAttr,
)
from xdsl.ir import Attribute, BlockArgument, Operation, OpResult, SSAValue

from sterna.dialects.elements import dtype_of
from sterna.dialects.encodings import encoding_of
from sterna.dialects.errors import CompileError
from sterna.dialects.layout import buffer_bytes, strides
from sterna.dialects.ternary import AttentionOp, EmbeddingOp, PositionsOp, WeightOp, tensor
from sterna.targets.program import DYNAMIC, Program, ProgramTensor
from sterna.targets.row_wise import is_row_wise


def program_of(module: ModuleOp) -> Program:
    """See `Program.of`."""
    entry = find_entry(module)
    max_rows = integer_attribute(module, "ternary.max_rows")
    functions = {op.sym_name.data: op for op in module.ops if isinstance(op, func.FuncOp)}
    weights = [op for op in module.ops if isinstance(op, WeightOp) and "offset" in op.attributes]
    return Program(
        inputs=tuple(_tensors(entry, "input", max_rows, functions)),
        outputs=tuple(_tensors(entry, "output", max_rows, functions)),
        max_rows=max_rows,
        in_pieces=is_row_wise(entry, functions, integer_attribute(entry, "sterna.states", default=0)),
        arena_bytes=integer_attribute(entry, "ternary.arena_bytes"),
        weights_bytes=integer_attribute(module, "ternary.weights_bytes"),
        streamed_bytes=sum(buffer_bytes(w.type, 0) for w in weights if encoding_of(w.type) is not None),
    )


@dataclass(frozen=True)
class EntryValue:
    """An input or a result of the entry, as the framework knew it."""

    value: SSAValue
    name: str
    shape: tuple[int, ...]
    is_state: bool
    given_dtype: str | None
    """The framework's, where it is not the program's."""
    batch_axis: int | None
    """The axis along which samples lie, of a program that takes one."""


def entry_values(entry: func.FuncOp, kind: Literal["input", "output"]) -> list[EntryValue]:
    """The inputs or the results of the entry, at any stage."""
    values = entry.body.block.args if kind == "input" else _returned(entry)
    names = _names(entry, f"sterna.{kind}_names")
    shapes = _shapes(entry, f"sterna.{kind}_shapes")
    types = _names(entry, f"sterna.{kind}_types")
    batches = _integers(entry.attributes.get(f"sterna.{kind}_batch"))
    plain = len(values) - integer_attribute(entry, "sterna.states", default=0)
    return [
        EntryValue(
            value,
            name=names[n] if n < len(names) else f"state_{n - plain}" if n >= plain else f"{kind}_{n}",
            shape=shapes[n] if n < len(shapes) else ir_shape(value),
            is_state=n >= plain,
            given_dtype=types[n] if n < len(types) and types[n] != dtype_name(value) else None,
            batch_axis=batches[n] if n < len(batches) and batches[n] >= 0 else None,
        )
        for n, value in enumerate(values)
    ]


def ir_shape(value: SSAValue) -> tuple[int, ...]:
    return tuple(DYNAMIC if size == DYNAMIC_INDEX else size for size in tensor(value).get_shape())


def dtype_name(value: SSAValue) -> str:
    return dtype_of(tensor(value).get_element_type()).name


def find_entry(module: ModuleOp) -> func.FuncOp:
    """The one function that is not private."""
    functions = [op for op in module.ops if isinstance(op, func.FuncOp)]
    entries = [op for op in functions if op.sym_visibility is None or op.sym_visibility.data != "private"]
    if len(entries) != 1:
        raise CompileError(f"expected one function that is not private, found {len(entries)}")
    return entries[0]


def integer_attribute(op: Operation, name: str, default: int | None = None) -> int:
    """An integer attribute that an earlier pass left; CompileError without it, unless there is a default."""
    value = op.attributes.get(name)
    if isinstance(value, IntegerAttr):
        return value.value.data
    if default is None:
        raise CompileError(f"{op.name} has no integer attribute '{name}': run plan-memory first", op.location)
    return default


def _returned(entry: func.FuncOp) -> Sequence[SSAValue]:
    last = entry.body.block.last_op
    assert isinstance(last, func.ReturnOp)
    return last.arguments


def _tensors(
    entry: func.FuncOp,
    kind: Literal["input", "output"],
    max_rows: int,
    functions: Mapping[str, func.FuncOp],
) -> list[ProgramTensor]:
    caches = _caches(entry, functions) if kind == "output" else ()
    return [
        ProgramTensor(
            name=each.name,
            shape=each.shape,
            ir_shape=ir_shape(each.value),
            dtype=dtype_name(each.value),
            batch_axis=each.batch_axis,
            given_dtype=each.given_dtype,
            is_state=each.is_state,
            strides=strides(tensor(each.value), max_rows),
            buffer_bytes=buffer_bytes(tensor(each.value), max_rows),
            limit=token_limit(each.value, functions) if kind == "input" else None,
            capacity=text_capacity(each.value, functions) if kind == "input" else None,
            in_place=each.value in caches,
        )
        for each in entry_values(entry, kind)
    ]


def place_capacity(value: SSAValue, functions: Mapping[str, func.FuncOp]) -> int | None:
    """The least capacity of the caches in whose rows the value, the positions of rows, says where they stand."""
    found = [
        op.capacity
        for op, number in uses_through_calls(value, functions)
        if isinstance(op, AttentionOp) and op.operands[number] is op.positions
    ]
    return min(found, default=None)


def draw_position(
    value: SSAValue, functions: Mapping[str, func.FuncOp], rows: int, draw: Callable[[int], Any]
) -> npt.NDArray[np.int64] | None:
    """For an input that is a position, or those of `rows` rows, one that fits; None for another.

    `draw` gives a number below its argument.
    """
    if (capacity := text_capacity(value, functions)) is not None:
        return np.asarray(draw(max(capacity - rows, 0) + 1))
    if (capacity := place_capacity(value, functions)) is not None:
        return draw(max(capacity - rows, 0) + 1) + np.arange(rows)
    return None


def _caches(entry: func.FuncOp, functions: Mapping[str, func.FuncOp]) -> set[SSAValue]:
    """The returned states that may lie where those lie that they follow."""
    given, returned = (
        [each.value for each in entry_values(entry, kind) if each.is_state] for kind in ("input", "output")
    )
    pairs = zip(given, returned, strict=True)
    return {after for before, after in pairs if cache_behind(after, functions) is before}


def token_limit(value: SSAValue, functions: Mapping[str, func.FuncOp]) -> int | None:
    """Rows of the smallest table that the value looks up in, here or in a function that it is passed to."""
    found = [
        tensor(op.table).get_shape()[0]
        for op, number in uses_through_calls(value, functions)
        if isinstance(op, EmbeddingOp) and number == 0
    ]
    return min(found, default=None)


def text_capacity(value: SSAValue, functions: Mapping[str, func.FuncOp]) -> int | None:
    """The least capacity of the positions that are counted from the value."""
    found = [
        op.capacity.value.data
        for op, number in uses_through_calls(value, functions)
        if isinstance(op, PositionsOp) and number == 0
    ]
    return min(found, default=None)


def cache_behind(value: SSAValue, functions: Mapping[str, func.FuncOp]) -> SSAValue | None:
    """The argument of the entry that a returned cache of a `ternary.attention` follows, if nothing else reads that."""
    callers: list[func.CallOp] = []
    while isinstance(value.owner, func.CallOp):
        callers.append(value.owner)
        assert isinstance(value, OpResult)
        value = _returned(functions[value.owner.callee.string_value()])[value.index]
    if not isinstance(attention := value.owner, AttentionOp):
        return None
    given = attention.keys if value is attention.new_keys else attention.values
    while isinstance(given, BlockArgument) and len(list(given.uses)) == 1:
        if not callers:
            return given
        given = callers.pop().operands[given.index]
    return None


def uses_through_calls(
    value: SSAValue, functions: Mapping[str, func.FuncOp]
) -> Iterator[tuple[Operation, int]]:
    """The operations that read the value, here and in functions that it is passed to, and as which operand."""
    for use in value.uses:
        if isinstance(call := use.operation, func.CallOp):
            argument = functions[call.callee.string_value()].body.block.args[use.index]
            yield from uses_through_calls(argument, functions)
        else:
            yield use.operation, use.index


def _names(entry: func.FuncOp, name: str) -> list[str]:
    value = entry.attributes.get(name)
    parts = cast("ArrayAttr[Attribute]", value).data if isinstance(value, ArrayAttr) else ()
    return [part.data for part in parts if isinstance(part, StringAttr)]


def _shapes(entry: func.FuncOp, name: str) -> list[tuple[int, ...]]:
    value = entry.attributes.get(name)
    parts = cast("ArrayAttr[Attribute]", value).data if isinstance(value, ArrayAttr) else ()
    return [_integers(part) for part in parts]


def _integers(value: Attribute | None) -> tuple[int, ...]:
    array = cast("DenseArrayBase[IntegerType]", value)
    return tuple(int(number) for number in array.get_values()) if isinstance(value, DenseArrayBase) else ()
