"""Results without rows, states among them: right for no row, for one, and for more than a call takes at once."""

from __future__ import annotations

import numpy as np
import pytest

from sterna.targets.program import InputError
from tests.cpu_programs import MAX_ROWS, PlannedProgram

WEIGHT = """
ternary.weight @w : tensor<4xf32>
func.func @forward(%x : tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<4xf32>) {
  %w = ternary.load @w : tensor<4xf32>
  %y = ternary.rms_norm %x, %w eps = 1.0e-06 lanes = 16 : tensor<?x4xf32>, tensor<4xf32>
  func.return %y, %w : tensor<?x4xf32>, tensor<4xf32>
}"""

SUM = """
func.func @forward(%x : tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<4xf32>) {
  %one = arith.constant 1.0 : f32
  %i = tensor.splat %one : tensor<4xf32>
  %s = linalg.reduce ins(%x : tensor<?x4xf32>) outs(%i : tensor<4xf32>) dimensions = [0] (%a : f32, %b : f32) {
    %c = arith.addf %a, %b : f32
    linalg.yield %c : f32
  }
  func.return %x, %s : tensor<?x4xf32>, tensor<4xf32>
}"""

ROWS = """
func.func @forward(%x : tensor<?x4xf32>) -> tensor<i64> {
  %zero = arith.constant 0 : index
  %rows = tensor.dim %x, %zero : tensor<?x4xf32>
  %number = arith.index_cast %rows : index to i64
  %y = tensor.splat %number : tensor<i64>
  func.return %y : tensor<i64>
}"""

STATE_BESIDE_STATIC = """
func.func @forward(%x : tensor<?x4xf32>, %k : tensor<4xf32>, %s : tensor<4xf32>)
    -> (tensor<?x4xf32>, tensor<4xf32>, tensor<4xf32>) attributes {sterna.states = 1 : i64} {
  %y, %last = ternary.scan %x, %x, %s : tensor<?x4xf32>, tensor<4xf32>
  %n = arith.negf %k : tensor<4xf32>
  func.return %y, %n, %last : tensor<?x4xf32>, tensor<4xf32>, tensor<4xf32>
}"""

OLD_STATE = """
func.func @forward(%x : tensor<?x4xf32>, %s : tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
    attributes {sterna.states = 1 : i64} {
  %y, %last = ternary.scan %x, %x, %s : tensor<?x4xf32>, tensor<4xf32>
  func.return %s, %last : tensor<4xf32>, tensor<4xf32>
}"""

STATE_TWICE = """
func.func @forward(%x : tensor<?x4xf32>, %s : tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
    attributes {sterna.states = 1 : i64} {
  %y, %last = ternary.scan %x, %x, %s : tensor<?x4xf32>, tensor<4xf32>
  func.return %last, %last : tensor<4xf32>, tensor<4xf32>
}"""

PROGRAMS = {
    "a weight": (WEIGHT, True),
    "a sum over rows": (SUM, False),
    "the number of rows": (ROWS, False),
    "a state beside a static result": (STATE_BESIDE_STATIC, True),
    "the state before": (OLD_STATE, False),
    "a state that is also a result": (STATE_TWICE, False),
}
"""With whether the rows are independent, so that many run in pieces."""


@pytest.mark.parametrize(("text", "in_pieces"), PROGRAMS.values(), ids=PROGRAMS)
def test_static_results_are_the_interpreters_whatever_the_rows(text: str, in_pieces: bool) -> None:
    program = PlannedProgram(text, {"w": np.arange(4, dtype=np.float32)} if "@w" in text else {})
    assert program.program.in_pieces == in_pieces
    generator = np.random.default_rng(0)
    for rows in (0, 1, MAX_ROWS, MAX_ROWS + 1, 2 * MAX_ROWS, 3 * MAX_ROWS + 1):
        shapes = [[rows if size == -1 else size for size in t.ir_shape] for t in program.program.inputs]
        inputs = [generator.standard_normal(shape).astype(np.float32) for shape in shapes]
        for threads in (1, 2):
            if rows > MAX_ROWS and not in_pieces:
                with pytest.raises(InputError, match="takes at most"):
                    program.executable("baseline", threads).run(inputs)
            else:
                program.check(inputs, isa="baseline", threads=threads)
