"""Checkpoints in Hugging Face layout: `config.json` beside one `model.safetensors`, or shards and their index.

Files are read as hostile input: whatever is wrong with one gives a `CheckpointError` of one line that names the
file and the tensor, what was expected and what was found. Only safetensors are read, never pickles. Nothing
here needs torch.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from sterna.frontends.errors import CheckpointError, ConfigError
from sterna.frontends.models.bitnet_config import BitNetConfig
from sterna.frontends.models.hgrn_bit_config import HGRNBitConfig

ModelConfig: TypeAlias = HGRNBitConfig | BitNetConfig
MODELS: dict[str, type[ModelConfig]] = {"hgrn_bit": HGRNBitConfig, "bitnet": BitNetConfig}
"""By the `model_type` of a configuration."""

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
# The safetensors library refuses longer headers too.
LARGEST_JSON = 100_000_000

# How each element type is read; bfloat16, which numpy lacks, is read as its bits and then widened.
_NUMPY_TYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "BF16": "<u2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip


@dataclass(frozen=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class SafetensorsFile:
    """The tensors of one safetensors file; opening it reads and checks the header and nothing else.

    Layout: the header's length as 8 bytes, little endian; the header, a JSON object; the tensors' bytes.
    Source: the format's description in huggingface/safetensors.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            size = self.path.stat().st_size
            if not self.path.is_file():
                raise self._error("expected a regular file")
            with self.path.open("rb") as file:
                prefix = file.read(8)
                if len(prefix) < 8:
                    raise self._error(f"truncated: {size} bytes, and a header needs at least 8")
                length = int.from_bytes(prefix, "little")
                if length > min(LARGEST_JSON, size - 8):
                    raise self._error(
                        f"header length {length} is beyond the file ({size} bytes) or {LARGEST_JSON}"
                    )
                header = file.read(length)
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error
        values = _parse_json(header, self.path)
        values.pop("__metadata__", None)
        self._data = 8 + length
        self._entries = {name: self._entry(name, value) for name, value in values.items()}
        self._check_layout(size - self._data)

    def names(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entries[name].shape

    def dtype(self, name: str) -> str:
        """The element type as the format spells it: "F16", "BF16", "F32", …"""
        return self._entries[name].dtype

    def read(self, name: str) -> NDArray[Any]:
        """The tensor, read from the file at each call; bfloat16 comes widened to float32, exactly."""
        entry = self._entries[name]
        count = math.prod(entry.shape)
        try:
            with self.path.open("rb") as file:
                file.seek(self._data + entry.start)
                values: NDArray[Any] = np.fromfile(file, _NUMPY_TYPES[entry.dtype], count)
        except OSError as error:
            raise self._error(error.strerror or str(error), name) from error
        if len(values) != count:
            raise self._error(f"expected {count} elements, found {len(values)}: the file has shrunk", name)
        if entry.dtype == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(entry.shape)

    def _error(self, message: str, tensor: str | None = None) -> CheckpointError:
        place = f"{self.path}: " if tensor is None else f"{self.path}: tensor {_shown(tensor)}: "
        return CheckpointError(place + message)

    def _entry(self, name: str, value: object) -> _Entry:
        if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
            raise self._error(
                f"expected an object of dtype, shape and data_offsets, found {_shown(cast(object, value))}",
                name,
            )
        fields = cast(dict[str, object], value)
        dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
        if not isinstance(dtype, str) or dtype not in _NUMPY_TYPES:
            raise self._error(f"expected a dtype of {', '.join(_NUMPY_TYPES)}, found {_shown(dtype)}", name)
        if not _are_sizes(shape):
            raise self._error(f"expected a shape of non-negative integers, found {_shown(shape)}", name)
        if not _are_sizes(offsets) or len(offsets) != 2:
            raise self._error(f"expected two data_offsets, found {_shown(offsets)}", name)
        size = math.prod(shape) * np.dtype(_NUMPY_TYPES[dtype]).itemsize
        if offsets[1] - offsets[0] != size:
            raise self._error(
                f"expected {_shown(size)} bytes for {dtype} {_shown(shape)}, found data_offsets {_shown(offsets)}",
                name,
            )
        return _Entry(dtype, tuple(shape), offsets[0], offsets[1])

    def _check_layout(self, size: int) -> None:
        """The tensors must tile the data: none beyond its end, no overlap, no hole."""
        reached = 0
        for name, entry in sorted(self._entries.items(), key=lambda item: (item[1].start, item[1].end)):
            if entry.end > size:
                raise self._error(f"ends at byte {_shown(entry.end)} of the data, which has {size}", name)
            if entry.start != reached:
                kind = "overlaps the tensor before it" if entry.start < reached else "leaves a hole"
                raise self._error(f"starts at byte {entry.start}, expected {reached}: it {kind}", name)
            reached = entry.end
        if reached != size:
            raise self._error(f"the tensors cover {reached} bytes of the data, which has {size}")


class Checkpoint:
    """A checkpoint's configuration and tensors, checked against each other; tensors are read one by one."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = load_checkpoint_config(self.path)
        self._files = _open_weights(self.path)
        expected = self.config.tensor_shapes()
        for name, shape in expected.items():
            if name not in self._files:
                raise CheckpointError(f"{self.path}: tensor '{name}' is missing, expected {list(shape)}")
            file = self._files[name]
            if file.shape(name) != shape:
                raise CheckpointError(
                    f"{file.path}: tensor '{name}': expected shape {list(shape)}, "
                    f"found {_shown(list(file.shape(name)))}"
                )
            dtypes = self.config.tensor_dtypes(name)
            if file.dtype(name) not in dtypes:
                raise CheckpointError(
                    f"{file.path}: tensor '{name}': expected dtype {', '.join(dtypes)}, "
                    f"found {file.dtype(name)}"
                )
        self.unused = tuple(name for name in self._files if name not in expected)
        """Tensors in the files that the configuration does not call for."""

    def names(self) -> tuple[str, ...]:
        """What the configuration calls for, in the order of the forward pass."""
        return tuple(self.config.tensor_shapes())

    def shape(self, name: str) -> tuple[int, ...]:
        return self._files[name].shape(name)

    def dtype(self, name: str) -> str:
        return self._files[name].dtype(name)

    def read(self, name: str) -> NDArray[Any]:
        """The tensor as it is stored, but bfloat16 as float32, and uint8 as the int8 of the same bits, as the IR has
        it."""
        values = self._files[name].read(name)
        return values.view(np.int8) if values.dtype == np.uint8 else values


def load_checkpoint_config(path: str | Path) -> ModelConfig:
    """Reads `config.json` of a checkpoint directory."""
    file = Path(path) / CONFIG_NAME
    values = _read_json(file)
    expected = " or ".join(map(repr, MODELS))
    if "model_type" not in values:
        raise CheckpointError(f"{file}: field 'model_type' is missing, expected {expected}")
    kind = values["model_type"]
    try:
        if not isinstance(kind, str) or kind not in MODELS:
            raise ConfigError("model_type", kind, expected)
        return MODELS[kind].from_dict(values)
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from error


def _open_weights(directory: Path) -> dict[str, SafetensorsFile]:
    """Each tensor's name with the file that holds it."""
    if (directory / WEIGHTS_NAME).exists():
        file = SafetensorsFile(directory / WEIGHTS_NAME)
        return dict.fromkeys(file.names(), file)
    if (directory / INDEX_NAME).exists():
        return _open_shards(directory)
    if any(directory.glob("*.bin")) or any(directory.glob("*.pt")):
        raise CheckpointError(
            f"{directory}: expected {WEIGHTS_NAME}, found pickled weights, which are never loaded: convert them"
        )
    raise CheckpointError(f"{directory}: neither {WEIGHTS_NAME} nor {INDEX_NAME} is there")


def _open_shards(directory: Path) -> dict[str, SafetensorsFile]:
    index = directory / INDEX_NAME
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index}: field 'weight_map': expected an object, found {_shown(weight_map)}")
    shards = cast(dict[str, object], weight_map)
    files = {name: SafetensorsFile(directory / name) for name in _shard_names(index, shards.values())}
    found: dict[str, SafetensorsFile] = {}
    for tensor, shard in shards.items():
        file = files[str(shard)]
        if tensor not in file.names():
            raise CheckpointError(
                f"{file.path}: tensor {_shown(tensor)} is missing, {INDEX_NAME} places it here"
            )
        found[tensor] = file
    return found


def _shard_names(index: Path, names: Iterable[object]) -> list[str]:
    """The distinct shards: plain names of files in the checkpoint's own directory."""
    checked: dict[str, None] = {}
    for name in names:
        plain = isinstance(name, str) and not any(c in name for c in "/\\:\0")
        if not plain or not cast(str, name).endswith(".safetensors"):
            raise CheckpointError(
                f"{index}: expected a shard named *.safetensors in the same folder, found {_shown(name)}"
            )
        checked[cast(str, name)] = None
    return list(checked)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file():
            raise CheckpointError(f"{file}: no such file")
        if file.stat().st_size > LARGEST_JSON:
            raise CheckpointError(f"{file}: {file.stat().st_size} bytes, expected at most {LARGEST_JSON}")
        return _parse_json(file.read_bytes(), file)
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror or error}") from error


def _parse_json(text: bytes, file: Path) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise CheckpointError(f"{file}: JSON nested too deeply") from error
    except ValueError as error:
        raise CheckpointError(f"{file}: not valid JSON: {_shown(error)}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: expected a JSON object, found {_shown(value)}")
    return cast(dict[str, Any], value)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return values


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    if not isinstance(value, list):
        return False
    items = cast(list[object], value)
    # A rank and a magnitude no real tensor has; products of such integers stay cheap.
    return len(items) <= 32 and all(type(item) is int and 0 <= item < 1 << 63 for item in items)


def _shown(value: object) -> str:
    """A short form on one line of something that a file said."""
    text = str(value) if isinstance(value, Exception | int) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:77] + "..."
