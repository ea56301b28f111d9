"""Whole torch modules: weights, the size T, recurrences, places; one error says all that cannot be imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from xdsl.dialects.builtin import NameLoc

from sterna.dialects.errors import describe_location
from sterna.dialects.interpreter import run
from sterna.dialects.ternary import ScanOp, WeightOp
from sterna.frontends import Imported
from sterna.frontends.errors import FrontendError, UnsupportedOpsError
from tests.torch_modules import Call, agrees, entry, interpret, line_of, load

K = 6
X = torch.tensor(
    [[0.5, -1.5, 2.5, -0.0, 3.25, -7.0], [1e-3, 2.0, -2.5, 4.0, 0.25, 1.0], [9.0, -3.0, 0.1, 0.2, 0.3, -0.4]]
)


class Layers(nn.Module):
    """Parameters, a saved buffer, an unsaved one, a constant, half-precision numbers, and axes of size 1."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(10, K)
        self.inner = nn.Sequential(nn.Linear(K, 4), nn.SiLU(), nn.Linear(4, 1, bias=False))
        self.gain = nn.Parameter(torch.randn(1, K).half())
        self.bfloat = nn.Parameter(torch.randn(K, 1).bfloat16())
        self.register_buffer("shift", torch.randn(K))
        self.register_buffer("unsaved", torch.randn(1, 1, K), persistent=False)
        self.unused = nn.Linear(3, 3)
        self.norm = nn.LayerNorm(K)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.table(tokens)) * self.gain + self.shift + self.unsaved
        return self.inner(x), x @ self.bfloat.float() * torch.tensor(0.5) + torch.tensor([1.0, 2.0])


def test_a_module_of_layers_agrees_with_torch() -> None:
    torch.manual_seed(1)
    imported = agrees(Layers(), torch.randint(0, 10, (1, 5)))
    weights = {op.sym_name.data: op for op in imported.module.ops if isinstance(op, WeightOp)}
    assert {"table.weight", "inner.0.weight", "gain", "shift", "unsaved"} <= set(weights)
    assert not any(name.startswith("unused") for name in weights)
    assert all(imported.weights.shape(name) is not None for name in weights)
    assert imported.weights.dtype("gain") == "F16" and imported.weights.dtype("bfloat") == "BF16"


def test_rows_are_one_dynamic_size() -> None:
    torch.manual_seed(2)
    module = Layers()
    imported = load(module, torch.zeros(1, 4, dtype=torch.int64), dynamic_rows={"tokens": 1})
    function = entry(imported.module)
    assert str(function.function_type.inputs.data[0]) == "tensor<?xi64>"
    assert [str(type) for type in function.function_type.outputs] == ["tensor<?xf32>", "tensor<?x2xf32>"]
    for rows in (1, 2, 7):
        tokens = torch.randint(0, 10, (1, rows))
        for found, expected in zip(interpret_rows(imported, tokens), module(tokens), strict=True):
            np.testing.assert_allclose(found, expected.detach()[0].squeeze(-1).numpy(), rtol=1e-5, atol=1e-5)


def interpret_rows(imported: Imported, tokens: Tensor) -> tuple[np.ndarray[Any, Any], ...]:
    return run(imported.module, [tokens[0].numpy()], weights=imported.weights)


def test_the_last_row_can_be_selected_when_rows_are_dynamic() -> None:
    imported = load(Call(lambda x: x[:, -1] * 2), X[None], dynamic_shapes=(({1: torch.export.Dim.DYNAMIC},),))
    (last,) = run(imported.module, [X.numpy()], weights=imported.weights)
    np.testing.assert_array_equal(last, X[-1].numpy() * 2)


class Recurrent(nn.Module):
    """One state through torch's scan."""

    def __init__(self, step: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.step = step

    def forward(self, f: Tensor, i: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        from torch._higher_order_ops import scan

        def step(state: Tensor, gates: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            new = self.step(gates[0], state, gates[1])
            return new, new.clone()

        last, states = scan(step, state, (f.transpose(0, 1), i.transpose(0, 1)))
        return states.transpose(0, 1), last


STEPS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "f * s + i": lambda f, s, i: f * s + i,
    "i + s * f": lambda f, s, i: i + s * f,
    "addcmul": lambda f, s, i: torch.addcmul(i, f, s),
}


def recurrence_inputs(batch: int, rows: int) -> tuple[Tensor, ...]:
    torch.manual_seed(3)
    return torch.rand(batch, rows, K), torch.randn(batch, rows, K), torch.randn(batch, K)


def reference_scan(f: Tensor, i: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    states: list[Tensor] = []
    for t in range(f.shape[1]):
        state = f[:, t] * state + i[:, t]
        states.append(state)
    return torch.stack(states, 1), state


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize(("batch", "rows"), [(1, 4), (2, 3)])
def test_the_recurrence_is_one_scan(name: str, batch: int, rows: int) -> None:
    inputs = recurrence_inputs(batch, rows)
    imported = load(Recurrent(STEPS[name]), *inputs, states=1)
    assert sum(isinstance(op, ScanOp) for op in imported.module.walk()) == 1
    for found, expected in zip(interpret(imported, inputs), reference_scan(*inputs), strict=True):
        np.testing.assert_array_equal(found, expected.numpy().reshape(found.shape))


def test_another_recurrence_is_unsupported() -> None:
    with pytest.raises(UnsupportedOpsError, match="only the recurrence"):
        load(Recurrent(lambda f, s, i: f * s - i), *recurrence_inputs(1, 3))


class Waves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.atan(x)
        return torch.lgamma(y) + y


class Unsupported(nn.Module):
    """Three ops that no emitter knows, in two modules, and one whose result nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Waves()

    def forward(self, x: Tensor) -> Tensor:
        ignored = torch.erfinv(x)
        del ignored
        return self.inner(x).cummax(-1).values * 2


def test_all_unsupported_ops_are_in_one_error() -> None:
    with pytest.raises(UnsupportedOpsError) as caught:
        load(Unsupported(), X)
    head, *lines = str(caught.value).splitlines()
    assert head == "3 ops are not supported:"
    assert [line.split(": ")[-1] for line in lines] == [
        "aten.atan.default on [3, 6]",
        "aten.lgamma.default on [3, 6]",
        "aten.cummax.default on [3, 6]",
    ]
    for line, text, function in zip(
        lines,
        ("atan(", "lgamma(", "cummax("),
        (Waves.forward, Waves.forward, Unsupported.forward),
        strict=True,
    ):
        assert line_of(text, function) in line
    assert ": inner: " in lines[0] and ": inner: " not in lines[2]


class Buffered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(K))

    def forward(self, x: Tensor) -> Tensor:
        self.state.mul_(0.5).add_(x[0])
        return self.state * 2


def test_a_module_that_writes_to_a_buffer_is_told_the_way_out() -> None:
    with pytest.raises(FrontendError, match="writes to 'state': pass it as an input"):
        load(Buffered(), X)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (lambda x: x if x.sum() > 0 else -x, {}, "torch.export cannot export Call: "),
        (lambda x: x * 2, {"dynamic_rows": {"y": 0}}, "forward has no argument 'y', only inputs"),
        (lambda x: x * 2, {"states": 2}, "2 states were asked for, of 1 inputs and 1 results"),
        (lambda x: x[0], {"states": 1}, "differ in shape or dtype"),
        (lambda x: x * 2, {"input_names": ["a", "b"]}, "2 input names were given, the program has 1 inputs"),
        (lambda x: x.to(torch.complex64).real, {}, "tensors of torch.complex64"),
        (lambda x: x.double() * 2, {}, "tensors of torch.float64"),
        (lambda x: (x, 3), {}, "result number 1: expected a tensor, found 3"),
    ],
)
def test_what_cannot_be_imported_is_one_clear_error(
    function: Callable[[Tensor], Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(FrontendError) as caught:
        load(Call(function), X, **options)
    assert message in str(caught.value)


def test_every_op_knows_its_line_and_module() -> None:
    imported = load(Layers(), torch.zeros(1, 5, dtype=torch.int64))
    function = entry(imported.module)
    product = next(op for op in function.walk() if op.name == "linalg.matmul")
    assert isinstance(product.location, NameLoc) and product.location.desc.data == "inner.0"
    scaled = [op for op in function.body.block.ops if op.name == "arith.mulf"][-1]
    assert line_of("@ self.bfloat", Layers.forward) in describe_location(scaled.location)
