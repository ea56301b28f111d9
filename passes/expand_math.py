"""Writes the transcendental functions as arithmetic, so that every target computes the same bits.

    %y = math.exp %x : f32

becomes the operations of `elementary.exp` in the order in which it has them, from

    %above = arith.cmpf ogt, %x, %high : f32
    %bounded = arith.select %above, %high, %x : f32

to the multiplication by two powers of two. A function of a tensor becomes a `linalg.generic` with such a region. A
pair of `arith.truncf` to f16 and `arith.extf` back, which rounds to float16, is written out too. What stays is exact or
correctly rounded everywhere: the rest of `arith`, `math.sqrt`, roundings, signs. Any other function has no expansion
yet, and is an error.

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
    f16,
    f32,
)
from xdsl.dialects.func import FuncOp
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorTypeAttr
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineMap
from xdsl.passes import ModulePass

from sterna.dialects import elementary, exact_functions, ternary
from sterna.dialects.errors import CompileError, describe_location
from sterna.dialects.scalar_writer import Constants, write_over

FUNCTIONS: dict[type[Operation], Callable[..., elementary.Value]] = {
    math.ExpOp: elementary.exp,
    math.LogOp: elementary.log,
    math.TanhOp: elementary.tanh,
    math.ErfOp: elementary.erf,
    math.SinOp: elementary.sin,
    math.CosOp: elementary.cos,
    math.PowFOp: elementary.pow,
    math.RsqrtOp: elementary.rsqrt,
    arith.ExtFOp: exact_functions.round_to_half,
}
"""`arith.extf` stands for its operand too, an `arith.truncf` to f16: the two round a number to float16."""

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
    inner = halves_of(op)
    write_over(op, FUNCTIONS[type(op)], op.operands if inner is None else inner.operands, constants)
    if inner is not None and inner.result.first_use is None:
        inner.detach()
        inner.erase()


def halves_of(op: Operation) -> arith.TruncFOp | None:
    """The `arith.truncf` from f32 to f16 whose result an `arith.extf` widens again, both of scalars."""
    if not isinstance(op, arith.ExtFOp) or op.input.type != f16 or op.result.type != f32:
        return None
    inner = op.input.owner
    return inner if isinstance(inner, arith.TruncFOp) and inner.input.type == f32 else None


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
        found = [
            op for func in functions for op in func.walk() if is_known(op) or op.name.startswith("math.")
        ]
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
    if type(op) not in FUNCTIONS or (isinstance(op, arith.ExtFOp) and halves_of(op) is None):
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
