"""Which symbol of the emitted code implements which operation of a planned module, for those who read the code."""

from __future__ import annotations

from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from sterna.targets.cpu.convert_ternary_to_loops import kernel_names


def kernel_symbols(planned: ModuleOp) -> dict[Operation, str]:
    """The kernel of every operation that has one, and the functions: named as `convert-ternary-to-loops` names them."""
    functions = [op for op in planned.ops if isinstance(op, func.FuncOp)]
    calls = [op for function in functions for op in function.body.block.ops if isinstance(op, func.CallOp)]
    return {
        **{function: function.sym_name.data for function in functions},
        **{call: call.callee.string_value() for call in calls},
        **kernel_names(functions),
    }
