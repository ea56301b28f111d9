"""The base of what users of the compiler see when their input is wrong."""

from __future__ import annotations

from xdsl.dialects.builtin import ArrayAttr, CallSiteLoc, FileLineColLoc, FusedLoc, NameLoc
from xdsl.ir import Attribute


class CompileError(Exception):
    """Input that cannot be compiled. `str()` is one line, `file:line: module.path: message`, fit to be shown as it is.

    The location is an operation's (`op.location`) or text; an unknown one adds nothing.
    """

    def __init__(self, message: str, location: Attribute | str | None = None) -> None:
        place = location if isinstance(location, str) else describe_location(location)
        text = f"{place}: {message}" if place else message
        super().__init__(" ".join(text.split()))


def describe_location(location: Attribute | None) -> str:
    """`file:line: module.path` with what the location knows of them; empty where it knows nothing."""
    match location:
        case FileLineColLoc():
            return f"{location.filename.data}:{location.line.data}"
        case NameLoc():
            return ": ".join(
                part for part in (describe_location(location.location), location.desc.data) if part
            )
        case CallSiteLoc():
            return describe_location(location.callee)
        case FusedLoc(locations=ArrayAttr() as parts):
            return next((text for part in parts if (text := describe_location(part))), "")
        case _:
            return ""
