"""From what a frontend imported to what a target builds: the target's pipeline, pass by pass, with named stages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.transforms import get_all_passes
from xdsl.utils.arg_spec import parse_pipeline

from sterna.dialects.context import make_context
from sterna.dialects.errors import CompileError
from sterna.dialects.weights import Array, WeightStore
from sterna.pass_runner import PassObserver, Stage, Step, run_passes
from sterna.passes import PASSES
from sterna.progress import Progress, no_progress
from sterna.targets import Target

IMPORTED = "imported"
STAGES = {"raised": ("ternarize",), "fused": ("fuse-loops", "expand-math"), "scheduled": ("plan-memory",)}
"""The stages that an artifact keeps, each after the last of these passes; `imported` comes before all passes."""


def stages_of(passes: Iterable[str]) -> dict[str, str]:
    """The named stages of a pipeline, and the pass that each one follows in it."""
    present = list(passes)
    last = {stage: [name for name in names if name in present] for stage, names in STAGES.items()}
    return {stage: names[-1] for stage, names in last.items() if names}


class StageKeeper(PassObserver):
    """Keeps the texts of the stages it is asked for, and says which pass runs."""

    def __init__(self, progress: Progress) -> None:
        self.texts: dict[str, str] = {}
        self._stages: dict[str, str] = {}
        self._progress = progress
        self._passes = 0

    def begin(self, passes: Sequence[ModulePass], stage: Stage) -> None:
        self._passes = len(passes)
        self._stages = {last: name for name, last in stages_of(each.name for each in passes).items()}
        self.texts[IMPORTED] = stage.text + "\n"

    def before(self, step: Step, stage: Stage) -> None:
        self._progress(step.name, step.number - 1, self._passes)

    def after(self, step: Step, stage: Stage, seconds: float) -> None:
        if step.name in self._stages:
            self.texts[self._stages[step.name]] = stage.text + "\n"


def parse_passes(target: Target, spec: str) -> list[ModulePass]:
    """The passes that pipeline text names: ours, the target's and xDSL's."""
    available = dict(get_all_passes())
    available |= {name: (lambda found=found: found) for name, found in {**PASSES, **target.passes()}.items()}
    passes: list[ModulePass] = []
    for part in parse_pipeline(spec):
        if part.name not in available:
            raise CompileError(f"target '{target.name}': its pipeline names an unknown pass '{part.name}'")
        passes.append(available[part.name]().from_spec(part))
    return passes


def stage_names(target: Target) -> tuple[str, ...]:
    """What `--stage` takes: the named stages, then every pass of the target's pipeline."""
    names = [part.name for part in parse_pipeline(target.pipeline())]
    return (IMPORTED, *stages_of(names), *dict.fromkeys(names))


def lower(
    module: ModuleOp,
    weights: WeightStore,
    target: Target,
    *,
    max_rows: int = 64,
    calibration_tokens: Array | None = None,
    progress: Progress = no_progress,
    observers: Sequence[PassObserver] = (),
) -> dict[str, str]:
    """Runs the target's pipeline on the module, in place; returns the texts of the named stages."""
    passes = parse_passes(target, target.pipeline(max_rows=max_rows))
    keeper = StageKeeper(progress)
    run_passes(make_context(weights, calibration_tokens), module, passes, [keeper, *observers])
    return keeper.texts


def lower_until(
    module: ModuleOp,
    weights: WeightStore,
    target: Target,
    stage: str | None,
    *,
    max_rows: int = 64,
    calibration_tokens: Array | None = None,
    observers: Sequence[PassObserver] = (),
) -> None:
    """Runs the target's pipeline on the module, in place, up to a stage or a pass; all of it for None."""
    if stage is not None and stage not in stage_names(target):
        raise CompileError(f"unknown stage '{stage}', expected one of: {', '.join(stage_names(target))}")
    if stage != IMPORTED:
        passes = parse_passes(target, target.pipeline(max_rows=max_rows))
        last = stages_of(each.name for each in passes).get(stage, stage) if stage else None
        context = make_context(weights, calibration_tokens)
        run_passes(context, module, passes, observers, stop_after=last)
