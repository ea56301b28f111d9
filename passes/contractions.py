"""Reads what a sum of products is over: `linalg.matmul`, or a `linalg.generic` whose last loop is reduced.

    linalg.generic {maps = [(n, g, m, k) -> (n, g, k), (n, g, m, k) -> (g, m, k), (n, g, m, k) -> (n, g, m)]}

reads as rows n, groups g (loops of both operands) and channels m, whichever of the operands is the weight.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.dialects import arith
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.ir import Block, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap

Loops = tuple[int, ...]


@dataclass(frozen=True)
class Operand:
    """A factor of the products: its axes are those loops, in that order."""

    value: SSAValue
    loops: Loops
    is_unsigned: bool = False
    """Its integers are extended by zeros."""


@dataclass(frozen=True)
class Contraction:
    """out[parallel loops] = init + sum over the last loop of lhs * rhs."""

    op: linalg.MatmulOp | linalg.GenericOp
    lhs: Operand
    rhs: Operand
    out: Loops

    @property
    def init(self) -> SSAValue:
        return self.op.outputs[0]

    @property
    def result(self) -> SSAValue:
        return self.op.results[0]

    @property
    def reduced(self) -> int:
        return len(self.out)


def match_contraction(op: Operation) -> Contraction | None:
    """The sum of products that an operation is, if it is one."""
    match op:
        case linalg.MatmulOp() if len(op.inputs) == 2 and _is_plain(op):
            lhs, rhs = op.inputs
            return Contraction(op, Operand(lhs, (0, 2)), Operand(rhs, (2, 1)), (0, 1))
        case linalg.GenericOp() if len(op.inputs) == 2 and len(op.outputs) == 1:
            return _match_generic(op)
        case _:
            return None


def _is_plain(op: linalg.MatmulOp) -> bool:
    expected = (AffineMap(3, 0, (_D0, _D2)), AffineMap(3, 0, (_D2, _D1)), AffineMap(3, 0, (_D0, _D1)))
    return tuple(map.data for map in op.indexing_maps) == expected


_D0, _D1, _D2 = (AffineDimExpr(loop) for loop in range(3))


def _match_generic(op: linalg.GenericOp) -> Contraction | None:
    kinds = [kind.data for kind in op.iterator_types]
    parallel = kinds[:-1]
    if kinds[-1:] != [IteratorType.REDUCTION] or any(kind != IteratorType.PARALLEL for kind in parallel):
        return None
    lhs, rhs, out = (projected_loops(map.data) for map in op.indexing_maps)
    signs = _product_signs(op.body.block)
    reduced = len(parallel)
    if lhs is None or rhs is None or out is None or signs is None:
        return None
    if sorted(out) != list(range(reduced)) or reduced not in lhs or reduced not in rhs:
        return None
    operands = (Operand(op.inputs[0], lhs, signs[0]), Operand(op.inputs[1], rhs, signs[1]))
    return Contraction(op, *operands, out)


def projected_loops(map: AffineMap) -> Loops | None:
    """The loop of each axis of an operand, or None where an axis is more than one loop."""
    loops = tuple(e.position for e in map.results if isinstance(e, AffineDimExpr))
    return loops if len(loops) == len(map.results) == len(set(loops)) else None


def _product_signs(block: Block) -> tuple[bool, bool] | None:
    """Of `acc + a * b`, whether each of a and b is extended by zeros; None for any other body."""
    total = block.last_op.operands[0].owner if block.last_op and block.last_op.operands else None
    if not isinstance(total, arith.AddfOp | arith.AddiOp):
        return None
    acc = block.args[2]
    product = next((value.owner for value in total.operands if value is not acc), None)
    if acc not in total.operands or not isinstance(product, arith.MulfOp | arith.MuliOp):
        return None
    a, b = (_extended(value) for value in product.operands)
    if {a[0], b[0]} != set(block.args[:2]):
        return None
    return (a[1], b[1]) if a[0] is block.args[0] else (b[1], a[1])


def _extended(value: SSAValue) -> tuple[SSAValue, bool]:
    match value.owner:
        case arith.ExtSIOp(input=narrow):
            return narrow, False
        case arith.ExtUIOp(input=narrow):
            return narrow, True
        case _:
            return value, False
