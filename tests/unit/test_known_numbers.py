"""Small programs with numbers on which a kernel or a pass that is nearly right is wrong: planted bugs found them."""

from __future__ import annotations

import numpy as np
import pytest

from sterna.dialects.context import make_context, parse
from sterna.dialects.interpreter import run
from sterna.passes.fuse_elementwise import FuseElementwisePass
from sterna.passes.fuse_loops import FuseLoopsPass
from sterna.targets.program import InputError
from tests.cpu_programs import Array, PlannedProgram, isa_names, trits

ISA = pytest.mark.parametrize("isa", isa_names())


def of_two(operation: str, element: str) -> PlannedProgram:
    type = f"tensor<?x17x{element}>"
    return PlannedProgram(
        f"""func.func @forward(%a : {type}, %b : {type}) -> {type} {{
          %y = {operation} %a, %b : {type}
          func.return %y : {type}
        }}""",
        {},
    )


@ISA
@pytest.mark.parametrize("operation", ["floordivsi", "divsi", "remsi"])
def test_quotients_that_are_exact_and_that_are_not_in_every_quadrant(isa: str, operation: str) -> None:
    a = np.array([6, -6, 6, -6, 7, -7, 7, -7, 0, 0, 1, -1, 2**31 - 1, -(2**31), 9, -9, 3], np.int32)
    b = np.array([3, 3, -3, -3, 3, 3, -3, -3, 5, -5, 2, 2, -1, -1, 9, 9, 0], np.int32)
    of_two(f"arith.{operation}", "i32").check([a[None], b[None]], isa=isa, threads=1)


@ISA
@pytest.mark.parametrize("operation", ["shli", "shrsi", "shrui"])
def test_shifts_by_as_much_as_the_width_and_more(isa: str, operation: str) -> None:
    a = np.array([1, -1, 5, -5, 2**30, -(2**31), 1, -1, 7, -7, 3, -3, 1, -1, 9, -9, 1], np.int32)
    b = np.array([31, 31, 32, 32, 32, 32, 33, 33, 0, 0, 64, 64, -1, -1, 1, 1, 30], np.int32)
    of_two(f"arith.{operation}", "i32").check([a[None], b[None]], isa=isa, threads=1)


@ISA
@pytest.mark.parametrize("operation", ["round", "roundeven", "floor", "ceil", "trunc"])
def test_ties_of_every_rounding(isa: str, operation: str) -> None:
    type = "tensor<?x17xf32>"
    program = PlannedProgram(
        f"""func.func @forward(%x : {type}) -> {type} {{
          %y = math.{operation} %x : {type}
          func.return %y : {type}
        }}""",
        {},
    )
    halves = np.arange(-8, 9, dtype=np.float32) / 2
    program.check([np.stack([halves, np.nextafter(halves, np.float32(0))])], isa=isa, threads=1)


def column_sums(rows: str) -> PlannedProgram:
    x, y = f"tensor<{rows}x33xf32>", "tensor<33xf32>"
    return PlannedProgram(
        f"""func.func @forward(%x : {x}, %init : {y}) -> {y} {{
          %y = linalg.reduce ins(%x:{x}) outs(%init:{y}) dimensions = [0]
          (%a : f32, %b : f32) {{
            %c = arith.addf %a, %b : f32
            linalg.yield %c : f32
          }}
          func.return %y : {y}
        }}""",
        {},
        max_rows=64,
    )


@ISA
@pytest.mark.parametrize("rows", [1, 15, 16, 31, 37, 64])
@pytest.mark.parametrize("is_dynamic", [True, False])
def test_sums_of_columns_are_the_tree_with_every_tail_and_begin_where_they_are_told(
    isa: str, rows: int, is_dynamic: bool
) -> None:
    generator = np.random.default_rng(rows)
    x = generator.standard_normal((rows, 33), np.float32) * np.float32(10.0) ** generator.integers(
        -3, 4, (rows, 1)
    )
    init = generator.standard_normal(33, np.float32) * np.float32(100)
    column_sums("?" if is_dynamic else str(rows)).check([x.astype(np.float32), init], isa=isa, threads=2)


def test_a_sum_over_rows_does_not_run_in_pieces() -> None:
    program = column_sums("?")
    assert not program.program.in_pieces
    with pytest.raises(InputError, match="takes at most 64"):
        program.executable("baseline", 1).run([np.ones((65, 33), np.float32), np.zeros(33, np.float32)])


@ISA
@pytest.mark.parametrize(("stride", "dilation", "positions"), [(1, 2, 5), (2, 1, 4), (3, 2, 2)])
@pytest.mark.parametrize("element", ["f32", "i8"])
def test_windows_are_as_far_apart_as_the_stride_and_as_wide_as_the_dilation(
    isa: str, stride: int, dilation: int, positions: int, element: str
) -> None:
    x, w = f"tensor<?x9x{element}>", trits(5, 3)
    y = f"tensor<?x{positions}x5x{'f32' if element == 'f32' else 'i32'}>"
    number = "0.0 : f32" if element == "f32" else "0 : i8"
    program = PlannedProgram(
        f"""ternary.weight @w : {w}
        func.func @forward(%x : {x}) -> {y} {{
          %w = ternary.load @w : {w}
          %y = ternary.convolve %x, %w leading = 1 axes = [1] sizes = [3] strides = [{stride}]
            dilations = [{dilation}] low = [0] high = [0] padding = {number} : {x}, {w} -> {y}
          func.return %y : {y}
        }}""",
        {"w": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, -1, 1], [-1, 1, 1]], np.int8)},
    )
    numbers = (np.arange(18).reshape(2, 9) ** 2 % 101).astype(np.float32 if element == "f32" else np.int8)
    program.check([numbers], isa=isa, threads=1)


@ISA
def test_each_weight_of_a_projection_has_its_own_scale(isa: str) -> None:
    w, q, row = trits(5, 7), "tensor<?x7xi8>", "tensor<?x5xf32>"
    program = PlannedProgram(
        f"""ternary.weight @a : {w}
        ternary.weight @b : {w}
        ternary.weight @s : tensor<f32>
        ternary.weight @t : tensor<5xf32>
        func.func @forward(%q : {q}, %step : tensor<?xf32>) -> {row} {{
          %a = ternary.load @a : {w}
          %b = ternary.load @b : {w}
          %s = ternary.load @s : tensor<f32>
          %t = ternary.load @t : tensor<5xf32>
          %y = ternary.project quantized(%q : {q}) steps(%step : tensor<?xf32>) weights(%a, %b : {w}, {w})
            scales(%s, %t : tensor<f32>, tensor<5xf32>) reads = [0, 0] {{
          ^bb0(%c : f32, %d : f32):
            %e = arith.subf %c, %d : f32
            ternary.yield %e : f32
          }} -> {row}
          func.return %y : {row}
        }}""",
        {
            "a": np.ones((5, 7), np.int8),
            "b": np.ones((5, 7), np.int8),
            "s": np.array(3, np.float32),
            "t": np.array([1, 2, 4, 8, 16], np.float32),
        },
    )
    rows: Array = np.arange(14, dtype=np.int8).reshape(2, 7)
    program.check([rows, np.array([0.5, 0.25], np.float32)], isa=isa, threads=1)


LOOP = """
func.func @forward(%x : tensor<16xf32>, %start : tensor<16xf32>) -> tensor<16xf32> {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %three = arith.constant 3 : index
  %a = arith.negf %x : tensor<16xf32>
  %r = scf.for %i = %zero to %three step %one iter_args(%s = %start) -> (tensor<16xf32>) {
    %t = arith.addf %a, %s : tensor<16xf32>
    %u = arith.mulf %t, %t : tensor<16xf32>
    %v = arith.addf %u, %t : tensor<16xf32>
    scf.yield %v : tensor<16xf32>
  }
  func.return %r : tensor<16xf32>
}"""


@ISA
def test_what_a_loop_reads_from_outside_lives_to_its_end(isa: str) -> None:
    numbers = np.arange(16, dtype=np.float32) / 8
    PlannedProgram(LOOP, {}).check([numbers, numbers[::-1].copy()], isa=isa, threads=1)


def test_fusing_moves_nothing_before_what_it_reads() -> None:
    text = """
    func.func @forward(%x : tensor<?x4xf32>, %g : tensor<4xf32>) -> tensor<?x4xf32> {
      %a = arith.negf %x : tensor<?x4xf32>
      %n = ternary.rms_norm %a, %g eps = 1.0e-06 lanes = 16 : tensor<?x4xf32>, tensor<4xf32>
      %y = arith.addf %a, %n : tensor<?x4xf32>
      func.return %y : tensor<?x4xf32>
    }"""
    inputs = [np.array([[1, 2, 3, -4]], np.float32), np.ones(4, np.float32)]
    module = parse(text)
    (expected,) = run(module, inputs)
    FuseElementwisePass().apply(make_context(), module)
    (found,) = run(parse(str(module)), inputs)
    assert found.tobytes() == expected.tobytes()


@ISA
def test_a_norm_reads_nothing_of_the_padding(isa: str) -> None:
    """An elementwise kernel writes whole vectors: behind the last column of its result stand ones."""
    row = "tensor<?x17xf32>"
    program = PlannedProgram(
        f"""func.func @forward(%x : {row}, %g : tensor<17xf32>) -> {row} {{
          %a = ternary.elementwise(%x : {row}) {{
          ^bb0(%e : f32):
            %one = arith.constant 1.0 : f32
            %f = arith.addf %e, %one : f32
            ternary.yield %f : f32
          }} -> {row}
          %y = ternary.rms_norm %a, %g eps = 1.0e-06 lanes = 16 : {row}, tensor<17xf32>
          func.return %y : {row}
        }}""",
        {},
    )
    program.check([np.full((3, 17), -0.9, np.float32), np.ones(17, np.float32)], isa=isa, threads=1)


def test_a_cycle_of_three_axes_is_fused_as_itself_and_not_as_its_inverse() -> None:
    text = """
    func.func @forward(%x : tensor<2x3x4xf32>, %z : tensor<3x4x2xf32>) -> tensor<3x4x2xf32> {
      %out = tensor.empty() : tensor<3x4x2xf32>
      %t = linalg.transpose ins(%x:tensor<2x3x4xf32>) outs(%out:tensor<3x4x2xf32>) permutation = [1, 2, 0]
      %y = arith.addf %t, %z : tensor<3x4x2xf32>
      func.return %y : tensor<3x4x2xf32>
    }"""
    inputs = [np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.ones((3, 4, 2), np.float32)]
    module = parse(text)
    (expected,) = run(module, inputs)
    FuseLoopsPass().apply(make_context(), module)
    assert "linalg.transpose" not in str(module)
    (found,) = run(parse(str(module)), inputs)
    assert found.tobytes() == expected.tobytes()
