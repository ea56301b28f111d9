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
    strides: tuple[int, ...]
    """Bytes in memory from one element to the next along every axis of the IR's shape."""
    buffer_bytes: int
    """With the largest number of rows that one call takes."""
    batch_axis: int | None = None
    """The axis along which samples lie, if the program takes one at a time of as many as a caller gives."""
    given_dtype: str | None = None
    """The framework's, where memory holds it as another: uint8 as int8, float16 as float32."""
    limit: int | None = None
    """Values must be in [0, limit), if it says so: tokens."""
    capacity: int | None = None
    """The rows that a text may have, of a state that counts those before a call."""
    in_place: bool = False
    """Of a state that follows another: may it lie where that one does?"""

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
        for name in ("shape", "ir_shape", "strides"):
            fields[name] = tuple(fields[name])
        return ProgramTensor(**fields)


@dataclass(frozen=True, kw_only=True)
class Program:
    """The interface of a planned module. States are the last inputs and outputs, in the same order."""

    inputs: tuple[ProgramTensor, ...]
    outputs: tuple[ProgramTensor, ...]
    max_rows: int
    """The longest T of one call."""
    in_pieces: bool
    """Does a longer T run in pieces of `max_rows`? Otherwise it is refused."""
    arena_bytes: int
    weights_bytes: int
    streamed_bytes: int
    """Packed trits, all of which a call reads at least once: what the time of one row is made of."""

    @property
    def memory_bytes(self) -> int:
        """Of the arena and of the buffers of inputs and results; the weights are mapped."""
        tensors = [*self.inputs, *(tensor for tensor in self.outputs if not tensor.in_place)]
        return self.arena_bytes + sum(tensor.buffer_bytes for tensor in tensors)

    @property
    def context(self) -> int | None:
        """The most tokens of one text; None where nothing bounds them."""
        return min((t.capacity for t in self.inputs if t.capacity is not None), default=None)

    @staticmethod
    def of(module: ModuleOp) -> Program:
        """The program of a planned module; CompileError if it was not planned."""
        from sterna.targets.interface import program_of

        return program_of(module)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Program:
        """KeyError, TypeError, ValueError or CompileError for anything but what `to_json` gave."""
        from sterna.targets.program_checks import check_program

        fields: dict[str, Any] = dict(value)
        for name in ("inputs", "outputs"):
            fields[name] = tuple(ProgramTensor.from_json(each) for each in fields[name])
        program = Program(**fields)
        check_program(program)
        return program
