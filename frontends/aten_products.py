"""ATen's products of matrices, and what is made of them. See `aten` for what a table of emitters is."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from string import ascii_lowercase

from torch.fx import Node
from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX, i1, i64
from xdsl.ir import SSAValue

from sterna.frontends.aten import EmitterTable, aten
from sterna.frontends.aten_norms import softmax_of
from sterna.frontends.lowering import Lowering, Meta, Unsupported
from sterna.frontends.tensor_builder import shape_of

EMITTERS = EmitterTable()
emits = EMITTERS.of


@emits(aten.mm.default, aten.bmm.default, aten.matmul.default, aten.mv.default, aten.dot.default)
def matmul(to: Lowering, x: Node, y: Node) -> SSAValue:
    return product(to, to.value(x), to.meta(x), to.value(y), to.meta(y), to.result)


@emits(aten.linear.default)
def linear(to: Lowering, x: Node, weight: Node, bias: Node | None) -> SSAValue:
    meta = to.meta(weight)
    if len(meta.shape) == 1:
        value = product(to, to.value(x), to.meta(x), to.value(weight), meta, to.result)
    else:
        matrix = Meta(meta.shape[::-1], meta.dtype)
        value = product(to, to.value(x), to.meta(x), to.value(weight), matrix, to.result, turned=True)
    return value if bias is None else to.binary(arith.AddfOp, value, to.operand(bias))


@emits(aten.addmm.default)
def addmm(to: Lowering, bias: Node, x: Node, y: Node, beta: float, alpha: float) -> SSAValue:
    value, addend = matmul(to, x, y), to.operand(bias)
    if alpha != 1:
        value = to.binary(arith.MulfOp, value, to.operand(alpha))
    if beta != 1:
        addend = to.binary(arith.MulfOp, addend, to.operand(beta))
    return to.binary(arith.AddfOp, value, addend)


def product(
    to: Lowering,
    x: SSAValue,
    x_meta: Meta,
    y: SSAValue,
    y_meta: Meta,
    result: Meta,
    *,
    turned: bool = False,
) -> SSAValue:
    """torch.matmul: [..., M, K] by [..., K, N], the leading axes broadcast; a vector has no M, or no N.

    `turned`: the value y is [..., N, K], though `y_meta` is [..., K, N].
    """
    if len(y_meta.shape) == 2 and DYNAMIC_INDEX not in y_meta.shape:
        shape = shape_of(x)
        outer = shape[:-1] if y_meta.shape[0] != 1 else shape
        if (DYNAMIC_INDEX not in outer or len(outer) == 1) and result.dtype.is_floating_point:
            columns, rows = y_meta.shape
            matrix = to.reshape(y, (rows, columns) if turned else (columns, rows))
            matrix = to.build.transpose(matrix, [1, 0]) if turned else matrix
            return _rows_by_matrix(to, x, matrix, outer, result)
    rank = len(result.ir_shape)
    x_loops, y_loops = _loops(x_meta, y_meta, result)
    if turned and 1 not in y_meta.shape[-2:]:
        y_loops[-2:] = y_loops[:-3:-1]
    if rank in (x_loops + y_loops):
        return contract(to, x, x_loops, y, y_loops, result)
    # One product an element: the contracted axis has size 1.
    left, right = (
        to.build.broadcast(value, result.ir_shape, [axis for axis in range(rank) if axis not in loops])
        for value, loops in ((x, x_loops), (y, y_loops))
    )
    return to.binary(arith.MulfOp if result.dtype.is_floating_point else arith.MuliOp, left, right)


def contract(
    to: Lowering, x: SSAValue, x_loops: Sequence[int], y: SSAValue, y_loops: Sequence[int], result: Meta
) -> SSAValue:
    """The sum of products over the loop behind those of the result's IR axes."""
    letters = [ascii_lowercase[loop] for loop in range(len(result.ir_shape))]
    left, right = ("".join(ascii_lowercase[loop] for loop in loops) for loops in (x_loops, y_loops))
    return to.build.contract(x, y, f"{left},{right}->{''.join(letters)}", result.element)


def _rows_by_matrix(
    to: Lowering, x: SSAValue, matrix: SSAValue, outer: tuple[int, ...], result: Meta
) -> SSAValue:
    """x [..., K] counts as [T, K], so that it is the one matmul that a linear layer is."""
    columns, _ = shape_of(matrix)
    flat = outer[0] if len(outer) == 1 else prod(outer)
    value = to.build.matmul(to.reshape(x, (flat, columns)), matrix)
    return to.reshape(value, result.ir_shape)


def _loops(x: Meta, y: Meta, result: Meta) -> tuple[list[int], list[int]]:
    """The loop that each IR axis of x and y follows: those of the result in order, then the contracted one."""
    has_rows, has_columns = len(x.shape) > 1, len(y.shape) > 1
    batch = len(result.shape) - has_rows - has_columns
    x_batch, y_batch = max(len(x.shape) - 2, 0), max(len(y.shape) - 2, 0)
    # Axes of the result, by the axes of each operand; -1 is contracted.
    x_targets = [*range(batch - x_batch, batch), *([batch] if has_rows else []), -1]
    y_targets = [*range(batch - y_batch, batch), -1, *([batch + has_rows] if has_columns else [])]
    places = {axis: n for n, axis in enumerate(a for a, size in enumerate(result.shape) if size != 1)}
    rank = len(result.ir_shape)

    def kept(meta: Meta, targets: list[int]) -> list[int]:
        pairs = zip(meta.shape, targets, strict=True)
        return [rank if target == -1 else places[target] for size, target in pairs if size != 1]

    return kept(x, x_targets), kept(y, y_targets)


@emits(aten.scaled_dot_product_attention.default)
def attention(
    to: Lowering,
    query: Node,
    key: Node,
    value: Node,
    mask: Node | None,
    dropout: float,
    causal: bool,
    scale: float | None,
    grouped: bool,
) -> SSAValue:
    """softmax((query * scale) key^T + mask) value; `grouped`: several query heads share one of key and value."""
    if dropout:
        raise Unsupported("the module is in training mode; call .eval() on it")
    q, k, v = to.meta(query), to.meta(key), to.meta(value)
    factor = 1 / sqrt(q.shape[-1]) if scale is None else scale
    scaled = to.binary(arith.MulfOp, to.value(query), to.build.splat(factor, q.ir_shape))
    keys, values = to.value(key), to.value(value)
    if grouped and q.shape[-3] != k.shape[-3]:
        keys, k = _repeat_heads(to, keys, k, q.shape[-3])
        values, v = _repeat_heads(to, values, v, q.shape[-3])
    turned = Meta((*k.shape[:-2], k.shape[-1], k.shape[-2]), k.dtype)
    scores_meta = Meta((*to.result.shape[:-1], k.shape[-2]), q.dtype)
    scores = product(to, scaled, q, keys, turned, scores_meta, turned=True)
    if mask is not None and to.meta(mask).dtype.is_floating_point:
        scores = to.binary(arith.AddfOp, scores, to.operand(mask, scores_meta))
    elif mask is not None:
        meta = to.meta(mask)
        allowed = to.broadcast(to.value(mask), meta.shape, scores_meta.shape)
        scores = _masked(to, allowed, scores)
    if causal:
        scores = _masked(to, _earlier(to, scores_meta), scores)
    weights = softmax_of(to, scores, scores_meta, -1)
    return product(to, weights, scores_meta, values, v, to.result)


def _masked(to: Lowering, allowed: SSAValue, scores: SSAValue) -> SSAValue:
    return to.select(allowed, scores, to.build.splat(float("-inf"), shape_of(scores)))


def _earlier(to: Lowering, meta: Meta) -> SSAValue:
    """Whether a column is at most its row, in the shape of `meta`."""
    row, column = meta.ir_axis(-2), meta.ir_axis(-1)
    if column is None:
        return to.build.splat(1, meta.ir_shape, i1)
    shape = meta.ir_shape
    rows = to.build.splat(0, shape, i64) if row is None else to.build.iota(shape, row)
    return to.compare("le", to.build.iota(shape, column), rows)


def _repeat_heads(to: Lowering, x: SSAValue, meta: Meta, heads: int) -> tuple[SSAValue, Meta]:
    """Each head of axis -3 repeated in its place, so that there are `heads`."""
    axis, times = len(meta.shape) - 3, heads // meta.shape[-3]
    full = (*meta.shape[: axis + 1], times, *meta.shape[axis + 1 :])
    stretched = to.broadcast(x, (*meta.shape[: axis + 1], 1, *meta.shape[axis + 1 :]), full)
    repeated = Meta((*meta.shape[:axis], heads, *meta.shape[axis + 1 :]), meta.dtype)
    return to.reshape(stretched, repeated.ir_shape), repeated
