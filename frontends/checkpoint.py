"""Imports a checkpoint directory in Hugging Face layout: `config.json`, safetensors, and maybe a tokenizer.

The model is built on the meta device, so importing takes no memory for weights; they are read from the files one at
a time when a pass or a target asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from xdsl.dialects.builtin import ModuleOp

from sterna.frontends import Imported
from sterna.frontends.huggingface import Checkpoint
from sterna.frontends.models.hgrn_bit import HGRNBitForCausalLM
from sterna.frontends.models.hgrn_bit_config import HGRNBitConfig
from sterna.frontends.torch_export import import_program
from sterna.frontends.torch_module import export

TOKENIZERS = ("tokenizer.json", "tokenizer.model")
EXAMPLE_ROWS = 3


@dataclass(frozen=True)
class CheckpointFrontend:
    """Reads the checkpoints of the models in `frontends/models`."""

    def load(self, source: str | Path) -> Imported:
        """One sequence (batch 1), T tokens at a time, every layer's recurrent state passed in and out."""
        path = Path(source)
        checkpoint = Checkpoint(path)
        tokenizer = next((path / name for name in TOKENIZERS if (path / name).is_file()), None)
        module = import_hgrn_bit(checkpoint.config)
        return Imported(module, checkpoint, tokenizer, checkpoint.config.to_dict())


def import_hgrn_bit(config: HGRNBitConfig) -> ModuleOp:
    """`forward(tokens, *states) -> (logits, *states)` of a MatMul-free LM, without its numbers."""
    with torch.device("meta"):
        model = HGRNBitForCausalLM(config).eval()
        states = model.initial_states()
        tokens = torch.zeros((1, EXAMPLE_ROWS), dtype=torch.int64)
    program = export(model, (tokens, *states), dynamic_rows={"tokens": 1})
    names = ["tokens", *(f"state_{layer}" for layer in range(len(states)))]
    return import_program(program, states=len(states), input_names=names)
