"""Regions on scalars, as `linalg.generic`, `linalg.reduce` and the fused operations have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sterna.testing.drawing import Drawing, Type
from sterna.testing.recipes.elementwise import ELEMENTWISE, Elementwise, fits

REGION_OPS = 6
"""The most operations that are drawn in one region."""


@dataclass
class Scalars:
    """The values of a region by element type."""

    to: Drawing
    elements: tuple[str, ...]
    """Element types that its operations may have."""
    values: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Names and elements."""
    lines: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Names and what each is."""
    plain: set[str] = field(default_factory=set[str])
    """Values that are no NaN: the bits of a NaN, its sign among them, are nobody's promise."""

    def add(self, text: str, element: str, *, plain: bool = False) -> str:
        name = self.to.name("r")
        self.lines.append((name, text))
        self.values.append((name, element))
        if plain:
            self.plain.add(name)
        return name

    def value(self, element: str, *, plain: bool = False) -> str:
        fitting = [
            name for name, of in reversed(self.values) if of == element and (not plain or name in self.plain)
        ]
        if fitting and (n := self.to.integer(0, len(fitting))) < len(fitting):
            return fitting[n]
        return self.constant(element)

    def constant(self, element: str) -> str:
        literal = self.to.literal(element)
        suffix = "" if literal in ("true", "false") else f" : {element}"
        # A literal in bits may be a NaN.
        return self.add(f"arith.constant {literal}{suffix}", element, plain=not literal.startswith("0x"))

    def apply(self, op: Elementwise) -> None:
        operands, result = op.elements(self.to, self.elements)
        values = [self.value(each, plain=op.reads_bits) for each in operands]
        text = op.text(self.to, values, [Type(each) for each in operands], Type(result))
        self.add(text, result, plain=op.name in ("arith.sitofp", "arith.uitofp"))


def region(to: Drawing, arguments: Sequence[str], results: Sequence[str], elements: tuple[str, ...]) -> str:
    """The region of a fused operation: `^bb0(...): ... ternary.yield`."""
    names = [to.name("r") for _ in arguments]
    header = ", ".join(f"{name} : {element}" for name, element in zip(names, arguments, strict=True))
    values = list(zip(names, arguments, strict=True))
    return f"  ^bb0({header}):\n{body(to, values, results, elements)}"


def body(
    to: Drawing,
    values: Sequence[tuple[str, str]],
    results: Sequence[str],
    elements: tuple[str, ...],
    *,
    terminator: str = "ternary.yield",
    indices: int = 0,
) -> str:
    """The operations of a region on these values (names and elements), and its terminator.

    Operations have these element types; each of `indices` loops has a `linalg.index`.
    """
    scalars = Scalars(to, elements, [*values])
    ops = [op for op in ELEMENTWISE.values() if fits(op, elements)]
    for loop in range(indices):
        index = scalars.add(f"linalg.index {loop} : index", "index")
        scalars.add(f"arith.index_cast {index} : index to i64", "i64")
    for _ in range(to.integer(0, REGION_OPS)):
        scalars.apply(to.choose(*ops))
    yielded = [scalars.value(element) for element in results]
    needed = set(yielded)
    lines: list[str] = []
    for name, text in reversed(scalars.lines):
        if name in needed:
            lines.append(f"    {name} = {text}\n")
            needed |= {word.strip(",") for word in text.split() if word.startswith("%")}
    return f"{''.join(reversed(lines))}    {terminator} {', '.join(yielded)} : {', '.join(results)}\n"
