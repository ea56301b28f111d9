"""Makes one op of windows and the ternary sums over them, so that the windows are never in memory all at once.

    %w = ternary.windows %x leading = 1 axes = [2, 3] sizes = [3, 3] ... : ... -> tensor<?x26x26x8x3x3xi8>
    %k = tensor.collapse_shape %w [[0], [1], [2], [3, 4, 5]] : ... into tensor<?x26x26x72xi8>
    %acc = ternary.accumulate %k, %trits : tensor<?x26x26x72xi8>, tensor<16x72x!ternary.trit> -> tensor<?x26x26x16xi32>

becomes

    %acc = ternary.convolve %x, %trits leading = 1 axes = [2, 3] sizes = [3, 3] ... -> tensor<?x26x26x16xi32>

A transposition before the windows becomes another order of their axes: channels may lie first or last.

Why it is right: by definition `ternary.convolve` is the sums over the windows, and reshapes keep the order of elements.
No bit changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import DenseArrayBase, IntegerType, ModuleOp
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.tensor import CollapseShapeOp, ExpandShapeOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import (
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
    op_type_rewrite_pattern,
)

from sterna.dialects.convolve_op import WINDOW_LISTS
from sterna.dialects.indexing_ops import without_units
from sterna.dialects.ternary import AccumulateOp, ConvolveOp, WindowsOp, tensor
from sterna.passes.dead_code import erase_dead_code


def windows_behind(x: SSAValue) -> WindowsOp | None:
    """The windows of which `x` `[positions..., columns]` is a reshape, in the same order of elements."""
    value = x
    while isinstance(op := value.owner, CollapseShapeOp | ExpandShapeOp):
        value = op.src
    if not isinstance(windows := value.owner, WindowsOp):
        return None
    full = windows.full_shape(tensor(windows.x).get_shape())
    positions = windows.leading.value.data + len(windows.axes.get_values())
    *rows, columns = tensor(x).get_shape()
    fits = tuple(rows) == without_units(full[:positions]) and columns == prod(full[positions:])
    return windows if fits else None


def source(windows: WindowsOp) -> tuple[SSAValue, list[tuple[int, ...]]]:
    """What the windows slide over, and their lists, with a transposition before them taken into the axes."""
    lists = [
        tuple(cast("DenseArrayBase[IntegerType]", windows.properties[name]).get_values())
        for name in WINDOW_LISTS
    ]
    turn, leading = windows.x.owner, windows.leading.value.data
    if not isinstance(turn, linalg.TransposeOp):
        return windows.x, lists
    order = turn.permutation.get_values()
    axes = [order[axis] for axis in lists[0]]
    rest = [order[axis] for axis in range(leading, len(order)) if axis not in lists[0]]
    in_order = all(found == sorted(found) for found in (list(order[:leading]), axes, rest))
    if not in_order or list(order[:leading]) != list(range(leading)):
        return windows.x, lists
    return turn.inputs[0], [tuple(axes), *lists[1:]]


class FuseConvolution(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: AccumulateOp, rewriter: PatternRewriter, /) -> None:
        if (windows := windows_behind(op.x)) is None:
            return
        x, lists = source(windows)
        convolve = ConvolveOp(
            x,
            op.w,
            groups=op.group_count,
            leading=windows.leading.value.data,
            lists=lists,
            padding=windows.padding,
        )
        convolve.location = op.location
        rewriter.replace(op, convolve)


@dataclass(frozen=True)
class FuseConvolutionsPass(ModulePass):
    """See the module's docstring."""

    name = "fuse-convolutions"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        PatternRewriteWalker(FuseConvolution(), apply_recursively=False).rewrite_module(op)
        erase_dead_code(op)
