"""From a fused program to an ONNX model: operation by operation, each weight evaluated once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import ModelProto, ValueInfoProto, helper
from xdsl.dialects import func
from xdsl.dialects import tensor as tensor_dialect
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Operation, SSAValue

from sterna.dialects import ternary
from sterna.dialects.elements import dtype_of
from sterna.dialects.encodings import is_trits
from sterna.dialects.errors import CompileError, describe_location
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.weights import WeightStore
from sterna.passes.derived_weights import weight_name
from sterna.targets import TO_FUSED
from sterna.targets.interface import EntryValue, dtype_name, entry_values, find_entry
from sterna.targets.onnx import rows, structure, windows
from sterna.targets.onnx.graph import ROWS, Graph
from sterna.targets.onnx.initializers import TYPES, Initializers
from sterna.targets.onnx.scalars import SCALARS
from sterna.targets.program import DYNAMIC

Progress = Callable[[str, int, int], None]
"""Told what is being done, the steps done, and the steps in all."""

OPSET = 25
"""The first opset with INT2."""

IR_VERSION = 13

PIPELINE = (*TO_FUSED,)
"""The passes before an export: what they leave is small, and has `math.exp` and not its polynomial."""

EMITTERS: dict[type[Operation], Callable[..., Sequence[str]]] = {
    ternary.EmbeddingOp: rows.embedding,
    ternary.RmsNormOp: rows.rms_norm,
    ternary.QuantizeOp: rows.quantize,
    ternary.NormQuantizeOp: rows.norm_quantize,
    ternary.AccumulateOp: rows.accumulate,
    ternary.DequantizeOp: rows.dequantize,
    ternary.ThresholdOp: rows.threshold,
    ternary.ScanOp: rows.scan,
    ternary.ElementwiseOp: rows.elementwise,
    ternary.ProjectOp: rows.project,
    ternary.WindowsOp: windows.windows,
    ternary.ConvolveOp: windows.convolve,
    ternary.GatherOp: structure.gather,
    ternary.TopKOp: structure.top_k,
    tensor_dialect.SplatOp: structure.splat,
    tensor_dialect.EmptyOp: structure.empty,
    tensor_dialect.FromElementsOp: structure.from_elements,
    tensor_dialect.DimOp: structure.dim,
    tensor_dialect.CastOp: structure.identity,
    tensor_dialect.ReshapeOp: structure.reshape,
    tensor_dialect.ExpandShapeOp: structure.reshape,
    tensor_dialect.CollapseShapeOp: structure.reshape,
    tensor_dialect.ConcatOp: structure.concat,
    tensor_dialect.ExtractSliceOp: structure.extract_slice,
    tensor_dialect.InsertSliceOp: structure.insert_slice,
    tensor_dialect.PadOp: structure.pad,
    linalg.FillOp: structure.fill,
    linalg.BroadcastOp: structure.broadcast,
    linalg.TransposeOp: structure.transpose,
    linalg.MatmulOp: structure.matmul,
    linalg.ReduceOp: structure.reduce,
    linalg.GenericOp: structure.generic,
}
"""What makes nodes of an operation: a function of the graph, the operation and the names of its operands."""


def to_onnx(
    module: ModuleOp, weights: WeightStore, initializers: Initializers, progress: Progress
) -> ModelProto:
    """The model that computes what the fused module does; CompileError lists all operations without an ONNX form."""
    entry = find_entry(module)
    check_exportable(entry)
    graph, interpreter = Graph(initializers), ModuleInterpreter(module, weights)
    inputs, outputs = entry_values(entry, "input"), entry_values(entry, "output")
    values: dict[SSAValue, str] = {}
    for port in inputs:
        name = graph.name(port.name)
        given = name if port.given_dtype is None else graph.cast(name, TYPES[dtype_name(port.value)])
        values[port.value] = graph.squeeze(given, *_unit_axes(port))
        if graph.rows is None and DYNAMIC in port.shape:
            axis = port.shape.index(DYNAMIC)
            graph.rows = graph.node("Shape", name, start=axis, end=axis + 1)
    ops = list(entry.body.block.ops)
    for number, op in enumerate(ops):
        progress("exporting", number, len(ops))
        graph.place = describe_location(op.location)
        _emit(graph, op, values, interpreter)
    graph.place = ""
    names = [_return(graph, port, values[port.value]) for port in outputs]
    proto = graph.proto(
        "sterna",
        [_value_info(port.name, port) for port in inputs],
        [_value_info(name, port) for name, port in zip(names, outputs, strict=True)],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name="sterna")


def check_exportable(entry: func.FuncOp) -> None:
    """CompileError for all operations at once that have no ONNX form."""
    lacking = [
        f"{describe_location(op.location)} {op.name}".strip()
        for op in entry.body.block.ops
        if (type(op) not in EMITTERS | SCALARS or ternary.is_fixed_point(op))
        and not isinstance(op, ternary.LoadOp | func.ReturnOp)
    ]
    if lacking:
        raise CompileError(
            f"{len(lacking)} operations have no ONNX form: {'; '.join(dict.fromkeys(lacking))}"
        )


def _emit(graph: Graph, op: Operation, values: dict[SSAValue, str], interpreter: ModuleInterpreter) -> None:
    operands = [values[operand] for operand in op.operands]
    match op:
        case func.ReturnOp():
            return
        case ternary.LoadOp():
            results: Sequence[str] = [_load(graph, op, interpreter)]
        case _ if (emit := EMITTERS.get(type(op))) is not None:
            results = emit(graph, op, *operands)
        case _:
            results = [SCALARS[type(op)](graph, op, operands)]
    values.update(zip(op.results, results, strict=True))


def _load(graph: Graph, op: ternary.LoadOp, interpreter: ModuleInterpreter) -> str:
    name = weight_name(op.result)
    assert name is not None
    array = interpreter.weight(name)
    if is_trits(op.result.type):
        return graph.trits(graph.name(name), array.astype(np.int8, copy=False))
    return graph.initializer(graph.name(name), array.astype(dtype_of(op.result.type), copy=False))


def _return(graph: Graph, port: EntryValue, value: str) -> str:
    """Gives a result the framework's shape and a name: a state that was an input is now `next_` of that."""
    name = graph.name(port.name if graph.is_free(port.name) else f"next_{port.name}")
    full = graph.unsqueeze(value, *_unit_axes(port))
    if port.given_dtype is not None:
        full = graph.cast(full, TYPES[port.given_dtype])
    graph.nodes.append(helper.make_node("Identity", [full], [name]))
    return name


def _unit_axes(port: EntryValue) -> list[int]:
    """The framework's axes of size 1, which the program does not have."""
    return [axis for axis, size in enumerate(port.shape) if size == 1]


def _value_info(name: str, port: EntryValue) -> ValueInfoProto:
    sizes = [ROWS if size == DYNAMIC else size for size in port.shape]
    return helper.make_tensor_value_info(name, TYPES[port.given_dtype or dtype_name(port.value)], sizes)
