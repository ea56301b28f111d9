"""The base of what users of the compiler see when their input is wrong."""

from __future__ import annotations


class CompileError(Exception):
    """Input that cannot be compiled. `str()` is one line, `file:line: module.path: message`, fit to be shown as it is."""

    def __init__(self, message: str, location: object = None) -> None:
        super().__init__(message if location is None else f"{location}: {message}")
