"""`tensor`, `linalg` and `func`: every operation against numpy, static and dynamic shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from sterna.dialects import numerics
from sterna.dialects.context import parse
from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import find_last_uses, run
from sterna.dialects.semantics.linalg import LinalgFunctions
from sterna.dialects.semantics.scf import ScfFunctions
from sterna.dialects.semantics.tensor import TensorFunctions

Array = npt.NDArray[np.generic]

X = np.arange(24, dtype=np.float32).reshape(4, 6)
V = np.array([3, -1, 2, 0, 5, 4], np.float32)
ROW = np.array([1, 2, 3, 4], np.float32)
INTS = np.arange(-12, 12, dtype=np.int32).reshape(4, 6)
BOOLS = INTS % np.array([[1], [2], [3], [25]], np.int32) == 0
TYPES = {"x": "tensor<4x6xf32>", "t": "tensor<?x6xf32>", "v": "tensor<6xf32>", "row": "tensor<4xf32>"}
TYPES |= {"i": "tensor<4x6xi32>", "b": "tensor<4x6xi1>", "n": "index", "m": "index", "f": "f32"}
VALUES = {
    "x": X,
    "t": X,
    "v": V,
    "row": ROW,
    "i": INTS,
    "b": BOOLS,
    "n": np.int64(2),
    "m": np.int64(1),
    "f": np.float32(7),
}

CASES = [
    ("%r = tensor.splat %f : tensor<2x3xf32>", "tensor<2x3xf32>", np.full((2, 3), 7, np.float32)),
    ("%r = tensor.splat %f[%n, %m] : tensor<?x?xf32>", "tensor<?x?xf32>", np.full((2, 1), 7, np.float32)),
    ("%e = tensor.empty(%n) : tensor<?x3xf32>\n%r = linalg.fill ins(%f : f32) outs(%e : tensor<?x3xf32>) "
     "-> tensor<?x3xf32>", "tensor<?x3xf32>", np.full((2, 3), 7, np.float32)),
    ("%r = tensor.from_elements %f, %f : tensor<2xf32>", "tensor<2xf32>", np.full(2, 7, np.float32)),
    ("%r = tensor.dim %t, %m : tensor<?x6xf32>", "index", np.int64(6)),
    ("%c = arith.constant 0 : index\n%r = tensor.dim %t, %c : tensor<?x6xf32>", "index", np.int64(4)),
    ("%r = tensor.cast %t : tensor<?x6xf32> to tensor<4x6xf32>", "tensor<4x6xf32>", X),
    ("%r = tensor.extract %x[%n, %m] : tensor<4x6xf32>", "f32", X[2, 1]),
    ("%r = tensor.extract_slice %x[1, 0] [2, 3] [1, 2] : tensor<4x6xf32> to tensor<2x3xf32>",
     "tensor<2x3xf32>", X[1:3, ::2]),
    ("%r = tensor.extract_slice %x[%m, %n] [%n, 4] [1, %m] : tensor<4x6xf32> to tensor<?x4xf32>",
     "tensor<?x4xf32>", X[1:3, 2:]),
    ("%r = tensor.extract_slice %x[%n, 0] [1, 6] [1, 1] : tensor<4x6xf32> to tensor<6xf32>", "tensor<6xf32>", X[2]),
    ("%r = tensor.extract_slice %t[0, 3] [%m, 1] [1, 1] : tensor<?x6xf32> to tensor<?xf32>", "tensor<?xf32>", X[:1, 3]),
    ("%r = tensor.extract_slice %v[6] [0] [1] : tensor<6xf32> to tensor<0xf32>", "tensor<0xf32>", V[6:]),
    ("%r = tensor.insert_slice %row into %v[%m] [4] [1] : tensor<4xf32> into tensor<6xf32>", "tensor<6xf32>",
     np.array([3, 1, 2, 3, 4, 4], np.float32)),
    ("%r = tensor.insert_slice %v into %x[3, 0] [1, 6] [1, 1] : tensor<6xf32> into tensor<4x6xf32>", "tensor<4x6xf32>",
     np.concatenate([X[:3], V[None]])),
    ("%r = tensor.concat dim(0) %x, %t : (tensor<4x6xf32>, tensor<?x6xf32>) -> tensor<?x6xf32>", "tensor<?x6xf32>",
     np.concatenate([X, X])),
    ("%s = arith.constant dense<[3, 8]> : tensor<2xi32>\n"
     "%r = tensor.reshape %x(%s) : (tensor<4x6xf32>, tensor<2xi32>) -> tensor<3x8xf32>",
     "tensor<3x8xf32>", X.reshape(3, 8)),
    ("%d = arith.addi %n, %n : index\n"
     "%r = tensor.expand_shape %t [[0], [1, 2]] output_shape [%d, 2, 3] : tensor<?x6xf32> into tensor<?x2x3xf32>",
     "tensor<?x2x3xf32>", X.reshape(4, 2, 3)),
    ("%r = tensor.collapse_shape %x [[0, 1]] : tensor<4x6xf32> into tensor<24xf32>", "tensor<24xf32>", X.ravel()),
    ("%e = tensor.empty() : tensor<4x6xf32>\n"
     "%r = linalg.broadcast ins(%v:tensor<6xf32>) outs(%e:tensor<4x6xf32>) dimensions = [0]",
     "tensor<4x6xf32>", np.tile(V, (4, 1))),
    ("%e = tensor.empty() : tensor<4x6xf32>\n"
     "%r = linalg.broadcast ins(%row:tensor<4xf32>) outs(%e:tensor<4x6xf32>) dimensions = [1]",
     "tensor<4x6xf32>", np.tile(ROW[:, None], (1, 6))),
    ("%e = tensor.empty() : tensor<6x4xf32>\n"
     "%r = linalg.transpose ins(%x:tensor<4x6xf32>) outs(%e:tensor<6x4xf32>) permutation = [1, 0]",
     "tensor<6x4xf32>", X.T),
    ("%k = arith.constant dense<1> : tensor<4x4xi32>\n%o = arith.constant dense<5> : tensor<4x6xi32>\n"
     "%r = linalg.matmul ins(%k, %i : tensor<4x4xi32>, tensor<4x6xi32>) outs(%o : tensor<4x6xi32>) -> tensor<4x6xi32>",
     "tensor<4x6xi32>", np.tile(INTS.sum(0) + 5, (4, 1)).astype(np.int32)),
    ("%r = tensor.extract_slice %v[%n] [5] [1] : tensor<6xf32> to tensor<5xf32>", "tensor<5xf32>", V[1:]),
    ("%c = arith.constant -1 : index\n%r = tensor.extract_slice %v[%c] [2] [3] : tensor<6xf32> to tensor<2xf32>",
     "tensor<2xf32>", V[:4:3]),
    ("%c = arith.constant 9 : index\n%r = tensor.extract_slice %v[%c] [2] [3] : tensor<6xf32> to tensor<2xf32>",
     "tensor<2xf32>", V[2::3]),
    ("%c = arith.constant 9 : index\n"
     "%r = tensor.insert_slice %row into %v[%c] [4] [1] : tensor<4xf32> into tensor<6xf32>", "tensor<6xf32>",
     np.array([3, -1, 1, 2, 3, 4], np.float32)),
    ("%r = tensor.pad %v low[1] high[%m] { ^bb0(%k : index): tensor.yield %f : f32 } : tensor<6xf32> to tensor<?xf32>",
     "tensor<?xf32>", np.concatenate([[np.float32(7)], V, [np.float32(7)]])),
    ("%c = arith.cmpi slt, %m, %n : index\n"
     "%r = scf.if %c -> (f32) { scf.yield %f : f32 } else { %o = arith.addf %f, %f : f32 scf.yield %o : f32 }",
     "f32", np.float32(7)),
    ("%c = arith.cmpi sgt, %m, %n : index\n"
     "%r = scf.if %c -> (f32) { scf.yield %f : f32 } else { %o = arith.addf %f, %f : f32 scf.yield %o : f32 }",
     "f32", np.float32(14)),
    ("%e = arith.constant 6 : index\n"
     "%r = scf.for %k = %m to %e step %n iter_args(%s = %f) -> (f32) "
     "{ %g = tensor.extract %v[%k] : tensor<6xf32> %o = arith.addf %s, %g : f32 scf.yield %o : f32 }",
     "f32", np.float32(7) + V[1] + V[3] + V[5]),
    ("%z = arith.constant -1 : index\n"
     "%r = scf.for %k = %m to %z step %n iter_args(%s = %f) -> (f32) { scf.yield %s : f32 }", "f32", np.float32(7)),
    ("%r = arith.constant dense<[[1, 2], [3, 4]]> : tensor<2x2xi8>",
     "tensor<2x2xi8>", np.array([[1, 2], [3, 4]], np.int8)),
    ("%r = arith.constant dense<true> : tensor<2xi1>", "tensor<2xi1>", np.ones(2, np.bool_)),
    ("%r = arith.mulf %x, %x : tensor<4x6xf32>", "tensor<4x6xf32>", X * X),
]  # fmt: skip


def evaluate(lines: str, result: str) -> Array:
    arguments = ", ".join(f"%{name} : {type}" for name, type in TYPES.items())
    text = f"func.func @forward({arguments}) -> {result} {{\n{lines}\nfunc.return %r : {result}\n}}"
    (value,) = run(parse(text), [VALUES[name] for name in TYPES])
    return value


def same(value: Array, expected: object) -> bool:
    array = np.asarray(expected)
    return value.dtype == array.dtype and np.array_equal(value, array)


@pytest.mark.parametrize(("lines", "result", "expected"), CASES)
def test_an_operation_gives(lines: str, result: str, expected: Array) -> None:
    assert same(evaluate(lines, result), expected)


def reduction(
    op: str, type: str = "f32", source: str = "x", dimensions: str = "[1]", init: str = "0.0"
) -> str:
    kept = "tensor<4x" if dimensions == "[1]" else "tensor<6x" if dimensions == "[0]" else "tensor<"
    return (
        f"%o = arith.constant dense<{init}> : {kept}{type}>\n"
        f"%r = linalg.reduce ins(%{source}:tensor<4x6x{type}>) outs(%o:{kept}{type}>) dimensions = {dimensions}\n"
        f"(%in: {type}, %out: {type}) {{ {op} linalg.yield %s : {type} }}"
    )


ADD = "%s = arith.addf %in, %out : f32"
REDUCTIONS = [
    (reduction(ADD), "tensor<4xf32>", numerics.lane_sum(X)),
    (reduction(ADD, init="0.5"), "tensor<4xf32>", np.float32(0.5) + numerics.lane_sum(X)),
    (reduction(ADD, dimensions="[0]"), "tensor<6xf32>", numerics.lane_sum(X.T)),
    (reduction(ADD, dimensions="[0, 1]"), "tensor<f32>", numerics.lane_sum(X.reshape(-1))),
    (reduction("%s = arith.maximumf %out, %in : f32", init="7.5"),
     "tensor<4xf32>", np.maximum(X.max(1), np.float32(7.5))),
    (reduction("%s = arith.minimumf %in, %out : f32", dimensions="[0]"), "tensor<6xf32>", np.zeros(6, np.float32)),
    (reduction("%s = arith.addi %in, %out : i32", "i32", "i", init="1"),
     "tensor<4xi32>", (INTS.sum(1) + 1).astype(np.int32)),
    (reduction("%s = arith.maxsi %in, %out : i32", "i32", "i", init="0"), "tensor<4xi32>", np.maximum(INTS.max(1), 0)),
    (reduction("%s = arith.minsi %in, %out : i32", "i32", "i", init="0"), "tensor<4xi32>", np.minimum(INTS.min(1), 0)),
    (reduction("%s = arith.maxui %in, %out : i32", "i32", "i", init="0"),
     "tensor<4xi32>", INTS.view(np.uint32).max(1).view(np.int32)),
    (reduction("%s = arith.minui %in, %out : i32", "i32", "i", init="-1"),
     "tensor<4xi32>", INTS.view(np.uint32).min(1).view(np.int32)),
    (reduction("%s = arith.muli %out, %in : i32", "i32", "i", init="1"),
     "tensor<4xi32>", np.multiply.reduce(INTS, 1, dtype=np.int32)),
    (reduction("%s = arith.andi %in, %out : i1", "i1", "b", init="true"), "tensor<4xi1>", BOOLS.all(1)),
    (reduction("%s = arith.ori %in, %out : i1", "i1", "b", init="false"), "tensor<4xi1>", BOOLS.any(1)),
    (reduction("%s = arith.addi %in, %out : i1", "i1", "b", init="false"), "tensor<4xi1>", BOOLS.sum(1) % 2 == 1),
    (reduction("%s = arith.xori %in, %out : i32", "i32", "i", init="3"),
     "tensor<4xi32>", np.bitwise_xor.reduce(INTS, 1) ^ 3),
    (reduction("%s = arith.mulf %in, %out : f32", init="1.0"), "tensor<4xf32>", np.multiply.accumulate(X, 1)[:, -1]),
    (reduction("%s = arith.subf %out, %in : f32"), "tensor<4xf32>", -X.cumsum(1, np.float32)[:, -1]),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "result", "expected"), REDUCTIONS)
def test_a_reduction_runs_in_its_stated_order(lines: str, result: str, expected: Array) -> None:
    assert same(evaluate(lines, result), expected)


def test_a_maximum_of_nothing_is_its_initial_value() -> None:
    text = """
    func.func @forward(%x : tensor<3x0xf32>, %o : tensor<3xf32>) -> tensor<3xf32> {
      %r = linalg.reduce ins(%x:tensor<3x0xf32>) outs(%o:tensor<3xf32>) dimensions = [1]
      (%in: f32, %out: f32) { %s = arith.maximumf %in, %out : f32 linalg.yield %s : f32 }
      func.return %r : tensor<3xf32>
    }"""
    assert same(run(parse(text), [np.empty((3, 0), np.float32), ROW[:3]])[0], ROW[:3])


def test_a_dense_product_adds_rounded_products_in_lanes() -> None:
    generator = np.random.default_rng(0)
    a, b = (
        generator.standard_normal((5, 37)).astype(np.float32),
        generator.standard_normal((37, 3)).astype(np.float32),
    )
    text = """
    func.func @forward(%a : tensor<?x37xf32>, %b : tensor<37x3xf32>, %o : tensor<?x3xf32>) -> tensor<?x3xf32> {
      %r = linalg.matmul ins(%a, %b : tensor<?x37xf32>, tensor<37x3xf32>) outs(%o : tensor<?x3xf32>) -> tensor<?x3xf32>
      func.return %r : tensor<?x3xf32>
    }"""
    (value,) = run(parse(text), [a, b, np.ones((5, 3), np.float32)])
    expected = [[np.float32(1) + numerics.lane_sum(row * column) for column in b.T] for row in a]
    assert same(value, np.array(expected, np.float32))


def test_products_of_bits_are_added_modulo_two() -> None:
    """By either name, and to what is there."""
    loops = {"left": "t, k", "right": "k, m", "out": "t, m"}
    maps = "\n".join(f"#{name} = affine_map<(t, m, k) -> ({each})>" for name, each in loops.items())
    operands = "ins(%a, %b : tensor<3x5xi1>, tensor<5x4xi1>) outs(%o : tensor<3x4xi1>)"
    text = f"""{maps}
    func.func @forward(%a : tensor<3x5xi1>, %b : tensor<5x4xi1>, %o : tensor<3x4xi1>)
        -> (tensor<3x4xi1>, tensor<3x4xi1>) {{
      %p = linalg.matmul {operands} -> tensor<3x4xi1>
      %q = linalg.generic {{indexing_maps = [#left, #right, #out],
                           iterator_types = ["parallel", "parallel", "reduction"]}} {operands} {{
      ^bb0(%x : i1, %y : i1, %total : i1):
        %both = arith.muli %x, %y : i1
        %sum = arith.addi %total, %both : i1
        linalg.yield %sum : i1
      }} -> tensor<3x4xi1>
      func.return %p, %q : tensor<3x4xi1>, tensor<3x4xi1>
    }}"""
    a, b, init = (
        np.ones((3, 5), bool),
        np.arange(20).reshape(5, 4) % 3 > 0,
        np.arange(12).reshape(3, 4) % 2 > 0,
    )
    expected = (a.astype(int) @ b + init) % 2 == 1
    assert 0 < np.count_nonzero(expected) < expected.size
    for found in run(parse(text), [a, b, init]):
        assert same(found, expected)


def test_generic_loops_are_parallel_over_projections() -> None:
    text = """
    func.func @forward(%x : tensor<4x6xf32>, %row : tensor<4xf32>, %o : tensor<6x4xf32>) -> tensor<6x4xf32> {
      %r = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>,
                                            affine_map<(d0, d1) -> (d1, d0)>],
                           iterator_types = ["parallel", "parallel"]}
        ins(%x, %row : tensor<4x6xf32>, tensor<4xf32>) outs(%o : tensor<6x4xf32>) {
      ^bb0(%a : f32, %b : f32, %c : f32):
        %s = arith.addf %a, %b : f32
        linalg.yield %s : f32
      } -> tensor<6x4xf32>
      func.return %r : tensor<6x4xf32>
    }"""
    (value,) = run(parse(text), [X, ROW, np.zeros((6, 4), np.float32)])
    assert same(value, (X + ROW[:, None]).T)


def test_generic_loops_read_transposed_operands() -> None:
    text = """
    func.func @forward(%x : tensor<4x6xf32>, %y : tensor<6x4xf32>, %o : tensor<4x6xf32>) -> tensor<4x6xf32> {
      %r = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d1, d0)>,
                                            affine_map<(d0, d1) -> (d0, d1)>],
                           iterator_types = ["parallel", "parallel"]}
        ins(%x, %y : tensor<4x6xf32>, tensor<6x4xf32>) outs(%o : tensor<4x6xf32>) {
      ^bb0(%a : f32, %b : f32, %c : f32):
        %s = arith.subf %a, %b : f32
        linalg.yield %s : f32
      } -> tensor<4x6xf32>
      func.return %r : tensor<4x6xf32>
    }"""
    y = np.arange(24, dtype=np.float32).reshape(6, 4) ** 2
    (value,) = run(parse(text), [X, y, np.zeros((4, 6), np.float32)])
    assert same(value, X - y.T)


def test_a_generic_that_reduces_is_refused() -> None:
    text = """
    func.func @forward(%x : tensor<4xf32>, %o : tensor<f32>) -> tensor<f32> {
      %r = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> ()>],
                           iterator_types = ["reduction"]}
        ins(%x : tensor<4xf32>) outs(%o : tensor<f32>) {
      ^bb0(%a : f32, %b : f32):
        %s = arith.addf %a, %b : f32
        linalg.yield %s : f32
      } -> tensor<f32>
      func.return %r : tensor<f32>
    }"""
    with pytest.raises(CompileError, match="over its last loop"):
        run(parse(text), [ROW, np.zeros((), np.float32)])


def test_every_operation_has_a_case() -> None:
    texts = [lines for lines, *_ in CASES + REDUCTIONS] + ["linalg.generic linalg.yield linalg.index"]
    covered = {word.strip("(") for text in texts for word in text.split()}
    known = {
        op.name
        for functions in (TensorFunctions, LinalgFunctions, ScfFunctions)
        for op, _ in functions._impls()
    }
    assert known <= {word.split("(")[0] for word in covered}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("%r = tensor.cast %t : tensor<?x6xf32> to tensor<5x6xf32>", "the result is tensor<5x6xf32>"),
        ("%r = tensor.dim %t, %n : tensor<?x6xf32>", "no axis 2"),
        ("%c = arith.constant 9 : index\n%r = tensor.extract %v[%c] : tensor<6xf32>", "outside a tensor"),
        ("%r = tensor.extract_slice %v[2] [5] [1] : tensor<6xf32> to tensor<5xf32>", "outside an axis of 6"),
        ("%r = tensor.extract_slice %v[%n] [7] [1] : tensor<6xf32> to tensor<7xf32>", "outside an axis of 6"),
        ("%r = tensor.pad %v low[%n] high[-1] { ^bb0(%k : index): tensor.yield %f : f32 } "
         ": tensor<6xf32> to tensor<?xf32>", "a padding is negative"),
        ("%c = arith.constant -1 : index\n%r = tensor.splat %f[%c] : tensor<?xf32>", "negative"),
        ("%r = tensor.insert_slice %row into %v[0] [5] [1] : tensor<4xf32> into tensor<6xf32>", "does not fill"),
        ("%e = tensor.splat %f[%n] : tensor<?x6xf32>\n"
         "%r = arith.addf %e, %t : tensor<?x6xf32>", "different shapes: (2, 6) and (4, 6)"),
    ],
)  # fmt: skip
def test_a_wrong_shape_at_run_time_names_the_operation(lines: str, complaint: str) -> None:
    result = lines.split(" : ")[-1].split("to ")[-1].split("into ")[-1] if "extract %" not in lines else "f32"
    result = "index" if "dim" in lines else result
    with pytest.raises(CompileError) as raised:
        evaluate(lines, result)
    assert complaint in str(raised.value)
    assert str(raised.value).startswith(lines.split("%r = ")[1].split()[0])


def test_the_number_of_a_turn_is_a_value() -> None:
    """A generic of nothing but its index, over an axis that only its result has."""
    text = """
    func.func @forward(%o : tensor<?x4xi64>) -> tensor<?x4xi64> {
      %r = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d1, d0)>],
                           iterator_types = ["parallel", "parallel"]} outs(%o : tensor<?x4xi64>) {
      ^bb0(%c : i64):
        %column = linalg.index 0 : index
        %row = linalg.index 1 : index
        %ten = arith.constant 10 : index
        %tens = arith.muli %row, %ten : index
        %sum = arith.addi %tens, %column : index
        %s = arith.index_cast %sum : index to i64
        linalg.yield %s : i64
      } -> tensor<?x4xi64>
      func.return %r : tensor<?x4xi64>
    }"""
    (value,) = run(parse(text), [np.zeros((3, 4), np.int64)])
    assert same(value, np.arange(3)[:, None] * 10 + np.arange(4))
    with pytest.raises(CompileError, match="no loop 7 of 2"):
        run(parse(text.replace("index 0 :", "index 7 :")), [np.zeros((3, 4), np.int64)])


def test_a_loop_that_does_not_advance_is_refused() -> None:
    text = """
    func.func @forward(%n : index, %f : f32) -> f32 {
      %zero = arith.constant 0 : index
      %r = scf.for %k = %zero to %n step %zero iter_args(%s = %f) -> (f32) { scf.yield %s : f32 }
      func.return %r : f32
    }"""
    with pytest.raises(CompileError, match="1 or more, found 0"):
        run(parse(text), [np.int64(3), np.float32(0)])


def test_padding_that_differs_from_place_to_place_is_refused() -> None:
    text = """
    func.func @forward(%x : tensor<4xi64>) -> tensor<5xi64> {
      %r = tensor.pad %x low[1] high[0] {
      ^bb0(%k : index):
        %p = arith.index_cast %k : index to i64
        tensor.yield %p : i64
      } : tensor<4xi64> to tensor<5xi64>
      func.return %r : tensor<5xi64>
    }"""
    with pytest.raises(CompileError, match="only one number pads"):
        run(parse(text), [np.zeros(4, np.int64)])


CALLS = """
func.func private @twice(%x : tensor<?xf32>) -> tensor<?xf32> {
  %y = arith.addf %x, %x : tensor<?xf32>
  func.return %y : tensor<?xf32>
}
func.func private @outside(tensor<?xf32>) -> tensor<?xf32>
func.func @forward(%x : tensor<?xf32>) -> (tensor<?xf32>, tensor<?xf32>) {
  %y = func.call @twice(%x) : (tensor<?xf32>) -> tensor<?xf32>
  %z = func.call @twice(%y) : (tensor<?xf32>) -> tensor<?xf32>
  func.return %z, %x : tensor<?xf32>, tensor<?xf32>
}
func.func @forever(%x : tensor<?xf32>) -> tensor<?xf32> {
  %y = func.call @forever(%x) : (tensor<?xf32>) -> tensor<?xf32>
  func.return %y : tensor<?xf32>
}
func.func @elsewhere(%x : tensor<?xf32>) -> tensor<?xf32> {
  %y = func.call @outside(%x) : (tensor<?xf32>) -> tensor<?xf32> loc("layers.3"("model.py":9:0))
  func.return %y : tensor<?xf32>
}
func.func @branches(%x : f32) -> f32 {
  "cf.br"(%x)[^bb1] : (f32) -> ()
^bb1(%y : f32):
  func.return %y : f32
}
"""


def test_calls() -> None:
    z, x = run(parse(CALLS), [ROW])
    assert same(z, ROW * 4)
    assert same(x, ROW)
    x[0] = 99
    assert ROW[0] == 1, "results are copies"


@pytest.mark.parametrize(
    ("function", "inputs", "complaint"),
    [
        ("forever", [ROW], "func.call: function @forever calls itself"),
        ("elsewhere", [ROW], "model.py:9: layers.3: func.call: function @outside has no body"),
        ("branches", [np.float32(1)], "branches: control flow between blocks"),
        (
            "missing",
            [ROW],
            "there is no function @missing, only: twice, outside, forward, forever, elsewhere, branches",
        ),
        ("forward", [], "@forward takes 1 inputs, found 0"),
        ("forward", [X], "input 0 of @forward is tensor<?xf32>, found an array of shape (4, 6)"),
        (
            "forward",
            [ROW.astype(np.float64)],
            "input 0 of @forward is tensor<?xf32>, found elements of float64",
        ),
        ("forward", [INTS[0]], "input 0 of @forward is tensor<?xf32>, found elements of int32"),
    ],
)
def test_what_cannot_run_says_why(function: str, inputs: Sequence[Array], complaint: str) -> None:
    with pytest.raises(CompileError) as raised:
        run(parse(CALLS), inputs, function=function)
    assert str(raised.value).startswith(complaint)


def test_a_module_without_functions_says_so() -> None:
    with pytest.raises(CompileError, match="only: none"):
        run(parse("builtin.module {}"), [])


def test_values_are_dropped_after_their_last_use() -> None:
    module = parse("""
    func.func @forward(%x : f32, %unused : f32) -> f32 {
      %a = arith.addf %x, %x : f32
      %dead = arith.subf %a, %x : f32
      %b = arith.mulf %a, %a : f32
      func.return %b : f32
    }""")
    block = module.body.block.first_op.body.block  # pyright: ignore
    names = {op.name: {value.name_hint for value in values} for op, values in find_last_uses(block).items()}
    assert names == {
        "arith.addf": set(),
        "arith.subf": {"dead", "x"},
        "arith.mulf": {"a"},
        "func.return": {"b"},
    }
