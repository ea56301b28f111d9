"""`scf`: counted loops that carry tensors, and choices. Bounds are known when a loop starts, so it ends."""

from __future__ import annotations

import numpy as np
from xdsl.dialects import scf
from xdsl.interpreter import (
    Interpreter,
    InterpreterFunctions,
    PythonValues,
    ReturnedValues,
    TerminatorValue,
    impl,
    impl_terminator,
    register_impls,
)

from sterna.dialects.errors import CompileError


@register_impls
class ScfFunctions(InterpreterFunctions):
    @impl_terminator(scf.YieldOp)
    def run_yield(
        self, interpreter: Interpreter, op: scf.YieldOp, args: PythonValues
    ) -> tuple[TerminatorValue, PythonValues]:
        return ReturnedValues(args), ()

    @impl(scf.ForOp)
    def run_for(self, interpreter: Interpreter, op: scf.ForOp, args: PythonValues) -> PythonValues:
        first, end, step, *carried = args
        if step <= 0:
            raise CompileError(f"the step of a loop is 1 or more, found {step}")
        for turn in range(int(first), int(end), int(step)):
            induction = np.asarray(turn, first.dtype)
            carried = interpreter.run_ssacfg_region(op.body, (induction, *carried), "for")
        return tuple(carried)

    @impl(scf.IfOp)
    def run_if(self, interpreter: Interpreter, op: scf.IfOp, args: PythonValues) -> PythonValues:
        region = op.true_region if args[0] else op.false_region
        return interpreter.run_ssacfg_region(region, (), "if") if region.blocks else ()
