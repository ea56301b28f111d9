"""A torch module, imported and run, computes what torch computes; one error says all that cannot be imported."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from xdsl.dialects.builtin import ModuleOp, NameLoc
from xdsl.dialects.func import FuncOp

from sterna.dialects.context import make_context, parse
from sterna.dialects.errors import describe_location
from sterna.dialects.interpreter import run
from sterna.dialects.ternary import AccumulateOp, LoadOp, ScanOp, WeightOp
from sterna.frontends import Imported
from sterna.frontends.checkpoint import CheckpointFrontend, import_hgrn_bit
from sterna.frontends.errors import FrontendError, UnsupportedOpsError
from sterna.frontends.models.hgrn_bit import HGRNBitForCausalLM
from sterna.frontends.models.hgrn_bit_config import HGRNBitConfig
from sterna.frontends.torch_module import TorchModuleFrontend
from sterna.passes.fold_weights import FoldWeightsPass
from sterna.passes.raise_bit_linear import RaiseBitLinearPass

K = 6


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def load(module: nn.Module, *inputs: Tensor, **options: Any) -> Imported:
    return TorchModuleFrontend().load(module.eval(), inputs, **options)


def interpret(imported: Imported, inputs: Sequence[Tensor]) -> list[np.ndarray[Any, Any]]:
    """The results for inputs of the framework's shapes; the IR has no axes of size 1."""
    types = entry(imported.module).function_type.inputs
    arrays = [np.ascontiguousarray(value.numpy()) for value in inputs]
    arrays = [array.view(np.int8) if array.dtype == np.uint8 else array for array in arrays]
    shaped = [array.reshape([n for n in array.shape if n != 1]) for array in arrays]
    assert len(types) == len(shaped)
    return list(run(imported.module, shaped, weights=imported.weights))


def entry(module: ModuleOp) -> FuncOp:
    return next(op for op in module.ops if isinstance(op, FuncOp))


def agrees(module: nn.Module, *inputs: Tensor, **options: Any) -> Imported:
    """Imports, checks that the text reads back, and compares every result with torch's."""
    imported = load(module, *inputs, **options)
    imported.module.verify()
    assert str(parse(str(imported.module))) == str(imported.module)
    expected = module(*inputs)
    expected = [expected] if isinstance(expected, Tensor) else list(expected)
    for found, value in zip(interpret(imported, inputs), expected, strict=True):
        array = value.detach().numpy()
        array = array.view(np.int8) if array.dtype == np.uint8 else array
        assert found.shape == tuple(n for n in array.shape if n != 1)
        np.testing.assert_allclose(found, array.reshape(found.shape), rtol=2e-6, atol=2e-6)
    return imported


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
        y = torch.sin(x)
        return torch.erf(y) + y


class Unsupported(nn.Module):
    """Three ops that no emitter knows, in two modules, and one whose result nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Waves()

    def forward(self, x: Tensor) -> Tensor:
        ignored = torch.tan(x)
        del ignored
        return self.inner(x).sort(-1).values * 2


def line_of(text: str, function: Callable[..., Any]) -> str:
    source, first = inspect.getsourcelines(function)
    offset = next(number for number, line in enumerate(source) if text in line)
    return f"{Path(__file__).name}:{first + offset}"


def test_all_unsupported_ops_are_in_one_error() -> None:
    with pytest.raises(UnsupportedOpsError) as caught:
        load(Unsupported(), X)
    head, *lines = str(caught.value).splitlines()
    assert head == "3 ops are not supported:"
    assert [line.split(": ")[-1] for line in lines] == [
        "aten.sin.default on [3, 6]",
        "aten.erf.default on [3, 6]",
        "aten.sort.default on [3, 6]",
    ]
    for line, text, function in zip(
        lines,
        ("sin(", "erf(", "sort("),
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
        (lambda x: x.double().to(torch.complex64), {}, "tensors of torch.complex64"),
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


TINY = HGRNBitConfig(vocab_size=48, hidden_size=32, num_hidden_layers=3, intermediate_size=40)


@pytest.fixture(scope="module")
def tiny() -> tuple[HGRNBitForCausalLM, Imported]:
    torch.manual_seed(5)
    model = HGRNBitForCausalLM(TINY).eval()
    torch.nn.init.normal_(model.model.lower_bounds)
    inputs = (torch.zeros(1, 3, dtype=torch.int64), *model.initial_states())
    return model, load(model, *inputs, dynamic_rows={"tokens": 1}, states=3)


def test_a_matmulfree_lm_agrees_with_torch(tiny: tuple[HGRNBitForCausalLM, Imported]) -> None:
    model, imported = tiny
    function = entry(imported.module)
    assert str(function.attributes["sterna.input_names"]) == '["tokens", "states_0", "states_1", "states_2"]'
    shapes = ", ".join(["array<i64: 1, -1, 48>", *["array<i64: 1, 32>"] * 3])
    assert str(function.attributes["sterna.output_shapes"]) == f"[{shapes}]"
    assert str(function.attributes["sterna.states"]) == "3 : i64"
    tokens = torch.randint(0, 48, (1, 6))
    states = tuple(torch.randn(1, 32) for _ in range(3))
    with torch.no_grad():
        expected = model(tokens, *states)
    arrays = [tokens[0].numpy(), *(state[0].numpy() for state in states)]
    for found, value in zip(run(imported.module, arrays, weights=imported.weights), expected, strict=True):
        np.testing.assert_allclose(found, value[0].numpy(), rtol=1e-3, atol=1e-3 * float(value.abs().max()))


def test_a_matmulfree_lm_is_raised_without_a_matmul_left(tiny: tuple[HGRNBitForCausalLM, Imported]) -> None:
    module = tiny[1].module.clone()
    for step in (RaiseBitLinearPass(), FoldWeightsPass()):
        step.apply(make_context(tiny[1].weights), module)
    module.verify()
    text = str(entry(module))
    assert "linalg.matmul" not in text and "linalg.reduce" not in text and "math.rsqrt" not in text
    assert sum(isinstance(op, AccumulateOp) for op in module.walk()) == 6 * 3 + 1
    # Softmax and cumulative sum of the lower bounds, and 1 - bound, are weights; the first layer has none.
    loads = [op.weight.string_value() for op in entry(module).walk() if isinstance(op, LoadOp)]
    assert [name for name in loads if "lower_bounds" in name] == [
        f"model.lower_bounds.folded.{number}" for number in (1, 2, 3, 4)
    ]
    assert len(loads) == len(set(loads))


def test_folding_keeps_every_bit(tiny: tuple[HGRNBitForCausalLM, Imported]) -> None:
    module = tiny[1].module.clone()
    arrays = [np.arange(4, dtype=np.int64), *[np.ones(32, np.float32)] * 3]
    before = run(module, arrays, weights=tiny[1].weights)
    FoldWeightsPass().apply(make_context(tiny[1].weights), module)
    for found, expected in zip(run(module, arrays, weights=tiny[1].weights), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_one_token_at_a_time_is_all_tokens_at_once(tiny: tuple[HGRNBitForCausalLM, Imported]) -> None:
    module = tiny[1].module.clone()
    RaiseBitLinearPass().apply(make_context(tiny[1].weights), module)
    tokens = np.arange(5, dtype=np.int64) * 7
    states = [np.zeros(32, np.float32)] * 3
    together = run(module, [tokens, *states], weights=tiny[1].weights)
    for t, token in enumerate(tokens):
        logits, *states = run(module, [np.array([token]), *states], weights=tiny[1].weights)
        np.testing.assert_array_equal(logits[0], together[0][t])
    for alone, state in zip(states, together[1:], strict=True):
        np.testing.assert_array_equal(alone, state)


def test_import_of_a_checkpoint_reads_no_weight(tmp_path: Path) -> None:
    directory = Path(__file__).parents[2] / "examples" / "checkpoints" / "matmulfree-shakespeare"
    imported = CheckpointFrontend().load(directory)
    assert imported.config is not None and imported.config["model_type"] == "hgrn_bit"
    assert imported.tokenizer == directory / "tokenizer.json"
    for op in imported.module.ops:
        if isinstance(op, WeightOp):
            assert imported.weights.shape(op.sym_name.data) == op.type.get_shape()
    with pytest.raises(FrontendError, match=r"config\.json: no such file"):
        CheckpointFrontend().load(tmp_path)


def test_text_does_not_grow_with_the_width() -> None:
    narrow, wide = (
        str(import_hgrn_bit(HGRNBitConfig(vocab_size=32000, hidden_size=width, num_hidden_layers=1)))
        for width in (256, 2560)
    )
    assert len(wide) < len(narrow) * 1.1 < 60_000
