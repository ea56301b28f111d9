"""Pieces of the Python file that the target prints: kernels with their parameters, and text laid out as ruff does."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

LINE_LENGTH = 110
INDENT = "    "

NAME = re.compile(r"[A-Za-z_]\w*")
ASSIGNED = re.compile(r"(\w+) = ")


@dataclass(frozen=True)
class Param:
    """A kernel's parameter: a pointer (`*fp32`), a number (`i32`), or a `constexpr` of which `value` is an example."""

    name: str
    type: str
    value: int | bool = 0

    @property
    def declaration(self) -> str:
        return f"{self.name}: tl.constexpr" if self.type == "constexpr" else self.name


@dataclass(frozen=True)
class Kernel:
    """A `triton.jit` function. Two operations whose kernels have the same text share one."""

    stem: str
    params: tuple[Param, ...]
    body: tuple[str, ...]
    doc: tuple[str, ...]
    helpers: frozenset[str] = frozenset()
    """Functions of the prelude, and of this file, that the body calls."""
    num_warps: int = 4
    registers: int | None = None
    """The most that a thread has, where that is not left to the assembler."""
    tuned: str | None = None
    """The call that gives the decorator which tunes it."""
    is_function: bool = False
    """Is it called by kernels, and never launched?"""

    @property
    def identity(self) -> tuple[object, ...]:
        return self.params, self.body

    def text(self, name: str) -> list[str]:
        jit = '@triton.jit(do_not_specialize=["rows", "many_as"])' if self.tuned else "@triton.jit"
        lines = [jit, *definition(name, [param.declaration for param in self.params])]
        return lines + indented([*docstring(self.doc), *self.body])


@dataclass
class Names:
    """Distinct Python identifiers, near to what was asked for."""

    taken: set[str] = field(default_factory=set[str])
    outer: Names | None = None
    """Names of the file, which these hide nowhere."""
    inner: set[str] = field(default_factory=set[str])
    """All that were ever given by those whose `outer` this is."""

    def is_free(self, name: str) -> bool:
        hidden = self.outer is not None and name in self.outer.taken
        return not (name in self.taken or name in self.inner or hidden or keyword.iskeyword(name))

    def new(self, wanted: str) -> str:
        stem = identifier(wanted)
        name, number = stem, 1
        while not self.is_free(name):
            name, number = f"{stem}_{number}", number + 1
        self.taken.add(name)
        if self.outer is not None:
            self.outer.inner.add(name)
        return name


def identifier(text: str) -> str:
    """The text with what no identifier has taken out."""
    cleaned = re.sub(r"\W", "_", text).strip("_") or "value"
    return f"v{cleaned}" if cleaned[0].isdigit() else cleaned


def without_unused(lines: Sequence[str]) -> list[str]:
    """The statements of a function but for assignments, outside of loops and choices, to names that no other reads."""
    names = [set(NAME.findall(line)) for line in lines]
    uses = Counter(name for found in names for name in found)
    kept: list[str] = []
    for line, found in zip(reversed(lines), reversed(names), strict=True):
        assigned = ASSIGNED.match(line)
        if assigned is not None and uses[assigned[1]] == 1:
            uses.subtract(found)
        else:
            kept.append(line)
    return kept[::-1]


def indented(lines: Iterable[str], depth: int = 1) -> list[str]:
    return [INDENT * depth + line if line else line for line in lines]


def docstring(lines: Sequence[str]) -> list[str]:
    lines = [line.replace("\\", "/").replace('"""', "'''") for line in lines]
    if not lines:
        return []
    if len(lines) == 1:
        return [f'"""{lines[0]}"""']
    return [f'"""{lines[0]}', *lines[1:], '"""']


def definition(name: str, parameters: Sequence[str], result: str = "") -> list[str]:
    return listed(f"def {name}(", parameters, f"){result}:")


def call(function: str, arguments: Sequence[str], *, depth: int = 1, before: str = "") -> list[str]:
    return listed(f"{before}{function}(", arguments, ")", depth=depth)


def tuple_text(items: Sequence[str]) -> str:
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


def assigned(before: str, values: Sequence[str], *, depth: int = 1) -> list[str]:
    """Values behind `return ` or `names = `: on one line where that fits."""
    line = f"{before}{', '.join(values)}"
    if len(line) + depth * len(INDENT) <= LINE_LENGTH or len(values) == 1:
        return [line]
    return listed(f"{before}(", values, ")", depth=depth)


def listed(opening: str, items: Sequence[str], closing: str, *, depth: int = 0) -> list[str]:
    """On one line where that fits; otherwise an item a line, which a formatter leaves alone."""
    line = f"{opening}{', '.join(items)}{closing}"
    if len(line) + depth * len(INDENT) <= LINE_LENGTH or not items:
        return [line]
    return [opening, *(f"{INDENT}{item}," for item in items), closing]
