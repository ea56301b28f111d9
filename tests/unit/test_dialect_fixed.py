"""The text of the `fixed` dialect, and what its verifiers refuse."""

from __future__ import annotations

import numpy as np
import pytest

from sterna.dialects.context import parse
from sterna.dialects.errors import CompileError
from sterna.dialects.exactness import refuse_wrapping
from sterna.dialects.interpreter import ModuleInterpreter, run

REFUSED = {
    "fixed.rescale %x by 65 : tensor<?x8xi18> to tensor<?x8xi8>": "by is from -64 to 64",
    "fixed.rescale %f by 1 : tensor<?x8xf32> to tensor<?x8xi8>": "integers of 2 to 63 bits",
    "fixed.rescale %x by 1 : tensor<?x8xi18> to tensor<?x4xi8>": "one shape",
    "fixed.rescale %x by 1 : tensor<?x8xi18> to tensor<?x8xi64>": "integers of 2 to 63 bits",
    "fixed.shift_right %x by %f : tensor<?x8xi18>, tensor<?x8xf32> to tensor<?x8xi8>": "integers of 2 to 63 bits",
    "fixed.sum %x : tensor<?x8xi18> -> tensor<?xi20>": "may need 21 bits, the result has 20",
    "fixed.sum %x : tensor<?x8xi18> -> tensor<8xi30>": "has the shape",
    "fixed.max %x : tensor<?x8xi18> -> tensor<?xi19>": "the width of the elements",
    "fixed.interpolate %x, @g : tensor<?x8xi18> to tensor<?x8xi18>": "is not a fixed.table",
    "fixed.interpolate %x, @f : tensor<?x8xi18> to tensor<?x8xi18>": "is from i4 to i8",
    "fixed.from_float %f : tensor<?x8xf32> -> tensor<?x8xi18>": "have a #fixed.point",
    "fixed.from_float %x : tensor<?x8xi18> -> tensor<?x8xi18, #fixed.point<3>>": "the floats",
    "fixed.to_float %p : tensor<?x8xi18, #fixed.point<9>> -> tensor<?x4xf32>": "the floats",
    "ternary.accumulate %q, %w : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xi11>": "needs i12",
    "ternary.accumulate %q, %w : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xf32>": "acc is",
}
ARGUMENTS = (
    "%x : tensor<?x8xi18>, %f : tensor<?x8xf32>, %p : tensor<?x8xi18, #fixed.point<9>>, %q : tensor<?x8xi8>, "
    "%w : tensor<4x8x!ternary.trit>"
)


@pytest.mark.parametrize("line", REFUSED)
def test_wrong_types_are_refused(line: str) -> None:
    with pytest.raises(CompileError, match=REFUSED[line]):
        parse(
            f"fixed.table @f signed i4 -> i8 [0, 1, 2]\nfunc.func @forward({ARGUMENTS}) {{\n  %r = {line}\n"
            "  func.return\n}"
        )


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("signed i4 -> i8 [0, 1, 2, 3]", "2\\^B \\+ 1 samples"),
        ("signed i4 -> i8 [5]", "2\\^B \\+ 1 samples"),
        ("signed i4 -> i8 [0, 300, 2]", "samples are of i8"),
        ("signed i2 -> i8 [0, 1, 2, 3, 4, 5, 6, 7, 8]", "need no more samples"),
        ("unsigned i40 -> i8 [0, 1, 2]", "at most 32 bits"),
        ("unsigned f32 -> i8 [0, 1, 2]", "from integers to integers"),
        ("unsigned i8 -> i8 [99999999999999999999]", "at most 64 bits"),
        ("i8 -> i8 [0, 1]", "signed or unsigned"),
    ],
)
def test_wrong_tables_are_refused(table: str, complaint: str) -> None:
    with pytest.raises(CompileError, match=complaint):
        parse(f"fixed.table @f {table}")


def test_normalize_asks_for_room_for_its_zeros() -> None:
    line = "%m, %z = fixed.normalize %x step {} : tensor<?xi18> to {}"
    text = f"func.func @forward(%x : tensor<?xi18>) {{{{\n  {line}\n  func.return\n}}}}"
    with pytest.raises(CompileError, match="step 2 does not divide the 17 bits"):
        parse(text.format(2, "tensor<?xi8>, tensor<?xi6>"))
    with pytest.raises(CompileError, match="the number of zeros may be 17"):
        parse(text.format(1, "tensor<?xi8>, tensor<?xi5>"))
    parse(text.format(1, "tensor<?xi8>, tensor<?xi6>"))


def test_a_binary_point_is_part_of_a_type() -> None:
    text = "func.func private @f(tensor<?x8xi18, #fixed.point<-3>>) -> tensor<4xi5, #fixed.point<40>>"
    module = parse(text)
    assert "#fixed.point<-3>" in str(module)
    assert parse(str(module)).is_structurally_equivalent(module)


def test_a_table_reads_back() -> None:
    module = parse("fixed.table @f unsigned i4 -> i8 [-128, 1, 127] attributes {point = 3 : i64}")
    assert parse(str(module)).is_structurally_equivalent(module)


def test_embedding_of_integers_is_the_rows_of_the_table() -> None:
    module = parse("""
    func.func @forward(%t : tensor<?xi64>, %w : tensor<3x2xi5, #fixed.point<2>>) -> tensor<?x2xi5, #fixed.point<2>> {
      %x = ternary.embedding %t, %w : tensor<?xi64>, tensor<3x2xi5, #fixed.point<2>> -> tensor<?x2xi5, #fixed.point<2>>
      func.return %x : tensor<?x2xi5, #fixed.point<2>>
    }""")
    (x,) = run(module, [np.array([2, 0]), np.array([[1, 2], [3, 4], [-16, 15]], np.int8)])
    assert x.tolist() == [[-16, 15], [1, 2]]


SUM = """
func.func @forward(%a : tensor<?xi5>, %b : tensor<?xi5>) -> tensor<?xi5> {
  %c = arith.addi %a, %b : tensor<?xi5>
  func.return %c : tensor<?xi5>
}"""


def test_the_checking_interpreter_refuses_a_sum_that_wraps() -> None:
    a, b = (np.array([value], np.int8) for value in (15, 1))
    assert run(parse(SUM), [a, b])[0] == -16
    with pytest.raises(CompileError, match="does not fit"):
        ModuleInterpreter(parse(SUM), observe=refuse_wrapping).run([a, b])
    ModuleInterpreter(parse(SUM), observe=refuse_wrapping).run([a - 1, b])


def test_an_input_beyond_its_width_is_refused() -> None:
    with pytest.raises(CompileError, match="does not fit"):
        run(parse(SUM), [np.array([16], np.int8), np.array([0], np.int8)])
