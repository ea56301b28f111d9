"""Networks that nobody here wrote: what ordinary PyTorch code uses, imported and run, computes what torch computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.torch_modules import Call, agrees


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


X = random(3, 6)
IMAGE = random(2, 4, 7, 6)
TABLE = random(5, 6)
INDICES = torch.tensor([[0, 4], [-1, 2], [3, 3]])

FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "logarithms": lambda x: (
        x.abs().log(),
        x.exp().log1p(),
        (x.abs() + 1).log2(),
        (x * 1e-4).log1p(),
        x.expm1(),
    ),
    "waves": lambda x: (x.sin(), x.cos(), (x / 8).tan(), x.tanh(), x.erf(), x.sinh(), x.cosh()),
    "powers": lambda x: (x.abs() ** 1.7, x.abs().pow(x), 2.0**x, x.exp2()),
    "activations": lambda x: (
        F.gelu(x),
        F.gelu(x, approximate="tanh"),
        F.elu(x),
        F.celu(x),
        F.selu(x),
        F.leaky_relu(x),
        F.softplus(x),
        F.mish(x),
        F.hardswish(x),
        F.hardsigmoid(x),
        F.relu6(x),
        F.logsigmoid(x),
        F.softsign(x),
        F.glu(x),
        F.tanhshrink(x),
        F.threshold(x, 0.1, 2.0),
        F.hardshrink(x),
        F.prelu(x, torch.tensor([0.25])),
    ),
    "predicates": lambda x: (
        (x > 0) | (x < -1),
        (x > 0) ^ (x < 1),
        ~(x > 0),
        torch.logical_not(x.round()),
        (x.log()).isnan(),
        (x > 5).any(),
        (x > -9).all(),
        (x > 0).any(1),
        (x > 0).all(0),
        (1 / x.clamp(min=0)).isinf(),
        x.masked_fill(x > 0, -1.0),
        torch.nan_to_num(x.log()),
    ),
    "remainders": lambda x: (x % 0.75, torch.fmod(x, 0.75), x // 0.5, torch.remainder(x, -0.5)),
    "statistics": lambda x: (
        x.var(),
        x.std(0),
        x.var(1, correction=0),
        *torch.var_mean(x, 1),
        x.prod(),
        x.prod(1),
        x.logsumexp(1),
        x.norm(dim=1),
        F.normalize(x, dim=1),
        F.cosine_similarity(x, x.flip(0)),
    ),
    "argmax": lambda x: (
        x.argmax(),
        x.argmax(1),
        x.argmin(0, keepdim=True),
        *x.max(1),
        *x.min(0),
        x[:1].argmax(0),
    ),
    "top": lambda x: (
        *x.topk(2),
        *x.topk(1, 0),
        *x.topk(3, largest=False),
        *x.sort(descending=True),
        *x.sort(0),
    ),
    "integer sums": lambda x: (
        x.round().int().cumsum(1),
        (x > 0).cumsum(0),
        (x > 0).sum(),
        (x > 0).float().mean(),
    ),
    "softmaxes": lambda x: (F.log_softmax(x, 1), F.softmin(x, 0), torch.log_softmax(x[None], 0)),
}

INDEXING: dict[str, Callable[[Tensor], Any]] = {
    "selections": lambda x: (
        x[INDICES[:, 0] % 3],
        x[:, INDICES[0]],
        x[INDICES[:, 0] % 3, INDICES[:, 1]],
        x[[2, 0]],
    ),
    "index_select": lambda x: (
        torch.index_select(x, 1, torch.tensor([5, 0])),
        x[None].index_select(0, torch.tensor([0, 0])),
    ),
    "gather": lambda x: (x.gather(1, INDICES % 6), x.gather(0, INDICES.abs()[:, :1].expand(3, 6) % 3)),
    "embeddings": lambda x: (F.embedding(INDICES % 3, x), F.embedding(INDICES % 5, TABLE)),
    "masks": lambda x: (x.tril(), x.triu(1), torch.ones(4, 4).tril(-1) * 2, torch.triu(torch.ones(3, 5), 2)),
    "ranges": lambda x: (
        torch.arange(2, 8) * x,
        torch.arange(0, 3, 0.5) + x,
        torch.arange(6, 0, -1) * x,
        torch.linspace(0, 1, 6) * x,
    ),
    "copies": lambda x: (
        x.repeat(2, 3),
        x.repeat(2, 1, 1),
        x[0].repeat(3),
        x.repeat_interleave(2, 1),
        x.tile(2),
        x.flip(0, 1),
        x.roll(1, 1),
    ),
    "pads": lambda x: (
        F.pad(x, (1, 2)),
        F.pad(x, (0, 0, 2, 1), value=3.0),
        F.pad(x, (-1, 2)),
        F.pad(x[None], (1, 1), mode="reflect"),
    ),
    "squares": lambda x: (
        x.unfold(1, 2, 2),
        x[:, None, :, None].squeeze(),
        x.movedim(0, 1),
        x.reshape(3, 2, 3).swapaxes(0, 2),
    ),
}

PRODUCTS: dict[str, Callable[[Tensor], Any]] = {
    "batched": lambda x: (
        torch.bmm(x.expand(2, 3, 6), x.t().expand(2, 6, 3)),
        x.expand(2, 2, 3, 6) @ x.t(),
        x[None] @ x.t().expand(2, 6, 3),
        torch.baddbmm(x[:, :3].expand(2, 3, 3), x.expand(2, 3, 6), x.t().expand(2, 6, 3), alpha=0.5),
    ),
    "vectors": lambda x: (
        x @ x[0],
        x[0] @ x.t(),
        x[0] @ x[1],
        torch.outer(x[0], x[1]),
        x.mv(x[0]),
        x.expand(2, 3, 6) @ x[0],
    ),
    "sums of products": lambda x: (
        torch.einsum("ij,kj->ik", x, x),
        torch.einsum("bij,bkj->bik", x[None], x[None]),
        torch.einsum("ij->j", x),
        torch.einsum("bhd,bkd->bhk", x.reshape(3, 2, 3), x.reshape(3, 2, 3)),
    ),
    "scaled": lambda x: (
        torch.addmm(x[:, :3], x, x.t(), beta=2, alpha=0.5),
        x.int() @ x.int().t(),
        x[:, :1] @ x[:1],
    ),
    "attention": lambda x: (
        _attend(x),
        _attend(x, is_causal=True),
        _attend(x, attn_mask=torch.ones(3, 3).tril() > 0),
        _attend(x, scale=0.3),
        _attend(x, attn_mask=x[:, :3]),
    ),
    "grouped attention": lambda x: F.scaled_dot_product_attention(
        x.expand(1, 4, 3, 6), x.expand(1, 2, 3, 6) * 2, x.expand(1, 2, 3, 6), enable_gqa=True
    ),
}


def _attend(x: Tensor, **options: Any) -> Tensor:
    query, key, value = (x * n + x.roll(n, 1) for n in (1, 2, 3))
    return F.scaled_dot_product_attention(
        query.expand(1, 2, 3, 6), key.expand(1, 2, 3, 6), value.expand(1, 2, 3, 6), **options
    )


W = random(6, 4, 3, 3)
LINE = random(6, 4, 3)
CHANNELS = random(8)
SPREAD = random(4).abs() + 0.1

IMAGES: dict[str, Callable[[Tensor], Any]] = {
    "convolutions": lambda x: (
        F.conv2d(x, W),
        F.conv2d(x, W, CHANNELS[:6], padding=1, stride=2),
        F.conv2d(x, W, dilation=2),
    ),
    "groups": lambda x: (
        F.conv2d(x, W[:, :2], groups=2),
        F.conv2d(x, W[:4, :1], groups=4, padding=(1, 0)),
        F.conv2d(x, W[[0, 1, 2, 3, 0, 1, 2, 3], :1], groups=4),
    ),
    "points": lambda x: (
        F.conv2d(x, W[:, :, :1, :1]),
        F.conv2d(x[:1], W[:1], padding=1),
        F.conv2d(x[:, :1], W[:, :1], padding="same"),
    ),
    "lines": lambda x: (
        F.conv1d(x[:, :, 0], LINE),
        F.conv1d(x[:, :, 0], LINE, padding=2, dilation=2),
        F.conv1d(x[:, :, :1, 0], LINE, padding=1),
    ),
    "pools": lambda x: (
        F.max_pool2d(x, 2),
        F.max_pool2d(x, 3, 2, padding=1),
        F.max_pool2d(x, 2, ceil_mode=True),
        F.max_pool1d(x[0], 2),
        F.avg_pool2d(x, 2),
        F.avg_pool2d(x, 3, 1, padding=1),
        F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False),
        F.avg_pool1d(x[0], 2),
        F.adaptive_avg_pool2d(x, 1),
        F.adaptive_avg_pool2d(x[:, :, :6], (3, 2)),
        F.adaptive_max_pool2d(x, 1),
    ),
    "norms": lambda x: (
        F.batch_norm(x, CHANNELS[:4], SPREAD, CHANNELS[:4], CHANNELS[:4]),
        F.group_norm(x, 2),
        F.group_norm(x, 2, CHANNELS[:4], CHANNELS[:4]),
        F.instance_norm(x),
        F.layer_norm(x, (7, 6)),
        F.batch_norm(x, CHANNELS[:4], SPREAD),
    ),
    "resampling": lambda x: (
        F.interpolate(x, scale_factor=2),
        F.pixel_shuffle(x, 2),
        F.pixel_unshuffle(x[:, :, :6], 2),
        F.pad(x, (1, 1, 1, 1), mode="replicate"),
    ),
}


@pytest.mark.parametrize("name", [*FUNCTIONS, *INDEXING, *PRODUCTS])
def test_ops_on_matrices_agree_with_torch(name: str) -> None:
    agrees(Call({**FUNCTIONS, **INDEXING, **PRODUCTS}[name]), X)


@pytest.mark.parametrize("name", IMAGES)
def test_ops_on_images_agree_with_torch(name: str) -> None:
    agrees(Call(IMAGES[name]), IMAGE)
