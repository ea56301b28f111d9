"""What Triton makes, ahead of time, of a kernel of each sort of operation; and that their files are clean.

Slow: Triton compiles a kernel in a quarter of a second, and a product for tensor cores in more.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sterna.dialects.context import parse
from sterna.targets.triton.ahead import compile_kernels
from sterna.targets.triton.emitter import emit_module
from tests.cpu_programs import PlannedProgram, trits
from tests.property.test_cpu_sums import accumulate, convolve
from tests.property.test_triton_programs import CONTROL

pytestmark = pytest.mark.slow

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
FORBIDDEN = r"\bfma\.|\.ftz|div\.full|\.approx"
"""What rounds twice in one, or not correctly."""

MOVED = """
func.func @forward(%x : tensor<?x6x9xf32>, %i : tensor<?xi64>, %n : tensor<i64>) -> (tensor<?x11x9xf32>,
    tensor<?x6x?xf32>, tensor<?x12x9xf32>, tensor<?x6x2xf32>, tensor<?x6x2xi64>, tensor<?x6x4x3xf32>, tensor<3xi32>) {
  %zero = arith.constant 0 : index
  %rows = tensor.dim %x, %zero : tensor<?x6x9xf32>
  %number = tensor.extract %n[] : tensor<i64>
  %offset = arith.index_cast %number : i64 to index
  %half = arith.constant 0.5 : f32
  %padded = tensor.pad %x low[0, 2, 0] high[0, 3, 0] {
  ^bb0(%a : index, %b : index, %c : index):
    tensor.yield %half : f32
  } : tensor<?x6x9xf32> to tensor<?x11x9xf32>
  %gathered = ternary.gather %x, %i axis = 2 : tensor<?x6x9xf32>, tensor<?xi64> -> tensor<?x6x?xf32>
  %joined = tensor.concat dim(1) %x, %x : (tensor<?x6x9xf32>, tensor<?x6x9xf32>) -> tensor<?x12x9xf32>
  %part = tensor.extract_slice %x[0, %offset, 0] [%rows, 2, 9] [1, 2, 1] : tensor<?x6x9xf32> to tensor<?x2x9xf32>
  %written = tensor.insert_slice %part into %joined[0, %offset, 0] [%rows, 2, 9] [1, 1, 1]
    : tensor<?x2x9xf32> into tensor<?x12x9xf32>
  %best, %places = ternary.top_k %x k = 2 order = "largest" : tensor<?x6x9xf32> -> tensor<?x6x2xf32>, tensor<?x6x2xi64>
  %windows = ternary.windows %x leading = 2 axes = [2] sizes = [3] strides = [3] dilations = [1] low = [1] high = [2]
    padding = 1.0 : f32 : tensor<?x6x9xf32> -> tensor<?x6x4x3xf32>
  %least = arith.trunci %number : i64 to i32
  %seven = arith.constant 7 : i32
  %ratio = arith.floordivsi %least, %seven : i32
  %rest = arith.remsi %least, %seven : i32
  %numbers = tensor.from_elements %ratio, %rest, %least : tensor<3xi32>
  func.return %padded, %gathered, %written, %best, %places, %windows, %numbers : tensor<?x11x9xf32>, tensor<?x6x?xf32>,
    tensor<?x12x9xf32>, tensor<?x6x2xf32>, tensor<?x6x2xi64>, tensor<?x6x4x3xf32>, tensor<3xi32>
}"""

REDUCED = """
#left = affine_map<(b, t, m, k) -> (b, t, k)>
#right = affine_map<(b, t, m, k) -> (b, m, k)>
#out = affine_map<(b, t, m, k) -> (b, t, m)>
func.func @forward(%x : tensor<2x?x40xf32>, %w : tensor<2x4x40xf32>, %zero : tensor<2x?x4xf32>, %p : tensor<?x40xi32>,
    %q : tensor<40x?xi32>, %init : tensor<?x?xi32>, %one : tensor<2x40xf32>) -> (tensor<2x?x4xf32>, tensor<?x?xi32>,
    tensor<2x40xf32>) {
  %y = linalg.generic {indexing_maps = [#left, #right, #out],
                       iterator_types = ["parallel", "parallel", "parallel", "reduction"]}
    ins(%x, %w : tensor<2x?x40xf32>, tensor<2x4x40xf32>) outs(%zero : tensor<2x?x4xf32>) {
  ^bb0(%a : f32, %b : f32, %total : f32):
    %product = arith.mulf %a, %b : f32
    %sum = arith.addf %total, %product : f32
    linalg.yield %sum : f32
  } -> tensor<2x?x4xf32>
  %z = linalg.matmul ins(%p, %q : tensor<?x40xi32>, tensor<40x?xi32>) outs(%init : tensor<?x?xi32>)
    -> tensor<?x?xi32>
  %most = linalg.reduce ins(%x:tensor<2x?x40xf32>) outs(%one:tensor<2x40xf32>) dimensions = [1]
  (%in: f32, %acc: f32) {
    %larger = arith.maximumf %in, %acc : f32
    linalg.yield %larger : f32
  }
  %sums = linalg.reduce ins(%x:tensor<2x?x40xf32>) outs(%most:tensor<2x40xf32>) dimensions = [1]
  (%in: f32, %acc: f32) {
    %sum = arith.addf %in, %acc : f32
    linalg.yield %sum : f32
  }
  func.return %y, %z, %sums : tensor<2x?x4xf32>, tensor<?x?xi32>, tensor<2x40xf32>
}"""

WIDE = """
ternary.weight @w : {w}
func.func @forward(%x : tensor<?x32x14x14xi8>) -> tensor<?x14x14x64xi32> {{
  %w = ternary.load @w : {w}
  %y = ternary.convolve %x, %w leading = 1 axes = [2, 3] sizes = [3, 3] strides = [1, 1] dilations = [1, 1]
    low = [1, 1] high = [1, 1] padding = 0 : i8 : tensor<?x32x14x14xi8>, {w} -> tensor<?x14x14x64xi32>
  func.return %y : tensor<?x14x14x64xi32>
}}"""


def wide(encoding: str) -> PlannedProgram:
    return PlannedProgram(WIDE.format(w=trits(64, 288, encoding)), {})


PROGRAMS = {
    "control": PlannedProgram(CONTROL, {}),
    "convolution": wide("i2"),
    "convolution in base 3": wide("b3"),
    "convolution of floats": convolve("strided", "f32", "i2"),
    "convolution of channels": convolve("depthwise", "i8", "b3"),
    "movement": PlannedProgram(MOVED, {}),
    "reductions": PlannedProgram(REDUCED, {}),
    "sums in groups": accumulate("?x", 6, 300, 3, "i8", "i2"),
    "sums of floats": accumulate("?x", 70, 600, 1, "f32", "i2"),
    "sums of floats in base 3": accumulate("?x", 70, 600, 1, "f32", "b3"),
}


@pytest.mark.parametrize("name", sorted(PROGRAMS))
@pytest.mark.parametrize("isa", ["cuda:80", "cuda:90"])
def test_no_kernel_spills_or_takes_a_rounding_away(isa: str, name: str) -> None:
    for kernel in compile_kernels(PROGRAMS[name].module, isa):
        ptx = kernel.texts["ptx"]
        assert not re.search(r"\b(ld|st)\.local", ptx), kernel.name
        assert not re.search(FORBIDDEN, ptx), kernel.name
        if name in ("convolution", "convolution in base 3"):
            assert re.search(r"(wgmma\.mma_async|mma\.sync)\S*\.s32\.s8\.s8", ptx), kernel.name


def test_amd_takes_its_matrix_products_for_a_convolution() -> None:
    (kernel,) = compile_kernels(wide("i2").module, "hip:gfx942")
    assert "v_mfma_i32" in kernel.texts["amdgcn"]


def test_files_are_formatted_and_lint_clean(tmp_path: Path) -> None:
    for number, program in enumerate(PROGRAMS.values()):
        (tmp_path / f"kernels_{number}.py").write_text(emit_module(program.module))
    for command in (["format", "--check"], ["check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--config", str(PYPROJECT), str(tmp_path)]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_kernels_name_the_operation_and_the_users_line() -> None:
    text = emit_module(
        parse("""
        func.func @forward(%x : tensor<?x9xf32>) -> (tensor<?x2xf32>, tensor<?x2xi64>) {
          %v, %i = ternary.top_k %x k = 2 order = "largest" : tensor<?x9xf32> -> tensor<?x2xf32>, tensor<?x2xi64>
            loc("scores"("model.py":12:0))
          func.return %v, %i : tensor<?x2xf32>, tensor<?x2xi64>
        }""")
    )
    assert re.search(r'"""ternary\.top_k at .*model\.py:12.*"""', text), text
