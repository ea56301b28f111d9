"""MatMul-free LM in plain PyTorch: every linear layer ternary, every token mixed by a gated recurrence.

Source: "Scalable MatMul-free Language Modeling", arXiv 2406.02528, and its code, ridgerchu/matmulfreellm.
Module and parameter names are those of the published checkpoints. Parameters and everything computed are f32.

Axes: B batch, T tokens, V vocabulary, H hidden, D recurrent state (H * expand_ratio), I the MLP's width.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sterna.frontends.errors import CheckpointError
from sterna.frontends.huggingface import Checkpoint
from sterna.frontends.models.hgrn_bit_config import HGRNBitConfig

SMALLEST_SCALE = 1e-5
"""The floor of an absolute maximum or mean before it is inverted."""


def quantize_activations(x: Tensor) -> Tensor:
    """[..., K] -> [..., K]: each row on its own grid of 255 steps, `s = 127 / max|x|`, `round(x s) / s`."""
    scale = 127.0 / x.abs().amax(dim=-1, keepdim=True).clamp(min=SMALLEST_SCALE)
    return (x * scale).round().clamp(-128, 127) / scale


def ternarize_weight(weight: Tensor) -> Tensor:
    """[M, K] -> [M, K]: the whole tensor in {-1, 0, 1} / s, `s = 1 / mean|w|`."""
    scale = 1.0 / weight.abs().mean().clamp(min=SMALLEST_SCALE)
    return (weight * scale).round().clamp(-1, 1) / scale


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x^2) + eps) * weight` over the last axis, in f32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        inverse = torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps)
        return x * inverse * self.weight


class NormLinear(nn.Module):
    """BitLinear without the quantization: a norm, then a dense product, no bias. [..., K] -> [..., M]."""

    def __init__(self, columns: int, rows: int, config: HGRNBitConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))
        if not self.weight.is_meta:  # there it draws nothing, and takes 10 ms
            nn.init.normal_(self.weight, std=config.initializer_range)
        self.norm = RMSNorm(columns, config.bit_linear_eps)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.norm(x), self.weight)


class BitLinear(NormLinear):
    """A norm, then int8 activations by ternary weights: [..., K] -> [..., M].

    Each operand is written `x + (quantized(x) - x).detach()`, so that gradients pass straight through.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        weight = self.weight
        x = x + (quantize_activations(x) - x).detach()
        weight = weight + (ternarize_weight(weight) - weight).detach()
        return F.linear(x, weight)


class _Recurrence(torch.autograd.Function):
    """The recurrence and its gradient, each one loop over the tokens; all tensors are [T, B, D]."""

    @staticmethod
    def forward(ctx: Any, forget: Tensor, inputs: Tensor, state: Tensor) -> Tensor:
        states = torch.empty_like(inputs)
        previous = state
        for f, i, out in zip(forget.unbind(), inputs.unbind(), states.unbind(), strict=True):
            previous = torch.addcmul(i, f, previous, out=out)
        ctx.save_for_backward(forget, states, state)
        return states

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        forget, states, state = ctx.saved_tensors
        grad_inputs = grads[0].clone(memory_format=torch.contiguous_format)
        steps = grad_inputs.unbind()
        for t in range(len(steps) - 1, 0, -1):
            steps[t - 1].addcmul_(forget[t], steps[t])
        grad_forget = grad_inputs * torch.cat((state[None], states[:-1]))
        return grad_forget, grad_inputs, forget[0] * steps[0]


def recur(forget: Tensor, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`state = forget * state + inputs` for each token.

    [B, T, D], [B, T, D] and the first state [B, D] -> the state after each token [B, T, D], and the last.
    Under `torch.export` it is the higher-order op `scan`, so that the number of tokens may stay open.
    """
    forget, inputs = forget.transpose(0, 1), inputs.transpose(0, 1)
    if torch.compiler.is_exporting():
        # The op itself: torch's function of the same name compiles `step` anew for each layer, a second or two each.
        from torch._higher_order_ops.scan import scan_op

        def step(previous: Tensor, forget: Tensor, inputs: Tensor) -> list[Tensor]:
            current = forget * previous + inputs
            return [current, current.clone()]

        last, states = cast(tuple[Tensor, Tensor], scan_op(step, [state], [forget, inputs], ()))
        return states.transpose(0, 1), last
    operands = (forget.contiguous(), inputs.contiguous(), state)
    states = cast(Tensor, _Recurrence.apply(*operands))  # pyright: ignore[reportUnknownMemberType]
    return states.transpose(0, 1), states[-1]


class ShortConvolution(nn.Module):
    """A causal depthwise convolution and silu; the cache holds the last `conv_size - 1` inputs."""

    def __init__(self, channels: int, config: HGRNBitConfig) -> None:
        super().__init__()
        shape = (channels, 1, config.conv_size)
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-1, 1) * config.conv_size**-0.5)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, C], [B, conv_size - 1, C] -> [B, T, C] and the new cache."""
        history = torch.cat((cache, x), dim=1)
        mixed = F.conv1d(history.transpose(1, 2), self.weight, groups=x.shape[-1])
        return F.silu(mixed.transpose(1, 2)), history[:, -cache.shape[1] :].clone()


class SwishGatedNorm(nn.Module):
    """`rms_norm(gate) * o * sigmoid(o)`: the norm is on the gate, the swish on the recurrent output."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, gate: Tensor, o: Tensor) -> Tensor:
        inverse = torch.rsqrt(gate.square().mean(dim=-1, keepdim=True) + self.eps)
        return gate * inverse * self.weight * o * torch.sigmoid(o)


class HGRNBitAttention(nn.Module):
    """The token mixer, MLGRU. Heads only reshape an elementwise recurrence, so they do not appear."""

    def __init__(self, config: HGRNBitConfig, linear: type[NormLinear]) -> None:
        super().__init__()
        hidden, state = config.hidden_size, config.state_size
        self.h_conv1d = self.q_conv1d = self.f_conv1d = self.i_conv1d = None
        if config.use_short_conv and config.share_conv_kernel:
            self.h_conv1d = ShortConvolution(hidden, config)
        elif config.use_short_conv:
            self.q_conv1d = ShortConvolution(state, config)  # in every checkpoint, and used by nothing
            self.f_conv1d = ShortConvolution(state, config)
            self.i_conv1d = ShortConvolution(state, config)
        self.i_proj = linear(hidden, state, config)
        self.f_proj = linear(hidden, state, config)
        self.g_proj = linear(hidden, state, config)
        self.g_norm = SwishGatedNorm(state, config.rms_norm_eps)
        self.o_proj = linear(state, hidden, config)

    def forward(
        self, x: Tensor, lower_bound: Tensor | None, state: Tensor, caches: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """[B, T, H], [D], [B, D], the convolutions' caches -> [B, T, H], the new state, the new caches."""
        new_caches: list[Tensor] = []
        if self.h_conv1d is not None:
            x, cache = self.h_conv1d(x, caches[0])
            new_caches += [cache]
        i, f = self.i_proj(x), self.f_proj(x)
        if self.i_conv1d is not None and self.f_conv1d is not None:
            i, i_cache = self.i_conv1d(i, caches[0])
            f, f_cache = self.f_conv1d(f, caches[1])
            new_caches += [i_cache, f_cache]
        f = torch.sigmoid(f)
        if lower_bound is not None:
            f = lower_bound + (1 - lower_bound) * f
        i = F.silu(i) * (1 - f)
        states, state = recur(f, i, state)
        return self.o_proj(self.g_norm(self.g_proj(x), states)), state, tuple(new_caches)


class HGRNBitMLP(nn.Module):
    """The channel mixer, a gated linear unit: `down(silu(gate) * up)`."""

    def __init__(self, config: HGRNBitConfig, linear: type[NormLinear]) -> None:
        super().__init__()
        self.gate_proj = linear(config.hidden_size, 2 * config.mlp_size, config)
        self.down_proj = linear(config.mlp_size, config.hidden_size, config)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class HGRNBitBlock(nn.Module):
    """A token mixer and a channel mixer, each behind a norm and inside a residual."""

    def __init__(self, config: HGRNBitConfig, linear: type[NormLinear]) -> None:
        super().__init__()
        self.attn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attn = HGRNBitAttention(config, linear)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = HGRNBitMLP(config, linear)

    def forward(
        self, x: Tensor, lower_bound: Tensor | None, state: Tensor, caches: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        h, state, caches = self.attn(self.attn_norm(x), lower_bound, state, caches)
        x = h + x
        return x + self.mlp(self.mlp_norm(x)), state, caches


class HGRNBitModel(nn.Module):
    """Embedding, blocks and the final norm."""

    def __init__(self, config: HGRNBitConfig, linear: type[NormLinear]) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        nn.init.normal_(self.embeddings.weight, std=config.initializer_range)
        self.lower_bounds = None
        if config.use_lower_bound:
            self.lower_bounds = nn.Parameter(torch.zeros(config.num_hidden_layers, config.hidden_size))
        self.layers = nn.ModuleList(HGRNBitBlock(config, linear) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, tokens: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """[B, T] and the states -> [B, T, H] and the new states, in the order of `initial_states`."""
        depth = len(self.layers)
        bounds = None
        if self.lower_bounds is not None:
            shares = torch.softmax(self.lower_bounds, dim=0)
            bounds = torch.cumsum(shares, dim=0) - shares[0]
        x = self.embeddings(tokens)
        caches_per_layer = len(states) // depth - 1
        new_states: list[Tensor] = []
        new_caches: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            # The first layer's bound is zero: what it remembers is its own choice.
            bound = bounds[index] if bounds is not None and index > 0 else None
            first = depth + index * caches_per_layer
            x, state, caches = layer(x, bound, states[index], states[first : first + caches_per_layer])
            new_states.append(state)
            new_caches.extend(caches)
        return self.norm(x), (*new_states, *new_caches)


class HGRNBitForCausalLM(nn.Module):
    """MatMul-free LM with its head: `(tokens, *states) -> (logits, *new_states)`.

    `linear` is BitLinear for the published models; NormLinear gives the same shape in floating point.
    """

    def __init__(self, config: HGRNBitConfig, linear: type[NormLinear] = BitLinear) -> None:
        super().__init__()
        self.config = config
        self.model = HGRNBitModel(config, linear)
        self.lm_head = linear(config.hidden_size, config.vocab_size, config)

    def initial_states(self, batch: int = 1) -> tuple[Tensor, ...]:
        """Zeros: a [B, D] state per layer; with short convolutions, then the [B, conv_size - 1, C] caches,
        layer by layer, of h or else of i and f."""
        config, device = self.config, self.model.norm.weight.device
        shapes: list[tuple[int, ...]] = [(batch, config.state_size)] * config.num_hidden_layers
        if config.use_short_conv:
            channels = [config.hidden_size] if config.share_conv_kernel else [config.state_size] * 2
            shapes += [(batch, config.conv_size - 1, size) for size in channels * config.num_hidden_layers]
        return tuple(torch.zeros(shape, device=device) for shape in shapes)

    def forward(self, tokens: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """tokens [B, T] int64 and the states -> logits [B, T, V] f32 and the new states."""
        hidden, new_states = self.model(tokens, states)
        return (self.lm_head(hidden), *new_states)


def load_model(path: str | Path) -> HGRNBitForCausalLM:
    """The model of a checkpoint directory, in f32; raises CheckpointError where the directory is not one."""
    checkpoint = Checkpoint(path)
    if not isinstance(checkpoint.config, HGRNBitConfig):
        raise CheckpointError(f"{path}: expected a MatMul-free LM, found model_type 'bitnet'")
    with torch.device("meta"):
        model = HGRNBitForCausalLM(checkpoint.config)
    tensors = {name: torch.as_tensor(checkpoint.read(name).astype(np.float32)) for name in checkpoint.names()}
    model.load_state_dict(tensors, assign=True)
    return model.eval()
