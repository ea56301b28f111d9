"""Kernel of `ternary.scan`: threads share the columns, and a column's state stays in a register."""

from __future__ import annotations

from xdsl.ir import Operation, SSAValue

from sterna.targets.cpu.instructions import fadd, fmul, index, loop
from sterna.targets.cpu.kernel import Frame, blocks_of, load_floats, store_floats


def emit_scan(op: Operation, frame: Frame) -> None:
    f, i, init = frame.operands
    states, last = frame.results
    assert f.columns is not None

    def scan_block(block: SSAValue) -> None:
        def step(t: SSAValue, state: SSAValue) -> tuple[SSAValue]:
            state = fadd(fmul(load_floats(f.row(t), block), state), load_floats(i.row(t), block))
            store_floats(state, states.row(t), block)
            return (state,)

        state = load_floats(init.pointer, block)
        (state,) = loop(index(0), frame.extent(f.shape[0]), step, [state])
        store_floats(state, last.pointer, block)

    frame.share(index(blocks_of(f.columns)), scan_block)
