"""Compiling in memory: one instruction set, no file, the module left alone."""

from __future__ import annotations

import numpy as np
import pytest

import sterna
from sterna.dialects.context import parse
from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import run
from sterna.dialects.weights import ArrayStore
from sterna.ir_text import print_ir

TEXT = """
ternary.weight @g : tensor<20xf32>
func.func @forward(%x : tensor<?x20xf32>) -> tensor<?x20xf32> {
  %g = ternary.load @g : tensor<20xf32>
  %y = ternary.rms_norm %x, %g eps = 1.0e-6 lanes = 16 : tensor<?x20xf32>, tensor<20xf32>
  func.return %y : tensor<?x20xf32>
}
"""
WEIGHTS = ArrayStore({"g": np.linspace(-1, 1, 20, dtype=np.float32)})


def test_a_module_runs_without_an_artifact_and_stays_as_it_is() -> None:
    module = parse(TEXT)
    before = print_ir(module)
    x = np.random.default_rng(0).standard_normal((70, 20), np.float32)
    executable = sterna.jit(module, WEIGHTS, isa="baseline", threads=2)
    assert (executable.isa, executable.threads) == ("baseline", 2)
    assert np.array_equal(executable.run([x])[0], run(module, [x], weights=WEIGHTS)[0])
    assert print_ir(module) == before


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(CompileError, match="unknown instruction set 'sse9'"):
        sterna.jit(parse(TEXT), WEIGHTS, isa="sse9")
