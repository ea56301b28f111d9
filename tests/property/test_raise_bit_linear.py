"""Every spelling of BitLinear is recognised, and means the same after as before, but for the stated roundings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.context import make_context
from sterna.dialects.interpreter import run
from sterna.dialects.ternary import AbsmeanOp, AccumulateOp, QuantizeOp, RmsNormOp, TernarizeOp
from sterna.dialects.weights import ArrayStore
from sterna.frontends.torch_module import TorchModuleFrontend
from sterna.passes.fold_weights import FoldWeightsPass
from sterna.passes.raise_bit_linear import RaiseBitLinearPass
from sterna.passes.ternarize import TernarizePass

F32 = npt.NDArray[np.float32]
K, M = 20, 12
EPS = 1e-5


def rows_reciprocal(x: Tensor) -> Tensor:
    s = 127.0 / x.abs().max(dim=-1, keepdim=True).values.clamp_(min=EPS)
    return (x * s).round().clamp_(-128, 127) / s


def rows_straight_through(x: Tensor) -> Tensor:
    s = 127.0 / x.abs().amax(-1, keepdim=True).clamp(min=EPS)
    return x + ((x * s).round().clamp(-128, 127) / s - x).detach()


def rows_step(x: Tensor) -> Tensor:
    step = x.abs().amax(dim=-1).clamp(min=EPS).unsqueeze(-1) / 127
    return torch.clamp(torch.round(x / step), -127, 127) * step


def rows_clamp_first(x: Tensor) -> Tensor:
    d = torch.clamp_min(x.abs().amax(-1, True), EPS)
    return torch.clamp(x * 127 / d, -128, 127).round() * (d / 127.0)


def rows_rounding_straight_through(x: Tensor) -> Tensor:
    s = x.abs().amax(-1, keepdim=True).clamp(min=EPS).reciprocal() * 127
    y = x * s
    return (y + (y.round() - y).detach()).clamp(-128, 127) * (1 / s)


def rows_int8(x: Tensor) -> Tensor:
    s = 127 / torch.linalg.vector_norm(x, float("inf"), dim=-1, keepdim=True).clamp(min=EPS)
    return (x * s).round().clamp(-128, 127).to(torch.int8).to(x.dtype) / s


def rows_floor_on_step(x: Tensor) -> Tensor:
    step = (x.abs().amax(-1, keepdim=True) / 127.0).clamp(min=1e-7)
    return x - (x - (x / step).round() * step).detach()


def absmean_reciprocal(w: Tensor) -> Tensor:
    s = 1.0 / w.abs().mean().clamp_(min=EPS)
    return (w * s).round().clamp_(-1, 1) / s


def absmean_straight_through(w: Tensor) -> Tensor:
    s = 1.0 / w.abs().mean().clamp(min=EPS)
    return w + ((w * s).round().clamp(-1, 1) / s - w).detach()


def absmean_divided(w: Tensor) -> Tensor:
    d = torch.clamp(torch.mean(torch.abs(w)), min=EPS)
    return (torch.clamp(torch.round(w / d), min=-1.0, max=1.0) * d - w).detach() + w


def absmean_sum(w: Tensor) -> Tensor:
    d = (w.abs().sum() / w.numel()).clamp(min=EPS)
    return d * (w / d).round().clamp(-1, 1)


ROWS = [
    rows_reciprocal,
    rows_straight_through,
    rows_step,
    rows_clamp_first,
    rows_rounding_straight_through,
    rows_int8,
    rows_floor_on_step,
]
ABSMEANS = [absmean_reciprocal, absmean_straight_through, absmean_divided, absmean_sum]


def norm_rsqrt(x: Tensor, w: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * w


def norm_divided(x: Tensor, w: Tensor) -> Tensor:
    return w * (x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6))


def norm_weight_first(x: Tensor, w: Tensor) -> Tensor:
    return (x * w) * (1 / torch.sqrt(torch.mean(x**2, dim=-1) + 1e-6)).unsqueeze(-1)


def norm_summed(x: Tensor, w: Tensor) -> Tensor:
    return x.float() * (x.square().sum(-1, True) / x.shape[-1] + 1e-6) ** -0.5 * (1 + w)


def norm_functional(x: Tensor, w: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), w, eps=1e-6)


def norm_unweighted(x: Tensor, w: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


NORMS = [norm_rsqrt, norm_divided, norm_weight_first, norm_summed, norm_functional, norm_unweighted]


class Linear(nn.Module):
    """norm, then rows by weight."""

    def __init__(
        self, norm: Callable[..., Tensor], rows: Callable[..., Tensor], weight: Callable[..., Tensor]
    ) -> None:
        super().__init__()
        self.norm, self.rows, self.ternary = norm, rows, weight
        self.gain = nn.Parameter(torch.ones(K))
        self.weight = nn.Parameter(torch.ones(M, K))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.rows(self.norm(x, self.gain)), self.ternary(self.weight))


@cache
def imported(module: Callable[..., nn.Module], *parts: Callable[..., Tensor]) -> tuple[ModuleOp, ModuleOp]:
    """The module as it is imported, and raised."""
    plain = (
        TorchModuleFrontend()
        .load(module(*parts).eval(), (torch.ones(1, 3, K),), dynamic_rows={"x": 1})
        .module
    )
    raised = plain.clone()
    RaiseBitLinearPass().apply(make_context(), raised)
    raised.verify()
    return plain, raised


def counts(module: ModuleOp, *ops: type) -> list[int]:
    walked = [type(op) for op in module.walk()]
    return [walked.count(op) for op in ops]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("weight", ABSMEANS)
def test_every_spelling_of_bit_linear_is_raised(
    rows: Callable[..., Tensor], weight: Callable[..., Tensor]
) -> None:
    _, raised = imported(Linear, norm_rsqrt, rows, weight)
    assert counts(raised, RmsNormOp, QuantizeOp, AbsmeanOp, AccumulateOp) == [1, 1, 1, 1]
    assert "linalg.matmul" not in str(raised)
    # Nothing of the graph is left beside the ops that replace it.
    assert not any(op.name.startswith(("arith.", "math.", "linalg.")) for op in raised.walk())


@pytest.mark.parametrize("norm", NORMS)
def test_every_spelling_of_rms_norm_is_raised(norm: Callable[..., Tensor]) -> None:
    _, raised = imported(Linear, norm, rows_step, absmean_reciprocal)
    assert counts(raised, RmsNormOp, AccumulateOp) == [1, 1]
    assert "math.rsqrt" not in str(raised) and "math.sqrt" not in str(raised)


@st.composite
def numbers(draw: st.DrawFn, *shape: int) -> F32:
    """Normal numbers, times a power of two; or zeros; or all of one magnitude; or one that dwarfs the others."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = generator.standard_normal(shape).astype(np.float32)
    match draw(st.sampled_from(["normal", "zeros", "signs", "outlier", "zero row"])):
        case "zeros":
            x[...] = 0
        case "signs":
            x = np.sign(x)
        case "outlier":
            x.flat[draw(st.integers(0, x.size - 1))] = 1e4
        case "zero row":
            x[0] = 0
        case _:
            pass
    return x * np.float32(2.0 ** draw(st.integers(-12, 12)))


def deviation(modules: tuple[ModuleOp, ModuleOp], x: F32, weights: Mapping[str, F32]) -> float:
    """The largest difference between the results of the two programs."""
    store = ArrayStore(dict(weights))
    (before,), (after,) = (run(module, [x], weights=store) for module in modules)
    assert before.shape == after.shape == (x.shape[0], M)
    return float(np.abs(after - before).max(initial=0.0))


EVERY = list(product(ROWS, ABSMEANS))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_raising_moves_roundings_only(data: st.DataObject) -> None:
    rows, weight = data.draw(st.sampled_from(EVERY))
    norm = data.draw(st.sampled_from(NORMS[:2]))
    x = data.draw(numbers(data.draw(st.integers(1, 4)), K))
    arrays = {"gain": data.draw(numbers(K, 1)).reshape(K), "weight": data.draw(numbers(M, K))}
    modules = imported(Linear, norm, rows, weight)
    normed = norm(torch.from_numpy(x), torch.from_numpy(arrays["gain"])).numpy()
    step = max(np.abs(normed).max(initial=0.0), EPS) / 127
    scale = max(np.abs(arrays["weight"]).mean(), EPS)
    # At most two integers of a row change, by one step; the rest are roundings of K terms of at most 127 steps.
    assert deviation(modules, x, arrays) <= step * scale * (2 + K * 127 * 2.0**-20)


def test_a_row_with_nan_stays_nan_and_harms_no_other() -> None:
    modules = imported(Linear, norm_rsqrt, rows_reciprocal, absmean_reciprocal)
    x = np.random.default_rng(0).standard_normal((3, K)).astype(np.float32)
    x[1, 4] = np.nan
    store = ArrayStore({"gain": np.ones(K, np.float32), "weight": np.eye(M, K, dtype=np.float32)})
    for module in modules:
        (y,) = run(module, [x], weights=store)
        assert np.isnan(y[1]).all() and not np.isnan(y[[0, 2]]).any()


class Packed(nn.Module):
    """Four trits in a byte, unpacked by shifts and masks in every forward pass."""

    def __init__(self, unpack: Callable[..., Tensor]) -> None:
        super().__init__()
        self.unpack = unpack
        self.register_buffer("packed", torch.zeros(M, K // 4, dtype=torch.uint8))
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(rows_reciprocal(x), self.unpack(self.packed) * self.scale)


def unpack_stacked(packed: Tensor) -> Tensor:
    fields = torch.stack([(packed >> shift) & 3 for shift in (0, 2, 4, 6)], dim=-1)
    return fields.reshape(M, K).to(torch.float32) - 1


def unpack_by_table(packed: Tensor) -> Tensor:
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8)
    return ((packed.unsqueeze(-1) >> shifts) & 3).view(M, K).to(torch.int8).sub(1).to(torch.float16)


def unpack_in_place(packed: Tensor) -> Tensor:
    unpacked = torch.zeros(M, K, dtype=torch.uint8)
    for field in range(4):
        unpacked[:, field::4] = (packed & (3 << 2 * field)) >> (2 * field)
    return unpacked.float() - 1.0


def unpack_modulo(packed: Tensor) -> Tensor:
    return torch.stack([packed // 4**field % 4 for field in range(4)], -1).flatten(1).float() - 1


@pytest.mark.parametrize("unpack", [unpack_stacked, unpack_by_table, unpack_in_place, unpack_modulo])
def test_packed_weights_are_raised_folded_and_proved(unpack: Callable[..., Tensor]) -> None:
    generator = np.random.default_rng(1)
    trits = generator.integers(-1, 2, (M, K)).astype(np.int8)
    fields = (trits + 1).astype(np.uint8).reshape(M, K // 4, 4)
    packed = (fields << np.array([0, 2, 4, 6], np.uint8)).sum(-1).astype(np.uint8)
    x = generator.standard_normal((3, K)).astype(np.float32)
    modules = imported(Packed, unpack)
    arrays = {"packed": packed.view(np.int8), "scale": np.full(1, 0.25, np.float32)}
    assert deviation(modules, x, arrays) <= 1e-5
    raised = modules[1].clone()
    ctx = make_context(ArrayStore(arrays))
    for step in (FoldWeightsPass(), TernarizePass()):
        step.apply(ctx, raised)
    assert counts(raised, AccumulateOp) == [1] and set(counts(raised, TernarizeOp)) == {2}
    exact = rows_reciprocal(torch.from_numpy(x)).numpy().astype(np.float64) @ (trits * 0.25).T
    (y,) = run(raised, [x], weights=ArrayStore(arrays))
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-5)


class ScaledAfterwards(nn.Module):
    """Integers are multiplied, and both scales divide the product: how inference code writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(M, K))
        self.weight_scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        s = 127 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=EPS)
        q = (x * s).round().clamp(-128, 127).to(torch.int8)
        return F.linear(q.to(x.dtype), self.weight) / (s * self.weight_scale)


def test_scales_behind_the_product_become_part_of_the_dequantize() -> None:
    plain, raised = imported(ScaledAfterwards)
    assert counts(raised, QuantizeOp, TernarizeOp, AccumulateOp) == [1, 1, 1]
    FoldWeightsPass().apply(make_context(), folded := raised.clone())
    assert not any(op.name.startswith("arith.") for op in function_ops(folded))
    generator = np.random.default_rng(2)
    trits = generator.integers(-1, 2, (M, K)).astype(np.float32)
    arrays = {"weight": trits, "weight_scale": np.full(1, 8.0, np.float32)}
    x = generator.standard_normal((3, K)).astype(np.float32)
    assert deviation((plain, folded), x, arrays) <= 1e-5


def function_ops(module: ModuleOp) -> list[object]:
    return [op for function in module.ops if function.name == "func.func" for op in function.walk()]


class Sign(nn.Module):
    """Binary weights: sign(w) * mean|w|."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(M, K))

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        return F.linear(rows_straight_through(x), w + (torch.sign(w) * w.abs().mean() - w).detach())


def test_binary_weights_are_raised() -> None:
    modules = imported(Sign)
    generator = np.random.default_rng(3)
    arrays = {"weight": generator.standard_normal((M, K)).astype(np.float32)}
    x = generator.standard_normal((2, K)).astype(np.float32)
    assert counts(modules[1], TernarizeOp, AccumulateOp) == [1, 1]
    assert deviation(modules, x, arrays) <= 1e-4


class Shared(nn.Module):
    """Two layers on one input, and a batch of two."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.ones(M, K))
        self.second = nn.Parameter(torch.ones(M, K))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(F.linear(rows_step(x), absmean_reciprocal(w)) for w in (self.first, self.second))


@pytest.mark.parametrize("shape", [(1, K), (2, 3, K), (1, 1, 1, K)])
def test_one_input_is_quantized_once_whatever_its_batch(shape: tuple[int, ...]) -> None:
    plain = TorchModuleFrontend().load(Shared(), (torch.ones(shape),))
    RaiseBitLinearPass().apply(make_context(), raised := plain.module.clone())
    raised.verify()
    assert counts(raised, QuantizeOp, AccumulateOp) == [1, 2]
    x = np.random.default_rng(4).standard_normal([size for size in shape if size != 1]).astype(np.float32)
    for before, after in zip(
        *(run(m, [x], weights=plain.weights) for m in (plain.module, raised)), strict=True
    ):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-4)


def rows_of_seven_bits(x: Tensor) -> Tensor:
    s = 63 / x.abs().amax(-1, keepdim=True).clamp(min=EPS)
    return (x * s).round().clamp(-64, 63) / s


def rows_whole_tensor(x: Tensor) -> Tensor:
    s = 127 / x.abs().max().clamp(min=EPS)
    return (x * s).round().clamp(-128, 127) / s


def rows_added_floor(x: Tensor) -> Tensor:
    s = 127 / (x.abs().amax(-1, keepdim=True) + EPS)
    return (x * s).round().clamp(-128, 127) / s


def rows_other_scale(x: Tensor) -> Tensor:
    s = 127 / x.abs().amax(-1, keepdim=True).clamp(min=EPS)
    return (x * s).round().clamp(-128, 127) / (s * s)


def rows_scaled_by_columns(x: Tensor) -> Tensor:
    s = 127 / x.abs().amax(-1, keepdim=True).clamp(min=EPS)
    return (x * s).round().clamp(-128, 127) / s * torch.arange(K)


OTHERS = [rows_of_seven_bits, rows_whole_tensor, rows_added_floor, rows_other_scale, rows_scaled_by_columns]


@pytest.mark.parametrize("rows", OTHERS)
def test_what_is_not_the_quantization_stays_a_matmul(rows: Callable[..., Tensor]) -> None:
    _, raised = imported(Linear, norm_rsqrt, rows, absmean_reciprocal)
    assert counts(raised, AccumulateOp) == [0]
    assert "linalg.matmul" in str(raised)


def rows_of_weight(w: Tensor) -> Tensor:
    s = w.abs().mean(-1, keepdim=True).clamp(min=EPS)
    return (w / s).round().clamp(-1, 1) * s


def as_it_is(w: Tensor) -> Tensor:
    return w


@pytest.mark.parametrize(("weight", "scale"), [(rows_of_weight, (M,)), (as_it_is, None)])
def test_a_scale_for_each_channel_is_seen_and_a_float_weight_is_left(
    weight: Callable[[Tensor], Tensor], scale: tuple[int, ...] | None
) -> None:
    """Found by `torch_modules`: both were taken for weights of one scale, and could not be compiled."""
    module = Linear(norm_rsqrt, rows_reciprocal, weight)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        module.weight.copy_(torch.randn(M, K, generator=generator))
    x = torch.randn(3, K, generator=generator)
    imported = TorchModuleFrontend().load(module.eval(), (x,))
    ctx = make_context(imported.weights)
    for rewrite in (RaiseBitLinearPass(), FoldWeightsPass(), TernarizePass()):
        rewrite.apply(ctx, imported.module)
    imported.module.verify()
    found = [op for op in imported.module.walk() if isinstance(op, TernarizeOp)]
    assert {op.scale.type.get_shape() for op in found} == ({scale} if scale else set())
    (y,) = run(imported.module, [x.numpy()], weights=imported.weights)
    expected = module(x).detach().numpy()
    np.testing.assert_allclose(y, expected, rtol=0, atol=2**-6 * np.abs(expected).max())
