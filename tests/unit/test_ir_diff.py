"""The diff of IR: renumbering is no change, another operand is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sterna.instruments.ir_diff import diff

BEFORE = """func.func @f(%x: f32, %y: f32) -> f32 {
  %0 = arith.addf %x, %y : f32
  %1 = arith.subf %0, %x : f32
  %2 = arith.mulf %1, %0 : f32
  func.return %2 : f32
}"""


def changes(before: str, after: str) -> list[str]:
    return [line for line in diff(before, after, "a", "b")[2:] if line[0] in "+-"]


def test_renumbered_values_are_no_change() -> None:
    after = BEFORE.replace("%2", "%3").replace("%1", "%2").replace("%0", "%1")
    after = after.replace("  %1 = arith.addf", "  %0 = arith.constant 1.0 : f32\n  %1 = arith.addf")
    assert changes(BEFORE, after) == ["+  %0 = arith.constant 1.0 : f32"]


def test_swapped_operands_are_a_change() -> None:
    after = BEFORE.replace("mulf %1, %0", "mulf %0, %1")
    assert changes(BEFORE, after) == ["-  %2 = arith.mulf %1, %0 : f32", "+  %2 = arith.mulf %0, %1 : f32"]


def test_a_use_of_a_value_that_went_is_a_change() -> None:
    after = BEFORE.replace("%1 = arith.subf %0, %x", "%1 = arith.divf %0, %x")
    assert changes(BEFORE, after) == [
        "-  %1 = arith.subf %0, %x : f32",
        "-  %2 = arith.mulf %1, %0 : f32",
        "+  %1 = arith.divf %0, %x : f32",
        "+  %2 = arith.mulf %1, %0 : f32",
    ]


def test_another_attribute_of_a_function_leaves_its_lines_alone() -> None:
    after = BEFORE.replace("-> f32 {", "-> f32 attributes {a} {")
    assert len(changes(BEFORE, after)) == 2


@given(
    st.lists(st.sampled_from(BEFORE.splitlines()), max_size=12),
    st.lists(st.sampled_from(BEFORE.splitlines())),
)
def test_a_diff_with_all_its_context_holds_the_new_text(old: list[str], new: list[str]) -> None:
    lines = diff("\n".join(old), "\n".join(new), "a", "b", context=100)[3:]
    if lines:
        assert [line[1:] for line in lines if line[0] in " +"] == new
        assert len([line for line in lines if line[0] in " -"]) == len(old)
