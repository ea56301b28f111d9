"""What others do with the shapes of a published model, for `gpu.py`: torch in bf16, and low-bit kernels that import."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Timer = Callable[[Callable[[], object]], float]
Put = Callable[..., None]


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
    def __init__(self, layers: int, hidden: int, mlp: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.layers = nn.ModuleList(Layer(hidden, mlp) for _ in range(layers))
        self.head = nn.Linear(hidden, vocabulary, bias=False)

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
def measure_peers(shape: dict[str, int], plan: dict[str, Any], device: Any, seconds: Timer, put: Put) -> None:
    """What is surest first: whatever fails after it, or takes too long, leaves it there."""
    torch.set_default_device(device)
    torch.set_default_dtype(torch.bfloat16)
    model = Model(**shape).eval()
    put(sum(each.numel() * each.element_size() for each in model.parameters()), "bf16", "weights_bytes")
    for texts in plan["texts"]:
        put(decode_seconds(model, shape, texts, seconds), "bf16", "decode", str(texts))
    put(prompt_seconds(model, shape, plan["prompt"], seconds), "bf16", "prompt_seconds")
    half = model.half()
    torch.set_default_dtype(torch.float16)
    put(attempt(lambda: decode_seconds(half, shape, 1, seconds)), "fp16, 1 text")
    for name, measure in (("gemlite", gemlite_seconds), ("bitblas", bitblas_seconds)):
        put(attempt(lambda measure=measure: measure(shape, seconds)) if find_spec(name) else "not here", name)
    torch.set_default_dtype(torch.bfloat16)
    compiled: Any = torch.compile(model.bfloat16(), dynamic=False)
    put(attempt(lambda: decode_seconds(compiled, shape, 1, seconds)), "torch.compile, 1 text")


def attempt(measure: Callable[[], Any]) -> Any:
    """A peer that fails is a result."""
    try:
        return measure()
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"


def decode_seconds(model: nn.Module, shape: dict[str, int], texts: int, seconds: Timer) -> float:
    tokens = torch.zeros(texts, dtype=torch.int64)
    states = torch.zeros(shape["layers"], texts, shape["hidden"])
    return seconds(graph_of(lambda: model(tokens, states)).replay)


def prompt_seconds(model: Model, shape: dict[str, int], tokens: int, seconds: Timer) -> float:
    """The products alone: a recurrence in torch's operations would say nothing of torch."""
    x, y = torch.randn(tokens, shape["hidden"]), torch.randn(tokens, shape["mlp"])
    layer = model.layers[0]
    assert isinstance(layer, Layer)
    one = seconds(lambda: (layer.mixed(x), layer.out(x), layer.gate(x), layer.down(y)))
    return shape["layers"] * one + seconds(lambda: model.head(x))


def gemlite_seconds(shape: dict[str, int], seconds: Timer) -> float:
    """One row by `[2 mlp, hidden]` weights of 2 bits, float16 activations."""
    import gemlite  # pyright: ignore[reportMissingImports]

    hidden, columns = shape["hidden"], 2 * shape["mlp"]
    linear = gemlite.GemLiteLinear(
        2,
        group_size=hidden,
        in_features=hidden,
        out_features=columns,
        input_dtype=gemlite.DType.FP16,
        output_dtype=gemlite.DType.FP16,
    )
    weights = torch.randint(0, 3, (columns, hidden), dtype=torch.uint8)
    scales = torch.ones(columns, 1, dtype=torch.float16)
    linear.pack(weights, scales, 1, None)  # of a channel one scale, and a zero of 1
    x = torch.randn(1, hidden, dtype=torch.float16)
    return seconds(graph_of(lambda: linear(x)).replay)


def bitblas_seconds(shape: dict[str, int], seconds: Timer) -> float:
    """One row of int8 by `[2 mlp, hidden]` weights of 2 bits, into int32."""
    import bitblas  # pyright: ignore[reportMissingImports]

    hidden, columns = shape["hidden"], 2 * shape["mlp"]
    config = bitblas.MatmulConfig(
        M=1, N=columns, K=hidden, A_dtype="int8", W_dtype="int2", accum_dtype="int32", out_dtype="int32"
    )
    product = bitblas.Matmul(config=config)
    weights = product.transform_weight(torch.randint(-1, 2, (columns, hidden), dtype=torch.int8))
    x = torch.randint(-128, 128, (1, hidden), dtype=torch.int8)
    return seconds(graph_of(lambda: product(x, weights)).replay)
