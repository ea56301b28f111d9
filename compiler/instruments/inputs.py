"""Inputs for the interpreter: generated from a seed, or given as literals, `.npy` or `.npz` files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    TensorType,
)
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute

from sterna.dialects.elements import dtype_of
from sterna.dialects.encodings import TritType
from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import EmbeddingOp, tensor
from sterna.dialects.weights import Array
from sterna.targets.interface import draw_position

ROWS = 3
"""Size of dynamic axes, unless a given input or the user says otherwise."""


def runnable_functions(module: ModuleOp) -> dict[str, FuncOp]:
    """The functions that somebody outside can call: public, with a body."""
    return {
        op.sym_name.data: op
        for op in module.ops
        if isinstance(op, FuncOp)
        and op.body.blocks
        and (op.sym_visibility is None or op.sym_visibility.data == "public")
    }


def entry_function(module: ModuleOp) -> FuncOp:
    """`@forward`, or the only public function; CompileError where neither is there."""
    functions = runnable_functions(module)
    if "forward" in functions:
        return functions["forward"]
    if len(functions) == 1:
        return next(iter(functions.values()))
    found = ", ".join(f"@{name}" for name in functions) or "no public function"
    raise CompileError(f"nothing to run: expected @forward or one public function, found {found}")


def input_names(function: FuncOp) -> list[str]:
    """The names in `sterna.input_names`, else what the arguments are called, else their numbers."""
    given = function.attributes.get("sterna.input_names")
    if isinstance(given, ArrayAttr):
        names = [name.data for name in cast("ArrayAttr[Attribute]", given) if isinstance(name, StringAttr)]
        if len(names) == len(function.body.block.args):
            return names
    return [arg.name_hint or str(number) for number, arg in enumerate(function.body.block.args)]


def generate_inputs(
    module: ModuleOp,
    function: FuncOp,
    *,
    rows: int = ROWS,
    seed: int = 0,
    zero_states: bool = False,
    given: Mapping[str, Array] | None = None,
) -> list[Array]:
    """Numbers for every input that is not given: normal floats, tokens of the vocabulary, any int8, booleans,
    positions in the capacity of a text.

    Every dynamic axis is `rows` long. `zero_states` gives recurrent states the zeros that a new sequence starts from.
    """
    types = [arg.type for arg in function.body.block.args]
    states = function.attributes.get("sterna.states")
    first_state = len(types) - (states.value.data if isinstance(states, IntegerAttr) else 0)
    vocabulary = _vocabulary(module)
    functions = {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp)}
    inputs: list[Array] = []
    for number, (name, type) in enumerate(zip(input_names(function), types, strict=True)):
        if given is not None and name in given:
            inputs.append(_as_dtype(given[name], type))
            continue
        generator = np.random.default_rng([seed, number])
        value = _generate(type, rows, generator, vocabulary)
        argument = function.body.block.args[number]
        position = draw_position(argument, functions, rows, generator.integers)
        value = value if position is None else position
        inputs.append(np.zeros_like(value) if zero_states and number >= first_state else value)
    return inputs


def _generate(type: Attribute, rows: int, generator: np.random.Generator, vocabulary: int) -> Array:
    shape = tuple(rows if size == DYNAMIC_INDEX else size for size in _shape(type))
    element = element_type(type)
    dtype = dtype_of(element)
    if isinstance(element, TritType):
        return generator.integers(-1, 2, shape, dtype)
    match dtype.kind:
        case "f":
            return np.asarray(generator.standard_normal(shape), dtype)
        case "b":
            return np.asarray(generator.integers(0, 2, shape), dtype)
        case _ if dtype.itemsize == 8:
            return np.asarray(generator.integers(0, vocabulary, shape), dtype)
        case _:
            return np.asarray(generator.integers(-127, 128, shape), dtype)


def element_type(type: Attribute) -> Attribute:
    """Of a tensor; a scalar is its own element."""
    return cast("TensorType[Attribute]", type).get_element_type() if isinstance(type, TensorType) else type


def _shape(type: Attribute) -> tuple[int, ...]:
    return type.get_shape() if isinstance(type, TensorType) else ()


def _vocabulary(module: ModuleOp) -> int:
    """The rows of the smallest embedding table: every token below is in all of them."""
    tables = (tensor(op.table).get_shape()[0] for op in module.walk() if isinstance(op, EmbeddingOp))
    return min(tables, default=2)


def read_inputs(texts: Iterable[str], names: Sequence[str]) -> dict[str, Array]:
    """What `--input` says: `NAME=VALUE`, or VALUE for the next input; a value is JSON, a `.npy` or a `.npz` file.

    CompileError names the option for anything else. A `.npz` names its own arrays.
    """
    found: dict[str, Array] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            name, value = "", text
        if value.endswith(".npz") and not name:
            arrays = _load(value, text)
        else:
            name = name or next((free for free in names if free not in found), "")
            if not name:
                raise CompileError(f"--input {text}: the function has no more inputs than {len(names)}")
            arrays = {name: _load(value, text)[""] if value.endswith(".npy") else _literal(value, text)}
        found |= arrays
    if unknown := [name for name in found if name not in names]:
        raise CompileError(f"--input: the function has no input '{unknown[0]}', it has: {', '.join(names)}")
    return found


def _load(path: str, option: str) -> dict[str, Array]:
    try:
        loaded: Any = np.load(Path(path), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, BadZipFile) as error:
        raise CompileError(f"--input {option}: not a file of arrays that numpy reads: {error}") from None


def _literal(value: str, option: str) -> Array:
    try:
        array = np.asarray(json.loads(value))
    except (ValueError, RecursionError):
        raise CompileError(
            f"--input {option}: expected a number, a list such as [1, 2], a .npy or a .npz file"
        ) from None
    if array.dtype.kind not in "bif":
        raise CompileError(f"--input {option}: expected numbers in rows of equal length")
    return array


def _as_dtype(array: Array, type: Attribute) -> Array:
    """JSON has one kind of number: whole ones become what the input is; anything else the interpreter checks."""
    dtype = dtype_of(element_type(type))
    return array.astype(dtype) if np.array_equal(array.astype(dtype), array) or dtype.kind == "f" else array


def describe(name: str, array: Array) -> str:
    """An input in a few words: its numbers where they are few, else its type and first numbers."""
    values = ", ".join(str(value) for value in array.reshape(-1)[:4])
    if array.size <= 4:
        return f"{name} = [{values}]" if array.ndim else f"{name} = {values}"
    return f"{name} = {type_text(array)} [{values}, ...]"


def type_text(array: Array) -> str:
    """`f32[3, 65]`."""
    kind = {"b": "i", "i": "i", "u": "u", "f": "f"}.get(array.dtype.kind, array.dtype.kind)
    bits = 1 if array.dtype.kind == "b" else array.dtype.itemsize * 8
    return f"{kind}{bits}[{', '.join(map(str, array.shape))}]"
