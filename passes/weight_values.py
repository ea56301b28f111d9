"""The numbers of values that depend on weights and constants alone, read from the store when a rewrite asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.tensor import SplatOp
from xdsl.ir import Block, Region, SSAValue

from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.ternary import LoadOp, YieldOp, tensor
from sterna.dialects.weight_ops import SAME_MAGNITUDE
from sterna.dialects.weights import WeightStore
from sterna.passes.fold_weights import operations_behind
from sterna.passes.matching import WeightOnly, splat_number, without_broadcasts

Array = npt.NDArray[Any]


def scale_kind(matrix: Array) -> bool | None:
    """Whether a matrix is ternary up to a scale for each row (True) or for all (False); None if it is neither.

    Of floats, what `ternary.ternarize` takes for one magnitude is one.
    """
    magnitudes = np.abs(matrix)
    largest = magnitudes.max(axis=1, initial=0)
    if not np.isfinite(largest).all() or not _have_magnitude(magnitudes, largest[:, None]):
        return None
    return not _have_magnitude(largest, largest.max(initial=0))


def _have_magnitude(magnitudes: Array, largest: Array) -> bool:
    least = largest * np.float32(1 - SAME_MAGNITUDE) if magnitudes.dtype.kind == "f" else largest
    return bool(((magnitudes >= least) | (magnitudes == 0)).all())


class WeightValues:
    """Evaluates values of functions of one module. No array is kept: a model has more of them than memory."""

    def __init__(self, module: ModuleOp, store: WeightStore | None) -> None:
        self.weight_only = WeightOnly()
        self._has_store = store is not None
        self._interpreter = ModuleInterpreter(module, store, cached_weight_bytes=0)

    def read(self, value: SSAValue) -> Array | None:
        """The numbers; None if the value depends on an input, or on a weight that there is no store to read from.

        A weight that the store lacks, or that does not fit its type, is a CompileError.
        """
        if value not in self.weight_only:
            return None
        steps = list(operations_behind(value))
        if not self._has_store and any(isinstance(step, LoadOp) for step in steps):
            return None
        copies: dict[SSAValue, SSAValue] = {}
        block = Block([step.clone(copies) for step in steps])
        block.add_op(YieldOp(copies[value]))
        (array,) = self._interpreter.region(Region(block))
        return np.asarray(array)

    def number(self, value: SSAValue) -> float | None:
        """The number that every element of a tensor is, from constants or from a scalar weight; else None."""
        if (number := splat_number(value)) is not None:
            return number
        source, _ = without_broadcasts(value, ())
        if isinstance(source.owner, SplatOp):
            source = source.owner.input
        elif tensor(source).get_num_dims():
            return None
        array = self.read(source)
        return None if array is None else float(array)

    def evaluate(self, region: Region, arguments: Sequence[Array]) -> tuple[Array, ...]:
        """What a region on scalars yields, with arrays that broadcast for its arguments."""
        return self._interpreter.region(region, arguments)
