"""The meaning of a pipeline: a function on rows. Lanes, queues and time change nothing of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation, SSAValue

from sterna.dialects.elements import dtype_of
from sterna.dialects.errors import CompileError
from sterna.dialects.fixed_numerics import rescale, saturate
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.stream import (
    ArgmaxOp,
    ArrayOp,
    FifoOp,
    ForkOp,
    LanesOp,
    LookupOp,
    MapOp,
    PipelineOp,
    ReduceOp,
    ScanOp,
    YieldOp,
    pipeline_of,
)
from sterna.dialects.stream_types import rows_type
from sterna.dialects.weights import WeightStore

Rows = npt.NDArray[np.int64]
"""`[T, N]`."""


class PipelineInterpreter:
    """Runs the pipeline of a module on rows, from the states that it was left in: zeros at first."""

    def __init__(self, module: ModuleOp, weights: WeightStore | None = None) -> None:
        pipeline = pipeline_of(list(module.ops))
        if pipeline is None:
            raise CompileError("there is no stream.pipeline in the module")
        self.pipeline: PipelineOp = pipeline
        self._scalars = ModuleInterpreter(module, weights)
        self._states: dict[Operation, dict[int, Rows]] = {}

    def run(self, inputs: Sequence[Rows]) -> dict[SSAValue, Rows]:
        """Every stream's rows `[T, N]` for those of the inputs `[T, 1]`."""
        block = self.pipeline.body.block
        streams: dict[SSAValue, Rows] = {
            argument: np.asarray(rows, np.int64) for argument, rows in zip(block.args, inputs, strict=True)
        }
        with np.errstate(all="ignore"):
            for op in block.ops:
                if isinstance(op, YieldOp):
                    break
                results = self._stage(op, [streams[value] for value in op.operands])
                streams.update(zip(op.results, results, strict=True))
        return streams

    def outputs(self, inputs: Sequence[Rows]) -> list[Rows]:
        last = self.pipeline.body.block.last_op
        assert isinstance(last, YieldOp)
        streams = self.run(inputs)
        return [streams[value] for value in last.values]

    def _stage(self, op: Operation, given: list[Rows]) -> list[Rows]:
        match op:
            case LookupOp():
                return [self._weight(op.table.string_value())[given[0][:, 0]]]
            case ArrayOp():
                return [given[0] @ self._weight(op.weight.string_value()).T]
            case MapOp():
                return self._map(op, given)
            case ReduceOp():
                reduced = given[0].sum(axis=1) if op.kind.data == "sum" else given[0].max(axis=1)
                return [reduced.reshape(-1, 1)]
            case ArgmaxOp():
                return [given[0].argmax(axis=1).reshape(-1, 1)]
            case ScanOp():
                return [self._scan(op, *given)]
            case LanesOp() | FifoOp() | ForkOp():
                return [given[0]] * len(op.results)
            case _:
                raise CompileError(f"{op.name} has no meaning in a pipeline", op.location)

    def _weight(self, name: str) -> Rows:
        return self._scalars.weight(name).astype(np.int64)

    def _map(self, op: MapOp, given: list[Rows]) -> list[Rows]:
        shape = (len(given[0]), op.rows.size.data)
        constants = [self._weight(name.string_value()).reshape(1, -1) for name in op.constants]
        arguments = [
            np.broadcast_to(rows, shape).astype(_dtype(argument.type))
            for rows, argument in zip([*given, *constants], op.body.block.args, strict=True)
        ]
        results = self._scalars.region(op.body, arguments)
        return [np.broadcast_to(result, shape).astype(np.int64) for result in results]

    def _scan(self, op: ScanOp, context: Rows, f: Rows, i: Rows) -> Rows:
        """f * state, rounded half up, plus i, saturated: the formula of `fixed.scan`, with a state for every sequence."""
        width, by = rows_type(op.result).width, op.by.value.data
        states = self._states.setdefault(op, {})
        rows = np.empty_like(i)
        for t, (number,) in enumerate(context):
            sequence, starts = int(number) >> 1, bool(number & 1)
            zeros = np.zeros(i.shape[1], np.int64)
            state = zeros if starts else states.get(sequence, zeros)
            rows[t] = states[sequence] = saturate(rescale(f[t] * state, by, 63) + i[t], width)
        return rows


def _dtype(type: Attribute) -> np.dtype[np.generic]:
    return dtype_of(type)
