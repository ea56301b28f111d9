"""Kernel of `ternary.scan`: every channel of every text is a sequence of its own, in the order of time.

    state = init
    for t: state = f[t] * state + i[t]; states[t] = state

The order is the IR's, so the bits are; a parallel scan would add in another. Channels and texts run side by side. What
`AHEAD` tokens need is asked for at once: a load behind a store would wait until the state that is stored is known.
"""

from __future__ import annotations

from sterna.dialects.ternary import ScanOp
from sterna.targets.triton.kernel import Builder, Host, Shape, place

CHANNELS = 32
"""Of one program: a warp wide enough to fill a cache line, narrow enough for a program on every multiprocessor."""


def emit_scan(op: ScanOp, host: Host) -> None:
    """For calls of more than one token a text, if a product has computed the step of one."""
    only_sequences = op in host.stepped
    if not only_sequences:
        allocate_states(op, host)
    shape = Shape.of(op.states)
    columns, row = shape.sizes[-1], shape.row
    assert columns is not None
    b = Builder("scan", host)
    f, i, init = (b.pointer(v, n, op) for v, n in ((op.f, "f"), (op.i, "i"), (op.init, "init")))
    states, last = b.pointer(op.states, "states", op), b.pointer(op.last, "last", op)
    b.doc += [place(op)]
    length = b.new_pointer("length", "i32", "batch.length" if shape.sizes[0] is None else str(shape.sizes[0]))
    b.constant("AHEAD", 32)
    b.names.taken |= {"d", "text", "inside", "at", "t", "state", "first", "forget", "added", "n"}
    b.lines += [
        "text = tl.program_id(0).to(tl.int64)",
        f"d = tl.program_id(1) * {CHANNELS} + tl.arange(0, {CHANNELS})",
        f"inside = d < {columns}",
        f"at = text * {length} * {row} + d",
        f"state = tl.load({init} + text * {row} + d, mask=inside, other=0)",
        f"for first in range(0, {length}, AHEAD):",
        # Behind the end a state stays what it is: times 1, plus -0.
        f"    forget = {b.call('rows_ahead', f, 'at', str(row), 'inside', f'{length} - first', '1.0', 'AHEAD')}",
        f"    added = {b.call('rows_ahead', i, 'at', str(row), 'inside', f'{length} - first', '-0.0', 'AHEAD')}",
        "    for n in tl.static_range(AHEAD):",
        "        state = forget[n] * state",
        "        state = state + added[n]",
        f"        tl.store({states} + at + n * {row}, state, mask=inside & (d * 0 + n < {length} - first))",
        f"    at += AHEAD * {row}",
        f"tl.store({last} + text * {row} + d, state, mask=inside)",
    ]
    texts = "batch.texts" if host.file.row_wise and shape.sizes[0] is None else "1"
    grid = f"({texts}, {-(-columns // CHANNELS)})"
    kernel = b.kernel(num_warps=1)
    if only_sequences:
        host.lines.append("if batch.length != 1:")
    host.launch(kernel, grid, b.all_arguments(), options=["AHEAD=AHEAD"], depth=int(only_sequences))


def allocate_states(op: ScanOp, host: Host) -> None:
    """Memory for every state, and for the last: that may be where the first was, if nothing else reads it there."""
    host.allocate(op.states)
    if not host.file.row_wise:
        host.allocate(op.last)
        return
    init, columns = host.expression(op.init), Shape.of(op.last).columns
    host.values[op.last] = name = host.names.new(op.last.name_hint or "last")
    if len(list(op.init.uses)) == 1:
        host.lines.append(f"{name} = batch.state({init}, {columns})")
    else:
        host.lines.append(f"{name} = batch.empty((batch.texts, {columns}), torch.float32)")
