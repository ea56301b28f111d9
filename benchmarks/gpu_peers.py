"""What others do with the shapes of a published model, for `gpu.py`: torch in bf16, and low-bit kernels that import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPES = {"370M": (24, 1024, 2816), "1.3B": (24, 2048, 5632), "2.7B": (32, 2560, 6912)}
"""Layers, hidden columns, columns of the MLP."""
VOCABULARY = 32000
COMPILED = ("2.7B",)
"""`torch.compile` takes a minute, so it is tried on one size."""

Timer = Callable[[Callable[[], object]], float]


class Layer(nn.Module):
    """The same products as a MatMul-free layer's, dense, and about as much between them."""

    def __init__(self, hidden: int, mlp: int) -> None:
        super().__init__()
        self.mixed = nn.Linear(hidden, 3 * hidden, bias=False)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.gate = nn.Linear(hidden, 2 * mlp, bias=False)
        self.down = nn.Linear(mlp, hidden, bias=False)
        self.norms = nn.ParameterList([torch.ones(hidden) for _ in range(3)])

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """One token of every text: `[B, H]`."""
        i, f, g = self.mixed(self.norm(x, 0)).chunk(3, -1)
        forget = torch.sigmoid(f)
        state.copy_(forget * state + F.silu(i) * (1 - forget))
        x = x + self.out(F.rms_norm(g, g.shape[-1:], self.norms[1]) * F.silu(state))
        gate, up = self.gate(self.norm(x, 2)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)

    def norm(self, x: Tensor, n: int) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.norms[n])


class Model(nn.Module):
    def __init__(self, layers: int, hidden: int, mlp: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, hidden)
        self.layers = nn.ModuleList(Layer(hidden, mlp) for _ in range(layers))
        self.head = nn.Linear(hidden, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor, states: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer, state in zip(self.layers, states, strict=True):
            x = layer(x, state)
        return self.head(x)


def graph_of(call: Callable[[], object]) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph


@torch.inference_mode()
def peers_of(size: str, texts: Sequence[int], prompt: int, seconds: Timer) -> dict[str, Any]:
    layers, hidden, mlp = SHAPES[size]
    torch.set_default_device("cuda")
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = Model(layers, hidden, mlp).eval()
        results: dict[str, Any] = {
            "bf16": {
                "weights_bytes": sum(each.numel() * each.element_size() for each in model.parameters()),
                "decode": {n: decode_seconds(model, layers, hidden, n, seconds) for n in texts},
                "prompt_seconds": prompt_seconds(model, hidden, mlp, layers, prompt, seconds),
            },
            **{name: "imports" if find_spec(name) else "does not import" for name in ("gemlite", "bitblas")},
        }
        if size in COMPILED:
            try:
                compiled: Any = torch.compile(model, mode="max-autotune-no-cudagraphs")
                results["torch.compile"] = decode_seconds(compiled, layers, hidden, 1, seconds)
            except Exception as error:  # a peer that fails is a result
                results["torch.compile"] = f"{type(error).__name__}: {str(error)[:200]}"
        if results["gemlite"] == "imports":
            results["gemlite"] = gemlite_seconds(hidden, mlp, seconds)
        return results
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


def decode_seconds(model: nn.Module, layers: int, hidden: int, texts: int, seconds: Timer) -> float:
    tokens = torch.zeros(texts, dtype=torch.int64)
    states = torch.zeros(layers, texts, hidden)
    return seconds(graph_of(lambda: model(tokens, states)).replay)


def prompt_seconds(model: Model, hidden: int, mlp: int, layers: int, tokens: int, seconds: Timer) -> float:
    """The products alone: a recurrence in torch's operations would say nothing of torch."""
    x, y = torch.randn(tokens, hidden), torch.randn(tokens, mlp)
    layer = model.layers[0]
    assert isinstance(layer, Layer)
    one = seconds(lambda: (layer.mixed(x), layer.out(x), layer.gate(x), layer.down(y)))
    return layers * one + seconds(lambda: model.head(x))


def gemlite_seconds(hidden: int, mlp: int, seconds: Timer) -> Any:
    """One row by `[2 mlp, hidden]` weights of 2 bits, float16 activations."""
    try:
        import gemlite

        linear = gemlite.GemLiteLinear(
            2,
            group_size=hidden,
            in_features=hidden,
            out_features=2 * mlp,
            input_dtype=gemlite.DType.FP16,
            output_dtype=gemlite.DType.FP16,
        )
        weights = torch.randint(0, 3, (2 * mlp, hidden), dtype=torch.uint8)
        scales = torch.ones(2 * mlp, 1, dtype=torch.float16)
        linear.pack(weights, scales, torch.ones_like(scales), None)
        x = torch.randn(1, hidden, dtype=torch.float16)
        return seconds(graph_of(lambda: linear(x)).replay)
    except Exception as error:  # a peer that fails is a result
        return f"{type(error).__name__}: {str(error)[:200]}"
