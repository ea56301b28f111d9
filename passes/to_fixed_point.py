"""Rewrites a program of floats as one of integers: what hardware without floating point runs.

    %x = ternary.embedding %tokens, %table : tensor<?xi64>, tensor<256x128xf32> -> tensor<?x128xf32>
    %q, %step = ternary.norm_quantize %x gains(%g : ...) eps = 1.0e-6 quantize_eps = 1.0e-5 lanes = 16 : ...
    %y = ternary.project quantized(%q : ...) steps(%step : ...) weights(%w : ...) scales(%s : ...) reads = [0] { ... }

becomes

    %x = ternary.embedding %tokens, %table : ... -> tensor<?x128xi20, #fixed.point<18>>
    %h2, %y, %a = ternary.elementwise(%x, %g : ...) { ... }        squares, x times the gain, its magnitude
    %n = fixed.sum %h2 : ...            %top = fixed.max %a : ...
    %r, %step = ternary.elementwise(%n, %top : tensor<?xi43, ...>, tensor<?xi19, ...>) { ... }       once a row
    %q = ternary.elementwise(%y, %r : ...) { ... } -> tensor<?x128xi8, #fixed.point<0>>
    %acc = ternary.accumulate %q, %w : ... -> tensor<?x128xi16>
    %z = ternary.elementwise(%acc, %step : ...) { ... }

It reads the stage *raised* or what the passes up to `fuse-elementwise` make of it, which it runs where they have not
run; not what `expand-math` makes, where a sigmoid is a polynomial that nobody knows again.

Every `ternary.elementwise`, `fixed.sum`, `fixed.max`, `fixed.scan` and `ternary.accumulate` is a stage of a pipeline.
The function's inputs and results stay as they are: `fixed.from_float` and `fixed.to_float` stand at its edges.

Formats: widths are options. A binary point is the finest that holds twice (2^headroom times) the largest magnitude
that the value has on calibration inputs, or the largest that it can have at all where that is less: a sigmoid, a norm's
step. What is beyond saturates. Calibration inputs are those of the context (the compiler puts a text there), a file of
tokens, or else random ones.

Why no result can wrap: sums and products are computed in types that hold them for any operands of their widths, and
`integer_ranges` proves it of the whole result before the pass ends; every narrowing is a saturating `fixed.rescale`.

The result is a new program: how far it is from the one in floats is measured, not bounded (docs/fixed-point.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from xdsl.context import Context
from xdsl.dialects.builtin import IntegerType, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass

from sterna.dialects.errors import CompileError
from sterna.dialects.fixed import FromFloatOp, RescaleOp, ScanOp, ToFloatOp, point_of, rows
from sterna.dialects.product_ops import min_sum_width
from sterna.dialects.ternary import (
    AccumulateOp,
    ElementwiseOp,
    EmbeddingOp,
    LoadOp,
    NormQuantizeOp,
    ProjectOp,
    RmsNormOp,
    YieldOp,
    tensor,
)
from sterna.dialects.ternary import ScanOp as FloatScanOp
from sterna.dialects.weights import SternaContext
from sterna.passes.fixed_calibration import inputs_for_tokens, measure_ranges, random_inputs
from sterna.passes.fixed_formats import Format, Widths
from sterna.passes.fixed_norms import translate_norm_quantize, translate_rms_norm
from sterna.passes.fixed_program import (
    COLUMN,
    ELEMENT,
    ROW,
    FixedProgram,
    Input,
    Step,
    axes_of,
    require_rows,
)
from sterna.passes.fixed_region import Bounded, RegionInIntegers
from sterna.passes.fixed_scalars import Scalar, ScalarCode
from sterna.passes.fuse_elementwise import FuseElementwisePass
from sterna.passes.fuse_norm_quantize import FuseNormQuantizePass
from sterna.passes.fuse_projections import FuseProjectionsPass
from sterna.passes.integer_ranges import prove_no_wrapping
from sterna.passes.tolerance import Tolerance

Array = npt.NDArray[Any]


Writer = Callable[[ScalarCode, list[Scalar]], Bounded]
"""Writes an argument of a region, given the stage's inputs."""


def _element(at: int) -> Writer:
    """The stage's input of that number."""
    return lambda _, given: Bounded.of(given[at])


def translate_embedding(program: FixedProgram, op: EmbeddingOp) -> None:
    largest = float(np.abs(program.numbers(op.table)).max(initial=0.0))
    table = program.weight(op.table, Format.holding(largest, program.widths.residual), op)
    if not isinstance(op.tokens, BlockArgument):
        raise CompileError("tokens are an input of the function")
    looked_up = EmbeddingOp(program.arguments[op.tokens], table)
    program.values[op.result] = program.add(looked_up, op).results[0]


def translate_project(program: FixedProgram, op: ProjectOp) -> None:
    shape, arguments = require_rows(op.outs[0]), op.body.block.args
    inputs: list[Input] = []

    def place(value: SSAValue, axes: tuple[int, ...]) -> int:
        if (value, axes) not in inputs:
            inputs.append((value, axes))
        return inputs.index((value, axes))

    known: dict[SSAValue, Writer] = {}
    for argument, weight, scale, read in zip(
        arguments, op.weights, op.scales, op.reads.get_values(), strict=False
    ):
        step = program.steps[op.steps[read]]
        known[argument] = _dequantized(
            program,
            to=program.format_for(program.ranges.largest[argument]),
            sums=place(_accumulated(program, op, weight, read), ELEMENT),
            step=place(step.value, ROW),
            factor=_factor(program, op, scale, step, place),
        )
    for argument, value in zip(arguments[len(op.weights) :], op.extras, strict=True):
        integers = program.integers(value, op)
        at = place(integers, axes_of(integers, shape))
        known[argument] = _element(at)
    build = _body(program, op, known)
    _replace(op, program, program.stage(op, inputs, build, shape))


def _accumulated(program: FixedProgram, op: ProjectOp, weight: SSAValue, read: int) -> SSAValue:
    """The exact sums of a weight; int8 numbers as they come from a quantization."""
    q, w = program.values[op.q[read]], program.load(weight, op)
    sums = AccumulateOp(q, w, sums=IntegerType(min_sum_width(8, tensor(w).get_shape()[1])))
    return program.add(sums, op).results[0]


def _dequantized(
    program: FixedProgram,
    *,
    to: Format,
    sums: int,
    step: int,
    factor: Callable[[ScalarCode, list[Scalar]], Scalar] | None,
) -> Writer:
    """sums * step, times a factor if the step has not absorbed all of the scale."""

    def compute(code: ScalarCode, given: list[Scalar]) -> Bounded:
        product = code.multiply(given[sums], given[step])
        if factor is not None:
            product = code.multiply(code.narrow(product, 40), factor(code, given))
        return Bounded.of(code.rescale(product, to))

    return compute


def _factor(
    program: FixedProgram,
    op: ProjectOp,
    scale: SSAValue,
    step: Step,
    place: Callable[[SSAValue, tuple[int, ...]], int],
) -> Callable[[ScalarCode, list[Scalar]], Scalar] | None:
    """What is left of a weight's scale: a number, or one for every channel."""
    rest = program.numbers(scale).astype(np.float64) / step.absorbed
    to = Format.holding(float(np.abs(rest).max(initial=0.0)), program.widths.gains)
    if rest.ndim:
        at = place(program.weight(scale, to, op, factor=1 / step.absorbed), COLUMN)
        return lambda _, given: given[at]
    if rest == 1.0:
        return None
    number = round(float(rest) * 2.0**to.point)
    return lambda code, _: Scalar(code.number(number, to.width), to.point)


def translate_elementwise(program: FixedProgram, op: ElementwiseOp) -> None:
    shape = require_rows(op.outs[0])
    inputs = [
        (program.integers(value, op), axes) for value, axes in zip(op.inputs, op.input_axes(), strict=True)
    ]
    known: dict[SSAValue, Writer] = {argument: _element(at) for at, argument in enumerate(op.body.block.args)}
    _replace(op, program, program.stage(op, inputs, _body(program, op, known), shape))


def _body(
    program: FixedProgram,
    op: ProjectOp | ElementwiseOp,
    known: dict[SSAValue, Writer],
) -> Callable[[ScalarCode, list[Scalar]], Sequence[Scalar]]:
    """Writes what the region yields, given how to write its arguments."""
    last = op.body.block.last_op
    assert isinstance(last, YieldOp)

    def build(code: ScalarCode, given: list[Scalar]) -> Sequence[Scalar]:
        def argument(value: SSAValue) -> Bounded | None:
            return known[value](code, given) if value in known else None

        region = RegionInIntegers(
            code, argument, program.ranges, program.widths, program.tables, program.formats
        )
        return [region.translate(value).scalar for value in last.values]

    return build


def _replace(op: ProjectOp | ElementwiseOp, program: FixedProgram, results: Sequence[SSAValue]) -> None:
    for old, new in zip(op.outs, results, strict=True):
        new.name_hint = old.name_hint
        program.values[old] = new


def translate_scan(program: FixedProgram, op: FloatScanOp) -> None:
    to = _state_format(program, op)
    f, i = program.integers(op.f, op), program.integers(op.i, op)
    if point_of(i.type) != to.point:
        moved = RescaleOp(
            i, (point_of(i.type) or 0) - to.point, rows(tensor(i).get_shape(), to.width, to.point)
        )
        i = program.add(moved, op).results[0]
    if isinstance(op.init, BlockArgument):
        init = program.add(FromFloatOp(program.arguments[op.init], to.width, to.point), op).results[0]
    else:
        init = program.weight(op.init, to, op)
    scan = ScanOp(f, i, init, point_of(f.type) or 0)
    program.add(scan, op)
    program.values[op.states], program.values[op.last] = scan.states, scan.last
    scan.states.name_hint = op.states.name_hint


def _state_format(program: FixedProgram, op: FloatScanOp) -> Format:
    return program.format_for(program.ranges.largest[op.states], program.widths.state)


def require_formats(program: FixedProgram, function: FuncOp) -> None:
    """Before anything is written: what a recurrence adds has the state's format; what a norm and a sum read, that of
    the residual stream."""
    for op in function.walk():
        if isinstance(op, FloatScanOp) and (yielded := yielded_value(op.i)) is not None:
            program.formats[yielded] = _state_format(program, op)
    for op in function.walk():
        for result in op.results:
            readers = {use.operation for use in result.uses}
            is_residual = len(readers) > 1 and any(isinstance(reader, NormQuantizeOp) for reader in readers)
            if is_residual and (yielded := yielded_value(result)) is not None:
                largest = program.ranges.largest[result]
                program.formats.setdefault(yielded, program.format_for(largest, program.widths.residual))


def yielded_value(result: SSAValue) -> SSAValue | None:
    """The value inside a region that is the result of its operation."""
    op = result.owner
    if not isinstance(op, ProjectOp | ElementwiseOp):
        return None
    last = op.body.block.last_op
    assert isinstance(last, YieldOp)
    return last.values[op.outs.index(result)]


def translate_return(program: FixedProgram, op: ReturnOp) -> None:
    floats = [program.add(ToFloatOp(program.integers(value, op)), op).results[0] for value in op.arguments]
    program.add(ReturnOp(*floats), op)


TRANSLATIONS: dict[type[Operation], Callable[[FixedProgram, Any], None]] = {
    EmbeddingOp: translate_embedding,
    NormQuantizeOp: translate_norm_quantize,
    RmsNormOp: translate_rms_norm,
    ProjectOp: translate_project,
    ElementwiseOp: translate_elementwise,
    FloatScanOp: translate_scan,
    ReturnOp: translate_return,
}


@dataclass(frozen=True)
class ToFixedPointPass(ModulePass):
    name = "to-fixed-point"
    tolerance: ClassVar[Tolerance] = Tolerance(
        2**-3, "numbers are rounded to their fixed-point formats, and int8 steps follow"
    )

    activations: int = Widths.activations
    residual: int = Widths.residual
    state: int = Widths.state
    gains: int = Widths.gains
    reciprocal: int = Widths.reciprocal
    headroom: int = Widths.headroom
    tokens: str = ""
    """A file of calibration tokens, numbers between white space; the context's inputs come first."""
    rows: int = 256
    """Rows of random calibration inputs, where there is neither."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        store = ctx.weights if isinstance(ctx, SternaContext) else None
        entries = [each for each in op.ops if isinstance(each, FuncOp)]
        if len(entries) != 1:
            raise CompileError(f"to-fixed-point rewrites one function, found {len(entries)}")
        (function,) = entries
        for fusion in (FuseNormQuantizePass(), FuseProjectionsPass(), FuseElementwisePass()):
            fusion.apply(ctx, op)
        widths = Widths(**{each.name: getattr(self, each.name) for each in fields(Widths)})
        widths.check()
        inputs = self._inputs(ctx, op, function)
        ranges = measure_ranges(op, store, inputs, function.sym_name.data)
        old = function.body.block
        new = Block(arg_types=[argument.type for argument in old.args])
        arguments: dict[SSAValue, SSAValue] = dict(zip(old.args, new.args, strict=True))
        for before, after in arguments.items():
            after.name_hint = before.name_hint
        program = FixedProgram(op, store, ranges, widths, new, arguments)
        require_formats(program, function)
        for each in old.ops:
            translate(program, each)
        function.body.detach_block(old)
        function.body.add_block(new)
        old.erase(safe_erase=False)
        prove_no_wrapping(function)

    def _inputs(self, ctx: Context, module: ModuleOp, function: FuncOp) -> list[list[Array]]:
        if isinstance(ctx, SternaContext) and ctx.calibration_tokens is not None:
            return [inputs_for_tokens(function, ctx.calibration_tokens)]
        if self.tokens:
            return [inputs_for_tokens(function, read_tokens(self.tokens))]
        return [random_inputs(module, function, rows=self.rows, seed=0)]


def translate(program: FixedProgram, op: Operation) -> None:
    if (write := TRANSLATIONS.get(type(op))) is None:
        if isinstance(op, LoadOp) or all(program.is_weight(result) for result in op.results):
            return  # read where it is needed
        hint = "fixed point has no form of it (it comes after ternarize and before expand-math)"
        raise CompileError(f"{op.name}: {hint}", op.location)
    try:
        write(program, op)
    except CompileError as error:
        raise CompileError(f"{op.name}: {error.message}", error.location or op.location) from None


def read_tokens(path: str) -> Array:
    try:
        return np.array([int(word) for word in Path(path).read_text().split()], np.int64)
    except (OSError, ValueError) as error:
        raise CompileError(f"{path}: not a file of calibration tokens: {error}") from None
