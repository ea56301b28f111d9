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
from xdsl.dialects.builtin import f32, i32
from xdsl.ir import Operation, SSAValue

from sterna.dialects.encodings import encoding_of
from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import ProjectOp, tensor
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
from sterna.targets.cpu.kernel import Buffer, Frame, blocks_of, each, store_floats
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
    rows = frame.extent(q[0].count)
    assert out.columns is not None
    for weight in weights:
        _require_tiles(weight, op)
    sums = SumTable.of(q, rows, frame)

    def product(block: SSAValue, t: SSAValue, j: int) -> SSAValue:
        """y_j of a block of channels at row t."""
        read = op.reads.get_values()[j]
        total = sub(_accumulate(weights[j], q[read].row(t), block), splat(sums.at(read, t)))
        step = load(offset(steps[read].pointer, mul(t, index(4))), f32, 4)
        return fmul(int_to_float(total), splat(fmul(step, load(scales[j].pointer, f32, 4))))

    def project_block(block: SSAValue) -> None:
        def project(t: SSAValue) -> None:
            products = [product(block, t, j) for j in range(len(weights))]
            inputs = [*products, *(load_broadcast(extra, t, block) for extra in extras)]
            for value, result in zip(vectorise(op.body.block, inputs), frame.results, strict=True):
                store_floats(value, result.row(t), block)

        each(index(0), rows, project)

    frame.share(index(blocks_of(out.columns)), project_block)


@dataclass(frozen=True)
class SumTable:
    """sum(q[t]) for every quantized input and row, on this thread's stack; `rows` is how many it has place
    for."""

    pointer: SSAValue
    rows: int

    @staticmethod
    def of(q: Sequence[Buffer], rows: SSAValue, frame: Frame) -> SumTable:
        capacity = frame.max_rows if q[0].count is None else q[0].count
        table = SumTable(llvm.AllocaOp(index(len(q) * capacity), i32, alignment=64).results[0], capacity)
        for number, buffer in enumerate(q):
            each(index(0), rows, lambda t, n=number, b=buffer: table.fill(n, t, b))
        return table

    def fill(self, number: int, t: SSAValue, q: Buffer) -> None:
        assert q.columns is not None
        store(sum_activations(q.row(t), tiles_of(q.columns)), self._address(number, t), 4)

    def at(self, number: int, t: SSAValue) -> SSAValue:
        return load(self._address(number, t), i32, 4)

    def _address(self, number: int, t: SSAValue) -> SSAValue:
        return offset(self.pointer, mul(add(index(number * self.rows), t), index(4)))


def widths(op: ProjectOp) -> set[int]:
    """The numbers of tiles whose `dot_function` the kernel calls."""
    return {tiles_of(tensor(weight).get_shape()[1]) for weight in op.weights}


def tiles_of(columns: int) -> int:
    return -(-columns // TILE_COLUMNS)


def _accumulate(weights: Buffer, q_row: SSAValue, block: SSAValue) -> SSAValue:
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


def _require_tiles(weights: Buffer, op: ProjectOp) -> None:
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
