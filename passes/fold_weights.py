"""Moves all that depends on weights alone out of the function, into derived weights.

    %w = ternary.load @proj.weight : tensor<64x32xf32>
    %t, %s = ternary.absmean %w eps = 1.0e-05 : tensor<64x32xf32> -> tensor<64x32x!ternary.trit>, tensor<f32>
    %acc = ternary.accumulate %q, %t : ...

becomes

    ternary.weight @proj.trits : tensor<64x32x!ternary.trit> {
      %w = ternary.load @proj.weight : tensor<64x32xf32>
      %t, %s = ternary.absmean %w eps = 1.0e-05 : tensor<64x32xf32> -> tensor<64x32x!ternary.trit>, tensor<f32>
      ternary.yield %t : tensor<64x32x!ternary.trit>
    }
    ...
    %t = ternary.load @proj.trits : tensor<64x32x!ternary.trit>
    %acc = ternary.accumulate %q, %t : ...

What becomes a weight: a value that depends on a weight (or on a dense constant tensor) and on no input, where
something that depends on an input uses it, or where several derived weights are computed from it. A broadcast
stays in the function, so that it is the vector that is stored, and numbers stay constants. Equal derived weights are
one. Nothing is evaluated here: that is done once, when a target packs the weights.

Why it is right: every operation is pure, and the region holds the same operations in the same order. No bit changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from sterna.dialects.encodings import is_trits
from sterna.dialects.ternary import AbsmeanOp, LoadOp, TernarizeOp, WeightOp, YieldOp, tensor
from sterna.passes.dead_code import erase_dead_code

SUFFIX = ".weight"


def is_table(op: Operation) -> bool:
    """A constant that is a tensor of numbers, and not one number that is repeated by a `tensor.splat`."""
    return isinstance(op, arith.ConstantOp) and isinstance(op.value, DenseIntOrFPElementsAttr)


@dataclass
class Dependences:
    """Which values of a block depend on inputs, and which, of the others, on weights."""

    inputs: set[SSAValue] = field(default_factory=set[SSAValue])
    weights: set[SSAValue] = field(default_factory=set[SSAValue])

    @staticmethod
    def of(block: Block) -> Dependences:
        found = Dependences(set(block.args))
        for op in block.ops:
            read = values_read(op)
            if any(value in found.inputs for value in read):
                found.inputs.update(op.results)
            elif isinstance(op, LoadOp) or is_table(op) or any(value in found.weights for value in read):
                found.weights.update(op.results)
        return found

    def foldable(self, op: Operation) -> bool:
        """Whether `op` is a computation on weights that may leave the function."""
        return not isinstance(op, LoadOp | linalg.BroadcastOp) and any(r in self.weights for r in op.results)


def values_to_fold(block: Block) -> list[SSAValue]:
    """The values that become weights, in the order of the program."""
    dependences = Dependences.of(block)
    folded: set[SSAValue] = set()
    readers: dict[SSAValue, set[SSAValue]] = {}
    """For every value on weights, those among `folded` that are computed from it."""
    for op in reversed(list(block.ops)):
        is_input_user = any(result in dependences.inputs for result in op.results) or not op.results
        for result in op.results:
            if result not in dependences.weights:
                continue
            reading = readers.setdefault(result, set())
            if dependences.foldable(op) and (result in folded or len(reading) > 1):
                folded.add(result)
                readers[result] = {cast(SSAValue, result)}
        for operand in op.operands:
            if operand not in dependences.weights:
                continue
            if is_input_user:
                _fold_source(operand, dependences, folded)
            else:
                for result in op.results:
                    readers.setdefault(operand, set()).update(readers.get(result, ()))
    return [result for op in block.ops for result in op.results if result in folded]


def _fold_source(value: SSAValue, dependences: Dependences, folded: set[SSAValue]) -> None:
    """An input's user reads `value`: it, or what it is a broadcast of, becomes a weight."""
    while isinstance(op := value.owner, linalg.BroadcastOp):
        value = op.input
    if isinstance(value.owner, Operation) and dependences.foldable(value.owner):
        folded.add(value)


@dataclass
class Folder:
    """Adds derived weights to a module and puts loads of them in the places of the values."""

    module: ModuleOp
    before: Operation
    names: set[str]
    made: dict[object, LoadOp] = field(default_factory=dict[object, LoadOp])
    bases: dict[str, str] = field(default_factory=dict[str, str])
    """For every derived weight, the name of the stored one that it was named after."""

    def fold(self, value: SSAValue) -> None:
        """The weights that `value` is computed from have been folded before it."""
        steps = list(operations_behind(value))
        key = _key(value, steps)
        if (load := self.made.get(key)) is None:
            weight = self._derive(value, steps)
            load = self.made[key] = LoadOp(weight.sym_name.data, weight.type)
            assert isinstance(value.owner, Operation)
            load.location = value.owner.location
            load.result.name_hint = value.name_hint
            Rewriter.insert_op(load, InsertPoint.before(value.owner))
        value.replace_all_uses_with(load.result)

    def _derive(self, value: SSAValue, steps: list[Operation]) -> WeightOp:
        block, copies = Block(), dict[SSAValue, SSAValue]()
        block.add_ops([step.clone(copies) for step in steps])
        block.add_op(YieldOp(copies[value]))
        name = self._name(value, steps)
        weight = WeightOp(name, tensor(value), Region(block))
        assert isinstance(value.owner, Operation)
        weight.location = value.owner.location
        self.module.body.block.insert_op_before(weight, self.before)
        return weight

    def _name(self, value: SSAValue, steps: list[Operation]) -> str:
        """`proj.trits`, `proj.scale`, or `proj.folded`, after the first weight that is read."""
        read = next((step.weight.string_value() for step in steps if isinstance(step, LoadOp)), "constant")
        base = self.bases.get(read, read.removesuffix(SUFFIX))
        quantized = isinstance(value.owner, AbsmeanOp | TernarizeOp)
        kind = "folded" if not quantized else "trits" if is_trits(value.type) else "scale"
        name, copies = f"{base}.{kind}", 0
        while name in self.names:
            copies += 1
            name = f"{base}.{kind}.{copies}"
        self.names.add(name)
        self.bases[name] = base
        return name


def values_read(op: Operation) -> list[SSAValue]:
    """The operands, and what the regions read from outside them."""
    return [value for inner in op.walk() for value in inner.operands if not op.is_ancestor(value.owner)]


def operations_behind(value: SSAValue) -> Iterator[Operation]:
    """The operations that compute `value`, each after those that it reads."""
    seen: set[Operation] = set()
    pending = [(value.owner, False)]
    while pending:
        op, is_ready = pending.pop()
        assert isinstance(op, Operation)
        if is_ready:
            yield op
        elif op not in seen:
            seen.add(op)
            pending.append((op, True))
            pending += [(value.owner, False) for value in reversed(values_read(op))]


def _key(value: SSAValue, steps: list[Operation]) -> object:
    """Equal for values that are computed alike from the same weights."""
    numbers: dict[SSAValue, int] = {}
    shapes: list[object] = []
    for step in steps:
        operands = tuple(numbers[value] for value in values_read(step))
        regions = tuple(str(region) for region in step.regions)
        properties = tuple(sorted(step.properties.items()))
        shapes.append((step.name, operands, properties, tuple(step.result_types), regions))
        for result in step.results:
            numbers[result] = len(numbers)
    return (*shapes, numbers[value])


@dataclass(frozen=True)
class FoldWeightsPass(ModulePass):
    """See the module's docstring."""

    name = "fold-weights"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        erase_dead_code(op)
        functions = [function for function in op.ops if isinstance(function, FuncOp)]
        names = {weight.sym_name.data for weight in op.ops if isinstance(weight, WeightOp)}
        for function in functions:
            folder = Folder(op, functions[0], names)
            for block in function.body.blocks:
                for value in values_to_fold(block):
                    folder.fold(value)
        erase_dead_code(op)
