"""Generated programs: every operation is among them, they run, and they read back as they were printed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from sterna.dialects.context import parse
from sterna.dialects.interpreter import interpreted_operations
from sterna.ir_text import print_ir
from sterna.testing import ROW_OPS, ROWS, IrProgram, inputs_of, ir_modules
from sterna.testing.recipes import ALL, RECIPES

QUICK = settings(max_examples=25, suppress_health_check=list(HealthCheck), phases=[Phase.generate])

PARTS = {
    "func.return": "func.call",
    "linalg.yield": "linalg.generic",
    "scf.yield": "scf.for",
    "tensor.yield": "tensor.pad",
    "tensor.empty": "linalg.fill",
    "ternary.yield": "ternary.elementwise",
    "ternary.load": "ternary.weight",
}
"""Operations that are drawn as part of another."""

DRAWN = sorted(name for name in interpreted_operations() if not name.startswith("fixed."))
"""A pass makes programs in fixed point, of widths that fit each other: `test_to_fixed_point.py` draws models for it."""


def operations(module: ModuleOp) -> set[str]:
    return {op.name for op in module.walk()}


def test_every_operation_of_the_interpreter_has_a_recipe() -> None:
    assert set(DRAWN) - set(PARTS) <= set(RECIPES)
    assert set(PARTS.values()) <= set(RECIPES)


@pytest.mark.parametrize("name", DRAWN)
def test_every_operation_is_generated(name: str) -> None:
    recipe = PARTS.get(name, name)
    program = find(
        ir_modules([recipe], max_ops=2), lambda program: name in operations(program.module), settings=QUICK
    )
    assert name in operations(program.module)


@settings(max_examples=60)
@given(st.data())
def test_generated_programs_run_and_read_back(data: st.DataObject) -> None:
    program = data.draw(ir_modules())
    text = print_ir(program.module)
    assert print_ir(parse(text)) == text
    results = program.run(data.draw(inputs_of(program.module)))
    forward = next(
        op for op in program.module.ops if isinstance(op, FuncOp) and op.sym_name.data == "forward"
    )
    assert len(results) == len(forward.function_type.outputs)


@settings(max_examples=30)
@given(program=ir_modules(ROW_OPS, limits=ROWS))
def test_a_program_can_be_pasted(program: IrProgram) -> None:
    again = eval(
        repr(program),
        {"np": np, "IrProgram": IrProgram, "decode": __import__("sterna.testing").testing.decode},
    )
    assert again.text.strip() == program.text.strip()
    for name, array in program.weights.items():
        assert array.tobytes() == again.weights[name].tobytes()


def test_an_unknown_operation_is_named() -> None:
    with pytest.raises(Exception, match=r"no recipe draws arith.addq"):
        find(ir_modules(["arith.addq"]), lambda program: True)


@pytest.mark.slow  # it draws hundreds of programs
def test_a_failure_shrinks_to_the_operation_that_is_wrong() -> None:
    smallest = find(
        ir_modules(ROW_OPS, limits=ROWS),
        lambda program: "arith.subf" in operations(program.module),
        settings=settings(max_examples=1000, suppress_health_check=list(HealthCheck)),
    )
    assert "func.func" in smallest.text
    assert len(smallest.text.splitlines()) <= 6, smallest.text


def test_recipes_are_named_as_the_ir_names_them() -> None:
    idioms = set(ALL) - set(RECIPES)
    assert all("." in name for name in set(RECIPES) - {"contraction"})
    assert not any("." in name for name in idioms)
