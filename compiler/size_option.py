"""`--size NAME=SIZE`, which an ONNX model leaves open, and `--context N`, the most tokens of a transformer's text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

SIZE_OPTION = click.option(
    "--size",
    "sizes",
    multiple=True,
    metavar="NAME=SIZE",
    help="An open size of an ONNX model: a number, or T.",
)

CONTEXT_OPTION = click.option(
    "--context",
    type=click.IntRange(2, 1 << 18),
    metavar="TOKENS",
    help="The longest text of a transformer, prompt included. Default: the model's own, up to 4096.",
)


def source_options(sizes: Sequence[str], context: int | None) -> dict[str, Any]:
    """The options of the frontend; none that is not given, for frontends without it."""
    return read_sizes(sizes) | ({} if context is None else {"context": context})


def read_sizes(arguments: Sequence[str]) -> dict[str, Any]:
    """The arguments as the frontend's option; none where none is given, for frontends without it."""
    given: dict[str, int | str] = {}
    for argument in arguments:
        name, separator, size = argument.rpartition("=")
        is_number = size.isascii() and size.isdecimal() and len(size) < 16
        if not separator or not (size == "T" or is_number):
            raise click.UsageError(f"--size {argument}: expected NAME=NUMBER or NAME=T")
        given[name] = int(size) if is_number else size
    return {"sizes": given} if given else {}
