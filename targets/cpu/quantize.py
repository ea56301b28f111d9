"""Kernel of `ternary.quantize`, and the rounding of a row that `ternary.norm_quantize` shares with it."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import f32, i8
from xdsl.ir import Operation, SSAValue

from sterna.dialects.numerics import INT8_MAX, LANES, ROUND_MAGIC
from sterna.dialects.ternary import QuantizeOp
from sterna.targets.cpu.instructions import (
    BYTES,
    FLOATS,
    INTS,
    bitcast,
    constant,
    fadd,
    fcmp,
    fdiv,
    fmul,
    index,
    mul,
    offset,
    select,
    splat,
    store,
    sub,
    trunc,
)
from sterna.targets.cpu.kernel import Buffer, Frame, blocks_of, each, load_floats, mask_tail
from sterna.targets.cpu.reductions import Load, maximum, reduce_row


def round_to_int8(value: SSAValue) -> SSAValue:
    """`numerics.round_to_int8` of sixteen float32, as sixteen int32.

    Clamping first gives the same: the bounds are integers. Inside them, adding 1.5 * 2^23 leaves the number
    rounded half to even in the low bits of the sum, in the rounding mode that every program starts with,
    and without a call to libm.
    """
    low, high, zero = (constant(bound, FLOATS) for bound in (-128.0, 127.0, 0.0))
    value = select(fcmp("uno", value, value), zero, value)
    value = select(fcmp("ogt", value, high), high, value)
    value = select(fcmp("olt", value, low), low, value)
    magic = constant(float(ROUND_MAGIC), FLOATS)
    return sub(bitcast(fadd(value, magic), INTS), bitcast(magic, INTS))


def write_quantized(q: Buffer, t: Sequence[SSAValue], columns: int, load: Load, factor: SSAValue) -> None:
    """Row t of q: the elements times `factor`, rounded; zeros up to the row's padded end."""
    row, scale = q.row(*t), splat(factor)

    def write(block: SSAValue) -> None:
        rounded = mask_tail(round_to_int8(fmul(load(block), scale)), block, columns)
        store(trunc(rounded, i8), offset(row, mul(block, index(LANES))), LANES)

    def pad(block: SSAValue) -> None:
        store(constant(0, BYTES), offset(row, mul(block, index(LANES))), LANES)

    written, blocks = blocks_of(columns), padded_columns(columns) // LANES
    each(index(0), index(written), write)
    if written < blocks:
        each(index(written), index(blocks), pad)


def padded_columns(columns: int) -> int:
    """Bytes of a row of int8: whole tiles of 256."""
    return -(-columns // 256) * 256


def int8_scale(divisor: SSAValue) -> SSAValue:
    """127 / d."""
    return fdiv(constant(float(INT8_MAX), f32), divisor)


def store_step(step: Buffer, t: Sequence[SSAValue], divisor: SSAValue) -> None:
    """step[t] = d / 127."""
    value = fdiv(divisor, constant(float(INT8_MAX), f32))
    store(value, step.at(*t), 4)


def emit_quantize(op: Operation, frame: Frame) -> None:
    assert isinstance(op, QuantizeOp)
    (x,) = frame.operands
    q, step = frame.results
    columns = x.columns
    assert columns is not None

    def quantize(*t: SSAValue) -> None:
        row = x.row(*t)

        def load(block: SSAValue) -> SSAValue:
            return load_floats(row, block)

        _, (largest,) = reduce_row(columns, [], [load])
        divisor = maximum(largest, op.eps.value.data)
        write_quantized(q, t, columns, load, int8_scale(divisor))
        store_step(step, t, divisor)

    frame.share_all(x.rows, quantize)
