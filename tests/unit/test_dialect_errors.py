"""Errors that users see: one line, with the place."""

from __future__ import annotations

import pytest
from xdsl.dialects.builtin import (
    CallSiteLoc,
    FileLineColLoc,
    FusedLoc,
    IntAttr,
    NameLoc,
    NoneAttr,
    StringAttr,
    UnknownLoc,
)
from xdsl.ir import Attribute

from sterna.dialects.context import make_context, parse
from sterna.dialects.errors import CompileError

LINE = FileLineColLoc(StringAttr("model.py"), IntAttr(12), IntAttr(4))


@pytest.mark.parametrize(
    ("location", "text"),
    [
        (None, "no"),
        (UnknownLoc(), "no"),
        ("weights.safetensors", "weights.safetensors: no"),
        (LINE, "model.py:12: no"),
        (NameLoc(StringAttr("layers.0.proj"), NoneAttr()), "layers.0.proj: no"),
        (NameLoc(StringAttr("layers.0.proj"), LINE), "model.py:12: layers.0.proj: no"),
        (FusedLoc([UnknownLoc(), LINE], NoneAttr()), "model.py:12: no"),
        (FusedLoc([], NoneAttr()), "no"),
        (CallSiteLoc(LINE, UnknownLoc()), "model.py:12: no"),
    ],
)
def test_an_error_says_what_its_location_knows(location: Attribute | str | None, text: str) -> None:
    assert str(CompileError("no", location)) == text


def test_an_error_is_one_line() -> None:
    assert str(CompileError("first\n  second", "a.py:1")) == "a.py:1: first second"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("func.func @f(", "model.mlir:1:14: Expected argument or type"),
        ("\n  foo.bar", "model.mlir:2:10: Operation foo.bar is not registered"),
        ("func.func @f() { func.return %x : f32 }", "model.mlir:1:"),
        ("%x = arith.constant dense<[1, 2]> : tensor<3xi32>", "model.mlir:1:"),
        ("ternary.weight @w : f32", "model.mlir"),
        ("ternary.weight @w", "model.mlir:1:18"),
        ('"ternary.yield"() : () -> ()\n"', "model.mlir:2:"),
        (
            "ternary.weight @w : tensor<4x8x!ternary.trit, #ternary.encoding<b3, tile = [4, 256]>>",
            "model.mlir",
        ),
        (
            "ternary.weight @w : tensor<4x8x!ternary.trit, #ternary.encoding<i3, tile = [4, 256]>>",
            "model.mlir",
        ),
        (
            "ternary.weight @w : tensor<4x8x!ternary.trit, #ternary.encoding<i2, tile = [4, 255]>>",
            "model.mlir",
        ),
        ("{" * 5000, "model.mlir"),
        ('// "fine\n%q = "' + "a" * 60, "model.mlir:2: this string is not closed"),
        ('ternary.weight @"a\\q" : tensor<f32>', "model.mlir:1: this string is not closed"),
        ("\0", "model.mlir"),
    ],
)
def test_bad_text_is_one_line_that_names_the_place(text: str, error: str) -> None:
    with pytest.raises(CompileError) as raised:
        parse(text, "model.mlir")
    assert str(raised.value).startswith(error)
    assert "\n" not in str(raised.value)


def test_a_broken_rule_names_the_operation_and_its_place() -> None:
    text = """
    func.func @f(%q : tensor<4xi8>, %w : tensor<2x5x!ternary.trit>) {
      %acc = ternary.accumulate %q, %w : tensor<4xi8>, tensor<2x5x!ternary.trit> -> tensor<2xi32> loc("m.py":7:0)
      func.return
    }"""
    with pytest.raises(CompileError, match=r"^m\.py:7: ternary\.accumulate: x has 4 columns, w has 5$"):
        parse(text)


def test_locations_survive_printing_with_debug_info() -> None:
    from io import StringIO

    from xdsl.printer import Printer

    module = parse('ternary.weight @w : tensor<4xf32> loc("layer.0"("m.py":3:0))')
    stream = StringIO()
    Printer(stream, print_debuginfo=True).print_op(module)
    assert parse(stream.getvalue()).body.block.first_op.location == module.body.block.first_op.location  # pyright: ignore


def test_a_context_does_not_accept_dialects_that_nothing_here_reads() -> None:
    assert make_context().get_optional_op("riscv.add") is None
    assert make_context().get_optional_op("ternary.scan") is not None
    assert make_context().get_optional_op("linalg.reduce") is not None
