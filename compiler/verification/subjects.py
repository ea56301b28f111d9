"""What is verified: the program that each target makes of a model, or the one that an artifact holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from sterna.artifact import Artifact
from sterna.calibration import tokens_for
from sterna.dialects import packing
from sterna.dialects.context import make_context, parse
from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.layout import buffer_bytes
from sterna.dialects.weight_ops import WeightOp
from sterna.dialects.weights import WeightStore
from sterna.in_memory import pack_weights
from sterna.lowering import parse_passes
from sterna.pass_runner import PassObserver, Stage, Step, run_passes
from sterna.passes.tolerance import EXACT, tolerance_of
from sterna.targets.interface import integer_attribute
from sterna.targets.program import Program
from sterna.testing.subjects import Interpreted

if TYPE_CHECKING:
    from sterna.frontends import Imported
    from sterna.targets import Bytes, Executable, Target


class Refused(CompileError):
    """A program that a target does not compile: not a wrong one."""


Array = npt.NDArray[Any]
Files = Mapping[str, bytes | Path]


@dataclass(frozen=True)
class Machine:
    """A level of a target on this machine, and how many threads; None leaves them to the target."""

    isa: str
    threads: int | None = None
    emulated: bool = False


@dataclass(frozen=True)
class PassStage:
    """The module after a pass that changed it."""

    rewrite: ModulePass
    before: ModuleOp
    after: ModuleOp


@dataclass
class Subject:
    """A model's program on one target."""

    target: Target
    planned: ModuleOp
    weights: WeightStore
    reference: ModuleOp
    """After the last pass that may move a rounding: what every later stage computes bit for bit."""
    stages: Sequence[PassStage] = ()
    kernels: Files | None = None
    """An artifact's own."""

    @property
    def start(self) -> ModuleOp:
        """Before all passes, as far as that is known: what it takes and gives stays the same."""
        return self.stages[0].before if self.stages else self.planned

    @cached_property
    def max_rows(self) -> int:
        return integer_attribute(self.planned, "ternary.max_rows")

    @cached_property
    def numbers(self) -> ModuleInterpreter:
        """For the values of the planned module's weights."""
        return ModuleInterpreter(self.planned, self.weights)

    @cached_property
    def planner(self) -> ModulePass:
        """The last pass of the target's pipeline, which gives a program its places in memory."""
        return parse_passes(self.target, self.target.pipeline(max_rows=self.max_rows))[-1]

    @cached_property
    def build(self) -> Build:
        """The whole program."""
        return Build(self.target, self.planned, dict(self.kernels) if self.kernels is not None else {})

    @cached_property
    def interpreted(self) -> Interpreted:
        """What the program means."""
        return Interpreted(self.reference, self.weights)

    def load(self, machine: Machine) -> Executable:
        """The whole program on a machine."""
        return self.build.load(machine, self.build.pack(self.weights))

    def plan(self, module: ModuleOp) -> ModuleOp:
        """A program that was cut out, planned as the target does it."""
        planned = module.clone()
        try:
            self.planner.apply(make_context(), planned)
        except CompileError as error:
            raise Refused(error.message, error.location) from None
        planned.verify()
        return planned


@dataclass
class Build:
    """A planned program and what its target makes of it, each level built once."""

    target: Target
    planned: ModuleOp
    given: dict[str, bytes | Path] = field(default_factory=dict[str, "bytes | Path"])
    """Files that there are already, which no level is built for."""
    _built: dict[tuple[str, bool], Files] = field(default_factory=dict[tuple[str, bool], Files])

    @cached_property
    def program(self) -> Program:
        return Program.of(self.planned)

    def pack(self, weights: WeightStore) -> Bytes:
        return pack_weights(self.planned, weights)

    def load(self, machine: Machine, packed: Bytes) -> Executable:
        files = self.given if self.given and not machine.emulated else self._files(machine)
        return self.target.load(files, self.program, packed, threads=machine.threads, isa=machine.isa)

    def _files(self, machine: Machine) -> Files:
        key = (machine.isa, machine.emulated)
        if key not in self._built:
            # A target of somebody else's need not know how to emulate.
            options = {"emulate": True} if machine.emulated else {}
            try:
                self._built[key] = self.target.build_here(self.planned, isa=machine.isa, **options)
            except CompileError as error:
                raise Refused(error.message, error.location) from None
        return self._built[key]


@dataclass
class _Stages(PassObserver):
    """Keeps the module before and after every pass that changed it."""

    stages: list[PassStage] = field(default_factory=list[PassStage])
    _last: ModuleOp = field(default_factory=lambda: ModuleOp([]))

    def begin(self, passes: Sequence[ModulePass], stage: Stage) -> None:
        self._last = stage.module.clone()

    def after(self, step: Step, stage: Stage, seconds: float) -> None:
        if not stage.module.is_structurally_equivalent(self._last):
            module = stage.module.clone()
            self.stages.append(PassStage(step.rewrite, self._last, module))
            self._last = module


def lowered(imported: Imported, target: Target, *, max_rows: int = 64) -> Subject:
    """What the target makes of an imported model, which stays as it is."""
    module, observer = imported.module.clone(), _Stages()
    start = module.clone()
    passes = parse_passes(target, target.pipeline(max_rows=max_rows))
    context = make_context(imported.weights, tokens_for(target, imported))
    run_passes(context, module, passes, [observer])
    moved = [stage.after for stage in observer.stages if tolerance_of(stage.rewrite) != EXACT]
    return Subject(target, module, imported.weights, moved[-1] if moved else start, observer.stages)


def loaded(artifact: Artifact, target: Target) -> Subject:
    """An artifact's program and kernels. What it was compiled from is not in it: its own IR is the reference."""
    planned = parse(artifact.ir("scheduled"), str(artifact.path))
    for op in list(planned.ops):
        if isinstance(op, WeightOp):
            if "offset" not in op.attributes:
                op.detach()
            elif op.body is not None:
                stored = WeightOp(op.sym_name.data, op.type)
                stored.attributes.update(op.attributes)
                planned.body.block.insert_op_before(stored, op)
                op.detach()
    packed = artifact.map_weights(integer_attribute(planned, "ternary.weights_bytes"))
    return Subject(target, planned, PackedStore(planned, packed), planned, kernels=artifact.kernels())


class PackedStore:
    """The weights of a planned module, unpacked from the bytes that its offsets point into."""

    def __init__(self, planned: ModuleOp, packed: Bytes) -> None:
        self._weights = {op.sym_name.data: op for op in planned.ops if isinstance(op, WeightOp)}
        self._packed = packed

    def read(self, name: str) -> Array:
        op = self._weights[name]
        start = integer_attribute(op, "offset")
        return packing.unpack(np.asarray(self._packed[start : start + buffer_bytes(op.type, 0)]), op.type)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._weights[name].type.get_shape()

    def dtype(self, name: str) -> str:
        array = self.read(name)
        return f"{array.dtype.kind.upper()}{array.dtype.itemsize * 8}"
