"""MatMul-free LM through the torch frontend: what torch computes, raised without a product left, token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sterna
from sterna.dialects.context import make_context
from sterna.dialects.interpreter import run
from sterna.dialects.ternary import AccumulateOp, LoadOp, WeightOp
from sterna.frontends import Imported
from sterna.frontends.checkpoint import CheckpointFrontend, import_hgrn_bit
from sterna.frontends.errors import FrontendError
from sterna.frontends.models.hgrn_bit import HGRNBitForCausalLM
from sterna.frontends.models.hgrn_bit_config import HGRNBitConfig
from sterna.passes.fold_weights import FoldWeightsPass
from sterna.passes.raise_bit_linear import RaiseBitLinearPass
from tests.torch_modules import entry, load

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


SHORT = HGRNBitConfig(
    vocab_size=24, hidden_size=16, num_hidden_layers=1, intermediate_size=20, use_short_conv=True, conv_size=4
)


def test_short_convolutions_agree_with_torch_token_by_token() -> None:
    torch.manual_seed(7)
    model = HGRNBitForCausalLM(SHORT).eval()
    examples = (torch.zeros(1, 3, dtype=torch.int64), *model.initial_states())
    imported = load(model, *examples, dynamic_rows={"tokens": 1}, states=len(examples) - 1)
    tokens = torch.randint(0, 24, (1, 7))
    with torch.no_grad():
        logits, *after = model(tokens, *examples[1:])
    states = [state[0].numpy() for state in examples[1:]]
    rows: list[np.ndarray[Any, Any]] = []
    for piece in (tokens[0, :1], tokens[0, 1:3], tokens[0, 3:]):
        row, *states = run(imported.module, [piece.numpy(), *states], weights=imported.weights)
        rows.append(row)
    np.testing.assert_allclose(np.concatenate(rows), logits[0].numpy(), rtol=1e-4, atol=1e-5)
    for found, expected in zip(states, after, strict=True):
        np.testing.assert_allclose(found, expected[0].numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_long_prompt_of_short_convolutions_runs_in_pieces() -> None:
    """Slow: kernels for every instruction set."""
    torch.manual_seed(7)
    model = HGRNBitForCausalLM(SHORT).eval()
    examples = (torch.zeros(1, 3, dtype=torch.int64), *model.initial_states())
    options = {"dynamic_rows": {"tokens": 1}, "states": len(examples) - 1}
    compiled = sterna.compile(model, example_inputs=examples, max_rows=8, **options)
    tokens = torch.randint(0, 24, (1, 21))
    with torch.no_grad():
        logits = model(tokens, *examples[1:])[0]
    np.testing.assert_allclose(compiled.logits(tokens[0].tolist()), logits[0].numpy(), rtol=1e-4, atol=1e-5)
