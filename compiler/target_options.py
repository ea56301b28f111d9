"""Options of `sterna compile` and `sterna inspect` that belong to a target: in --help where --target names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from sterna.dialects.errors import CompileError

PREFIX = "target_option_"
DEFAULT_TARGET = "cpu"


class CompileCommand(click.Command):
    """A command that also takes what the target on its command line declares."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[__name__] = _declared(_target_in(args))
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *ctx.meta.get(__name__, ())]


def split_options(target: str, others: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """The target's options that were given, by their own names, and the rest. UsageError for a wrong value."""
    from sterna.plugins import configured_target

    given = {
        name.removeprefix(PREFIX): value
        for name, value in others.items()
        if name.startswith(PREFIX) and value is not None
    }
    if given:
        try:
            configured_target(target, given)
        except CompileError as error:
            raise click.UsageError(error.message) from None
    return given, {name: value for name, value in others.items() if not name.startswith(PREFIX)}


def makes_project(target: str) -> bool:
    from sterna.plugins import find_target
    from sterna.targets import ProjectTarget

    return isinstance(find_target(target), ProjectTarget)


def _target_in(args: Sequence[str]) -> str:
    """What --target says; the default where it says nothing."""
    for index, argument in enumerate(args):
        if argument == "--target" and index + 1 < len(args):
            return args[index + 1]
        if argument.startswith("--target="):
            return argument.removeprefix("--target=")
    return DEFAULT_TARGET


def _declared(target: str) -> list[click.Option]:
    """Nothing for a target that is unknown: that is said when the command runs."""
    from sterna.plugins import find_target
    from sterna.targets import ConfigurableTarget

    try:
        found = find_target(target)
    except CompileError:
        return []
    if not isinstance(found, ConfigurableTarget):
        return []
    return [
        click.Option(
            [f"--{option.name}", f"{PREFIX}{option.name.replace('-', '_')}"],
            metavar=option.metavar,
            help=f"{option.help} Default: {option.default}." if option.default else option.help,
        )
        for option in found.options
    ]
