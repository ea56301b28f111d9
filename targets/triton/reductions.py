"""Kernel of `linalg.reduce`.

A float sum has 16 partial sums over the flattened reduced axes, and a halving tree, as the IR says; a program has 64
of them. Anything else goes in the order of index, from the initial value on.
"""

from __future__ import annotations

from collections.abc import Callable

from xdsl.dialects import arith
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Block

from sterna.dialects.contraction import only_op
from sterna.targets.triton.kernel import Host, Shape
from sterna.targets.triton.loops import Loops, finish

TOGETHER, IN_ORDER = 64, 256
"""Elements of the result that a program has: of sums, each of which has its lanes, and of others."""

LANES = 16


class Reduction(Loops):
    """The kernel of an operation that reduces, being written."""

    def __init__(self, op: linalg.ReduceOp, host: Host, block: int) -> None:
        super().__init__(op, host, Shape.of(op.results[0]).sizes, block=block)
        self.builder.names.taken |= {"start", "lane"}
        self.input = op.input
        self.extents = Shape.of(op.input).sizes
        self.reduced = sorted(op.dimensions.get_values())
        self.inner = [self.extents[axis] for axis in self.reduced]
        self.length = self.size_text(self.inner)
        self.init = self.load(op.init, self.along, name="init")

    def loop(self, write: Callable[[], None], *, step: int) -> None:
        """What `write` writes, for each `start` of so many elements of the reduction."""
        b = self.builder
        before = len(b.lines)
        write()
        b.lines[before:] = [f"    {line}" for line in b.lines[before:]]
        turns = self.length if step == 1 else f"0, {self.length}, {step}"
        b.lines.insert(before, f"for start in range({turns}):")

    def element(self, number: str, spread: str, mask: str) -> str:
        """The element at number `number` of the reduction."""
        within, along = iter(self.coordinates(number, self.inner)), iter(self.along)
        places = [
            next(within) if axis in self.reduced else f"{next(along)}{spread}"
            for axis in range(len(self.extents))
        ]
        if not self.along:  # the address has the mask's shape all the same
            places[-1] += f" + n{spread} * 0"
        return self.load(self.input, places, mask=mask)

    def sum(self) -> str:
        """The sum in 16 lanes; not the initial value."""
        b = self.builder
        partial = b.names.new("partial")
        b.lines += [
            f"lane = tl.arange(0, {LANES})[None, :]",
            f"{partial} = tl.zeros([{self.block}, {LANES}], tl.float32)",
        ]

        def add() -> None:
            k = b.assign("k", "start + lane")
            value = self.element(k, "[:, None]", f"inside[:, None] & ({k} < {self.length})")
            b.lines.append(f"{partial} += {value}")

        self.loop(add, step=LANES)
        return b.call("halving_trees", partial, str(LANES))

    def in_order(self, block: Block) -> str:
        """The region applied to one element after the other."""
        b = self.builder
        total = b.assign("total", f"tl.broadcast_to({self.init}, [{self.block}])")

        def step() -> None:
            value = self.element("start", "", "inside")
            (found,) = self.region().run(block, [value, total])
            b.lines.append(f"{total} = {found}")

        self.loop(step, step=1)
        return total


def emit_reduce(op: linalg.ReduceOp, host: Host) -> None:
    block = op.region.block
    in_lanes = isinstance(only_op(block), arith.AddfOp)
    kernel = Reduction(op, host, TOGETHER if in_lanes else IN_ORDER)
    if not in_lanes:
        finish(kernel, op.results, [kernel.in_order(block)])
        return
    # Of nothing the sum is the initial value itself, not that plus 0, which differ for -0.
    if 0 in kernel.inner:
        finish(kernel, op.results, [kernel.init])
        return
    total = f"{kernel.init} + {kernel.sum()}"
    if None in kernel.inner:
        total = f"tl.where({kernel.length} == 0, {kernel.init}, {total})"
    finish(kernel, op.results, [total])
