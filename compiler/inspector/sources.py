"""Where in the user's program an op comes from: the module path and the file and line of its location."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xdsl.dialects.builtin import ArrayAttr, CallSiteLoc, FileLineColLoc, FusedLoc, NameLoc
from xdsl.ir import Attribute

MOST_BYTES = 256 * 1024
"""A source file longer than this is not shown: it is hardly a model."""


@dataclass(frozen=True)
class Place:
    """`path`: the name in the model, as "model.layers.0.attn.i_proj"; `file`, `line`: the code. Each may be missing."""

    path: str
    file: str = ""
    line: int = 0


def places(location: Attribute) -> tuple[Place, ...]:
    """The places that a location names: several for an op that was fused from several."""
    return tuple(dict.fromkeys(_places(location, "")))


def _places(location: Attribute, path: str) -> Iterator[Place]:
    match location:
        case FileLineColLoc():
            yield Place(path, location.filename.data, location.line.data)
        case NameLoc():
            inner = tuple(_places(location.location, location.desc.data))
            yield from inner or (Place(location.desc.data),)
        case FusedLoc(locations=ArrayAttr() as parts):
            for part in parts:
                yield from _places(part, path)
        case CallSiteLoc():
            yield from _places(location.callee, path)
        case _:
            return


def source_text(file: str) -> str | None:
    """The text of a source file, or None where it cannot be read here (the IR may come from another machine)."""
    path = Path(file)
    try:
        if path.suffix != ".py" or not path.is_file() or path.stat().st_size > MOST_BYTES:
            return None
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError):
        return None


def shown_file(file: str) -> str:
    """The file as a report names it: reports travel, and need not tell how the directories of a machine are called."""
    path = Path(file)
    for base in (Path.cwd(), Path.home()):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return "/".join(path.parts[-3:]) if path.is_absolute() else file
