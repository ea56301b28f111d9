"""Attention with a cache: what the operations mean, and that no bit depends on how a text is cut into calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sterna.dialects.context import parse
from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.targets.program import InputError
from sterna.targets.triton import TritonTarget
from sterna.targets.triton.emitter import emit_module
from sterna.testing.arrays import SEEDS, activations
from tests.cpu_programs import PlannedProgram, isa_names, same_bits

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Heads:
    """Sizes of an attention: of every D and sharing, with room for some rows, in blocks of some."""

    kv_heads: int
    sharing: int
    columns: int
    capacity: int
    block: int = 16
    turned: bool = False
    """Are queries and keys turned by angles `[T, D / 2]` first?"""

    @property
    def widths(self) -> tuple[int, int]:
        return self.kv_heads * self.sharing * self.columns, self.kv_heads * self.columns

    def text(self) -> str:
        """`forward(tokens, q, k, v, [cos, sin,] start, keys, values) -> (y, start, keys, values)`."""
        wide, narrow = (f"tensor<?x{width}xf32>" for width in self.widths)
        cache = f"tensor<{self.capacity}x{self.widths[1]}xf32>"
        angle = f"tensor<?x{self.columns // 2}xf32>"
        angles = f"%cos : {angle}, %sin : {angle}, " if self.turned else ""
        rotations = f"""
          %q_turned = ternary.rotate %q by %cos, %sin : {wide}, {angle}
          %k_turned = ternary.rotate %k by %cos, %sin : {narrow}, {angle}"""
        q, k = ("%q_turned", "%k_turned") if self.turned else ("%q", "%k")
        return f"""
        func.func @forward(%tokens : tensor<?xi64>, %q : {wide}, %k : {narrow}, %v : {narrow}, {angles}
                           %start : tensor<i64>, %keys : {cache}, %values : {cache})
            -> ({wide}, tensor<i64>, {cache}, {cache}) attributes {{sterna.states = 3 : i64}} {{
          %p, %next = ternary.positions %start of %tokens capacity = {self.capacity}
            : tensor<i64>, tensor<?xi64> -> tensor<?xi64>, tensor<i64>
          {rotations if self.turned else ""}
          %y, %new_keys, %new_values = ternary.attention {q}, {k}, %v at %p cache %keys, %values
            heads = {self.kv_heads * self.sharing} kv_heads = {self.kv_heads} scale = {self.columns**-0.5}
            block = {self.block} lanes = 16
            : {wide}, {narrow}, tensor<?xi64>, {cache}
          func.return %y, %next, %new_keys, %new_values : {wide}, tensor<i64>, {cache}, {cache}
        }}"""

    def new_text(self, filler: float = 0.0) -> list[Array]:
        """The states that a text starts from; what the cache holds then is not read."""
        cache = np.full((self.capacity, self.widths[1]), filler, np.float32)
        return [np.array(0), cache, cache]


SIZES = st.builds(
    Heads,
    kv_heads=st.integers(1, 3),
    sharing=st.integers(1, 3),
    columns=st.sampled_from([1, 2, 8, 15, 16, 20, 32]),
    capacity=st.integers(1, 40),
    block=st.sampled_from([16, 32, 64]),
)


@st.composite
def texts(draw: st.DrawFn, *, special: bool = False) -> tuple[Heads, list[Array]]:
    """Sizes, and tokens, q, k and v of at most as many rows as the cache has."""
    heads = draw(SIZES)
    rows = draw(st.integers(0, heads.capacity))
    wide, narrow = heads.widths
    arrays = [draw(activations((rows, width), special=special)) for width in (wide, narrow, narrow)]
    return heads, [np.zeros(rows, np.int64), *arrays]


def interpreter(heads: Heads) -> ModuleInterpreter:
    return ModuleInterpreter(parse(heads.text()))


def run_in_pieces(
    program: ModuleInterpreter, rows: Sequence[Array], states: Sequence[Array], cuts: Sequence[int]
) -> list[Array]:
    """y of all pieces, and the states after the last."""
    found: list[Array] = []
    for begin, end in zip([0, *cuts], [*cuts, len(rows[0])], strict=True):
        y, *states = program.run([*(array[begin:end] for array in rows), *states])
        found.append(y)
    return [np.concatenate(found), *states]


@settings(max_examples=40, deadline=None)
@given(texts(special=True), st.lists(st.integers(0, 40), max_size=4))
def test_pieces_of_any_size_give_the_bits_of_the_whole(
    text: tuple[Heads, list[Array]], cuts: list[int]
) -> None:
    heads, rows = text
    program = interpreter(heads)
    whole = program.run([*rows, *heads.new_text()])
    inside = sorted(min(cut, len(rows[0])) for cut in cuts)
    for a, b in zip(run_in_pieces(program, rows, heads.new_text(), inside), whole, strict=True):
        assert same_bits(a, b)


@settings(max_examples=40, deadline=None)
@given(SIZES, SEEDS)
def test_it_is_torchs_attention(heads: Heads, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = heads.capacity
    q, k, v = (
        generator.standard_normal((rows, width), np.float32) for width in (*heads.widths, heads.widths[1])
    )
    y, *_ = interpreter(heads).run([np.zeros(rows, np.int64), q, k, v, *heads.new_text()])
    laid = (torch.tensor(x).reshape(rows, -1, heads.columns).transpose(0, 1)[None] for x in (q, k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(*laid, is_causal=True, enable_gqa=True)
    np.testing.assert_allclose(y, expected[0].transpose(0, 1).reshape(rows, -1), rtol=1e-4, atol=1e-5)


def test_what_lies_beyond_the_text_is_not_read() -> None:
    heads, generator = Heads(2, 2, 16, 24), np.random.default_rng(1)
    rows = [np.zeros(5, np.int64)]
    rows += [generator.standard_normal((5, width), np.float32) for width in (*heads.widths, heads.widths[1])]
    clean, soiled = (interpreter(heads).run([*rows, *heads.new_text(x)]) for x in (0.0, float("nan")))
    assert same_bits(clean[0], soiled[0])
    for a, b in zip(clean[2:], soiled[2:], strict=True):
        assert same_bits(a[:5], b[:5]) and np.isnan(b[5:]).all() and not a[5:].any()


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (0, 9), (7, 2)])
def test_a_text_that_does_not_fit_is_an_error(start: int, count: int) -> None:
    heads = Heads(1, 1, 4, 8)
    rows = [np.zeros(count, np.int64), *[np.zeros((count, 4), np.float32)] * 3]
    with pytest.raises(CompileError, match="do not fit in its capacity of 8"):
        interpreter(heads).run([*rows, np.array(start), *heads.new_text()[1:]])


def test_positions_that_do_not_follow_one_another_are_an_error() -> None:
    cache = "tensor<8x4xf32>"
    module = parse(f"""
    func.func @forward(%p : tensor<?xi64>, %x : tensor<?x4xf32>, %c : {cache}) -> tensor<?x4xf32> {{
      %y, %a, %b = ternary.attention %x, %x, %x at %p cache %c, %c
        heads = 1 kv_heads = 1 scale = 1.0 block = 16 lanes = 16
        : tensor<?x4xf32>, tensor<?x4xf32>, tensor<?xi64>, {cache}
      func.return %y : tensor<?x4xf32>
    }}""")
    with pytest.raises(CompileError, match="do not follow one another"):
        ModuleInterpreter(module).run(
            [np.array([0, 2]), np.ones((2, 4), np.float32), np.ones((8, 4), np.float32)]
        )


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.sampled_from([1, 2, 8, 9]), st.integers(0, 4), SEEDS)
def test_rotation_is_a_product_with_unit_complex_numbers(heads: int, half: int, rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((rows, heads * 2 * half), np.float32)
    angles = generator.standard_normal((rows, half), np.float32)
    type, shared = f"tensor<?x{heads * 2 * half}xf32>", f"tensor<?x{half}xf32>"
    module = parse(f"""
    func.func @forward(%x : {type}, %cos : {shared}, %sin : {shared}) -> {type} {{
      %y = ternary.rotate %x by %cos, %sin : {type}, {shared}
      func.return %y : {type}
    }}""")
    (y,) = ModuleInterpreter(module).run([x, np.cos(angles), np.sin(angles)])
    pairs = x.reshape(rows, heads, 2, half)
    turned = (pairs[:, :, 0] + 1j * pairs[:, :, 1]) * np.exp(1j * angles)[:, None]
    expected = np.stack([turned.real, turned.imag], axis=2).reshape(x.shape)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


SHAPES = (Heads(2, 2, 16, 40), Heads(1, 3, 20, 24, 32), Heads(3, 1, 1, 33), Heads(1, 1, 128, 300, 128))
PROGRAMS = {heads: PlannedProgram(heads.text(), {}) for heads in SHAPES}


@st.composite
def continued(draw: st.DrawFn, heads: Heads, *, special: bool = True) -> list[Array]:
    """Inputs of a call after some rows: tokens, q, k, v, start and caches that hold anything."""
    start = draw(st.integers(0, heads.capacity))
    rows = draw(st.integers(0, min(heads.capacity - start, 20)))
    wide, narrow = heads.widths
    shapes = [(rows, wide), *[(rows, narrow)] * 2, *[(heads.capacity, narrow)] * 2]
    shapes += [(rows, heads.columns // 2)] * 2 if heads.turned else []
    q, k, v, keys, values, *angles = (draw(activations(shape, special=special)) for shape in shapes)
    return [np.zeros(rows, np.int64), q, k, v, *angles, np.array(start), keys, values]


@pytest.mark.slow
@pytest.mark.parametrize("isa", isa_names())
@settings(max_examples=8, deadline=None)
@given(st.data(), st.sampled_from(SHAPES), st.sampled_from([1, 2, 5]))
def test_cpu_kernels_equal_the_interpreter(isa: str, data: st.DataObject, heads: Heads, threads: int) -> None:
    """Slow: four programs for three instruction sets."""
    PROGRAMS[heads].check(data.draw(continued(heads)), isa=isa, threads=threads)


@settings(max_examples=20, deadline=None)
@given(st.data(), st.lists(st.integers(0, 40), max_size=4))
def test_a_session_that_writes_over_its_cache_gives_the_same_bits(
    data: st.DataObject, cuts: list[int]
) -> None:
    heads = SHAPES[0]
    program, generator = PROGRAMS[heads], np.random.default_rng(data.draw(SEEDS))
    assert [each.in_place for each in program.program.outputs] == [False, False, True, True]
    shapes = [(heads.capacity, width) for width in (*heads.widths, heads.widths[1])]
    rows = [np.zeros(heads.capacity, np.int64), *(generator.standard_normal(s, np.float32) for s in shapes)]
    whole = program.interpreter.run([*rows, *heads.new_text()])
    session = program.executable("avx2", 2).session()
    bounds = sorted([0, heads.capacity, *cuts])
    pieces = [session.run([x[i:j] for x in rows])[0] for i, j in pairwise(bounds)]
    assert same_bits(np.concatenate(pieces), whole[0])
    with pytest.raises(InputError, match=r"40 tokens and 1 more are not in the context of 40 .*--context 41"):
        session.run([x[:1] for x in rows])


def test_a_cache_that_something_else_reads_is_not_written_over() -> None:
    heads = SHAPES[0]
    text = heads.text().replace(
        "func.return %y,", "%z = arith.addf %keys, %keys : tensor<40x32xf32>\nfunc.return %y,"
    )
    program = PlannedProgram(text, {})
    assert [each.in_place for each in program.program.outputs] == [False, False, False, True]


ON_GPU = (
    Heads(2, 2, 16, 40, turned=True),
    Heads(1, 3, 20, 100, 32, turned=True),
    Heads(1, 17, 1, 33),
    Heads(1, 1, 80, 24, 32),
)
"""Several blocks twice, more heads than two programs of few rows serve, and a cache shorter than a block."""


@cache
def on_gpu(heads: Heads, few_rows: int) -> PlannedProgram:
    """With kernels for few rows for so many, and of one."""
    return with_few_rows(PlannedProgram(heads.text(), {}), few_rows)


def with_few_rows(program: PlannedProgram, few_rows: int) -> PlannedProgram:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sterna.targets.triton.attention.FEW_ROWS", few_rows)
        assert program.on_triton
    return program


@pytest.mark.slow
@pytest.mark.parametrize("few_rows", [64, 0])
@settings(max_examples=5, deadline=None)
@given(st.data(), st.sampled_from(ON_GPU))
def test_gpu_kernels_equal_the_interpreter(few_rows: int, data: st.DataObject, heads: Heads) -> None:
    """Slow: Triton's interpreter takes seconds a call."""
    *rows, start, keys, values = data.draw(continued(heads))
    on_gpu(heads, few_rows).check_on_triton([*(x[:18] for x in rows), start, keys, values])


@pytest.mark.slow
@pytest.mark.parametrize("few_rows", [64, 0])
def test_gpu_kernels_at_the_edges_of_blocks(few_rows: int) -> None:
    """Slow: the same. A text that ends with a block, before it and after it, and one that fills the cache.

    Of several rows only the last sees its own key and value, which are no numbers: the others have nothing of them.
    """
    generator = np.random.default_rng(5)
    for start, rows in ((0, 1), (14, 1), (15, 1), (16, 1), (0, 16), (30, 2), (31, 2), (38, 2)):
        inputs = some_rows(ON_GPU[0], generator, start, rows)
        if rows > 1:
            inputs[2][-1], inputs[3][-1] = np.nan, np.inf
        on_gpu(ON_GPU[0], few_rows).check_on_triton(inputs)


def some_rows(heads: Heads, generator: np.random.Generator, start: int, rows: int) -> list[Array]:
    """Inputs of a call after some rows, of ordinary numbers."""
    wide, narrow = heads.widths
    shapes = [(rows, wide), *[(rows, narrow)] * 2, *[(rows, heads.columns // 2)] * (2 if heads.turned else 0)]
    given = [generator.standard_normal(shape, np.float32) for shape in shapes]
    caches = [generator.standard_normal((heads.capacity, narrow), np.float32) for _ in range(2)]
    return [np.zeros(rows, np.int64), *given, np.array(start), *caches]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "few_rows", "start", "rows"),
    [(160, 64, 70, 1), (160, 0, 62, 3), (288, 0, 62, 3), (8, 64, 52, 14)],
)
def test_gpu_kernels_of_wide_heads_and_of_keys_in_two_pieces(
    columns: int, few_rows: int, start: int, rows: int
) -> None:
    """Slow: the same. Columns of values in several pieces, the last not whole, in both tiles of wide heads; and keys of
    the call in two pieces of the cache, in one of them more than a program writes at once."""
    heads = Heads(1, 2, columns, 80, turned=True)
    generator = np.random.default_rng(columns)
    on_gpu(heads, few_rows).check_on_triton(some_rows(heads, generator, start, rows))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "func.return %y,",
            "%y_turned = arith.addf %y, %q_turned : tensor<?x16xf32>\nfunc.return %y_turned,",
        ),
        ("%q_turned, %k_turned, %v at", "%q_turned, %k_turned, %k_turned at"),
        ("tensor<?x4xf32>", "tensor<?x2xf32>"),
    ],
    ids=["read by something else", "values too", "two pairs of a head's four are another's"],
)
def test_what_attention_does_not_turn_itself_has_a_launch(before: str, after: str) -> None:
    """Slow: the same."""
    heads = Heads(1, 2, 8, 24, turned=True)
    assert before in heads.text()
    program = PlannedProgram(heads.text().replace(before, after), {})
    assert "def rotate_" not in emit_module(PlannedProgram(heads.text(), {}).module)
    assert "def rotate_" in emit_module(program.module)
    inputs = some_rows(heads, np.random.default_rng(1), 5, 3)
    if "x2x" in after:
        inputs[4:6] = (angle[:, :2] for angle in inputs[4:6])
    program.check_on_triton(inputs)


@pytest.mark.slow
@pytest.mark.parametrize("few_rows", [64, 0])
def test_a_program_of_five_rows(few_rows: int) -> None:
    """Slow: the same. A number that the kernels know is not one that a call gives."""
    heads = Heads(1, 2, 8, 24, turned=True)
    text = re.sub(r"tensor<\?x", "tensor<5x", heads.text())
    program = with_few_rows(PlannedProgram(text, {}), few_rows)
    program.check_on_triton(some_rows(heads, np.random.default_rng(2), 5, 5))


def test_a_block_that_a_gpu_cannot_hold_is_an_error() -> None:
    with pytest.raises(CompileError, match=r"blocks of at most 128 rows, not lanes = 16 and block = 256"):
        TritonTarget().build(PlannedProgram(Heads(1, 1, 4, 8, 256).text(), {}).module)


def dense(columns: int, channels: int, seed: int = 0) -> PlannedProgram:
    """`forward(x, init) -> init + x w`, w read row by row as a head reads its weight."""
    x, w, y = f"tensor<?x{columns}xf32>", f"tensor<{channels}x{columns}xf32>", f"tensor<?x{channels}xf32>"
    return PlannedProgram(
        f"""
        #x = affine_map<(t, m, k) -> (t, k)>
        #w = affine_map<(t, m, k) -> (m, k)>
        #y = affine_map<(t, m, k) -> (t, m)>
        ternary.weight @w : {w}
        func.func @forward(%x : {x}, %init : {y}) -> {y} {{
          %w = ternary.load @w : {w}
          %y = linalg.generic {{indexing_maps = [#x, #w, #y], iterator_types = ["parallel", "parallel", "reduction"]}}
            ins(%x, %w : {x}, {w}) outs(%init : {y}) {{
          ^bb0(%a : f32, %b : f32, %total : f32):
            %product = arith.mulf %a, %b : f32
            %sum = arith.addf %total, %product : f32
            linalg.yield %sum : f32
          }} -> {y}
          func.return %y : {y}
        }}""",
        {"w": np.random.default_rng(seed).standard_normal((channels, columns), np.float32)},
    )


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@given(st.integers(0, 9), st.sampled_from([16, 20, 65]), st.sampled_from([31, 33]), SEEDS)
def test_a_dense_product_is_the_interpreters_on_both_targets(
    rows: int, columns: int, channels: int, seed: int
) -> None:
    """Slow: Triton's interpreter, and a program for every example."""
    program = dense(columns, channels, seed)
    generator = np.random.default_rng(seed + 1)
    inputs = [generator.standard_normal((rows, width), np.float32) for width in (columns, channels)]
    program.check(inputs, isa="avx2", threads=2)
    program.check_on_triton(inputs)
