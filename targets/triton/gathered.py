"""Kernels of sums by packed trits whose columns are not simply a row: `ternary.convolve`, and `ternary.accumulate` of
floats, in groups, or of very many columns.

A program has some positions (rows, or places of a window) and some channels of one group. Columns are gathered as they
are needed, so that windows are nowhere in memory. Sums of int8 run on tensor cores where a group has channels enough;
others are 16 partial sums each, which for floats is the IR's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import f32, i8

from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import AccumulateOp, ConvolveOp, tensor
from sterna.targets.triton.indexing import Windows
from sterna.targets.triton.kernel import (
    Builder,
    Host,
    Shape,
    default_name,
    element,
    encoding,
    next_power_of_2,
    place,
    product_text,
)
from sterna.targets.triton.places import Places

LEAST_FOR_DOT = 8
"""Channels of a group from which on tensor cores, whose tiles have 16, are worth their while."""

SUMS = 128
"""Of a program that has 16 partial sums for each."""


@dataclass(frozen=True)
class Tile:
    """What a program computes: positions, channels of a group, and the columns of one step."""

    positions: int
    channels: int
    columns: int
    on_tensor_cores: bool

    @staticmethod
    def of(channels: int, columns: int, *, is_float: bool) -> Tile:
        if not is_float and channels >= LEAST_FOR_DOT:
            return Tile(64, min(max(next_power_of_2(channels), 16), 64), 64 if columns > 32 else 32, True)
        together = min(next_power_of_2(channels), 32)
        return Tile(SUMS // together, together, 16, False)


def emit_sums(op: AccumulateOp | ConvolveOp, host: Host) -> None:
    if element(op.x, op) not in (f32, i8):
        raise CompileError(f"the GPU target has no kernel for {op.name} of {tensor(op.x)}", op.location)
    Sums(op, host).emit()


class Sums:
    """The kernel of an operation whose result is `[*positions, M]`, being written."""

    def __init__(self, op: AccumulateOp | ConvolveOp, host: Host) -> None:
        self.op, self.host = op, host
        self.builder = b = Builder(default_name(op), host)
        b.doc += [place(op)]
        b.names.taken |= {"m", "p", "k", "inside", "acc", "start", "channel", "group", "trits"}
        self.places = Places(op, b)
        self.positions = Shape.of(op.acc).leading
        channels, self.columns = tensor(op.w).get_shape()
        self.groups, self.of_group = op.group_count, channels // op.group_count
        self.is_float = element(op.x, op) == f32
        self.tile = Tile.of(self.of_group, self.columns, is_float=self.is_float)

    def emit(self) -> None:
        b, tile = self.builder, self.tile
        self.host.allocate(self.op.acc)
        blocks = -(-self.of_group // tile.channels)
        b.lines += [
            f"p = tl.program_id(0).to(tl.int64) * {tile.positions} + tl.arange(0, {tile.positions})",
            f"inside = p < {self.places.size_text(self.positions)}",
            *self.channel_lines(blocks),
        ]
        along = self.places.coordinates("p", self.positions, "at")
        self.sum_columns([self.across(name) for name in along])
        out = self.places.at(self.op.acc, [*(self.across(name) for name in along), self.down("m")], "out")
        spread = "" if along else f" + {self.across('p')} * 0"
        mask = b.assign("known", f"{self.across('inside')} & {self.down(self.known)}")
        b.lines.append(f"tl.store({out}{spread}, acc, mask={mask})")
        count = product_text(self.positions, "batch.rows")
        grid = f"(triton.cdiv({count}, {tile.positions}), {self.groups * blocks})"
        self.host.launch(b.kernel(), grid, b.all_arguments())

    def channel_lines(self, blocks: int) -> list[str]:
        """m, the channels of a program; those beyond the last of its group are not known."""
        tile = self.tile
        number = "tl.program_id(1)"
        if self.groups == 1:
            self.known = f"(m < {self.of_group})"
            return [f"m = {number} * {tile.channels} + tl.arange(0, {tile.channels})"]
        self.known = f"(channel < {self.of_group})"
        return [
            f"group = {number} // {blocks}" if blocks > 1 else f"group = {number}",
            f"channel = {number} % {blocks} * {tile.channels} + tl.arange(0, {tile.channels})"
            if blocks > 1
            else f"channel = tl.arange(0, {tile.channels})",
            f"m = group * {self.of_group} + channel",
        ]

    # Tensor cores have channels down and positions across; partial sums have positions down.

    def across(self, name: str) -> str:
        return f"{name}[None, :]" if self.tile.on_tensor_cores else f"{name}[:, None]"

    def down(self, name: str) -> str:
        return f"{name}[:, None]" if self.tile.on_tensor_cores else f"{name}[None, :]"

    def sum_columns(self, along: Sequence[str]) -> None:
        b, tile = self.builder, self.tile
        shape = f"[{tile.channels}, {tile.positions}]"
        if tile.on_tensor_cores:
            b.lines.append(f"acc = tl.zeros({shape}, tl.int32)")
        else:
            kind = "tl.float32" if self.is_float else "tl.int32"
            b.lines.append(f"acc = tl.zeros([{tile.positions}, {tile.channels}, {tile.columns}], {kind})")
        b.lines.append(f"for start in range(0, {self.columns}, {tile.columns}):")
        before = len(b.lines)
        b.lines.append(f"k = start + tl.arange(0, {tile.columns})")
        x = self.gathered(along)
        trits = self.trits()
        if tile.on_tensor_cores:
            b.lines.append(f"acc = tl.dot({trits}, {x}, acc, out_dtype=tl.int32)")
        else:
            wide = x if self.is_float else f"{x}.to(tl.int32)"
            b.lines.append(f"acc += {b.call('signed_by', f'{wide}[:, None, :]', f'{trits}[None, :, :]')}")
        b.lines[before:] = [f"    {line}" for line in b.lines[before:]]
        if not tile.on_tensor_cores:
            b.lines += self.total()

    def total(self) -> list[str]:
        if not self.is_float:
            return ["acc = tl.sum(acc, axis=2)"]
        tile = self.tile
        flat = f"tl.reshape(acc, [{tile.positions * tile.channels}, {tile.columns}])"
        summed = self.builder.call("halving_trees", flat, str(tile.columns))
        return [f"acc = tl.reshape({summed}, [{tile.positions}, {tile.channels}])"]

    def gathered(self, along: Sequence[str]) -> str:
        """x at the columns k of these positions: down and across as `tl.dot` takes it, or positions down."""
        b = self.builder
        k = "k[:, None]" if self.tile.on_tensor_cores else "k[None, :]"
        number = k if self.groups == 1 else f"group * {self.columns} + {k}"
        mask = f"{self.across('inside')} & ({k} < {self.columns})"
        if not along:  # the address has the mask's shape all the same
            number += f" + {self.across('p')} * 0"
        column = b.assign("column", number)
        if isinstance(self.op, AccumulateOp):
            return self.places.load(self.op.x, [*along, column], mask=mask)
        windows = Windows(self.op, self.places)
        inner = windows.full[self.op.position_axes :]
        within = iter(self.places.coordinates(column, [size for size in inner if size != 1], "part"))
        numbers = iter(along)
        given = ["0" if size == 1 else next(numbers) for size in windows.full[: self.op.position_axes]]
        given += ["0" if size == 1 else next(within) for size in inner]
        if all(size == 1 for size in inner):
            given[-1] = column
        return windows.load(given, mask)

    def trits(self) -> str:
        b, packed = self.builder, encoding(self.op.w, self.op)
        m, k = ("m[:, None]", "k[None, :]")
        known = f"{self.known}[:, None] & ({k} < {self.columns})"
        w = b.pointer(self.op.w, "w", self.op)
        unpack = b.call(
            f"{packed.format.data}_trits", w, m, k, known, str(self.columns), str(packed.tile_rows)
        )
        return b.assign("trits", unpack)
