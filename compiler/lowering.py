"""From what a frontend imported to what a target builds: the target's pipeline, pass by pass, with named stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import StringIO

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.printer import Printer
from xdsl.transforms import get_all_passes
from xdsl.utils.arg_spec import parse_pipeline

from sterna.dialects.context import make_context
from sterna.dialects.errors import CompileError
from sterna.dialects.weights import WeightStore
from sterna.passes import PASSES
from sterna.targets import Target

IMPORTED = "imported"
STAGES = {"raised": "ternarize", "fused": "expand-math", "scheduled": "plan-memory"}
"""The stages that an artifact keeps, and the pass each one follows; `imported` comes before all passes."""

PassObserver = Callable[[str, int, int], None]
"""Called with the name of the pass that is about to run, how many ran, and how many there are."""


def parse_passes(target: Target, spec: str) -> list[ModulePass]:
    """The passes that pipeline text names: ours, the target's and xDSL's."""
    available = {name: factory for name, factory in get_all_passes().items()}
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
    return (IMPORTED, *(stage for stage, last in STAGES.items() if last in names), *dict.fromkeys(names))


def lower(
    module: ModuleOp,
    weights: WeightStore,
    target: Target,
    *,
    max_rows: int = 64,
    until: str | None = None,
    keep: Iterable[str] = (),
    observer: PassObserver | None = None,
) -> dict[str, str]:
    """Runs the target's pipeline on the module, in place, and returns the texts of the stages in `keep`.

    `until` ends it after a stage or a pass. The module is verified after every pass.
    """
    if until is not None and until not in stage_names(target):
        raise CompileError(f"unknown stage '{until}', expected one of: {', '.join(stage_names(target))}")
    keep = set(keep)
    texts = {IMPORTED: print_ir(module)} if IMPORTED in keep else {}
    if until == IMPORTED:
        return texts
    context = make_context(weights)
    passes = parse_passes(target, target.pipeline(max_rows=max_rows))
    stages = {last: stage for stage, last in STAGES.items()}
    last = STAGES.get(until, until) if until else None
    for done, each in enumerate(passes):
        if observer is not None:
            observer(each.name, done, len(passes))
        each.apply(context, module)
        module.verify()
        if (stage := stages.get(each.name)) in keep and stage is not None:
            texts[stage] = print_ir(module)
        if each.name == last:
            break
    return texts


def print_ir(module: ModuleOp) -> str:
    out = StringIO()
    Printer(stream=out).print_op(module)
    return out.getvalue() + "\n"
