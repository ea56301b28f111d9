"""Kernels of `ternary.accumulate` and of `ternary.dequantize`, where no `project` has taken them in."""

from __future__ import annotations

from xdsl.dialects import llvm
from xdsl.dialects.builtin import f32, i8, i32
from xdsl.ir import SSAValue

from sterna.dialects.errors import CompileError
from sterna.dialects.numerics import LANES
from sterna.dialects.ternary import AccumulateOp, DequantizeOp, tensor
from sterna.targets.cpu.dot import ROW_BYTES, TILE_BYTES, TILE_COLUMNS, TILE_ROWS, call_dot, sum_activations
from sterna.targets.cpu.instructions import (
    FLOATS,
    INTS,
    add,
    bitand,
    constant,
    fadd,
    fmul,
    fneg,
    icmp,
    index,
    int_to_float,
    load,
    loop,
    lshr,
    mul,
    offset,
    select,
    splat,
    store,
    sub,
    tree,
    trunc,
    udiv,
    urem,
    vector_type,
    zext,
)
from sterna.targets.cpu.kernel import Frame, blocks_of, each, load_floats, store_floats, vector_at
from sterna.targets.cpu.project import accumulate, require_tiles, scaled, tiles_of

BLOCKS_OF_TILE = TILE_COLUMNS // LANES
BLOCKS_OF_FIELD = ROW_BYTES // LANES
"""Sixteen columns each."""


def emit_accumulate(op: AccumulateOp, frame: Frame) -> None:
    x, w = frame.operands
    (out,) = frame.results
    require_tiles(w, op)
    if tensor(op.x).element_type == f32:
        emit_accumulate_floats(op, frame)
        return
    if op.group_count != 1:
        emit_accumulate_groups(op, frame)
        return
    columns, channels = x.columns, out.columns
    assert columns is not None and channels is not None

    def row(*t: SSAValue) -> None:
        q = x.row(*t)
        total = splat(sum_activations(q, tiles_of(columns)))

        def block(number: SSAValue) -> None:
            sums = sub(accumulate(w, q, number), total)
            store(sums, vector_at(out.row(*t), number), 4 * LANES)

        each(index(0), index(blocks_of(channels)), block)

    frame.share_all(x.rows, row)


def emit_accumulate_groups(op: AccumulateOp, frame: Frame) -> None:
    """The columns of a group are copied to where whole tiles of them can be read; then one channel after another."""
    x, w = frame.operands
    (out,) = frame.results
    channels, columns = tensor(op.w).get_shape()
    tiles, of_group = tiles_of(columns), channels // op.group_count
    space = llvm.AllocaOp(index(tiles * TILE_COLUMNS), i8, alignment=64).results[0]
    sums = llvm.AllocaOp(index(1), vector_type(i32, TILE_ROWS), alignment=64).results[0]
    each(index(0), index(tiles * TILE_COLUMNS), lambda k: store(constant(0, i8), offset(space, k), 1))

    def row(*t: SSAValue) -> None:
        def group(g: SSAValue) -> None:
            first = offset(x.row(*t), mul(g, index(columns)))
            each(
                index(0), index(columns), lambda k: store(load(offset(first, k), i8, 1), offset(space, k), 1)
            )
            total = sum_activations(space, tiles)

            def channel(number: SSAValue) -> None:
                m = add(mul(g, index(of_group)), number)
                of_tile = offset(w.pointer, mul(udiv(m, index(TILE_ROWS)), index(tiles * TILE_BYTES)))
                store(call_dot(of_tile, space, tiles), sums, 4 * TILE_ROWS)
                place = offset(sums, mul(urem(m, index(TILE_ROWS)), index(4)))
                store(sub(load(place, i32, 4), total), offset(out.row(*t), mul(m, index(4))), 4)

            each(index(0), index(of_group), channel)

        each(index(0), index(op.group_count), group)

    frame.share_all(x.rows, row)


def emit_accumulate_floats(op: AccumulateOp, frame: Frame) -> None:
    """Sixteen columns at a time: x where the trit is 1, -x where it is -1, +0 where it is 0, added lane by lane."""
    if op.group_count != 1:
        raise CompileError("the CPU target has no kernel for sums of float rows in groups", op.location)
    x, w = frame.operands
    (out,) = frame.results
    channels, columns = tensor(op.w).get_shape()
    tiles = tiles_of(columns)
    bytes_of_row = tiles * TILE_BYTES

    def channel(m: SSAValue) -> None:
        first = add(
            mul(udiv(m, index(TILE_ROWS)), index(bytes_of_row)),
            mul(urem(m, index(TILE_ROWS)), index(ROW_BYTES)),
        )
        weights = offset(w.pointer, first)

        def row(*t: SSAValue) -> None:
            def step(block: SSAValue, total: SSAValue) -> list[SSAValue]:
                tile, inside = udiv(block, index(BLOCKS_OF_TILE)), urem(block, index(BLOCKS_OF_TILE))
                field, place = udiv(inside, index(BLOCKS_OF_FIELD)), urem(inside, index(BLOCKS_OF_FIELD))
                address = add(mul(tile, index(TILE_BYTES)), mul(place, index(LANES)))
                packed = zext(load(offset(weights, address), vector_type(i8, LANES), LANES), i32)
                shift = splat(trunc(mul(field, index(2)), i32))
                trits = bitand(lshr(packed, shift), constant(3, INTS))
                value = load_floats(x.row(*t), block)
                minus = select(icmp("eq", trits, constant(0, INTS)), fneg(value), constant(0.0, FLOATS))
                return [fadd(total, select(icmp("eq", trits, constant(2, INTS)), value, minus))]

            (total,) = loop(index(0), index(blocks_of(columns)), step, [constant(0.0, FLOATS)])
            store(tree(fadd, total), offset(out.row(*t), mul(m, index(4))), 4)

        frame.each(x.rows, row)

    frame.share(index(channels), channel)


def emit_dequantize(op: DequantizeOp, frame: Frame) -> None:
    acc, step, scale = frame.operands
    (out,) = frame.results
    channels = out.columns
    assert channels is not None

    def row(*t: SSAValue) -> None:
        factor = load(step.at(*t) if step.shape else step.pointer, f32, 4)

        def block(number: SSAValue) -> None:
            address = vector_at(acc.row(*t), number)
            sums = load(address, INTS, 4 * LANES)
            store_floats(fmul(int_to_float(sums), scaled(factor, scale, number)), out.row(*t), number)

        each(index(0), index(blocks_of(channels)), block)

    frame.share_all(acc.rows, row)
