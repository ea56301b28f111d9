"""Small BitNet checkpoints with random weights, for tests."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from sterna.frontends.models.bitnet_config import BitNetConfig

Array = npt.NDArray[Any]

PACKED = BitNetConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=48,
    rope_theta=10000.0,
    bos_token_id=None,
    eos_token_id=None,
)
ONLINE = replace(PACKED, quantization_mode="online")
DIVISOR = replace(PACKED, linear_class="bitlinear", num_key_value_heads=None)
TIED = replace(PACKED, tie_word_embeddings=True, num_key_value_heads=1)
ALL = {"packed": PACKED, "online": ONLINE, "divisor": DIVISOR, "tied": TIED}


def pack(trits: Array) -> Array:
    """[M, K] of -1, 0, 1 to bytes [M/4, K], as published checkpoints have them."""
    fields = (trits + 1).astype(np.uint8).reshape(4, -1, trits.shape[1])
    return fields[0] | fields[1] << 2 | fields[2] << 4 | fields[3] << 6


def random_tensors(config: BitNetConfig, seed: int = 0) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    tensors: dict[str, Array] = {}
    for name, shape in config.tensor_shapes().items():
        normal = generator.standard_normal(shape)
        if config.tensor_dtypes(name) == ("U8",):
            tensors[name] = pack(generator.integers(-1, 2, (4 * shape[0], shape[1])))
        elif name.endswith("weight_scale"):
            tensors[name] = np.full(shape, 20.0 if config.linear_class == "bitlinear" else 0.05, np.float32)
        elif "norm" in name:
            tensors[name] = (1 + 0.1 * normal).astype(np.float32)
        else:
            tensors[name] = (0.2 * normal).astype(np.float16)
    return tensors


def write_bitnet(directory: Path, config: BitNetConfig, tensors: dict[str, Array] | None = None) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors or random_tensors(config), directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config.to_dict()))
    return directory
