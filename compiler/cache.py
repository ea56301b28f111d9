"""Compiled checkpoints that `sterna run CHECKPOINT` keeps, in `$XDG_CACHE_HOME/sterna`.

One artifact a checkpoint directory, target and context. It is used again while the checkpoint's files have the same
sizes and times, its config.json the same text, and Sterna's own files are the same; any change makes a new one in its
place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import sterna

PACKAGES = ("sterna", "sterna.dialects", "sterna.passes", "sterna.frontends", "sterna.targets")


def cached_artifact(checkpoint: Path, target: str, context: int | None = None) -> Path:
    """Where the compiled checkpoint is, or is to be put. Its parent exists and holds nothing else that is current."""
    chosen = "" if context is None else f"\0{context}"
    place = hashlib.sha256(f"{checkpoint.resolve()}\0{target}{chosen}".encode()).hexdigest()[:12]
    folder = cache_folder() / f"{checkpoint.resolve().name}-{place}"
    artifact = folder / f"{_fingerprint(checkpoint)[:24]}.sterna"
    folder.mkdir(parents=True, exist_ok=True)
    return artifact


def drop_others(artifact: Path) -> None:
    """Removes what was compiled from earlier versions of the checkpoint. Whoever runs one keeps its mapped files."""
    for other in artifact.parent.glob("*.sterna"):
        if other != artifact:
            shutil.rmtree(other, ignore_errors=True)


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "sterna"


def _fingerprint(checkpoint: Path) -> str:
    digest = hashlib.sha256(sterna.__version__.encode())
    files = [path for path in checkpoint.iterdir() if path.is_file() and not path.name.startswith(".")]
    for path in sorted([*files, *_source_files()]):
        status = path.stat()
        digest.update(f"\0{path.name}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    config = checkpoint / "config.json"
    digest.update(config.read_bytes() if config.is_file() else b"")
    return digest.hexdigest()


def _source_files() -> list[Path]:
    """Sterna's own files: an edited pass must not run last week's program."""
    home = Path(sterna.__file__).parent
    folders = {home, *(Path(p) for name in PACKAGES[1:] for p in _folders_of(name))}
    return [path for folder in folders for path in folder.rglob("*.py") if "__pycache__" not in path.parts]


def _folders_of(package: str) -> list[str]:
    from importlib.util import find_spec

    spec = find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec is not None else []
