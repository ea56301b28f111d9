"""Sterna compiles MatMul-free language models: ternary weights, additions instead of multiplications.

import sterna
model = sterna.compile("path/to/checkpoint")     # or sterna.load("model.sterna")
print(model.generate("Once upon a time"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sterna.api import compile
    from sterna.dynamo.explain import explain
    from sterna.in_memory import jit
    from sterna.model import CompiledModel, Generation, load
    from sterna.onnx_export import export

__version__ = "0.1.0"
__all__ = ["CompiledModel", "Generation", "__version__", "compile", "explain", "export", "jit", "load"]

_HOMES = {
    "compile": "sterna.api",
    "explain": "sterna.dynamo.explain",
    "export": "sterna.onnx_export",
    "jit": "sterna.in_memory",
    "load": "sterna.model",
    "CompiledModel": "sterna.model",
    "Generation": "sterna.model",
}


def __getattr__(name: str) -> Any:
    # Loading an artifact must not wait for the compiler to be imported, nor `sterna --version` for either.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sterna' has no attribute '{name}'")
