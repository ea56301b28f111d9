"""Which symbol of the emitted code implements which operation of a planned module, for those who read the code."""

from __future__ import annotations

from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from sterna.targets.cpu.convert_ternary_to_loops import NO_KERNEL, same_computation


def kernel_symbols(planned: ModuleOp) -> dict[Operation, str]:
    """The kernel of every operation that has one, and the functions: named as `convert-ternary-to-loops` names them."""
    functions = [op for op in planned.ops if isinstance(op, func.FuncOp)]
    symbols: dict[Operation, str] = {function: function.sym_name.data for function in functions}
    made: list[tuple[Operation, str]] = []
    for op in (op for function in functions for op in function.body.block.ops):
        if isinstance(op, func.CallOp):
            symbols[op] = op.callee.string_value()
        elif not isinstance(op, NO_KERNEL):
            known = next((name for other, name in made if same_computation(op, other)), None)
            if known is None:
                known = f"{op.name.removeprefix('ternary.')}_{len(made)}"
                made.append((op, known))
            symbols[op] = known
    return symbols
