"""Writing an artifact: weight by weight into a temporary folder, which takes its place only once it is whole."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import IntegerAttr, ModuleOp

import sterna
from sterna.artifact import (
    MANIFEST,
    PAGE_BYTES,
    WEIGHTS,
    ArtifactError,
    FileRecord,
    Manifest,
    ModelFacts,
    is_artifact,
)
from sterna.dialects import packing
from sterna.dialects.encodings import encoding_of, is_trits
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.layout import buffer_bytes, row_stride_bytes
from sterna.dialects.ternary import Tensor, WeightOp
from sterna.dialects.weights import WeightStore
from sterna.progress import Progress, no_progress

SAFETENSORS_TYPES = {
    "f32": ("F32", 4),
    "f16": ("F16", 2),
    "bf16": ("BF16", 2),
    "i1": ("BOOL", 1),
    "i8": ("I8", 1),
    "i16": ("I16", 2),
    "i32": ("I32", 4),
    "i64": ("I64", 8),
}


@dataclass(frozen=True)
class Contents:
    """What goes into an artifact. `companions` are files of the checkpoint that the runtime reads, by name."""

    planned: ModuleOp
    weights: WeightStore
    target: str
    program: Mapping[str, Any]
    kernels: Mapping[str, bytes]
    stages: Mapping[str, str]
    source: str
    states: int = 0
    companions: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


@dataclass(frozen=True)
class PlacedWeight:
    """A weight that the plan gave a place: `offset` and `bytes` into the packed weights."""

    op: WeightOp
    offset: int
    bytes: int

    @property
    def name(self) -> str:
        return self.op.sym_name.data

    def entry(self) -> dict[str, object]:
        """Its entry in the header: numbers keep their type, rows as long as they lie; encoded trits are bytes."""
        dtype, shape = "U8", [self.bytes]
        element = str(self.op.type.element_type)
        if encoding_of(self.op.type) is None and element in SAFETENSORS_TYPES:
            name, width = SAFETENSORS_TYPES[element]
            rows = [*self.op.type.get_shape()[:-1], row_stride_bytes(self.op.type) // width]
            if prod(rows) * width == self.bytes:
                dtype, shape = name, rows
        return {"dtype": dtype, "shape": shape, "data_offsets": [self.offset, self.offset + self.bytes]}


def write_artifact(path: Path, contents: Contents, *, progress: Progress = no_progress) -> None:
    """Writes the artifact and puts it at `path`, in place of an artifact that is there. Nothing is left if it fails."""
    with replacing_folder(path) as folder:
        files = {WEIGHTS: _write_weights(folder / WEIGHTS, contents, progress)}
        texts = {
            f"ir/{n}-{name}.mlir": text.encode() for n, (name, text) in enumerate(contents.stages.items())
        }
        for name, data in {**contents.kernels, **texts, **contents.companions}.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
            files[name] = FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        manifest = Manifest(
            sterna_version=sterna.__version__,
            target=contents.target,
            program=contents.program,
            model=_model_facts(contents),
            files=files,
        )
        (folder / MANIFEST).write_text(manifest.to_text(), encoding="utf-8")


def check_destination(
    path: Path, may_replace: Callable[[Path], bool] = is_artifact, what: str = "an artifact"
) -> None:
    """ArtifactError unless `what` may be put at `path`: to be called before the work is done."""
    if not path.parent.is_dir():
        raise ArtifactError(f"{path}: cannot be written: there is no directory {path.parent}")
    if not path.is_symlink() and not path.exists():
        return
    if path.is_symlink() or not path.is_dir() or (any(path.iterdir()) and not may_replace(path)):
        raise ArtifactError(f"{path}: exists and is not {what}; it is not overwritten")


@contextmanager
def replacing_folder(
    path: Path, may_replace: Callable[[Path], bool] = is_artifact, what: str = "an artifact"
) -> Generator[Path]:
    """A temporary folder beside `path` that takes its place at the end, or disappears if anything is raised."""
    check_destination(path, may_replace, what)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        # mkdtemp's folders are private; an artifact is as readable as any new folder.
        umask = os.umask(0)
        os.umask(umask)
        folder.chmod(0o777 & ~umask)
        yield folder
        check_destination(path, may_replace, what)
        if path.exists():
            _exchange(folder, path)
        else:
            folder.rename(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exchange(a: Path, b: Path) -> None:
    """Swaps two folders in one step, where the file system can; a reader never sees half of either."""
    at_cwd, exchange = -100, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if (
        hasattr(libc, "renameat2")
        and libc.renameat2(at_cwd, os.fsencode(a), at_cwd, os.fsencode(b), exchange) == 0
    ):
        return
    aside = a.with_name(a.name + ".old")
    b.rename(aside)
    try:
        a.rename(b)
    except BaseException:
        aside.rename(b)
        raise
    aside.rename(a)


def placed_weights(module: ModuleOp) -> list[PlacedWeight]:
    """The weights that are part of the packed data, in its order."""
    placed: list[PlacedWeight] = []
    for op in module.ops:
        if isinstance(op, WeightOp) and (offset := op.attributes.get("offset")) is not None:
            assert isinstance(offset, IntegerAttr)
            placed.append(
                PlacedWeight(op, cast("IntegerAttr[Any]", offset).value.data, buffer_bytes(op.type, 1))
            )
    placed.sort(key=lambda weight: weight.offset)
    for weight, after in pairwise(placed):
        assert weight.offset + weight.bytes == after.offset, (
            f"{after.name} does not lie next to {weight.name}"
        )
    return placed


def _write_weights(path: Path, contents: Contents, progress: Progress) -> FileRecord:
    """Evaluates, packs, writes and hashes one weight after the other: memory holds one, and never the model."""
    placed = placed_weights(contents.planned)
    total = sum(weight.bytes for weight in placed)
    interpreter = ModuleInterpreter(contents.planned, contents.weights, cached_weight_bytes=0)
    header = _safetensors_header({weight.name: weight.entry() for weight in placed})
    digest = hashlib.sha256(header)
    with path.open("wb") as file:
        file.write(header)
        done = 0
        for weight in placed:
            progress("packing weights", done, total)
            array = interpreter.weight(weight.name)
            packed = packing.pack(array, weight.op.type)
            del array
            assert packed.nbytes == weight.bytes, (
                f"{weight.name} packs to {packed.nbytes} bytes, not {weight.bytes}"
            )
            data = np.ascontiguousarray(packed).data
            digest.update(data)
            file.write(data)
            done += weight.bytes
        progress("packing weights", done, total)
    return FileRecord(bytes=len(header) + total, sha256=digest.hexdigest())


def _safetensors_header(entries: Mapping[str, object]) -> bytes:
    """The header's length and the header, padded with spaces so that the data starts at a whole page."""
    text = json.dumps({"__metadata__": {"format": "sterna"}, **entries}, separators=(",", ":")).encode()
    length = len(text) + (-(len(text) + 8) % PAGE_BYTES)
    return length.to_bytes(8, "little") + text.ljust(length)


def _model_facts(contents: Contents) -> ModelFacts:
    weights = [op for op in contents.planned.ops if isinstance(op, WeightOp)]
    placed = placed_weights(contents.planned)
    ternary = [weight for weight in placed if is_trits(weight.op.type)]
    elements = sum(_elements(weight.op.type) for weight in ternary)
    encodings = [encoding_of(weight.op.type) for weight in ternary]
    return ModelFacts(
        source=contents.source,
        parameters=sum(_elements(op.type) for op in weights if op.body is None),
        ternary_parameters=elements,
        packed_bytes=sum(weight.bytes for weight in placed),
        bits_per_ternary_weight=8 * sum(weight.bytes for weight in ternary) / elements if elements else 0.0,
        encoding=", ".join(sorted({each.format.data for each in encodings if each is not None})),
        states=contents.states,
    )


def _elements(type: Tensor) -> int:
    return prod(type.get_shape())


def copy_artifact(source: Path, destination: Path) -> None:
    """Copies a whole artifact, in place of one that is there."""
    with replacing_folder(destination) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
