"""Kernels that reduce: `linalg.reduce`, `linalg.matmul`, and contractions, a `linalg.generic` of one reduction loop.

A program has 64 elements of the result. A float sum has 16 partial sums for each over the flattened reduced axes, and a
halving tree, as the IR says; a sum of integers, exact in any order, has them too. Anything else goes in the order of
index, from the initial value on. Products of float rows with a matrix are in `contraction.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.dialects import arith
from xdsl.dialects.builtin import f32, i1, i64
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.ir import Attribute, Block, Operation, SSAValue

from sterna.dialects.contraction import Widening, match_contraction
from sterna.dialects.elements import width_of
from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import tensor
from sterna.targets.triton.contraction import DenseProduct, emit_dense
from sterna.targets.triton.kernel import Host, Shape
from sterna.targets.triton.loops import Loops, emit_parallel, finish
from sterna.targets.triton.places import Sizes
from sterna.targets.triton.region import dtype_of

TOGETHER, IN_ORDER = 64, 256
"""Elements of the result that a program has: of sums, each of which has its lanes, and of others."""

LANES = 16

Term = Callable[[Sequence[str]], str]
"""What is summed up, from elements of the operands."""


@dataclass(frozen=True)
class Nest:
    """Loops, some of which are reduced: their lengths, and along which of them each operand lies."""

    extents: Sizes
    parallel: Sequence[int]
    """Those that the axes of the result lie along, in order."""
    reduced: Sequence[int]
    reads: Sequence[tuple[SSAValue, Sequence[int]]]

    @property
    def inner(self) -> Sizes:
        return [self.extents[loop] for loop in self.reduced]


class Reduction(Loops):
    """The kernel of an operation that reduces, being written."""

    def __init__(self, op: Operation, host: Host, nest: Nest, init: SSAValue, block: int = TOGETHER) -> None:
        super().__init__(op, host, Shape.of(op.results[0]).sizes, block=block)
        self.nest = nest
        self.names = self.builder.names
        self.names.taken |= {"start", "lane"}
        self.length = self.size_text(nest.inner)
        self.init = self.load(init, self.along, name="init")
        self.element = tensor(op.results[0]).element_type

    def loop(self, write: Callable[[], None], *, step: int) -> None:
        """What `write` writes, for each `start` of so many elements of the reduction."""
        b = self.builder
        before = len(b.lines)
        write()
        b.lines[before:] = [f"    {line}" for line in b.lines[before:]]
        turns = self.length if step == 1 else f"0, {self.length}, {step}"
        b.lines.insert(before, f"for start in range({turns}):")

    def elements(self, number: str, spread: str, mask: str) -> list[str]:
        """The operands' elements at number `number` of the reduction."""
        found = dict(zip(self.nest.reduced, self.coordinates(number, self.nest.inner), strict=True))
        found |= {loop: f"{name}{spread}" for loop, name in zip(self.nest.parallel, self.along, strict=True)}
        values: list[str] = []
        for value, loops in self.nest.reads:
            coordinates = [found[loop] for loop in loops]
            # The address has the mask's shape, also of what does not depend on all.
            if not set(loops) & set(self.nest.parallel) and coordinates:
                coordinates[-1] += f" + n{spread} * 0"
            if spread and not set(loops) & set(self.nest.reduced) and coordinates:
                coordinates[-1] += f" + {number} * 0"
            element = self.load(value, coordinates, mask=mask)
            values.append(element if coordinates else f"{element}{spread}")
        return values

    def sum(self, term: Term) -> str:
        """The sum of terms, in 16 lanes; not the initial value."""
        b = self.builder
        dtype = sum_dtype(self.element)
        partial = self.names.new("partial")
        b.lines += [
            f"lane = tl.arange(0, {LANES})[None, :]",
            f"{partial} = tl.zeros([{TOGETHER}, {LANES}], {dtype})",
        ]

        def add() -> None:
            k = b.assign("k", "start + lane")
            mask = f"inside[:, None] & ({k} < {self.length})"
            b.lines.append(f"{partial} += {term(self.elements(k, '[:, None]', mask))}")

        self.loop(add, step=LANES)
        if self.element == f32:
            return b.call("halving_trees", partial, str(LANES))
        return f"tl.sum({partial}, axis=1)"

    def in_order(self, block: Block) -> str:
        """The region applied to one element after the other."""
        b = self.builder
        total = b.assign("total", f"tl.broadcast_to({self.init}, [{self.block}])")

        def step() -> None:
            (value,) = self.elements("start", "", "inside")
            (found,) = self.region().run(block, [value, total])
            b.lines.append(f"{total} = {found}")

        self.loop(step, step=1)
        return total


def sum_dtype(element: Attribute) -> str:
    """What sums are kept in; those of narrow integers are taken modulo their width at the end."""
    return "tl.float32" if element == f32 else "tl.int64" if element == i64 else "tl.int32"


def emit_reduce(op: linalg.ReduceOp, host: Host) -> None:
    sizes = Shape.of(op.input).sizes
    reduced = sorted(op.dimensions.get_values())
    parallel = [axis for axis in range(len(sizes)) if axis not in reduced]
    nest = Nest(sizes, parallel, reduced, [(op.input, range(len(sizes)))])
    combine = only_op(op.region.block)
    in_lanes = isinstance(combine, arith.AddfOp)
    kernel = Reduction(op, host, nest, op.init, block=TOGETHER if in_lanes else IN_ORDER)
    if not in_lanes:
        finish(kernel, op.results, [kernel.in_order(op.region.block)])
        return
    # Of nothing the sum is the initial value itself, not that plus 0, which differ for -0.
    if 0 in nest.inner:
        finish(kernel, op.results, [kernel.init])
        return
    total = f"{kernel.init} + {kernel.sum(lambda values: values[0])}"
    if None in nest.inner:
        total = f"tl.where({kernel.length} == 0, {kernel.init}, {total})"
    finish(kernel, op.results, [total])


def only_op(block: Block) -> Operation | None:
    """The operation of a region that combines its two arguments, in either order, by one operation."""
    first, last = block.first_op, block.last_op
    if first is None or last is None or first.next_op is not last or len(block.args) != 2:
        return None
    combines = tuple(first.operands) in (tuple(block.args), tuple(reversed(block.args)))
    return first if combines and tuple(last.operands) == tuple(first.results) else None


def emit_matmul(op: linalg.MatmulOp, host: Host) -> None:
    if (product := DenseProduct.of(op)) is not None:
        emit_dense(op, product, host)
        return
    a, b = op.inputs
    (m, n), k = Shape.of(op.results[0]).sizes, Shape.of(a).sizes[1]
    nest = Nest((m, n, k), (0, 1), (2,), [(a, (0, 2)), (b, (2, 1))])
    element = tensor(op.results[0]).element_type
    widenings: list[Widening] = [
        None if tensor(value).element_type == element else arith.ExtSIOp for value in (a, b)
    ]
    emit_products(op, nest, op.outputs[0], widenings, host)


def emit_generic(op: linalg.GenericOp, host: Host) -> None:
    """Parallel loops, or a contraction."""
    if all(kind.data == IteratorType.PARALLEL for kind in op.iterator_types):
        emit_parallel(op, host)
        return
    contraction = match_contraction(op)
    if contraction is None:
        raise CompileError(
            "a linalg.generic that reduces is a contraction: one such loop, the last, and total + a * b",
            op.location,
        )
    if (product := DenseProduct.of(op)) is not None:
        emit_dense(op, product, host)
        return
    reads = [(op.inputs[0], contraction.left), (op.inputs[1], contraction.right)]
    extents: list[int | None] = [None] * len(op.iterator_types)
    for value, loops in (*reads, (op.outputs[0], contraction.out)):
        for loop, size in zip(loops, Shape.of(value).sizes, strict=True):
            extents[loop] = size
    nest = Nest(extents, contraction.out, (contraction.reduced,), reads)
    widenings = [contraction.widen_left, contraction.widen_right]
    emit_products(op, nest, op.outputs[0], widenings, host)


def emit_products(
    op: linalg.GenericOp | linalg.MatmulOp,
    nest: Nest,
    init: SSAValue,
    widenings: Sequence[Widening],
    host: Host,
) -> None:
    """Sums of products of two operands, added to the initial value."""
    kernel = Reduction(op, host, nest, init)
    element = kernel.element

    def product(values: Sequence[str]) -> str:
        if element == f32:
            return f"{values[0]} * {values[1]}"
        a, b = (
            widened(text, tensor(value).element_type, widening, element)
            for text, (value, _), widening in zip(values, nest.reads, widenings, strict=True)
        )
        return f"{a} * {b}"

    total = kernel.sum(product)
    if element == f32:
        total = f"{kernel.init} + {total}"
    elif element == i1:
        total = f"{kernel.init} ^ (({total} & 1) != 0)"
    else:
        total = f"({kernel.init} + {total}).to({dtype_of(element, op)})"
    finish(kernel, op.results, [total])


def widened(text: str, before: Attribute, widening: Widening, element: Attribute) -> str:
    """An integer operand as sums are kept."""
    dtype = sum_dtype(element)
    if before == i1 and widening is arith.ExtSIOp:
        return f"(0 - {text}.to({dtype}))"
    if widening is arith.ExtUIOp and before != i1:
        text = f"{text}.to(tl.uint{width_of(before)}, bitcast=True)"
    return f"{text}.to({dtype})"
