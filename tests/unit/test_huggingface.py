"""Checkpoint directories as hostile input: what is right is read exactly, what is wrong gives one clear line."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sterna.frontends.errors import CheckpointError
from sterna.frontends.huggingface import Checkpoint, SafetensorsFile, load_checkpoint_config
from sterna.frontends.models.hgrn_bit_config import HGRNBitConfig

TINY = HGRNBitConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, intermediate_size=8)
Tensors = dict[str, tuple[str, np.ndarray]]


def safetensors(tensors: Tensors) -> bytes:
    header: dict[str, Any] = {}
    data = b""
    for name, (dtype, values) in tensors.items():
        offsets = [len(data), len(data) + values.nbytes]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": offsets}
        data += values.tobytes()
    return with_header(header, data)


def with_header(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tiny_tensors(config: HGRNBitConfig = TINY) -> Tensors:
    generator = np.random.default_rng(0)
    return {
        name: ("F16", generator.standard_normal(shape).astype(np.float16))
        for name, shape in config.tensor_shapes().items()
    }


def write_config(directory: Path, config: HGRNBitConfig = TINY) -> None:
    (directory / "config.json").write_text(json.dumps(config.to_dict()))


def write_checkpoint(directory: Path, tensors: Tensors) -> Path:
    write_config(directory)
    (directory / "model.safetensors").write_bytes(safetensors(tensors))
    return directory


def message_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    checkpoint = Checkpoint(write_checkpoint(tmp_path, tensors))
    assert checkpoint.config == TINY
    assert set(checkpoint.names()) == set(tensors)
    assert checkpoint.unused == ()
    for name, (_, values) in tensors.items():
        assert checkpoint.shape(name) == values.shape
        np.testing.assert_array_equal(checkpoint.read(name), values)
        assert checkpoint.read(name).dtype == np.float16


def test_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    floats = np.array([1.0, -2.5, 3e38, 1e-40, 0.0, np.inf], np.float32)
    bits = (floats.view(np.uint32) >> 16).astype(np.uint16)
    (tmp_path / "a.safetensors").write_bytes(safetensors({"x": ("BF16", bits)}))
    read = SafetensorsFile(tmp_path / "a.safetensors").read("x")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read.view(np.uint32), bits.astype(np.uint32) << 16)


def test_empty_and_scalar_tensors(tmp_path: Path) -> None:
    tensors = {"none": ("F32", np.zeros((0, 3), np.float32)), "one": ("I64", np.array(7))}
    (tmp_path / "a.safetensors").write_bytes(safetensors(tensors))
    file = SafetensorsFile(tmp_path / "a.safetensors")
    assert file.read("none").shape == (0, 3)
    assert file.read("one") == 7


def test_the_library_reads_the_same(tmp_path: Path) -> None:
    arrays = {name: values for name, (_, values) in tiny_tensors().items()}
    save_file(arrays, tmp_path / "a.safetensors", {"format": "pt"})
    file = SafetensorsFile(tmp_path / "a.safetensors")
    assert set(file.names()) == set(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(file.read(name), values)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated: 0 bytes, and a header needs at least 8"),
        (b"\x05\0\0", "truncated: 3 bytes, and a header needs at least 8"),
        (struct.pack("<Q", 100) + b"{}", "header length 100 is beyond the file (10 bytes)"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "header length 18446744073709551615 is beyond the file"),
        (with_header(b"{", b""), "not valid JSON"),
        (with_header(b"\xff\xfe", b""), "not valid JSON"),
        (with_header(b"[" * 100_000, b""), "JSON nested too deeply"),
        (with_header(b"9" * 5000, b""), "not valid JSON"),
        (with_header([], b""), "expected a JSON object, found []"),
        (with_header(b'{"x": 1, "x": 2}', b""), "a name occurs twice"),
        (
            with_header({"x": 3}, b""),
            "tensor 'x': expected an object of dtype, shape and data_offsets, found 3",
        ),
        (with_header({"x": ENTRY | {"dtype": "F7"}}, bytes(8)), "tensor 'x': expected a dtype of BOOL"),
        (with_header({"x": ENTRY | {"dtype": []}}, bytes(8)), "tensor 'x': expected a dtype of BOOL"),
        (
            with_header({"x": ENTRY | {"shape": [-2]}}, bytes(8)),
            "tensor 'x': expected a shape of non-negative",
        ),
        (
            with_header({"x": ENTRY | {"shape": [2.0]}}, bytes(8)),
            "tensor 'x': expected a shape of non-negative",
        ),
        (with_header({"x": ENTRY | {"shape": [True, 2]}}, bytes(8)), "tensor 'x': expected a shape"),
        (with_header({"x": ENTRY | {"shape": [2**62, 2**62]}}, bytes(8)), "bytes for F32"),
        (
            with_header({"x": ENTRY | {"data_offsets": [0]}}, bytes(8)),
            "tensor 'x': expected two data_offsets",
        ),
        (with_header({"x": ENTRY | {"data_offsets": [0, 4]}}, bytes(8)), "expected 8 bytes for F32 [2]"),
        (with_header({"x": ENTRY | {"data_offsets": [8, 0]}}, bytes(8)), "expected 8 bytes for F32 [2]"),
        (with_header({"x": ENTRY}, bytes(7)), "tensor 'x': ends at byte 8 of the data, which has 7"),
        (with_header({"x": ENTRY | {"data_offsets": [8, 16]}}, bytes(16)), "expected 0: it leaves a hole"),
        (with_header({"x": ENTRY, "y": ENTRY}, bytes(8)), "it overlaps the tensor before it"),
        (with_header({"x": ENTRY}, bytes(9)), "the tensors cover 8 bytes of the data, which has 9"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    found = message_of(SafetensorsFile, path)
    assert found.startswith(f"{path}: ") and message in found


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(
        safetensors({"x": ("F16", np.ones((2, 3), np.float16)), "y": ("F32", np.ones(4, np.float32))})
    )
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.safetensors"
    path.write_bytes(
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    try:
        file = SafetensorsFile(path)
        for name in file.names():
            file.read(name)
    except CheckpointError as error:
        assert "\n" not in str(error)


def test_a_file_that_shrinks_after_opening_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors({"x": ("F32", np.ones(4, np.float32))}))
    file = SafetensorsFile(path)
    path.write_bytes(path.read_bytes()[:-4])
    assert "expected 4 elements, found 3" in message_of(file.read, "x")


def test_a_folder_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "expected a regular file" in message_of(SafetensorsFile, tmp_path)
    assert "No such file" in message_of(SafetensorsFile, tmp_path / "none")


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    del tensors["model.norm.weight"]
    assert "tensor 'model.norm.weight' is missing, expected [8]" in message_of(
        Checkpoint, write_checkpoint(tmp_path, tensors)
    )


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    tensors["lm_head.weight"] = ("F16", np.zeros((8, 16), np.float16))
    assert "tensor 'lm_head.weight': expected shape [16, 8], found [8, 16]" in message_of(
        Checkpoint, write_checkpoint(tmp_path, tensors)
    )


def test_a_tensor_of_another_type_is_named(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    tensors["lm_head.weight"] = ("I8", np.zeros((16, 8), np.int8))
    assert "tensor 'lm_head.weight': expected dtype F16, BF16, F32, found I8" in message_of(
        Checkpoint, write_checkpoint(tmp_path, tensors)
    )


def test_tensors_that_nothing_calls_for_are_listed(tmp_path: Path) -> None:
    extra = {"model.extra": ("F32", np.zeros(1, np.float32))}
    assert Checkpoint(write_checkpoint(tmp_path, tiny_tensors() | extra)).unused == ("model.extra",)


def write_shards(directory: Path) -> dict[str, str]:
    """Two shards of a checkpoint; returns their index's weight map."""
    write_config(directory)
    tensors = list(tiny_tensors().items())
    weight_map: dict[str, str] = {}
    for number, part in ((1, tensors[:5]), (2, tensors[5:])):
        shard = f"model-0000{number}-of-00002.safetensors"
        (directory / shard).write_bytes(safetensors(dict(part)))
        weight_map |= dict.fromkeys(dict(part), shard)
    return weight_map


def write_index(directory: Path, weight_map: object) -> Path:
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return directory


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    checkpoint = Checkpoint(write_index(tmp_path, write_shards(tmp_path)))
    for name, (_, values) in tiny_tensors().items():
        np.testing.assert_array_equal(checkpoint.read(name), values)


@pytest.mark.parametrize(
    "shard",
    ["../model.safetensors", "/etc/model.safetensors", "a/b.safetensors", "..", "C:\\x.safetensors",
     "model.bin", "\0.safetensors", 3, None, ["x"]],
)  # fmt: skip
def test_a_shard_elsewhere_is_refused(tmp_path: Path, shard: object) -> None:
    write_shards(tmp_path)
    assert "expected a shard named *.safetensors in the same folder" in message_of(
        Checkpoint, write_index(tmp_path, {"lm_head.weight": shard})
    )


def test_an_index_that_lies_is_refused(tmp_path: Path) -> None:
    weight_map = write_shards(tmp_path)
    first = next(iter(weight_map))
    lie = weight_map | {first: "model-00002-of-00002.safetensors"}
    assert f"tensor {first} is missing" in message_of(Checkpoint, write_index(tmp_path, lie)).replace("'", "")
    gone = weight_map | {first: "model-00003.safetensors"}
    assert "No such file" in message_of(Checkpoint, write_index(tmp_path, gone))
    assert "field 'weight_map': expected an object, found []" in message_of(
        Checkpoint, write_index(tmp_path, [])
    )


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    write_config(tmp_path)
    assert "neither model.safetensors nor" in message_of(Checkpoint, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert "pickled weights, which are never loaded" in message_of(Checkpoint, tmp_path)


def test_a_bad_config_is_named_with_its_file(tmp_path: Path) -> None:
    assert "config.json: no such file" in message_of(load_checkpoint_config, tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    assert "expected a JSON object, found [1]" in message_of(load_checkpoint_config, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "field 'model_type' is missing, expected 'hgrn_bit'" in message_of(
        load_checkpoint_config, tmp_path
    )
    (tmp_path / "config.json").write_text('{"model_type": "hgrn_bit", "hidden_size": "8"}')
    assert "config.json: config field 'hidden_size': expected an integer" in message_of(
        load_checkpoint_config, tmp_path
    )


def test_a_model_loads_with_the_stored_weights(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from sterna.frontends.models.hgrn_bit import load_model

    tensors = tiny_tensors()
    model = load_model(write_checkpoint(tmp_path, tensors))
    for name, parameter in model.state_dict().items():
        assert parameter.dtype == torch.float32
        np.testing.assert_array_equal(parameter.numpy(), tensors[name][1].astype(np.float32))
    logits, state = model(torch.tensor([[1, 2, 3]]), *model.initial_states())
    assert logits.shape == (1, 3, 16) and state.shape == (1, 8)


def test_a_convolution_absent_from_the_file_is_missed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tiny_tensors())
    write_config(tmp_path, replace(TINY, use_short_conv=True))
    assert "attn.h_conv1d.weight' is missing, expected [8, 1, 4]" in message_of(Checkpoint, tmp_path)
