"""Whether a program treats the rows of T one by one, so that a long input may run in pieces.

It does if every result has T as its leading axis alone, and row t of it comes from row t of the inputs, from weights,
and from the rows before through an operation that takes an input state to the result that continues it: a
`ternary.scan`, `ternary.positions`, or `ternary.attention` with its cache. Every value is followed from the inputs on;
an operation that is not known here, that looks across rows, or at T itself, makes its results MIXED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeGuard, cast

from xdsl.dialects import arith, func, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, IntegerType, TensorType
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr

from sterna.dialects import ternary


class Kind(Enum):
    FIXED = auto()
    """The same in every piece."""
    ROWS = auto()
    """`[T, ...]`: row t depends on row t."""
    SIZE = auto()
    """T: good for the size of a new tensor."""
    MIXED = auto()
    """Nothing is known."""


@dataclass(frozen=True)
class State:
    """Recurrent state `number`, as a piece finds it or, if `final`, as it leaves it."""

    number: int
    final: bool


Fact = Kind | State

ROW_OPS = (
    ternary.AccumulateOp,
    ternary.DequantizeOp,
    ternary.ElementwiseOp,
    ternary.EmbeddingOp,
    ternary.NormQuantizeOp,
    ternary.ProjectOp,
    ternary.QuantizeOp,
    ternary.RmsNormOp,
    ternary.RotateOp,
    ternary.ThresholdOp,
)
"""Operations that work on rows by definition."""

SIZED = (tensor.EmptyOp, tensor.SplatOp, tensor.ExpandShapeOp, linalg.FillOp)
RESHAPES = (tensor.ExpandShapeOp, tensor.CollapseShapeOp, tensor.ReshapeOp, tensor.CastOp)


def is_row_wise(entry: func.FuncOp, functions: Mapping[str, func.FuncOp], states: int) -> bool:
    """Whether the entry, whose last `states` inputs and results are states, may run in pieces."""
    count = len(entry.body.block.args) - states
    given: list[Fact] = [
        State(n - count, final=False) if n >= count else fact_of_type(argument.type, Kind.FIXED)
        for n, argument in enumerate(entry.body.block.args)
    ]
    found = follow(entry, given, functions)
    plain, ends = found[: len(found) - states], found[len(found) - states :]
    return all(fact in (Kind.ROWS, Kind.FIXED) for fact in plain) and ends == [
        State(n, final=True) for n in range(states)
    ]


def fact_of_type(type: Attribute, static: Kind) -> Kind:
    """What a value made from rows by rows is: `static` if its type has no T."""
    if not isinstance(type, TensorType):
        return static
    shape = cast("TensorType[Attribute]", type).get_shape()
    if DYNAMIC_INDEX not in shape:
        return static
    return Kind.ROWS if shape[0] == DYNAMIC_INDEX and DYNAMIC_INDEX not in shape[1:] else Kind.MIXED


def follow(function: func.FuncOp, given: Sequence[Fact], functions: Mapping[str, func.FuncOp]) -> list[Fact]:
    """What a function returns, given what it takes."""
    facts: dict[SSAValue, Fact] = dict(zip(function.body.block.args, given, strict=True))
    for op in function.body.block.ops:
        operands = [facts[operand] for operand in op.operands]
        if isinstance(op, func.ReturnOp):
            return operands
        facts.update(zip(op.results, results_of(op, operands, facts, functions), strict=True))
    return []


def results_of(
    op: Operation,
    operands: Sequence[Fact],
    facts: Mapping[SSAValue, Fact],
    functions: Mapping[str, func.FuncOp],
) -> Sequence[Fact]:
    match op:
        case func.CallOp():
            return follow(functions[op.callee.string_value()], operands, functions)
        case ternary.ScanOp():
            f, i, init = operands
            if f == i == Kind.ROWS and is_given(init):
                return (Kind.ROWS, State(init.number, final=True))
            return (Kind.MIXED, Kind.MIXED)
        case ternary.PositionsOp():
            start, rows = operands
            if rows == Kind.ROWS and is_given(start):
                return (Kind.ROWS, State(start.number, final=True))
            return (Kind.MIXED, Kind.MIXED)
        case ternary.AttentionOp():
            *rows, keys, values = operands
            caches = [State(each.number, final=True) for each in (keys, values) if is_given(each)]
            if all(fact == Kind.ROWS for fact in rows) and len(caches) == 2:
                return (Kind.ROWS, *caches)
            return (Kind.MIXED, Kind.MIXED, Kind.MIXED)
        case tensor.DimOp():
            return (Kind.SIZE if tensor_shape(op.source)[0:1] == (DYNAMIC_INDEX,) else Kind.FIXED,)
        case _:
            pass
    read = [facts.get(value, Kind.FIXED) for value in values_read(op)]
    if isinstance(op, SIZED):
        read = [fact for fact in read if fact != Kind.SIZE]
    if isinstance(op, tensor.ExtractSliceOp | tensor.InsertSliceOp):
        read = [facts[op.operands[0]], *(facts[each] for each in (*op.offsets, *op.strides))]
        if isinstance(op, tensor.InsertSliceOp):
            read.append(facts[op.dest])
    mixed = any(fact not in (Kind.FIXED, Kind.ROWS) for fact in read)
    if mixed or (Kind.ROWS in read and not keeps_rows(op, facts)):
        return [Kind.MIXED] * len(op.results)
    static = Kind.MIXED if Kind.ROWS in read else Kind.FIXED
    return [fact_of_type(result.type, static) for result in op.results]


def is_given(fact: Fact) -> TypeGuard[State]:
    """Whether that is a state as a piece finds it."""
    return isinstance(fact, State) and not fact.final


def values_read(op: Operation) -> list[SSAValue]:
    """The operands, and what the regions read from outside them."""
    return [value for inner in op.walk() for value in inner.operands if not op.is_ancestor(value.owner)]


def tensor_shape(value: SSAValue) -> tuple[int, ...]:
    return cast("TensorType[Attribute]", value.type).get_shape()


def keeps_rows(op: Operation, facts: Mapping[SSAValue, Fact]) -> bool:
    """Whether row t of the results comes from row t of the operands that have rows."""
    match op:
        case linalg.GenericOp():
            return generic_keeps_rows(op, facts)
        case linalg.MatmulOp():
            return facts[op.operands[1]] == Kind.FIXED
        case linalg.ReduceOp() | linalg.BroadcastOp():
            return facts[op.operands[0]] == Kind.FIXED or 0 not in op.dimensions.get_values()
        case linalg.TransposeOp():
            return op.permutation.get_values()[0] == 0
        case tensor.ExtractSliceOp():
            return whole_leading_axis(op)
        case tensor.InsertSliceOp():
            return whole_leading_axis(op) and facts[op.dest] == facts[op.source] == Kind.ROWS
        case tensor.ConcatOp():
            return op.dim.value.data != 0 and all(facts[value] == Kind.ROWS for value in op.operands)
        case tensor.PadOp():
            return op.static_low.get_values()[0] == op.static_high.get_values()[0] == 0
        case arith.ConstantOp() | linalg.FillOp() | tensor.EmptyOp() | tensor.SplatOp():
            return True
        case _ if isinstance(op, (*ROW_OPS, *RESHAPES)):
            return True
        case _:
            # An operation of `arith` or `math` on tensors of one shape.
            return op.name.startswith(("arith.", "math.")) and not op.regions


def whole_leading_axis(op: tensor.ExtractSliceOp | tensor.InsertSliceOp) -> bool:
    lists = (op.static_offsets, op.static_sizes, op.static_strides)
    return tuple(cast("DenseArrayBase[IntegerType]", each).get_values()[0] for each in lists) == (
        0,
        DYNAMIC_INDEX,
        1,
    )


def generic_keeps_rows(op: linalg.GenericOp, facts: Mapping[SSAValue, Fact]) -> bool:
    """One loop runs over T, every operand with rows is led by it, and the body does not ask for its number."""
    loops: set[int] = set()
    for value, map in zip(op.operands, op.indexing_maps, strict=True):
        if facts[value] == Kind.ROWS:
            first = map.data.results[0]
            loops.add(first.position if isinstance(first, AffineDimExpr) else -1)
    asked = {inner.dim.value.data for inner in op.body.walk() if isinstance(inner, linalg.IndexOp)}
    return len(loops) == 1 and not loops & asked and all(facts[out] == Kind.ROWS for out in op.outputs)
