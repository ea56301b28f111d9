"""`linalg`, `tensor` and the dialect's indexing operations as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, IntegerType, f32, i32
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir.affine import AffineMap

from sterna.dialects import ternary
from sterna.dialects.contraction import loops_of, match_contraction
from sterna.dialects.elements import dtype_of
from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import tensor as type_of
from sterna.targets.onnx.graph import Graph, Shape
from sterna.targets.onnx.rows import Results, region
from sterna.targets.onnx.scalars import is_narrow, onnx_type
from sterna.targets.onnx.windows import numbers

REDUCTIONS: dict[type[Operation], tuple[str, str]] = {
    arith.AddfOp: ("ReduceSum", "Add"),
    arith.AddiOp: ("ReduceSum", "Add"),
    arith.MulfOp: ("ReduceProd", "Mul"),
    arith.MuliOp: ("ReduceProd", "Mul"),
    arith.MaximumfOp: ("ReduceMax", "Max"),
    arith.MaxSIOp: ("ReduceMax", "Max"),
    arith.MinimumfOp: ("ReduceMin", "Min"),
    arith.MinSIOp: ("ReduceMin", "Min"),
    arith.OrIOp: ("ReduceMax", "Max"),
    arith.AndIOp: ("ReduceMin", "Min"),
}
"""How a reduction with that operation runs, and how the initial value joins. Or and and: of booleans only."""


def shape_of(value: SSAValue) -> Shape:
    return type_of(value).get_shape()


def splat(graph: Graph, op: tensor.SplatOp, scalar: str, *sizes: str) -> Results:
    return (graph.expand(scalar, shape_of(op.result)),)


def empty(graph: Graph, op: tensor.EmptyOp, *sizes: str) -> Results:
    """Zeros, as the interpreter has them."""
    zero = graph.constant(np.zeros((), dtype_of(op.tensor.type)))
    return (graph.expand(zero, shape_of(op.tensor)),)


def from_elements(graph: Graph, op: tensor.FromElementsOp, *elements: str) -> Results:
    parts = [graph.reshape(element, (1,)) for element in elements]
    return (graph.reshape(graph.node("Concat", *parts, axis=0), shape_of(op.result)),)


def dim(graph: Graph, op: tensor.DimOp, source: str, axis: str) -> Results:
    return (graph.node("Gather", graph.node("Shape", source), axis),)


def identity(graph: Graph, op: Operation, *values: str) -> Results:
    return (values[0],)


def reshape(graph: Graph, op: Operation, source: str, *sizes: str) -> Results:
    return (graph.reshape(source, shape_of(op.results[0])),)


def concat(graph: Graph, op: tensor.ConcatOp, *values: str) -> Results:
    return (graph.node("Concat", *values, axis=op.dim.value.data),)


def extract_slice(graph: Graph, op: tensor.ExtractSliceOp, source: str, *dynamic: str) -> Results:
    starts, steps = _static(op, op.static_offsets), _static(op, op.static_strides)
    sizes = numbers(op.static_sizes)
    if any(
        size == DYNAMIC_INDEX and (start, step) != (0, 1)
        for size, start, step in zip(sizes, starts, steps, strict=True)
    ):
        raise CompileError("a slice of T elements that is not the whole axis has no ONNX form", op.location)
    axes = [axis for axis, size in enumerate(sizes) if size != DYNAMIC_INDEX]
    ends = [starts[a] + (sizes[a] - 1) * steps[a] + 1 if sizes[a] else starts[a] for a in axes]
    parts = [[starts[a] for a in axes], ends, axes, [steps[a] for a in axes]]
    sliced = graph.node("Slice", source, *(graph.integers(part) for part in parts))
    shape = shape_of(op.result)
    return (sliced if len(shape) == len(sizes) else graph.reshape(sliced, shape),)


def insert_slice(graph: Graph, op: tensor.InsertSliceOp, source: str, dest: str, *dynamic: str) -> Results:
    """Along each axis, every index of the destination looks up the source or keeps what is there."""
    shape, starts, steps = shape_of(op.result), _static(op, op.static_offsets), _static(op, op.static_strides)
    sizes = numbers(op.static_sizes)
    inside: list[str] = []
    value = graph.reshape(source, sizes)
    for axis, (size, start, step) in enumerate(zip(sizes, starts, steps, strict=True)):
        if size == DYNAMIC_INDEX or (size, start, step) == (shape[axis], 0, 1):
            continue
        places = np.arange(shape[axis]) - start
        hit = (places >= 0) & (places % step == 0) & (places < size * step)
        value = graph.node(
            "Gather", value, graph.integers(np.where(hit, places // step, 0).tolist()), axis=axis
        )
        mask = hit.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        inside.append(graph.constant(mask))
    for mask in inside:
        value = _where(graph, op.result.type, mask, value, dest)
    return (value,)


def _where(graph: Graph, type: Attribute, condition: str, a: str, b: str) -> str:
    if not is_narrow(type):
        return graph.node("Where", condition, a, b)
    wide = [graph.cast(value, TensorProto.INT32) for value in (a, b)]
    return graph.cast(graph.node("Where", condition, *wide), onnx_type(type))


def _static(op: Operation, offsets: DenseArrayBase[IntegerType]) -> tuple[int, ...]:
    if DYNAMIC_INDEX in numbers(offsets):
        raise CompileError(f"{op.name} at a place that is computed has no ONNX form here", op.location)
    return numbers(offsets)


def pad(graph: Graph, op: tensor.PadOp, source: str, *dynamic: str) -> Results:
    low, high = _static(op, op.static_low), _static(op, op.static_high)
    (number,) = region(graph, op.region.block, ["" for _ in op.region.block.args])
    return (graph.node("Pad", source, graph.integers([*low, *high]), number),)


def fill(graph: Graph, op: linalg.FillOp, value: str, out: str) -> Results:
    return (graph.expand(value, shape_of(op.results[0])),)


def broadcast(graph: Graph, op: linalg.BroadcastOp, value: str, out: str) -> Results:
    return (graph.expand(graph.unsqueeze(value, *numbers(op.dimensions)), shape_of(op.results[0])),)


def transpose(graph: Graph, op: linalg.TransposeOp, value: str, out: str) -> Results:
    return (graph.node("Transpose", value, perm=list(numbers(op.permutation))),)


def matmul(graph: Graph, op: linalg.MatmulOp, a: str, b: str, out: str) -> Results:
    left, right = (type_of(value).element_type for value in op.inputs)
    total = type_of(op.results[0]).element_type
    if left == right == total:
        product = graph.node("MatMul", a, b)
    else:
        product = graph.node("MatMul", *(graph.cast(value, onnx_type(total)) for value in (a, b)))
    return (graph.node("Add", out, product),)


def reduce(graph: Graph, op: linalg.ReduceOp, value: str, out: str) -> Results:
    combine: list[Operation] = [step for step in op.region.block.ops if not isinstance(step, linalg.YieldOp)]
    if len(combine) != 1 or (names := REDUCTIONS.get(type(combine[0]))) is None:
        raise CompileError("this reduction has no ONNX form", op.location)
    total_type = op.results[0].type
    narrow = is_narrow(total_type)
    if narrow:
        value, out = graph.cast(value, TensorProto.INT32), graph.cast(out, TensorProto.INT32)
    reduced = graph.node(names[0], value, graph.integers(numbers(op.dimensions)), keepdims=0)
    total = graph.node(names[1], out, reduced)
    return (graph.cast(total, onnx_type(total_type)) if narrow else total,)


def generic(graph: Graph, op: linalg.GenericOp, *operands: str) -> Results:
    maps = [map.data for map in op.indexing_maps]
    if (contraction := match_contraction(op)) is not None:
        return (_contract(graph, op, contraction.left, contraction.right, operands),)
    loops = len(op.iterator_types)
    if any(kind.data != IteratorType.PARALLEL for kind in op.iterator_types):
        raise CompileError("this linalg.generic has no ONNX form", op.location)
    if any(isinstance(step, linalg.IndexOp) for step in op.body.block.ops):
        raise CompileError("linalg.index has no ONNX form here", op.location)
    laid = [_lay(graph, value, map, loops) for value, map in zip(operands, maps, strict=True)]
    results: list[str] = []
    for value, map, result in zip(
        region(graph, op.body.block, laid), maps[len(op.inputs) :], op.results, strict=True
    ):
        order = _loops(map)
        extents = dict(zip(order, shape_of(result), strict=True))
        full = graph.expand(value, tuple(extents[loop] for loop in range(loops)))
        results.append(graph.node("Transpose", full, perm=list(order)))
    return results


def _loops(map: AffineMap) -> tuple[int, ...]:
    if (loops := loops_of(map)) is None:
        raise CompileError(f"the indexing map {map} is not a projection of the loops")
    return loops


def _lay(graph: Graph, value: str, map: AffineMap, loops: int) -> str:
    """An operand with one axis a loop, of size 1 where it does not depend on the loop."""
    order = _loops(map)
    sorted_axes = sorted(range(len(order)), key=lambda axis: order[axis])
    if sorted_axes != list(range(len(order))):
        value = graph.node("Transpose", value, perm=sorted_axes)
    return graph.unsqueeze(value, *(loop for loop in range(loops) if loop not in order))


def _contract(
    graph: Graph, op: linalg.GenericOp, left: Sequence[int], right: Sequence[int], operands: Sequence[str]
) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    terms = [
        "".join(letters[loop] for loop in loops)
        for loops in (left, right, _loops(op.indexing_maps.data[2].data))
    ]
    element = type_of(op.results[0]).element_type
    x, y, init = operands
    if element == f32:
        return graph.node(
            "Add", init, graph.node("Einsum", x, y, equation=f"{terms[0]},{terms[1]}->{terms[2]}")
        )
    # ONNX Runtime's Einsum computes these integers exactly.
    type = onnx_type(element if element != i32 else i32)
    wide = [graph.cast(value, type) for value in (x, y)]
    return graph.node("Add", init, graph.node("Einsum", *wide, equation=f"{terms[0]},{terms[1]}->{terms[2]}"))


def gather(graph: Graph, op: ternary.GatherOp, data: str, indices: str) -> Results:
    axis = op.axis.value.data
    wide = graph.cast(indices, TensorProto.INT64)
    count = graph.node("Gather", graph.node("Shape", data), graph.constant(np.array(axis, np.int64)))
    last = graph.node("Sub", count, graph.constant(np.array(1, np.int64)))
    inside = graph.node("Min", graph.node("Max", wide, graph.constant(np.array(0, np.int64))), last)
    return (graph.node("Gather", data, inside, axis=axis),)


def top_k(graph: Graph, op: ternary.TopKOp, x: str) -> Results:
    k = op.k.value.data
    values, indices = graph.nodes_of(
        "TopK", [x, graph.integers([k])], 2, axis=-1, largest=int(op.largest), sorted=1
    )
    if k == 1:
        return graph.squeeze(values, -1), graph.squeeze(indices, -1)
    return values, indices
