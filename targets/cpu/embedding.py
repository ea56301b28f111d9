"""Kernel of `ternary.embedding`: copies rows of the table, widening float16 and bfloat16."""

from __future__ import annotations

from xdsl.dialects.builtin import f16, f32, i16, i32, i64
from xdsl.ir import Operation, SSAValue

from sterna.dialects.layout import element_bytes
from sterna.dialects.numerics import LANES
from sterna.targets.cpu.instructions import (
    FLOATS,
    INTS,
    bitand,
    bitcast,
    bitor,
    constant,
    fmul,
    icmp,
    index,
    load,
    mul,
    offset,
    select,
    sext,
    shift_left,
    vector_type,
    zext,
)
from sterna.targets.cpu.kernel import Frame, blocks_of, is_tensor_of, load_floats, store_floats


def widen_half(bits: SSAValue) -> SSAValue:
    """float16, as sixteen i16, to float32: exact, in integer and float32 operations that every machine has.

    Exponent and mantissa, moved 13 bits up, are the number times 2^-112, subnormals too; infinity and NaN
    need the full exponent instead.
    """
    wide = zext(bits, i32)
    magnitude = bitand(wide, constant(0x7FFF, INTS))
    sign = shift_left(bitand(wide, constant(0x8000, INTS)), 16)
    moved = shift_left(magnitude, 13)
    scaled = bitcast(fmul(bitcast(moved, FLOATS), constant(2.0**112, FLOATS)), INTS)
    special = bitor(moved, constant(0x7F800000, INTS))
    value = select(icmp("sgt", magnitude, constant(0x7BFF, INTS)), special, scaled)
    return bitcast(bitor(value, sign), FLOATS)


def widen_bfloat(bits: SSAValue) -> SSAValue:
    """bfloat16, as sixteen i16, to float32, of which it is the upper half."""
    return bitcast(shift_left(zext(bits, i32), 16), FLOATS)


def emit_embedding(op: Operation, frame: Frame) -> None:
    tokens, table = frame.operands
    (result,) = frame.results
    token_type = tokens.type.get_element_type()
    assert table.columns is not None
    token_bytes = element_bytes(tokens.type)

    def load_block(row: SSAValue, block: SSAValue) -> SSAValue:
        if is_tensor_of(table, f32):
            return load_floats(row, block)
        bits = load(offset(row, mul(block, index(2 * LANES))), vector_type(i16, LANES), 2 * LANES)
        return widen_half(bits) if is_tensor_of(table, f16) else widen_bfloat(bits)

    def copy_block(block: SSAValue) -> None:
        def copy(*t: SSAValue) -> None:
            token = load(tokens.at(*t), token_type, token_bytes)
            row = table.row(token if token_type == i64 else sext(token, i64))
            store_floats(load_block(row, block), result.row(*t), block)

        frame.each(tokens.shape, copy)

    frame.share(index(blocks_of(table.columns)), copy_block)
