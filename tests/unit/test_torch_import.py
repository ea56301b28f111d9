"""Each op of a torch module, imported and run, computes what torch computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.torch_modules import Call, agrees

K = 6

X = torch.tensor(
    [[0.5, -1.5, 2.5, -0.0, 3.25, -7.0], [1e-3, 2.0, -2.5, 4.0, 0.25, 1.0], [9.0, -3.0, 0.1, 0.2, 0.3, -0.4]]
)
POSITIVE = X.abs() + 0.5
BYTES = torch.tensor([[0, 1, 27, 228, 255, 128], [3, 85, 170, 64, 7, 99]], dtype=torch.uint8)
INTEGERS = torch.tensor([[0, -1, 27, -228, 255, 128]], dtype=torch.int32)

ELEMENTWISE: dict[str, Callable[[Tensor], Any]] = {
    "arithmetic": lambda x: (x + 2 - x * 3, 1 - x, x / 4, 4 / (x.abs() + 1), -x, torch.add(x, x, alpha=2)),
    "rounding": lambda x: (x.round(), x.floor(), x.ceil(), x.trunc(), torch.sign(x)),
    "powers": lambda x: (x**2, x**3, x.square(), (x * x + 1) ** -0.5, (x * x).sqrt(), (x * x + 1) ** -1),
    "roots": lambda x: (torch.rsqrt(x.abs() + 1), torch.exp(x), torch.reciprocal(x + 0.125)),
    "activations": lambda x: (torch.sigmoid(x), F.silu(x), F.relu(x), F.relu(x).square(), F.hardtanh(x)),
    "clamps": lambda x: (
        x.clamp(-1, 1),
        x.clamp(min=0),
        x.clamp(max=0.5),
        torch.maximum(x, -x),
        x.minimum(x * x),
    ),
    "comparisons": lambda x: (
        torch.where(x > 0, x, -x),
        (x == x.round()).float(),
        torch.where(x <= 1, 1.0, x),
    ),
    "conversions": lambda x: (
        x.to(torch.int32),
        x.to(torch.int8).float(),
        x.abs().to(torch.uint8),
        x.half().float() * 0,
    ),
    "addcmul": lambda x: (torch.addcmul(x, x, x), torch.addcmul(x, x, x, value=0.5)),
    "in place": lambda x: x.clone().mul_(2).add_(1).clamp_(min=0),
}

SHAPES: dict[str, Callable[[Tensor], Any]] = {
    "views": lambda x: (
        x.view(2, 9),
        x.reshape(-1),
        x.unsqueeze(1).squeeze(),
        x.flatten(),
        x.unflatten(1, (2, 3)),
    ),
    "transposes": lambda x: (
        x.t(),
        x.transpose(0, 1),
        x[None].permute(2, 0, 1),
        x.reshape(3, 2, 3).permute(2, 0, 1),
    ),
    "slices": lambda x: (x[1], x[:, 1:4], x[-1, ::2], x[:, -2:], x[0:2, 3], x.narrow(1, 2, 3)),
    "pieces": lambda x: (*x.chunk(2, -1), *x.split([1, 5], dim=1), *x.unbind(0)),
    "joins": lambda x: (
        torch.cat([x, x * 2], 1),
        torch.stack([x, -x]),
        torch.stack([x, -x], -1),
        torch.cat([x[:1], x]),
    ),
    "broadcasts": lambda x: (
        x + x[0],
        x * x[:, :1],
        x[None] - x[:, None],
        x[0].expand(4, K),
        x[:, :1].expand(3, 5),
    ),
    "scatters": lambda x: _scattered(x),
    "creation": lambda x: (
        torch.zeros_like(x) + x,
        torch.full((2, 2), 3.0),
        torch.ones(3, 1) * x,
        torch.arange(K) + x,
    ),
}

REDUCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "sums": lambda x: (x.sum(), x.sum(0), x.sum(-1, keepdim=True), x.sum((0, 1)), x.to(torch.int32).sum(1)),
    "means": lambda x: (x.mean(), x.mean(0), x.mean(-1, keepdim=True), x[None].mean((0, 1))),
    "extremes": lambda x: (
        x.max(),
        x.amax(0),
        x.max(-1).values,
        x.amin(1, keepdim=True),
        x.min(0)[0],
        x.min(),
    ),
    "norms": lambda x: (x.norm(dim=-1), torch.linalg.vector_norm(x, float("inf"), dim=1), x.norm(p=1, dim=0)),
    "softmax": lambda x: (F.softmax(x, -1), torch.softmax(x, 0), x[None].softmax(2)),
    "cumsum": lambda x: (x.cumsum(0), x.cumsum(1), x[0].cumsum(0), x[:, None].cumsum(1), x[None].cumsum(-1)),
    "norm layers": lambda x: (
        F.layer_norm(x, (K,)),
        F.rms_norm(x, (K,)),
        F.rms_norm(x, (K,), x[0], eps=1e-3),
    ),
    "products": lambda x: (
        x @ x.t(),
        torch.mm(x, x.t()),
        F.linear(x, x),
        F.linear(x[0], x, x[:, 0]),
        x[None] @ x.t(),
    ),
    "thin products": lambda x: (F.linear(x, x[:1]), F.linear(x[:1], x), F.linear(x[:, :1], x[:, :1])),
}


def _scattered(x: Tensor) -> tuple[Tensor, ...]:
    y, z = torch.zeros(3, K), x.clone()
    y[:, 1::2] = x[:, ::2]
    z[1] = 7.0
    z[:, -1] = x[:, 0]
    return y, z


@pytest.mark.parametrize("name", [*ELEMENTWISE, *SHAPES, *REDUCTIONS])
def test_imported_ops_agree_with_torch(name: str) -> None:
    agrees(Call({**ELEMENTWISE, **SHAPES, **REDUCTIONS}[name]), X)


def _bytes(x: Tensor) -> tuple[Tensor, ...]:
    return (
        x >> 2,
        (x & 3) - 1,
        x // 3,
        x % 3,
        (x | 1) ^ 2,
        x << 1,
        x.float() - 1,
        x.to(torch.int32) * 2,
        x.clamp(3, 200),
    )


def _integers(x: Tensor) -> tuple[Tensor, ...]:
    return (
        x >> 2,
        x & 15,
        x // 3,
        x % 3,
        x.float() / 2,
        x.to(torch.int64) + 1,
        x.max(),
        ~x,
        (x != 27).to(torch.int64),
        -x * 2,
    )


@pytest.mark.parametrize(("function", "x"), [(_bytes, BYTES), (_integers, INTEGERS)])
def test_integer_ops_agree_with_torch(function: Callable[[Tensor], Any], x: Tensor) -> None:
    agrees(Call(function), x)
