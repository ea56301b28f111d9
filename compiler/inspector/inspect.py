"""From a model or a file of IR to a report: runs the pipeline under the recorder, and emits the target's code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from sterna.artifact import Artifact, is_artifact
from sterna.dialects.context import make_context, parse
from sterna.dialects.errors import CompileError
from sterna.dialects.weights import WeightStore
from sterna.inspector.observer import RecordPasses
from sterna.inspector.payload import Code
from sterna.inspector.recording import Recording
from sterna.inspector.report import report_html
from sterna.inspector.stages import record_artifact
from sterna.lowering import parse_passes
from sterna.pass_runner import run_passes
from sterna.plugins import configured_target
from sterna.targets import Target


@runtime_checkable
class NamesSymbols(Protocol):
    """A target that tells which symbol of its code implements which op."""

    def symbols(self, planned: ModuleOp) -> dict[Operation, str]: ...


@dataclass(frozen=True)
class Request:
    """What to inspect: a model, a file of IR, or an artifact, which keeps stages and runs no passes.

    A model is a checkpoint directory or an ONNX file, whose open sizes `sizes` gives. Without `passes`, the pipeline is
    the target's.
    """

    source: Path
    target: str = "cpu"
    passes: str | None = None
    weights: str | None = None
    isa: str | None = None
    max_rows: int = 64
    sizes: Mapping[str, int | str] = field(default_factory=dict[str, "int | str"])
    target_options: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Inspection:
    recording: Recording
    codes: tuple[Code, ...]
    title: str
    failure: CompileError | None = None
    """Why the pipeline ended early; the recording shows how far it came."""

    def html(self, *, version: str | None = None) -> str:
        return report_html(self.recording, self.title, self.codes, version=version)


def inspect_source(request: Request) -> Inspection:
    """CompileError if the source cannot be read; a pass that fails is part of the report."""
    if is_artifact(request.source):
        return _inspect_artifact(request)
    target = configured_target(request.target, request.target_options)
    module, weights = _read(request)
    pipeline = target.pipeline(max_rows=request.max_rows) if request.passes is None else request.passes
    passes = parse_passes(target, pipeline) if pipeline else []
    observer = RecordPasses()
    failure: CompileError | None = None
    codes: tuple[Code, ...] = ()
    try:
        run_passes(make_context(weights), module, passes, [observer])
        codes = emitted(module, target, observer, request.isa)
    except CompileError as error:
        failure = error
    return Inspection(observer.recording, codes, f"{request.source.name} for {request.target}", failure)


def _inspect_artifact(request: Request) -> Inspection:
    if request.passes is not None or request.weights is not None or request.target_options:
        raise CompileError(
            f"{request.source}: an artifact was compiled already: drop --passes, --weights and options of the target"
        )
    recording, codes = record_artifact(Artifact.open(request.source))
    return Inspection(recording, tuple(codes), request.source.name)


def emitted(
    module: ModuleOp, target: Target, observer: RecordPasses, isa: str | None = None
) -> tuple[Code, ...]:
    """What the target emits from a planned module, and which symbol implements which op."""
    if "ternary.max_rows" not in module.attributes:
        return ()
    named = target.symbols(module) if isinstance(target, NamesSymbols) else {}
    symbols = {observer.number_of(op): symbol for op, symbol in named.items()}
    return tuple(Code(kind, target.emit(module, kind, isa=isa), symbols) for kind in target.emits)


def _read(request: Request) -> tuple[ModuleOp, WeightStore | None]:
    source = request.source
    from sterna.api import ONNX_SUFFIX, load_source

    if source.is_dir() or source.suffix == ONNX_SUFFIX:
        if request.weights is not None:
            raise CompileError("a model brings its weights: --weights goes with a file of IR")
        imported = load_source(source, None, **({"sizes": dict(request.sizes)} if request.sizes else {}))
        return imported.module, imported.weights
    from sterna.opt import open_weights

    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CompileError(
            f"{source}: expected IR text or a checkpoint directory, found bytes that are not UTF-8"
        ) from None
    module = parse(text, str(source))
    return module, open_weights(request.weights or "random", module)
