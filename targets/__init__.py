"""Targets: what a planned program is compiled for, found through the entry points `sterna.targets`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from xdsl.dialects.builtin import ModuleOp
    from xdsl.passes import ModulePass

    from sterna.dialects.weights import WeightStore
    from sterna.progress import Progress
    from sterna.targets.options import TargetOption
    from sterna.targets.program import Program

    Array = npt.NDArray[Any]
    Bytes = npt.NDArray[np.uint8]

ENTRY_POINT_GROUP = "sterna.targets"

TO_FUSED = (
    "raise-bit-linear",
    "fold-weights",
    "raise-ternary-products",
    "fuse-thresholds",
    "fuse-convolutions",
    "fold-weights",
    "ternarize",
    "fuse-norm-quantize",
    "fuse-projections",
    "fuse-elementwise",
)
"""The passes that targets begin with: from what was imported to fused operations; functions of `math` stay."""


class Executable(Protocol):
    """A program in memory, ready to run."""

    @property
    def isa(self) -> str: ...

    @property
    def threads(self) -> int: ...

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Runs on arrays of the framework's shapes, in the order of the program's inputs; returns fresh arrays.

        Any number of rows: more than `max_rows` run in pieces, and states go from one to the next.
        InputError, in one line, for inputs of other shapes, types or values than the program takes.
        """
        ...

    # An executable whose memory is not the host's may have, beside these,
    #     def decoder(self) -> Decoder | None
    # for a new text of a language model, and one whose states need not be copied for every call
    #     def session(self) -> Session
    # Without either, or where `decoder` gives None, every step goes through `run`. And
    #     def texts(self, count: int) -> Texts | None
    # for so many texts at once; without it they go one after the other.


class Session(Protocol):
    """A text whose states, zeros at first, stay where they are computed."""

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """`Executable.run` on inputs without states; the results without states."""
        ...


class Decoder(Protocol):
    """A text that a language model continues; states and logits stay where they are computed."""

    def feed(self, tokens: Array) -> None:
        """The next tokens of the text, `[T]`, of which there is at least one."""
        ...

    def choose(
        self, temperature: float, top_k: int | None, top_p: float | None, generator: np.random.Generator
    ) -> int:
        """What comes after the tokens fed so far, as `sterna.sampling` says: it is not fed by that."""
        ...


class Texts(Protocol):
    """Texts that a language model continues together: each becomes what it would alone, bit for bit."""

    def begin(self, prompts: Sequence[Array]) -> None:
        """The first tokens of every text, `[T]` of its own length, at least one."""
        ...

    def step(self, tokens: Array) -> None:
        """The next token of every text, `[texts]`."""
        ...

    def choose(
        self,
        text: int,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        generator: np.random.Generator,
    ) -> int:
        """What comes next in a text, as `Decoder.choose`."""
        ...


class Target(Protocol):
    """A machine to compile for."""

    name: ClassVar[str]
    emits: ClassVar[tuple[str, ...]]
    """What `emit` can print, beside the IR itself."""

    def describe_host(self) -> list[str]:
        """What this machine can run of it, a line each."""
        ...

    def passes(self) -> dict[str, type[ModulePass]]:
        """The target's own lowering passes, by name."""
        ...

    def pipeline(self, *, max_rows: int = 64) -> str:
        """The passes from imported to planned IR, as xDSL pipeline text."""
        ...

    def emit(self, planned: ModuleOp, kind: str, *, isa: str | None = None) -> str:
        """The text of the planned module in one of the kinds of `emits`. The module stays as it is."""
        ...

    def build(self, planned: ModuleOp) -> dict[str, bytes]:
        """The files that an artifact keeps, by name. The module stays as it is."""
        ...

    def levels(self, *, emulated: bool = False) -> tuple[str, ...]:
        """The instruction sets that this machine runs, strongest first; `emulated`: those that it can only emulate."""
        ...

    def build_here(
        self, planned: ModuleOp, *, isa: str | None = None, emulate: bool = False
    ) -> dict[str, bytes]:
        """What `load` needs of that on this machine for one instruction set: the named one, or the best.

        With `emulate`, a level that the machine lacks runs on it all the same, slowly.
        """
        ...

    def load(
        self,
        files: Mapping[str, bytes | Path],
        program: Program,
        weights: Bytes,
        *,
        threads: int | None = None,
        isa: str | None = None,
    ) -> Executable:
        """Makes the files of `build` ready to run on packed weights, which stay mapped as they are."""
        ...


@runtime_checkable
class ConfigurableTarget(Protocol):
    """A target with options of its own: `sterna compile --target T --name VALUE`."""

    options: ClassVar[tuple[TargetOption, ...]]

    def configured(self, values: Mapping[str, str]) -> Target:
        """The target with these options, which are some of `options`; CompileError for a wrong value."""
        ...


@runtime_checkable
class ProjectTarget(Protocol):
    """A target whose product is a folder of files for other tools, not an artifact that runs here."""

    def write_project(
        self, lowered: ModuleOp, weights: WeightStore, folder: Path, *, name: str, progress: Progress
    ) -> str:
        """Writes files into an empty folder, which appears at its place when they all are there; a line for the
        user."""
        ...
