"""Strategies for arrays: ternary weights, activations with everything that breaks kernels, shapes.

Small arrays are drawn so that a failure shrinks to few numbers that are not zero; large ones by a kind and a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute

from sterna.dialects.elements import dtype_of
from sterna.dialects.encodings import is_trits
from sterna.instruments.inputs import entry_function
from sterna.targets.interface import draw_position, token_limit
from sterna.testing import nasty

Array = npt.NDArray[Any]

SEEDS = st.integers(0, 2**16 - 1)
FEW = 64
"""Elements of an array that is drawn one by one now and then."""

COLUMNS = (1, 2, 15, 16, 17, 64, 255, 256, 257)
"""K at and around vector and packing widths, and far from them."""
ROWS = (0, 1, 2, 3, 5, 8)


@st.composite
def shapes(
    draw: st.DrawFn, rank: int = 2, *, rows: Sequence[int] = ROWS, columns: Sequence[int] = COLUMNS
) -> tuple[int, ...]:
    """`(T, ..., K)`: T may be 0, K may be 1, and is often no multiple of a vector or packing width."""
    middle = [draw(st.integers(1, 4)) for _ in range(rank - 2)]
    shape = (draw(st.sampled_from(tuple(rows))), *middle, draw(st.sampled_from(tuple(columns))))
    return shape[2 - rank :] if rank < 2 else shape


@st.composite
def activations(
    draw: st.DrawFn,
    shape: Sequence[int] | st.SearchStrategy[tuple[int, ...]] | None = None,
    *,
    special: bool = False,
) -> Array:
    """float32 rows: zeros, one huge outlier, ties at .5, denormals, saturation; NaN and infinity if `special`."""
    size = _shape(draw, shape)
    count = int(np.prod(size))
    if count and count <= FEW and draw(st.booleans()):
        return _sparse(draw, size, special=special)
    kinds = tuple(nasty.ANY if special else nasty.FINITE)
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4))
    return nasty.rows_of_floats(np.random.default_rng(draw(SEEDS)), size, chosen)


def _sparse(draw: st.DrawFn, shape: tuple[int, ...], *, special: bool) -> Array:
    """Zeros but for some elements, which are any floats."""
    array = np.zeros(shape, np.float32)
    # One NaN stands for all; a signaling one is no activation.
    floats = st.floats(width=32, allow_nan=False, allow_infinity=special)
    numbers = floats | st.just(np.nan) if special else floats
    for at, value in draw(st.dictionaries(st.integers(0, array.size - 1), numbers, max_size=8)).items():
        array.reshape(-1)[at] = value
    return array


@st.composite
def integers(draw: st.DrawFn, shape: Sequence[int], dtype: npt.DTypeLike = "int8") -> Array:
    """Integers of that dtype: any, zero, or all at one end of the range."""
    chosen = draw(st.lists(st.sampled_from(tuple(nasty.INTEGERS)), min_size=1, max_size=4))
    return nasty.rows_of_integers(np.random.default_rng(draw(SEEDS)), shape, dtype, chosen)


@st.composite
def ternary_weights(
    draw: st.DrawFn, shape: Sequence[int] | st.SearchStrategy[tuple[int, ...]] | None = None
) -> npt.NDArray[np.int8]:
    """int8 in {-1, 0, +1}, by default `[M, K]`: any, sparse, all of one sign, rows of zeros."""
    size = _shape(draw, shape, rows=(1, 2, 3, 4, 5, 16, 33))
    chosen = draw(st.lists(st.sampled_from(tuple(nasty.TRITS)), min_size=1, max_size=4))
    return nasty.rows_of_trits(np.random.default_rng(draw(SEEDS)), size, chosen)


@st.composite
def booleans(draw: st.DrawFn, shape: Sequence[int]) -> npt.NDArray[np.bool_]:
    generator = np.random.default_rng(draw(SEEDS))
    match draw(st.sampled_from(("false", "true", "any"))):
        case "false":
            return np.zeros(tuple(shape), np.bool_)
        case "true":
            return np.ones(tuple(shape), np.bool_)
        case _:
            return generator.integers(0, 2, tuple(shape)).astype(np.bool_)


def scaled(trits: npt.NDArray[np.int8]) -> st.SearchStrategy[Array]:
    """A float weight that is ternary: the trits times one magnitude."""
    return st.sampled_from((1.0, 0.5, 0.3, 1e-20)).map(
        lambda scale: trits.astype(np.float32) * np.float32(scale)
    )


def to_half(array: Array) -> Array:
    with np.errstate(all="ignore"):
        return array.astype(np.float16)


def _shape(
    draw: st.DrawFn,
    shape: Sequence[int] | st.SearchStrategy[tuple[int, ...]] | None,
    rows: Sequence[int] = ROWS,
) -> tuple[int, ...]:
    if shape is None:
        return draw(shapes(rows=rows))
    return draw(shape) if isinstance(shape, st.SearchStrategy) else tuple(shape)


@st.composite
def inputs_of(
    draw: st.DrawFn,
    module: ModuleOp,
    rows: st.SearchStrategy[int] | int | None = None,
    *,
    special: bool = True,
) -> list[Array]:
    """Inputs of the module's entry: T is one number, by default 0 to 4; `special` allows NaN and infinities."""
    if rows is None:
        rows = st.sampled_from((1, 2, 0, 3, 4))
    count = rows if isinstance(rows, int) else draw(rows)
    functions = {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp)}
    values: list[Array] = []
    for argument in entry_function(module).body.block.args:
        position = draw_position(argument, functions, count, lambda below: draw(st.integers(0, below - 1)))
        if position is not None:
            values.append(position)
            continue
        limit = token_limit(argument, functions)
        values.append(draw(_input(argument.type, count, limit, special=special)))
    return values


def _input(type: Attribute, rows: int, limit: int | None, *, special: bool) -> st.SearchStrategy[Array]:
    shape = tuple(rows if size == DYNAMIC_INDEX else size for size in _sizes(type))
    dtype = dtype_of(type)
    if is_trits(type):
        return ternary_weights(shape)
    if limit is not None:
        return SEEDS.map(lambda seed: np.random.default_rng(seed).integers(0, limit, shape).astype(dtype))
    match dtype.kind:
        case "f":
            floats = activations(shape, special=special)
            return floats if dtype == np.float32 else floats.map(to_half)
        case "b":
            return booleans(shape)
        case _:
            return integers(shape, dtype)


def _sizes(type: Attribute) -> tuple[int, ...]:
    return cast("TensorType[Attribute]", type).get_shape() if isinstance(type, TensorType) else ()
