"""Where the numbers of a module live: stores of named arrays, and the context that carries one to the passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol
from zlib import crc32

import numpy as np
import numpy.typing as npt
from xdsl.context import Context

Array = npt.NDArray[Any]


class WeightStore(Protocol):
    """Named arrays, read one at a time, so that memory holds one weight and not the model."""

    def read(self, name: str) -> Array:
        """The array under that name (float16 stays float16; bfloat16 comes widened). KeyError if there is none."""
        ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> str:
        """The stored dtype, in safetensors' words: F32, F16, BF16, I8, U8, ..."""
        ...


@dataclass
class ArrayStore:
    """A store over arrays in memory."""

    arrays: dict[str, Array] = field(default_factory=dict[str, Array])

    def read(self, name: str) -> Array:
        return self.arrays[name]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.arrays[name].shape

    def dtype(self, name: str) -> str:
        kind = self.arrays[name].dtype
        return f"{kind.kind.upper()}{kind.itemsize * 8}"


@dataclass
class RandomStore:
    """Standard normal float32 numbers for any name, the same for the same seed: for trying passes on IR text alone."""

    shapes: dict[str, tuple[int, ...]]
    seed: int = 0

    def read(self, name: str) -> Array:
        generator = np.random.default_rng([self.seed, crc32(name.encode())])
        return generator.standard_normal(self.shapes[name], np.float32)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def dtype(self, name: str) -> str:
        return "F32"


@dataclass
class SternaContext(Context):
    """xDSL's context, and what belongs to the module being compiled, if there is any."""

    weights: WeightStore | None = None
    calibration_tokens: Array | None = None
    """A text that shows a pass how large the numbers of the program get."""
