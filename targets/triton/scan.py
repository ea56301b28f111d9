"""Kernel of `ternary.scan`: every channel of every text is a sequence of its own, in the order of time.

    state = init
    for t: state = f[t] * state + i[t]; states[t] = state

The order is the IR's, so the bits are; a parallel scan would add in another. Channels and texts run side by side, and
the loads of later tokens do not wait for the state of earlier ones.
"""

from __future__ import annotations

from sterna.dialects.ternary import ScanOp
from sterna.targets.triton.kernel import Builder, Host, Shape, place

CHANNELS = 64
"""Of one program: two warps wide enough to fill a cache line, narrow enough for a program on every multiprocessor."""


def emit_scan(op: ScanOp, host: Host, *, only_sequences: bool) -> None:
    """With `only_sequences` another kernel does what a call of one token for each text needs."""
    shape = Shape.of(op.states)
    columns, row = shape.sizes[-1], shape.row
    assert columns is not None
    b = Builder("scan", host)
    f, i, init = (b.pointer(v, n, op) for v, n in ((op.f, "f"), (op.i, "i"), (op.init, "init")))
    states, last = b.pointer(op.states, "states", op), b.pointer(op.last, "last", op)
    b.doc += [place(op)]
    length = b.new_pointer("length", "i32", "batch.length" if shape.sizes[0] is None else str(shape.sizes[0]))
    b.names.taken |= {"d", "text", "inside", "at", "t", "state"}
    mask = ", mask=inside" if columns % CHANNELS else ""
    masked = f"{mask}, other=0" if mask else ""
    b.lines += [
        "text = tl.program_id(0).to(tl.int64)",
        f"d = tl.program_id(1) * {CHANNELS} + tl.arange(0, {CHANNELS})",
        *([f"inside = d < {columns}"] if mask else []),
        f"at = text * {length} * {row} + d",
        f"state = tl.load({init} + text * {row} + d{masked})",
        f"for _ in tl.range(0, {length}, loop_unroll_factor=4):",
        f"    state = tl.load({f} + at{masked}) * state",
        f"    state = state + tl.load({i} + at{masked})",
        f"    tl.store({states} + at, state{mask})",
        f"    at += {row}",
        f"tl.store({last} + text * {row} + d, state{mask})",
    ]
    texts = "batch.texts" if host.file.row_wise and shape.sizes[0] is None else "1"
    grid = f"({texts}, {-(-columns // CHANNELS)})"
    kernel = b.kernel(num_warps=2)
    if only_sequences:
        host.lines.append("if batch.length != 1:")
    host.launch(kernel, grid, b.all_arguments(), depth=int(only_sequences))
