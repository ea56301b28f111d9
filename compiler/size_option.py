"""`--size NAME=SIZE`: the sizes that an ONNX model leaves open, on the command line."""

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
