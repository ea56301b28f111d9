"""Recognises RMSNorm and BitLinear in a raw graph, and says them in ops of the `ternary` dialect.

    %r = math.rsqrt (mean of %x * %x, plus 1.0e-06)         %w: a weight, tensor<64x32xf32>
    %n = arith.mulf (arith.mulf %x, %r), %g
    %s = 127 / max(max|%n|, 1.0e-05)                        %u = 1 / max(mean|%w|, 1.0e-05)
    %a = %n + (clamp(round(%n * %s)) / %s - %n)             %b = %w + (clamp(round(%w * %u)) / %u - %w)
    %y = linalg.matmul %a, (linalg.transpose %b)

becomes

    %n = ternary.rms_norm %x, %g eps = 1.0e-06 lanes = 16 : tensor<?x32xf32>, tensor<32xf32>
    %q, %step = ternary.quantize %n eps = 1.0e-05 : tensor<?x32xf32> -> tensor<?x32xi8>, tensor<?xf32>
    %t, %scale = ternary.absmean %w eps = 1.0e-05 : tensor<64x32xf32> -> tensor<64x32x!ternary.trit>, tensor<f32>
    %acc = ternary.accumulate %q, %t : ...
    %y = ternary.dequantize %acc, %step, %scale : ...

Weights that are computed from weights in another way (unpacked from 2-bit fields, say) become `ternary.ternarize` of
that computation; the pass `ternarize` proves from the store that its result is ternary. In a module that may keep float
layers (`sterna.float_layers`) their numbers are looked at here, and a weight that has more than one magnitude in a row
stays with its matmul; one that has a scale for each channel keeps them. A scale that is applied to the
product and not to its operands (`linear(q, t) / (s * u)`) becomes part of the `dequantize`. What `norm_patterns` and
`quantization_patterns` do not know stays as it is: a `linalg.matmul` that is left is listed by `ternarize`.

Why it is right: with q = round(x s) and t = round(w u), sum_k (q_k / s) (t_k / u) = (sum_k q_k t_k) / (s u), and the
integer sum is exact. x + (q(x) - x) is q(x) once gradients are left out (Bengio et al., arXiv 1308.3432).

What moves in f32: the roundings of the straight-through form and of the two divisions, 2^-22 relative each; the sum
over k, which was rounded K times and now is not; 127 / d against (1 / d) * 127, and x * r * w against x * w * r, in
which an integer changes, by 1, where its product lies within 127 * 2^-22 of a half; mean|w|, which `absmean` takes in
float64. An int8 step is 1/127 of the largest activation of its row, so one that changes is what is seen.
`tests/property/test_raise_bit_linear.py` bounds it. On 256 tokens of the trained checkpoint in `examples/`, logits move
by at most 0.7 % of the largest one and every argmax stays; torch differs from its own import, which only sums in
another order, by 0.6 %. A row that is all zeros under a divisor without a floor was NaN and is 0.

Binary weights, `sign(w) * mean|w|`, are ternary ones for `ternarize`: it finds no zero among them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects.builtin import (
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    FloatAttr,
    LocationAttr,
    ModuleOp,
    TensorType,
    f32,
    i64,
)
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.tensor import CollapseShapeOp, EmptyOp, ExpandShapeOp, SplatOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import (
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
    op_type_rewrite_pattern,
)
from xdsl.rewriter import InsertPoint, Rewriter

from sterna.dialects.ternary import (
    AbsmeanOp,
    AccumulateOp,
    DequantizeOp,
    QuantizeOp,
    RmsNormOp,
    TernarizeOp,
    rows_of,
    tensor,
)
from sterna.dialects.weight_ops import any_float_layer
from sterna.dialects.weights import SternaContext
from sterna.passes.dead_code import erase_dead_code
from sterna.passes.matching import (
    Product,
    WeightOnly,
    near,
    product_of,
    row_axes,
    without_straight_through,
)
from sterna.passes.norm_patterns import match_rms_norm
from sterna.passes.quantization_patterns import (
    Absmean,
    QuantizedRows,
    match_absmean,
    match_quantized_rows,
)
from sterna.passes.tolerance import Tolerance
from sterna.passes.weight_values import WeightValues, scale_kind


@dataclass
class RaiseRmsNorm(RewritePattern):
    """x * r * w, at the operation that completes the product."""

    weight_only: WeightOnly

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: arith.MulfOp | arith.DivfOp, rewriter: PatternRewriter, /) -> None:
        # Regions of linalg ops are on scalars.
        if not isinstance(op.result.type, TensorType):
            return
        if (norm := match_rms_norm(op.result, self.weight_only)) is None:
            return
        # The norm's weight may be multiplied by the operation that comes next.
        if not norm.weights and self._is_weighted_next(op.result):
            return
        new: list[Operation] = []
        if norm.weights:
            weight = multiplied(norm.weights[0], Scalars(1.0, dict.fromkeys(norm.weights[1:], 1)), new)
        else:
            columns = TensorType(f32, tensor(norm.x).get_shape()[-1:])
            new.append(arith.ConstantOp(DenseIntOrFPElementsAttr.from_list(columns, [1.0])))
            weight = new[-1].results[0]
        replace(rewriter, op, [*new, RmsNormOp(norm.x, weight, norm.eps)], op.location)

    def _is_weighted_next(self, value: SSAValue) -> bool:
        if (user := value.get_user_of_unique_use()) is None or not isinstance(user, arith.MulfOp):
            return False
        norm = match_rms_norm(user.result, self.weight_only)
        return norm is not None and bool(norm.weights)


@dataclass
class RaiseLinear(RewritePattern):
    """A matmul of quantized rows and a weight: accumulate, then dequantize."""

    weight_only: WeightOnly
    values: WeightValues | None = None
    """Where a weight that is no absmean must be seen to be ternary; None where that is for `ternarize` to say."""
    quantized: dict[tuple[SSAValue, float], QuantizeOp] = field(
        default_factory=dict[tuple[SSAValue, float], QuantizeOp]
    )

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: linalg.MatmulOp, rewriter: PatternRewriter, /) -> None:
        given, weight = op.inputs
        reshape = given.owner if isinstance(given.owner, CollapseShapeOp | ExpandShapeOp) else None
        x = reshape.src if reshape else given
        if weight not in self.weight_only or (rows := match_quantized_rows(x)) is None:
            return
        matrix, is_turned = rows_first(weight)
        shape = (*rows_of(tensor(rows.x)), tensor(op.results[0]).get_shape()[-1])
        for root, after in rescaled(op.results[0]):
            if root is not op.results[0] and tensor(root).get_shape() != shape:
                continue
            scaled = self._scaled(rows, matrix, after)
            if scaled is None or not (scaled := self._seen(scaled, matrix, is_turned)):
                continue
            quantize = self._quantize(rows.x, rows.eps, op)
            new: list[Operation] = []
            trits, scale = ternary_weight(scaled, matrix, is_turned, new)
            new.append(accumulate := AccumulateOp(quantize.q, trits))
            new.append(dequantize := DequantizeOp(accumulate.acc, quantize.step, scale))
            if tensor(root).get_shape() != shape:
                assert reshape is not None
                new.append(reshaped(dequantize.result, reshape, root))
            assert isinstance(root.owner, Operation)
            replace(rewriter, root.owner, new, op.location)
            return

    def _scaled(self, rows: QuantizedRows, matrix: SSAValue, after: Product) -> ScaledWeight | None:
        """The weight, if all that scales the product is the rows' own steps and scalars of the weight's."""
        left = rows.rest.times(after).times(rows.step, -1)
        if (absmean := match_absmean(matrix)) is not None:
            factor = left.times(absmean.rest).times(absmean.scale, -1)
            # A scale that is not the absmean's own is left to `ternarize`.
            if self._is_scalar(factor) and not any(f in absmean.scale.powers for f in factor.powers):
                return ScaledWeight(absmean, scalars(factor))
        return ScaledWeight(None, scalars(left)) if self._is_scalar(left) else None

    def _seen(self, scaled: ScaledWeight, matrix: SSAValue, is_turned: bool) -> ScaledWeight | None:
        """The weight, if its numbers say that it is ternary, and whether they have a scale for each channel."""
        if scaled.absmean is not None or self.values is None:
            return scaled
        numbers = self.values.read(matrix)
        per_channel = None if numbers is None else scale_kind(numbers.T if is_turned else numbers)
        if per_channel is None or (per_channel and not scaled.factor.is_one):
            return None
        return dataclasses.replace(scaled, per_channel=per_channel)

    def _is_scalar(self, product: Product) -> bool:
        return all(factor.axes == () and factor.value in self.weight_only for factor in product.powers)

    def _quantize(self, x: SSAValue, eps: float, op: Operation) -> QuantizeOp:
        """One for all that read x, where x is made."""
        if (x, eps) not in self.quantized:
            self.quantized[x, eps] = quantize = QuantizeOp(x, eps)
            quantize.location = op.location
            maker = x.owner
            place = InsertPoint.at_start(maker) if isinstance(maker, Block) else InsertPoint.after(maker)
            Rewriter.insert_op(quantize, place)
        return self.quantized[x, eps]


@dataclass(frozen=True)
class Scalars:
    """coefficient * value^power * ..., the values all of one shape."""

    coefficient: float
    powers: dict[SSAValue, int]

    @property
    def is_one(self) -> bool:
        return not self.powers and near(self.coefficient, 1.0)


@dataclass(frozen=True)
class ScaledWeight:
    """How a weight is ternary, by its absmean or for `ternarize` to find out, and what its scale is multiplied by."""

    absmean: Absmean | None
    factor: Scalars
    per_channel: bool = False


def rows_first(weight: SSAValue) -> tuple[SSAValue, bool]:
    """The matrix [M, K] behind the right operand [K, M], or the operand itself and that it is still to be turned."""
    transpose = weight.owner
    matrix = transpose.inputs[0] if isinstance(transpose, linalg.TransposeOp) else weight
    return without_straight_through(matrix), matrix is weight


def ternary_weight(
    scaled: ScaledWeight, matrix: SSAValue, is_turned: bool, new: list[Operation]
) -> tuple[SSAValue, SSAValue]:
    """Trits and scale of a weight; the operations that make them are added to `new`."""
    source = scaled.absmean.w if scaled.absmean else matrix
    if is_turned:
        new.append(empty := EmptyOp([], TensorType(f32, tensor(source).get_shape()[::-1])))
        new.append(turned := linalg.TransposeOp(source, empty.tensor, DenseArrayBase.from_list(i64, [1, 0])))
        source = turned.results[0]
    new.append(
        op := AbsmeanOp(source, scaled.absmean.eps)
        if scaled.absmean
        else TernarizeOp(source, per_channel=scaled.per_channel)
    )
    return op.trits, multiplied(op.scale, scaled.factor, new)


def scalars(product: Product) -> Scalars:
    return Scalars(product.coefficient, {factor.value: power for factor, power in product.powers.items()})


def multiplied(value: SSAValue, by: Scalars, new: list[Operation]) -> SSAValue:
    """value * by, as operations added to `new`."""
    for factor, power in by.powers.items():
        for _ in range(abs(power)):
            new.append(arith.MulfOp(value, factor) if power > 0 else arith.DivfOp(value, factor))
            value = new[-1].results[0]
    if not near(by.coefficient, 1.0):
        new.append(constant := arith.ConstantOp(FloatAttr(by.coefficient, f32)))
        new.append(splat := SplatOp(constant.result, [], TensorType(f32, [])))
        new.append(arith.MulfOp(value, splat.result))
        value = new[-1].results[0]
    return value


def rescaled(value: SSAValue) -> Iterator[tuple[SSAValue, Product]]:
    """The value itself, and everything that is only the value times numbers for each row or for all."""
    product = Product()
    yield value, product
    while (user := value.get_user_of_unique_use()) is not None:
        match user:
            case CollapseShapeOp() | ExpandShapeOp():
                pass
            case arith.MulfOp(lhs=lhs, rhs=rhs) | arith.DivfOp(lhs=lhs, rhs=rhs):
                is_quotient = isinstance(user, arith.DivfOp)
                if is_quotient and rhs is value:
                    return
                by = product_of(rhs if lhs is value else lhs)
                if any(factor.axes not in ((), row_axes(value)) for factor in by.powers):
                    return
                product = product.times(by, -1 if is_quotient else 1)
            case _:
                return
        value = user.results[0]
        yield value, product


def reshaped(value: SSAValue, like: CollapseShapeOp | ExpandShapeOp, target: SSAValue) -> Operation:
    """`value` [..., M] as `like` reshaped [..., K]: the groups of axes are the same."""
    type = tensor(target)
    if isinstance(like, ExpandShapeOp):
        sizes = list(like.dynamic_output_shape)
        return ExpandShapeOp(value, sizes, like.reassociation, type.get_shape(), type)
    return CollapseShapeOp.build(
        operands=[value], result_types=[type], properties={"reassociation": like.reassociation}
    )


def replace(
    rewriter: PatternRewriter, op: Operation, new: Sequence[Operation], location: LocationAttr
) -> None:
    """Replaces `op` by the last of `new`, all of which come from `location`."""
    for step in new:
        step.location = location
    rewriter.insert(new[:-1], InsertPoint.before(op))
    rewriter.replace(op, new[-1])


class FoldReshapes(RewritePattern):
    """A reshape of a reshape back to the first type."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: CollapseShapeOp | ExpandShapeOp, rewriter: PatternRewriter, /) -> None:
        match op.src.owner:
            case CollapseShapeOp(src=source) | ExpandShapeOp(src=source) if source.type == op.result.type:
                rewriter.replace(op, [], [source])
            case _:
                pass


@dataclass(frozen=True)
class RaiseBitLinearPass(ModulePass):
    """See the module's docstring."""

    name = "raise-bit-linear"
    tolerance: ClassVar[Tolerance] = Tolerance(2**-6, "roundings move, and with them single int8 steps")

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        weight_only = WeightOnly()
        store = ctx.weights if isinstance(ctx, SternaContext) else None
        values = WeightValues(op, store) if store is not None and any_float_layer(op) else None
        for pattern in (RaiseRmsNorm(weight_only), RaiseLinear(weight_only, values), FoldReshapes()):
            PatternRewriteWalker(pattern, apply_recursively=False).rewrite_module(op)
            erase_dead_code(op)
