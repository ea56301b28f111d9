"""Weights that a pass computes from other weights: a region in the module, never numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, Region, SSAValue

from sterna.dialects.ternary import LoadOp, WeightOp, YieldOp, tensor


def weight_name(value: SSAValue) -> str | None:
    """The name of the weight that `value` is, or None for any other value."""
    return value.owner.weight.string_value() if isinstance(value.owner, LoadOp) else None


class DerivedWeights:
    """The weights of a module by name, and a way to add derived ones."""

    def __init__(self, module: ModuleOp) -> None:
        self._block = module.body.block
        self._weights = {op.sym_name.data: op for op in module.ops if isinstance(op, WeightOp)}
        self._newest: dict[str, WeightOp] = {}

    def load(self, name: str) -> LoadOp:
        return LoadOp(name, self._weights[name].type)

    def derive(
        self, name: str, sources: Sequence[str], compute: Callable[[Sequence[SSAValue]], Operation]
    ) -> str:
        """The name of a weight that is `compute`, one operation, of the values of the weights `sources`.

        It is `name`, or `name` with a number if another weight has it; an equal weight that exists already is used.
        The new weight stands in the module after the first of its sources, or at its start if there are none.
        """
        loads = [self.load(source) for source in sources]
        result = compute([load.result for load in loads])
        body = Region(Block([*loads, result, YieldOp(result.results[0])]))
        return self.define(name, body, after=sources[0] if sources else None)

    def define(self, name: str, body: Region, *, after: str | None = None) -> str:
        """The name of a weight whose region is `body`: see `derive`."""
        last = body.block.last_op
        assert isinstance(last, YieldOp)
        weight = WeightOp(name, tensor(last.values[0]), body)
        copies = 0
        while (existing := self._weights.get(weight.sym_name.data)) is not None:
            if existing.is_structurally_equivalent(weight):
                return existing.sym_name.data
            copies += 1
            weight = WeightOp(f"{name}.{copies}", weight.type, weight.detach_region(body))
        self._weights[weight.sym_name.data] = weight
        if after is not None:
            self._block.insert_op_after(weight, self._newest.get(after, self._weights[after]))
            self._newest[after] = weight
        elif (first := self._block.first_op) is not None:
            self._block.insert_op_before(weight, first)
        else:
            self._block.add_op(weight)
        return weight.sym_name.data
