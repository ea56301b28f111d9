"""Tensors whose bytes lie in files beside the model: mapped, not read, and only from the model's own folder."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from sterna.frontends.onnx.errors import OnnxError, shown

Bytes = npt.NDArray[Any]


def map_external(proto: TensorProto, folder: Path | None, expected: int, where: str) -> Bytes:
    """The tensor's bytes, mapped. OnnxError for a path that leaves the folder, or a range that is not in the file."""
    where = f"{where}: external_data"
    fields = {entry.key: entry.value for entry in proto.external_data}
    if folder is None:
        raise OnnxError(
            f"{where}: a model in memory has no folder for '{shown(fields.get('location', ''))}': give the model's path"
        )
    path = _inside(folder, fields.get("location", ""), where)
    if not path.is_file():
        raise OnnxError(f"{where}: {path}: no such file")
    size = path.stat().st_size
    offset = _number(fields, "offset", 0, where)
    length = _number(fields, "length", size - offset, where)
    if length != expected:
        raise OnnxError(f"{where}: length: the tensor takes {expected} bytes, found {length}")
    if offset + length > size:
        raise OnnxError(f"{where}: bytes {offset} to {offset + length} are not in {path}, which has {size}")
    if not length:
        return np.zeros(0, np.uint8)
    return np.memmap(path, np.uint8, "r", offset, (length,))


def _inside(folder: Path, location: str, where: str) -> Path:
    """The file of that relative name; a link on the way must not lead out of the folder."""
    parts = PurePosixPath(location).parts
    is_plain = parts and "\0" not in location and "\\" not in location and ".." not in parts
    if not is_plain or PurePosixPath(location).is_absolute() or PureWindowsPath(location).drive:
        raise OnnxError(
            f"{where}: location: expected a file below the model's folder, found '{shown(location)}'"
        )
    root = os.path.realpath(folder)
    path = os.path.realpath(folder / location)
    if os.path.commonpath([root, path]) != root:
        raise OnnxError(f"{where}: location: '{shown(location)}' is a link out of the model's folder")
    return Path(path)


def _number(fields: dict[str, str], name: str, default: int, where: str) -> int:
    text = fields.get(name)
    if text is None:
        return default
    if not text.isdecimal() or not text.isascii() or len(text) > 18:
        raise OnnxError(f"{where}: {name}: expected a number >= 0, found '{shown(text)}'")
    return int(text)
