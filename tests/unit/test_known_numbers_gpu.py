"""Small programs with numbers on which a kernel for GPUs that is nearly right is wrong: planted bugs found them.

Slow: Triton's interpreter takes milliseconds an operation of a program.
"""

from __future__ import annotations

import numpy as np
import pytest

from sterna.targets.triton.emitter import emit_module
from tests.cpu_programs import PlannedProgram
from tests.property.test_attention import Heads
from tests.property.test_cpu_kernels import ENCODED, project, scan
from tests.property.test_triton_programs import check

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rows", [0, 1])
def test_a_sum_begins_at_minus_zero_where_that_is_the_initial_value(rows: int) -> None:
    check(
        """func.func @forward(%x : tensor<?x3xf32>, %init : tensor<3xf32>) -> tensor<3xf32> {
          %y = linalg.reduce ins(%x:tensor<?x3xf32>) outs(%init:tensor<3xf32>) dimensions = [0]
          (%a : f32, %b : f32) {
            %c = arith.addf %a, %b : f32
            linalg.yield %c : f32
          }
          func.return %y : tensor<3xf32>
        }""",
        np.full((rows, 3), -0.0, np.float32),
        np.full(3, -0.0, np.float32),
    )


def test_a_reduction_takes_each_element_from_what_there_is() -> None:
    """Not the other way round."""
    check(
        """func.func @forward(%x : tensor<2x?xi32>, %init : tensor<2xi32>) -> tensor<2xi32> {
          %y = linalg.reduce ins(%x:tensor<2x?xi32>) outs(%init:tensor<2xi32>) dimensions = [1]
          (%a : i32, %b : i32) {
            %c = arith.subi %b, %a : i32
            linalg.yield %c : i32
          }
          func.return %y : tensor<2xi32>
        }""",
        np.array([[1, 10, 100], [2, 20, 200]], np.int32),
        np.array([1000, -1000], np.int32),
    )


def test_axes_go_where_they_are_said_to_and_not_where_they_come_from() -> None:
    """Cycles of three, which are not their own inverses: a transpose, and loops whose result is turned."""
    check(
        """#in = affine_map<(a, b, c) -> (a, b, c)>
        #out = affine_map<(a, b, c) -> (b, c, a)>
        func.func @forward(%x : tensor<2x3x4xf32>, %out : tensor<3x4x2xf32>)
            -> (tensor<3x4x2xf32>, tensor<3x4x2xf32>) {
          %y = linalg.transpose ins(%x:tensor<2x3x4xf32>) outs(%out:tensor<3x4x2xf32>) permutation = [1, 2, 0]
          %z = linalg.generic {indexing_maps = [#in, #out], iterator_types = ["parallel", "parallel", "parallel"]}
            ins(%x : tensor<2x3x4xf32>) outs(%out : tensor<3x4x2xf32>) {
          ^bb0(%a : f32, %b : f32):
            %s = arith.subf %a, %b : f32
            linalg.yield %s : f32
          } -> tensor<3x4x2xf32>
          func.return %y, %z : tensor<3x4x2xf32>, tensor<3x4x2xf32>
        }""",
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.arange(24, dtype=np.float32).reshape(3, 4, 2) / 4,
    )


@pytest.mark.parametrize("offset", [-3, 0, 1, 4, 5, 99])
@pytest.mark.parametrize("rows", ["9", "?"])
def test_a_slice_of_every_other_row_moves_to_where_it_is_inside(rows: str, offset: int) -> None:
    check(
        f"""func.func @forward(%x : tensor<{rows}x4xf32>, %n : tensor<i64>) -> tensor<3x4xf32> {{
          %number = tensor.extract %n[] : tensor<i64>
          %at = arith.index_cast %number : i64 to index
          %y = tensor.extract_slice %x[%at, 0] [3, 4] [2, 1] : tensor<{rows}x4xf32> to tensor<3x4xf32>
          func.return %y : tensor<3x4xf32>
        }}""",
        np.arange(36, dtype=np.float32).reshape(9, 4),
        np.array(offset, np.int64),
    )


def test_three_parts_stand_behind_each_other() -> None:
    check(
        """func.func @forward(%x : tensor<3x?xi32>, %y : tensor<2x?xi32>) -> tensor<8x?xi32> {
          %z = tensor.concat dim(0) %x, %y, %x : (tensor<3x?xi32>, tensor<2x?xi32>, tensor<3x?xi32>) -> tensor<8x?xi32>
          func.return %z : tensor<8x?xi32>
        }""",
        np.arange(15, dtype=np.int32).reshape(3, 5),
        -np.arange(10, dtype=np.int32).reshape(2, 5),
    )


def test_products_of_bits_are_added_modulo_two() -> None:
    check(
        """func.func @forward(%x : tensor<3x5xi1>, %y : tensor<5x4xi1>, %init : tensor<3x4xi1>) -> tensor<3x4xi1> {
          %z = linalg.matmul ins(%x, %y : tensor<3x5xi1>, tensor<5x4xi1>) outs(%init : tensor<3x4xi1>)
            -> tensor<3x4xi1>
          func.return %z : tensor<3x4xi1>
        }""",
        np.ones((3, 5), bool),
        np.arange(20).reshape(5, 4) % 3 > 0,
        np.arange(12).reshape(3, 4) % 2 > 0,
    )


@pytest.mark.parametrize("element", ["f32", "i32", "i64"])
def test_a_matmul_takes_its_matrix_column_by_column(element: str) -> None:
    x, w, y = (f"tensor<{shape}x{element}>" for shape in ("?x5", "5x7", "?x7"))
    kind, large = ("float32", 1) if element == "f32" else (f"int{element[1:]}", 2 ** (int(element[1:]) - 9))
    check(
        f"""func.func @forward(%x : {x}, %w : {w}, %init : {y}) -> {y} {{
          %y = linalg.matmul ins(%x, %w : {x}, {w}) outs(%init : {y}) -> {y}
          func.return %y : {y}
        }}""",
        *(
            (np.arange(shape[0] * shape[1]).reshape(shape) * scale).astype(kind)
            for shape, scale in (((3, 5), large), ((5, 7), 1), ((3, 7), large))
        ),
    )


def test_elements_behind_the_last_whole_program_are_somebodys() -> None:
    """A program has 1024."""
    check(
        """func.func @forward(%x : tensor<?x25x3xf32>) -> tensor<?x25x3xf32> {
          %y = math.absf %x : tensor<?x25x3xf32>
          func.return %y : tensor<?x25x3xf32>
        }""",
        -np.arange(1, 1351, dtype=np.float32).reshape(18, 25, 3),
    )


def test_a_loop_takes_its_steps() -> None:
    check(
        """func.func @forward(%x : tensor<8xf32>) -> tensor<8xf32> {
          %zero = arith.constant 0 : index
          %three = arith.constant 3 : index
          %seven = arith.constant 7 : index
          %one = arith.constant 1.0 : f32
          %y = scf.for %i = %zero to %seven step %three iter_args(%s = %x) -> (tensor<8xf32>) {
            %e = tensor.extract %s[%i] : tensor<8xf32>
            %f = arith.addf %e, %one : f32
            %p = tensor.from_elements %f : tensor<1xf32>
            %t = tensor.insert_slice %p into %s[%i] [1] [1] : tensor<1xf32> into tensor<8xf32>
            scf.yield %t : tensor<8xf32>
          }
          func.return %y : tensor<8xf32>
        }""",
        np.zeros(8, np.float32),
    )


@pytest.mark.parametrize("number", [1.0, -1.0])
def test_a_number_that_both_branches_use_is_computed_in_each(number: float) -> None:
    """And once more behind them."""
    check(
        """func.func @forward(%x : tensor<f32>) -> (tensor<f32>, tensor<3xf32>) {
          %zero = arith.constant 0.0 : f32
          %e = tensor.extract %x[] : tensor<f32>
          %up = arith.cmpf ogt, %e, %zero : f32
          %d = arith.addf %e, %e : f32
          %n = scf.if %up -> (f32) {
            scf.yield %d : f32
          } else {
            %m = arith.negf %d : f32
            scf.yield %m : f32
          }
          %again = scf.if %up -> (f32) {
            scf.yield %zero : f32
          } else {
            scf.yield %d : f32
          }
          %y = tensor.from_elements %n : tensor<1xf32>
          %s = tensor.from_elements %n, %again, %d : tensor<3xf32>
          %r = tensor.collapse_shape %y [] : tensor<1xf32> into tensor<f32>
          func.return %r, %s : tensor<f32>, tensor<3xf32>
        }""",
        np.array(number, np.float32),
    )


def test_sizes_are_those_of_the_axis_that_is_asked_for() -> None:
    check(
        """func.func @forward(%x : tensor<?x3x5xf32>) -> tensor<4xi64> {
          %zero = arith.constant 0 : index
          %one = arith.constant 1 : index
          %two = arith.constant 2 : index
          %a = tensor.dim %x, %zero : tensor<?x3x5xf32>
          %b = tensor.dim %x, %one : tensor<?x3x5xf32>
          %c = tensor.dim %x, %two : tensor<?x3x5xf32>
          %d = arith.muli %b, %c : index
          %i = arith.index_cast %a : index to i64
          %j = arith.index_cast %b : index to i64
          %k = arith.index_cast %c : index to i64
          %l = arith.index_cast %d : index to i64
          %y = tensor.from_elements %i, %j, %k, %l : tensor<4xi64>
          %z = arith.addi %y, %y : tensor<4xi64>
          func.return %z : tensor<4xi64>
        }""",
        np.zeros((2, 3, 5), np.float32),
    )


@pytest.mark.parametrize("element", ["i8", "i32"])
def test_rows_of_t_elements_are_as_far_apart_as_their_type_says(element: str) -> None:
    type, turned = f"tensor<3x?x{element}>", f"tensor<?x3x{element}>"
    check(
        f"""func.func @forward(%x : {type}) -> {turned} {{
          %zero = arith.constant 0 : index
          %one = arith.constant 1 : index
          %rows = tensor.dim %x, %one : {type}
          %y = arith.addi %x, %x : {type}
          %out = tensor.empty(%rows) : {turned}
          %z = linalg.transpose ins(%y:{type}) outs(%out:{turned}) permutation = [1, 0]
          func.return %z : {turned}
        }}""",
        np.arange(15, dtype=f"int{element[1:]}").reshape(3, 5),
    )


def test_positions_of_a_text_of_many_tokens() -> None:
    """A program writes 128 at a time."""
    check(
        """func.func @forward(%t : tensor<?xi64>, %start : tensor<i64>) -> (tensor<?xi64>, tensor<i64>)
            attributes {sterna.states = 1 : i64} {
          %p, %next = ternary.positions %start of %t capacity = 900
            : tensor<i64>, tensor<?xi64> -> tensor<?xi64>, tensor<i64>
          func.return %p, %next : tensor<?xi64>, tensor<i64>
        }""",
        np.zeros(300, np.int64),
        np.array(7),
    )


def test_a_rotation_takes_the_angles_of_its_own_row() -> None:
    """Rows of angles are padded, and here shorter than that."""
    generator = np.random.default_rng(2)
    x, angles = (generator.standard_normal((3, width), np.float32) for width in (12, 3))
    check(
        """func.func @forward(%x : tensor<?x12xf32>, %cos : tensor<?x3xf32>, %sin : tensor<?x3xf32>)
            -> tensor<?x12xf32> {
          %y = ternary.rotate %x by %cos, %sin : tensor<?x12xf32>, tensor<?x3xf32>
          func.return %y : tensor<?x12xf32>
        }""",
        x,
        np.cos(angles),
        np.sin(angles),
    )


@pytest.mark.parametrize("count", [1, 64, 65, 1025])
def test_attention_over_pieces_that_are_just_begun_and_more_of_them_than_lanes(count: int) -> None:
    """A piece has 64 rows of the cache, and the largest score is found 16 pieces at a time: here it is in the first."""
    heads, generator = Heads(1, 2, 4, 1060, 128), np.random.default_rng(count)
    q = np.abs(generator.standard_normal((1, 8), np.float32))
    k, v = generator.standard_normal((2, 1, 4), np.float32)
    keys, values = generator.standard_normal((2, 1060, 4), np.float32)
    keys[0] = 3
    program = PAST.setdefault(heads, PlannedProgram(heads.text(), {}))
    program.check_on_triton([np.zeros(1, np.int64), q, k, v, np.array(count - 1), keys, values])


PAST: dict[Heads, PlannedProgram] = {}


def test_a_cache_that_something_else_reads_is_copied() -> None:
    heads = Heads(1, 1, 16, 8)
    text = heads.text().replace(
        "func.return %y,", "%z = arith.addf %keys, %keys : tensor<8x16xf32>\nfunc.return %y,"
    )
    emitted = emit_module(PlannedProgram(text, {}).module)
    assert "batch.cache(keys, False)" in emitted and "batch.cache(values, True)" in emitted


def test_a_number_times_a_row_is_added_as_far_as_the_row_goes() -> None:
    """The number is infinite: behind the row's end it would meet a zero."""
    check(
        """#number = affine_map<(m, k) -> ()>
        #rows = affine_map<(m, k) -> (m, k)>
        #out = affine_map<(m, k) -> (m)>
        func.func @forward(%x : tensor<f32>, %w : tensor<3x?xf32>, %init : tensor<3xf32>) -> tensor<3xf32> {
          %y = linalg.generic {indexing_maps = [#number, #rows, #out], iterator_types = ["parallel", "reduction"]}
            ins(%x, %w : tensor<f32>, tensor<3x?xf32>) outs(%init : tensor<3xf32>) {
          ^bb0(%a : f32, %b : f32, %total : f32):
            %product = arith.mulf %a, %b : f32
            %sum = arith.addf %total, %product : f32
            linalg.yield %sum : f32
          } -> tensor<3xf32>
          func.return %y : tensor<3xf32>
        }""",
        np.array(np.inf, np.float32),
        np.arange(1, 16, dtype=np.float32).reshape(3, 5),
        np.zeros(3, np.float32),
    )


def test_dequantized_channels_that_are_t_have_the_order_of_products() -> None:
    generator = np.random.default_rng(4)
    check(
        """func.func @forward(%acc : tensor<3x?xi32>, %step : tensor<3xf32>, %scale : tensor<f32>) -> tensor<3x?xf32> {
          %y = ternary.dequantize %acc, %step, %scale : tensor<3x?xi32>, tensor<3xf32>, tensor<f32> -> tensor<3x?xf32>
          func.return %y : tensor<3x?xf32>
        }""",
        generator.integers(-9999, 9999, (3, 20), np.int32),
        generator.standard_normal(3, np.float32),
        np.array(0.37, np.float32),
    )


@pytest.mark.parametrize("element", ["f32", "i32"])
def test_thresholds_are_those_of_the_channel_and_equal_numbers_reach_them(element: str) -> None:
    kind = "float32" if element == "f32" else "int32"
    x, y, table = f"tensor<?x3x{element}>", "tensor<?x3xi8>", f"tensor<3x2x{element}>"
    check(
        f"""func.func @forward(%x : {x}, %thresholds : {table}) -> {y} {{
          %y = ternary.threshold %x, %thresholds base = -1 : {x}, {table} -> {y}
          func.return %y : {y}
        }}""",
        np.array([[0, 10, 20], [1, 11, 21], [-1, 30, 29]], kind),
        np.array([[0, 1], [10, 12], [21, 30]], kind),
    )


def test_what_is_inserted_into_stays_as_it_was() -> None:
    check(
        """func.func @forward(%x : tensor<?x6xf32>, %y : tensor<?x2xf32>) -> (tensor<?x6xf32>, tensor<?x6xf32>) {
          %zero = arith.constant 0 : index
          %rows = tensor.dim %x, %zero : tensor<?x6xf32>
          %a = arith.addf %x, %x : tensor<?x6xf32>
          %z = tensor.insert_slice %y into %a[0, 3] [%rows, 2] [1, 1] : tensor<?x2xf32> into tensor<?x6xf32>
          func.return %z, %a : tensor<?x6xf32>, tensor<?x6xf32>
        }""",
        np.arange(12, dtype=np.float32).reshape(2, 6),
        -np.ones((2, 2), np.float32),
    )


def test_padding_is_in_front_and_behind() -> None:
    check(
        """func.func @forward(%x : tensor<?x4xi32>) -> tensor<?x9xi32> {
          %seven = arith.constant 7 : i32
          %y = tensor.pad %x low[0, 2] high[0, 3] {
          ^bb0(%a : index, %b : index):
            tensor.yield %seven : i32
          } : tensor<?x4xi32> to tensor<?x9xi32>
          func.return %y : tensor<?x9xi32>
        }""",
        np.arange(12, dtype=np.int32).reshape(3, 4),
    )


def test_a_position_outside_looks_up_the_nearest_element() -> None:
    check(
        """func.func @forward(%x : tensor<5x3xf32>, %i : tensor<?xi32>) -> (tensor<?x3xf32>, tensor<5x?xf32>) {
          %y = ternary.gather %x, %i axis = 0 : tensor<5x3xf32>, tensor<?xi32> -> tensor<?x3xf32>
          %z = ternary.gather %x, %i axis = 1 : tensor<5x3xf32>, tensor<?xi32> -> tensor<5x?xf32>
          func.return %y, %z : tensor<?x3xf32>, tensor<5x?xf32>
        }""",
        np.arange(15, dtype=np.float32).reshape(5, 3),
        np.array([-1, 0, 2, 3, 4, 5, -(2**31), 2**31 - 1], np.int32),
    )


@pytest.mark.parametrize("rows", [0, 1, 6, 8])
def test_a_text_in_pieces_is_the_whole_text(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sterna.targets.triton.executable.ROWS_AT_ONCE", 3)
    program, generator = scan(16), np.random.default_rng(rows)
    assert program.on_triton.program.in_pieces
    f, i, (state,) = (generator.standard_normal((count, 16), np.float32) for count in (rows, rows, 1))
    program.check_on_triton([f, i, state])


def test_a_state_of_minus_zero_stays_behind_the_last_token() -> None:
    """A program asks for four tokens at a time, where there is one."""
    gates, inputs = np.ones((1, 16), np.float32), np.full((1, 16), -0.0, np.float32)
    scan(16).check_on_triton([gates, inputs, np.full(16, -0.0, np.float32)])


def test_a_sum_of_no_column_is_its_initial_value() -> None:
    check(
        """func.func @forward(%x : tensor<?x0xf32>, %init : tensor<?xf32>) -> tensor<?xf32> {
          %y = linalg.reduce ins(%x:tensor<?x0xf32>) outs(%init:tensor<?xf32>) dimensions = [1]
          (%a : f32, %b : f32) {
            %c = arith.addf %a, %b : f32
            linalg.yield %c : f32
          }
          func.return %y : tensor<?xf32>
        }""",
        np.zeros((2, 0), np.float32),
        np.array([-0.0, 1.0], np.float32),
    )


def test_a_product_of_batches_is_laid_out_as_its_map_says() -> None:
    check(
        """#x = affine_map<(b, t, m, k) -> (b, t, k)>
        #w = affine_map<(b, t, m, k) -> (m, b, k)>
        #y = affine_map<(b, t, m, k) -> (m, b, t)>
        func.func @forward(%x : tensor<2x?x5xi32>, %w : tensor<3x2x5xi32>, %init : tensor<3x2x?xi32>)
            -> tensor<3x2x?xi32> {
          %y = linalg.generic {indexing_maps = [#x, #w, #y],
                               iterator_types = ["parallel", "parallel", "parallel", "reduction"]}
            ins(%x, %w : tensor<2x?x5xi32>, tensor<3x2x5xi32>) outs(%init : tensor<3x2x?xi32>) {
          ^bb0(%a : i32, %b : i32, %total : i32):
            %product = arith.muli %a, %b : i32
            %sum = arith.addi %total, %product : i32
            linalg.yield %sum : i32
          } -> tensor<3x2x?xi32>
          func.return %y : tensor<3x2x?xi32>
        }""",
        np.arange(40, dtype=np.int32).reshape(2, 4, 5),
        np.arange(30, dtype=np.int32).reshape(3, 2, 5),
        np.arange(24, dtype=np.int32).reshape(3, 2, 4) * 1000,
    )


def test_what_is_empty_and_read_is_the_same_in_every_run() -> None:
    check(
        """func.func @forward(%x : tensor<4x20xf32>) -> tensor<4x20xf32> {
          %e = tensor.empty() : tensor<4x20xf32>
          %y = arith.addf %x, %e : tensor<4x20xf32>
          func.return %y : tensor<4x20xf32>
        }""",
        np.arange(80, dtype=np.float32).reshape(4, 20),
    )


@ENCODED
@pytest.mark.parametrize("count", [1, 5])
def test_what_stands_behind_a_row_of_int8_meets_no_trit(encoding: str, count: int) -> None:
    """A row has 256 bytes, of which 80 are columns; in the others stands 127, as in all memory that is new."""
    generator = np.random.default_rng(count)
    p, q = generator.integers(-128, 128, (2, count, 80)).astype(np.int8)
    steps, extra = np.ones((2, count), np.float32), np.zeros((count, 9), np.float32)
    project(9, 80, "random", encoding).check_on_triton([p, q, *steps, extra])
