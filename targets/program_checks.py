"""Whether what a file says of a program can be: every field's type, and sizes that fit each other.

A runtime makes arrays of these sizes and lets native code write to them, so nothing here is left to chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from sterna.dialects.errors import CompileError

if TYPE_CHECKING:
    from sterna.targets.program import Program, ProgramTensor

DTYPES = {
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "float16": 2,
    "float32": 4,
    "float64": 8,
}
"""Bytes of an element."""

GIVEN_DTYPES = {*DTYPES, "uint8", "uint16", "uint32", "uint64", "bfloat16"}

LARGEST = 1 << 47
"""Bytes that a process can address on the machines that we know."""

MOST_AXES = 32
"""Of numpy's arrays before version 2."""


def check_program(program: Program) -> None:
    """CompileError, which names the field, for a program that no module can have."""
    sizes = ("max_rows", "arena_bytes", "weights_bytes", "streamed_bytes")
    for name in sizes:
        _require_size(name, getattr(program, name), 1 if name == "max_rows" else 0)
    _require("in_pieces", type(program.in_pieces) is bool, "true or false", program.in_pieces)
    for kind in ("inputs", "outputs"):
        for number, tensor in enumerate(getattr(program, kind)):
            _check_tensor(tensor, program.max_rows, f"{kind}[{number}]")
    _check_states(program)


def _check_tensor(tensor: ProgramTensor, max_rows: int, place: str) -> None:
    _require(f"{place}.name", type(tensor.name) is str, "a string", tensor.name)
    _require(f"{place}.is_state", type(tensor.is_state) is bool, "true or false", tensor.is_state)
    _require(f"{place}.dtype", _is_one_of(tensor.dtype, DTYPES), "a type of numpy", tensor.dtype)
    given = tensor.given_dtype
    _require(
        f"{place}.given_dtype", given is None or _is_one_of(given, GIVEN_DTYPES), "a type of numpy", given
    )
    for name in ("shape", "ir_shape"):
        sizes: Sequence[object] = getattr(tensor, name)
        _require(f"{place}.{name}", len(sizes) <= MOST_AXES, f"at most {MOST_AXES} sizes", len(sizes))
        for size in sizes:
            _require_size(f"{place}.{name}", size, -1)
    known = [prod(size for size in sizes if size >= 0) for sizes in (tensor.shape, tensor.ir_shape)]
    open_axes = [sizes.count(-1) for sizes in (tensor.shape, tensor.ir_shape)]
    _require(
        f"{place}.shape",
        known[0] == known[1] and open_axes[0] == open_axes[1],
        f"as many elements as in ir_shape {list(tensor.ir_shape)}",
        list(tensor.shape),
    )
    axis = tensor.batch_axis
    fits = axis is None or (type(axis) is int and 0 <= axis < len(tensor.shape))
    _require(f"{place}.batch_axis", fits, f"an axis of {list(tensor.shape)}", axis)
    if tensor.limit is not None:
        _require_size(f"{place}.limit", tensor.limit, 0)
    if tensor.capacity is not None:
        _require_size(f"{place}.capacity", tensor.capacity, 1)
        counts = (tensor.is_state, tensor.dtype, tensor.ir_shape) == (True, "int64", ())
        _require(f"{place}.capacity", counts, "null for all but a state that is a number", tensor.capacity)
    _require(f"{place}.in_place", type(tensor.in_place) is bool, "true or false", tensor.in_place)
    _check_memory(tensor, max_rows, place)


def _check_memory(tensor: ProgramTensor, max_rows: int, place: str) -> None:
    """Every element lies in the buffer."""
    _require_size(f"{place}.buffer_bytes", tensor.buffer_bytes, 0)
    for stride in tensor.strides:
        _require_size(f"{place}.strides", stride, 0)
    axes = len(tensor.ir_shape)
    _require(f"{place}.strides", len(tensor.strides) == axes, f"{axes} numbers", len(tensor.strides))
    sizes = [max_rows if size == -1 else size for size in tensor.ir_shape]
    last = sum((size - 1) * stride for size, stride in zip(sizes, tensor.strides, strict=True))
    needed = 0 if 0 in sizes else last + DTYPES[tensor.dtype]
    _require(
        f"{place}.buffer_bytes", tensor.buffer_bytes >= needed, f"at least {needed}", tensor.buffer_bytes
    )


def _check_states(program: Program) -> None:
    """States are the last inputs and the last results, each static, and as it is read it is written."""
    inputs, outputs = (
        [tensor for tensor in tensors if tensor.is_state] for tensors in (program.inputs, program.outputs)
    )
    last = all(
        list(tensors[len(tensors) - len(states) :]) == states
        for tensors, states in ((program.inputs, inputs), (program.outputs, outputs))
    )
    alike = [[(t.ir_shape, t.shape, t.dtype, t.strides) for t in states] for states in (inputs, outputs)]
    _require(
        "outputs", last and alike[0] == alike[1], "the states of the inputs, last", [t.name for t in outputs]
    )
    in_place = [tensor.name for tensor in (*program.inputs, *program.outputs) if tensor.in_place]
    allowed = [tensor.name for tensor in outputs if tensor.in_place]
    _require("in_place", in_place == allowed, "true for states of the outputs alone", in_place)
    for tensor in inputs:
        _require(f"inputs: state '{tensor.name}'", -1 not in tensor.shape, "known sizes", list(tensor.shape))


def _is_one_of(value: object, names: object) -> bool:
    return isinstance(value, str) and isinstance(names, dict | set) and value in names


def _require_size(place: str, value: object, least: int) -> None:
    fits = type(value) is int and least <= value < LARGEST
    _require(place, fits, f"an integer from {least} to 2^47", value)


def _require(place: str, fits: bool, expected: str, found: object) -> None:
    if not fits:
        shown = repr(found)
        raise CompileError(
            f"{place}: expected {expected}, found {shown if len(shown) <= 80 else shown[:77] + '...'}"
        )
