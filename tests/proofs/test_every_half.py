"""The kernel that widens float16 is right for every float16 there is."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cpu_programs import PlannedProgram, isa_names

TABLE = """
ternary.weight @table : tensor<256x256xf16>
func.func @forward(%tokens : tensor<?xi64>) -> tensor<?x256xf32> {
  %t = ternary.load @table : tensor<256x256xf16>
  %y = ternary.embedding %tokens, %t : tensor<?xi64>, tensor<256x256xf16> -> tensor<?x256xf32>
  func.return %y : tensor<?x256xf32>
}
"""


@pytest.mark.parametrize("isa", isa_names())
def test_all_65536_widen_exactly(isa: str) -> None:
    table = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    PlannedProgram(TABLE, {"table": table}).check([np.arange(256)], isa=isa, threads=1)
