"""What a module costs to run once: arithmetic, and bytes of weights, activations and recurrent state.

The count is of the program as the IR states it, for `rows` tokens in every dynamic axis (1 = one step of
decoding). It is arithmetic over the types, so it holds for any stage: an accumulate is T*M*K additions and no
multiplication; a weight is read once from memory each time its `ternary.load` runs; a function that is called
from 32 places counts 32 times. What a derived weight's region does is done when the artifact is built, and
costs nothing here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil, prod
from typing import cast

from xdsl.dialects import arith, func, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    FixedBitwidthType,
    IndexType,
    IntegerAttr,
    ModuleOp,
    TensorType,
)
from xdsl.dialects.linalg.ops import MatmulOp, ReduceOp
from xdsl.ir import Attribute, Block, BlockArgument, Operation, SSAValue
from xdsl.traits import IsTerminator

from sterna.dialects import ternary
from sterna.dialects.encodings import BitType, TritType, encoding_of
from sterna.targets.interface import uses_through_calls


@dataclass(frozen=True)
class Cost:
    """Scalar operations and bytes. `other`: divisions, roots, exponentials, comparisons, roundings,
    conversions.

    `weights`: bytes read of weights by how they lie in memory (f32, f16, i2, or trit: one byte each, not
    packed yet). `activations`: bytes of tensors read and written between ops. `state`: recurrent state read
    and written.
    """

    additions: int = 0
    multiplications: int = 0
    other: int = 0
    weights: Mapping[str, int] = field(default_factory=dict[str, int])
    activations: int = 0
    state: int = 0

    def __add__(self, more: Cost) -> Cost:
        return Cost(
            self.additions + more.additions,
            self.multiplications + more.multiplications,
            self.other + more.other,
            dict(Counter(self.weights) + Counter(more.weights)),
            self.activations + more.activations,
            self.state + more.state,
        )

    def __mul__(self, times: int) -> Cost:
        return Cost(
            self.additions * times,
            self.multiplications * times,
            self.other * times,
            {encoding: size * times for encoding, size in self.weights.items()},
            self.activations * times,
            self.state * times,
        )

    @property
    def weight_bytes(self) -> int:
        return sum(self.weights.values())


@dataclass(frozen=True)
class CostTable:
    """The cost of every op of a module that costs anything (running it once), and how often its function runs."""

    ops: dict[Operation, Cost]
    runs: dict[func.FuncOp, int]
    total: Cost


ADDITIONS = {"arith.addf", "arith.subf", "arith.addi", "arith.subi"}
MULTIPLICATIONS = {"arith.mulf", "arith.muli"}
VIEWS = {
    "tensor.expand_shape",
    "tensor.collapse_shape",
    "tensor.reshape",
    "tensor.cast",
    "tensor.dim",
    "tensor.empty",
}
"""Ops that compute nothing and move nothing: the same bytes under another type."""


def cost_table(module: ModuleOp, rows: int = 1) -> CostTable:
    """The cost of every op in the functions of `module`, with `rows` for every dynamic axis."""
    functions = {op.sym_name.data: op for op in module.ops if isinstance(op, func.FuncOp)}
    runs = _runs(functions)
    weights = _weight_values(functions)
    ops: dict[Operation, Cost] = {}
    total = Cost()
    for function in functions.values():
        state = state_bytes(function, functions)
        if state:
            ops[function] = Cost(state=2 * state)
        for op in _top_level(function):
            cost = op_cost(op, rows, weights)
            if cost != Cost():
                ops[op] = cost
        inside = [ops[op] for op in (function, *_top_level(function)) if op in ops]
        total += sum(inside, Cost()) * runs[function]
    return CostTable(ops, runs, total)


def state_bytes(function: func.FuncOp, functions: Mapping[str, func.FuncOp]) -> int:
    """Bytes of the recurrent states that the function takes and gives back: a cache is read by attention alone."""
    states = function.attributes.get("sterna.states")
    if not isinstance(states, IntegerAttr) or states.value.data <= 0 or not function.body.blocks:
        return 0
    given = function.body.block.args[-states.value.data :]
    readers = {arg: {type(op) for op, _ in uses_through_calls(arg, functions)} for arg in given}
    return sum(type_bytes(arg.type, 1) for arg in given if readers[arg] != {ternary.AttentionOp})


def op_cost(op: Operation, rows: int, weights: set[SSAValue]) -> Cost:
    """The cost of one run of `op` with what is inside its regions; `weights`: the values that are weights as stored."""
    traffic = _activation_bytes(op, rows, weights)
    match op:
        case ternary.LoadOp():
            return Cost(weights=_load_bytes(op, rows))
        case func.CallOp() | arith.ConstantOp() | tensor.EmptyOp():
            return Cost()
        case _ if op.name in VIEWS or op.has_trait(IsTerminator, value_if_unregistered=False):
            return Cost()
        case ternary.ProjectOp():
            return _project(op, rows) + Cost(activations=traffic)
        case ternary.AttentionOp():
            return _attention(op, rows)
        case ternary.ElementwiseOp():
            return _region(op.body.block) * _elements(op.outs[0], rows) + Cost(activations=traffic)
        case ReduceOp():
            folded = _elements(op.operands[0], rows) - _elements(op.results[0], rows)
            return _region(op.region.block) * max(folded, 0) + Cost(activations=traffic)
        case MatmulOp():
            inner = _dims(op.inputs[0].type, rows)[-1]
            products = _elements(op.results[0], rows) * inner
            return Cost(products, products, activations=traffic)
        case _:
            return _arithmetic(op, rows) + Cost(activations=traffic)


def _arithmetic(op: Operation, rows: int) -> Cost:
    """Ops of the ternary dialect, by the formulas in their docstrings, and elementwise arith and math."""
    match op:
        case ternary.AccumulateOp() | ternary.ConvolveOp():
            return Cost(additions=_elements(op.acc, rows) * _dims(op.w.type, rows)[1])
        case ternary.DequantizeOp():
            return Cost(
                multiplications=_elements(op.step, rows) + _elements(op.acc, rows),
                other=_elements(op.acc, rows),
            )
        case ternary.ThresholdOp():
            compared = _elements(op.x, rows) * _dims(op.thresholds.type, rows)[1]
            return Cost(additions=compared, other=compared)
        case ternary.RmsNormOp():
            n, t = _elements(op.x, rows), _row_count(op.x, rows)
            return Cost(additions=n + t, multiplications=3 * n, other=3 * t)
        case ternary.QuantizeOp():
            n, t = _elements(op.x, rows), _row_count(op.x, rows)
            return Cost(multiplications=n, other=5 * n + 3 * t)
        case ternary.NormQuantizeOp():
            return _norm_quantize(op, rows)
        case ternary.RotateOp():
            n = _elements(op.x, rows)
            return Cost(additions=n, multiplications=2 * n)
        case ternary.ScanOp():
            n = _elements(op.i, rows)
            return Cost(additions=n, multiplications=n)
        case ternary.AbsmeanOp():
            n = _elements(op.w, rows)
            return Cost(additions=n, multiplications=n, other=4 * n + 3)
        case ternary.TernarizeOp():
            return Cost(other=_elements(op.w, rows))
        case _ if op.name.startswith(("arith.", "math.")) and op.results:
            return _scalar(op) * _elements(op.results[0], rows)
        case _:
            return Cost()


def _attention(op: ternary.AttentionOp, rows: int) -> Cost:
    """Of a text that begins here: row t reads t + 1 rows of keys and of values, whatever the cache could hold."""
    t, width = _dims(op.q.type, rows)
    seen = t * (t + 1) // 2
    pairs, products = seen * op.heads.value.data, 2 * seen * width
    own = sum(type_bytes(value.type, rows) for value in (op.q, op.k, op.v, op.result))
    cached = 2 * (seen + t) * type_bytes(op.k.type, 1)
    scores = Cost(additions=2 * pairs, multiplications=pairs, other=2 * pairs + t * width)
    return scores + Cost(additions=products, multiplications=products, activations=own + cached)


def _norm_quantize(op: ternary.NormQuantizeOp, rows: int) -> Cost:
    n, t, gains = _elements(op.x, rows), _row_count(op.x, rows), len(op.gains)
    norm = Cost(additions=n + t, multiplications=n, other=3 * t)
    if op.outer is not None:
        # sum((x a)^2), then r from it: one more mean, root and reciprocal, and r_o^2 * ..., r_o * ...
        norm += Cost(additions=n + t, multiplications=2 * n + 3 * t, other=3 * t)
    # y = x g and y * (r * (127 / d)); |y|, max, round and a clamp of two comparisons; d and step.
    each = Cost(multiplications=2 * n + 2 * t, other=5 * n + 3 * t)
    return norm + each * gains


def _project(op: ternary.ProjectOp, rows: int) -> Cost:
    elements, t = _elements(op.outs[0], rows), _row_count(op.outs[0], rows)
    accumulate = sum(t * prod(_dims(weight.type, rows)) for weight in op.weights)
    count = len(op.weights)
    rescale = Cost(multiplications=count * (t + elements), other=count * elements)
    return Cost(additions=accumulate) + rescale + _region(op.body.block) * elements


def _region(block: Block) -> Cost:
    """One run of a region on scalars."""
    return sum((_scalar(op) for op in block.ops), Cost())


def _scalar(op: Operation) -> Cost:
    if op.name in ADDITIONS:
        return Cost(additions=1)
    if op.name in MULTIPLICATIONS:
        return Cost(multiplications=1)
    if op.name == "math.fma":
        return Cost(additions=1, multiplications=1)
    if op.name.startswith(("arith.", "math.")) and op.name != "arith.constant":
        return Cost(other=1)
    return Cost()


def _load_bytes(load: ternary.LoadOp, rows: int) -> dict[str, int]:
    """Bytes that a run reads of the weight: all of it, or one row a token where only an embedding looks rows up."""
    type = ternary.tensor(load.result)
    if users := [use.operation for use in load.result.uses]:
        looked_up = [
            user for user in users if isinstance(user, ternary.EmbeddingOp) and user.table is load.result
        ]
        if len(looked_up) == len(users):
            row = type_bytes(TensorType(type.element_type, type.get_shape()[1:]), rows)
            return {encoding_name(type): row * sum(_elements(user.tokens, rows) for user in looked_up)}
    return {encoding_name(type): type_bytes(type, rows)}


def encoding_name(type: TensorType[Attribute]) -> str:
    if encoding := encoding_of(type):
        return encoding.format.data
    match type.element_type:
        case TritType() | BitType():
            return type.element_type.name.removeprefix("ternary.")
        case element:
            return str(element)


def type_bytes(type: Attribute, rows: int) -> int:
    """Bytes of a value without alignment; of an encoded weight with the padding of its tiles."""
    if not isinstance(type, TensorType):
        return _element_bytes(type)
    tensor_type = cast(TensorType[Attribute], type)
    shape = _dims(tensor_type, rows)
    if (encoding := encoding_of(tensor_type)) and len(shape) == 2:
        return encoding.packed_bytes(*shape)
    return prod(shape) * _element_bytes(tensor_type.element_type)


def _element_bytes(type: Attribute) -> int:
    match type:
        case TritType() | BitType():
            return 1
        case IndexType():
            return 8
        case FixedBitwidthType():
            return ceil(type.bitwidth / 8)
        case _:
            return 0


def _activation_bytes(op: Operation, rows: int, weights: set[SSAValue]) -> int:
    tensors = [value for value in (*op.operands, *op.results) if isinstance(value.type, TensorType)]
    return sum(type_bytes(value.type, rows) for value in tensors if value not in weights)


def _dims(type: Attribute, rows: int) -> tuple[int, ...]:
    if not isinstance(type, TensorType):
        return ()
    return tuple(rows if size == DYNAMIC_INDEX else size for size in type.get_shape())


def _elements(value: SSAValue, rows: int) -> int:
    return prod(_dims(value.type, rows))


def _row_count(value: SSAValue, rows: int) -> int:
    return prod(_dims(value.type, rows)[:-1])


def _top_level(function: func.FuncOp) -> Iterator[Operation]:
    """The ops that run one after the other; what is in their regions belongs to them."""
    for block in function.body.blocks:
        yield from block.ops


def _calls(functions: Mapping[str, func.FuncOp]) -> list[tuple[func.FuncOp, func.CallOp, func.FuncOp]]:
    """(caller, call, callee) for every call between the functions of a module."""
    return [
        (caller, op, functions[name])
        for caller in functions.values()
        for op in _top_level(caller)
        if isinstance(op, func.CallOp) and (name := op.callee.string_value()) in functions
    ]


def _runs(functions: Mapping[str, func.FuncOp]) -> dict[func.FuncOp, int]:
    """How often one run of the module runs each function: those that nobody calls run once."""
    callers: dict[func.FuncOp, list[func.FuncOp]] = {function: [] for function in functions.values()}
    for caller, _, callee in _calls(functions):
        callers[callee].append(caller)
    runs: dict[func.FuncOp, int] = {}

    def count(function: func.FuncOp, above: frozenset[func.FuncOp]) -> int:
        # A program that calls itself has no fixed cost: the inner call counts as none.
        if function in above:
            return 0
        if function not in runs:
            calls = callers[function]
            runs[function] = sum(count(caller, above | {function}) for caller in calls) if calls else 1
        return runs[function]

    for function in functions.values():
        count(function, frozenset())
    return runs


def _weight_values(functions: Mapping[str, func.FuncOp]) -> set[SSAValue]:
    """Values that are weights as they lie in the store: loads, and arguments that every call gives one."""
    weights: set[SSAValue] = {
        op.results[0]
        for function in functions.values()
        for op in _top_level(function)
        if isinstance(op, ternary.LoadOp)
    }
    calls = _calls(functions)
    given: dict[BlockArgument, list[SSAValue]] = {}
    for _, call, callee in calls:
        if callee.body.blocks:
            for argument, value in zip(callee.body.block.args, call.operands, strict=False):
                given.setdefault(argument, []).append(value)
    grew = True
    while grew:
        more = {
            argument for argument, values in given.items() if all(value in weights for value in values)
        } - weights
        weights |= more
        grew = bool(more)
    return weights
