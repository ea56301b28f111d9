"""PyTorch modules that Python source makes again: stacks of BitLinear, norms, gates, recurrences and convolutions.

    stack = Stack(8, (BitLinear(16), Activation("silu"), Residual(BitLinear(16))), seed=3)

A layer is a description; `Stack` is the `nn.Module` of several, from rows `[T, columns]` to rows. Its numbers come from
the seed, and its `repr` is what it was made by, so that a failure is a test to paste.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sterna.frontends.models.hgrn_bit import recur
from sterna.testing.subjects import Interpreted

Array = npt.NDArray[Any]

EXAMPLE_ROWS = 3

ACTIVATIONS = {
    "silu": F.silu,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "relu6": F.relu6,
}
NORMS = ("rms", "layer", "none")
QUANTIZATIONS = ("reciprocal", "straight-through", "step")
"""Three spellings of per-row absmax quantization to int8."""
WEIGHTS = ("absmean", "per-channel", "sign", "stored")
"""Ternary with one scale or one a channel, binary, or trits that the checkpoint holds."""


class Layer(Protocol):
    def build(self, columns: int) -> tuple[nn.Module, int]:
        """The module for rows of so many columns, and the columns that it gives."""
        ...


@dataclass(frozen=True)
class BitLinear:
    """A norm, rows quantized to int8, ternary weights: `[T, K]` to `[T, channels]`."""

    channels: int
    norm: str = "rms"
    quantization: str = "reciprocal"
    weight: str = "absmean"
    bias: bool = False

    def build(self, columns: int) -> tuple[nn.Module, int]:
        return _BitLinear(columns, self), self.channels


@dataclass(frozen=True)
class Norm:
    """`rms` or `layer`, with weights."""

    kind: str = "rms"

    def build(self, columns: int) -> tuple[nn.Module, int]:
        return _Norm(columns, self.kind), columns


@dataclass(frozen=True)
class Activation:
    """A function of each element, of `ACTIVATIONS`."""

    kind: str = "silu"

    def build(self, columns: int) -> tuple[nn.Module, int]:
        return _Activation(self.kind), columns


@dataclass(frozen=True)
class Gated:
    """A gated linear unit of three BitLinears: down(act(gate(x)) * up(x))."""

    hidden: int
    kind: str = "silu"

    def build(self, columns: int) -> tuple[nn.Module, int]:
        return _Gated(columns, self), columns


@dataclass(frozen=True)
class Recurrence:
    """The gated linear recurrence of MatMul-free LM over the rows: h = f * h + (1 - f) * silu(i), from zero."""

    channels: int

    def build(self, columns: int) -> tuple[nn.Module, int]:
        return _Recurrence(columns, self.channels), self.channels


@dataclass(frozen=True)
class Convolution:
    """`channels` filters of `size` columns over each row, of ternary weights or floats: K to channels * K."""

    channels: int
    size: int = 3
    ternary: bool = True

    def build(self, columns: int) -> tuple[nn.Module, int]:
        return _Convolution(self), self.channels * columns


@dataclass(frozen=True)
class Residual:
    """x + layer(x), where the layer keeps the number of columns; else the layer alone."""

    layer: Layer

    def build(self, columns: int) -> tuple[nn.Module, int]:
        inner, out = self.layer.build(columns)
        return (_Residual(inner), out) if out == columns else (inner, out)


class Stack(nn.Module):
    """The layers one after the other, on rows `[T, columns]` of float32."""

    def __init__(self, columns: int, layers: Sequence[Layer], *, seed: int = 0) -> None:
        super().__init__()
        self.columns, self.descriptions, self.seed = columns, tuple(layers), seed
        modules: list[nn.Module] = []
        for layer in self.descriptions:
            module, columns = layer.build(columns)
            modules.append(module)
        self.layers = nn.Sequential(*modules)
        self.out_columns = columns
        generator = np.random.default_rng(seed)
        with torch.no_grad():
            for value in self.parameters():
                value.copy_(torch.as_tensor(generator.standard_normal(tuple(value.shape), np.float32)))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layers(x))

    @property
    def imported(self) -> Interpreted:
        """Its IR at the stage *imported*, any number of rows, with its weights."""
        return Interpreted(self._imported.text, self._imported.numbers())

    @cached_property
    def _imported(self) -> Interpreted:
        from sterna.frontends.torch_module import TorchModuleFrontend

        x = torch.zeros(EXAMPLE_ROWS, self.columns)
        found = TorchModuleFrontend().load(self, (x,), dynamic_rows={"x": 0})
        return Interpreted(found.module, found.weights)

    def is_decided_by_a_rounding(self, x: Array, part: float = 2**-10) -> bool:
        """Whether float32 and float64 differ by more than `part` of the largest result.

        Then some activation lies next to a half, and another order of summation may round it to another integer: no
        comparison with another runtime says anything.
        """
        rows = torch.as_tensor(x)
        with torch.no_grad():
            single = cast(Tensor, self(rows)).double()
            double = cast(
                Tensor, Stack(self.columns, self.descriptions, seed=self.seed).double()(rows.double())
            )
        apart = (single - double).abs()
        largest = double.abs().max() if double.numel() else torch.zeros(())
        return bool(apart.numel()) and not bool(apart.max() <= part * largest)

    def __repr__(self) -> str:
        layers = "".join(f"{layer!r}, " for layer in self.descriptions)
        return f"Stack({self.columns}, ({layers.rstrip()}), seed={self.seed})"

    def python_source(self) -> tuple[str, str]:
        """Lines that come first, and the expression, as a test has them."""
        text = repr(self)
        names = [name for name in LAYERS if f"{name}(" in text]
        return f"from sterna.testing.torch_layers import {', '.join(names)}\n\nMODULE = {text}", "MODULE"


LAYERS = (
    "Activation",
    "BitLinear",
    "Convolution",
    "Gated",
    "Norm",
    "Recurrence",
    "Residual",
    "Stack",
)


class _Norm(nn.Module):
    def __init__(self, columns: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.ones(columns))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "layer":
            return F.layer_norm(x, (x.shape[-1],), self.weight, eps=1e-5)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class _BitLinear(nn.Module):
    def __init__(self, columns: int, layer: BitLinear) -> None:
        super().__init__()
        self.layer = layer
        self.norm = _Norm(columns, layer.norm) if layer.norm != "none" else nn.Identity()
        self.weight = nn.Parameter(torch.ones(layer.channels, columns))
        self.bias = nn.Parameter(torch.ones(layer.channels)) if layer.bias else None

    def forward(self, x: Tensor) -> Tensor:
        rows = quantized_rows(cast(Tensor, self.norm(x)), self.layer.quantization)
        return F.linear(rows, ternary_weight(self.weight, self.layer.weight), self.bias)


def quantized_rows(x: Tensor, spelling: str) -> Tensor:
    """Rows on a grid of int8."""
    largest = x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
    match spelling:
        case "straight-through":
            scale = 127.0 / largest
            return x + ((x * scale).round().clamp(-128, 127) / scale - x).detach()
        case "step":
            step = largest / 127
            return torch.clamp(torch.round(x / step), -127, 127) * step
        case _:
            scale = 127.0 / largest
            return (x * scale).round().clamp(-128, 127) / scale


def ternary_weight(weight: Tensor, kind: str) -> Tensor:
    """Of one magnitude, or one a row, and zero."""
    match kind:
        case "sign":
            return torch.where(weight >= 0, 1.0, -1.0).to(weight.dtype) * weight.abs().mean()
        case "stored":
            return weight.clamp(-1, 1).round() * 0.5
        case "per-channel":
            scale = weight.abs().mean(-1, keepdim=True).clamp(min=1e-5)
            return (weight / scale).round().clamp(-1, 1) * scale
        case _:
            scale = 1.0 / weight.abs().mean().clamp(min=1e-5)
            return (weight * scale).round().clamp(-1, 1) / scale


class _Activation(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return ACTIVATIONS[self.kind](x)


class _Gated(nn.Module):
    def __init__(self, columns: int, layer: Gated) -> None:
        super().__init__()
        self.gate = _BitLinear(columns, BitLinear(layer.hidden))
        self.up = _BitLinear(columns, BitLinear(layer.hidden))
        self.down = _BitLinear(layer.hidden, BitLinear(columns))
        self.kind = layer.kind

    def forward(self, x: Tensor) -> Tensor:
        gate = ACTIVATIONS[self.kind](cast(Tensor, self.gate(x)))
        return cast(Tensor, self.down(gate * cast(Tensor, self.up(x))))


class _Recurrence(nn.Module):
    def __init__(self, columns: int, channels: int) -> None:
        super().__init__()
        self.forget = _BitLinear(columns, BitLinear(channels))
        self.input = _BitLinear(columns, BitLinear(channels))

    def forward(self, x: Tensor) -> Tensor:
        forget = torch.sigmoid(cast(Tensor, self.forget(x)))
        inputs = F.silu(cast(Tensor, self.input(x))) * (1 - forget)
        states, _ = recur(forget[None], inputs[None], x.new_zeros((1, inputs.shape[-1])))
        return states[0]


class _Convolution(nn.Module):
    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        self.layer = layer
        self.weight = nn.Parameter(torch.ones(layer.channels, 1, layer.size))

    def forward(self, x: Tensor) -> Tensor:
        weight = ternary_weight(self.weight, "absmean") if self.layer.ternary else self.weight
        filtered = F.conv1d(x[:, None], weight, padding="same")
        return filtered.flatten(1)


class _Residual(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.layer(x))
