"""BitNet b1.58 transformers: configurations, checkpoints right and wrong, and what the importer makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from xdsl.dialects.builtin import ArrayAttr

from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import run
from sterna.dialects.ternary import AccumulateOp, LoadOp
from sterna.dialects.weight_ops import FLOAT_LAYERS
from sterna.frontends.checkpoint import CheckpointFrontend, import_bitnet
from sterna.frontends.errors import CheckpointError, ConfigError, FrontendError
from sterna.frontends.huggingface import Checkpoint
from sterna.frontends.models.bitnet import BitNetForCausalLM, PackedBitLinear, load_model
from sterna.frontends.models.bitnet_config import BitNetConfig
from sterna.frontends.models.hgrn_bit import load_model as load_matmulfree
from sterna.lowering import lower
from sterna.passes.linear_layers import linear_layers
from sterna.plugins import find_target
from tests.bitnet_checkpoints import ALL, ONLINE, PACKED, pack, random_tensors, write_bitnet

CONTEXT = 24


@pytest.mark.parametrize("config", ALL.values(), ids=ALL)
def test_the_module_has_the_tensors_that_the_configuration_calls_for(config: BitNetConfig) -> None:
    model = BitNetForCausalLM(config, CONTEXT)
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == config.tensor_shapes()
    assert BitNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_published_configuration_is_read() -> None:
    """As huggingface.co/microsoft/bitnet-b1.58-2B-4T has it, by its model card and the technical report."""
    quantization = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}
    values: dict[str, Any] = {
        "model_type": "bitnet",
        "architectures": ["BitNetForCausalLM"],
        "hidden_act": "relu2",
        "hidden_size": 2560,
        "intermediate_size": 6912,
        "max_position_embeddings": 4096,
        "num_attention_heads": 20,
        "num_hidden_layers": 30,
        "num_key_value_heads": 5,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vocab_size": 128256,
        "quantization_config": quantization,
    }
    config = BitNetConfig.from_dict(values)
    shapes = config.tensor_shapes()
    assert shapes["model.layers.29.self_attn.k_proj.weight"] == (160, 2560)
    assert shapes["model.layers.0.mlp.down_proj.weight_scale"] == (1,)
    assert config.head_size == 128 and "lm_head.weight" not in shapes
    newer = {name: value for name, value in values.items() if name != "rope_theta"}
    newer["rope_parameters"] = {"rope_theta": 500000.0, "rope_type": "default"}
    assert BitNetConfig.from_dict(newer) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"num_key_value_heads": 3}, "num_key_value_heads': expected a divisor of 4"),
        ({"head_dim": 7}, "head_dim': expected an even number"),
        ({"head_dim": 16}, "head_dim': expected hidden_size / num_attention_heads"),
        ({"intermediate_size": 42}, "intermediate_size': expected weights of a multiple of 4 rows"),
        ({"hidden_act": "silu"}, "hidden_act': expected 'relu2'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_theta": 0}, "rope_theta"),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2}},
            "rope_scaling': expected the rope_type 'default'",
        ),
        ({"eos_token_id": [1, 99]}, "eos_token_id': expected an integer from 0 to 63"),
        ({"quantization_config": None}, "quantization_config': expected an object"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quant_method': expected 'bitnet'"),
        ({"quantization_config": {"quant_method": "bitnet", "use_rms_norm": True}}, "use_rms_norm"),
        (
            {"quantization_config": {"quant_method": "bitnet", "quantization_mode": "online"}},
            "linear_class': expected 'autobitlinear'",
        ),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_the_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BitNetConfig.from_dict(PACKED.to_dict() | change)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_packed_rows_are_a_quarter_of_the_weight_apart() -> None:
    """The example of the packing's documentation in transformers: integrations/bitnet.py."""
    trits = np.array([[0, -1], [-1, 1], [-1, 1], [-1, 1], [1, 0], [0, -1], [1, -1], [1, -1]])
    assert pack(trits).tolist() == [[0b10100001, 0b00011000], [0b10010000, 0b00001010]]
    layer = PackedBitLinear(2, 8, PACKED)
    layer.weight = torch.tensor(pack(trits))
    assert torch.equal(layer(torch.eye(2) * 127).T, torch.tensor(trits * 127).float())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.layers.0.mlp.up_proj.weight", np.zeros((40, 32), np.float16), "expected shape [10, 32]"),
        ("model.layers.0.mlp.up_proj.weight", np.zeros((10, 32), np.float16), "expected dtype U8, found F16"),
        ("model.layers.1.self_attn.k_proj.weight_scale", None, "is missing, expected [1]"),
        ("model.norm.weight", np.zeros(32, np.uint8), "expected dtype F16, BF16, F32, found U8"),
    ],
)
def test_a_wrong_tensor_is_one_line_that_names_it(
    tmp_path: Path, name: str, value: Any, message: str
) -> None:
    tensors = random_tensors(PACKED) | ({} if value is None else {name: value})
    if value is None:
        del tensors[name]
    with pytest.raises(CheckpointError) as caught:
        Checkpoint(write_bitnet(tmp_path, PACKED, tensors))
    assert name in str(caught.value) and message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_field_that_is_no_trit_is_an_error(tmp_path: Path) -> None:
    tensors = random_tensors(PACKED)
    tensors["model.layers.1.mlp.down_proj.weight"][0, 0] |= 3
    imported = CheckpointFrontend().load(write_bitnet(tmp_path, PACKED, tensors), context=CONTEXT)
    with pytest.raises(CompileError, match=r"down_proj.*not ternary.*2 distinct magnitudes"):
        lower(imported.module, imported.weights, find_target("cpu"))


def test_models_are_not_taken_for_one_another(tmp_path: Path) -> None:
    path = write_bitnet(tmp_path, PACKED)
    with pytest.raises(CheckpointError, match="expected a MatMul-free LM, found model_type 'bitnet'"):
        load_matmulfree(path)
    matmulfree = Path(__file__).parents[2] / "examples" / "checkpoints" / "matmulfree-shakespeare"
    with pytest.raises(CheckpointError, match="expected a BitNet transformer"):
        load_model(matmulfree)
    with pytest.raises(FrontendError, match="its state has one size for any text"):
        CheckpointFrontend().load(matmulfree, context=8)


@pytest.mark.slow
def test_a_context_is_the_models_own_but_no_longer_than_4096() -> None:
    assert "capacity = 48 " in str(import_bitnet(PACKED))
    long = BitNetConfig.from_dict(PACKED.to_dict() | {"max_position_embeddings": 1 << 17})
    assert "capacity = 4096 " in str(import_bitnet(long))
    assert "capacity = 100000 " in str(import_bitnet(long, 100000))
    with pytest.raises(FrontendError, match="context: expected 2 to"):
        import_bitnet(long, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_import_and_planned_program_agree_with_torch(name: str, tmp_path: Path) -> None:
    config = ALL[name]
    path = write_bitnet(tmp_path, config)
    imported = CheckpointFrontend().load(path, context=CONTEXT)
    reference = load_model(path, CONTEXT)
    tokens = torch.arange(17) * 11 % config.vocab_size
    with torch.no_grad():
        expected, position, *caches = reference(tokens[None], *reference.initial_states())
        # In torch itself: a token at a time, and all at once.
        states = reference.initial_states()
        for token in tokens:
            one, *states = reference(token[None, None], *states)
    torch.testing.assert_close(one[0, 0], expected[0, -1], rtol=0.05, atol=0.05 * float(expected.abs().max()))
    assert int(position) == 17 and caches[0].shape == (1, CONTEXT, config.kv_size)

    given = [np.array(0), *[np.zeros((CONTEXT, config.kv_size), np.float32)] * (2 * config.num_hidden_layers)]
    plain = run(imported.module.clone(), [tokens.numpy(), *given], weights=imported.weights)
    lower(imported.module, imported.weights, find_target("cpu"))
    planned = run(imported.module, [tokens.numpy(), *given], weights=imported.weights)
    scale = float(expected.abs().max())
    for found in (plain, planned):
        np.testing.assert_allclose(found[0], expected[0].numpy(), atol=0.05 * scale)
        assert int(found[1]) == 17
        assert np.abs(found[2][:17] - caches[0][0, :17].numpy()).max() < 0.05 * np.abs(found[2]).max()
    assert np.median(np.abs(planned[0] - expected[0].numpy())) < 1e-3 * scale


@pytest.mark.slow
def test_every_layer_is_ternary_but_the_head(tmp_path: Path) -> None:
    path = write_bitnet(tmp_path, ALL["tied"])
    imported = CheckpointFrontend().load(path, context=CONTEXT)
    lower(imported.module.clone(), imported.weights, find_target("cpu"))
    module = imported.module
    del module.attributes[FLOAT_LAYERS]
    with pytest.raises(CompileError, match=r"1 linear layer is not ternary: .*embed_tokens"):
        lower(module.clone(), imported.weights, find_target("cpu"))
    module.attributes[FLOAT_LAYERS] = ArrayAttr([])
    with pytest.raises(CompileError, match=r"1 linear layer is not ternary"):
        lower(module, imported.weights, find_target("cpu"))


@pytest.mark.slow
def test_a_tied_head_is_the_embedding(tmp_path: Path) -> None:
    imported = CheckpointFrontend().load(write_bitnet(tmp_path, ALL["tied"]), context=CONTEXT)
    module = imported.module
    assert [str(layer) for layer in linear_layers(module)][-1].startswith("model.embed_tokens: 64x32 float")
    lower(module, imported.weights, find_target("cpu"))
    loads = [op for op in module.walk() if isinstance(op, LoadOp) and "embed" in op.weight.string_value()]
    assert {op.weight.string_value() for op in loads} == {"model.embed_tokens.weight"}
    assert not any(isinstance(op, AccumulateOp) for op in module.walk())  # all are in projections


@pytest.mark.slow
def test_the_fpga_says_that_it_has_no_attention(tmp_path: Path) -> None:
    imported = CheckpointFrontend().load(write_bitnet(tmp_path, ONLINE), context=CONTEXT)
    with pytest.raises(CompileError) as caught:
        lower(imported.module, imported.weights, find_target("verilog"))
    assert "ternary.positions" in str(caught.value) and "\n" not in str(caught.value)
