"""ONNX Runtime on an exported program gives what the interpreter gives on the program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.context import parse
from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import run
from sterna.dialects.weights import ArrayStore, WeightStore
from sterna.instruments.inputs import entry_function, generate_inputs
from sterna.progress import no_progress
from sterna.targets.onnx.export import to_onnx
from sterna.targets.onnx.initializers import Inline, pack_trits

Array = npt.NDArray[Any]

DOCUMENT = (Path(__file__).parents[2] / "docs" / "ir.md").read_text(encoding="utf-8")
AT_COMPILE_TIME = ("ternary.weight", "ternary.absmean", "ternary.ternarize")
IN_THE_DOCUMENT = [
    re.sub(r"func.func @\w+", "func.func @forward", program)
    for program in re.findall(r"^```mlir\n(.*?)^```$", DOCUMENT, re.M | re.S)
    if program.count("func.func") == 1 and not any(name in program for name in AT_COMPILE_TIME)
]
STAYING = [
    program
    for program in IN_THE_DOCUMENT
    if re.search(r"\bfixed\.|\bternary\.(positions|attention)", program)
]
PROGRAMS = [program for program in IN_THE_DOCUMENT if program not in STAYING]

EDGES = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, 127.5, 1e-40, 3e38, -3e38, np.inf, -np.inf, np.nan]


def run_onnx(module: ModuleOp, inputs: list[Array], weights: WeightStore | None = None) -> list[Array]:
    model = to_onnx(module, weights or ArrayStore(), Inline(), no_progress)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {port.name: value for port, value in zip(session.get_inputs(), inputs, strict=True)}
    return [np.asarray(result) for result in session.run(None, feeds)]


def assert_same(module: ModuleOp, inputs: list[Array], weights: WeightStore | None = None) -> None:
    """Integers and booleans identical; floats to 1e-5 of the largest of them."""
    expected = run(module, inputs, weights=weights)
    for ours, theirs in zip(expected, run_onnx(module, inputs, weights), strict=True):
        assert theirs.dtype == ours.dtype
        assert theirs.shape == ours.shape
        if ours.dtype != np.float32:
            np.testing.assert_array_equal(theirs, ours)
        else:
            largest = float(np.max(np.abs(ours), where=np.isfinite(ours), initial=1e-3))
            np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6 * largest)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("rows", [1, 5])
def test_every_program_of_the_document_leaves(program: str, rows: int) -> None:
    module = parse(program)
    assert_same(module, generate_inputs(module, entry_function(module), rows=rows))


@pytest.mark.parametrize("program", STAYING)
def test_fixed_point_and_caches_stay(program: str) -> None:
    with pytest.raises(
        CompileError, match=r"operations? ha(s|ve) no ONNX form: (fixed\.|ternary\.positions)"
    ):
        to_onnx(parse(program), ArrayStore(), Inline(), no_progress)


def one_op(op: str, operands: dict[str, str], result: str) -> ModuleOp:
    """A program that computes `op` for each of T elements; the operands and the result are named by element type."""
    arguments = ", ".join(f"%{name}s : tensor<?x{type}>" for name, type in operands.items())
    scalars = ", ".join(f"%{name} : {type}" for name, type in (*operands.items(), ("unused", result)))
    types = ", ".join(f"tensor<?x{type}>" for type in operands.values())
    maps = ", ".join(["affine_map<(d) -> (d)>"] * (len(operands) + 1))
    first = next(iter(operands))
    return parse(f"""
        func.func @forward({arguments}) -> tensor<?x{result}> {{
          %axis = arith.constant 0 : index
          %rows = tensor.dim %{first}s, %axis : tensor<?x{operands[first]}>
          %out = tensor.empty(%rows) : tensor<?x{result}>
          %y = linalg.generic {{indexing_maps = [{maps}], iterator_types = ["parallel"]}}
            ins({", ".join(f"%{name}s" for name in operands)} : {types}) outs(%out : tensor<?x{result}>) {{
          ^bb0({scalars}):
            %r = {op}
            linalg.yield %r : {result}
          }} -> tensor<?x{result}>
          func.return %y : tensor<?x{result}>
        }}""")


@pytest.mark.parametrize(
    "name",
    ["addf", "subf", "mulf", "divf", "maximumf", "minimumf", "maxnumf", "minnumf"],
)
def test_float_arithmetic_on_edges(name: str) -> None:
    a, b = (side.reshape(-1).astype(np.float32) for side in np.meshgrid(EDGES, EDGES))
    if name.startswith(("max", "min")):
        # ONNX leaves the sign of a zero open here.
        a, b = a + np.float32(0), b + np.float32(0)
    module = one_op(f"arith.{name} %a, %b : f32", {"a": "f32", "b": "f32"}, "f32")
    np.testing.assert_array_equal(run_onnx(module, [a, b])[0], run(module, [a, b])[0])


@pytest.mark.parametrize(
    "predicate",
    ["oeq", "ogt", "oge", "olt", "ole", "one", "ord", "ueq", "ugt", "uge", "ult", "ule", "une", "uno"],
)
def test_comparisons_know_nan(predicate: str) -> None:
    a, b = (side.reshape(-1).astype(np.float32) for side in np.meshgrid(EDGES, EDGES))
    types = {"a": "f32", "b": "f32"}
    module = one_op(f"arith.cmpf {predicate}, %a, %b : f32", types, "i1")
    np.testing.assert_array_equal(run_onnx(module, [a, b])[0], run(module, [a, b])[0])


INTEGERS = {1: np.bool_, 8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}


def extremes(width: int) -> list[Array]:
    """All pairs of the ends, zero and a few between."""
    if width == 1:
        values = np.array([False, True])
    else:
        info = np.iinfo(INTEGERS[width])
        values = np.array([info.min, info.min + 1, -3, -1, 0, 1, 2, 7, info.max], INTEGERS[width])
    return [side.reshape(-1) for side in np.meshgrid(values, values)]


@pytest.mark.parametrize("width", [8, 16, 32, 64])
@pytest.mark.parametrize(
    "name", ["addi", "subi", "muli", "minsi", "maxsi", "minui", "maxui", "andi", "ori", "xori"]
)
def test_integer_arithmetic_wraps(name: str, width: int) -> None:
    type = f"i{width}"
    module = one_op(f"arith.{name} %a, %b : {type}", {"a": type, "b": type}, type)
    assert_same(module, extremes(width))


@pytest.mark.parametrize("width", [8, 32, 64])
@pytest.mark.parametrize("predicate", ["eq", "ne", "slt", "sge", "ult", "uge"])
def test_integer_comparisons(predicate: str, width: int) -> None:
    type = f"i{width}"
    module = one_op(f"arith.cmpi {predicate}, %a, %b : {type}", {"a": type, "b": type}, "i1")
    assert_same(module, extremes(width))


@pytest.mark.parametrize(("source", "target"), [(1, 8), (1, 32), (8, 16), (8, 64), (32, 64)])
@pytest.mark.parametrize("name", ["extsi", "extui"])
def test_widening(name: str, source: int, target: int) -> None:
    module = one_op(
        f"arith.{name} %a : i{source} to i{target}",
        {"a": f"i{source}"},
        f"i{target}",
    )
    assert_same(module, extremes(source)[:1])


@pytest.mark.parametrize(("source", "target"), [(8, 1), (16, 8), (64, 8), (64, 32)])
def test_cutting(source: int, target: int) -> None:
    module = one_op(
        f"arith.trunci %a : i{source} to i{target}",
        {"a": f"i{source}"},
        f"i{target}",
    )
    assert_same(module, extremes(source)[:1])


@pytest.mark.parametrize("width", [8, 16, 32])
def test_floats_saturate_as_integers(width: int) -> None:
    module = one_op(
        f"arith.fptosi %a : f32 to i{width}",
        {"a": "f32"},
        f"i{width}",
    )
    assert_same(module, [np.array([*EDGES, 2.0**31, -(2.0**31), 32767.9, -129.5], np.float32)])


@settings(max_examples=25, deadline=None)
@given(
    x=arrays(np.int8, st.tuples(st.integers(1, 5), st.just(24))),
    w=arrays(np.int8, (6, 12), elements=st.sampled_from([-1, 0, 1])),
)
def test_products_in_groups_are_identical(x: Array, w: Array) -> None:
    module = parse("""
        ternary.weight @w : tensor<6x12x!ternary.trit>
        func.func @forward(%x : tensor<?x24xi8>) -> tensor<?x6xi32> {
          %w = ternary.load @w : tensor<6x12x!ternary.trit>
          %y = ternary.accumulate %x, %w groups = 2 : tensor<?x24xi8>, tensor<6x12x!ternary.trit> -> tensor<?x6xi32>
          func.return %y : tensor<?x6xi32>
        }""")
    assert_same(module, [x], ArrayStore({"w": w}))


@given(arrays(np.int8, st.integers(0, 23), elements=st.sampled_from([-1, 0, 1])))
def test_packed_trits_read_back(trits: Array) -> None:
    data = np.frombuffer(pack_trits(trits), np.uint8)
    fields = (data[:, None] >> np.arange(0, 8, 2)).reshape(-1) & 3
    signed = np.where(fields > 1, fields.astype(np.int8) - 4, fields.astype(np.int8))
    np.testing.assert_array_equal(signed[: trits.size], trits)


CONVOLUTIONS = {
    "same": ("?x3x6x5", 1, [1], [2, 3], [3, 3], [1, 1], [1, 1], [1, 1], [1, 1], "?x6x5x", 27),
    "strided": ("?x2x9x8", 2, [1], [2, 3], [3, 2], [2, 3], [2, 1], [0, 1], [2, 0], "?x4x3x", 6),
    "dilated": ("?x4x16", 2, [1], [2], [3], [2], [3], [1], [0], "?x6x", 6),
    "channels last": ("?x7x4", 1, [1], [1], [3], [1], [1], [2], [0], "?x7x", 12),
    "depthwise": ("?x6x7", 6, [1], [2], [4], [1], [1], [0], [0], "?x4x", 4),
    "one channel": ("?x8x8", 1, [1], [1, 2], [3, 3], [1, 1], [1, 1], [0, 0], [0, 0], "?x6x6x", 9),
    "two leading": ("?x2x3x6", 3, [2], [3], [2], [2], [1], [0], [0], "?x2x3x", 2),
    "over T": ("?x3", 1, [0], [0], [3], [1], [1], [2], [0], "?x", 9),
    "groups inside a channel": ("?x3x9", 6, [1], [2], [4], [1], [1], [0], [0], "?x6x", 2),
}
"""Shape of x, groups, leading axes, the lists of the windows, the result's axes, and the columns of a group."""


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("padding", [0, 3])
@settings(max_examples=4)
@given(rows=st.sampled_from([1, 2, 6]), seed=st.integers(0, 2**32 - 1))
def test_integer_convolutions_are_identical(kind: str, padding: int, rows: int, seed: int) -> None:
    shape, groups, (leading,), axes, sizes, strides, dilations, low, high, result, columns = CONVOLUTIONS[
        kind
    ]
    random = np.random.default_rng(seed)
    module = parse(f"""
        ternary.weight @w : tensor<6x{columns}x!ternary.trit>
        func.func @forward(%x : tensor<{shape}xi8>) -> tensor<{result}6xi32> {{
          %w = ternary.load @w : tensor<6x{columns}x!ternary.trit>
          %y = ternary.convolve %x, %w groups = {groups} leading = {leading} axes = {axes} sizes = {sizes}
            strides = {strides} dilations = {dilations} low = {low} high = {high} padding = {padding} : i8
            : tensor<{shape}xi8>, tensor<6x{columns}x!ternary.trit> -> tensor<{result}6xi32>
          func.return %y : tensor<{result}6xi32>
        }}""")
    x = random.integers(-128, 128, [rows, *map(int, shape.split("x")[1:])]).astype(np.int8)
    w = random.integers(-1, 2, (6, columns)).astype(np.int8)
    assert_same(module, [x], ArrayStore({"w": w}))


@pytest.mark.parametrize("rows", [1, 5])
def test_windows_slide_over_the_dynamic_axis(rows: int) -> None:
    module = parse("""
        func.func @forward(%x : tensor<?x4xf32>) -> tensor<?x4x3xf32> {
          %y = ternary.windows %x leading = 0 axes = [0] sizes = [3] strides = [1] dilations = [2] low = [3] high = [1]
            padding = 0.5 : f32 : tensor<?x4xf32> -> tensor<?x4x3xf32>
          func.return %y : tensor<?x4x3xf32>
        }""")
    assert_same(module, [np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)])
