"""Options that a target declares: the command line offers those of the target that it compiles for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sterna.dialects.errors import CompileError


@dataclass(frozen=True)
class TargetOption:
    """`--name VALUE` of `sterna compile --target T`; a keyword of `configured`."""

    name: str
    metavar: str
    help: str
    default: str = ""


def option_values(target: str, declared: Sequence[TargetOption], given: Mapping[str, str]) -> dict[str, str]:
    """A value for each declared option; CompileError for one that the target does not have."""
    known = {option.name: option.default for option in declared}
    if unknown := next((name for name in given if name not in known), None):
        has = f"it has {', '.join(f'--{name}' for name in known)}" if known else "it has none"
        raise CompileError(f"target '{target}' has no option --{unknown}: {has}")
    return {**known, **given}
