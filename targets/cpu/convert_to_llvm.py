"""Converts `func`, `cf` and the `arith` of loop counters to the `llvm` dialect, one operation for one.

    func.func private @f(%n : i64) {           llvm.func internal @f(%n : i64) {
      %s = arith.addi %n, %n : i64               %s = llvm.add %n, %n : i64
      cf.br ^bb1(%s : i64)               ->      llvm.br ^bb1(%s : i64)
    ^bb1(%i : i64):                            ^bb1(%i : i64):
      func.return                                llvm.return
    }                                          }

Everything else in a kernel is in the `llvm` and `llvm_vector` dialects already.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, cf, func, llvm
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, i64
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import (
    GreedyRewritePatternApplier,
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
    op_type_rewrite_pattern,
)


class ConvertAdd(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: arith.AddiOp, rewriter: PatternRewriter) -> None:
        rewriter.replace(op, llvm.AddOp(op.lhs, op.rhs))


class ConvertCompare(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: arith.CmpiOp, rewriter: PatternRewriter) -> None:
        predicate = arith.CMPI_COMPARISON_OPERATIONS[op.predicate.value.data]
        code = IntegerAttr(llvm.ICmpPredicateFlag(predicate).to_int(), i64)
        rewriter.replace(op, llvm.ICmpOp(op.lhs, op.rhs, code))


class ConvertBranch(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: cf.BranchOp, rewriter: PatternRewriter) -> None:
        rewriter.replace(op, llvm.BrOp(op.successor, *op.arguments))


class ConvertConditionalBranch(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: cf.ConditionalBranchOp, rewriter: PatternRewriter) -> None:
        branch = llvm.CondBrOp(op.cond, op.then_block, op.then_arguments, op.else_block, op.else_arguments)
        rewriter.replace(op, branch)


class ConvertCall(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: func.CallOp, rewriter: PatternRewriter) -> None:
        result = op.results[0].type if op.results else None
        rewriter.replace(op, llvm.CallOp(op.callee, *op.arguments, return_type=result))


class ConvertReturn(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: func.ReturnOp, rewriter: PatternRewriter) -> None:
        rewriter.replace(op, llvm.ReturnOp(*op.arguments))


class ConvertFunction(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: func.FuncOp, rewriter: PatternRewriter) -> None:
        private = op.sym_visibility is not None and op.sym_visibility.data == "private"
        # A function without a body is linked in later, so it must stay visible until then.
        linkage = llvm.LinkageAttr("internal" if private and op.body.blocks else "external")
        (result,) = op.function_type.outputs or (llvm.LLVMVoidType(),)
        type = llvm.LLVMFunctionType(list(op.function_type.inputs), result)
        body = rewriter.move_region_contents_to_new_regions(op.body)
        rewriter.replace(op, llvm.FuncOp(op.sym_name, type, linkage, body=body))


@dataclass(frozen=True)
class ConvertToLLVMPass(ModulePass):
    name = "convert-to-llvm"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        patterns: list[RewritePattern] = [
            ConvertAdd(),
            ConvertCompare(),
            ConvertBranch(),
            ConvertConditionalBranch(),
            ConvertCall(),
            ConvertReturn(),
            ConvertFunction(),
        ]
        walker = PatternRewriteWalker(GreedyRewritePatternApplier(patterns), apply_recursively=False)
        walker.rewrite_module(op)
