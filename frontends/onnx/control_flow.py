"""If, Loop and Scan: graphs in attributes.

A condition that is known when compiling chooses a graph. Of one that is computed both are, and the outputs of one are
selected. A loop whose number of turns is known, or T, becomes `scf.for`; what it carries has fixed shapes. A condition
that is computed freezes what is carried once it is false.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from onnx import GraphProto
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, TensorType, i64
from xdsl.ir import SSAValue

from sterna.frontends.onnx.data_types import BOOL, INT64
from sterna.frontends.onnx.emitters import EmitterTable
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.shapes import transposed
from sterna.frontends.onnx.sizes import Dim, has_batch, ir_size, shape_text
from sterna.frontends.onnx.slicing import sliced
from sterna.frontends.onnx.values import Tensor, known

EMITTERS = EmitterTable()
emits = EMITTERS.of

LONGEST_LOOP = 1 << 20

Step: TypeAlias = "Callable[[SSAValue | None, list[Tensor]], tuple[Tensor, list[Tensor], list[Tensor]]]"
"""One turn: of its number (None where there is one turn) and what is carried, whether to go on, what is carried on, and
the outputs of the turn."""


@emits("If")
def if_(to: Node, condition: Tensor) -> list[Tensor]:
    yes, no = to.graph("then_branch"), to.graph("else_branch")
    if condition.known is not None:
        return _as_many(to, to.scope.run(yes if to.scalar(condition, "cond") else no, []))
    if any(size != 1 for size in condition.shape):
        raise OnnxError(f"{to.place}: cond: expected one number, found {shape_text(condition.shape)}")
    outputs = [_as_many(to, to.scope.run(graph, [])) for graph in (yes, no)]
    return [selected(to, condition, a, b) for a, b in zip(*outputs, strict=True)]


def _as_many(to: Node, outputs: list[Tensor]) -> list[Tensor]:
    if len(outputs) != to.output_count:
        raise OnnxError(f"{to.place}: the graph has {len(outputs)} outputs, and the node {to.output_count}")
    return outputs


def selected(to: Node, condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """One of two tensors of one type and shape, by a condition of one element."""
    if yes.shape != no.shape or yes.type != no.type:
        shapes = f"{shape_text(yes.shape)} or {shape_text(no.shape)}"
        raise Unsupported(f"a computed condition chooses between {shapes}")
    chosen = to.stretch(to.value(condition), (), yes.shape)
    return to.result(to.select(chosen, to.value(yes), to.value(no)), yes.shape, yes.type)


@emits("Loop")
def loop(to: Node, limit: Tensor | None, condition: Tensor | None, *initial: Tensor) -> list[Tensor]:
    body = to.graph("body")
    if len(body.input) != 2 + len(initial) or len(body.output) != 1 + to.output_count:
        raise OnnxError(f"{to.place}: body: its inputs and outputs are not those of the node")
    turns, is_computed = _turns(to, limit), _is_computed(body)
    going = condition if condition is not None else known(np.array(True), BOOL)
    if going.known is not None:
        turns = turns if to.scalar(going, "cond") else 0
        going = going if is_computed and turns != 0 else None
    reads_number = any(body.input[0].name in node.input for node in body.node)

    def step(turn: SSAValue | None, carried: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        number = _number(to, turn) if reads_number else known(np.array(0))
        # The body runs only where the condition is true.
        outputs = to.scope.run(body, [number, known(np.array(True), BOOL), *carried])
        return outputs[0], outputs[1 : 1 + len(initial)], outputs[1 + len(initial) :]

    return _repeat(to, turns, going, list(initial), step)


def _turns(to: Node, limit: Tensor | None) -> Dim:
    if limit is None:
        raise Unsupported("a loop without a largest number of turns")
    turns = to.dims(limit, "M")
    if len(turns) != 1:
        raise OnnxError(f"{to.place}: M: expected one number, found {shape_text(limit.shape)}")
    if has_batch(turns[0]):
        raise Unsupported("a turn for each sample of the batch")
    if isinstance(turns[0], int) and turns[0] > LONGEST_LOOP:
        raise Unsupported(f"a loop of up to {turns[0]} turns")
    return turns[0]


def _number(to: Node, turn: SSAValue | None) -> Tensor:
    if turn is None:
        return known(np.array(0))
    number = to.build.add(arith.IndexCastOp(turn, i64))
    return to.result(to.build.add(tensor.SplatOp(number, [], TensorType(i64, ()))), (), INT64)


@emits("Scan")
def scan(to: Node, *inputs: Tensor) -> list[Tensor]:
    body, count = to.graph("body"), to.integer("num_scan_inputs")
    states = len(inputs) - count
    outputs = len(body.output) - states
    if not 1 <= count <= len(inputs) or len(body.input) != len(inputs) or len(body.output) != to.output_count:
        raise OnnxError(f"{to.place}: body: its inputs and outputs are not those of the node")
    scanned = inputs[states:]
    axes = [x.axis(n) for x, n in zip(scanned, _listed(to, "scan_input_axes", count), strict=True)]
    backwards = _listed(to, "scan_input_directions", count)
    lengths = [x.shape[axis] if x.rank else 0 for x, axis in zip(scanned, axes, strict=True)]
    if any(length != lengths[0] for length in lengths) or lengths[0] == 0:
        raise OnnxError(f"{to.place}: the scanned inputs have lengths {shape_text(lengths)}")

    def step(turn: SSAValue | None, carried: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        parts = [
            _at(to, x, axis, turn, bool(back)) for x, axis, back in zip(scanned, axes, backwards, strict=True)
        ]
        made = to.scope.run(body, [*carried, *parts])
        return known(np.array(True), BOOL), made[:states], made[states:]

    results = _repeat(to, lengths[0], None, list(inputs[:states]), step)
    places = _listed(to, "scan_output_axes", outputs)
    reversals = _listed(to, "scan_output_directions", outputs)
    stacks = [
        _with_axis_at(to, sliced(to, x, 0, lengths[0] - 1, lengths[0], -1) if back else x, place)
        for x, back, place in zip(results[states:], reversals, places, strict=True)
    ]
    return [*results[:states], *stacks]


def _listed(to: Node, name: str, count: int) -> list[int]:
    numbers = to.integers(name, [0] * count)
    if len(numbers) != count:
        raise OnnxError(f"{to.place}: {name}: expected {count} numbers, found {len(numbers)}")
    return numbers


def _at(to: Node, x: Tensor, axis: int, turn: SSAValue | None, backwards: bool) -> Tensor:
    """The part of x that a turn sees, without the axis."""
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    place = x.ir_axis(axis)
    if turn is None or place is None:
        return to.result(to.value(x), shape, x.type)
    if backwards:
        size = ir_size(x.shape[axis])
        length = to.build.rows if size == DYNAMIC_INDEX else to.build.index(size)
        assert length is not None
        last = to.build.add(arith.SubiOp(length, to.build.index(1)))
        turn = to.build.add(arith.SubiOp(last, turn))
    return to.result(to.build.slice(to.value(x), place, turn, 1), shape, x.type)


def _with_axis_at(to: Node, x: Tensor, place: int) -> Tensor:
    """x with its first axis, that of the turns, in another place."""
    axis = x.axis(place)
    others = list(range(1, x.rank))
    return transposed(to, x, [*others[:axis], 0, *others[axis:]])


def _is_computed(body: GraphProto) -> bool:
    """Whether the condition that a loop's body gives is more than a constant, or the one it was given."""
    name = body.output[0].name
    for _ in body.node:
        maker = next((node for node in body.node if name in node.output), None)
        if maker is None or maker.op_type != "Identity" or not maker.input:
            break
        name = maker.input[0]
    constants = {tensor.name for tensor in body.initializer} | {body.input[1].name}
    constants |= {output for node in body.node if node.op_type == "Constant" for output in node.output}
    return name not in constants


def _repeat(to: Node, turns: Dim, going: Tensor | None, initial: list[Tensor], step: Step) -> list[Tensor]:
    """What is carried after the last turn, then the outputs of all turns, stacked on a first axis.

    `going` is the condition of the first turn, if the number of turns depends on conditions that are computed.
    """
    if going is None and turns in (0, 1):
        return _once(to, turns == 1, initial, step)
    carried = initial if going is None else [going, *initial]
    outputs: list[Tensor] = []

    def body(turn: SSAValue, values: Sequence[SSAValue]) -> tuple[list[SSAValue], list[SSAValue]]:
        before = [to.result(v, x.shape, x.type) for v, x in zip(values, carried, strict=True)]
        condition, after, made = step(turn, before[len(carried) - len(initial) :])
        _check(to, initial, after)
        outputs.extend(made)
        if going is None:
            if not to.scalar(condition, "cond"):
                raise Unsupported("a condition that is always false")
            return [to.value(x) for x in after], [to.value(x) for x in made]
        if made:
            raise Unsupported("outputs of a number of turns that is computed")
        goes_on = to.binary(arith.AndIOp, to.value(before[0]), to.value(condition))
        kept = [selected(to, before[0], new, old) for new, old in zip(after, before[1:], strict=True)]
        return [goes_on, *map(to.value, kept)], []

    length = ir_size(turns)
    count = to.build.rows if length == DYNAMIC_INDEX else length
    assert count is not None
    last, stacks = to.build.scan(count, [to.value(x) for x in carried], body)
    results = [to.result(v, x.shape, x.type) for v, x in zip(last, carried, strict=True)]
    made = [to.result(v, (turns, *x.shape), x.type) for v, x in zip(stacks, outputs, strict=True)]
    return [*results[len(carried) - len(initial) :], *made]


def _check(to: Node, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    """What is carried keeps its shape and type."""
    for old, new in zip(before, after, strict=True):
        if old.shape != new.shape or old.type != new.type:
            found = f"{shape_text(old.shape)} becomes {shape_text(new.shape)}"
            raise Unsupported(f"what is carried from turn to turn changes its shape or type: {found}")


def _once(to: Node, is_run: bool, initial: list[Tensor], step: Step) -> list[Tensor]:
    """A loop of one turn, or none."""
    if not is_run:
        if to.output_count != len(initial):
            raise Unsupported("outputs of no turn")
        return initial
    _, after, made = step(None, initial)
    stacks = [to.result(to.value(x), (1, *x.shape), x.type) for x in made]
    return [*after, *stacks]
