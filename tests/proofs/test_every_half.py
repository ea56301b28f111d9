"""The kernels that widen numbers of 16 bits are right for every float16 and every bfloat16 there is."""

from __future__ import annotations

import numpy as np
import pytest

from sterna.dialects.elements import from_bfloat16_bits
from tests.cpu_programs import PlannedProgram, isa_names

TABLE = """
ternary.weight @table : tensor<256x256x{element}>
func.func @forward(%tokens : tensor<?xi64>) -> tensor<?x256xf32> {{
  %t = ternary.load @table : tensor<256x256x{element}>
  %y = ternary.embedding %tokens, %t : tensor<?xi64>, tensor<256x256x{element}> -> tensor<?x256xf32>
  func.return %y : tensor<?x256xf32>
}}
"""
BITS = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
TABLES = {"f16": BITS.view(np.float16), "bf16": from_bfloat16_bits(BITS)}


@pytest.mark.parametrize("element", sorted(TABLES))
@pytest.mark.parametrize("isa", isa_names())
def test_all_65536_widen_exactly(isa: str, element: str) -> None:
    program = PlannedProgram(TABLE.format(element=element), {"table": TABLES[element]})
    assert program.packed.nbytes == 2 * BITS.size
    program.check([np.arange(256)], isa=isa, threads=1)
