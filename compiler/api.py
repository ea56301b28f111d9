"""Compiling: a checkpoint or a module, through a frontend, the passes and a target, into an artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sterna.artifact import Artifact
from sterna.artifact_writer import Contents, check_destination, replacing_folder, write_artifact
from sterna.calibration import tokens_for
from sterna.dialects.errors import CompileError
from sterna.instruments.options import Instruments, WeightSource
from sterna.ir_text import print_ir
from sterna.lowering import lower, lower_until
from sterna.model import CompiledModel
from sterna.plugins import configured_target, find_frontend
from sterna.progress import Progress, no_progress
from sterna.targets import ProjectTarget
from sterna.targets.program import Program

if TYPE_CHECKING:
    import onnx
    import torch

    from sterna.frontends import Imported

    Source = str | Path | torch.nn.Module | onnx.ModelProto

UNWATCHED = Instruments()
"""A pass that fails leaves a reproducer; nothing is printed."""

ONNX_SUFFIX = ".onnx"
PROJECT = ".sterna-project"
"""The file that marks a folder of `build_project`."""
COMPANIONS = ("tokenizer.json", "tokenizer.model")


def compile(
    source: Source,
    target: str = "cpu",
    example_inputs: Sequence[Any] | None = None,
    *,
    max_rows: int = 64,
    threads: int | None = None,
    isa: str | None = None,
    target_options: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> CompiledModel:
    """Compiles a checkpoint directory, an ONNX model (a file or a ModelProto) or a `torch.nn.Module`; loads the result.

    A module needs `example_inputs`, as `torch.export` does; `options` go to the frontend (for a module: `dynamic_rows`,
    `states`, `input_names`; for an ONNX model: `sizes`), `target_options` to the target (`{"encoding": "b3"}`).
    `max_rows` is how many tokens a kernel takes at once. The artifact lives in a temporary folder until `.save(path)`.
    CompileError says what cannot be compiled and where.
    """
    folder = TemporaryDirectory(prefix="sterna-", ignore_cleanup_errors=True)
    path = Path(folder.name) / "model.sterna"
    build(
        source,
        path,
        target,
        example_inputs,
        max_rows=max_rows,
        target_options=target_options,
        progress=progress,
        **options,
    )
    return CompiledModel(Artifact.open(path, verify=False), threads=threads, isa=isa, owner=folder)


def build(
    source: Source,
    path: str | Path,
    target: str = "cpu",
    example_inputs: Sequence[Any] | None = None,
    *,
    max_rows: int = 64,
    target_options: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
    instruments: Instruments = UNWATCHED,
    **options: Any,
) -> None:
    """Compiles to an artifact at `path`, in place of an artifact that is there, without loading it."""
    check_destination(Path(path))
    chosen = configured_target(target, target_options or {})
    progress("importing", 0, 1)
    imported = load_source(source, example_inputs, **options)
    stages = lower(
        imported.module,
        imported.weights,
        chosen,
        max_rows=max_rows,
        calibration_tokens=tokens_for(chosen, imported),
        progress=progress,
        observers=instruments.observers(_weight_source(source, imported)),
    )
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


def build_project(
    source: Source,
    path: str | Path,
    target: str,
    example_inputs: Sequence[Any] | None = None,
    *,
    target_options: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
    instruments: Instruments = UNWATCHED,
    **options: Any,
) -> str:
    """Compiles to a folder of files for other tools, in place of one that is there; what the target says of it.

    CompileError for a target that makes artifacts, an option that it does not have, or a program that it has no form
    for.
    """
    chosen = configured_target(target, target_options or {})
    if not isinstance(chosen, ProjectTarget):
        raise CompileError(f"target '{target}' makes artifacts: use build")
    folder = Path(path)
    check_destination(folder, is_project, "a project of a target")
    progress("importing", 0, 1)
    imported = load_source(source, example_inputs, **options)
    lower(
        imported.module,
        imported.weights,
        chosen,
        calibration_tokens=tokens_for(chosen, imported),
        progress=progress,
        observers=instruments.observers(_weight_source(source, imported)),
    )
    name = Path(source).resolve().name if isinstance(source, str | Path) else type(source).__name__
    with replacing_folder(folder, is_project, "a project of a target") as partial:
        said = chosen.write_project(imported.module, imported.weights, partial, name=name, progress=progress)
        (partial / PROJECT).write_text(f"{target}\n", encoding="utf-8")
    return said


def is_project(path: Path) -> bool:
    """Whether `build_project` wrote the folder, which it may so replace."""
    return (path / PROJECT).is_file()


def emit(
    source: Source,
    kind: str,
    target: str = "cpu",
    example_inputs: Sequence[Any] | None = None,
    *,
    stage: str | None = None,
    isa: str | None = None,
    max_rows: int = 64,
    target_options: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
    instruments: Instruments = UNWATCHED,
    **options: Any,
) -> str:
    """The text of a stage of the IR (`kind` "mlir"), or of what the target makes of the last one.

    If the instruments say `run`, the text is instead what the interpreter makes of the IR at that stage.
    """
    chosen = configured_target(target, target_options or {})
    if kind != "mlir" and kind not in chosen.emits:
        raise CompileError(f"target '{target}' emits {', '.join(('mlir', *chosen.emits))}, not '{kind}'")
    progress("importing", 0, 1)
    imported = load_source(source, example_inputs, **options)
    observers = instruments.observers(_weight_source(source, imported))
    lower_until(
        imported.module,
        imported.weights,
        chosen,
        stage,
        max_rows=max_rows,
        calibration_tokens=tokens_for(chosen, imported),
        observers=observers,
    )
    if instruments.run:
        return instruments.interpret(imported.module, imported.weights)
    return print_ir(imported.module) + "\n" if kind == "mlir" else chosen.emit(imported.module, kind, isa=isa)


def load_source(source: Source, example_inputs: Sequence[Any] | None, **options: Any) -> Imported:
    """What the frontend for that kind of source makes of it."""
    if not isinstance(source, str | Path):
        if _is_onnx(source):
            return find_frontend("onnx").load(source, **options)
        if example_inputs is None:
            raise CompileError(f"{type(source).__name__}: a module needs example_inputs: a tuple of tensors")
        return find_frontend("torch").load(source, example_inputs, **options)
    path = Path(source)
    if not path.exists():
        raise CompileError(f"{path}: no such file or directory")
    if not path.is_dir():
        if path.suffix == ONNX_SUFFIX:
            if "context" in options:
                raise CompileError(f"{path}: a context is for checkpoints of transformers")
            return find_frontend("onnx").load(path, **options)
        raise CompileError(f"{path}: expected a checkpoint directory with a config.json, or a .onnx file")
    if "sizes" in options:
        raise CompileError(f"{path}: sizes are given to ONNX models; a checkpoint's are its own")
    return find_frontend("checkpoint").load(path, **options)


def _is_onnx(source: object) -> bool:
    """Whether that is an `onnx.ModelProto`; the package itself is not imported for the question."""
    return type(source).__name__ == "ModelProto"


def _weight_source(source: Source, imported: Imported) -> WeightSource:
    name = str(Path(source).resolve()) if isinstance(source, str | Path) else None
    return WeightSource(imported.weights, name)


def _companions(imported: Imported) -> dict[str, bytes]:
    """The checkpoint's files that the runtime reads."""
    files: dict[str, bytes] = {}
    if imported.config is not None:
        files["config.json"] = (json.dumps(dict(imported.config), indent=1) + "\n").encode()
    if imported.tokenizer is not None:
        folder = imported.tokenizer if imported.tokenizer.is_dir() else imported.tokenizer.parent
        files |= {name: (folder / name).read_bytes() for name in COMPANIONS if (folder / name).is_file()}
    return files
