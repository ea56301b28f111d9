"""Kernels of `ternary.positions` and `ternary.rotate`.

A batch is texts of one length: row n of an activation is token n % length of text n // length, and every text has a
position of its own.
"""

from __future__ import annotations

from xdsl.ir import SSAValue

from sterna.dialects.ternary import PositionsOp, RotateOp
from sterna.targets.triton.kernel import Builder, Host, Shape, place, product_text
from sterna.targets.triton.past import rotation_of

BLOCK = 1024


def emit_positions(op: PositionsOp, host: Host) -> None:
    host.allocate(op.positions)
    host.values[op.next] = after = host.names.new(op.next.name_hint or "next")
    start = host.expression(op.start)
    written_over = "batch.in_place" if len(list(op.start.uses)) == 1 else "False"
    host.lines.append(f"{after} = {start} if {written_over} else batch.empty((batch.texts,), torch.int64)")
    b = Builder("positions", host)
    b.doc += [place(op)]
    first, out = b.pointer(op.start, "start", op), b.pointer(op.positions, "positions", op)
    following = b.pointer(op.next, "following", op)
    length = b.new_pointer("length", "i32", length_of(op.rows))
    b.names.taken |= {"text", "before", "t", "begin"}
    b.lines += [
        "text = tl.program_id(0)",
        f"before = tl.load({first} + text)",
        f"for begin in range(0, {length}, 128):",
        "    t = begin + tl.arange(0, 128)",
        f"    tl.store({out} + text * {length} + t, before + t, mask=t < {length})",
        # The next position may take the place of the first, which other threads may not have read.
        "tl.debug_barrier()",
        f"tl.store({following} + text, before + {length})",
    ]
    host.launch(b.kernel(), "(batch.texts,)", b.all_arguments())


def length_of(value: SSAValue) -> str:
    """Rows of one text."""
    size = Shape.of(value).sizes[0]
    return "batch.length" if size is None else str(size)


def emit_rotate(op: RotateOp, host: Host) -> None:
    """A thread turns a pair. What attention alone reads it turns itself."""
    if rotation_of(op.result) is not None:
        return
    shape, half = Shape.of(op.x), op.half
    columns = shape.columns
    assert columns is not None
    host.allocate(op.result)
    b = Builder("rotate", host)
    b.doc += [place(op)]
    x, cos, sin = b.pointer(op.x, "x", op), b.pointer(op.cos, "cos", op), b.pointer(op.sin, "sin", op)
    out = b.pointer(op.result, "out", op)
    rows = product_text(shape.leading, b.rows() if None in shape.leading else "1")
    b.names.taken |= {"n", "inside", "j", "t", "at", "a", "b", "c", "s"}
    angle = Shape.of(op.cos).row
    b.lines += [
        f"n = tl.program_id(0).to(tl.int64) * {BLOCK} + tl.arange(0, {BLOCK})",
        f"t = n // {columns // 2}",
        f"inside = t < {rows}",
        f"j = n % {half}",
        f"at = t * {shape.row} + (n // {half}) % {columns // (2 * half)} * {2 * half} + j",
        f"a = tl.load({x} + at, mask=inside, other=0)",
        f"b = tl.load({x} + at + {half}, mask=inside, other=0)",
        f"c = tl.load({cos} + t * {angle} + j, mask=inside, other=0)",
        f"s = tl.load({sin} + t * {angle} + j, mask=inside, other=0)",
        f"tl.store({out} + at, a * c - b * s, mask=inside)",
        f"tl.store({out} + at + {half}, b * c + a * s, mask=inside)",
    ]
    total = product_text((*shape.leading, columns // 2), "batch.rows")
    host.launch(b.kernel(), f"(triton.cdiv({total}, {BLOCK}),)", b.all_arguments())
