"""An artifact: a folder with everything that a compiled model needs to run, and what shows that it is whole.

    model.sterna/
        manifest.json          format, target, program, facts about the model; size and sha256 of every file
        weights.safetensors    packed weights, mapped into memory; any safetensors reader opens it
        kernels.*              what the target built
        ir/*.mlir              the program at each stage
        config.json, tokenizer.json or tokenizer.model

Reading checks everything before anything is used. The checksums find damage, not malice: kernels are native code,
so load artifacts only from where you would run programs from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from sterna.dialects.errors import CompileError

FORMAT = "sterna-artifact"
FORMAT_VERSION = 3
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
PAGE_BYTES = 4096
"""The packed weights start at a multiple of this in their file, so that a mapping of them is aligned."""

LARGEST_MANIFEST = 1 << 26
LONGEST_HEADER = 100_000_000
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)?")
UNSEALED = "0" * 64
SHA256 = re.compile("[0-9a-f]{64}")

KINDS: dict[type, str] = {str: "a string", int: "a count", float: "a number", dict: "an object"}

Bytes = npt.NDArray[np.uint8]
T = TypeVar("T")


class ArtifactError(CompileError):
    """An artifact that is damaged, from another version, or none at all; the message names file, field and values."""


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a reader of the manifest wants to know about the model; nothing in it decides how the program runs."""

    source: str
    parameters: int
    ternary_parameters: int
    packed_bytes: int
    bits_per_ternary_weight: float
    """Padding included."""
    encoding: str
    """How trits are packed (`EncodingAttr`): the formats, with commas; empty without any."""
    states: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`manifest.json`. `program` is what `sterna.targets.program.Program` reads."""

    sterna_version: str
    target: str
    program: Mapping[str, Any]
    model: ModelFacts
    files: Mapping[str, FileRecord]

    def to_text(self) -> str:
        """The file's text. Its field `seal` is the sha256 of that text with zeros for the seal."""
        head = {"format": FORMAT, "format_version": FORMAT_VERSION, "seal": UNSEALED}
        text = json.dumps(head | asdict(self), indent=1) + "\n"
        return text.replace(UNSEALED, _seal(text), 1)

    @staticmethod
    def from_text(text: str, path: Path) -> Manifest:
        """Checks every field; `path` is for messages."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{path}: expected JSON: {error}") from None
        if not isinstance(value, dict):
            raise ArtifactError(f"{path}: expected an object, found {_shown(cast(object, value))}")
        record = _Record(path, "", cast("dict[str, object]", value))
        if record.take("format", str) != FORMAT:
            raise record.error("format", FORMAT)
        if record.take("format_version", int) != FORMAT_VERSION:
            raise record.error("format_version", f"{FORMAT_VERSION}; compile the model again")
        seal = record.take("seal", str)
        if not seal or _seal(text.replace(seal, UNSEALED, 1)) != seal:
            raise ArtifactError(
                f"{path}: the file is damaged: its text does not have the sha256 in its field 'seal'"
            )
        model, files = record.inner("model"), record.inner("files")
        return Manifest(
            sterna_version=record.take("sterna_version", str),
            target=record.take("target", str),
            program=record.inner("program").values,
            model=ModelFacts(
                source=model.take("source", str),
                parameters=model.take("parameters", int),
                ternary_parameters=model.take("ternary_parameters", int),
                packed_bytes=model.take("packed_bytes", int),
                bits_per_ternary_weight=model.take("bits_per_ternary_weight", float),
                encoding=model.take("encoding", str),
                states=model.take("states", int),
            ),
            files={name: _file_record(files, name) for name in files.values},
        )


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class _Record:
    """A JSON object in the manifest, read field by field; `place` is where it is, as in `model.`."""

    path: Path
    place: str
    values: Mapping[str, object]

    def inner(self, field: str) -> _Record:
        values = cast("dict[str, object]", self.take(field, dict))
        return _Record(self.path, f"{self.place}{field}.", values)

    def take(self, field: str, kind: type[T]) -> T:
        value = self.values.get(field)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or (isinstance(value, int | float) and not value >= 0):
            raise self.error(field, KINDS[kind])
        return value

    def error(self, field: str, expected: str) -> ArtifactError:
        found = _shown(self.values[field]) if field in self.values else "nothing"
        return ArtifactError(f"{self.path}: field '{self.place}{field}': expected {expected}, found {found}")


def _file_record(files: _Record, name: str) -> FileRecord:
    if not FILE_NAME.fullmatch(name):
        raise ArtifactError(
            f"{files.path}: field 'files': expected a path inside the artifact, found {_shown(name)}"
        )
    record = files.inner(name)
    sha256 = record.take("sha256", str)
    if not SHA256.fullmatch(sha256):
        raise record.error("sha256", "64 hexadecimal digits")
    return FileRecord(bytes=record.take("bytes", int), sha256=sha256)


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True)
class Artifact:
    """An artifact on disk whose manifest has been read."""

    path: Path
    manifest: Manifest

    @staticmethod
    def open(path: str | Path, *, verify: bool = True) -> Artifact:
        """Reads the manifest and, unless `verify` is False, the checksum of every file it lists."""
        folder = Path(path)
        artifact = Artifact(folder, read_manifest(folder))
        for name in artifact.manifest.files:
            artifact.check_size(name)
        if WEIGHTS not in artifact.manifest.files:
            raise ArtifactError(f"{folder / MANIFEST}: field 'files': expected {WEIGHTS}, found nothing")
        if verify:
            # hashlib lets go of the interpreter's lock, so this takes as long as the largest file.
            with ThreadPoolExecutor() as pool:
                for _ in pool.map(artifact.check_sha256, artifact.manifest.files):
                    pass
        return artifact

    def check_size(self, name: str) -> None:
        file, expected = self.path / name, self.manifest.files[name].bytes
        if file.is_symlink() or not file.is_file():
            raise ArtifactError(f"{file}: expected a file of {expected} bytes, found none")
        if (found := file.stat().st_size) != expected:
            raise ArtifactError(f"{file}: expected {expected} bytes, found {found}")

    def check_sha256(self, name: str) -> None:
        with (self.path / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != (expected := self.manifest.files[name].sha256):
            raise ArtifactError(
                f"{self.path / name}: expected sha256 {expected}, found {found}: the file is damaged"
            )

    def kernels(self) -> dict[str, Path]:
        """The files that the target built, by name."""
        return {name: self.path / name for name in self.manifest.files if name.startswith("kernels.")}

    def stages(self) -> tuple[str, ...]:
        """The stages whose IR is kept, in order."""
        names = sorted(name for name in self.manifest.files if name.startswith("ir/"))
        return tuple(Path(name).stem.partition("-")[2] for name in names)

    def ir(self, stage: str) -> str:
        for name in self.manifest.files:
            if name.startswith("ir/") and Path(name).stem.partition("-")[2] == stage:
                try:
                    return (self.path / name).read_text(encoding="utf-8")
                except UnicodeDecodeError as error:
                    place = f"{error.reason} at byte {error.start}"
                    raise ArtifactError(f"{self.path / name}: expected UTF-8: {place}") from None
        raise ArtifactError(f"{self.path}: expected a stage of {', '.join(self.stages())}, found '{stage}'")

    def config(self) -> dict[str, Any]:
        """The checkpoint's `config.json`; empty for a model that came without one."""
        if "config.json" not in self.manifest.files:
            return {}
        try:
            value = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{self.path / 'config.json'}: expected JSON: {error}") from None
        if not isinstance(value, dict):
            raise ArtifactError(f"{self.path / 'config.json'}: expected an object, found {_shown(value)}")
        return cast("dict[str, Any]", value)

    def map_weights(self, expected_bytes: int) -> Bytes:
        """The packed weights, mapped: pages come in as they are used, and processes share them."""
        file = self.path / WEIGHTS
        size = self.manifest.files[WEIGHTS].bytes
        with file.open("rb") as stream:
            start = 8 + int.from_bytes(stream.read(8), "little")
        if start % PAGE_BYTES or start > min(size, LONGEST_HEADER):
            raise ArtifactError(
                f"{file}: expected a header of whole pages of {PAGE_BYTES} bytes, found {start} bytes"
            )
        if size - start != expected_bytes:
            raise ArtifactError(f"{file}: expected {expected_bytes} bytes of weights, found {size - start}")
        if not expected_bytes:
            return np.empty(0, np.uint8)
        return np.memmap(file, np.uint8, "r", offset=start, shape=(expected_bytes,))


def is_artifact(path: Path) -> bool:
    """Whether the folder calls itself an artifact, damaged or not."""
    try:
        with (path / MANIFEST).open(encoding="utf-8", errors="replace") as file:
            return f'"format": "{FORMAT}"' in file.read(1024)
    except OSError:
        return False


def read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.exists():
        raise ArtifactError(f"{folder}: no such file or directory")
    if not path.is_file():
        raise ArtifactError(f"{folder}: not an artifact: expected {MANIFEST} in it")
    if (size := path.stat().st_size) > LARGEST_MANIFEST:
        raise ArtifactError(f"{path}: expected at most {LARGEST_MANIFEST} bytes, found {size}")
    try:
        return Manifest.from_text(path.read_bytes().decode("utf-8"), path)
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: expected UTF-8: {error.reason} at byte {error.start}") from None
