"""Makes one function of the layers of a model that are alike, so that code does not grow with depth.

    func.func @forward(%x: ...) -> ... {
      %w0 = ternary.load @layers.0.w : ...
      %q0, %d0 = ternary.norm_quantize %x ...
      %y0 = ternary.project quantized(%q0 ...) weights(%w0 ...) ...
      %w1 = ternary.load @layers.1.w : ...
      %q1, %d1 = ternary.norm_quantize %y0 ...
      %y1 = ternary.project quantized(%q1 ...) weights(%w1 ...) ...
      func.return %y1 : ...
    }

becomes

    func.func @forward(%x: ...) -> ... {
      %w0 = ternary.load @layers.0.w : ...
      %y0 = func.call @layer_0(%x, %w0) : ...
      %w1 = ternary.load @layers.1.w : ...
      %y1 = func.call @layer_0(%y0, %w1) : ...
      func.return %y1 : ...
    }
    func.func private @layer_0(%x: ..., %w: ...) -> ... { ... }

Layers are found by what they are, not by what they are called: a layer is a stretch of operations that comes
several times in a row, the same but for the weights and values that enter it. Of all such repetitions the one
that covers most operations is taken, cut where fewest values cross (between a model's layers, that is the
residual stream alone); then what lies before and after it is searched too. A layer that differs from the others
(a first one without a lower bound) stays where it is.

Why it is right: every bit stays, the function is a copy of the first stretch. Two stretches are equal when
their operations are (name, attributes, types, regions), and every operand is the same result of the same
operation in the stretch, or comes from outside; and where two operands of one stretch are the same outside
value, they are in the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from xdsl.context import Context
from xdsl.dialects.arith import ConstantOp
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, TensorType
from xdsl.dialects.func import CallOp, FuncOp, ReturnOp
from xdsl.dialects.tensor import DimOp
from xdsl.ir import Block, BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.traits import IsolatedFromAbove

from sterna.dialects.ternary import LoadOp, tensor

SHORTEST = 2
"""Operations in the shortest stretch worth a function: a call of a call would never end."""


@dataclass(frozen=True)
class Repetition:
    """`count` stretches of `period` operations, one after the other, from `start` on."""

    start: int
    period: int
    count: int

    @property
    def covered(self) -> int:
        return self.period * self.count

    @property
    def end(self) -> int:
        return self.start + self.covered

    def stretches(self, ops: Sequence[Operation]) -> list[Sequence[Operation]]:
        return [ops[at : at + self.period] for at in range(self.start, self.end, self.period)]


@dataclass(frozen=True)
class Border:
    """What crosses the border of a stretch: the values that it reads, in that order, and the results that others read.

    A result is named by the numbers of its operation in the stretch and of the result in the operation.
    """

    inputs: list[SSAValue]
    outputs: list[tuple[int, int]]

    @staticmethod
    def of(stretch: Sequence[Operation]) -> Border:
        inside = set(stretch)
        inputs = dict.fromkeys(value for op in stretch for value in op.operands if value.owner not in inside)
        outputs = [
            (i, r)
            for i, op in enumerate(stretch)
            for r, value in enumerate(op.results)
            if any(use.operation not in inside for use in value.uses)
        ]
        return Border(list(inputs), outputs)

    @property
    def width(self) -> int:
        """Values that cross, without the weights."""
        return sum(not isinstance(value.owner, LoadOp) for value in self.inputs) + len(self.outputs)


def wiring(stretch: Sequence[Operation], arguments: Sequence[SSAValue] = ()) -> tuple[tuple[int, int], ...]:
    """Where every operand comes from: (operation, result) in the stretch, or (-1, number of the outside value).

    `arguments` are outside values that have the first numbers; the others are numbered as they are met.
    """
    inside: dict[SSAValue, tuple[int, int]] = {
        value: (i, r) for i, op in enumerate(stretch) for r, value in enumerate(op.results)
    }
    outside: dict[SSAValue, int] = {value: number for number, value in enumerate(arguments)}
    return tuple(
        inside[value] if value in inside else (-1, outside.setdefault(value, len(outside)))
        for op in stretch
        for value in op.operands
    )


def shape_of(op: Operation) -> tuple[object, ...]:
    """All of an operation but its operands, its place and its names."""
    if op.regions and not op.has_trait(IsolatedFromAbove):
        return (op,)  # It may read values that are not its operands: like no other.
    regions = tuple(shape_of_block(block) for region in op.regions for block in region.blocks)
    named = tuple(
        tuple(sorted(table.items(), key=lambda item: item[0])) for table in (op.properties, op.attributes)
    )
    return (op.name, *named, tuple(op.operand_types), tuple(op.result_types), regions)


def shape_of_block(block: Block) -> tuple[object, ...]:
    ops = list(block.ops)
    return (block.arg_types, *map(shape_of, ops), wiring(ops, block.args))


def find_repetitions(ops: Sequence[Operation]) -> Iterator[list[Sequence[Operation]]]:
    """The stretches of every repetition worth a function, in the order of the program."""
    numbers: dict[tuple[object, ...], int] = {}
    shapes = [numbers.setdefault(shape_of(op), len(numbers)) for op in ops]
    if (best := find_repetition(ops, shapes)) is not None:
        yield from find_repetitions(ops[: best.start])
        yield best.stretches(ops)
        yield from find_repetitions(ops[best.end :])


def find_repetition(ops: Sequence[Operation], shapes: Sequence[int]) -> Repetition | None:
    """The repetition that covers most operations; among equals the shortest stretch, where fewest values cross.

    Then the last: what is unlike the rest is mostly a part of the first layer, so layers end where the repetition ends.
    """
    best: Repetition | None = None
    best_score = (0, 0, 0, 0)
    for period in range(SHORTEST, len(ops) // 2 + 1):
        for first, length in equal_runs(shapes, period):
            for start in range(first, first + min(period, length - 2 * period + 1)):
                whole = Repetition(start, period, (first + length - start) // period)
                if (-whole.covered, period) > best_score[:2]:
                    continue
                if (repetition := same_wiring(ops, whole)) is not None:
                    width = Border.of(repetition.stretches(ops)[0]).width
                    score = (-repetition.covered, period, width, -start)
                    if best is None or score < best_score:
                        best, best_score = repetition, score
    return best


def equal_runs(shapes: Sequence[int], period: int) -> Iterator[tuple[int, int]]:
    """(first, length) of the longest stretches of `shapes` that have this period for at least two rounds."""
    first = 0
    for at in range(len(shapes) - period + 1):
        if at == len(shapes) - period or shapes[at] != shapes[at + period]:
            if at - first >= period:
                yield first, at - first + period
            first = at + 1


def same_wiring(ops: Sequence[Operation], whole: Repetition) -> Repetition | None:
    """The longest part of a repetition whose stretches are wired alike; None if no two neighbours are."""
    wirings = [wiring(stretch) for stretch in whole.stretches(ops)]
    best, first = (0, 0), 0
    for at in range(1, len(wirings) + 1):
        if at == len(wirings) or wirings[at] != wirings[first]:
            best, first = max(best, (at - first, first), key=lambda run: run[0]), at
    count, first = best
    return Repetition(whole.start + first * whole.period, whole.period, count) if count > 1 else None


def outline(stretches: Sequence[Sequence[Operation]], name: str) -> FuncOp:
    """Replaces every stretch by a call of one function, which is returned."""
    # The last layer's result may be read where the others' are not.
    outputs = sorted({output for stretch in stretches for output in Border.of(stretch).outputs})
    template = stretches[0]
    inputs = Border.of(template).inputs
    # Activations come before weights.
    order = sorted(range(len(inputs)), key=lambda number: isinstance(inputs[number].owner, LoadOp))
    result_types = [template[i].results[r].type for i, r in outputs]
    func = FuncOp(name, ([inputs[number].type for number in order], result_types), visibility="private")
    func.location = template[0].location
    mapped: dict[SSAValue, SSAValue] = {}
    for number, argument in zip(order, func.body.block.args, strict=True):
        mapped[inputs[number]] = argument
        argument.name_hint = inputs[number].name_hint
    copies = [op.clone(mapped) for op in template]
    func.body.block.add_ops([*copies, ReturnOp(*(copies[i].results[r] for i, r in outputs))])
    for stretch in stretches:
        # What this stretch reads may be a result of the call before it.
        inputs = Border.of(stretch).inputs
        replace_by_call(func, stretch, [inputs[number] for number in order], outputs)
    return func


def replace_by_call(
    func: FuncOp, stretch: Sequence[Operation], inputs: Sequence[SSAValue], outputs: Sequence[tuple[int, int]]
) -> None:
    call = CallOp(func.sym_name.data, inputs, func.function_type.outputs.data)
    call.location = stretch[0].location
    block = stretch[-1].parent
    assert block is not None
    block.insert_op_before(call, stretch[-1])
    for (i, r), result in zip(outputs, call.results, strict=True):
        result.name_hint = stretch[i].results[r].name_hint
        stretch[i].results[r].replace_all_uses_with(result)
    for op in reversed(stretch):
        op.detach()
        op.erase()


def load_where_used(block: Block) -> None:
    """Moves every load to just before its first reader, so that a layer's weights stand beside it."""
    placed: set[Operation] = set()
    for op in list(block.ops):
        for value in op.operands:
            load = value.owner
            if not isinstance(load, LoadOp) or load in placed or load.parent is not block:
                continue
            if all(use.operation.parent is block for use in value.uses):
                load.detach()
                block.insert_op_before(load, op)
                placed.add(load)


def hoist_scalars(block: Block) -> bool:
    """Moves sizes, indices and other numbers to the start, out of all stretches; False if one depends on a tensor."""
    hoisted: list[Operation] = []
    for op in list(block.ops):
        if not op.results or any(isinstance(value.type, TensorType) for value in op.results):
            continue
        if isinstance(op, DimOp) and not isinstance(op.source, BlockArgument):
            op.operands[0] = argument_of_size(op) or op.source
        known = [isinstance(value, BlockArgument) or value.owner in hoisted for value in op.operands]
        if op.regions or not all(known):
            return False
        hoisted.append(op)
    for op in reversed(hoisted):
        first = block.first_op
        if first is not op and first is not None:
            op.detach()
            block.insert_op_before(op, first)
    return True


def argument_of_size(op: DimOp) -> SSAValue | None:
    """An argument with T where the operand has it: there is one dynamic size."""
    block, axis = op.parent, op.index.owner
    assert block is not None
    if not isinstance(axis, ConstantOp) or not isinstance(axis.value, IntegerAttr):
        return None
    number = axis.value.value.data
    shapes = {value: tensor(value).get_shape() for value in block.args if isinstance(value.type, TensorType)}
    size = tensor(op.source).get_shape()[number]
    return next((value for value, shape in shapes.items() if shape[number : number + 1] == (size,)), None)


@dataclass(frozen=True)
class OutlineLayersPass(ModulePass):
    name = "outline-layers"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        taken = {func.sym_name.data for func in op.ops if isinstance(func, FuncOp)}
        names = (name for n in count() if (name := f"layer_{n}") not in taken)
        for func in [func for func in op.ops if isinstance(func, FuncOp) and func.body.blocks]:
            block = func.body.block
            load_where_used(block)
            if not hoist_scalars(block):
                continue
            ops = [
                op
                for op in block.ops
                if not isinstance(op, LoadOp | ReturnOp)
                and any(isinstance(v.type, TensorType) for v in op.results)
            ]
            after = func
            for stretches in list(find_repetitions(ops)):
                layer = outline(stretches, next(names))
                op.body.block.insert_op_after(layer, after)
                after = layer
