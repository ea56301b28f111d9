"""Recognises products with weights that are ternary up to a scale, wherever the weight stands.

    %w : tensor<64x784xf32>, a weight whose elements are -0.5, 0 or 0.5
    %t = linalg.transpose ins(%w) ... permutation = [1, 0]
    %v = (sitofp %q) * 0.25                                    %q : tensor<?x784xi8>
    %y = linalg.matmul ins(%v, %t : tensor<?x784xf32>, tensor<784x64xf32>) ...

becomes

    %trits, %scale = ternary.ternarize %w : tensor<64x784xf32> -> tensor<64x784x!ternary.trit>, tensor<f32>
    %acc = ternary.accumulate %q, %trits : tensor<?x784xi8>, tensor<64x784x!ternary.trit> -> tensor<?x64xi32>
    %y = ternary.dequantize %acc, 0.25, %scale : tensor<?x64xi32>, tensor<f32>, tensor<f32> -> tensor<?x64xf32>

That a weight is ternary is seen in its numbers, which are read from the store, one weight at a time: up to one scale,
or else one scale for each output channel. The product may be a `linalg.matmul` or a `linalg.generic` with one reduced
loop (batches, groups, depthwise), the weight either operand. Where the other operand is

* int8 by a step (`quantized_sources`), a constant or a scalar that is computed, the sums are integers. A zero point z
  is taken off as z times the sum of each channel's trits, which is a weight; where windows reach into padding, of the
  trits that meet an element;
* any other float, the sums are of floats, added or subtracted (`ternary.accumulate` of f32);
* integer, as in MatMulInteger and ConvInteger, the result stays so, and the scale is an integer.

Why it is right: sum_k ((q_k - z) s) (t_k u) = (sum_k q_k t_k - z sum_k t_k) (s u), and the integer sums are exact. What
moves in f32: the roundings of the float product, K of them, against two here; where the scale is 1 and the rows are
float, nothing moves but for the sign of a zero and what is not finite times 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects.builtin import (
    DenseArrayBase,
    Float32Type,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    f32,
    i8,
    i32,
)
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriteWalker
from xdsl.rewriter import Rewriter

from sterna.dialects.convolve_op import WINDOW_LISTS
from sterna.dialects.indexing_ops import without_units
from sterna.dialects.ternary import AccumulateOp, DequantizeOp, TernarizeOp, WindowsOp, tensor
from sterna.dialects.weights import SternaContext
from sterna.passes.contractions import Contraction, Loops, Operand, match_contraction
from sterna.passes.dead_code import erase_dead_code
from sterna.passes.emission import Emission
from sterna.passes.fuse_convolutions import windows_behind
from sterna.passes.quantized_sources import Quantized, QuantizedSources, splat_or_fill
from sterna.passes.raise_bit_linear import FoldReshapes
from sterna.passes.tolerance import Tolerance
from sterna.passes.weight_values import WeightValues, scale_kind

Array = npt.NDArray[Any]

LARGEST_INTEGER_SCALE = 1 << 24
"""f32 holds integers up to here."""


@dataclass(frozen=True)
class Arrangement:
    """The parallel loops of a contraction by what reads them, each in the order of the result."""

    rows: Loops
    groups: Loops
    channels: Loops
    inner: int

    @staticmethod
    def of(product: Contraction, x: Operand, weight: Operand) -> Arrangement:
        rows = tuple(loop for loop in product.out if loop not in weight.loops)
        groups = tuple(loop for loop in product.out if loop in weight.loops and loop in x.loops)
        channels = tuple(loop for loop in product.out if loop not in x.loops)
        return Arrangement(rows, groups, channels, product.reduced)


@dataclass(frozen=True)
class RaiseProduct:
    """Rewrites one contraction at a time."""

    values: WeightValues

    def rewrite(self, product: Contraction) -> bool:
        for weight, x in ((product.rhs, product.lhs), (product.lhs, product.rhs)):
            if x.value in self.values.weight_only or (numbers := self.values.read(weight.value)) is None:
                continue
            loops, shared = {*x.loops, *weight.loops}, {*x.loops} & {*weight.loops}
            if not loops.issuperset(product.out) or product.reduced not in shared:
                continue  # an axis of equal sums, or one element that is multiplied by all
            arranged = Arrangement.of(product, x, weight)
            order = [
                weight.loops.index(loop) for loop in (*arranged.groups, *arranged.channels, arranged.inner)
            ]
            if weight.is_unsigned:
                numbers = numbers.view(f"u{numbers.itemsize}")
            matrix = numbers.transpose(order).reshape(-1, numbers.shape[order[-1]])
            if (per_channel := scale_kind(matrix)) is None or not matrix.size:
                continue
            kind = Kind(per_channel, bool(matrix.all()), float(np.abs(matrix).max()))
            emission = Emission(product.op)
            if Rewrite(self.values, product, x, weight, arranged, emission).run(order, kind):
                return True
            emission.discard()
            return False
        return False


@dataclass(frozen=True)
class Kind:
    """What the numbers of a weight are."""

    per_channel: bool
    is_binary: bool
    largest: float
    """The scale, or the largest of them."""

    @property
    def is_unscaled(self) -> bool:
        return self.largest == 1 and not self.per_channel


@dataclass(frozen=True)
class Rewrite:
    values: WeightValues
    product: Contraction
    x: Operand
    weight: Operand
    arranged: Arrangement
    emission: Emission

    def run(self, order: list[int], kind: Kind) -> bool:
        is_float = isinstance(tensor(self.product.result).element_type, Float32Type)
        source = self._source()
        rows = self._rows(self.x.value if source is None else source.q)
        padded = None if source is None else source.padded
        covered = None if padded is None else self._covered(padded, rows)
        if padded is not None and covered is None:
            source, rows = None, self._rows(self.x.value)
        if not is_float and (source is None or kind.largest > LARGEST_INTEGER_SCALE):
            return False
        w = self._weight_matrix(order)
        ternarize = TernarizeOp(w, per_channel=kind.per_channel, is_binary=kind.is_binary)
        self.emission.add(ternarize)
        groups = self._count(self.arranged.groups)
        if source is None:
            acc = self.emission.add(AccumulateOp(rows, ternarize.trits, groups))
            scale = self.emission.along_last_axis(ternarize.scale, acc)
            y = acc if kind.is_unscaled else self._add(arith.MulfOp(acc, scale))
        else:
            acc = self._add(AccumulateOp(rows, ternarize.trits, groups))
            acc = self._without_zero(source, acc, ternarize.trits, groups, covered)
            if is_float:
                step = source.step
                if not isinstance(step, SSAValue):
                    step = self.emission.number(step, f32)
                y = self._add(DequantizeOp(acc, step, ternarize.scale))
            else:
                y = self._scaled_integers(acc, ternarize.scale, is_one=kind.is_unscaled)
        self._finish(y)
        return True

    def _add(self, op: Operation) -> SSAValue:
        return self.emission.add(op)

    def _source(self) -> Quantized | None:
        """The int8 tensor that the activations are, if they are one."""
        sources = QuantizedSources(self.values, self.emission)
        return sources.find(self.x.value, is_unsigned=self.x.is_unsigned)

    def _weight_matrix(self, order: list[int]) -> SSAValue:
        """The weight as f32 `[groups x channels, inner]`."""
        value = self.weight.value
        type = tensor(value)
        if type.element_type != f32:
            value = self.emission.map(
                value, f32, arith.UIToFPOp if self.weight.is_unsigned else arith.SIToFPOp
            )
        value = self.emission.transpose(value, order)
        rank = len(order)
        if rank == 1:
            return self.emission.expand(value, [(0, 1)], (1, type.get_shape()[0]))
        return self.emission.collapse(value, [range(rank - 1), (rank - 1,)])

    def _rows(self, value: SSAValue) -> SSAValue:
        """The activations as `[rows..., groups x inner]`."""
        arranged = self.arranged
        order = [self.x.loops.index(loop) for loop in (*arranged.rows, *arranged.groups, arranged.inner)]
        value = self.emission.transpose(value, order)
        return self.emission.collapse(value, self._axes_by_row(len(order)))

    def _axes_by_row(self, rank: int) -> list[tuple[int, ...]]:
        """Of axes [rows..., others...], those that make each row axis of the sums, and their last axis.

        Rows of one element, which a framework's batch of 1 is, go with what follows them.
        """
        groups: list[tuple[int, ...]] = []
        units: tuple[int, ...] = ()
        rows = len(self.arranged.rows)
        for axis, loop in enumerate(self.arranged.rows):
            if self._size(loop) == 1:
                units = (*units, axis)
            else:
                groups, units = [*groups, (*units, axis)], ()
        return [*groups, (*units, *range(rows, rank))]

    def _covered(self, windows: WindowsOp, rows: SSAValue) -> SSAValue | None:
        """1 where a row `[positions..., columns]` has an element, 0 where it has padding, whatever its leading axes.

        None if the rows are not those windows as they are.
        """
        if windows_behind(rows) is not windows:
            return None
        x, leading = windows.x, windows.leading.value.data
        axes, *lists = (
            cast("DenseArrayBase[IntegerType]", windows.properties[name]).get_values()
            for name in WINDOW_LISTS
        )
        axes = [axis - leading for axis in axes]
        ones = self.emission.filled(1, i8, x, range(leading, tensor(x).get_num_dims()))
        options = dict(zip(WINDOW_LISTS[1:], lists, strict=True))
        slid = WindowsOp(ones, leading=0, axes=axes, padding=IntegerAttr(0, i8), **options)
        positions = len(without_units(slid.full_shape(tensor(ones).get_shape())[: len(axes)]))
        columns = range(positions, tensor(slid.result).get_num_dims())
        if not columns:
            return None
        return self.emission.collapse(self._add(slid), [*((n,) for n in range(positions)), columns])

    def _without_zero(
        self, source: Quantized, acc: SSAValue, trits: SSAValue, groups: int, covered: SSAValue | None
    ) -> SSAValue:
        """acc less the zero point times the sums of the trits that meet an element."""
        if source.zero == 0 and source.offset is None:
            return acc
        columns = tensor(trits).get_shape()[1] * groups
        if source.offset is None:
            zeros = self.emission.number(source.zero, i8, (columns,))
            sums = self._add(AccumulateOp(zeros, trits, groups))
            return self._add(arith.SubiOp(acc, self.emission.along_last_axis(sums, acc)))
        ones = self.emission.number(1, i8, (columns,)) if covered is None else covered
        sums = self.emission.along_last_axis(self._add(AccumulateOp(ones, trits, groups)), acc)
        zero = source.offset
        if tensor(zero).element_type == f32:
            zero = self.emission.map(zero, i32, arith.FPToSIOp)
        if source.zero:
            zero = self._add(arith.AddiOp(zero, self.emission.number(source.zero, i32)))
        less = self._add(arith.MuliOp(self.emission.along_last_axis(zero, acc), sums))
        return self._add(arith.SubiOp(acc, less))

    def _scaled_integers(self, acc: SSAValue, scale: SSAValue, *, is_one: bool) -> SSAValue:
        element: Any = tensor(self.product.result).element_type
        if element != i32:
            acc = self.emission.map(acc, element, arith.ExtSIOp if element.bitwidth > 32 else arith.TruncIOp)
        if is_one:
            return acc
        integers = self.emission.map(scale, element, arith.FPToSIOp)
        return self._add(arith.MuliOp(acc, self.emission.along_last_axis(integers, acc)))

    def _finish(self, y: SSAValue) -> None:
        """Replaces the product by `y` `[rows..., groups x channels]`, reshaped, and the initial value."""
        arranged = self.arranged
        parallel = (*arranged.rows, *arranged.groups, *arranged.channels)
        by_row = self._axes_by_row(len(parallel))
        if len(parallel) == len(arranged.rows):
            # One channel, whose axis the result does not have: its place is taken by the rows of one, if there are any.
            *kept, units = by_row
            if not units:
                rows = tensor(y).get_num_dims() - 1
                y = self.emission.collapse(
                    y, [*((axis,) for axis in range(rows - 1)), (rows - 1, rows)] if rows else []
                )
                by_row = kept
        y = self.emission.expand(y, by_row, [self._size(loop) for loop in parallel])
        y = self.emission.transpose(y, [parallel.index(loop) for loop in self.product.out])
        if splat_or_fill(self.product.init) != 0:
            add = arith.AddfOp if tensor(y).element_type == f32 else arith.AddiOp
            y = self._add(add(self.product.init, y))
        self.emission.insert()
        Rewriter.replace_op(self.product.op, [], [y])

    def _size(self, loop: int) -> int:
        return tensor(self.product.result).get_shape()[self.product.out.index(loop)]

    def _count(self, loops: Loops) -> int:
        return prod(self._size(loop) for loop in loops)


@dataclass(frozen=True)
class RaiseTernaryProductsPass(ModulePass):
    """See the module's docstring."""

    name = "raise-ternary-products"
    tolerance: ClassVar[Tolerance] = Tolerance(2**-6, "roundings move, and with them single int8 steps")

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        store = ctx.weights if isinstance(ctx, SternaContext) else None
        raising = RaiseProduct(WeightValues(op, store))
        for function in (each for each in op.ops if isinstance(each, FuncOp)):
            for product in filter(None, map(match_contraction, list(function.walk()))):
                raising.rewrite(product)
        PatternRewriteWalker(FoldReshapes(), apply_recursively=False).rewrite_module(op)
        erase_dead_code(op)
