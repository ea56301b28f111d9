"""Makes one op of a norm (of a norm) and the quantizations of everything that reads it.

    %h = ternary.rms_norm %x, %a eps = 1.0e-06 lanes = 16 : tensor<?x256xf32>, tensor<256xf32>
    %ni = ternary.rms_norm %h, %gi eps = 1.0e-08 lanes = 16 : tensor<?x256xf32>, tensor<256xf32>
    %qi, %di = ternary.quantize %ni eps = 1.0e-05 : tensor<?x256xf32> -> tensor<?x256xi8>, tensor<?xf32>
    ... the same for f and g, each with its own weight ...

becomes, with `@i.outer` = gi * a as a derived weight, and so on,

    %i = ternary.load @i.outer : tensor<256xf32>
    %qi, %qf, %qg, %di, %df, %dg = ternary.norm_quantize %x of %a : tensor<256xf32> outer_eps = 1.0e-06
        gains(%i, %f, %g : ...) eps = 1.0e-08 quantize_eps = 1.0e-05 lanes = 16 : ...

Why it is right: `quantize` divides by the row's largest magnitude, so it gives the same integers for any
positive factor of a row, and the norm's reciprocal is such a factor. The norm of a norm is one too: with r_o =
1 / rms(x) and h = x r_o a, rms(h)^2 = r_o^2 sum((x a)^2) / K. So sum x^2, sum (x a)^2 and every max |x a g_j|
come from one read of x. In real arithmetic this is exact, clamps included (`ternary.norm_quantize` carries each
eps).

In f32 it moves roundings. The integers: in the quotient of an element by the row's maximum the reciprocals
cancel, and what is left has at most ten roundings before and eight after. So the two products that are rounded
to an integer differ by less than 127 * 18 * 2^-24 = 1.4e-4: an integer changes by at most 1, and only where its
product lies that close to a half. (In a row so small that `quantize_eps` replaces its maximum, the reciprocal's
own error counts, as in the steps.) The steps: two orders of summing K squares differ by at most (K / lanes +
16) 2^-23, relative. A row whose sum of squares overflows (|x| > 1e19) is zero before and may be NaN after.
`tests/property/test_fuse_norm_quantize.py` checks both bounds; measured, 1.4 integers in a million change (K =
2560, normal x) and steps by 4e-7 at most. From this pass on, the fused program is the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.arith import MulfOp
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.transforms.dead_code_elimination import region_dce

from sterna.dialects.ternary import LoadOp, NormQuantizeOp, QuantizeOp, RmsNormOp
from sterna.passes.derived_weights import DerivedWeights, weight_name
from sterna.passes.tolerance import Tolerance


def identity(value: SSAValue) -> SSAValue | str:
    """Two loads of one weight are the same value."""
    return weight_name(value) or value


@dataclass(frozen=True)
class QuantizedNorm:
    """A quantize, the norm that it reads, and the norm which that one reads, if there is one."""

    quantize: QuantizeOp
    norm: RmsNormOp
    outer: RmsNormOp | None

    @property
    def x(self) -> SSAValue:
        return self.norm.x if self.outer is None else self.outer.x

    @property
    def shared(self) -> tuple[object, ...]:
        """What quantizations have in common when one op can make them all."""
        outer = self.outer and (identity(self.outer.weight), self.outer.eps)
        return (self.x, outer, self.norm.eps, self.norm.lanes, self.quantize.eps)


def match_quantized_norm(quantize: QuantizeOp) -> QuantizedNorm | None:
    if not isinstance(norm := quantize.x.owner, RmsNormOp):
        return None
    # The fused op may stand before `quantize`: its gain must be there already.
    if not isinstance(norm.weight, BlockArgument) and weight_name(norm.weight) is None:
        return None
    outer = norm.x.owner
    if (
        isinstance(outer, RmsNormOp)
        and outer.lanes == norm.lanes
        # Their product becomes a derived weight.
        and weight_name(outer.weight) is not None
        and weight_name(norm.weight) is not None
    ):
        return QuantizedNorm(quantize, norm, outer)
    return QuantizedNorm(quantize, norm, None)


@dataclass(frozen=True)
class FuseNormQuantizePass(ModulePass):
    name = "fuse-norm-quantize"
    tolerance: ClassVar[Tolerance] = Tolerance(
        2**-5, "roundings of the norm move, and with them single steps of int8"
    )

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        weights = DerivedWeights(op)
        for func in op.ops:
            if not isinstance(func, FuncOp):
                continue
            groups: dict[tuple[object, ...], list[QuantizedNorm]] = {}
            for quantize in func.walk():
                if isinstance(quantize, QuantizeOp) and (match := match_quantized_norm(quantize)):
                    groups.setdefault((quantize.parent, *match.shared), []).append(match)
            for group in groups.values():
                fuse(group, weights)
            region_dce(func.body)


def fuse(group: list[QuantizedNorm], weights: DerivedWeights) -> None:
    first = group[0]
    # Projections that share a norm weight share one quantized input.
    by_gain: dict[SSAValue | str, list[QuantizedNorm]] = {}
    for member in group:
        by_gain.setdefault(identity(member.norm.weight), []).append(member)

    loads: list[LoadOp] = []

    def load(name: str) -> SSAValue:
        loads.append(weights.load(name))
        return loads[-1].result

    def gain(weight: SSAValue | str) -> SSAValue:
        if not isinstance(weight, str):
            return weight
        if outer_name is None:
            return load(weight)
        return load(weights.derive(f"{weight}.outer", [weight, outer_name], lambda v: MulfOp(v[0], v[1])))

    outer_name = weight_name(first.outer.weight) if first.outer else None
    outer = load(outer_name) if outer_name is not None else None
    fused = NormQuantizeOp(
        first.x,
        [gain(weight) for weight in by_gain],
        outer=outer,
        outer_eps=first.outer.eps.value.data if first.outer else None,
        eps=first.norm.eps.value.data,
        quantize_eps=first.quantize.eps.value.data,
        lanes=first.norm.lanes.value.data,
    )
    fused.location = first.quantize.location
    Rewriter.insert_op([*loads, fused], InsertPoint.before(first.quantize))
    for members, q, step in zip(by_gain.values(), fused.q, fused.step, strict=True):
        for member in members:
            Rewriter.replace_op(member.quantize, [], [q, step])
