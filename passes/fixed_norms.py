"""Norms and quantization in integers: one reciprocal square root and one reciprocal a row, no division.

`ternary.norm_quantize`, with a = outer (1 without it), g = a gain, c = the scale of the weight that reads it:

    h = x a     n = sum h^2 + K eps'     y = x (g sqrt(K) c / 127)     A = max |y|
    q = round(y * (127 / A))                      step * c = A / sqrt(n)

The constants of the step are factors of the gain, because a positive factor of a row does not change its q. The eps
of a norm of a norm: 1 / r^2 = mean(h^2) + eps (mean(x^2) + outer_eps), so K eps' = eps (sum x^2 + K outer_eps), of
which the first term is left out where |a| is so large that it is less than 2^-15 of sum h^2.

x is read once and y once more, when A is known. What is per row is done once a row: a leading-zero count and a table
give mantissas of 127 / A and 1 / sqrt(n), and a shift puts each at a fixed binary point. That of the step is right for
any row: |h| <= sqrt(sum h^2) bounds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from xdsl.dialects.arith import ShRUIOp
from xdsl.ir import SSAValue

from sterna.dialects.fixed import MaxOp, SumOp, point_of
from sterna.dialects.fixed_point import exact_width
from sterna.dialects.ternary import NormQuantizeOp, ProjectOp, RmsNormOp
from sterna.passes.fixed_formats import Format
from sterna.passes.fixed_program import COLUMN, ELEMENT, ROW, FixedProgram, Step, require_rows
from sterna.passes.fixed_scalars import Scalar, ScalarCode
from sterna.passes.fixed_tables import MANTISSA_BITS, RECIPROCAL, RSQRT

NEGLIGIBLE = 2.0**-15
"""Of a sum of squares: less than the table's error."""
INT8 = Format(8, 0)


@dataclass(frozen=True)
class SumOfSquares:
    """n = sum h^2, as an input of the row's stage, and what is added to it."""

    of: Format
    """Of h."""
    constant: int
    """What eps adds, at the point of h^2."""
    of_input: Format
    """Of x, where sum x^2 is asked for."""
    input_eps: float = 0.0
    """The factor of sum x^2, the second input, if it matters."""

    @property
    def point(self) -> int:
        return 2 * self.of.point


def translate_norm_quantize(program: FixedProgram, op: NormQuantizeOp) -> None:
    x, shape = program.integers(op.x, op), require_rows(op.x)
    gains = [_gain(program, op, j) for j in range(len(op.gains))]
    outer = _outer(program, op)
    squares = _squares(program, op, x)

    def first_read(code: ScalarCode, arguments: list[Scalar]) -> list[Scalar]:
        element, *weights = arguments
        scaled = element if op.outer is None else code.multiply(element, weights.pop(0))
        h = code.rescale(scaled, squares.of)
        results = [code.multiply(h, h)]
        if squares.input_eps:
            unscaled = code.rescale(element, squares.of_input)
            results.append(code.multiply(unscaled, unscaled))
        ys = [
            code.rescale(code.multiply(element, weight), gain.y)
            for weight, gain in zip(weights, gains, strict=True)
        ]
        return [*results, *ys, *(code.absolute(y) for y in ys)]

    inputs = [
        (x, ELEMENT),
        *((weight, COLUMN) for weight in outer),
        *((gain.weight, COLUMN) for gain in gains),
    ]
    made = program.stage(op, inputs, first_read, shape)
    sums, rest = made[: len(made) - 2 * len(gains)], made[len(made) - 2 * len(gains) :]
    ys, magnitudes = rest[: len(gains)], rest[len(gains) :]
    totals = [program.add(SumOp(each), op).results[0] for each in sums]
    maxima = [program.add(MaxOp(each), op).results[0] for each in magnitudes]

    per_row = _row_stage(program, op, squares, totals, maxima, gains, shape[:1])
    reciprocals, steps = per_row[: len(gains)], per_row[len(gains) :]
    for j, gain in enumerate(gains):
        (q,) = program.stage(
            op, [(ys[j], ELEMENT), (reciprocals[j], ROW)], lambda code, yr: [_quantized(code, *yr)], shape
        )
        q.name_hint = op.q[j].name_hint
        program.values[op.q[j]] = q
        program.steps[op.step[j]] = Step(steps[j], gain.scale)


def _quantized(code: ScalarCode, y: Scalar, reciprocal: Scalar) -> Scalar:
    """round(y * (127 / A)): the reciprocal's point is relative to that of y."""
    product = code.multiply(Scalar(y.value, 0), reciprocal)
    return code.rescale(product, INT8)


@dataclass(frozen=True)
class Gain:
    """One of the gains of a norm, with its factor, and what it makes."""

    weight: SSAValue
    scale: float
    """c: the part of the factor that belongs to the weight which reads the quantized row."""
    y: Format
    step: Format


def _gain(program: FixedProgram, op: NormQuantizeOp, j: int) -> Gain:
    numbers, scale = program.numbers(op.gains[j]).astype(np.float64), _scale_of_reader(program, op.step[j])
    factor = math.sqrt(len(numbers)) * scale / 127.0
    own = numbers
    if op.outer is not None:
        outer = program.numbers(op.outer).astype(np.float64)
        own = np.divide(numbers, outer, out=np.zeros_like(numbers), where=outer != 0)
    # The table is off by less than 2^-12.
    bound = float(np.abs(own).max(initial=0.0)) * factor * (1 + 2.0**-12)
    weight_format = Format.holding(float(np.abs(numbers).max(initial=0.0)) * factor, program.widths.gains)
    return Gain(
        weight=program.weight(op.gains[j], weight_format, op, factor=factor),
        scale=scale,
        y=program.format_for(program.ranges.gained[op, j] * factor),
        step=Format.holding(bound, program.widths.activations),
    )


def _scale_of_reader(program: FixedProgram, step: SSAValue) -> float:
    """The scale of the first weight whose sums are multiplied by the step; 1 if there is none."""
    for use in step.uses:
        project = use.operation
        if isinstance(project, ProjectOp):
            for scale, read in zip(project.scales, project.reads.get_values(), strict=True):
                if project.steps[read] is step:
                    return float(np.abs(program.numbers(scale)).max(initial=0.0)) or 1.0
    return 1.0


def _outer(program: FixedProgram, op: NormQuantizeOp) -> list[SSAValue]:
    if op.outer is None:
        return []
    largest = float(np.abs(program.numbers(op.outer)).max(initial=0.0))
    return [program.weight(op.outer, Format.holding(largest, program.widths.gains), op)]


def _squares(program: FixedProgram, op: NormQuantizeOp, x: SSAValue) -> SumOfSquares:
    k, eps = require_rows(op.x)[1], op.eps.value.data
    of_input = _narrow(program, x)
    if op.outer is None or op.outer_eps is None:
        return sum_of_squares(of_input, k * eps)
    of = program.format_for(program.ranges.outer[op])
    smallest = float(np.abs(program.numbers(op.outer)).min(initial=np.inf))
    constant = k * eps * op.outer_eps.value.data
    if eps <= NEGLIGIBLE * smallest**2:
        return sum_of_squares(of, constant)
    return replace(sum_of_squares(of, constant), of_input=of_input, input_eps=eps)


def sum_of_squares(of: Format, constant: float) -> SumOfSquares:
    """Squares of numbers that are so small that eps is all that counts need no finer point."""
    if constant > 0:
        of = replace(of, point=min(of.point, (50 - math.frexp(constant)[1]) // 2))
    # At least 1, so that the sum is positive.
    return SumOfSquares(of, max(round(constant * 2.0 ** (2 * of.point)), 1), of)


def _narrow(program: FixedProgram, x: SSAValue) -> Format:
    """The top bits of a value, as many as an operand of a multiplication has."""
    width = program.widths.activations
    return Format(width, (point_of(x.type) or 0) - max(exact_width(x) - width, 0))


def _row_stage(
    program: FixedProgram,
    op: NormQuantizeOp,
    squares: SumOfSquares,
    totals: Sequence[SSAValue],
    maxima: Sequence[SSAValue],
    gains: Sequence[Gain],
    shape: tuple[int, ...],
) -> list[SSAValue]:
    """The reciprocals of all gains, then their steps."""

    def build(code: ScalarCode, arguments: list[Scalar]) -> list[Scalar]:
        sums, tops = arguments[: len(totals)], arguments[len(totals) :]
        n = add_eps(code, squares, sums)
        root, zeros = reciprocal_root(code, program, n)
        reciprocals = [reciprocal(code, program, top) for top in tops]
        steps = [
            Scalar(_step(code, top, root, zeros, n, squares.point, gain), gain.step.point)
            for top, gain in zip(tops, gains, strict=True)
        ]
        return [*reciprocals, *steps]

    return program.stage(op, [(each, ROW) for each in (*totals, *maxima)], build, shape)


def add_eps(code: ScalarCode, squares: SumOfSquares, sums: Sequence[Scalar]) -> SSAValue:
    """n, in a type with an even number of bits beside the sign, none of which it can need."""
    n = Scalar(sums[0].value, 0)
    if squares.input_eps:
        eps = Format.holding(squares.input_eps, 16)
        factor = Scalar(code.number(round(squares.input_eps * 2.0**eps.point), 17), eps.point)
        term = code.multiply(Scalar(sums[1].value, 2 * squares.of_input.point), factor)
        n = code.add(n, Scalar(code.rescale(term, Format(min(term.width, 60), squares.point)).value, 0))
    width = max(n.width, squares.constant.bit_length() + 1)
    n = code.add(n, Scalar(code.number(squares.constant, width), 0))
    return code.extend(n.value, n.width + (n.width - 1) % 2)


def reciprocal_root(code: ScalarCode, program: FixedProgram, n: SSAValue) -> tuple[Scalar, SSAValue]:
    """(t, z) with 1 / sqrt(n) = t * 2^-(L / 2 - z / 2), L = the bits of n without its sign."""
    mantissa, zeros = code.normalize(n, 2, MANTISSA_BITS)
    return code.interpolate(mantissa, program.tables.get(RSQRT), RSQRT.point), zeros


def reciprocal(code: ScalarCode, program: FixedProgram, top: Scalar) -> Scalar:
    """127 / A for an integer A, which is taken to be no smaller than the widest reciprocal allows."""
    width, capacity = program.widths.reciprocal, top.width - 1
    most_zeros = min(width - 11, capacity - 1)
    floor = code.at_least(top.value, 1 << capacity - most_zeros - 1)
    mantissa, zeros = code.normalize(floor, 1, MANTISSA_BITS)
    table = code.interpolate(mantissa, program.tables.get(RECIPROCAL), RECIPROCAL.point)
    # 127 / A = (127/128) / mantissa * 2^(7 - capacity + zeros)
    spare = width - table.width
    raised = code.rescale(Scalar(table.value, 0), Format(width, spare)) if spare > 0 else table
    distance = code.subtract(Scalar(code.number(most_zeros, exact_width(zeros)), 0), Scalar(zeros, 0))
    value = code.shift_right(raised.value, distance.value, width)
    return Scalar(value, max(spare, 0) - most_zeros + RECIPROCAL.point - 7 + capacity)


def _step(
    code: ScalarCode, top: Scalar, root: Scalar, zeros: SSAValue, n: SSAValue, point: int, gain: Gain
) -> SSAValue:
    """A / sqrt(n) at the step's binary point; A and n are integers, with the points of y and `point`."""
    product = code.multiply(Scalar(top.value, gain.y.point), root)
    away = product.point - point // 2 + (exact_width(n) - 1) // 2 - gain.step.point
    return shifted_by_half(code, product.value, away, zeros, gain.step.width)


def shifted_by_half(code: ScalarCode, value: SSAValue, away: int, zeros: SSAValue, width: int) -> SSAValue:
    """value / 2^(away - zeros / 2), which is no less than value: such a row is beyond its format, and saturates."""
    bits = max(exact_width(zeros), away.bit_length() + 1) + 1
    half = code.add_op(ShRUIOp(zeros, code.number(1, exact_width(zeros))))
    distance = code.subtract(Scalar(code.number(away, bits), 0), Scalar(code.extend(half, bits), 0))
    return code.shift_right(value, code.at_least(distance.value, 0), width)


def translate_rms_norm(program: FixedProgram, op: RmsNormOp) -> None:
    """y = (x * (w sqrt(K))) * (1 / sqrt(sum x^2 + K eps)); x is read twice."""
    x, shape = program.integers(op.x, op), require_rows(op.x)
    root_k = math.sqrt(shape[1])
    largest = float(np.abs(program.numbers(op.weight)).max(initial=0.0)) * root_k
    weight = program.weight(op.weight, Format.holding(largest, program.widths.gains), op, factor=root_k)
    weighted = program.format_for(program.ranges.weighted[op] * root_k)
    squares = sum_of_squares(_narrow(program, x), shape[1] * op.eps.value.data)

    def first_read(code: ScalarCode, arguments: list[Scalar]) -> list[Scalar]:
        element, factor = arguments
        h = code.rescale(element, squares.of)
        return [code.multiply(h, h), code.rescale(code.multiply(element, factor), weighted)]

    squared, v = program.stage(op, [(x, ELEMENT), (weight, COLUMN)], first_read, shape)
    total = program.add(SumOp(squared), op).results[0]
    root_format = program.format_for(program.ranges.reciprocal_root[op])

    def per_row(code: ScalarCode, arguments: list[Scalar]) -> list[Scalar]:
        n = add_eps(code, squares, arguments)
        root, zeros = reciprocal_root(code, program, n)
        away = root.point - squares.of.point + (exact_width(n) - 1) // 2 - root_format.point
        return [Scalar(shifted_by_half(code, root.value, away, zeros, root_format.width), root_format.point)]

    (r,) = program.stage(op, [(total, ROW)], per_row, shape[:1])
    to = program.format_for(program.ranges.largest[op.result])

    def second_read(code: ScalarCode, arguments: list[Scalar]) -> list[Scalar]:
        return [code.rescale(code.multiply(*arguments), to)]

    (y,) = program.stage(op, [(v, ELEMENT), (r, ROW)], second_read, shape)
    program.values[op.result] = y
