"""The numbers that a pipeline's memories hold."""

from __future__ import annotations

import math

from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.ternary import WeightOp


def constant_sizes(module: ModuleOp) -> dict[str, int]:
    """How many numbers each weight has."""
    return {op.sym_name.data: math.prod(op.type.get_shape()) for op in module.ops if isinstance(op, WeightOp)}
