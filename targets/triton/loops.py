"""Kernels of parallel loops over tensors of any rank: a program takes a run of 1024 elements of the result, in
row-major order, and finds from each one's number where it stands along every axis.

`ternary.elementwise` with any broadcast, `linalg.generic` without a reduction, `arith` and `math` on whole tensors,
constants, broadcasts, transposes, reshapes, slices, thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, f32, i1, i8
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.ir import Attribute, Operation, SSAValue

from sterna.dialects.contraction import loops_of
from sterna.dialects.errors import CompileError
from sterna.dialects.layout import I8_ROW_BYTES, ROW_ELEMENTS
from sterna.dialects.ternary import AttentionOp, ElementwiseOp, PositionsOp, RotateOp, ThresholdOp
from sterna.dialects.ternary import tensor as type_of
from sterna.targets.triton.attention import emit_attention
from sterna.targets.triton.contraction import DenseProduct, emit_dense
from sterna.targets.triton.kernel import Builder, Host, Shape, default_name, element, place, product_text
from sterna.targets.triton.positions import emit_positions, emit_rotate
from sterna.targets.triton.region import Region, full

BLOCK = 1024

Sizes = Sequence[int | None]


class Loops:
    """The kernel of an operation whose results have `sizes`, being written."""

    def __init__(self, op: Operation, host: Host, sizes: Sizes, block: int = BLOCK) -> None:
        self.op, self.host, self.sizes, self.block = op, host, sizes, block
        self.builder = b = Builder(default_name(op), host)
        b.doc += [place(op)]
        b.names.taken |= {"n", "inside"}
        b.lines += [
            f"n = tl.program_id(0).to(tl.int64) * {block} + tl.arange(0, {block})",
            f"inside = n < {self.size_text(sizes)}",
        ]
        self.along = self.coordinates("n", sizes)

    def size_text(self, sizes: Sizes) -> str:
        rows = self.builder.rows() if None in sizes else "rows"
        return product_text(sizes, rows)

    def coordinates(self, number: str, sizes: Sizes) -> list[str]:
        """Where the element of that number stands along each axis."""
        found: list[str] = []
        for axis, size in enumerate(sizes):
            inner = self.size_text(sizes[axis + 1 :])
            text = number if inner == "1" else f"{number} // ({inner})"
            if axis:
                text = f"({text}) % {self.builder.rows() if size is None else size}"
            found.append(self.builder.assign("i", text))
        return found

    def at(self, value: SSAValue, coordinates: Sequence[str], name: str = "x") -> str:
        """The address of an element, as `dialects/layout.py` has it."""
        pointer = self.builder.pointer(value, name, self.op)
        shape = Shape.of(value)
        if not shape.sizes:
            return f"{pointer} + n * 0"
        row = str(shape.row) if shape.row is not None else self.padded_rows(value)
        terms = [coordinates[-1]]
        for axis in range(len(shape.sizes) - 1):
            between = self.size_text(shape.sizes[axis + 1 : -1])
            stride = row if between == "1" else f"({row} * {between})"
            terms.append(f"{coordinates[axis]} * {stride}")
        return f"{pointer} + {' + '.join(terms)}"

    def padded_rows(self, value: SSAValue) -> str:
        """Elements from one row to the next where a row is T long."""
        multiple = I8_ROW_BYTES if element(value, self.op) == i8 else ROW_ELEMENTS
        return f"(({self.builder.rows()} + {multiple - 1}) // {multiple} * {multiple})"

    def load(
        self, value: SSAValue, coordinates: Sequence[str], *, mask: str = "inside", name: str = "x"
    ) -> str:
        text = f"tl.load({self.at(value, coordinates, name)}, mask={mask}, other=0)"
        if type_of(value).element_type == i1:
            text += " != 0"
        return self.builder.assign("element", text)

    def store(self, value: SSAValue, text: str) -> None:
        self.host.allocate(value)
        self.builder.lines.append(f"tl.store({self.at(value, self.along, 'out')}, {text}, mask=inside)")

    def launch(self) -> None:
        b = self.builder
        total = product_text(self.sizes, "batch.rows")
        self.host.launch(b.kernel(), f"(triton.cdiv({total}, {self.block}),)", b.all_arguments())

    def region(self) -> Region:
        region = self.builder.region()
        region.number = lambda loop: self.along[loop]
        return region


def scalar_text(value: SSAValue, op: Operation) -> str:
    """A number that is known when the kernel is printed."""
    if isinstance(value.owner, arith.ConstantOp):
        return full(value.owner)
    raise CompileError("the GPU target takes no number that another operation computes", op.location)


def emit_elementwise(op: ElementwiseOp, host: Host) -> None:
    loops = Loops(op, host, Shape.of(op.outs[0]).sizes)
    values = [
        loops.load(value, [loops.along[axis] for axis in axes])
        for value, axes in zip(op.inputs, op.input_axes(), strict=True)
    ]
    finish(loops, op.outs, loops.region().run(op.body.block, values))


def finish(loops: Loops, outs: Sequence[SSAValue], texts: Sequence[str]) -> None:
    for value, text in zip(outs, texts, strict=True):
        loops.store(
            value, f"tl.broadcast_to({text}, [{loops.block}])" if text.startswith("tl.full") else text
        )
    loops.launch()


def emit_matmul(op: linalg.MatmulOp, host: Host) -> None:
    if (product := DenseProduct.of(op)) is None:
        raise CompileError("the GPU target has products of matrices of float32 alone", op.location)
    emit_dense(op, product, host)


def emit_generic(op: linalg.GenericOp, host: Host) -> None:
    if len(op.inputs) == 2 and (product := DenseProduct.of(op)) is not None:
        emit_dense(op, product, host)
        return
    maps = [loops_of(each.data) for each in op.indexing_maps]
    if any(kind.data != IteratorType.PARALLEL for kind in op.iterator_types) or None in maps:
        raise CompileError("the GPU target has no kernel for a linalg.generic that reduces", op.location)
    shape = Shape.of(op.results[0])
    out = maps[len(op.inputs)]
    assert out is not None
    # Loop number out[axis] runs along that axis of the result.
    loops = Loops(op, host, shape.sizes)
    along = [loops.along[out.index(loop)] for loop in range(len(out))]
    values: list[str] = []
    for value, map, argument in zip(op.operands, maps, op.body.block.args, strict=True):
        if not argument.uses:
            values.append("0")
        elif Shape.of(value).sizes or map is not None:
            values.append(loops.load(value, [along[loop] for loop in map or ()]))
    region = loops.region()
    region.number = lambda loop: along[loop]
    finish(loops, op.results, region.run(op.body.block, values))


def emit_tensors(op: Operation, host: Host) -> None:
    """An operation of `arith` or `math` on whole tensors."""
    loops = Loops(op, host, Shape.of(op.results[0]).sizes)
    region = loops.region()
    for value in op.operands:
        if is_tensor(value.type):
            region.values[value] = loops.load(value, loops.along)
    text = region.expression(op)
    finish(loops, op.results, [loops.builder.assign("value", text)])


def is_tensor(type: Attribute) -> bool:
    return hasattr(type, "get_shape")


def emit_filled(op: linalg.FillOp | tensor.SplatOp, host: Host) -> None:
    loops = Loops(op, host, Shape.of(op.results[0]).sizes)
    finish(loops, op.results, [scalar_text(op.operands[0], op)])


def emit_moved(op: linalg.BroadcastOp | linalg.TransposeOp, host: Host) -> None:
    loops = Loops(op, host, Shape.of(op.results[0]).sizes)
    rank = len(loops.along)
    if isinstance(op, linalg.BroadcastOp):
        axes = [axis for axis in range(rank) if axis not in op.dimensions.get_values()]
        coordinates = [loops.along[axis] for axis in axes]
    else:
        # Axis n of the result is axis permutation[n] of the source.
        permutation = op.permutation.get_values()
        coordinates = [loops.along[permutation.index(axis)] for axis in range(rank)]
    finish(loops, op.results, [loops.load(op.operands[0], coordinates)])


def emit_reshape(op: Operation, host: Host) -> None:
    """The same elements in the same order."""
    loops = Loops(op, host, Shape.of(op.results[0]).sizes)
    source = op.operands[0]
    finish(loops, op.results, [loops.load(source, loops.coordinates("n", Shape.of(source).sizes))])


def emit_extract_slice(op: tensor.ExtractSliceOp, host: Host) -> None:
    offsets, steps, sizes = (
        [int(number) for number in array.get_values()]
        for array in (op.static_offsets, op.static_strides, op.static_sizes)
    )
    if DYNAMIC_INDEX in offsets or DYNAMIC_INDEX in steps:
        raise CompileError("the GPU target has no slice at an offset that is computed", op.location)
    loops = Loops(op, host, Shape.of(op.result).sizes)
    # Axes of size 1 that the result lacks.
    kept = iter(loops.along)
    dropped = len(sizes) - len(loops.along)
    coordinates: list[str] = []
    for offset, step, size in zip(offsets, steps, sizes, strict=True):
        if dropped and size == 1:
            dropped -= 1
            coordinates.append(str(offset))
        else:
            coordinates.append(f"({next(kept)} * {step} + {offset})")
    finish(loops, [op.result], [loops.load(op.source, coordinates)])


def emit_threshold(op: ThresholdOp, host: Host) -> None:
    loops = Loops(op, host, Shape.of(op.result).sizes)
    b = loops.builder
    x = loops.load(op.x, loops.along)
    count = type_of(op.thresholds).get_shape()[1]
    level = b.assign("level", f"tl.full([{BLOCK}], {op.base.value.data}, tl.int32)")
    at = loops.at(op.thresholds, [loops.along[-1], "j"], "thresholds")
    b.lines += [
        f"for j in range({count}):",
        f"    {level} += ({x} >= tl.load({at}, mask=inside, other=0)).to(tl.int32)",
    ]
    finish(loops, [op.result], [f"{level}.to(tl.int8)"])


def emit_reduce(op: linalg.ReduceOp, host: Host) -> None:
    """float32 sums in 16 lanes, as the IR says; anything else in the order of index, from the initial value on."""
    source, init, block = op.input, op.init, op.region.block
    sizes, reduced = Shape.of(source).sizes, list(op.dimensions.get_values())
    loops = Loops(op, host, Shape.of(op.results[0]).sizes, block=64)
    b, inner = loops.builder, [sizes[axis] for axis in reduced]
    first = block.first_op
    in_lanes = isinstance(first, arith.AddfOp) and first.result.type == f32
    total = loops.load(init, loops.along, name="init")
    length = loops.size_text(inner)
    spread = "[:, None]" if in_lanes else ""
    before = len(b.lines)
    number = "(start + lane)[None, :]" if in_lanes else "start"
    along = iter([f"{name}{spread}" for name in loops.along])
    within = iter(loops.coordinates(number, inner))
    coordinates = [next(within) if axis in reduced else next(along) for axis in range(len(sizes))]
    mask = f"inside{spread}" + (f" & ({number} < {length})" if in_lanes else "")
    value = loops.load(source, coordinates, mask=mask)
    partial = b.names.new("partial")
    if in_lanes:
        b.lines.append(f"{partial} += {value}")
    else:
        region = b.region()
        (found,) = region.run(block, [value, total])
        b.lines.append(f"{total} = {found}")
    lines, b.lines[before:] = b.lines[before:], []
    if in_lanes:
        b.lines += ["lane = tl.arange(0, 16)", f"{partial} = tl.zeros([64, 16], tl.float32)"]
    b.lines.append(f"for start in range(0, {length}{', 16' if in_lanes else ''}):")
    b.lines += [f"    {line}" for line in lines]
    text = f"{total} + {b.call('halving_trees', partial, '16')}" if in_lanes else total
    finish(loops, op.results, [text])


Emit = Callable[[Any, Host], None]

LOOPS: dict[type[Operation], Emit] = {
    AttentionOp: emit_attention,
    ElementwiseOp: emit_elementwise,
    PositionsOp: emit_positions,
    RotateOp: emit_rotate,
    ThresholdOp: emit_threshold,
    linalg.BroadcastOp: emit_moved,
    linalg.FillOp: emit_filled,
    linalg.GenericOp: emit_generic,
    linalg.MatmulOp: emit_matmul,
    linalg.ReduceOp: emit_reduce,
    linalg.TransposeOp: emit_moved,
    tensor.CastOp: emit_reshape,
    tensor.CollapseShapeOp: emit_reshape,
    tensor.ExpandShapeOp: emit_reshape,
    tensor.ExtractSliceOp: emit_extract_slice,
    tensor.ReshapeOp: emit_reshape,
    tensor.SplatOp: emit_filled,
}


def emitter_of(op: Operation) -> Emit | None:
    """What prints the kernel of an operation on tensors; None for one that has none here."""
    if type(op) in LOOPS:
        return LOOPS[type(op)]
    if op.name.startswith(("arith.", "math.")) and op.results and is_tensor(op.results[0].type):
        return emit_tensors
    return None
