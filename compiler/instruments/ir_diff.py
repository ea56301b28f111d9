"""A diff of two texts of IR that does not see renumbering.

One operation more renames every unnamed value after it, and a plain diff shows all of them. Here two lines are the same
if they differ in names of values only, and each name stands for the same value: what stands for what is learnt from the
lines that define values, so that swapped operands are never hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher, unified_diff

VALUE = re.compile(r"%[\w.$-]+(?:#\d+)?")
"""A name of a value in the text."""


def diff(before: str, after: str, from_name: str, to_name: str, context: int = 3) -> list[str]:
    """The lines of a unified diff, without newlines; lines that stayed are shown as they are now."""
    old, new = before.splitlines(), after.splitlines()
    old_keys = [f"-{number}" for number in range(len(old))]
    new_keys = [f"+{number}" for number in range(len(new))]
    for at, to in _same_lines(old, new):
        old_keys[at] = new_keys[to]
    texts = dict(zip(old_keys, old, strict=True)) | dict(zip(new_keys, new, strict=True))
    lines = list(unified_diff(old_keys, new_keys, from_name, to_name, n=context, lineterm=""))
    return [*lines[:2], *(line if line.startswith("@@") else line[0] + texts[line[1:]] for line in lines[2:])]


def _same_lines(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Numbers of lines that stayed, in order."""
    old_shapes, new_shapes = ([VALUE.sub("%", line) for line in lines] for lines in (old, new))
    blocks = SequenceMatcher(None, old_shapes, new_shapes).get_matching_blocks()
    partner = {block.a + at: block.b + at for block in blocks for at in range(block.size)}
    became: dict[str, str | None] = {}
    for at, line in enumerate(old):
        names, defined = VALUE.findall(line), _definitions(line)
        to = partner.get(at)
        if to is None:
            # A number that went says nothing of that number in the new text; a name is given on, as arguments are.
            became |= {name: None if name[1:].isdigit() else name for name in names[:defined]}
            continue
        renamed = VALUE.findall(new[to])
        uses = zip(names[defined:], renamed[defined:], strict=True)
        if all(became.get(name, name) == now for name, now in uses):
            yield at, to
        became |= dict(zip(names[:defined], renamed[:defined], strict=True))


def _definitions(line: str) -> int:
    """How many of the names on a line, from its first, it defines."""
    if _is_header(line):
        return len(VALUE.findall(line))
    results, equals, _ = line.partition(" = ")
    return len(VALUE.findall(results)) if equals and results.lstrip().startswith("%") else 0


def _is_header(line: str) -> bool:
    return line.lstrip().startswith(("^", "func.func"))
