"""Runs an emitted file in this process: arrays in, arrays out. Nothing of the compiler is imported."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sterna.dialects.errors import CompileError
from sterna.targets.triton.interpreter import prepare_once

Array = npt.NDArray[Any]

INTERPRETER = "interpreter"
"""Triton's own: kernels run on the CPU, operation by operation."""
VARIABLE = "TRITON_INTERPRET"


def interprets_here() -> bool:
    """Whether this process was started so that Triton interprets."""
    return os.environ.get(VARIABLE, "").lower() in ("1", "true", "on", "y", "yes")


def import_torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise CompileError("the GPU target needs torch to run: pip install 'sterna[torch,triton]'") from None


def device_names() -> list[tuple[str, str]]:
    """(isa, name) of every GPU that torch can use; none without torch."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        return []
    if not torch.cuda.is_available():
        return []
    return [(isa_of(torch, n), torch.cuda.get_device_name(n)) for n in range(torch.cuda.device_count())]


def isa_of(torch: Any, number: int) -> str:
    if torch.version.hip is not None:
        return f"hip:{torch.cuda.get_device_properties(number).gcnArchName.split(':')[0]}"
    major, minor = torch.cuda.get_device_capability(number)
    return f"cuda:{major}{minor}"


def load_file(path: Path) -> ModuleType:
    """Imports an emitted file, from where it lies: Triton reads the source of a kernel again."""
    if interprets_here():
        prepare_once()
    name = f"sterna_kernels_{abs(hash(str(path.resolve()))):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise CompileError(f"{path}: needs {error.name}: pip install 'sterna[torch,triton]'") from None
    except Exception as error:
        raise CompileError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from None
    return module


class Engine:
    """The program of an emitted file with its weights on a device; `texts` texts at once if it is row by row."""

    def __init__(self, path: Path, weights: npt.NDArray[np.uint8], device: str) -> None:
        self.torch = import_torch()
        self.module: Any = load_file(path)
        self.device = self.torch.device(device)
        # A copy: what is mapped from an artifact cannot be written, and the interpreter writes back what it reads.
        packed = self.torch.from_numpy(np.array(weights))
        self.weights = self.module.load_weights(packed, self.device)

    def run(self, texts: int, length: int, arrays: Sequence[Array]) -> list[Array]:
        """The results for inputs of the IR's shapes; states and what follows them are `[texts, D]`."""
        batch = self.module.Batch(texts, length, self.device)
        results = self.module.forward(batch, self.weights, *map(self.on_device, arrays))
        several = cast("tuple[Any, ...]", results) if isinstance(results, tuple) else (results,)
        return [result.cpu().numpy() for result in several]

    def decoder(self, texts: int = 1) -> Any:
        """Of a language model: its `Decoder` for so many texts; None of another program."""
        kind = getattr(self.module, "Decoder", None)
        return None if kind is None else kind(self.weights, self.device, texts)

    def choose(
        self, decoder: Any, text: int, options: tuple[float, int | None, float | None], draw: float
    ) -> tuple[int, int]:
        """The next token of a text for a draw from [0, 1), and among how many it was."""
        draws = self.torch.tensor([draw], dtype=self.torch.float64, device=self.device)
        tokens, kept = self.module.sample(decoder.logits[text : text + 1], draws, *options)
        return int(tokens[0]), int(kept[0])

    def on_device(self, array: Array) -> Any:
        plain = array.view(np.uint8) if array.dtype == np.bool_ else array
        return self.torch.from_numpy(np.array(plain)).to(self.device)
