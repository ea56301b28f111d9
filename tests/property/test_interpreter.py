"""Programs of `ternary` operations.

The interpreter is `numerics.py`, fused ops are what they fuse, and a sequence in chunks is the whole sequence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sterna.dialects import elementary, numerics
from sterna.dialects.context import parse
from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import ModuleInterpreter, evaluate_weight, run
from sterna.dialects.weights import ArrayStore

F32 = npt.NDArray[np.float32]

FLOATS = st.floats(-100, 100, width=32)
ANY = st.floats(width=32)
T, K, M = st.integers(0, 4), st.sampled_from([1, 2, 15, 16, 17, 33]), st.sampled_from([1, 2, 5])


def normal(seed: int, *shape: int) -> F32:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def trits(seed: int, *shape: int) -> npt.NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-1, 2, shape).astype(np.int8)


def function(arguments: dict[str, str], body: str, results: dict[str, str]) -> str:
    inputs = ", ".join(f"%{name} : {type}" for name, type in arguments.items())
    types = ", ".join(results.values())
    values = ", ".join(f"%{name}" for name in results)
    return f"func.func @forward({inputs}) -> ({types}) {{\n{body}\nfunc.return {values} : {types}\n}}"


def same(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def projection(k: int, m: int) -> str:
    """Norm, quantize, accumulate, dequantize, scan: one layer's worth, in separate ops."""
    return function(
        {"x": f"tensor<?x{k}xf32>", "g": f"tensor<{k}xf32>", "w": f"tensor<{m}x{k}x!ternary.trit>", "s": "tensor<f32>",
         "state": f"tensor<{m}xf32>"},
        f"""
        %n = ternary.rms_norm %x, %g eps = 1.0e-6 lanes = 16 : tensor<?x{k}xf32>, tensor<{k}xf32>
        %q, %step = ternary.quantize %n eps = 1.0e-5 : tensor<?x{k}xf32> -> tensor<?x{k}xi8>, tensor<?xf32>
        %acc = ternary.accumulate %q, %w : tensor<?x{k}xi8>, tensor<{m}x{k}x!ternary.trit> -> tensor<?x{m}xi32>
        %y = ternary.dequantize %acc, %step, %s : tensor<?x{m}xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x{m}xf32>
        %f = ternary.elementwise(%y : tensor<?x{m}xf32>) {{
        ^bb0(%a : f32):
          %one = arith.constant 1.0 : f32
          %negated = arith.negf %a : f32
          %e = math.exp %negated : f32
          %d = arith.addf %one, %e : f32
          %sigmoid = arith.divf %one, %d : f32
          ternary.yield %sigmoid : f32
        }} -> tensor<?x{m}xf32>
        %states, %last = ternary.scan %f, %y, %state : tensor<?x{m}xf32>, tensor<{m}xf32>""",
        {"states": f"tensor<?x{m}xf32>", "last": f"tensor<{m}xf32>", "q": f"tensor<?x{k}xi8>", "step": "tensor<?xf32>"},
    )  # fmt: skip


@given(st.data())
def test_a_chain_of_ops_is_a_chain_of_numerics(data: st.DataObject) -> None:
    """Rows that are NaN or infinite included: the interpreter adds nothing to the contract of numerics.py."""
    t, k, m = data.draw(T), data.draw(K), data.draw(M)
    x = data.draw(arrays(np.float32, (t, k), elements=ANY))
    g, w, s, state = normal(1, k), trits(2, m, k), np.float32(0.3), normal(3, m)
    results = run(parse(projection(k, m)), [x, g, w, s, state])
    with np.errstate(all="ignore"):
        q, step = numerics.quantize(numerics.rms_norm(x, g, 1e-6), 1e-5)
        y = numerics.accumulate(q, w).astype(np.float32) * (step * s)[:, None]
        f = np.float32(1) / (np.float32(1) + elementary.on_arrays(elementary.exp)(-y))
        states, last = numerics.scan(f, y, state)
    for result, expected in zip(results, (states, last, q, step), strict=True):
        assert same(result, expected)


@given(st.data())
def test_tokens_in_chunks_give_what_they_give_at_once(data: st.DataObject) -> None:
    t, k, m = data.draw(st.integers(1, 6)), data.draw(K), data.draw(M)
    x = data.draw(arrays(np.float32, (t, k), elements=FLOATS))
    cut = data.draw(st.integers(0, t))
    rest = [normal(1, k), trits(2, m, k), np.float32(0.3)]
    interpreter = ModuleInterpreter(parse(projection(k, m)))
    whole, last, *_ = interpreter.run([x, *rest, normal(3, m)])
    first, middle, *_ = interpreter.run([x[:cut], *rest, normal(3, m)])
    second, end, *_ = interpreter.run([x[cut:], *rest, middle])
    assert same(np.concatenate([first, second]), whole)
    assert same(end, last)


@given(st.data())
def test_norm_quantize_is_its_numerics(data: st.DataObject) -> None:
    t, k = data.draw(T), data.draw(K)
    x = data.draw(arrays(np.float32, (t, k), elements=ANY))
    g, h, outer = normal(1, k), normal(2, k), normal(3, k)
    rows, q, step = f"tensor<?x{k}xf32>", f"tensor<?x{k}xi8>", "tensor<?xf32>"
    gain = f"tensor<{k}xf32>"
    text = function(
        {"x": rows, "g": gain, "h": gain, "o": gain},
        f"""
        %a, %b, %c, %d = ternary.norm_quantize %x of %o : {gain} outer_eps = 1.0e-6 gains(%g, %h : {gain}, {gain})
          eps = 1.0e-8 quantize_eps = 1.0e-5 lanes = 16 : {rows} -> ({q}, {q}), ({step}, {step})
        %e, %f = ternary.norm_quantize %x gains(%g : {gain}) eps = 1.0e-6 quantize_eps = 1.0e-5 lanes = 8
          : {rows} -> ({q}), ({step})""",
        {"a": q, "b": q, "c": step, "d": step, "e": q, "f": step},
    )
    with np.errstate(all="ignore"):
        pairs = numerics.norm_quantize(x, outer, [g, h], outer_eps=1e-6, eps=1e-8, quantize_eps=1e-5)
        plain = numerics.norm_quantize(x, None, [g], outer_eps=0.0, eps=1e-6, quantize_eps=1e-5, lanes=8)
    expected = [pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1], *plain[0]]
    for result, value in zip(run(parse(text), [x, g, h, outer]), expected, strict=True):
        assert same(result, value)


@given(st.data())
def test_project_is_accumulate_dequantize_and_its_epilogue(data: st.DataObject) -> None:
    t, k, m = data.draw(T), data.draw(K), data.draw(M)
    q = data.draw(arrays(np.int8, (2, t, k)))
    step = data.draw(arrays(np.float32, (2, t), elements=st.floats(0, 10, width=32)))
    u, w = trits(1, m, k), trits(2, m, k)
    residual, bias = normal(3, t, m), normal(4, m)
    y, weight = f"tensor<?x{m}xf32>", f"tensor<{m}x{k}x!ternary.trit>"
    rows = f"tensor<?x{k}xi8>, tensor<?x{k}xi8>"
    arguments = dict.fromkeys("qp", f"tensor<?x{k}xi8>") | dict.fromkeys("ab", "tensor<?xf32>")
    arguments |= dict.fromkeys("uw", weight) | dict.fromkeys("sz", "tensor<f32>")
    arguments |= {"r": y, "bias": f"tensor<{m}xf32>"}
    fused = function(
        arguments,
        f"""
        %y, %t = ternary.project quantized(%q, %p : {rows}) steps(%a, %b : tensor<?xf32>, tensor<?xf32>)
          weights(%u, %w : {weight}, {weight}) scales(%s, %z : tensor<f32>, tensor<f32>) reads = [1, 0]
          with(%r, %bias, %s : {y}, tensor<{m}xf32>, tensor<f32>) {{
        ^bb0(%c : f32, %d : f32, %e : f32, %f : f32, %g : f32):
          %1 = arith.mulf %c, %d : f32
          %2 = arith.addf %1, %e : f32
          %3 = arith.addf %2, %f : f32
          %4 = arith.mulf %d, %g : f32
          ternary.yield %3, %4 : f32, f32
        }} -> {y}, {y}""",
        {"y": y, "t": y},
    )
    s, z = np.float32(0.7), np.float32(-1.3)
    results = run(parse(fused), [q[0], q[1], step[0], step[1], u, w, s, z, residual, bias])
    c = numerics.accumulate(q[1], u).astype(np.float32) * (step[1] * s)[:, None]
    d = numerics.accumulate(q[0], w).astype(np.float32) * (step[0] * z)[:, None]
    assert same(results[0], (c * d + residual) + bias)
    assert same(results[1], d * s)


def test_one_row_without_an_axis_is_a_row() -> None:
    k, m = 10, 3
    text = projection(k, m).replace("?x", "").replace("tensor<?xf32>", "tensor<f32>")
    body = (
        text[: text.index("%states")]
        + f"func.return %y, %q, %step : tensor<{m}xf32>, tensor<{k}xi8>, tensor<f32>\n}}"
    )
    body = body.replace(f"-> (tensor<{m}xf32>, tensor<{m}xf32>, ", f"-> (tensor<{m}xf32>, ", 1)
    x, rest = normal(0, k), [normal(1, k), trits(2, m, k), np.float32(0.3), normal(3, m)]
    y, q, step = run(parse(body), [x, *rest])
    expected_q, expected_step = numerics.quantize(numerics.rms_norm(x[None], rest[0], 1e-6), 1e-5)
    assert same(q, expected_q[0])
    assert same(step, expected_step[0])
    assert y.shape == (m,)


@given(st.data())
def test_embedding_gathers_rows_and_widens(data: st.DataObject) -> None:
    vocabulary, h = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    element = data.draw(st.sampled_from([("f32", np.float32), ("f16", np.float16)]))
    table = normal(0, vocabulary, h).astype(element[1])
    tokens = data.draw(arrays(np.int64, data.draw(T), elements=st.integers(0, vocabulary - 1)))
    types = f"tensor<?xi64>, tensor<{vocabulary}x{h}x{element[0]}>"
    text = function(
        {"tokens": "tensor<?xi64>", "table": f"tensor<{vocabulary}x{h}x{element[0]}>"},
        f"%r = ternary.embedding %tokens, %table : {types} -> tensor<?x{h}xf32>",
        {"r": f"tensor<?x{h}xf32>"},
    )
    module = parse(text)
    assert same(run(module, [tokens, table])[0], table[tokens].astype(np.float32))
    for outside in (-1, vocabulary):
        with pytest.raises(CompileError, match=rf"ternary.embedding: a token is outside \[0, {vocabulary}\)"):
            run(module, [np.append(tokens, outside), table])


WEIGHTS = """
ternary.weight @w : tensor<3x4xf32>
ternary.weight @half : tensor<3x4xf16>
ternary.weight @vector : tensor<4xf32>
ternary.weight @scalar : tensor<f32>
ternary.weight @stored : tensor<3x4x!ternary.trit>
ternary.weight @loop : tensor<f32> {
  %w = ternary.load @loop : tensor<f32>
  ternary.yield %w : tensor<f32>
}
ternary.weight @w.trits : tensor<3x4x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>> {
  %w = ternary.load @w : tensor<3x4xf32>
  %t, %s = ternary.ternarize %w : tensor<3x4xf32> -> tensor<3x4x!ternary.trit>, tensor<f32>
  ternary.yield %t : tensor<3x4x!ternary.trit>
}
ternary.weight @w.scale : tensor<f32> {
  %w = ternary.load @w : tensor<3x4xf32>
  %t, %s = ternary.ternarize %w : tensor<3x4xf32> -> tensor<3x4x!ternary.trit>, tensor<f32>
  ternary.yield %s : tensor<f32>
}
ternary.weight @top : tensor<1x4x!ternary.trit> {
  %t = ternary.load @w.trits : tensor<3x4x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>
  %s = tensor.extract_slice %t[0, 0] [1, 4] [1, 1]
    : tensor<3x4x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>> to tensor<1x4x!ternary.trit>
  ternary.yield %s : tensor<1x4x!ternary.trit>
}
ternary.weight @missing : tensor<f32> {
  %w = ternary.load @nowhere : tensor<f32>
  ternary.yield %w : tensor<f32>
}
func.func @forward() -> (tensor<f32>, tensor<f32>) {
  %s = ternary.load @w.scale : tensor<f32>
  %t = ternary.load @w.scale : tensor<f32>
  func.return %s, %t : tensor<f32>, tensor<f32>
}
"""


class CountingStore(ArrayStore):
    """Counts how often each array is read."""

    def __init__(self, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
        super().__init__(arrays)
        self.reads: list[str] = []

    def read(self, name: str) -> npt.NDArray[np.generic]:
        self.reads.append(name)
        return super().read(name)


@given(
    arrays(np.int8, (3, 4), elements=st.integers(-1, 1)), st.floats(0.0078125, 10, width=32).map(np.float32)
)
def test_ternarize_finds_the_trits_and_the_scale(t: npt.NDArray[np.int8], scale: np.float32) -> None:
    module, store = parse(WEIGHTS), ArrayStore({"w": t * scale})
    assert same(evaluate_weight(module, "w.trits", store), t)
    assert same(evaluate_weight(module, "top", store), t[:1])
    assert evaluate_weight(module, "w.scale", store) == (scale if t.any() else 1)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1, 2], "weight @w.trits: ternary.ternarize: the weight is not ternary: its non-zero elements have 2 distinct "
                 "magnitudes, from 1 to 2, where one is expected"),
        ([np.nan, 1], "2 distinct magnitudes"),
        ([np.inf], "1 distinct magnitudes"),
    ],
)  # fmt: skip
def test_ternarize_refuses_other_weights(bad: list[float], message: str) -> None:
    w = np.zeros((3, 4), np.float32)
    w[0, : len(bad)] = bad
    with pytest.raises(CompileError) as raised:
        evaluate_weight(parse(WEIGHTS), "w.trits", ArrayStore({"w": w}))
    assert message in str(raised.value)


def test_stored_weights_widen_and_lose_axes_of_one() -> None:
    module, half = parse(WEIGHTS), normal(0, 3, 4).astype(np.float16)
    store = ArrayStore(
        {"w": half, "half": half, "vector": normal(1, 1, 4), "scalar": normal(2, 1), "stored": trits(3, 3, 4)}
    )
    assert same(evaluate_weight(module, "w", store), half.astype(np.float32))
    assert same(evaluate_weight(module, "half", store), half)
    assert same(evaluate_weight(module, "vector", store), normal(1, 4))
    assert same(evaluate_weight(module, "scalar", store), normal(2, 1)[0])
    assert same(evaluate_weight(module, "stored", store), trits(3, 3, 4))


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("w", None, "weight @w: the weight store has no tensor of this name"),
        (
            "w",
            np.zeros((4, 3), np.float32),
            "weight @w: expected shape (3, 4), found (4, 3) in the weight store",
        ),
        (
            "w",
            np.zeros((3, 4), np.float64),
            "weight @w: expected elements of float32, found float64 in the weight store",
        ),
        ("half", np.zeros((3, 4), np.float32), "weight @half: expected elements of float16, found float32"),
        ("stored", np.full((3, 4), 2, np.int8), "weight @stored: expected !ternary.trit, found other values"),
        (
            "stored",
            np.full((3, 4), 0.5, np.float32),
            "weight @stored: expected !ternary.trit, found other values",
        ),
        ("loop", None, "weight @loop: ternary.load: weight @loop is derived from itself"),
        ("nothing", None, "there is no weight @nothing in the module"),
        ("missing", None, "weight @missing: ternary.load: there is no weight @nowhere in the module"),
    ],
)
def test_a_wrong_weight_is_named(name: str, array: npt.NDArray[np.generic] | None, message: str) -> None:
    store = ArrayStore({} if array is None else {name: array})
    with pytest.raises(CompileError) as raised:
        evaluate_weight(parse(WEIGHTS), name, store)
    assert str(raised.value).startswith(message)


def test_a_weight_without_a_store_says_so() -> None:
    with pytest.raises(CompileError, match="weight @w: no weight store was given"):
        evaluate_weight(parse(WEIGHTS), "w", None)


def test_a_loaded_weight_has_the_type_of_the_load() -> None:
    text = WEIGHTS.replace(
        "%s = ternary.load @w.scale : tensor<f32>", "%s = ternary.load @vector : tensor<f32>"
    )
    with pytest.raises(
        CompileError, match=r"ternary.load: the result is tensor<f32>, but the program makes float32"
    ):
        run(parse(text), [], weights=ArrayStore({"vector": normal(0, 4)}))


def test_weights_are_kept_between_runs_within_the_budget() -> None:
    module, arrays = parse(WEIGHTS), {"w": trits(0, 3, 4).astype(np.float32)}
    kept, fresh = CountingStore(arrays), CountingStore(arrays)
    interpreter = ModuleInterpreter(module, kept)
    assert interpreter.run([]) == interpreter.run([])
    assert kept.reads == ["w"]
    forgetful = ModuleInterpreter(module, fresh, cached_weight_bytes=0)
    assert forgetful.run([]) == interpreter.run([])
    assert fresh.reads == ["w", "w"]


def test_a_run_does_not_change_what_is_kept() -> None:
    interpreter = ModuleInterpreter(parse(WEIGHTS), ArrayStore({"w": trits(0, 3, 4).astype(np.float32)}))
    scale, _ = interpreter.run([])
    scale[...] = 99
    assert interpreter.run([])[0] == 1


def test_planned_attributes_do_not_change_meaning() -> None:
    text = """
    module attributes {ternary.max_rows = 64 : i64} {
      func.func @forward(%x : tensor<?x4xf32>) -> tensor<?x4xf32> attributes {ternary.arena_bytes = 0 : i64} {
        %y = ternary.elementwise(%x : tensor<?x4xf32>) {
        ^bb0(%a : f32):
          %b = arith.addf %a, %a : f32
          ternary.yield %b : f32
        } {arena = array<i64: -1>} -> tensor<?x4xf32>
        func.return %y : tensor<?x4xf32>
      }
    }"""
    x = normal(0, 3, 4)
    assert same(run(parse(text), [x])[0], x + x)


def test_a_region_of_constants_has_rows_only_if_an_input_says_how_many() -> None:
    text = function(
        {"v": "tensor<4xf32>"},
        """
        %r = ternary.elementwise(%v : tensor<4xf32>) {
        ^bb0(%a : f32):
          ternary.yield %a : f32
        } -> tensor<?x4xf32>""",
        {"r": "tensor<?x4xf32>"},
    )
    with pytest.raises(CompileError, match="no input says how many rows"):
        run(parse(text), [normal(0, 4)])


def test_a_constant_yielded_by_a_region_fills_the_result() -> None:
    text = function(
        {"x": "tensor<?x4xf32>"},
        """
        %r = ternary.elementwise(%x : tensor<?x4xf32>) {
        ^bb0(%a : f32):
          %c = arith.constant 2.5 : f32
          ternary.yield %c : f32
        } -> tensor<?x4xf32>""",
        {"r": "tensor<?x4xf32>"},
    )
    assert same(run(parse(text), [normal(0, 3, 4)])[0], np.full((3, 4), 2.5, np.float32))
