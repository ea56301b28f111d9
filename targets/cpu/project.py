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

from sterna.dialects.ternary import AccumulateOp, ConvolveOp, ProjectOp, tensor
from sterna.targets.cpu.dot import TILE_ROWS
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
from sterna.targets.cpu.packed import PackedRow, require_tiles
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
        require_tiles(weight.type, op)
    packed = [PackedRow.of(weight.type) for weight in weights]
    sums = SumTable.of(q, list(zip(op.reads.get_values(), packed, strict=True)), rows, frame)

    def product(block: SSAValue, t: Sequence[SSAValue], j: int) -> SSAValue:
        """y_j of a block of channels at row t."""
        read = op.reads.get_values()[j]
        total = sub(accumulate(weights[j], q[read].row(*t), block), splat(sums.at(read, packed[j], t)))
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
    """The sum of q[t] over the columns that a `dot` reads, for every quantized input and row.

    It is on this thread's stack; of rows of many axes, a sum is found where it is asked for.
    """

    pointer: SSAValue | None
    rows: int
    q: Sequence[Buffer]
    sums: Sequence[tuple[int, PackedRow]]
    """The input's number, and the columns."""

    @staticmethod
    def of(
        q: Sequence[Buffer],
        reads: Sequence[tuple[int, PackedRow]],
        rows: Sequence[Extent],
        frame: Frame,
    ) -> SumTable:
        sums = list(dict.fromkeys(reads))
        if len(rows) > 1:
            return SumTable(None, 0, q, sums)
        capacity = next((frame.max_rows if extent is None else extent for extent in rows), 1)
        space = llvm.AllocaOp(index(len(sums) * max(capacity, 1)), i32, alignment=64).results[0]
        table = SumTable(space, capacity, q, sums)

        def fill(read: int, packed: PackedRow) -> None:
            def row(*t: SSAValue) -> None:
                store(table.sum(read, packed, t), table.address(space, read, packed, t), 4)

            frame.each(rows, row)

        for read, packed in sums:
            fill(read, packed)
        return table

    def at(self, read: int, packed: PackedRow, t: Sequence[SSAValue]) -> SSAValue:
        if self.pointer is None:
            return self.sum(read, packed, t)
        return load(self.address(self.pointer, read, packed, t), i32, 4)

    def sum(self, read: int, packed: PackedRow, t: Sequence[SSAValue]) -> SSAValue:
        return packed.sum_activations(self.q[read].row(*t))

    def address(self, pointer: SSAValue, read: int, packed: PackedRow, t: Sequence[SSAValue]) -> SSAValue:
        place = index(self.sums.index((read, packed)) * self.rows)
        return offset(pointer, mul(add(place, t[0]) if t else place, index(4)))


def packed_rows(op: Operation) -> set[PackedRow]:
    """The rows of tiles whose inner product the kernel calls."""
    match op:
        case ProjectOp():
            weights = list(op.weights)
        case AccumulateOp() | ConvolveOp() if tensor(op.x).element_type == i8:
            weights = [op.w]
        case _:
            weights = []
    for weight in weights:
        require_tiles(tensor(weight), op)
    return {PackedRow.of(tensor(weight)) for weight in weights}


def accumulate(weights: Buffer, q_row: SSAValue, block: SSAValue) -> SSAValue:
    """sum_k q[k] * (w[m, k] + 1) for the sixteen channels m of a block, as vector<16xi32>.

    Weights are padded to whole tiles of 4 rows, not of 16: the last block repeats the last tile instead of
    reading on, into channels that are padding of the result.
    """
    channels, row = weights.type.get_shape()[0], PackedRow.of(weights.type)
    last = -(-channels // TILE_ROWS) - 1
    parts: list[SSAValue] = []
    for part in range(CHANNELS // TILE_ROWS):
        tile_row = add(mul(block, index(CHANNELS // TILE_ROWS)), index(part))
        if (last + 1) * TILE_ROWS % CHANNELS:
            tile_row = smin(tile_row, index(last))
        address = offset(weights.pointer, mul(tile_row, index(row.bytes)))
        parts.append(row.call_dot(address, q_row))
    return concatenate(parts)
