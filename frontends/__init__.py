"""Frontends: what reads a model of another system into the IR.

Nothing is imported here: a frontend that needs torch is imported by its own module's name, or found through the
entry-point group `sterna.frontends`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from sterna.dialects.weights import WeightStore


@dataclass(frozen=True)
class Imported:
    """A model in the IR and, beside it, what the IR does not hold."""

    module: ModuleOp
    """One function, @forward, in upstream dialects and `ternary.load`."""

    weights: WeightStore
    """The numbers of the module's weights, by name."""

    tokenizer: Path | None = None
    config: Mapping[str, Any] | None = None
    """The model's configuration as its `config.json` holds it."""


class Frontend(Protocol):
    """Reads one kind of source; `options` are the frontend's own."""

    def load(self, source: Any, *args: Any, **options: Any) -> Imported: ...
