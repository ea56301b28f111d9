"""The shipped checkpoint, and prompts for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.weights import WeightStore

CHECKPOINT = Path(__file__).parents[2] / "examples" / "checkpoints" / "matmulfree-shakespeare"

PROMPTS = (
    "ROMEO:",
    "JULIET:\nO ",
    "KING RICHARD III:\nNow is the winter",
    "First Citizen:\nBefore we proceed",
    "To be, or not to be",
    "All the world's a stage,",
    "MENENIUS:\nWhat work's, my countrymen, in hand?",
    "Once upon a time",
    "GLOUCESTER:",
    "\n\n",
)


@dataclass(frozen=True)
class Planned:
    module: ModuleOp
    weights: WeightStore
