"""The configuration of MatMul-free LM (`model_type` "hgrn_bit") and the tensors that it calls for.

Source: arXiv 2406.02528 and its code, ridgerchu/matmulfreellm. Nothing here needs torch.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sterna.frontends.errors import ConfigError
from sterna.frontends.models.config_checks import (
    LARGEST_DEPTH,
    LARGEST_SIZE,
    check_flag,
    check_fraction,
    check_integer,
)

FLOATS = ("F16", "BF16", "F32")


@dataclass(frozen=True)
class HGRNBitConfig:
    """Sizes and options, named as in the checkpoint's `config.json`; the defaults are the published ones."""

    vocab_size: int = 32000
    hidden_size: int = 2048
    num_hidden_layers: int = 24
    num_heads: int = 1
    expand_ratio: int = 1
    use_short_conv: bool = False
    conv_size: int = 4
    share_conv_kernel: bool = True
    use_lower_bound: bool = True
    hidden_ratio: int = 4
    intermediate_size: int | None = None
    hidden_act: str = "swish"
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    bit_linear_eps: float = 1e-6
    """The epsilon of the norm inside each BitLinear. Published models run the fused BitLinear, whose norm
    takes 1e-6; the plain BitLinear of the same code base takes 1e-8. Ties round half to even here, as in the
    plain one; the fused one rounds half away from zero."""
    bos_token_id: int | None = 1
    eos_token_id: int | None = 2
    pad_token_id: int | None = None
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for name in _SIZES:
            check_integer(name, getattr(self, name), 1, LARGEST_SIZE)
        check_integer("num_hidden_layers", self.num_hidden_layers, 1, LARGEST_DEPTH)
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), 0, self.vocab_size - 1)
        if self.intermediate_size is not None:
            check_integer("intermediate_size", self.intermediate_size, 1, LARGEST_SIZE)
        for name in ("use_short_conv", "share_conv_kernel", "use_lower_bound", "tie_word_embeddings"):
            check_flag(name, getattr(self, name))
        for name in ("rms_norm_eps", "bit_linear_eps", "initializer_range"):
            check_fraction(name, getattr(self, name))
        if self.hidden_act not in ("swish", "silu"):
            raise ConfigError("hidden_act", self.hidden_act, "'swish' or 'silu'")
        if self.tie_word_embeddings:
            raise ConfigError("tie_word_embeddings", True, "false: the embedding is dense, the head ternary")
        if self.use_short_conv and self.conv_size < 2:
            raise ConfigError("conv_size", self.conv_size, "an integer of at least 2")
        if self.use_lower_bound and self.expand_ratio != 1:
            raise ConfigError("expand_ratio", self.expand_ratio, "1, as lower bounds are [layers, hidden]")
        if self.state_size % self.num_heads:
            raise ConfigError("num_heads", self.num_heads, f"a divisor of the state size {self.state_size}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "HGRNBitConfig":
        """Reads the parsed `config.json`; fields that this model does not have are ignored."""
        model_type = values.get("model_type", "hgrn_bit")
        if model_type != "hgrn_bit":
            raise ConfigError("model_type", model_type, "'hgrn_bit'")
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        if known.get("hidden_ratio", 4) is None:  # null, too, means the default, as in the published code
            del known["hidden_ratio"]
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """The fields as `config.json` holds them, with the two that mark the model's class."""
        return {"model_type": "hgrn_bit", "architectures": ["HGRNBitForCausalLM"], **asdict(self)}

    @property
    def state_size(self) -> int:
        """D, the width of the recurrent state."""
        return self.hidden_size * self.expand_ratio

    @property
    def mlp_size(self) -> int:
        """I: `intermediate_size`, or if null 2/3 of hidden * ratio, rounded up to a multiple of 256."""
        if self.intermediate_size is not None:
            return self.intermediate_size
        return 256 * math.ceil(int(self.hidden_size * self.hidden_ratio * 2 / 3) / 256)

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the checkpoint, by its state-dict name, in the order of the forward pass."""
        vocab, hidden, state, mlp = self.vocab_size, self.hidden_size, self.state_size, self.mlp_size
        shapes: dict[str, tuple[int, ...]] = {"model.embeddings.weight": (vocab, hidden)}
        if self.use_lower_bound:
            shapes["model.lower_bounds"] = (self.num_hidden_layers, hidden)
        for layer in range(self.num_hidden_layers):
            prefix = f"model.layers.{layer}."
            shapes[prefix + "attn_norm.weight"] = (hidden,)
            for conv, channels in self._convolutions():
                shapes[f"{prefix}attn.{conv}.weight"] = (channels, 1, self.conv_size)
            for name, rows, columns in (
                ("attn.i_proj", state, hidden),
                ("attn.f_proj", state, hidden),
                ("attn.g_proj", state, hidden),
                ("attn.o_proj", hidden, state),
                ("mlp.gate_proj", 2 * mlp, hidden),
                ("mlp.down_proj", hidden, mlp),
            ):
                shapes[f"{prefix}{name}.weight"] = (rows, columns)
                shapes[f"{prefix}{name}.norm.weight"] = (columns,)
            shapes[prefix + "attn.g_norm.weight"] = (state,)
            shapes[prefix + "mlp_norm.weight"] = (hidden,)
        shapes["model.norm.weight"] = (hidden,)
        shapes["lm_head.weight"] = (vocab, hidden)
        shapes["lm_head.norm.weight"] = (hidden,)
        return shapes

    def tensor_dtypes(self, name: str) -> tuple[str, ...]:
        """What a tensor of the checkpoint may be of."""
        return FLOATS

    def _convolutions(self) -> list[tuple[str, int]]:
        if not self.use_short_conv:
            return []
        if self.share_conv_kernel:
            return [("h_conv1d", self.hidden_size)]
        return [(f"{name}_conv1d", self.state_size) for name in "qfi"]


_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_heads",
    "expand_ratio",
    "conv_size",
    "hidden_ratio",
    "max_position_embeddings",
)
