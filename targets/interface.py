"""The interface of a planned module, read from its entry and its attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

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
from xdsl.ir import Attribute, Operation, SSAValue

from sterna.dialects.elements import dtype_of
from sterna.dialects.encodings import encoding_of
from sterna.dialects.errors import CompileError
from sterna.dialects.layout import buffer_bytes, row_stride_bytes
from sterna.dialects.ternary import EmbeddingOp, WeightOp, tensor
from sterna.targets.program import DYNAMIC, Program, ProgramTensor


def program_of(module: ModuleOp) -> Program:
    """See `Program.of`."""
    entry = find_entry(module)
    max_rows = integer_attribute(module, "ternary.max_rows")
    states = integer_attribute(entry, "sterna.states", default=0)
    arguments = list(entry.body.block.args)
    results = list(_returned(entry))
    functions = {op.sym_name.data: op for op in module.ops if isinstance(op, func.FuncOp)}
    weights = [op for op in module.ops if isinstance(op, WeightOp) and "offset" in op.attributes]
    return Program(
        inputs=tuple(_tensors(entry, "input", arguments, states, max_rows, functions)),
        outputs=tuple(_tensors(entry, "output", results, states, max_rows, functions)),
        max_rows=max_rows,
        arena_bytes=integer_attribute(entry, "ternary.arena_bytes"),
        weights_bytes=integer_attribute(module, "ternary.weights_bytes"),
        streamed_bytes=sum(buffer_bytes(w.type, 0) for w in weights if encoding_of(w.type) is not None),
    )


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
    kind: str,
    values: Sequence[SSAValue],
    states: int,
    max_rows: int,
    functions: Mapping[str, func.FuncOp],
) -> list[ProgramTensor]:
    names = _names(entry, f"sterna.{kind}_names")
    shapes = _shapes(entry, f"sterna.{kind}_shapes")
    plain = len(values) - states
    tensors: list[ProgramTensor] = []
    for n, value in enumerate(values):
        type = tensor(value)
        ir_shape = tuple(DYNAMIC if size == DYNAMIC_INDEX else size for size in type.get_shape())
        default = f"state_{n - plain}" if n >= plain else f"{kind}_{n}"
        tensors.append(
            ProgramTensor(
                name=names[n] if n < len(names) else default,
                shape=shapes[n] if n < len(shapes) else ir_shape,
                ir_shape=ir_shape,
                dtype=dtype_of(type.get_element_type()).name,
                is_state=n >= plain,
                row_bytes=row_stride_bytes(type),
                buffer_bytes=buffer_bytes(type, max_rows),
                limit=_limit(value, functions) if kind == "input" else None,
            )
        )
    return tensors


def _limit(value: SSAValue, functions: Mapping[str, func.FuncOp]) -> int | None:
    """Rows of the smallest table that the value looks up in, here or in a function that it is passed to."""
    limits: list[int] = []
    for use in value.uses:
        match use.operation:
            case EmbeddingOp():
                limits.append(tensor(use.operation.table).get_shape()[0])
            case func.CallOp():
                argument = functions[use.operation.callee.string_value()].body.block.args[use.index]
                if (limit := _limit(argument, functions)) is not None:
                    limits.append(limit)
            case _:
                pass
    return min(limits, default=None)


def _names(entry: func.FuncOp, name: str) -> list[str]:
    value = entry.attributes.get(name)
    parts = cast("ArrayAttr[Attribute]", value).data if isinstance(value, ArrayAttr) else ()
    return [part.data for part in parts if isinstance(part, StringAttr)]


def _shapes(entry: func.FuncOp, name: str) -> list[tuple[int, ...]]:
    value = entry.attributes.get(name)
    parts = cast("ArrayAttr[Attribute]", value).data if isinstance(value, ArrayAttr) else ()
    arrays = [cast("DenseArrayBase[IntegerType]", part) for part in parts if isinstance(part, DenseArrayBase)]
    return [tuple(int(size) for size in array.get_values()) for array in arrays]
