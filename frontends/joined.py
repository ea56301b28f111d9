"""Tensors that are a few rows longer than T: what a causal convolution makes of its state, or of padding, and T rows.

The IR has one dynamic size, so T + n is no type of it. Such a value is kept as its two parts, and an op that takes
T rows of it, or a static number, reads them at their indices:

    history = cat(cache, x)      ->   nothing
    history[:, -3:]              ->   %a = ternary.gather %cache, %indices         %b = ternary.gather %x, %indices - 3
                                      %y = select(%indices < 3, %a, %b)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX, i64
from xdsl.ir import SSAValue

from sterna.frontends.lowering import Lowering, Meta
from sterna.frontends.tensor_builder import Shape, shape_of


@dataclass(frozen=True)
class Joined:
    """`count` rows of `before`, then the T rows of `x`, along torch axis `axis`."""

    before: SSAValue | float
    """A tensor, or the number that fills all these rows."""
    count: int
    x: SSAValue
    meta: Meta
    """Of x."""
    axis: int

    def permuted(self, to: Lowering, order: Sequence[int]) -> Joined:
        """The axes in another order."""
        before = self.before
        if isinstance(before, SSAValue):
            before = to.permute(before, self._before_meta(), order)
        shape = tuple(self.meta.shape[axis] for axis in order)
        return replace(
            self,
            before=before,
            x=to.permute(self.x, self.meta, order),
            meta=Meta(shape, self.meta.dtype),
            axis=list(order).index(self.axis),
        )

    def take(self, to: Lowering, indices: SSAValue) -> SSAValue:
        """Rows by i64 `indices`, whose axes come in the place of the joined one."""
        place = self.meta.ir_axis(self.axis)
        assert place is not None, "T is no axis of size 1"
        rank = len(shape_of(indices))
        later = self._shifted(to, indices, -self.count)
        tail = to.build.gather(self.x, later, place)
        shape = shape_of(tail)
        first = to.compare("lt", later, to.build.splat(0, shape_of(later), i64))
        others = [axis for axis in range(len(shape)) if not place <= axis < place + rank]
        return to.select(
            to.build.broadcast(first, shape, others), self._head(to, indices, place, shape), tail
        )

    def _head(self, to: Lowering, indices: SSAValue, place: int, shape: Shape) -> SSAValue:
        if not isinstance(self.before, SSAValue):
            return to.build.splat(self.before, shape, self.meta.element)
        if self.count > 1:
            return to.build.gather(self.before, indices, place)
        rank = len(shape_of(indices))
        return to.build.broadcast(self.before, shape, range(place, place + rank))

    def positions(self, to: Lowering, size: int, start: SSAValue, step: int) -> SSAValue:
        """The indices start, start + step, ...: `size` of them, T for DYNAMIC_INDEX; `start` is a scalar tensor."""
        if size == 1:
            return start
        ahead = to.build.iota((size,), 0)
        if step != 1:
            ahead = to.binary(arith.MuliOp, ahead, to.build.splat(step, (size,), i64))
        return to.binary(arith.AddiOp, ahead, to.build.broadcast(start, (size,), [0]))

    def windows(self, to: Lowering, size: int, dilation: int) -> SSAValue:
        """Rows t, t + dilation, ... for each of T positions t: the axis becomes two, positions and offsets."""
        shape = (DYNAMIC_INDEX, size) if size > 1 else (DYNAMIC_INDEX,)
        offsets = to.build.iota(shape, 0)
        if size > 1:
            ahead = to.build.iota(shape, 1)
            if dilation != 1:
                ahead = to.binary(arith.MuliOp, ahead, to.build.splat(dilation, shape, i64))
            offsets = to.binary(arith.AddiOp, offsets, ahead)
        return self.take(to, offsets)

    def _shifted(self, to: Lowering, indices: SSAValue, by: int) -> SSAValue:
        return to.binary(arith.AddiOp, indices, to.build.splat(by, shape_of(indices), i64))

    def _before_meta(self) -> Meta:
        shape = (*self.meta.shape[: self.axis], self.count, *self.meta.shape[self.axis + 1 :])
        return Meta(shape, self.meta.dtype)
