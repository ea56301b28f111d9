"""Targets and frontends, found through entry points, so that a third party adds one without touching this tree."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from sterna.dialects.errors import CompileError

if TYPE_CHECKING:
    from sterna.targets import Target


@cache
def target_names() -> tuple[str, ...]:
    """Targets that are installed and import here (a target may need a library that this machine lacks)."""
    return tuple(sorted(point.name for point in entry_points(group="sterna.targets") if _imports(point)))


def _imports(point: EntryPoint) -> bool:
    try:
        point.load()
    except (ImportError, AttributeError):
        return False
    return True


@cache
def find_target(name: str) -> Target:
    """The target of that name. CompileError if no installed package provides it."""
    found = entry_points(group="sterna.targets", name=name)
    if not found:
        raise CompileError(f"unknown target '{name}', expected one of: {', '.join(target_names())}")
    return next(iter(found)).load()()
