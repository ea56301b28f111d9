"""Windows, look-up and the k largest: what the operations mean, against loops written out."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from xdsl.dialects.builtin import FloatAttr, FunctionType, ModuleOp, TensorType, f32
from xdsl.dialects.func import FuncOp, ReturnOp

from sterna.dialects.context import parse
from sterna.dialects.errors import CompileError
from sterna.dialects.indexing_ops import WindowsOp
from sterna.dialects.interpreter import run

Array = npt.NDArray[Any]
FLOATS = st.floats(-100, 100, width=32)


def call(op: str, operands: dict[str, tuple[Array, str]], results: list[str]) -> tuple[Array, ...]:
    """Runs `%0, %1, ... = op` on arrays of these types."""
    arguments = ", ".join(f"%{name} : {type}" for name, (_, type) in operands.items())
    values = ", ".join(f"%r{n}" for n in range(len(results)))
    types = ", ".join(results)
    text = f"func.func @forward({arguments}) -> ({types}) {{\n{values} = {op}\nfunc.return {values} : {types}\n}}"
    return run(parse(text), [value for value, _ in operands.values()])


@st.composite
def slid(draw: st.DrawFn) -> tuple[Array, dict[str, Any]]:
    """An array and the attributes of windows that fit it."""
    rank = draw(st.integers(1, 4))
    axes = sorted(draw(st.sets(st.integers(0, rank - 1), min_size=1, max_size=2)))
    shape = [draw(st.integers(2, 6)) for _ in range(rank)]
    lists: dict[str, list[int]] = {name: [] for name in ("sizes", "strides", "dilations", "low", "high")}
    for axis in axes:
        low, high = draw(st.integers(0, 3)), draw(st.integers(0, 3))
        size = draw(st.integers(1, 3))
        dilation = draw(st.integers(1, 3))
        if (size - 1) * dilation + 1 > shape[axis] + low + high:
            size = 1
        values = (size, draw(st.integers(1, 3)), dilation, low, high)
        for numbers, value in zip(lists.values(), values, strict=True):
            numbers.append(value)
    x = draw(arrays(np.float32, shape, elements=FLOATS))
    return x, {"leading": draw(st.integers(0, axes[0])), "axes": axes, **lists}


def windows_by_loops(x: Array, padding: float, attributes: dict[str, Any]) -> Array:
    leading, axes = attributes["leading"], attributes["axes"]
    sizes, strides, dilations = attributes["sizes"], attributes["strides"], attributes["dilations"]
    low, high = attributes["low"], attributes["high"]
    counts = [
        (x.shape[a] + low[j] + high[j] - (sizes[j] - 1) * dilations[j] - 1) // strides[j] + 1
        for j, a in enumerate(axes)
    ]
    rest = [a for a in range(leading, x.ndim) if a not in axes]
    out = np.empty((*x.shape[:leading], *counts, *(x.shape[a] for a in rest), *sizes), x.dtype)
    for place in product(*map(range, out.shape)):
        at: dict[int, int] = dict(enumerate(place[:leading]))
        at |= zip(rest, place[leading + len(axes) : out.ndim - len(axes)], strict=True)
        positions, offsets = place[leading : leading + len(axes)], place[out.ndim - len(axes) :]
        for j, axis in enumerate(axes):
            at[axis] = positions[j] * strides[j] + offsets[j] * dilations[j] - low[j]
        inside = all(0 <= at[axis] < x.shape[axis] for axis in axes)
        out[place] = x[tuple(at[axis] for axis in range(x.ndim))] if inside else padding
    return out.reshape([size for size in out.shape if size != 1])


@given(slid(), st.sampled_from([0.0, -1.5, -np.inf]))
def test_windows_hold_the_elements_that_their_formula_names(
    case: tuple[Array, dict[str, Any]], padding: float
) -> None:
    x, attributes = case
    function = FuncOp("forward", FunctionType.from_lists([TensorType(f32, x.shape)], []))
    op = WindowsOp(function.body.block.args[0], padding=FloatAttr(padding, f32), **attributes)
    function.body.block.add_ops([op, ReturnOp(op.result)])
    function.update_function_type()
    (y,) = run(parse(str(ModuleOp([function]))), [x])
    assert np.array_equal(y, windows_by_loops(x, padding, attributes))


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_a_dynamic_axis_slides_into_the_past(rows: int) -> None:
    """A causal convolution over T: two elements of padding before the first."""
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    op = (
        "ternary.windows %x leading = 0 axes = [0] sizes = [3] strides = [1] dilations = [1] low = [2] high = [0] "
        "padding = 0.0 : f32 : tensor<?x3xf32> -> tensor<?x3x3xf32>"
    )
    (y,) = call(op, {"x": (x, "tensor<?x3xf32>")}, ["tensor<?x3x3xf32>"])
    past = np.concatenate([np.zeros((2, 3), np.float32), x])
    expected = np.array([past[t : t + 3].T for t in range(rows)], np.float32).reshape(rows, 3, 3)
    assert np.array_equal(y, expected)


def test_padding_of_integers_wraps_as_their_literals_do() -> None:
    op = (
        "ternary.windows %x leading = 0 axes = [0] sizes = [2] strides = [1] dilations = [1] low = [1] high = [0] "
        "padding = 200 : i8 : tensor<2xi8> -> tensor<2x2xi8>"
    )
    (y,) = call(
        op.replace("200", "-56"), {"x": (np.array([1, 2], np.int8), "tensor<2xi8>")}, ["tensor<2x2xi8>"]
    )
    assert y.tolist() == [[-56, 1], [1, 2]]


@given(st.data())
def test_gather_looks_up_the_nearest_position_that_exists(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=3))
    axis = data.draw(st.integers(0, len(shape) - 1))
    index_shape = data.draw(st.lists(st.integers(2, 3), max_size=2))
    width = data.draw(st.sampled_from([8, 32, 64]))
    limit = (1 << width - 1) - 1
    positions = st.integers(-6, 6) | st.sampled_from([limit, -limit - 1])
    indices = data.draw(arrays(f"i{width // 8}", index_shape, elements=positions))
    x = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    given_type = f"tensor<{'x'.join(map(str, shape))}xi16>"
    index_type = f"tensor<{''.join(f'{size}x' for size in index_shape)}i{width}>"
    out_shape = (*shape[:axis], *index_shape, *shape[axis + 1 :])
    out_type = f"tensor<{''.join(f'{size}x' for size in out_shape)}i16>"
    op = f"ternary.gather %x, %i axis = {axis} : {given_type}, {index_type} -> {out_type}"
    (y,) = call(op, {"x": (x, given_type), "i": (indices, index_type)}, [out_type])
    expected = np.empty(out_shape, np.int16)
    for place in product(*map(range, out_shape)):
        chosen = int(indices[place[axis : axis + len(index_shape)]])
        source = (*place[:axis], min(max(chosen, 0), shape[axis] - 1), *place[axis + len(index_shape) :])
        expected[place] = x[source]
    assert np.array_equal(y, expected)


def test_nothing_can_be_looked_up_in_no_rows() -> None:
    op = "ternary.gather %x, %i axis = 0 : tensor<?x2xf32>, tensor<3xi64> -> tensor<3x2xf32>"
    with pytest.raises(CompileError, match="empty"):
        call(
            op,
            {
                "x": (np.empty((0, 2), np.float32), "tensor<?x2xf32>"),
                "i": (np.zeros(3, np.int64), "tensor<3xi64>"),
            },
            ["tensor<3x2xf32>"],
        )


def reference_order(row: list[float], largest: bool) -> list[int]:
    """Positions by value, NaN greatest, ties by position."""
    key = [(1, 0.0) if v != v else (0, v + 0.0) for v in row]
    order = sorted(range(len(row)), key=lambda i: key[i])
    if largest:
        order = sorted(range(len(row)), key=lambda i: (-key[i][0], -key[i][1]))
    return order


@given(
    arrays(
        np.float32, (2, 7), elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45])
    ),
    st.integers(1, 7),
    st.booleans(),
)
def test_ties_come_in_order_and_nan_is_the_greatest(x: Array, k: int, largest: bool) -> None:
    kept = "" if k == 1 else f"x{k}"
    types = [f"tensor<2{kept}xf32>", f"tensor<2{kept}xi64>"]
    order = "largest" if largest else "smallest"
    op = f'ternary.top_k %x k = {k} order = "{order}" : tensor<2x7xf32> -> {types[0]}, {types[1]}'
    values, indices = call(op, {"x": (x, "tensor<2x7xf32>")}, types)
    for row, found, at in zip(x, values.reshape(2, k), indices.reshape(2, k), strict=True):
        assert at.tolist() == reference_order(row.tolist(), largest)[:k]
        assert np.array_equal(found.view(np.int32), row[at].view(np.int32))


@given(arrays(np.int64, (6,), elements=st.integers(-(1 << 63), (1 << 63) - 1)), st.booleans())
def test_integers_are_ordered_over_their_whole_range(x: Array, largest: bool) -> None:
    op = (
        f'ternary.top_k %x k = 4 order = "{"largest" if largest else "smallest"}" '
        ": tensor<6xi64> -> tensor<4xi64>, tensor<4xi64>"
    )
    values, _ = call(op, {"x": (x, "tensor<6xi64>")}, ["tensor<4xi64>"] * 2)
    assert values.tolist() == sorted(x.tolist(), reverse=largest)[:4]


def test_more_than_there_are_rows_is_an_error() -> None:
    op = 'ternary.top_k %x k = 3 order = "largest" : tensor<?xf32> -> tensor<3xf32>, tensor<3xi64>'
    with pytest.raises(CompileError, match="fewer than k = 3"):
        call(op, {"x": (np.zeros(2, np.float32), "tensor<?xf32>")}, ["tensor<3xf32>", "tensor<3xi64>"])
