"""What every kernel is made of: its function, the shape of its buffers, and its share of the work.

A kernel is a function of pointers (one an operand, then one a result, of the op that it implements) and
three i64: `rows` (the dynamic T), `thread` and `threads`. All threads call it with the same arguments but
`thread`, each does its share, and the caller puts a barrier after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod

from xdsl.builder import ImplicitBuilder
from xdsl.dialects import func, llvm
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerAttr, TensorType, i8, i64
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from sterna.dialects.encodings import encoding_of
from sterna.dialects.errors import CompileError
from sterna.dialects.layout import strides
from sterna.dialects.numerics import LANES
from sterna.dialects.ternary import Tensor, tensor
from sterna.passes.operands import tensors_read
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
    urem,
)
from sterna.targets.cpu.isa import Isa
from sterna.targets.cpu.region import machine_type

VECTOR_BYTES = 4 * LANES
"""Rows of float32 start at multiples of this, and are padded to them."""


SCRATCH_BYTES = 8 * LANES


def blocks_of(columns: int) -> int:
    """Vectors of 16 that cover a row."""
    return -(-columns // LANES)


Extent = int | None
"""The length of an axis; None is the dynamic T."""


@dataclass(frozen=True)
class Buffer:
    """A tensor in memory; an encoded weight has no strides."""

    pointer: SSAValue
    type: Tensor
    shape: tuple[Extent, ...]
    strides: tuple[int, ...]
    """Bytes from one element to the next, along every axis."""

    @staticmethod
    def of(value: SSAValue, pointer: SSAValue, max_rows: int) -> Buffer:
        type = tensor(value)
        shape = tuple(None if size == DYNAMIC_INDEX else size for size in type.get_shape())
        return Buffer(pointer, type, shape, strides(type, max_rows) if encoding_of(type) is None else ())

    @property
    def columns(self) -> Extent:
        """Elements of a row; a scalar is a row of one."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> tuple[Extent, ...]:
        """The axes that number the rows."""
        return self.shape[:-1]

    def row(self, *numbers: SSAValue) -> SSAValue:
        """The address of a row; of the only row, whatever the numbers, for a tensor without rows."""
        return self.at(*numbers) if len(self.shape) > 1 else self.pointer

    def at(self, *numbers: SSAValue) -> SSAValue:
        """The address of the element, or of the first of the elements, with these numbers along the first axes."""
        address = self.pointer
        for number, stride in zip(numbers, self.strides, strict=False):
            address = offset(address, mul(number, index(stride)))
        return address


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
    scalars: Mapping[SSAValue, SSAValue]
    """Values for the scalars that the operation reads."""

    @cached_property
    def scratch(self) -> SSAValue:
        """128 bytes on this thread's stack: a vector of sixteen, element by element."""
        return self.stack(SCRATCH_BYTES)

    def stack(self, bytes: int) -> SSAValue:
        """So many bytes on this thread's stack, for as long as the kernel runs."""
        size = llvm.ConstantOp(IntegerAttr(bytes, i64), i64)
        space = llvm.AllocaOp(size.result, i8, alignment=64)
        # At the start of the kernel: in a loop, every turn would take more of the stack.
        entry = self.rows.owner
        assert isinstance(entry, Block)
        for op in (space, size):
            op.detach()
            if (first := entry.first_op) is not None:
                entry.insert_op_before(op, first)
            else:
                entry.add_op(op)
        return space.results[0]

    def extent(self, size: Extent) -> SSAValue:
        """A number of rows or columns as a value: the dynamic one is `rows`."""
        return self.rows if size is None else index(size)

    def total(self, extents: Sequence[Extent]) -> SSAValue:
        """The product."""
        known = prod(extent for extent in extents if extent is not None)
        dynamic = [self.rows] * sum(extent is None for extent in extents)
        return reduce(mul, dynamic if dynamic and known == 1 else [*dynamic, index(known)])

    def share_all(self, extents: Sequence[Extent], body: Callable[..., None]) -> None:
        """Runs `body(i, j, ...)` for this thread's part of all index tuples below these extents, row-major."""
        self.share(self.total(extents), lambda number: body(*self.unravel(number, extents)))

    def share_sizes(self, sizes: Sequence[SSAValue], body: Callable[..., None]) -> None:
        """The same for sizes that may be anything."""
        total = reduce(mul, sizes, index(1))
        self.share(total, lambda number: body(*unravel(number, sizes)))

    def unravel(self, number: SSAValue, extents: Sequence[Extent]) -> list[SSAValue]:
        """The index tuple of a row-major number."""
        return unravel(number, [self.extent(extent) for extent in extents])

    def each(self, extents: Sequence[Extent], body: Callable[..., None]) -> None:
        """Runs `body(i, j, ...)` for all index tuples below these extents, row-major, in nested loops."""
        if extents:
            first, *rest = extents
            each(index(0), self.extent(first), lambda i: self.each(rest, lambda *others: body(i, *others)))
        else:
            body()

    def share(self, total: SSAValue, body: Callable[[SSAValue], None]) -> None:
        """Runs `body(i)` for this thread's part of `range(total)`: contiguous, as large as the others' to one."""
        begin = udiv(mul(total, self.thread), self.threads)
        end = udiv(mul(total, add(self.thread, index(1))), self.threads)
        each(begin, end, body)


def unravel(number: SSAValue, sizes: Sequence[SSAValue]) -> list[SSAValue]:
    """The index tuple of a row-major number."""
    indices: list[SSAValue] = []
    for size in reversed(sizes[1:]):
        indices.append(urem(number, size))
        number = udiv(number, size)
    return [number, *reversed(indices)] if sizes else []


def each(begin: SSAValue, end: SSAValue, body: Callable[[SSAValue], None]) -> None:
    """A loop that carries nothing."""

    def step(i: SSAValue) -> Sequence[SSAValue]:
        body(i)
        return ()

    loop(begin, end, step)


@dataclass(frozen=True)
class Signature:
    """What a kernel is given: addresses of the tensors that it reads and of its results, and scalars."""

    tensors: Sequence[SSAValue]
    results: Sequence[SSAValue]
    scalars: Sequence[SSAValue]

    @staticmethod
    def of(op: Operation) -> Signature:
        outside = dict.fromkeys(
            value
            for inner in op.walk()
            for value in inner.operands
            if not op.is_ancestor(value.owner) and not isinstance(value.type, TensorType)
        )
        return Signature(tensors_read(op), op.results, list(outside))


def kernel_function(
    name: str, op: Operation, emit: Callable[[Operation, Frame], None], isa: Isa, max_rows: int
) -> func.FuncOp:
    """The kernel of an op as a private function, its body written by `emit`."""
    signature = Signature.of(op)
    values = (*signature.tensors, *signature.results)
    scalar_types = [machine_type(value.type) or value.type for value in signature.scalars]
    types: list[Attribute] = [*[POINTER] * len(values), *scalar_types, i64, i64, i64]
    block = Block(arg_types=types)
    with ImplicitBuilder(block):
        *given, rows, thread, threads = block.args
        for argument, hint in zip(block.args, _argument_names((*values, *signature.scalars)), strict=True):
            argument.name_hint = hint
        pointers, scalars = given[: len(values)], given[len(values) :]
        buffers = [
            Buffer.of(value, pointer, max_rows) for value, pointer in zip(values, pointers, strict=True)
        ]
        count = len(signature.tensors)
        known = dict(zip(signature.scalars, scalars, strict=True))
        emit(op, Frame(buffers[:count], buffers[count:], rows, thread, threads, isa, max_rows, known))
        func.ReturnOp()
    return func.FuncOp(name, (types, []), Region(block), visibility="private")


def require_lanes(op: Operation, lanes: int, most: int = LANES) -> None:
    if not LANES <= lanes <= most:
        allowed = f"{LANES}" if most == LANES else f"{LANES} to {most}"
        raise CompileError(
            f"{op.name}: lanes = {lanes}, but CPU kernels reduce in {allowed} lanes", op.location
        )


def _argument_names(values: Sequence[SSAValue]) -> list[str | None]:
    return [*(value.name_hint for value in values), "rows", "thread", "threads"]


def is_tensor_of(buffer: Buffer, element: Attribute) -> bool:
    return buffer.type.get_element_type() == element
