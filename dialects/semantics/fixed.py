"""`fixed`: each operation is the function of `fixed_numerics.py` that its docstring states."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.interpreter import Interpreter, InterpreterFunctions, PythonValues, impl, register_impls
from xdsl.ir import SSAValue

from sterna.dialects import fixed
from sterna.dialects import fixed_numerics as numerics
from sterna.dialects.errors import CompileError
from sterna.dialects.fixed_point import exact_width
from sterna.dialects.semantics.table import Array, dtype


def held(values: Array, result: SSAValue) -> Array:
    """In the dtype that holds the result's width."""
    return np.asarray(values).astype(dtype(result))


def held_unsigned(values: Array, result: SSAValue) -> Array:
    """The same bits as a signed number of the result's width."""
    return held(numerics.wrap(values, exact_width(result)), result)


@register_impls
class FixedFunctions(InterpreterFunctions):
    def __init__(self, module: ModuleOp) -> None:
        self.tables = {op.sym_name.data: op for op in module.ops if isinstance(op, fixed.TableOp)}

    @impl(fixed.TableOp)
    def table(self, interpreter: Interpreter, op: fixed.TableOp, args: PythonValues) -> PythonValues:
        return ()

    @impl(fixed.RescaleOp)
    def rescale(self, interpreter: Interpreter, op: fixed.RescaleOp, args: PythonValues) -> PythonValues:
        values = numerics.rescale(args[0], op.by.value.data, exact_width(op.result))
        return (held(values, op.result),)

    @impl(fixed.ShiftRightOp)
    def shift_right(
        self, interpreter: Interpreter, op: fixed.ShiftRightOp, args: PythonValues
    ) -> PythonValues:
        values = numerics.shift_right(args[0], args[1], exact_width(op.by), exact_width(op.result))
        return (held(values, op.result),)

    @impl(fixed.NormalizeOp)
    def normalize(self, interpreter: Interpreter, op: fixed.NormalizeOp, args: PythonValues) -> PythonValues:
        mantissa, zeros = numerics.normalize(
            args[0], exact_width(op.x) - 1, exact_width(op.mantissa), op.step.value.data
        )
        return held_unsigned(mantissa, op.mantissa), held(zeros, op.zeros)

    @impl(fixed.InterpolateOp)
    def interpolate(
        self, interpreter: Interpreter, op: fixed.InterpolateOp, args: PythonValues
    ) -> PythonValues:
        if (table := self.tables.get(op.table.string_value())) is None:
            raise CompileError(f"there is no fixed.table {op.table} in the module")
        values = numerics.interpolate(
            args[0], table.input_width, table.values, is_signed=table.is_signed is not None
        )
        return (held(values, op.result),)

    @impl(fixed.SumOp)
    def sum(self, interpreter: Interpreter, op: fixed.SumOp, args: PythonValues) -> PythonValues:
        return (held(args[0].sum(axis=-1, dtype=np.int64), op.result),)

    @impl(fixed.MaxOp)
    def max(self, interpreter: Interpreter, op: fixed.MaxOp, args: PythonValues) -> PythonValues:
        return (held(args[0].max(axis=-1).astype(np.int64), op.result),)

    @impl(fixed.ScanOp)
    def scan(self, interpreter: Interpreter, op: fixed.ScanOp, args: PythonValues) -> PythonValues:
        f, i, init = args
        states, last = numerics.scan(f, i, init, op.by.value.data, exact_width(op.init))
        return held(states, op.states), held(last, op.last)

    @impl(fixed.FromFloatOp)
    def from_float(self, interpreter: Interpreter, op: fixed.FromFloatOp, args: PythonValues) -> PythonValues:
        values = numerics.from_float(args[0], _point(op.result), exact_width(op.result))
        return (held(values, op.result),)

    @impl(fixed.ToFloatOp)
    def to_float(self, interpreter: Interpreter, op: fixed.ToFloatOp, args: PythonValues) -> PythonValues:
        return (numerics.to_float(args[0], _point(op.x)),)


def _point(value: SSAValue) -> int:
    point = fixed.point_of(value.type)
    assert point is not None, "the verifier asks for one"
    return point
