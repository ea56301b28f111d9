"""What a frontend raises: one line that says where, what was found and what was expected; a list where it is one."""

from collections.abc import Sequence
from dataclasses import dataclass

from sterna.dialects.errors import CompileError


class FrontendError(CompileError):
    """Input that a frontend cannot read; the message is one line, fit to be shown without a traceback."""


class ConfigError(FrontendError):
    """A model configuration with a missing, mistyped or inconsistent field."""

    def __init__(self, field: str, found: object, expected: str) -> None:
        self.field = field
        shown = repr(found)
        super().__init__(f"config field '{field}': expected {expected}, found {shown[:80]}")


class CheckpointError(FrontendError):
    """A checkpoint file that is malformed, or that does not hold what its configuration calls for."""


class TokenizerError(FrontendError):
    """A tokenizer that is absent, unreadable, or needs a library that is not installed."""


@dataclass(frozen=True)
class UnsupportedOp:
    """One op of a model that the importer does not know: where it is, what it is, on which shapes."""

    place: str
    module: str
    op: str
    shapes: str
    reason: str = ""

    def __str__(self) -> str:
        parts = [self.place, self.module, f"{self.op} on {self.shapes}", self.reason]
        return ": ".join(part for part in parts if part)


class UnsupportedOpsError(FrontendError):
    """Every op of a model that cannot be imported, in one message: a summary, then a line for each op."""

    def __init__(self, ops: Sequence[UnsupportedOp]) -> None:
        self.ops = tuple(ops)
        count = "1 op is" if len(ops) == 1 else f"{len(ops)} ops are"
        self._lines = "\n  ".join([f"{count} not supported:", *map(str, ops)])
        super().__init__(self._lines)

    def __str__(self) -> str:
        return self._lines
