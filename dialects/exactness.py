"""An observer for the interpreter that refuses integer arithmetic whose result is not the number that it should be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects import arith, math
from xdsl.ir import Operation

from sterna.dialects.elements import width_of
from sterna.dialects.errors import CompileError

Array = npt.NDArray[Any]

EXACT: dict[type[Operation], Callable[..., Any]] = {
    arith.AddiOp: np.add,
    arith.SubiOp: np.subtract,
    arith.MuliOp: np.multiply,
    math.AbsIOp: np.abs,
    arith.TruncIOp: np.positive,
    arith.ExtSIOp: np.positive,
}
"""Operations that wrap, as functions of integers of any size."""


def refuse_wrapping(op: Operation, operands: Sequence[Array], results: Sequence[Array]) -> None:
    """For `ModuleInterpreter(observe=...)`: CompileError at the first result that lost a bit. Slowly."""
    if (function := EXACT.get(type(op))) is None or (width_of(op.results[0].type) or 1) == 1:
        return
    # As integers of Python's, which have any size.
    expected = function(*(operand.astype(object) for operand in operands))
    if not np.array_equal(expected, results[0].astype(object)):
        raise CompileError(f"a result does not fit {op.results[0].type}", op.location)
