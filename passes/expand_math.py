"""Writes the transcendental functions as arithmetic, so that every target computes the same bits.

    %y = math.exp %x : f32

becomes the operations of `elementary.exp` in the order in which it has them, from

    %above = arith.cmpf ogt, %x, %high : f32
    %bounded = arith.select %above, %high, %x : f32

to the multiplication by two powers of two. A function of a tensor becomes a `linalg.generic` with such a region. What
stays is exact or correctly rounded everywhere: `arith`, `math.sqrt`, roundings, signs. Any other function has no
expansion yet, and is an error.

Why it is right: the interpreter's functions and the expansions are one text, `dialects/elementary.py`, run on arrays
and on IR values. Derived weights are left alone: the interpreter computes them, once, when an artifact is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, math, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AffineMapAttr,
    ArrayAttr,
    IndexType,
    IntegerAttr,
    ModuleOp,
    TensorType,
    f32,
)
from xdsl.dialects.func import FuncOp
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorTypeAttr
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineMap
from xdsl.passes import ModulePass

from sterna.dialects import elementary, ternary
from sterna.dialects.errors import CompileError, describe_location
from sterna.passes.scalar_writer import Constants, Term, Writer

FUNCTIONS: dict[type[Operation], Callable[..., elementary.Value]] = {
    math.ExpOp: elementary.exp,
    math.LogOp: elementary.log,
    math.TanhOp: elementary.tanh,
    math.ErfOp: elementary.erf,
    math.SinOp: elementary.sin,
    math.CosOp: elementary.cos,
    math.PowFOp: elementary.pow,
    math.RsqrtOp: elementary.rsqrt,
}

EXACT = (
    math.SqrtOp,
    math.AbsFOp,
    math.AbsIOp,
    math.FloorOp,
    math.CeilOp,
    math.TruncOp,
    math.RoundOp,
    math.RoundEvenOp,
    math.CopySignOp,
    math.FmaOp,
)
"""IEEE 754 says every bit of these."""


def expand(op: Operation, constants: Constants) -> None:
    """Replaces a function of scalars by its arithmetic."""
    writer = Writer(op, constants)
    result = FUNCTIONS[type(op)](writer, *(Term(operand, writer) for operand in op.operands))
    op.results[0].replace_all_uses_with(result.value)
    op.detach()
    op.erase()


def enclose(op: Operation) -> Operation:
    """Replaces a function of tensors by a `linalg.generic` of that function of scalars, which is returned."""
    type = ternary.tensor(op.results[0])
    block = Block(arg_types=[f32] * (len(op.operands) + 1))
    scalar = op.create(operands=block.args[:-1], result_types=[f32], properties=op.properties)
    scalar.location = op.location
    block.add_ops([scalar, linalg.YieldOp(scalar.results[0])])
    before: list[Operation] = []
    sizes: list[SSAValue] = []
    for axis, size in enumerate(type.get_shape()):
        if size == DYNAMIC_INDEX:
            number = arith.ConstantOp(IntegerAttr(axis, IndexType()))
            dim = tensor.DimOp(op.operands[0], number.result)
            before += [number, dim]
            sizes.append(dim.result)
    init = tensor.EmptyOp(sizes, type)
    identity = AffineMapAttr(AffineMap.identity(type.get_num_dims()))
    generic = linalg.GenericOp(
        op.operands,
        [init.tensor],
        Region(block),
        ArrayAttr([identity] * (len(op.operands) + 1)),
        ArrayAttr([IteratorTypeAttr.parallel()] * type.get_num_dims()),
        [type],
    )
    parent = op.parent
    assert parent is not None
    for new in (*before, init, generic):
        new.location = op.location
        parent.insert_op_before(new, op)
    op.results[0].replace_all_uses_with(generic.results[0])
    op.detach()
    op.erase()
    return scalar


@dataclass(frozen=True)
class ExpandMathPass(ModulePass):
    name = "expand-math"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        functions = [func for func in op.ops if isinstance(func, FuncOp)]
        found = [op for func in functions for op in func.walk() if op.name.startswith("math.")]
        refuse_unknown([op for op in found if not isinstance(op, EXACT) and not is_known(op)])
        constants: dict[Block, Constants] = {}
        for function in filter(is_known, found):
            scalar = enclose(function) if isinstance(function.results[0].type, TensorType) else function
            block = scalar.parent
            assert block is not None
            if block not in constants:
                constants[block] = Constants(block)
            expand(scalar, constants[block])


def is_known(op: Operation) -> bool:
    """Whether the operation is a function of f32 that has an expansion."""
    if type(op) not in FUNCTIONS:
        return False
    result = op.results[0]
    return (
        ternary.tensor(result).element_type if isinstance(result.type, TensorType) else result.type
    ) == f32


def refuse_unknown(unknown: list[Operation]) -> None:
    if unknown:
        places = dict.fromkeys(f"{op.name} {describe_location(op.location)}".strip() for op in unknown)
        known = ", ".join(op.name for op in (*FUNCTIONS, *EXACT))
        raise CompileError(
            f"no arithmetic of fixed bits for {'; '.join(places)} (there is for {known}, on f32)"
        )
