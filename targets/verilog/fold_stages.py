"""Chooses how many elements move at a time in each stage, so that every stage takes a row in at most `interval` cycles.

    %a = stream.array %q, @w ... : !stream.rows<256 by 1 : i8> -> !stream.rows<128 by 1 : i17>
    %y = stream.map(%a : !stream.rows<128 by 1 : i17>) ...

with `interval = 64` becomes

    %q_w = stream.lanes %q : !stream.rows<256 by 4 : i8> -> !stream.rows<256 by 64 : i8>
    %a = stream.array %q_w, @w ... : !stream.rows<256 by 64 : i8> -> !stream.rows<128 by 8 : i17>
    %a_n = stream.lanes %a : !stream.rows<128 by 8 : i17> -> !stream.rows<128 by 2 : i17>
    %y = stream.map(%a_n : !stream.rows<128 by 2 : i17>) ...

A pipeline gives as many rows as its slowest stage, so to make one stage faster than the others is to waste what it takes: with one
interval for all, each stage gets the fewest lanes that meet it (the folding of dataflow compilers; Umuroglu et al., FINN, doi
10.1145/3020078.3021744). An array has two such numbers, PE rows by SIMD columns; of those that meet the interval it gets the fewest products a
cycle and, of equals, the fewest rows, since a row brings an accumulator. A row is only cut into equal beats, so lanes divide its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from sterna.dialects.errors import CompileError
from sterna.dialects.stream import (
    STAGE,
    ArrayOp,
    LanesOp,
    LookupOp,
    MapOp,
    PipelineOp,
    ScanOp,
    YieldOp,
    pipeline_of,
    stage_name,
)
from sterna.dialects.stream_types import rows_type

WIDEST_ROW = 128
"""Columns that one adder tree takes: a tree of more is long, and its wires are too."""


@dataclass(frozen=True)
class FoldStagesPass(ModulePass):
    name = "fold-stages"

    interval: int = 1024

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if (pipeline := pipeline_of(list(op.ops))) is None:
            raise CompileError(f"{self.name}: there is no stream.pipeline: run convert-fixed-to-stream first")
        if self.interval < 1:
            raise CompileError(f"{self.name}: interval is a number of cycles from 1, not {self.interval}")
        fold(pipeline, self.interval)


def divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def fewest_lanes(size: int, interval: int) -> int:
    """The fewest lanes with which a row takes no more cycles; all of them at once, if need be."""
    return next(lanes for lanes in divisors(size) if size // lanes <= max(interval, 1))


def fewest_products(rows: int, columns: int, interval: int) -> tuple[int, int]:
    """(PE, SIMD) of an array."""
    choices = [
        (pe * simd, pe, simd)
        for simd in divisors(columns)
        if simd <= WIDEST_ROW
        for pe in divisors(rows)
        if (rows // pe) * (columns // simd) <= interval
    ]
    if not choices:
        widest = max(simd for simd in divisors(columns) if simd <= WIDEST_ROW)
        return rows, widest
    _, pe, simd = min(choices)
    return pe, simd


def fold(pipeline: PipelineOp, interval: int) -> None:
    made: dict[tuple[SSAValue, int], SSAValue] = {}
    for op in list(pipeline.body.block.ops):
        match op:
            case ArrayOp():
                x, y = rows_type(op.x), rows_type(op.result)
                if op.design.data in ("folded", "shared-sums"):
                    pe, simd = y.size.data, x.size.data
                else:
                    pe, simd = fewest_products(y.size.data, x.size.data, interval)
                _read(op, 0, simd, made)
                _retype(op.result, pe)
            case MapOp():
                lanes = fewest_lanes(op.rows.size.data, interval)
                for index, value in enumerate(op.inputs):
                    if rows_type(value).size == op.rows.size:
                        _read(op, index, lanes, made)
                for out in op.outs:
                    _retype(out, lanes)
            case ScanOp():
                lanes = fewest_lanes(rows_type(op.result).size.data, interval)
                _read(op, 1, lanes, made)
                _read(op, 2, lanes, made)
                _retype(op.result, lanes)
            case LookupOp():
                _retype(op.result, fewest_lanes(rows_type(op.result).size.data, interval))
            case LanesOp() | YieldOp():
                pass
            case _:
                for index, value in enumerate(op.operands):
                    _read(op, index, fewest_lanes(rows_type(value).size.data, interval), made)


def _retype(value: SSAValue, lanes: int) -> None:
    if rows_type(value).lanes.data != lanes:
        Rewriter.replace_value_with_new_type(value, rows_type(value).by(lanes))


def _read(op: Operation, index: int, lanes: int, made: dict[tuple[SSAValue, int], SSAValue]) -> None:
    """Lets the operand come in so many lanes."""
    value = op.operands[index]
    given = rows_type(value).lanes.data
    if given == lanes:
        return
    if (found := made.get((value, lanes))) is None:
        shared = gcd(given, lanes)
        steps = [lanes] if shared in (given, lanes) else [shared, lanes]
        found = value
        for step in steps:
            adapter = LanesOp(found, step)
            adapter.result.name_hint = f"{value.name_hint or 'stream'}_by{step}"
            adapter.attributes[STAGE] = StringAttr(f"{_maker(value)}_by{step}")
            block = op.parent_block()
            assert block is not None
            block.insert_op_before(adapter, op)
            found = adapter.result
        made[value, lanes] = found
    op.operands[index] = found


def _maker(value: SSAValue) -> str:
    return stage_name(value.owner) if isinstance(value.owner, Operation) else value.name_hint or "input"
