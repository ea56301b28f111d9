"""What a runtime must know of a compiled program: its entry's interface, and how much memory it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sterna.dialects.errors import CompileError

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

DYNAMIC = -1
"""The size of an axis that is only known when the program runs."""


class InputError(CompileError, ValueError):
    """An input that a program cannot run on."""


@dataclass(frozen=True, kw_only=True)
class ProgramTensor:
    """An input or a result of the entry."""

    name: str
    shape: tuple[int, ...]
    """As the framework had it; -1 for the dynamic number of rows."""
    ir_shape: tuple[int, ...]
    """Without axes of size 1."""
    dtype: str
    """In numpy's words."""
    is_state: bool
    row_bytes: int
    """From one row to the next in memory."""
    buffer_bytes: int
    """With the largest number of rows that one call takes."""
    limit: int | None = None
    """Values must be in [0, limit), if it says so: tokens."""

    @property
    def is_dynamic(self) -> bool:
        return DYNAMIC in self.ir_shape

    @property
    def columns(self) -> int:
        """Elements of a row; the elements of a dynamic vector are rows of one."""
        return self.ir_shape[-1] if self.ir_shape and self.ir_shape != (DYNAMIC,) else 1

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> ProgramTensor:
        fields: dict[str, Any] = dict(value)
        for name in ("shape", "ir_shape"):
            fields[name] = tuple(int(size) for size in fields[name])
        return ProgramTensor(**fields)


@dataclass(frozen=True, kw_only=True)
class Program:
    """The interface of a planned module. States are the last inputs and outputs, in the same order."""

    inputs: tuple[ProgramTensor, ...]
    outputs: tuple[ProgramTensor, ...]
    max_rows: int
    arena_bytes: int
    weights_bytes: int
    streamed_bytes: int
    """Packed trits, all of which a call reads at least once: what the time of one row is made of."""

    @staticmethod
    def of(module: ModuleOp) -> Program:
        """The program of a planned module; CompileError if it was not planned."""
        from sterna.targets.interface import program_of

        return program_of(module)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Program:
        """KeyError, TypeError or ValueError for anything but what `to_json` gave."""
        fields: dict[str, Any] = dict(value)
        for name in ("inputs", "outputs"):
            fields[name] = tuple(ProgramTensor.from_json(each) for each in fields[name])
        return Program(**fields)
