"""What emitters of kernels work with: tensors as they lie in memory, the kernel being written, and its function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import cast

from xdsl.dialects import arith
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    FloatAttr,
    IndexType,
    IntegerAttr,
    TensorType,
    bf16,
    f16,
    f32,
    i1,
    i8,
    i16,
    i32,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue

from sterna.dialects.encodings import EncodingAttr, encoding_of, is_trits
from sterna.dialects.errors import CompileError, describe_location
from sterna.dialects.layout import ROW_ELEMENTS, row_elements
from sterna.dialects.ternary import tensor
from sterna.targets.triton.region import Region
from sterna.targets.triton.region import number_text as number_text
from sterna.targets.triton.source import NAME, Kernel, Names, Param, call, tuple_text, without_unused

POINTERS: dict[Attribute, str] = {
    f32: "*fp32",
    f16: "*fp16",
    bf16: "*bf16",
    i1: "*u8",
    i8: "*i8",
    i16: "*i16",
    i32: "*i32",
    i64: "*i64",
}
TORCH: dict[Attribute, str] = {
    f32: "torch.float32",
    f16: "torch.float16",
    bf16: "torch.bfloat16",
    i1: "torch.uint8",
    i8: "torch.int8",
    i16: "torch.int16",
    i32: "torch.int32",
    i64: "torch.int64",
}
TRITON: dict[str, str] = {
    "*fp32": "tl.float32",
    "*fp16": "tl.float16",
    "*bf16": "tl.bfloat16",
    "*i8": "tl.int8",
    "*i16": "tl.int16",
    "*i32": "tl.int32",
    "*i64": "tl.int64",
    "*u8": "tl.int1",
}
RESERVED = frozenset(
    {
        "float",
        "int",
        "range",
        "tl",
        "triton",
        "torch",
        "batch",
        "weights",
        "rows",
        "ROWS",
        "CHANNELS",
        "TILES",
        "SPLIT",
        "OVERLAP",
        "AHEAD",
        "PTX",
        "MANY",
        "ALONE",
        "STEP",
    }
)


LONG = 60
"""Characters of an expression that becomes a statement of its own."""

TAKE_TURN = "take_turn()"
"""The first statement of a kernel: before it stands at most what reads or fetches weights."""


@dataclass(frozen=True)
class Shape:
    """The logical shape of a tensor whose dynamic axes are `rows` long, and the strides of `dialects/layout.py`."""

    sizes: tuple[int | None, ...]
    row: int | None
    """Elements from one row to the next; None where the last axis is T, and so not known."""

    @staticmethod
    def of(value: SSAValue) -> Shape:
        type = tensor(value)
        sizes = tuple(None if size == DYNAMIC_INDEX else size for size in type.get_shape())
        if not sizes or sizes == (None,):
            return Shape(sizes, 1)
        return Shape(sizes, None if sizes[-1] is None else row_elements(type))

    @property
    def leading(self) -> tuple[int | None, ...]:
        return self.sizes[:-1]

    @property
    def columns(self) -> int | None:
        return self.sizes[-1] if self.sizes else 1


def product_text(sizes: Sequence[int | None], rows: str) -> str:
    """How many elements such axes have, as an expression."""
    static = prod(size for size in sizes if size is not None)
    factors = [rows] * sum(size is None for size in sizes)
    if static != 1 or not factors:
        factors.append(str(static))
    return " * ".join(factors)


def in_memory(element: Attribute) -> Attribute:
    """An index has 64 bits."""
    return i64 if isinstance(element, IndexType) else element


def element(value: SSAValue, op: Operation) -> Attribute:
    found = in_memory(tensor(value).element_type)
    if found not in POINTERS:
        raise CompileError(f"the GPU target holds no elements of type {found} in memory", op.location)
    return found


def memory_element(value: SSAValue, op: Operation) -> Attribute:
    """The type of an element of a tensor, or of a scalar that lies on the device."""
    if isinstance(value.type, TensorType):
        return element(value, op)
    found = in_memory(value.type)
    if found not in POINTERS:
        raise CompileError(f"the GPU target has no scalar of type {value.type}", op.location)
    return found


def place(op: Operation) -> str:
    """What a comment says of an operation: its name and the user's line."""
    return f"{op.name} at {where}" if (where := describe_location(op.location)) else op.name


@dataclass
class Host:
    """The function of the launcher that is being printed."""

    file: File
    lines: list[str] = field(default_factory=list[str])
    values: dict[SSAValue, str] = field(default_factory=dict[SSAValue, str])
    """The Python expression of every tensor, and of the scalars that lie on the device, as tensors of one element."""
    numbers: dict[SSAValue, str] = field(default_factory=dict[SSAValue, str])
    """The Python expression of the scalars that the host knows: what loops count."""
    depth: int = 0
    """How many loops and choices the lines stand in."""
    stepped: set[Operation] = field(default_factory=set[Operation])
    """Recurrences of which a product computes the step of one token."""

    def __post_init__(self) -> None:
        self.names = Names(set(RESERVED), outer=self.file.names)

    def expression(self, value: SSAValue) -> str:
        if value not in self.values and isinstance(value.owner, arith.ConstantOp):
            return constant_text(value.owner)
        return self.values[value]

    def allocate(self, value: SSAValue, name: str | None = None) -> None:
        """Memory for a result."""
        op = value.owner
        assert isinstance(op, Operation)
        sizes = [("batch.rows" if size is None else str(size)) for size in Shape.of(value).sizes]
        name = self.names.new(value.name_hint or name or default_name(op))
        self.lines.append(f"{name} = batch.empty({tuple_text(sizes)}, {TORCH[element(value, op)]})")
        self.values[value] = name

    def launch(
        self,
        kernel: Kernel,
        grid: str,
        arguments: Sequence[str],
        *,
        options: Sequence[str] = (),
        depth: int = 0,
    ) -> None:
        name = self.file.add(kernel)
        warps = [f"num_warps={kernel.num_warps}"] if kernel.num_warps != 4 else []
        registers = [f"**registers({kernel.registers})"] if kernel.registers is not None else []
        given = [*arguments, *options, *warps, *registers, "**EXACT"]
        text = call(f"{name}[{grid}]", given, depth=1 + depth + self.depth)
        self.lines += ["    " * depth + line for line in text]


@dataclass
class File:
    """The kernels of the emitted file, by what they do."""

    names: Names
    kernels: dict[tuple[object, ...], tuple[str, Kernel]] = field(
        default_factory=dict[tuple[object, ...], tuple[str, Kernel]]
    )
    row_wise: bool = False
    """May a call be of several texts?"""

    def add(self, kernel: Kernel) -> str:
        """The name of the kernel; of an equal one if there is one already."""
        if kernel.identity not in self.kernels:
            number = sum(other.stem == kernel.stem for _, other in self.kernels.values())
            self.kernels[kernel.identity] = (self.names.new(f"{kernel.stem}_{number}"), kernel)
        return self.kernels[kernel.identity][0]


@dataclass
class Builder:
    """A kernel that is being written."""

    stem: str
    host: Host
    names: Names = field(default_factory=lambda: Names(set(RESERVED)))
    params: list[Param] = field(default_factory=list[Param])
    arguments: list[str] = field(default_factory=list[str])
    lines: list[str] = field(default_factory=list[str])
    doc: list[str] = field(default_factory=list[str])
    helpers: set[str] = field(default_factory=set[str])
    pointers: dict[SSAValue, str] = field(default_factory=dict[SSAValue, str])
    scalars: dict[SSAValue, str] = field(default_factory=dict[SSAValue, str])
    """Numbers that other operations compute, and this kernel for itself (`scalars.py`)."""
    constants: list[Param] = field(default_factory=list[Param])
    uses_rows: bool = False
    given_length: str | None = None

    def pointer(self, value: SSAValue, name: str, op: Operation) -> str:
        """The parameter for where a tensor lies."""
        if value not in self.pointers:
            type = "*u8" if is_trits(value.type) else POINTERS[memory_element(value, op)]
            # Named by what it is to the operation, so that the kernels of equal layers are equal.
            self.pointers[value] = self.names.new(name)
            self.params.append(Param(self.pointers[value], type))
            self.arguments.append(self.host.expression(value))
        return self.pointers[value]

    def new_pointer(self, name: str, type: str, argument: str) -> str:
        found = self.names.new(name)
        self.params.append(Param(found, type))
        self.arguments.append(argument)
        return found

    def rows(self) -> str:
        """The number of rows, which only the call knows."""
        self.uses_rows = True
        return "rows"

    def length(self) -> str:
        """T, where `rows` are those of all leading axes."""
        if self.given_length is None:
            self.given_length = self.new_pointer("length", "i32", "batch.rows")
        return self.given_length

    def constant(self, name: str, example: int | bool) -> str:
        self.constants.append(Param(name, "constexpr", example))
        return name

    def call(self, function: str, *arguments: str) -> str:
        self.helpers.add(function)
        return f"{function}({', '.join(arguments)})"

    def assign(self, name: str, expression: str) -> str:
        found = self.names.new(name)
        self.lines.append(f"{found} = {expression}")
        return found

    def joined(self, name: str, parts: Sequence[str], operator: str) -> str:
        """All parts with an operator between them; as a name, in more statements than one, where that is long."""
        whole = parts[0]
        for part in parts[1:]:
            if len(whole) + len(part) > LONG:
                whole = self.assign(name, whole)
            whole += f" {operator} {part}"
        return whole if len(whole) <= LONG else self.assign(name, whole)

    def region(self) -> Region:
        return Region(self.names, self.lines, self.helpers)

    def function(self, *params: Param) -> Kernel:
        """What is written, as a function that kernels call with `params` before its own."""
        self.finish()
        return Kernel(
            self.stem,
            (*params, *self.params),
            tuple(self.lines),
            tuple(self.doc),
            frozenset(self.helpers),
            is_function=True,
        )

    def finish(self) -> None:
        self.lines = without_unused(self.lines)
        self.helpers &= set(NAME.findall("\n".join(self.lines)))

    def kernel(self, *, num_warps: int = 4, registers: int | None = None, tuned: str | None = None) -> Kernel:
        params = list(self.params)
        self.finish()
        if TAKE_TURN not in self.lines:
            self.helpers.add("take_turn")
            self.lines.insert(0, TAKE_TURN)
        if self.uses_rows:
            params.append(Param("rows", "i32", 16))
        return Kernel(
            self.stem,
            (*params, *self.constants),
            tuple(self.lines),
            tuple(self.doc),
            frozenset(self.helpers),
            num_warps,
            registers,
            tuned,
        )

    def all_arguments(self) -> list[str]:
        return [*self.arguments, *(["batch.rows"] if self.uses_rows else [])]


def default_name(op: Operation) -> str:
    return op.name.rsplit(".", 1)[-1]


def constant_text(op: arith.ConstantOp) -> str:
    match op.value:
        case IntegerAttr(value=number) | FloatAttr(value=number):
            value = number.data
            return repr(value) if value == value and abs(value) != float("inf") else f'float("{value}")'
        case _:
            raise CompileError(f"a constant of type {op.result.type} is no number", op.location)


def encoding(weight: SSAValue, op: Operation) -> EncodingAttr:
    """How a weight is packed."""
    type = cast("TensorType[Attribute]", weight.type)
    if (found := encoding_of(type)) is None:
        raise CompileError(f"the GPU target reads packed trits, not {type}", op.location)
    return found


def number_of_row(value: SSAValue, pointer: str, b: Builder) -> str:
    """The address of what a tensor has for row number t of all: the last of its axes is padded, if there are others.

    Numbers are of 4 or 8 bytes: their rows are whole `ROW_ELEMENTS`.
    """
    shape = Shape.of(value)
    if len(shape.sizes) < 2:
        return f"{pointer} + t"
    columns, row = shape.columns, str(shape.row)
    if columns is None:
        columns = b.length()
        row = f"(({columns} + {ROW_ELEMENTS - 1}) // {ROW_ELEMENTS} * {ROW_ELEMENTS})"
    elif columns == shape.row:
        return f"{pointer} + t"
    return f"{pointer} + t // {columns} * {row} + t % {columns}"


def next_power_of_2(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()
