"""Kernel of a product with a dense float32 matrix, as a head has that stays in floats: `linalg.matmul`, and the
`linalg.generic` that reads the matrix row by row.

    y[t, m] = init + sum over k of x[t, k] * w[m, k], products rounded, summed in 16 lanes

A program has a few rows and some channels, and a tile of partial sums for each. The order is the IR's, so tensor cores,
which have one of their own, take no part.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.dialects.builtin import f32
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import SSAValue

from sterna.dialects.contraction import match_contraction
from sterna.dialects.ternary import tensor
from sterna.targets.triton.kernel import Builder, Host, Shape, place

CHANNELS, ROWS = 32, 4


@dataclass(frozen=True)
class DenseProduct:
    """Of rows and a matrix, whose channels are `channel` elements apart and whose columns are `column`."""

    rows: SSAValue
    matrix: SSAValue
    channel: int
    column: int

    @staticmethod
    def of(op: linalg.GenericOp | linalg.MatmulOp) -> DenseProduct | None:
        """None for a product that has no kernel here."""
        x, w = op.inputs
        if any(tensor(value).element_type != f32 or len(Shape.of(value).sizes) != 2 for value in (x, w)):
            return None
        row = Shape.of(w).row
        if row is None or None in Shape.of(w).sizes or Shape.of(x).columns is None:
            return None
        if isinstance(op, linalg.MatmulOp):
            return DenseProduct(x, w, 1, row)
        found = match_contraction(op)
        if found is None or (found.left, found.right, found.out) != ((0, 2), (1, 2), (0, 1)):
            return None
        return DenseProduct(x, w, row, 1)


def emit_dense(op: linalg.GenericOp | linalg.MatmulOp, product: DenseProduct, host: Host) -> None:
    result = op.results[0]
    shape = Shape.of(result)
    channels, columns = shape.columns, Shape.of(product.rows).columns
    host.allocate(result)
    b = Builder("dense", host)
    b.doc += [place(op)]
    x, w = b.pointer(product.rows, "x", op), b.pointer(product.matrix, "w", op)
    init, out = b.pointer(op.outputs[0], "init", op), b.pointer(result, "out", op)
    rows = b.rows() if shape.sizes[0] is None else str(shape.sizes[0])
    b.names.taken |= {"t", "m", "at", "inside", "sums"}
    sums = b.call("dense_sums", x, w, "t", "m", rows, *map(str, dense_constants(product, channels, columns)))
    b.lines += [
        f"t = tl.program_id(1).to(tl.int64) * {ROWS} + tl.arange(0, {ROWS})",
        f"m = tl.program_id(0) * {CHANNELS} + tl.arange(0, {CHANNELS})",
        f"at = t[:, None] * {shape.row} + m[None, :]",
        f"inside = (t < {rows})[:, None] & (m < {channels})[None, :]",
        f"sums = {sums}",
        f"tl.store({out} + at, tl.load({init} + at, mask=inside, other=0.0) + sums, mask=inside)",
    ]
    count = "batch.rows" if shape.sizes[0] is None else str(shape.sizes[0])
    grid = f"(triton.cdiv({channels}, {CHANNELS}), triton.cdiv({count}, {ROWS}))"
    host.launch(b.kernel(), grid, b.all_arguments())


def dense_constants(product: DenseProduct, channels: int | None, columns: int | None) -> tuple[object, ...]:
    """Channels, columns, and the steps from a row of x, a channel and a column of w to the next."""
    return channels, columns, Shape.of(product.rows).row, product.channel, product.column
