"""The configuration of BitNet b1.58 transformers (`model_type` "bitnet") and the tensors that it calls for.

Source: "BitNet b1.58 2B4T Technical Report", arXiv 2504.12285, and the class BitNetForCausalLM of Hugging Face's
transformers with its quantization method "bitnet". Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, cast

from sterna.frontends.errors import ConfigError
from sterna.frontends.models.config_checks import (
    LARGEST_DEPTH,
    LARGEST_SIZE,
    check_flag,
    check_fraction,
    check_integer,
)

FLOATS = ("F16", "BF16", "F32")
TRITS_PER_BYTE = 4
LARGEST_THETA = 1e12


@dataclass(frozen=True)
class BitNetConfig:
    """Sizes and options, named as in the checkpoint's `config.json`; the defaults are the published model's."""

    vocab_size: int = 128256
    hidden_size: int = 2560
    intermediate_size: int = 6912
    num_hidden_layers: int = 30
    num_attention_heads: int = 20
    num_key_value_heads: int | None = 5
    head_dim: int | None = None
    hidden_act: str = "relu2"
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-5
    rope_theta: float = 500000.0
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001
    pad_token_id: int | None = None
    attention_bias: bool = False
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    quantization_mode: str = "offline"
    """`offline`: the checkpoint holds trits, four to a byte, and a scale. `online`: it holds the weights that trits are
    computed from."""
    linear_class: str = "autobitlinear"
    """What an offline scale is to the product of trits: a factor of `autobitlinear`, a divisor of `bitlinear`."""

    INSIDE: ClassVar = ("quantization_mode", "linear_class")
    """Fields of the object `quantization_config`."""

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_attention_heads",
            "max_position_embeddings",
        ):
            check_integer(name, getattr(self, name), 1, LARGEST_SIZE)
        check_integer("num_hidden_layers", self.num_hidden_layers, 1, LARGEST_DEPTH)
        for name in ("rms_norm_eps", "initializer_range"):
            check_fraction(name, getattr(self, name))
        for name in ("tie_word_embeddings", "attention_bias"):
            check_flag(name, getattr(self, name))
        self._check_heads()
        self._check_tokens()
        if self.hidden_act != "relu2":
            raise ConfigError("hidden_act", self.hidden_act, "'relu2'")
        if self.attention_bias:
            raise ConfigError("attention_bias", True, "false: no published model has one")
        theta = cast("object", self.rope_theta)
        if not isinstance(theta, int | float) or isinstance(theta, bool) or not 1 <= theta <= LARGEST_THETA:
            raise ConfigError("rope_theta", theta, f"a number from 1 to {LARGEST_THETA:g}")
        if self.quantization_mode not in ("offline", "online"):
            raise ConfigError(
                "quantization_config.quantization_mode", self.quantization_mode, "'offline' or 'online'"
            )
        if self.linear_class not in ("autobitlinear", "bitlinear"):
            raise ConfigError(
                "quantization_config.linear_class", self.linear_class, "'autobitlinear' or 'bitlinear'"
            )
        if self.linear_class == "bitlinear" and not self.is_packed:
            raise ConfigError(
                "quantization_config.linear_class", "bitlinear", "'autobitlinear', which is online"
            )

    def _check_heads(self) -> None:
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                "num_attention_heads",
                self.num_attention_heads,
                f"a divisor of {self.hidden_size}, the hidden size",
            )
        check_integer("head_dim", self.head_size, 2, LARGEST_SIZE)
        if self.head_size % 2:
            raise ConfigError("head_dim", self.head_size, "an even number: its halves are rotated")
        if self.num_key_value_heads is not None:
            check_integer("num_key_value_heads", self.num_key_value_heads, 1, LARGEST_SIZE)
        if self.num_attention_heads % self.kv_heads:
            raise ConfigError(
                "num_key_value_heads",
                self.kv_heads,
                f"a divisor of {self.num_attention_heads}, the attention heads",
            )
        if self.query_size != self.hidden_size:
            raise ConfigError("head_dim", self.head_size, "hidden_size / num_attention_heads")
        if self.is_packed:
            for name, rows in (
                ("hidden_size", self.hidden_size),
                ("intermediate_size", self.intermediate_size),
                ("num_key_value_heads", self.kv_size),
            ):
                if rows % TRITS_PER_BYTE:
                    raise ConfigError(
                        name,
                        getattr(self, name),
                        f"weights of a multiple of {TRITS_PER_BYTE} rows, as they are packed",
                    )

    def _check_tokens(self) -> None:
        for name in ("bos_token_id", "pad_token_id"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), 0, self.vocab_size - 1)
        ends = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        for end in ends:
            if end is not None:
                check_integer("eos_token_id", end, 0, self.vocab_size - 1)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BitNetConfig:
        """Reads the parsed `config.json`; fields that this model does not have are ignored."""
        model_type = values.get("model_type", "bitnet")
        if model_type != "bitnet":
            raise ConfigError("model_type", model_type, "'bitnet'")
        names = {field.name for field in fields(cls)} - {*cls.INSIDE}
        known = {name: values[name] for name in names if name in values}
        known |= _rotation(values)
        return cls(**known, **_quantization(values.get("quantization_config")))

    def to_dict(self) -> dict[str, Any]:
        """The fields as `config.json` holds them, with the two that mark the model's class."""
        plain = {name: value for name, value in asdict(self).items() if name not in self.INSIDE}
        inside = {name: getattr(self, name) for name in self.INSIDE}
        return {
            "model_type": "bitnet",
            "architectures": ["BitNetForCausalLM"],
            **plain,
            "quantization_config": {"quant_method": "bitnet", **inside},
        }

    @property
    def is_packed(self) -> bool:
        return self.quantization_mode == "offline"

    @property
    def head_size(self) -> int:
        """D."""
        return self.hidden_size // self.num_attention_heads if self.head_dim is None else self.head_dim

    @property
    def kv_heads(self) -> int:
        """G, by default one for each head of queries."""
        return self.num_attention_heads if self.num_key_value_heads is None else self.num_key_value_heads

    @property
    def query_size(self) -> int:
        return self.num_attention_heads * self.head_size

    @property
    def kv_size(self) -> int:
        """Columns of a row of keys, and of values."""
        return self.kv_heads * self.head_size

    @property
    def head_weight(self) -> str:
        """The weight of the head, which is dense."""
        return "model.embed_tokens.weight" if self.tie_word_embeddings else "lm_head.weight"

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """(rows, columns) of the ternary weights of a layer, in the order of the forward pass."""
        hidden, mlp = self.hidden_size, self.intermediate_size
        return {
            "self_attn.q_proj": (self.query_size, hidden),
            "self_attn.k_proj": (self.kv_size, hidden),
            "self_attn.v_proj": (self.kv_size, hidden),
            "self_attn.o_proj": (hidden, self.query_size),
            "mlp.gate_proj": (mlp, hidden),
            "mlp.up_proj": (mlp, hidden),
            "mlp.down_proj": (hidden, mlp),
        }

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the checkpoint, by its state-dict name."""
        hidden = self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, hidden)}
        for layer in range(self.num_hidden_layers):
            prefix = f"model.layers.{layer}."
            shapes[prefix + "input_layernorm.weight"] = (hidden,)
            shapes[prefix + "self_attn.attn_sub_norm.weight"] = (hidden,)
            shapes[prefix + "post_attention_layernorm.weight"] = (hidden,)
            shapes[prefix + "mlp.ffn_sub_norm.weight"] = (self.intermediate_size,)
            for name, (rows, columns) in self.linear_shapes().items():
                packed_rows = rows // TRITS_PER_BYTE if self.is_packed else rows
                shapes[f"{prefix}{name}.weight"] = (packed_rows, columns)
                if self.is_packed:
                    shapes[f"{prefix}{name}.weight_scale"] = (1,)
        shapes["model.norm.weight"] = (hidden,)
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, hidden)
        return shapes

    def tensor_dtypes(self, name: str) -> tuple[str, ...]:
        """What a tensor of the checkpoint may be of."""
        packed = self.is_packed and name.endswith("_proj.weight")
        return ("U8",) if packed else FLOATS


def _rotation(values: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_theta`, which newer configurations have in an object; ConfigError for a rotation that is not plain."""
    found: dict[str, Any] = {}
    for name in ("rope_scaling", "rope_parameters"):
        given = values.get(name)
        if given is None:
            continue
        if not isinstance(given, dict):
            raise ConfigError(name, given, "an object, or null")
        options = cast("dict[str, Any]", given)
        kind = options.get("rope_type", options.get("type", "default"))
        if kind != "default":
            raise ConfigError(name, kind, "the rope_type 'default'")
        if "rope_theta" in options:
            found["rope_theta"] = options["rope_theta"]
    return found


def _quantization(given: object) -> dict[str, Any]:
    """The fields of `quantization_config`, with the defaults of the method where they are not there."""
    expected = (
        "an object with quant_method 'bitnet' and quantization_mode 'offline' (packed) or 'online': "
        "without it the model is a float one"
    )
    if not isinstance(given, dict):
        raise ConfigError("quantization_config", given, expected)
    values = cast("dict[str, Any]", given)
    if values.get("quant_method") != "bitnet":
        raise ConfigError("quantization_config.quant_method", values.get("quant_method"), "'bitnet'")
    if values.get("use_rms_norm", False) is not False:
        raise ConfigError("quantization_config.use_rms_norm", values["use_rms_norm"], "false")
    kept = values.get("modules_to_not_convert")
    if kept not in (None, [], ["lm_head"]):
        raise ConfigError("quantization_config.modules_to_not_convert", kept, "null, or ['lm_head']")
    return {
        "linear_class": values.get("linear_class", "bitlinear"),
        "quantization_mode": values.get("quantization_mode", "offline"),
    }
