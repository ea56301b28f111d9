"""Passes with defects, known to tests only: register them with the fixture `planted`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects.builtin import FloatAttr, ModuleOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import (
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
    op_type_rewrite_pattern,
)

from sterna import passes
from sterna.dialects.errors import CompileError
from sterna.passes.tolerance import Tolerance


class SwapOperands(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: arith.SubfOp, rewriter: PatternRewriter) -> None:
        if "swapped" not in op.attributes:
            swapped = arith.SubfOp(op.rhs, op.lhs)
            swapped.attributes["swapped"] = op.fastmath
            swapped.location = op.location
            rewriter.replace(op, swapped)


@dataclass(frozen=True)
class SwapOperandsPass(ModulePass):
    """A miscompile: a - b becomes b - a."""

    name = "swap-operands"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        PatternRewriteWalker(SwapOperands()).rewrite_module(op)


class CrashOnDivision(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: arith.DivfOp, rewriter: PatternRewriter) -> None:
        raise KeyError("no such divisor")


@dataclass(frozen=True)
class CrashPass(ModulePass):
    """A defect: raises an exception that is not ours at a division."""

    name = "crash"
    times: int = 1

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        PatternRewriteWalker(CrashOnDivision()).rewrite_module(op)


@dataclass(frozen=True)
class DividedProductCrashPass(ModulePass):
    """A defect that needs two operations: a division that reads a product."""

    name = "crash-on-divided-product"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for division in op.walk():
            if isinstance(division, arith.DivfOp) and isinstance(division.lhs.owner, arith.MulfOp):
                raise KeyError("a product is divided")


@dataclass(frozen=True)
class RefusePass(ModulePass):
    """Complains about the input, as a pass should."""

    name = "refuse"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for inner in op.walk():
            if isinstance(inner, arith.SubfOp):
                raise CompileError("subtraction is not for us", inner.location)


@dataclass(frozen=True)
class BreakPass(ModulePass):
    """Leaves a module that does not verify: an addition whose operands have another type than its result."""

    name = "break-types"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for inner in op.walk():
            if isinstance(inner, arith.SubfOp):
                arguments = inner.parent_block().args  # pyright: ignore[reportOptionalMemberAccess]
                inner.operands = [arguments[-1], arguments[-1]]


@dataclass(frozen=True)
class RoundPass(ModulePass):
    """Moves every constant a little, and says so."""

    name = "move-roundings"
    tolerance: ClassVar[Tolerance] = Tolerance(2**-10, "constants move by one part in ten thousand")

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for inner in op.walk():
            if isinstance(inner, arith.ConstantOp) and isinstance(value := inner.value, FloatAttr):
                inner.properties["value"] = FloatAttr(value.value.data * (1 + 1e-4), value.type)


PLANTED = (
    SwapOperandsPass,
    CrashPass,
    DividedProductCrashPass,
    RefusePass,
    BreakPass,
    RoundPass,
)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for pass_type in PLANTED:
        monkeypatch.setitem(passes.PASSES, pass_type.name, pass_type)
