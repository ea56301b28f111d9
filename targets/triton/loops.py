"""Kernels of parallel loops over tensors of any rank: a program takes a run of 1024 elements of the result, in
row-major order, and finds from each one's number where it stands along every axis.

`ternary.elementwise` with any broadcast, `linalg.generic` without a reduction, `arith` and `math` on whole tensors,
constants, broadcasts, thresholds. What only moves elements is in `movement.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import tensor
from xdsl.dialects.builtin import TensorType
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import Operation, SSAValue

from sterna.dialects.contraction import loops_of
from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import DequantizeOp, ElementwiseOp, ThresholdOp
from sterna.dialects.ternary import tensor as type_of
from sterna.targets.triton.kernel import Builder, Host, Shape, default_name, place, product_text
from sterna.targets.triton.places import Places, Sizes
from sterna.targets.triton.region import Region
from sterna.targets.triton.scalars import region_of, scalar

BLOCK = 1024


class Loops(Places):
    """The kernel of an operation whose results have `sizes`, being written."""

    def __init__(
        self, op: Operation, host: Host, sizes: Sizes, block: int | None = None, stem: str = ""
    ) -> None:
        """`block`: the elements of a program, if it is to have others than usual."""
        super().__init__(op, Builder(stem or default_name(op), host))
        self.host, self.sizes, self.block = host, sizes, block or (BLOCK if sizes else 1)
        b = self.builder
        b.doc += [place(op)]
        b.names.taken |= {"n", "inside"}
        self.whole = " + n * 0"
        first = "tl.program_id(0).to(tl.int64)"
        of_one = block is None and not sizes
        b.lines += [
            f"n = {first}" if of_one else f"n = {first} * {self.block} + tl.arange(0, {self.block})",
            f"inside = n < {self.size_text(sizes)}",
        ]
        self.along = self.coordinates("n", sizes)

    def store(self, value: SSAValue, text: str, coordinates: Sequence[str] | None = None) -> None:
        """Writes the element, which stands at its number unless other coordinates are given."""
        if value not in self.host.values:
            self.host.allocate(value)
        address = self.at(value, self.along if coordinates is None else coordinates, "out")
        if not Shape.of(value).sizes:
            address += self.whole
        result = text if text.isidentifier() else self.builder.assign("result", text)
        self.builder.lines.append(f"tl.store({address}, {result}, mask=inside)")

    def launch(self) -> None:
        b = self.builder
        total = product_text(self.sizes, "batch.rows")
        self.host.launch(b.kernel(), f"(triton.cdiv({total}, {self.block}),)", b.all_arguments())

    def region(self) -> Region:
        region = region_of(self.builder, self.op)
        region.number = lambda loop: self.along[loop]
        return region


def finish(loops: Loops, outs: Sequence[SSAValue], texts: Sequence[str]) -> None:
    for value, text in zip(outs, texts, strict=True):
        loops.store(value, text)
    loops.launch()


def emit_elementwise(op: ElementwiseOp, host: Host) -> None:
    loops = Loops(op, host, Shape.of(op.outs[0]).sizes)
    values = [
        loops.load(value, [loops.along[axis] for axis in axes])
        for value, axes in zip(op.inputs, op.input_axes(), strict=True)
    ]
    finish(loops, op.outs, loops.region().run(op.body.block, values))


def emit_parallel(op: linalg.GenericOp, host: Host) -> None:
    """A `linalg.generic` whose loops are all parallel."""
    maps = [loops_of(each.data) for each in op.indexing_maps]
    out = maps[len(op.inputs)]
    if None in maps or out is None:
        raise CompileError("an indexing map is no projection of the loops", op.location)
    # Loop number out[axis] runs along that axis of the result.
    loops = Loops(op, host, Shape.of(op.results[0]).sizes)
    along = [loops.along[out.index(loop)] for loop in range(len(out))]
    values: list[str] = []
    for value, map, argument in zip(op.operands, maps, op.body.block.args, strict=True):
        if not argument.uses:
            values.append("0")
        elif isinstance(value.type, TensorType):
            values.append(loops.load(value, [along[loop] for loop in map or ()]))
        else:
            values.append(scalar(value, loops.builder, op))
    region = loops.region()
    region.number = lambda loop: along[loop]
    texts = region.run(op.body.block, values)
    for value, map, text in zip(op.results, maps[len(op.inputs) :], texts, strict=True):
        loops.store(value, text, [along[loop] for loop in map or ()])
    loops.launch()


def emit_tensors(op: Operation, host: Host) -> None:
    """An operation of `arith` or `math` on whole tensors, or a choice of them by one number."""
    loops = Loops(op, host, Shape.of(op.results[0]).sizes)
    region = loops.region()
    for value in op.operands:
        if isinstance(value.type, TensorType):
            region.values[value] = loops.load(value, loops.along)
    text = region.expression(op)
    finish(loops, op.results, [loops.builder.assign("value", text)])


def emit_filled(op: linalg.FillOp | tensor.SplatOp, host: Host) -> None:
    loops = Loops(op, host, Shape.of(op.results[0]).sizes)
    finish(loops, op.results, [scalar(op.operands[0], loops.builder, op)])


def emit_dequantize(op: DequantizeOp, host: Host) -> None:
    """Where the channels are T, or too many for `rows.py`."""
    loops = Loops(op, host, Shape.of(op.result).sizes)
    acc = loops.load(op.acc, loops.along, name="acc")
    step = loops.load(op.step, loops.along[:-1] if Shape.of(op.step).sizes else (), name="step")
    scale = loops.load(op.scale, loops.along[-1:] if Shape.of(op.scale).sizes else (), name="scale")
    finish(loops, [op.result], [f"{acc}.to(tl.float32) * ({step} * {scale})"])


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
