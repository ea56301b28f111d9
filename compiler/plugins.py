"""Targets and frontends, found through entry points: a third party adds one without touching this tree."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from sterna.dialects.errors import CompileError

if TYPE_CHECKING:
    from sterna.frontends import Frontend
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


def configured_target(name: str, values: Mapping[str, str]) -> Target:
    """The target of that name with options of its own. CompileError for one that it does not have."""
    from sterna.targets import ConfigurableTarget
    from sterna.targets.options import option_values

    target = find_target(name)
    if isinstance(target, ConfigurableTarget):
        return target.configured(values)
    option_values(name, (), values)
    return target


@cache
def find_frontend(name: str) -> Frontend:
    """The frontend of that name. CompileError if no installed package provides it, or if it lacks a library."""
    found = entry_points(group="sterna.frontends", name=name)
    if not found:
        raise CompileError(f"no installed package provides the frontend '{name}'")
    try:
        return next(iter(found)).load()()
    except ModuleNotFoundError as error:
        raise CompileError(
            f"the frontend '{name}' needs {error.name}, which is not installed: pip install 'sterna[torch]'"
        ) from None
