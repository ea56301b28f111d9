"""The base of what users of the compiler see when their input is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdsl.ir import Attribute


class CompileError(Exception):
    """Input that cannot be compiled. `str()` is one line, `file:line: module.path: message`, fit to be shown as it is.

    The location is an operation's (`op.location`) or text; an unknown one adds nothing.
    """

    message: str
    location: str
    """`file:line: module.path`, or empty."""

    def __init__(self, message: str, location: Attribute | str | None = None) -> None:
        self.message = " ".join(message.split())
        self.location = location if isinstance(location, str) else describe_location(location)
        super().__init__(f"{self.location}: {self.message}" if self.location else self.message)


def describe_location(location: Attribute | None) -> str:
    """`file:line: module.path` with what the location knows of them; empty where it knows nothing."""
    if location is None:
        return ""
    # Only here: what runs an artifact raises these errors too, and must not wait for the compiler to be imported.
    from xdsl.dialects.builtin import ArrayAttr, CallSiteLoc, FileLineColLoc, FusedLoc, NameLoc

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
