"""docs/ir.md: its programs are programs, and it leaves no operation out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from xdsl.ir import Dialect

from sterna.dialects.context import parse
from sterna.dialects.fixed import Fixed
from sterna.dialects.semantics.arith import ArithFunctions
from sterna.dialects.semantics.func import FuncFunctions
from sterna.dialects.semantics.linalg import LinalgFunctions
from sterna.dialects.semantics.math import MathFunctions
from sterna.dialects.semantics.scf import ScfFunctions
from sterna.dialects.semantics.tensor import TensorFunctions
from sterna.dialects.stream import Stream
from sterna.dialects.ternary import Ternary

TEXT = (Path(__file__).parents[2] / "docs" / "ir.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```mlir\n(.*?)^```$", TEXT, re.M | re.S)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_reads_and_verifies(program: str) -> None:
    module = parse(program, "docs/ir.md")
    assert parse(str(module)).is_structurally_equivalent(module)


@pytest.mark.parametrize("dialect", [Ternary, Fixed, Stream], ids=lambda dialect: dialect.name)
def test_every_operation_of_ours_is_in_a_program(dialect: Dialect) -> None:
    met = {op.name for program in PROGRAMS for op in parse(program).walk()}
    assert {op.name for op in dialect.operations} <= met


@pytest.mark.parametrize(
    "functions",
    [ArithFunctions, MathFunctions, TensorFunctions, LinalgFunctions, FuncFunctions, ScfFunctions],
)
def test_every_upstream_operation_is_listed(functions: type[ArithFunctions]) -> None:
    for op, _ in functions._impls():
        dialect, name = op.name.split(".")
        rows = [row for row in TEXT.split("\n") if row.startswith(f"| `{dialect}`")]
        assert any(f"`{name}`" in row for row in rows), op.name
