"""What every kernel is made of: its function, the shape of its buffers, and its share of the work.

A kernel is a function of pointers (one an operand, then one a result, of the op that it implements) and
three i64: `rows` (the dynamic T), `thread` and `threads`. All threads call it with the same arguments but
`thread`, each does its share, and the caller puts a barrier after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.builder import ImplicitBuilder
from xdsl.dialects import func
from xdsl.dialects.builtin import DYNAMIC_INDEX, i64
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from sterna.dialects.encodings import encoding_of
from sterna.dialects.errors import CompileError
from sterna.dialects.layout import row_stride_bytes
from sterna.dialects.numerics import LANES
from sterna.dialects.ternary import Tensor, tensor
from sterna.targets.cpu.instructions import (
    FLOATS,
    INTS,
    POINTER,
    add,
    bitcast,
    constant,
    icmp,
    index,
    lane_numbers,
    load,
    loop,
    mul,
    offset,
    select,
    store,
    udiv,
)
from sterna.targets.cpu.isa import Isa

VECTOR_BYTES = 4 * LANES
"""Rows of float32 start at multiples of this, and are padded to them."""


def blocks_of(columns: int) -> int:
    """Vectors of 16 that cover a row."""
    return -(-columns // LANES)


@dataclass(frozen=True)
class Buffer:
    """A tensor in memory: `count` rows of `columns` elements, a row every `stride` bytes; None is dynamic."""

    pointer: SSAValue
    type: Tensor
    count: int | None
    columns: int | None
    stride: int

    @staticmethod
    def of(value: SSAValue, pointer: SSAValue) -> Buffer:
        type = tensor(value)
        shape = [None if size == DYNAMIC_INDEX else size for size in type.get_shape()]
        if len(shape) > 2 or (len(shape) == 2 and shape[1] is None):
            raise CompileError(
                f"the CPU target has no kernel for {type}: expected rows of a known size", _place(value)
            )
        *rows, columns = shape or [1]
        stride = row_stride_bytes(type) if rows and encoding_of(type) is None else 0
        return Buffer(pointer, type, rows[0] if rows else 1, columns, stride)

    def row(self, number: SSAValue) -> SSAValue:
        """The address of a row; of the only row, whatever the number, for a tensor without rows."""
        return offset(self.pointer, mul(number, index(self.stride))) if self.stride else self.pointer


def vector_at(row: SSAValue, block: SSAValue) -> SSAValue:
    """The address of the block-th sixteen float32 of a row."""
    return offset(row, mul(block, index(VECTOR_BYTES)))


def load_floats(row: SSAValue, block: SSAValue) -> SSAValue:
    return load(vector_at(row, block), FLOATS, VECTOR_BYTES)


def store_floats(value: SSAValue, row: SSAValue, block: SSAValue) -> None:
    store(value, vector_at(row, block), VECTOR_BYTES)


def mask_tail(value: SSAValue, block: SSAValue, columns: int) -> SSAValue:
    """Zeros in the lanes past the last column. A row that fills its last block needs no mask."""
    if columns % LANES == 0:
        return value
    # Lane l of block b holds column 16 b + l; before the last block every lane is inside.
    last = icmp("eq", block, index(blocks_of(columns) - 1))
    limit = select(last, constant(columns % LANES, INTS), constant(LANES, INTS))
    inside = icmp("slt", lane_numbers(), limit)
    return select(inside, value, bitcast(constant(0, INTS), value.type))


@dataclass(frozen=True)
class Frame:
    """The arguments of a kernel, and what it is compiled for."""

    operands: Sequence[Buffer]
    results: Sequence[Buffer]
    rows: SSAValue
    thread: SSAValue
    threads: SSAValue
    isa: Isa
    max_rows: int

    def extent(self, size: int | None) -> SSAValue:
        """A number of rows or columns as a value: the dynamic one is `rows`."""
        return self.rows if size is None else index(size)

    def share(self, total: SSAValue, body: Callable[[SSAValue], None]) -> None:
        """Runs `body(i)` for this thread's part of `range(total)`: contiguous, as large as the others' to one."""
        begin = udiv(mul(total, self.thread), self.threads)
        end = udiv(mul(total, add(self.thread, index(1))), self.threads)
        each(begin, end, body)


def each(begin: SSAValue, end: SSAValue, body: Callable[[SSAValue], None]) -> None:
    """A loop that carries nothing."""

    def step(i: SSAValue) -> Sequence[SSAValue]:
        body(i)
        return ()

    loop(begin, end, step)


def kernel_function(
    name: str, op: Operation, emit: Callable[[Operation, Frame], None], isa: Isa, max_rows: int
) -> func.FuncOp:
    """The kernel of an op as a private function, its body written by `emit`."""
    values = (*op.operands, *op.results)
    types: list[Attribute] = [*[POINTER] * len(values), i64, i64, i64]
    block = Block(arg_types=types)
    with ImplicitBuilder(block):
        *pointers, rows, thread, threads = block.args
        for value, hint in zip(block.args, _argument_names(values), strict=True):
            value.name_hint = hint
        buffers = [Buffer.of(value, pointer) for value, pointer in zip(values, pointers, strict=True)]
        operands, results = buffers[: len(op.operands)], buffers[len(op.operands) :]
        emit(op, Frame(operands, results, rows, thread, threads, isa, max_rows))
        func.ReturnOp()
    return func.FuncOp(name, (types, []), Region(block), visibility="private")


def require_lanes(op: Operation, lanes: int) -> None:
    if lanes != LANES:
        raise CompileError(
            f"{op.name}: lanes = {lanes}, but CPU kernels reduce in {LANES} lanes", op.location
        )


def _argument_names(values: Sequence[SSAValue]) -> list[str | None]:
    return [*(value.name_hint for value in values), "rows", "thread", "threads"]


def _place(value: SSAValue) -> Attribute | None:
    return value.owner.location if isinstance(value.owner, Operation) else None


def is_tensor_of(buffer: Buffer, element: Attribute) -> bool:
    return buffer.type.get_element_type() == element
