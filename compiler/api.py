"""Compiling: a checkpoint or a module, through a frontend, the passes and a target, into an artifact."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sterna.artifact import Artifact
from sterna.artifact_writer import Contents, check_destination, write_artifact
from sterna.dialects.errors import CompileError
from sterna.ir_text import print_ir
from sterna.lowering import Progress, lower, lower_until, no_progress
from sterna.model import CompiledModel
from sterna.plugins import find_frontend, find_target
from sterna.targets.program import Program

if TYPE_CHECKING:
    import torch

    from sterna.frontends import Imported

    Source = str | Path | torch.nn.Module

COMPANIONS = ("tokenizer.json", "tokenizer.model")


def compile(
    source: Source,
    target: str = "cpu",
    example_inputs: Sequence[Any] | None = None,
    *,
    max_rows: int = 64,
    threads: int | None = None,
    isa: str | None = None,
    progress: Progress = no_progress,
) -> CompiledModel:
    """Compiles a checkpoint directory or a `torch.nn.Module`, and loads the result.

    A module needs `example_inputs`, as `torch.export` does. `max_rows` is how many tokens a kernel takes at once. The
    artifact lives in a temporary folder until `.save(path)`. CompileError says what cannot be compiled and where.
    """
    folder = TemporaryDirectory(prefix="sterna-", ignore_cleanup_errors=True)
    path = Path(folder.name) / "model.sterna"
    build(source, path, target, example_inputs, max_rows=max_rows, progress=progress)
    return CompiledModel(Artifact.open(path, verify=False), threads=threads, isa=isa, owner=folder)


def build(
    source: Source,
    path: str | Path,
    target: str = "cpu",
    example_inputs: Sequence[Any] | None = None,
    *,
    max_rows: int = 64,
    progress: Progress = no_progress,
) -> None:
    """Compiles to an artifact at `path`, in place of an artifact that is there, without loading it."""
    check_destination(Path(path))
    chosen = find_target(target)
    imported = load_source(source, example_inputs, progress=progress)
    stages = lower(imported.module, imported.weights, chosen, max_rows=max_rows, progress=progress)
    progress("building kernels", 0, 1)
    program = Program.of(imported.module)
    kernels = chosen.build(imported.module)
    contents = Contents(
        planned=imported.module,
        weights=imported.weights,
        target=target,
        program=program.to_json(),
        kernels=kernels,
        stages=stages,
        source=Path(source).resolve().name if isinstance(source, str | Path) else type(source).__name__,
        states=sum(tensor.is_state for tensor in program.inputs),
        companions=_companions(imported),
    )
    write_artifact(Path(path), contents, progress=progress)


def emit(
    source: Source,
    kind: str,
    target: str = "cpu",
    example_inputs: Sequence[Any] | None = None,
    *,
    stage: str | None = None,
    isa: str | None = None,
    max_rows: int = 64,
    progress: Progress = no_progress,
) -> str:
    """The text of a stage of the IR (`kind` "mlir"), or of what the target makes of the last one."""
    chosen = find_target(target)
    if kind != "mlir" and kind not in chosen.emits:
        raise CompileError(f"target '{target}' emits {', '.join(('mlir', *chosen.emits))}, not '{kind}'")
    imported = load_source(source, example_inputs, progress=progress)
    lower_until(imported.module, imported.weights, chosen, stage, max_rows=max_rows)
    return print_ir(imported.module) + "\n" if kind == "mlir" else chosen.emit(imported.module, kind, isa=isa)


def load_source(
    source: Source, example_inputs: Sequence[Any] | None, *, progress: Progress = no_progress
) -> Imported:
    """What the frontend for that kind of source makes of it."""
    progress("importing", 0, 1)
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.exists():
            raise CompileError(f"{path}: no such file or directory")
        if not path.is_dir():
            raise CompileError(f"{path}: expected a checkpoint directory with a config.json, found a file")
        return find_frontend("checkpoint").load(path)
    return find_frontend("torch").load(source, example_inputs)


def _companions(imported: Imported) -> dict[str, bytes]:
    """The checkpoint's files that the runtime reads."""
    files: dict[str, bytes] = {}
    if imported.config is not None:
        files["config.json"] = (json.dumps(imported.config, indent=1) + "\n").encode()
    if imported.tokenizer is not None:
        folder = imported.tokenizer if imported.tokenizer.is_dir() else imported.tokenizer.parent
        files |= {name: (folder / name).read_bytes() for name in COMPANIONS if (folder / name).is_file()}
    return files
