"""Where in the user's source, and in which module, a node of a torch graph was made."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import cast

import torch
from torch.fx import Node
from xdsl.dialects.builtin import (
    FileLineColLoc,
    IntAttr,
    LocationAttr,
    NameLoc,
    NoneAttr,
    StringAttr,
    UnknownLoc,
)

FRAME = re.compile(r'File "(.+?)", line (\d+), in ')
TRACED = re.compile(r"^L\['\w+'\]\.?")
"""What torch.compile puts in front: the variable that holds the module."""
TORCH = str(Path(torch.__file__).parent) + os.sep


@lru_cache(maxsize=4096)
def _innermost(trace: str) -> tuple[str, int] | None:
    """File and line of the innermost frame that is not torch's own."""
    frames = [(file, int(line)) for file, line in FRAME.findall(trace)]
    users = [frame for frame in frames if not frame[0].startswith(TORCH)]
    return (users or frames or [None])[-1]


def module_of(node: Node) -> str:
    """The path of the innermost module, as in a state dict: `model.layers.0.attn`; empty for the root."""
    stack = cast(dict[str, tuple[str, object]], node.meta.get("nn_module_stack") or {})
    path = next(reversed(stack.values()))[0] if stack else ""
    return TRACED.sub("", path)


def location_of(node: Node) -> LocationAttr:
    frame = _innermost(node.meta.get("stack_trace") or "")
    place = FileLineColLoc(StringAttr(frame[0]), IntAttr(frame[1]), IntAttr(0)) if frame else None
    if module := module_of(node):
        return NameLoc(StringAttr(module), place or NoneAttr())
    return place or UnknownLoc()


def place_of(node: Node) -> str:
    """`file:line`, the file relative to the working directory if it is below it."""
    if (frame := _innermost(node.meta.get("stack_trace") or "")) is None:
        return f"node {node.name}"
    relative = os.path.relpath(frame[0])
    return f"{frame[0] if relative.startswith('..') else relative}:{frame[1]}"
