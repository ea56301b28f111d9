"""`func`: calls of functions in the same module."""

from __future__ import annotations

from xdsl.dialects import func
from xdsl.interpreter import (
    Interpreter,
    InterpreterFunctions,
    PythonValues,
    ReturnedValues,
    TerminatorValue,
    impl,
    impl_callable,
    impl_terminator,
    register_impls,
)

from sterna.dialects.errors import CompileError


@register_impls
class FuncFunctions(InterpreterFunctions):
    def __init__(self) -> None:
        self.running: list[str] = []

    @impl_terminator(func.ReturnOp)
    def run_return(
        self, interpreter: Interpreter, op: func.ReturnOp, args: PythonValues
    ) -> tuple[TerminatorValue, PythonValues]:
        return ReturnedValues(args), ()

    @impl(func.CallOp)
    def call(self, interpreter: Interpreter, op: func.CallOp, args: PythonValues) -> PythonValues:
        return interpreter.call_op(op.callee, args)

    @impl_callable(func.FuncOp)
    def run_function(self, interpreter: Interpreter, op: func.FuncOp, args: PythonValues) -> PythonValues:
        name = op.sym_name.data
        if op.is_declaration:
            raise CompileError(f"function @{name} has no body")
        if name in self.running:
            raise CompileError(f"function @{name} calls itself: recursion has no meaning here")
        self.running.append(name)
        try:
            return interpreter.run_ssacfg_region(op.body, args, name)
        finally:
            self.running.pop()
