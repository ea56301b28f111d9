"""`torch.compile(backend="sterna")`: what is compiled, what stays in PyTorch, weights that change, sizes, gradients."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sterna
from sterna.dynamo.backend import Backend
from tests.torch_modules import line_of


class BitLinear(nn.Linear):
    """Not the repository's: the quantization of arXiv 2402.17764 as a user writes it."""

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        scale = 127.0 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
        x = (x * scale).round().clamp(-128, 127) / scale
        step = self.weight.abs().mean().clamp(min=1e-5)
        return nn.functional.linear(x, (self.weight / step).round().clamp(-1, 1) * step)


class Net(nn.Module):
    """Two compiled parts around an op that has no kernel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = BitLinear(32, 48, bias=False)
        self.last = BitLinear(48, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(self.first(x))
        x = torch.lgamma(x.abs() + 2)
        return self.last(x) * 2


@pytest.fixture(autouse=True)
def _forget_traces() -> Generator[None]:
    reset: Any = torch._dynamo
    reset.reset()
    with torch.no_grad():
        yield
    reset.reset()


def check(found: Tensor, expected: Tensor) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_torch_finds_the_backend_by_its_name() -> None:
    assert "sterna" in torch.compiler.list_backends()
    model = nn.Sequential(BitLinear(16, 8, bias=False), nn.ReLU())
    x = torch.randn(3, 16)
    check(torch.compile(model, backend="sterna")(x), model(x))


def test_supported_parts_are_compiled_and_the_rest_runs_in_pytorch() -> None:
    model, backend, x = Net(), Backend(), torch.randn(4, 32)
    check(torch.compile(model, backend=backend)(x), model(x))
    (graph,) = backend.graphs
    assert [op.op for op in graph.left] == ["aten.lgamma.default"]
    assert [(part.refusal, part.compilations) for part in graph.parts] == [(None, 1)] * 2


def test_explain_names_the_op_that_broke_the_graph_and_its_line() -> None:
    explanation = sterna.explain(Net(), (torch.randn(4, 32),))
    assert explanation.graphs == 1 and len(explanation.compiled) == 2 and not explanation.is_whole
    (left,) = explanation.left
    assert line_of("lgamma", Net.forward) in left.place
    head, line = str(explanation).splitlines()
    assert head.startswith("1 graph traced by torch.compile; 2 subgraphs compiled, ")
    assert line.endswith("aten.lgamma.default on [4, 48]")


def test_explain_names_the_graph_breaks_of_torch_itself() -> None:
    def model(x: Tensor) -> Tensor:
        x = x * 2 + 1
        print(end="")
        return torch.relu(x)

    explanation = sterna.explain(model, (torch.randn(2, 3),))
    assert explanation.graphs == 2 and not explanation.left
    assert line_of("print", model) in explanation.graph_breaks[0].place


def test_sizes_are_static_at_first_and_dynamic_after_a_second_one() -> None:
    model, backend = nn.Sequential(BitLinear(16, 8, bias=False), nn.Tanh()), Backend()
    compiled = torch.compile(lambda x: model[0](x) * 3, backend=backend)
    for rows in (2, 5, 9, 5, 2, 65, 100):
        x = torch.randn(rows, 16)
        check(compiled(x), model[0](x) * 3)
    static, dynamic = backend.graphs
    assert [part.compilations for part in static.parts] == [1]
    # For up to 64, and for up to 128 rows.
    assert [part.compilations for part in dynamic.parts] == [2]


class Attention(nn.Module):
    """As models on the Hugging Face hub write it: a mask of the length, heads split by views."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.qkv, self.out = nn.Embedding(30, 16), BitLinear(16, 48), BitLinear(16, 16)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, length = tokens.shape
        q, k, v = self.qkv(self.embed(tokens)).view(batch, length, 3, 2, 8).permute(2, 0, 3, 1, 4)
        mask = torch.full((length, length), -1e9).triu(1)
        y = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5 + mask, -1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, length, 16))[:, -1]


def test_positions_are_numbers_and_no_graph_break() -> None:
    model = BitLinear(16, 8, bias=False)

    def function(x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], dtype=torch.float32)
        return model(x) + torch.outer(places, torch.arange(0, 8, 1).float()).sin()

    explanation = sterna.explain(function, (torch.randn(2, 5, 16),))
    assert explanation.is_whole, str(explanation)


@pytest.mark.slow  # several compilations by torch
def test_a_text_that_grows_is_not_compiled_for_each_length() -> None:
    model, backend = Attention().eval(), Backend()
    compiled = torch.compile(model, backend=backend)
    for batch, length in ((1, 3), *((1, length) for length in range(4, 12)), (2, 5), (2, 9), (3, 6), (3, 70)):
        tokens = torch.randint(0, 30, (batch, length))
        check(compiled(tokens), model(tokens))
    compilations = sum(part.compilations for graph in backend.graphs for part in graph.parts)
    assert not any(part.refusal for graph in backend.graphs for part in graph.parts)
    # (1, 3), then one text, and batches of 2, as torch finds each size to differ; batches of 3; 70 tokens.
    assert compilations == 6


def test_sizes_that_cannot_stay_open_are_numbers() -> None:
    backend = Backend()

    def function(x: Tensor) -> Tensor:
        return (
            torch.cat([x, x * 2], 0).flatten().sort().values.flip(0).relu()
            if x.shape[0] > 90
            else torch.cat([x, x]) * 2
        )

    compiled = torch.compile(function, backend=backend, dynamic=True)
    for rows in (2, 5, 9):
        x = torch.randn(rows, 4)
        check(compiled(x), function(x))
    ((part,),) = (graph.parts for graph in backend.graphs)
    assert part.refusal is None and part.compilations == 3


def test_a_weight_that_was_written_to_is_read_again() -> None:
    model, backend, x = BitLinear(16, 8, bias=False), Backend(), torch.randn(3, 16)
    compiled: Any = torch.compile(model, backend=backend)
    check(compiled(x), model(x))
    check(compiled(x), model(x))
    model.weight.mul_(-2)
    check(compiled(x), model(x))
    (graph,) = backend.graphs
    assert [part.compilations for part in graph.parts] == [2]


def test_a_gradient_is_refused_in_one_line() -> None:
    model = BitLinear(16, 8, bias=False)
    with (
        torch.enable_grad(),
        pytest.raises(Exception, match="for inference only, and a gradient is required"),
    ):
        torch.compile(model, backend="sterna")(torch.randn(3, 16))


def test_buffers_that_the_model_writes_to_are_written() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(8))

        def forward(self, x: Tensor) -> Tensor:
            self.total.add_(x.amax(0))
            return self.total * 2

    model = Counter()
    compiled: Any = torch.compile(model, backend="sterna")
    x = torch.ones(2, 8)
    assert [float(compiled(x)[0]) for _ in range(3)] == [2, 4, 6]
    assert float(model.total[0]) == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_results_have_the_dtype_that_torch_gives(dtype: torch.dtype) -> None:
    x = torch.randn(3, 8, dtype=dtype)

    def model(x: Tensor) -> Tensor:
        return (x * 2).relu() + x

    check(torch.compile(model, backend="sterna")(x), model(x))
