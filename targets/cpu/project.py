"""Kernel of `ternary.project`: the products with packed trits, and the elementwise tail on their results.

for this thread's blocks of 16 output channels, for each row, for each weight: four inner products with 4
rows of a tile (`dot.py`) make 16 int32 sums; these become f32(sum) * (step * scale), and the region runs on
vectors of 16. A block's weights are read once from memory and then, for the other rows, from the
first-level cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import llvm
from xdsl.dialects.builtin import f32, i8, i32
from xdsl.ir import Operation, SSAValue

from sterna.dialects.encodings import encoding_of
from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import AccumulateOp, ConvolveOp, ProjectOp, tensor
from sterna.targets.cpu.dot import MAX_TILES, TILE_BYTES, TILE_COLUMNS, TILE_ROWS, call_dot, sum_activations
from sterna.targets.cpu.elementwise import load_broadcast
from sterna.targets.cpu.instructions import (
    add,
    concatenate,
    fmul,
    index,
    int_to_float,
    load,
    mul,
    offset,
    smin,
    splat,
    store,
    sub,
)
from sterna.targets.cpu.kernel import Buffer, Extent, Frame, blocks_of, load_floats, store_floats
from sterna.targets.cpu.region import vectorise

CHANNELS = 16
"""Output channels of a block: one vector of float32."""


def emit_project(op: Operation, frame: Frame) -> None:
    assert isinstance(op, ProjectOp)
    buffers = iter(frame.operands)
    q = [next(buffers) for _ in op.q]
    steps = [next(buffers) for _ in op.steps]
    weights = [next(buffers) for _ in op.weights]
    scales = [next(buffers) for _ in op.scales]
    extras = list(buffers)
    out = frame.results[0]
    rows = q[0].rows
    assert out.columns is not None
    for weight in weights:
        require_tiles(weight, op)
    sums = SumTable.of(q, rows, frame)

    def product(block: SSAValue, t: Sequence[SSAValue], j: int) -> SSAValue:
        """y_j of a block of channels at row t."""
        read = op.reads.get_values()[j]
        total = sub(accumulate(weights[j], q[read].row(*t), block), splat(sums.at(read, t)))
        step = load(steps[read].at(*t), f32, 4)
        return fmul(int_to_float(total), scaled(step, scales[j], block))

    def project_block(block: SSAValue) -> None:
        def project(*t: SSAValue) -> None:
            products = [product(block, t, j) for j in range(len(weights))]
            inputs = [*products, *(load_broadcast(extra, t, block) for extra in extras)]
            for value, result in zip(vectorise(op.body.block, inputs), frame.results, strict=True):
                store_floats(value, result.row(*t), block)

        frame.each(rows, project)

    frame.share(index(blocks_of(out.columns)), project_block)


def scaled(step: SSAValue, scale: Buffer, block: SSAValue) -> SSAValue:
    """step * scale for the channels of a block; the scale is one for all, or one a channel."""
    if not scale.shape:
        return splat(fmul(step, load(scale.pointer, f32, 4)))
    return fmul(splat(step), load_floats(scale.pointer, block))


@dataclass(frozen=True)
class SumTable:
    """sum(q[t]) for every quantized input and row, on this thread's stack; of rows of many axes, where asked for."""

    pointer: SSAValue | None
    rows: int
    q: Sequence[Buffer]

    @staticmethod
    def of(q: Sequence[Buffer], rows: Sequence[Extent], frame: Frame) -> SumTable:
        if len(rows) > 1:
            return SumTable(None, 0, q)
        capacity = next((frame.max_rows if extent is None else extent for extent in rows), 1)
        space = llvm.AllocaOp(index(len(q) * max(capacity, 1)), i32, alignment=64).results[0]
        table = SumTable(space, capacity, q)

        def fill(number: int) -> None:
            frame.each(rows, lambda *t: store(table.sum(number, t), table.address(space, number, t), 4))

        for number in range(len(q)):
            fill(number)
        return table

    def at(self, number: int, t: Sequence[SSAValue]) -> SSAValue:
        if self.pointer is None:
            return self.sum(number, t)
        return load(self.address(self.pointer, number, t), i32, 4)

    def sum(self, number: int, t: Sequence[SSAValue]) -> SSAValue:
        columns = self.q[number].columns
        assert columns is not None
        return sum_activations(self.q[number].row(*t), tiles_of(columns))

    def address(self, pointer: SSAValue, number: int, t: Sequence[SSAValue]) -> SSAValue:
        place = index(number * self.rows)
        return offset(pointer, mul(add(place, t[0]) if t else place, index(4)))


def widths(op: Operation) -> set[int]:
    """The numbers of tiles whose `dot_function` the kernel calls."""
    match op:
        case ProjectOp():
            weights = list(op.weights)
        case AccumulateOp() | ConvolveOp() if tensor(op.x).element_type == i8:
            weights = [op.w]
        case _:
            weights = []
    return {tiles_of(tensor(weight).get_shape()[1]) for weight in weights}


def tiles_of(columns: int) -> int:
    return -(-columns // TILE_COLUMNS)


def accumulate(weights: Buffer, q_row: SSAValue, block: SSAValue) -> SSAValue:
    """sum_k q[k] * (w[m, k] + 1) for the sixteen channels m of a block, as vector<16xi32>.

    Weights are padded to whole tiles of 4 rows, not of 16: the last block repeats the last tile instead of
    reading on, into channels that are padding of the result.
    """
    channels, columns = weights.type.get_shape()
    tiles = tiles_of(columns)
    last = -(-channels // TILE_ROWS) - 1
    parts: list[SSAValue] = []
    for part in range(CHANNELS // TILE_ROWS):
        tile_row = add(mul(block, index(CHANNELS // TILE_ROWS)), index(part))
        if (last + 1) * TILE_ROWS % CHANNELS:
            tile_row = smin(tile_row, index(last))
        address = offset(weights.pointer, mul(tile_row, index(tiles * TILE_BYTES)))
        parts.append(call_dot(address, q_row, tiles))
    return concatenate(parts)


def require_tiles(weights: Buffer, op: Operation) -> None:
    encoding = encoding_of(weights.type)
    if encoding is None or encoding.tile_rows != TILE_ROWS:
        raise CompileError(
            f"the CPU target reads trits in tiles of {TILE_ROWS} rows, not {weights.type}", op.location
        )
    if weights.type.get_shape()[1] > MAX_TILES * TILE_COLUMNS:
        raise CompileError(
            f"{weights.type}: the CPU target adds at most {MAX_TILES * TILE_COLUMNS} columns exactly",
            op.location,
        )
