"""BitNet b1.58 transformers in plain PyTorch: ternary linear layers, rotary attention with a cache, squared ReLU.

Source: arXiv 2504.12285 and arXiv 2402.17764, and the class BitNetForCausalLM of Hugging Face's transformers. Module
and parameter names are those of the published checkpoints. Parameters and everything computed are f32.

Axes: B batch, T tokens, V vocabulary, H hidden, I the MLP's width, C rows of the cache, D columns of a head.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sterna.frontends.errors import CheckpointError
from sterna.frontends.huggingface import Checkpoint
from sterna.frontends.models.attention import attention, dense, positions, rotate
from sterna.frontends.models.bitnet_config import TRITS_PER_BYTE, BitNetConfig
from sterna.frontends.models.hgrn_bit import RMSNorm, quantize_activations, ternarize_weight


class BitLinear(nn.Module):
    """int8 activations by trits that are computed from the weight, without a norm: [..., K] -> [..., M]."""

    def __init__(self, columns: int, rows: int, config: BitNetConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))
        if not self.weight.is_meta:
            nn.init.normal_(self.weight, std=config.initializer_range)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        x = x + (quantize_activations(x) - x).detach()
        weight = weight + (ternarize_weight(weight) - weight).detach()
        return F.linear(x, weight)


class PackedBitLinear(nn.Module):
    """The same with trits as checkpoints hold them: row r + n M/4 of the weight is field n of row r of bytes.

    A field is the trit + 1 in two bits, the lowest first. What the scale is to the product, the configuration says.
    """

    def __init__(self, columns: int, rows: int, config: BitNetConfig) -> None:
        super().__init__()
        self.is_divisor = config.linear_class == "bitlinear"
        self.weight: Tensor
        self.weight_scale: Tensor
        self.register_buffer("weight", torch.ones(rows // TRITS_PER_BYTE, columns, dtype=torch.uint8) * 0x55)
        self.register_buffer("weight_scale", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        trits = torch.cat([(self.weight >> 2 * n) & 3 for n in range(TRITS_PER_BYTE)]).float() - 1.0
        weight = trits / self.weight_scale if self.is_divisor else trits * self.weight_scale
        return F.linear(quantize_activations(x), weight)


class BitNetAttention(nn.Module):
    """Grouped queries, turned by their positions; a norm before the output projection."""

    def __init__(self, config: BitNetConfig) -> None:
        super().__init__()
        linear = PackedBitLinear if config.is_packed else BitLinear
        self.heads, self.kv_heads = config.num_attention_heads, config.kv_heads
        self.q_proj = linear(config.hidden_size, config.query_size, config)
        self.k_proj = linear(config.hidden_size, config.kv_size, config)
        self.v_proj = linear(config.hidden_size, config.kv_size, config)
        self.o_proj = linear(config.query_size, config.hidden_size, config)
        self.attn_sub_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: Tensor, places: Tensor, angles: tuple[Tensor, Tensor], cache: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """[B, T, H], positions [T], cosines and sines [T, D/2], keys and values [B, C, G D] -> [B, T, H], the new
        cache."""
        q, k = (rotate(project(x), *angles) for project in (self.q_proj, self.k_proj))
        y, *cache_after = attention(q, k, self.v_proj(x), places, *cache, self.heads, self.kv_heads)
        return self.o_proj(self.attn_sub_norm(y)), cast("tuple[Tensor, Tensor]", tuple(cache_after))


class BitNetMLP(nn.Module):
    """`down(norm(relu(gate)^2 * up))`."""

    def __init__(self, config: BitNetConfig) -> None:
        super().__init__()
        linear = PackedBitLinear if config.is_packed else BitLinear
        self.gate_proj = linear(config.hidden_size, config.intermediate_size, config)
        self.up_proj = linear(config.hidden_size, config.intermediate_size, config)
        self.down_proj = linear(config.intermediate_size, config.hidden_size, config)
        self.ffn_sub_norm = RMSNorm(config.intermediate_size, config.rms_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.ffn_sub_norm(F.relu(self.gate_proj(x)).square() * self.up_proj(x)))


class BitNetDecoderLayer(nn.Module):
    """Attention and MLP, each behind a norm and inside a residual."""

    def __init__(self, config: BitNetConfig) -> None:
        super().__init__()
        self.self_attn = BitNetAttention(config)
        self.mlp = BitNetMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: Tensor, places: Tensor, angles: tuple[Tensor, Tensor], cache: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        mixed, cache = self.self_attn(self.input_layernorm(x), places, angles, cache)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), cache


class BitNetModel(nn.Module):
    """Embedding, layers and the final norm."""

    def __init__(self, config: BitNetConfig, context: int) -> None:
        super().__init__()
        self.config, self.context = config, context
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if not self.embed_tokens.weight.is_meta:
            nn.init.normal_(self.embed_tokens.weight, std=config.initializer_range)
        self.layers = nn.ModuleList(BitNetDecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def angles(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [T, D/2] for positions [T]: pair j of a head turns by theta^(-2 j / D) a position."""
        size = self.config.head_size
        exponents = torch.arange(0, size, 2, device=places.device).float() / size
        turns = places.float()[:, None] * (1.0 / self.config.rope_theta**exponents)
        return turns.cos(), turns.sin()

    def forward(self, tokens: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """[B, T] and the states -> [B, T, H] and the new states, in the order of `initial_states`."""
        start, *caches = states
        places, following = positions(start, tokens, self.context)
        angles = self.angles(places)
        x = self.embed_tokens(tokens)
        after: list[Tensor] = [following]
        for index, layer in enumerate(self.layers):
            x, cache = layer(x, places, angles, (caches[2 * index], caches[2 * index + 1]))
            after.extend(cache)
        return self.norm(x), tuple(after)


class BitNetForCausalLM(nn.Module):
    """BitNet b1.58 with its dense head: `(tokens, *states) -> (logits, *new_states)`, for texts of `context` tokens."""

    def __init__(self, config: BitNetConfig, context: int) -> None:
        super().__init__()
        self.config, self.context = config, context
        self.model = BitNetModel(config, context)
        self.lm_head = None
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def initial_states(self, batch: int = 1) -> tuple[Tensor, ...]:
        """Zeros: the position of the next token [1], then keys and values [B, C, G D] for every layer."""
        config, device = self.config, self.model.norm.weight.device
        start = torch.zeros(1, dtype=torch.int64, device=device)
        shape = (batch, self.context, config.kv_size)
        caches = (torch.zeros(shape, device=device) for _ in range(2 * config.num_hidden_layers))
        return (start, *caches)

    def forward(self, tokens: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """tokens [B, T] int64 and the states -> logits [B, T, V] f32 and the new states."""
        hidden, new_states = self.model(tokens, states)
        head = self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        return (dense(hidden, head), *new_states)


def load_model(path: str | Path, context: int = 256) -> BitNetForCausalLM:
    """The model of a checkpoint directory, in f32; raises CheckpointError where the directory is not one."""
    checkpoint = Checkpoint(path)
    if not isinstance(config := checkpoint.config, BitNetConfig):
        raise CheckpointError(f"{path}: expected a BitNet transformer, found model_type 'hgrn_bit'")
    with torch.device("meta"):
        model = BitNetForCausalLM(config, context)
    tensors: dict[str, Tensor] = {}
    for name in checkpoint.names():
        value = torch.as_tensor(checkpoint.read(name))
        tensors[name] = value.view(torch.uint8) if value.dtype == torch.int8 else value.float()
    model.load_state_dict(tensors, assign=True)
    return model.eval()
