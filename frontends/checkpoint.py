"""Imports a checkpoint directory in Hugging Face layout: `config.json`, safetensors, and maybe a tokenizer.

The model is built on the meta device, so importing takes no memory for weights; they are read from the files one at
a time when a pass or a target asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr

from sterna.dialects.weight_ops import FLOAT_LAYERS
from sterna.frontends import Imported
from sterna.frontends.errors import FrontendError
from sterna.frontends.huggingface import Checkpoint
from sterna.frontends.models.bitnet import BitNetForCausalLM
from sterna.frontends.models.bitnet_config import BitNetConfig
from sterna.frontends.models.hgrn_bit import HGRNBitForCausalLM
from sterna.frontends.models.hgrn_bit_config import HGRNBitConfig
from sterna.frontends.torch_export import import_program
from sterna.frontends.torch_module import export

TOKENIZERS = ("tokenizer.json", "tokenizer.model")
EXAMPLE_ROWS = 3
LONGEST_BY_DEFAULT = 4096
"""Tokens of a context that nobody asked for: a cache takes its memory whether a text is long or not."""
LONGEST = 1 << 18


@dataclass(frozen=True)
class CheckpointFrontend:
    """Reads the checkpoints of the models in `frontends/models`."""

    def load(self, source: str | Path, *, context: int | None = None) -> Imported:
        """One sequence (batch 1), T tokens at a time, every layer's state passed in and out.

        `context`: the most tokens of a text, of a model with a cache of keys and values; by default as many as its
        configuration says, but no more than 4096. FrontendError for a model that has no such cache.
        """
        path = Path(source)
        checkpoint = Checkpoint(path)
        tokenizer = next((path / name for name in TOKENIZERS if (path / name).is_file()), None)
        match checkpoint.config:
            case BitNetConfig() as config:
                module = import_bitnet(config, context)
            case HGRNBitConfig() as config:
                if context is not None:
                    raise FrontendError(
                        f"{path}: its state has one size for any text, so that no context is chosen"
                    )
                module = import_hgrn_bit(config)
        return Imported(module, checkpoint, tokenizer, checkpoint.config.to_dict())


def import_hgrn_bit(config: HGRNBitConfig) -> ModuleOp:
    """`forward(tokens, *states) -> (logits, *states)` of a MatMul-free LM, without its numbers."""
    return _imported(lambda: HGRNBitForCausalLM(config))


def import_bitnet(config: BitNetConfig, context: int | None = None) -> ModuleOp:
    """The same of a BitNet transformer, whose states are the next position, and keys and values of every layer."""
    if context is None:
        context = max(min(config.max_position_embeddings, LONGEST_BY_DEFAULT), 2)
    if not 2 <= context <= LONGEST:
        raise FrontendError(f"context: expected 2 to {LONGEST} tokens, found {context}")
    module = _imported(lambda: BitNetForCausalLM(config, context))
    module.attributes[FLOAT_LAYERS] = ArrayAttr([StringAttr(config.head_weight)])
    return module


def _imported(make: Callable[[], HGRNBitForCausalLM | BitNetForCausalLM]) -> ModuleOp:
    with torch.device("meta"):
        model = make().eval()
        states = model.initial_states()
        tokens = torch.zeros((1, EXAMPLE_ROWS), dtype=torch.int64)
    program = export(model, (tokens, *states), dynamic_rows={"tokens": 1})
    names = ["tokens", *(f"state_{number}" for number in range(len(states)))]
    return import_program(program, states=len(states), input_names=names)
