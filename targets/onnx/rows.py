"""The ternary dialect's row operations as ONNX nodes: the formulas of their docstrings, operation by operation.

Integers are identical to the interpreter's. Floats are computed in the same order but for sums over a row, whose order
a runtime chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import TensorProto, helper
from xdsl.dialects.builtin import f32
from xdsl.ir import Attribute, Block, Operation, SSAValue

from sterna.dialects import ternary
from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import tensor
from sterna.targets.onnx.graph import Graph
from sterna.targets.onnx.scalars import SCALARS, Values

Results = Sequence[str]
RowEmitter = Callable[[Graph, Operation, Values], Results]


def rank(value: SSAValue) -> int:
    return tensor(value).get_num_dims()


def embedding(graph: Graph, op: ternary.EmbeddingOp, tokens: str, table: str) -> Results:
    rows = graph.node("Gather", table, tokens, axis=0)
    return (rows if tensor(op.table).element_type == f32 else graph.cast(rows, TensorProto.FLOAT),)


def reciprocal(graph: Graph, value: str) -> str:
    return graph.node("Div", graph.float(1.0), value)


def mean_square(graph: Graph, x: str, columns: int) -> str:
    """Over the last axis, which stays with size 1."""
    total = graph.node("ReduceSum", graph.node("Mul", x, x), graph.integers([-1]), keepdims=1)
    return graph.node("Div", total, graph.float(columns))


def reciprocal_rms(graph: Graph, mean: str, eps: float) -> str:
    return reciprocal(graph, graph.node("Sqrt", graph.node("Add", mean, graph.float(eps))))


def rms_norm(graph: Graph, op: ternary.RmsNormOp, x: str, weight: str) -> Results:
    mean = mean_square(graph, x, tensor(op.x).get_shape()[-1])
    normed = graph.node("Mul", x, reciprocal_rms(graph, mean, op.eps.value.data))
    return (graph.node("Mul", normed, weight),)


def absmax(graph: Graph, x: str) -> str:
    return graph.node("ReduceMax", graph.node("Abs", x), graph.integers([-1]), keepdims=1)


def round_to_int8(graph: Graph, x: str) -> str:
    """NaN becomes 0."""
    clipped = graph.node("Clip", graph.node("Round", x), graph.float(-128.0), graph.float(127.0))
    numbers = graph.node("Where", graph.node("IsNaN", clipped), graph.float(0.0), clipped)
    return graph.cast(numbers, TensorProto.INT8)


def quantize(graph: Graph, op: ternary.QuantizeOp, x: str) -> Results:
    largest = graph.node("Max", absmax(graph, x), graph.float(op.eps.value.data))
    q = round_to_int8(graph, graph.node("Mul", x, graph.node("Div", graph.float(127.0), largest)))
    step = graph.node("Div", largest, graph.float(127.0))
    return q, graph.squeeze(step, -1)


def norm_quantize(graph: Graph, op: ternary.NormQuantizeOp, x: str, *others: str) -> Results:
    columns = tensor(op.x).get_shape()[-1]
    mean, gains = mean_square(graph, x, columns), others
    if op.outer is None:
        r = reciprocal_rms(graph, mean, op.eps.value.data)
    else:
        outer, *gains = others
        assert op.outer_eps is not None
        r_outer = reciprocal_rms(graph, mean, op.outer_eps.value.data)
        inner = mean_square(graph, graph.node("Mul", x, outer), columns)
        squared = graph.node("Mul", graph.node("Mul", r_outer, r_outer), inner)
        r = graph.node("Mul", r_outer, reciprocal_rms(graph, squared, op.eps.value.data))
    quantized: list[str] = []
    steps: list[str] = []
    for gain in gains:
        y = graph.node("Mul", x, gain)
        scaled = graph.node("Mul", absmax(graph, y), r)
        largest = graph.node("Max", scaled, graph.float(op.quantize_eps.value.data))
        factor = graph.node("Mul", r, graph.node("Div", graph.float(127.0), largest))
        quantized.append(round_to_int8(graph, graph.node("Mul", y, factor)))
        steps.append(graph.squeeze(graph.node("Div", largest, graph.float(127.0)), -1))
    return *quantized, *steps


def product(
    graph: Graph, x: str, rows: Sequence[int], element: Attribute, w: SSAValue, trits: str, groups: int
) -> str:
    """x, `[*rows, groups * K]` of that element, times the transposed trits: int32, or float32 as x is."""
    channels, columns = tensor(w).get_shape()
    right = graph.reshape(trits, (groups, channels // groups, columns)) if groups > 1 else trits
    right = graph.node("Transpose", right, perm=[0, 2, 1] if groups > 1 else [1, 0])
    if element == f32:
        name, right = "MatMul", graph.cast(right, TensorProto.FLOAT)
    else:
        name = "MatMulInteger"
    if groups == 1:
        # MatMulInteger has no one-dimensional form in ONNX Runtime.
        left = graph.unsqueeze(x, 0) if not rows else x
        result = graph.node(name, left, right)
        return graph.squeeze(result, 0) if not rows else result
    left = graph.unsqueeze(graph.reshape(x, (*rows, groups, columns)), -2)
    return graph.reshape(graph.node(name, left, right), (*rows, channels))


def rows_by_trits(graph: Graph, x: SSAValue, value: str, w: SSAValue, trits: str, groups: int = 1) -> str:
    type = tensor(x)
    return product(graph, value, type.get_shape()[:-1], type.element_type, w, trits, groups)


def accumulate(graph: Graph, op: ternary.AccumulateOp, x: str, w: str) -> Results:
    return (rows_by_trits(graph, op.x, x, op.w, w, op.group_count),)


def rescale(graph: Graph, acc: str, step: str, scale: str, step_rank: int) -> str:
    """f32(acc) * (step * scale), the step being one of a row."""
    column = graph.unsqueeze(step, -1) if step_rank else step
    return graph.node("Mul", graph.cast(acc, TensorProto.FLOAT), graph.node("Mul", column, scale))


def dequantize(graph: Graph, op: ternary.DequantizeOp, acc: str, step: str, scale: str) -> Results:
    return (rescale(graph, acc, step, scale, rank(op.step)),)


def threshold(graph: Graph, op: ternary.ThresholdOp, x: str, thresholds: str) -> Results:
    reached = graph.node("GreaterOrEqual", graph.unsqueeze(x, -1), thresholds)
    counted = graph.node(
        "ReduceSum", graph.cast(reached, TensorProto.INT32), graph.integers([-1]), keepdims=0
    )
    levels = graph.node("Add", counted, graph.constant(np.array(op.base.value.data, np.int32)))
    return (graph.cast(levels, TensorProto.INT8),)


def scan(graph: Graph, op: ternary.ScanOp, f: str, i: str, init: str) -> Results:
    """Scan over the rows: its body is s = f * s + i."""
    columns = tensor(op.init).get_shape()
    row = [helper.make_tensor_value_info(name, TensorProto.FLOAT, columns) for name in ("s", "f", "i")]
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["f", "s"], ["kept"]),
            helper.make_node("Add", ["kept", "i"], ["next"]),
            helper.make_node("Identity", ["next"], ["state"]),
        ],
        "recurrence",
        row,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, columns) for name in ("next", "state")],
    )
    last, states = graph.nodes_of("Scan", [init, f, i], 2, body=body, num_scan_inputs=2)
    return states, last


def region(graph: Graph, block: Block, arguments: Values) -> Results:
    """The scalar region of an op on whole tensors, which broadcast against one another."""
    values: dict[SSAValue, str] = dict(zip(block.args, arguments, strict=True))
    for op in block.ops:
        operands = [values[operand] for operand in op.operands]
        if op is block.last_op:
            return operands
        if (emit := SCALARS.get(type(op))) is None:
            raise CompileError(f"{op.name} has no ONNX form", op.location)
        values[op.results[0]] = emit(graph, op, operands)
    raise AssertionError("a region ends in a terminator")


def whole(graph: Graph, op: Operation, values: Results) -> Results:
    """Every result at its full shape, even where the region used no input of that shape."""
    return [
        graph.expand(value, tensor(result).get_shape())
        for value, result in zip(values, op.results, strict=True)
    ]


def elementwise(graph: Graph, op: ternary.ElementwiseOp, *inputs: str) -> Results:
    return whole(graph, op, region(graph, op.body.block, inputs))


def project(graph: Graph, op: ternary.ProjectOp, *inputs: str) -> Results:
    names = dict(zip(op.operands, inputs, strict=True))
    values: list[str] = []
    for w, scale, read in zip(op.weights, op.scales, op.reads.get_values(), strict=True):
        q, step = op.q[read], op.steps[read]
        acc = rows_by_trits(graph, q, names[q], w, names[w])
        values.append(rescale(graph, acc, names[step], names[scale], rank(step)))
    extras = [names[extra] for extra in op.extras]
    return whole(graph, op, region(graph, op.body.block, [*values, *extras]))
