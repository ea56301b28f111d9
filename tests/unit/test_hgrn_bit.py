"""MatMul-free LM in PyTorch: published sizes, state carried between chunks, gradients, export."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterna.frontends.errors import ConfigError
from sterna.frontends.models.hgrn_bit_config import HGRNBitConfig

torch = pytest.importorskip("torch")

from sterna.frontends.models.hgrn_bit import (  # noqa: E402
    HGRNBitForCausalLM,
    RMSNorm,
    SwishGatedNorm,
    quantize_activations,
    recur,
    ternarize_weight,
)

TINY = HGRNBitConfig(vocab_size=48, hidden_size=32, num_hidden_layers=3, intermediate_size=64)
SHARED_CONV = replace(TINY, use_short_conv=True)
SEPARATE_CONV = replace(TINY, use_short_conv=True, share_conv_kernel=False, conv_size=3)


def random_model(config: HGRNBitConfig, seed: int = 0) -> Any:
    """Weights that leave nothing at its neutral value: norms differ from one, lower bounds from each other."""
    torch.manual_seed(seed)
    model = HGRNBitForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("norm.weight") else 0.0, 0.3)
    return model


@pytest.mark.parametrize(
    ("hidden", "layers", "mlp", "parameters"),
    [(1024, 24, 2816, 374_108_160), (2048, 24, 5632, 1_364_779_008), (2560, 32, 6912, 2_702_357_504)],
    ids=["370M", "1.3B", "2.7B"],
)
def test_published_sizes_have_the_published_tensors(
    hidden: int, layers: int, mlp: int, parameters: int
) -> None:
    config = HGRNBitConfig(hidden_size=hidden, num_hidden_layers=layers)
    with torch.device("meta"):
        model = HGRNBitForCausalLM(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == config.tensor_shapes()
    assert shapes["model.layers.0.mlp.gate_proj.weight"] == (2 * mlp, hidden)
    assert shapes["model.lower_bounds"] == (layers, hidden)
    assert shapes["lm_head.norm.weight"] == (hidden,)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("config", [SHARED_CONV, SEPARATE_CONV], ids=["shared", "separate"])
def test_short_convolution_tensors_are_those_of_the_configuration(config: HGRNBitConfig) -> None:
    with torch.device("meta"):
        state = HGRNBitForCausalLM(config).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == config.tensor_shapes()


@pytest.mark.parametrize("config", [TINY, SHARED_CONV, SEPARATE_CONV], ids=["none", "shared", "separate"])
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 10), max_size=4), batch=st.integers(1, 2), seed=st.integers(0, 99))
def test_chunks_with_carried_state_equal_the_whole(
    config: HGRNBitConfig, cuts: list[int], batch: int, seed: int
) -> None:
    model = random_model(config, seed)
    tokens = torch.randint(0, config.vocab_size, (batch, 11))
    bounds = [0, *sorted(set(cuts)), 11]
    with torch.no_grad():
        whole, *last = model(tokens, *model.initial_states(batch))
        states, pieces = model.initial_states(batch), []
        for start, end in itertools.pairwise(bounds):
            logits, *states = model(tokens[:, start:end], *states)
            pieces.append(logits)
    # A matrix product of fewer rows may sum in another order, which int8 rounding can then make visible.
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=0, atol=0.05)
    for state, expected in zip(states, last, strict=True):
        torch.testing.assert_close(state, expected, rtol=0, atol=0.05)


def numpy_logits(weights: dict[str, np.ndarray], tokens: list[int], layers: int, eps: float) -> np.ndarray:
    """The model written down a second time, token by token in float64, from the paper and the published code."""

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt(np.mean(x * x) + eps) * weights[name]

    def bit_linear(x: np.ndarray, name: str) -> np.ndarray:
        x = norm(x, name + ".norm.weight")
        weight = weights[name + ".weight"]
        s, t = 127 / np.abs(x).max(), 1 / np.abs(weight).mean()
        quantized = np.clip(np.rint(x * s), -128, 127)
        ternary = np.clip(np.rint(weight * t), -1, 1)
        return ternary @ quantized / (s * t)

    shares = np.exp(weights["model.lower_bounds"])
    shares /= shares.sum(axis=0)
    states = [np.zeros(shares.shape[1]) for _ in range(layers)]
    logits = []
    for token in tokens:
        x = weights["model.embeddings.weight"][token]
        for layer in range(layers):
            prefix = f"model.layers.{layer}."
            h = norm(x, prefix + "attn_norm.weight")
            i, f, g = (bit_linear(h, f"{prefix}attn.{name}_proj") for name in "ifg")
            f = sigmoid(f)
            if layer > 0:
                bound = shares[1 : layer + 1].sum(axis=0)
                f = bound + (1 - bound) * f
            states[layer] = o = f * states[layer] + i * sigmoid(i) * (1 - f)
            x = x + bit_linear(
                norm(g, prefix + "attn.g_norm.weight") * o * sigmoid(o), prefix + "attn.o_proj"
            )
            gate, up = np.split(bit_linear(norm(x, prefix + "mlp_norm.weight"), prefix + "mlp.gate_proj"), 2)
            x = x + bit_linear(gate * sigmoid(gate) * up, prefix + "mlp.down_proj")
        logits.append(bit_linear(norm(x, "model.norm.weight"), "lm_head"))
    return np.stack(logits)


@pytest.mark.parametrize("seed", range(5))
def test_the_model_equals_a_second_writing_of_it(seed: int) -> None:
    model = random_model(TINY, seed).double()
    tokens = torch.randint(0, TINY.vocab_size, (1, 9))
    with torch.no_grad():
        logits, *_ = model(tokens, *(state.double() for state in model.initial_states()))
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    expected = numpy_logits(weights, tokens[0].tolist(), TINY.num_hidden_layers, TINY.rms_norm_eps)
    np.testing.assert_allclose(logits[0].numpy(), expected, rtol=1e-9, atol=1e-9)


def test_recurrence_and_its_gradient_equal_the_written_out_loop() -> None:
    torch.manual_seed(1)
    forget, inputs = torch.rand(2, 5, 3, dtype=torch.float64), torch.randn(2, 5, 3, dtype=torch.float64)
    state = torch.randn(2, 3, dtype=torch.float64)
    operands = [tensor.requires_grad_() for tensor in (forget, inputs, state)]
    states, last = recur(*operands)
    expected = state
    for t in range(5):
        expected = forget[:, t] * expected + inputs[:, t]
        torch.testing.assert_close(states[:, t], expected)
    torch.testing.assert_close(last, expected)
    assert torch.autograd.gradcheck(recur, operands)


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(1, 40), seed=st.integers(0, 999))
def test_activations_land_on_a_grid_of_int8(rows: int, columns: int, seed: int) -> None:
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    scale = 127.0 / x.abs().amax(dim=-1, keepdim=True)
    steps = quantize_activations(x) * scale
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
    assert steps.abs().max() <= 127.5
    torch.testing.assert_close(quantize_activations(x), x, rtol=0, atol=float(0.51 / scale.min()))


def test_ties_round_to_even() -> None:
    x = torch.tensor([127.0, 0.5, 1.5, 2.5, -0.5, -1.5])
    assert quantize_activations(x).round().tolist() == [127, 0, 2, 2, 0, -2]


def test_weights_are_three_valued_and_zero_stays_zero() -> None:
    weight = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    values = ternarize_weight(weight).unique()
    torch.testing.assert_close(values, weight.abs().mean() * torch.tensor([-1.0, 0.0, 1.0]))
    assert not quantize_activations(torch.zeros(2, 4)).any()
    assert not ternarize_weight(torch.zeros(2, 4)).any()


def test_bit_linear_passes_gradients_straight_through() -> None:
    model = random_model(TINY)
    layer = model.lm_head
    x = torch.randn(2, 32, requires_grad=True)
    layer(x).sum().backward()
    quantized = quantize_activations(layer.norm(x.detach()))
    torch.testing.assert_close(layer.weight.grad, quantized.sum(0).expand(48, 32))
    assert x.grad is not None and x.grad.abs().max() > 0


def test_lower_bounds_rise_with_depth_from_zero_and_ignore_a_shift() -> None:
    model = random_model(TINY)
    shares = torch.softmax(model.model.lower_bounds, dim=0)
    bounds = torch.cumsum(shares, dim=0) - shares[0]
    assert torch.equal(bounds[0], torch.zeros(32))
    assert (bounds[1] < bounds[2]).all() and (bounds[2] < 1).all()
    changed = random_model(TINY)
    with torch.no_grad():
        changed.model.lower_bounds.add_(5.0)  # softmax over layers does not see a shift
        tokens = torch.arange(6)[None]
        torch.testing.assert_close(
            changed(tokens, *changed.initial_states())[0],
            model(tokens, *model.initial_states())[0],
            rtol=0,
            atol=0.05,
        )


def test_the_norm_is_on_the_gate_and_the_swish_on_the_output() -> None:
    norm, gated = RMSNorm(8, 1e-6), SwishGatedNorm(8, 1e-6)
    gate, o = torch.randn(3, 8), torch.randn(3, 8)
    torch.testing.assert_close(gated(gate, o), norm(gate) * torch.nn.functional.silu(o))


@pytest.mark.slow
@pytest.mark.parametrize("config", [TINY, SHARED_CONV], ids=["none", "shared"])
def test_export_with_open_length_equals_eager(config: HGRNBitConfig) -> None:
    """Slow: the first export in a process loads the tracer."""
    model = random_model(config)
    states = model.initial_states()
    shapes = ({1: torch.export.Dim("T", min=1, max=2048)}, tuple({} for _ in states))
    tokens = torch.randint(0, config.vocab_size, (1, 9))
    with torch.no_grad():
        program = torch.export.export(model, (tokens[:, :5], *states), dynamic_shapes=shapes, strict=False)
        for length in (1, 9):
            found = program.module()(tokens[:, :length], *states)
            for value, expected in zip(found, model(tokens[:, :length], *states), strict=True):
                torch.testing.assert_close(value, expected, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"hidden_size": 0},
            "config field 'hidden_size': expected an integer from 1 to 1048576, found 0",
        ),
        ({"hidden_size": "big"}, "config field 'hidden_size': expected an integer"),
        ({"hidden_size": True}, "config field 'hidden_size': expected an integer"),
        ({"num_hidden_layers": 1 << 30}, "config field 'num_hidden_layers': expected an integer from 1"),
        ({"intermediate_size": -1}, "config field 'intermediate_size'"),
        ({"use_lower_bound": 1}, "config field 'use_lower_bound': expected true or false, found 1"),
        ({"rms_norm_eps": float("nan")}, "config field 'rms_norm_eps': expected a number between 0 and 1"),
        ({"hidden_act": "gelu"}, "config field 'hidden_act': expected 'swish' or 'silu', found 'gelu'"),
        ({"num_heads": 3}, "config field 'num_heads': expected a divisor of the state size 2048, found 3"),
        ({"bos_token_id": 32000}, "config field 'bos_token_id': expected an integer from 0 to 31999"),
        ({"tie_word_embeddings": True}, "config field 'tie_word_embeddings': expected false"),
        ({"model_type": "llama"}, "config field 'model_type': expected 'hgrn_bit', found 'llama'"),
        ({"use_short_conv": True, "conv_size": 1}, "config field 'conv_size'"),
    ],
)
def test_a_bad_field_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HGRNBitConfig.from_dict(values)
    assert str(caught.value).startswith(message)


def test_config_survives_its_own_json_and_ignores_the_rest() -> None:
    assert HGRNBitConfig.from_dict(SEPARATE_CONV.to_dict()) == SEPARATE_CONV
    assert HGRNBitConfig.from_dict({"transformers_version": "4.40", "hidden_ratio": None}) == HGRNBitConfig()
