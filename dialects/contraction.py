"""Products summed over one loop: what a `linalg.generic` that reduces may be. And what a `linalg.reduce` combines by.

    linalg.generic {indexing_maps = [(b, t, m, k) -> (b, t, k), (b, t, m, k) -> (m, k), (b, t, m, k) -> (b, t, m)],
                    iterator_types = ["parallel", "parallel", "parallel", "reduction"]}
      ^bb0(%a: f32, %w: f32, %total: f32):
        %product = arith.mulf %a, %w : f32
        %sum = arith.addf %total, %product : f32
        linalg.yield %sum : f32

Exactly one loop reduces, the last, and the region is total + a * b; integers may be widened first. Its meaning is that
of `linalg.matmul`: products rounded one by one, summed in 16 lanes over the loop, and the initial value added last.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.dialects import arith
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.ir import Block, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap

Widening = type[arith.ExtSIOp] | type[arith.ExtUIOp] | None
"""How an operand's elements become those of the sum; None where they are of one type."""


@dataclass(frozen=True)
class Contraction:
    """A generic that is a contraction: which loop, by number, each axis of its operands and result runs along."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    out: tuple[int, ...]
    widen_left: Widening
    widen_right: Widening

    @property
    def reduced(self) -> int:
        """The number of the loop that is summed over: the last."""
        return len(self.out)


def loops_of(map: AffineMap) -> tuple[int, ...] | None:
    """The loop of each axis, where the map is a projection of the loops."""
    loops = tuple(expr.position for expr in map.results if isinstance(expr, AffineDimExpr))
    return loops if len(loops) == len(map.results) and len(set(loops)) == len(loops) else None


def match_contraction(op: linalg.GenericOp) -> Contraction | None:
    """What a generic contracts; None for one that is no contraction."""
    kinds = [kind.data for kind in op.iterator_types]
    parallel, reduction = IteratorType.PARALLEL, IteratorType.REDUCTION
    if kinds != [parallel] * (len(kinds) - 1) + [reduction] or len(op.inputs) != 2 or len(op.outputs) != 1:
        return None
    left, right, out = (loops_of(map.data) for map in op.indexing_maps)
    if left is None or right is None or out is None or sorted(out) != list(range(len(kinds) - 1)):
        return None
    # The reduced loop has a length only where an operand runs along it.
    if len(kinds) - 1 not in (*left, *right) or (factors := _match_product(op.body.block)) is None:
        return None
    (a, widen_left), (b, widen_right) = (_unwiden(factor) for factor in factors)
    x, y, _ = op.body.block.args
    if (a, b) == (y, x):
        widen_left, widen_right = widen_right, widen_left
    elif (a, b) != (x, y):
        return None
    return Contraction(left, right, out, widen_left, widen_right)


def _match_product(block: Block) -> tuple[SSAValue, SSAValue] | None:
    """The factors of a region that yields total + a * b, and does nothing else."""
    last = block.last_op
    if not isinstance(last, linalg.YieldOp) or len(last.operands) != 1:
        return None
    add = last.operands[0].owner
    total = block.args[-1]
    if not isinstance(add, arith.AddfOp | arith.AddiOp) or total not in add.operands:
        return None
    summand = add.rhs if add.lhs is total else add.lhs
    multiply = summand.owner
    expected = arith.MulfOp if isinstance(add, arith.AddfOp) else arith.MuliOp
    if not isinstance(multiply, expected):
        return None
    widened = {owner for value in multiply.operands if isinstance(owner := value.owner, Operation)}
    if set(block.ops) != {*widened, multiply, add, last}:
        return None
    return multiply.lhs, multiply.rhs


def _unwiden(factor: SSAValue) -> tuple[SSAValue, Widening]:
    match factor.owner:
        case arith.ExtSIOp() as widening:
            return widening.input, arith.ExtSIOp
        case arith.ExtUIOp() as widening:
            return widening.input, arith.ExtUIOp
        case _:
            return factor, None


def only_op(block: Block) -> Operation | None:
    """The operation of a region that combines its two arguments, in either order, by one operation."""
    first, last = block.first_op, block.last_op
    if first is None or last is None or first.next_op is not last or len(block.args) != 2:
        return None
    combines = tuple(first.operands) in (tuple(block.args), tuple(reversed(block.args)))
    return first if combines and tuple(last.operands) == tuple(first.results) else None
