"""The recorder: texts, identities and lineage over small passes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.context import Context
from xdsl.dialects import arith, func
from xdsl.dialects.builtin import FileLineColLoc, IntAttr, ModuleOp, NameLoc, StringAttr
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import (
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
    op_type_rewrite_pattern,
)
from xdsl.transforms.canonicalize import CanonicalizePass
from xdsl.transforms.common_subexpression_elimination import CommonSubexpressionElimination

from sterna.dialects.context import make_context, parse
from sterna.inspector.lineage import Kind
from sterna.inspector.listing import list_module
from sterna.inspector.observer import RecordPasses
from sterna.inspector.recording import Recorder, Recording
from sterna.inspector.sources import Place, places
from sterna.inspector.stages import record_stages
from sterna.pass_runner import PassFailure, run_passes
from tests.raised_models import RaisedModel

PRODUCTS = """
func.func @forward(%a: f32, %b: f32) -> f32 {
  %p = arith.mulf %a, %b : f32
  %q = arith.mulf %a, %b : f32
  %s = arith.addf %p, %q : f32
  func.return %s : f32
}
"""


class AddIsSubtract(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: arith.AddfOp, rewriter: PatternRewriter) -> None:
        rewriter.replace(op, arith.SubfOp(op.lhs, op.rhs))


@dataclass(frozen=True)
class SubtractPass(ModulePass):
    name = "subtract"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        PatternRewriteWalker(AddIsSubtract()).rewrite_module(op)


@dataclass(frozen=True)
class RebuildPass(ModulePass):
    """Builds every function anew: no op survives, no value is replaced."""

    name = "rebuild"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in list(op.body.block.ops):
            text = parse(str(function).replace("arith.mulf", "arith.divf"))
            new = next(iter(text.body.block.ops))
            new.detach()
            for old, made in zip(function.walk(), new.walk(), strict=True):
                made.location = old.location
            function.detach()
            op.body.block.add_op(new)
            function.erase()


@dataclass(frozen=True)
class FailingPass(ModulePass):
    name = "failing"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        raise ValueError("cannot do this\nand more")


def record(module: ModuleOp, *passes: ModulePass) -> Recording:
    return Recorder(module).run(make_context(), module, passes)


def names_of(recording: Recording, links: list[tuple[int, int]]) -> list[tuple[str, str]]:
    return [(recording.tables.ops[old].name, recording.tables.ops[new].name) for old, new in links]


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.booleans())
def test_a_listing_is_what_prints(layers: int, bounds: bool) -> None:
    module = parse(RaisedModel(layers=layers, hidden=8, mlp=12, lower_bounds=bounds).text())
    assert list_module(module).text == str(module)
    recorder = Recorder(module)
    recording = recorder.run(make_context(), module, [CanonicalizePass(), CommonSubexpressionElimination()])
    assert recording.text(len(recording.stages) - 1) == str(module)


def test_layers_share_their_templates() -> None:
    few, many = (
        Recorder(parse(RaisedModel(layers=layers, hidden=8, mlp=12).text())).recording for layers in (2, 12)
    )
    lines = len(many.stages[0].lines) - len(few.stages[0].lines)
    # What differs between layers is the names of the weights.
    assert len(many.tables.templates) - len(few.tables.templates) < 0.75 * lines


def test_a_value_keeps_its_number_when_its_name_changes() -> None:
    module = parse(PRODUCTS.replace("%s", "%4").replace("%p", "%1").replace("%q", "%2"))
    recording = record(module, CommonSubexpressionElimination())
    first, second = (stage.lines for stage in recording.stages)
    returns = [line for line in second if "func.return" in recording.line_text(recording.stages[1], line)]
    assert set(returns) <= set(first)
    assert recording.text(0) != recording.text(1)


def test_a_pass_that_changes_nothing_is_told() -> None:
    recording = record(parse(PRODUCTS), CanonicalizePass(), SubtractPass())
    assert [run.changed for run in recording.passes] == [False, True]
    assert len(recording.stages) == 2


def test_a_replaced_op_is_linked_to_its_replacement() -> None:
    recording = record(parse(PRODUCTS), SubtractPass())
    (link,) = recording.passes[0].links
    assert link.kind is Kind.REPLACED
    assert names_of(recording, [(link.old, link.new)]) == [("arith.addf", "arith.subf")]
    run = recording.passes[0]
    assert (run.added, run.removed, run.modified) == (1, 1, 1)


def test_merged_ops_are_linked_to_the_one_that_stays() -> None:
    recording = record(parse(PRODUCTS), CommonSubexpressionElimination())
    (link,) = recording.passes[0].links
    assert names_of(recording, [(link.old, link.new)]) == [("arith.mulf", "arith.mulf")]


def test_without_a_watched_rewrite_the_location_links() -> None:
    module = parse(PRODUCTS)
    for line, op in enumerate(module.walk()):
        op.location = FileLineColLoc(StringAttr("model.py"), IntAttr(line), IntAttr(0))
    recording = record(module, RebuildPass())
    linked = names_of(recording, [(link.old, link.new) for link in recording.passes[0].links])
    assert ("arith.mulf", "arith.divf") in linked
    assert {link.kind for link in recording.passes[0].links} == {Kind.LOCATION}


def test_what_fed_only_a_replaced_op_is_absorbed() -> None:
    class Double(RewritePattern):
        @op_type_rewrite_pattern
        def match_and_rewrite(self, op: arith.AddfOp, rewriter: PatternRewriter) -> None:
            product = op.lhs.owner
            if isinstance(product, arith.MulfOp):
                rewriter.replace(op, arith.DivfOp(product.lhs, product.rhs))

    @dataclass(frozen=True)
    class DoublePass(ModulePass):
        name = "double"

        def apply(self, ctx: Context, op: ModuleOp) -> None:
            PatternRewriteWalker(Double()).rewrite_module(op)
            CanonicalizePass().apply(ctx, op)

    recording = record(parse(PRODUCTS), DoublePass())
    kinds = {recording.tables.ops[link.old].name: link.kind for link in recording.passes[0].links}
    assert kinds == {"arith.addf": Kind.REPLACED, "arith.mulf": Kind.ABSORBED}


def test_a_copy_of_the_module_keeps_the_identities() -> None:
    module = parse(PRODUCTS)
    recorder = Recorder(module)
    copy = module.clone()
    with recorder.around(SubtractPass(), copy):
        SubtractPass().apply(make_context(), copy)
    assert recorder.recording.passes[0].added == 1


def test_the_observer_records_the_same() -> None:
    module = parse(PRODUCTS)
    observer = RecordPasses()
    run_passes(make_context(), module, [CanonicalizePass(), SubtractPass()], [observer])
    assert [run.name for run in observer.recording.passes] == ["canonicalize", "subtract"]
    assert [link.kind for link in observer.recording.passes[1].links] == [Kind.REPLACED]
    assert observer.recording.text(1) == str(module)


def test_the_observer_keeps_what_came_before_a_failure() -> None:
    observer = RecordPasses()
    with pytest.raises(PassFailure):
        run_passes(make_context(), parse(PRODUCTS), [SubtractPass(), FailingPass()], [observer])
    assert [run.error is None for run in observer.recording.passes] == [True, False]
    assert "cannot do this" in str(observer.recording.passes[1].error)


def test_a_failing_pass_is_the_last_and_leaves_xdsl_as_it_was() -> None:
    clone = Operation.clone_without_regions
    module = parse(PRODUCTS)
    recorder = Recorder(module)
    with pytest.raises(ValueError, match="cannot do this"):
        recorder.run(make_context(), module, [SubtractPass(), FailingPass()])
    assert recorder.recording.passes[-1].error == "cannot do this"
    assert Operation.clone_without_regions is clone


def test_places_of_a_location() -> None:
    line = FileLineColLoc(StringAttr("m.py"), IntAttr(7), IntAttr(0))
    named = NameLoc(StringAttr("model.layers.0"), line)
    assert places(named) == (Place("model.layers.0", "m.py", 7),)
    assert places(func.ReturnOp().location) == ()


def test_stages_kept_as_text_are_matched_by_their_lines() -> None:
    module = parse(RaisedModel(layers=2, hidden=8, mlp=12).text())
    before = str(module)
    PatternRewriteWalker(AddIsSubtract()).rewrite_module(module)
    recording = record_stages({"first": before, "second": str(module)})
    assert [recording.text(0), recording.text(1)] == [before, str(module)]
    (run,) = recording.passes
    assert run.name == "second"
    assert 0 < run.added == run.removed < len(recording.ops(0)) / 4
