"""Rows of packed trits as kernels read them: how many bytes they take, and the inner product that a kernel calls.

A row of tiles is four rows of weights along all of K. Its `dot` gives the four int32 sums of (w + 1) * q, and
`sum_activations` over the same columns is what the 1 adds: taken away once a row, it leaves sums of w * q. What lies in
padding, of weights or of activations, is so added and taken away.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.builder import ImplicitBuilder
from xdsl.dialects import func
from xdsl.dialects.builtin import i8, i32
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from sterna.dialects.encodings import EncodingAttr, encoding_of
from sterna.dialects.errors import CompileError
from sterna.dialects.layout import round_up
from sterna.dialects.ternary import Tensor
from sterna.targets.cpu import dot, dot_b3
from sterna.targets.cpu.dot import SUMS, TILE_ROWS
from sterna.targets.cpu.instructions import (
    POINTER,
    add,
    constant,
    index,
    load,
    loop,
    offset,
    sext,
    tree,
    vector_type,
)
from sterna.targets.cpu.isa import Isa

DOTS = {"i2": dot.DOTS, "b3": dot_b3.DOTS}
MOST_COLUMNS = {"i2": dot.MAX_COLUMNS, "b3": dot_b3.MAX_COLUMNS}
READ_COLUMNS = {"i2": dot.TILE_COLUMNS, "b3": dot_b3.FIELD_COLUMNS}
"""A `dot` reads whole multiples of so many activations, all of which a row of int8 has (`layout.I8_ROW_BYTES`)."""


@dataclass(frozen=True, order=True)
class PackedRow:
    """A row of tiles."""

    format: str
    columns: int
    """Those that a `dot` reads."""

    @staticmethod
    def of(type: Tensor) -> PackedRow:
        encoding = encoding_of(type)
        assert encoding is not None
        name = encoding.format.data
        return PackedRow(name, round_up(type.get_shape()[1], READ_COLUMNS[name]))

    @property
    def bytes(self) -> int:
        """From one row of tiles to the next."""
        return EncodingAttr.of(self.format, TILE_ROWS).packed_bytes(TILE_ROWS, self.columns)

    @property
    def name(self) -> str:
        """Of the function."""
        return f"dot_{self.columns}" if self.format == "i2" else f"dot_{self.format}_{self.columns}"

    def dot_function(self, isa: Isa) -> func.FuncOp:
        """The inner product as a function, which all weights of that width call."""
        block = Block(arg_types=[POINTER, POINTER])
        weights, q = block.args
        with ImplicitBuilder(block):
            func.ReturnOp(DOTS[self.format][isa.name](weights, q, self.columns))
        types: tuple[list[Attribute], list[Attribute]] = ([POINTER, POINTER], [SUMS])
        return func.FuncOp(self.name, types, Region(block), visibility="private")

    def call_dot(self, weights: SSAValue, q: SSAValue) -> SSAValue:
        return func.CallOp(self.name, [weights, q], [SUMS]).results[0]

    def sum_activations(self, q: SSAValue) -> SSAValue:
        """sum(q) over those columns, as an i32. It runs once a row: plain vector IR is fast enough everywhere."""
        bytes, sums = vector_type(i8, 16), vector_type(i32, 16)

        def step(at: SSAValue, total: SSAValue) -> list[SSAValue]:
            return [add(total, sext(load(offset(q, at), bytes, 16), i32))]

        (total,) = loop(index(0), index(self.columns), step, [constant(0, sums)], step=16)
        return tree(add, total)


def require_tiles(type: Tensor, op: Operation) -> None:
    """CompileError unless kernels can read such weights."""
    encoding = encoding_of(type)
    if encoding is None or encoding.tile_rows != TILE_ROWS:
        raise CompileError(
            f"the CPU target reads trits in tiles of {TILE_ROWS} rows, not {type}", op.location
        )
    most = MOST_COLUMNS[encoding.format.data]
    if type.get_shape()[1] > most:
        raise CompileError(f"{type}: the CPU target adds at most {most} columns exactly", op.location)
