"""A program while it is being drawn: the values so far, by type, and the lines that make them.

A recipe (`recipes/`) draws one operation: it takes operands from here, and adds a line.

    def rms_norm(to: Drawing) -> None:
        x = to.tensor("f32", ranks=(1, 3))
        weight = to.weight("f32", x.shape[-1:])
        to.emit(f"ternary.rms_norm {x}, {weight} eps = 1.0e-6 lanes = 16 : {x.type}, {weight.type}", x.type_of())

An operand is a new argument of the program before it is a value that is there, so that a failure shrinks to the one
operation that is wrong, on arguments; lines that no result needs are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

Shape = tuple[int | None, ...]
"""Of a tensor; None is T, the one size that is known only when the program runs."""

T = TypeVar("T")

TRIT = "!ternary.trit"
NAME = re.compile(r"%([a-z]\w*)")


@dataclass(frozen=True)
class Limits:
    """What programs may be made of."""

    ranks: tuple[int, int] = (0, 3)
    """The fewest and the most axes of a tensor that is drawn as an operand."""
    sizes: tuple[int, ...] = (2, 3, 4, 8, 16, 17, 33, 1)
    """Static sizes, the plainest first."""
    dynamic: str = "anywhere"
    """Where T may stand: `leading`, `anywhere` or `never`."""
    integers: tuple[str, ...] = ("i32", "i8", "i64", "i16", "i1")
    elements: int = 1 << 12
    """The most elements of a tensor, T counted as one."""
    max_ops: int = 8


@dataclass(frozen=True)
class Type:
    """An element type, and the shape of a tensor; a scalar has none."""

    element: str
    shape: Shape | None = None

    def __str__(self) -> str:
        if self.shape is None:
            return self.element
        sizes = ("?" if size is None else str(size) for size in self.shape)
        return f"tensor<{'x'.join([*sizes, self.element])}>"

    def of(self, element: str) -> Type:
        """The same shape with other elements."""
        return Type(element, self.shape)

    @property
    def axes(self) -> Shape:
        assert self.shape is not None
        return self.shape

    @property
    def is_tensor(self) -> bool:
        return self.shape is not None

    @property
    def is_dynamic(self) -> bool:
        return self.shape is not None and None in self.shape


@dataclass(frozen=True)
class Value:
    name: str
    type: Type

    def __str__(self) -> str:
        return self.name

    @property
    def shape(self) -> Shape:
        return self.type.axes

    @property
    def last(self) -> int:
        """The size of the last axis, which is static."""
        size = self.shape[-1]
        assert size is not None
        return size


@dataclass(frozen=True)
class Line:
    text: str
    results: tuple[str, ...]

    @property
    def reads(self) -> set[str]:
        return {f"%{name}" for name in NAME.findall(self.text)} - set(self.results)


@dataclass(frozen=True)
class Weight:
    """`kind` says what its numbers are: `floats`, `trits`, `ternary` (floats of one magnitude), `integers`."""

    name: str
    type: Type
    kind: str = "floats"
    body: tuple[str, ...] = ()
    """The region of a derived weight."""
    reads: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        head = f"ternary.weight @{self.name} : {self.type}"
        return head if not self.body else "\n".join([head + " {", *(f"  {line}" for line in self.body), "}"])


@dataclass
class Shared:
    """What the functions of a program have in common."""

    weights: dict[str, Weight] = field(default_factory=dict[str, Weight])
    functions: dict[str, str] = field(default_factory=dict[str, str])
    names: int = 0


@dataclass
class Drawing:
    """One function."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    limits: Limits = field(default_factory=Limits)
    shared: Shared = field(default_factory=Shared)
    values: list[Value] = field(default_factory=list[Value])
    """What operations made, and what they read; scalars too."""
    lines: list[Line] = field(default_factory=list[Line])
    arguments: list[Value] = field(default_factory=list[Value])
    states: list[tuple[Value, Value]] = field(default_factory=list[tuple[Value, Value]])
    """Arguments that are recurrent states, and what each becomes."""
    _rows: Value | None = None

    # Choices.

    def choose(self, *options: T) -> T:
        """One of the options; the first is the plainest."""
        return self.draw(st.sampled_from(options))

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def flag(self) -> bool:
        return self.choose(False, True)

    def float(self) -> str:
        """A literal of f32; what MLIR has no decimal for is written in bits."""
        value = self.draw(
            st.sampled_from((0.0, 1.0, -1.0, 0.5, -0.0, 127.0, 1e-30, 3e38)) | st.floats(width=32)
        )
        return float_literal(value)

    def size(self) -> int:
        return self.choose(*self.limits.sizes)

    def shape(self, ranks: tuple[int, int] | None = None) -> Shape:
        low, high = ranks or self.limits.ranks
        shape: list[int | None] = [self.size() for _ in range(self.integer(low, high))]
        while prod(size or 1 for size in shape) > self.limits.elements:
            shape[shape.index(max(size or 0 for size in shape))] = 2
        if shape and self.limits.dynamic != "never" and not self.flag():
            shape[0 if self.limits.dynamic == "leading" else self.integer(0, len(shape) - 1)] = None
        return tuple(shape)

    def integer_element(self) -> str:
        return self.choose(*self.limits.integers)

    # Operands.

    def tensor(
        self,
        elements: str | Sequence[str],
        ranks: tuple[int, int] | None = None,
        *,
        where: Callable[[Shape], bool] = lambda shape: True,
        otherwise: Callable[[], Shape] | None = None,
    ) -> Value:
        """A tensor of such elements whose shape fits: one that is there, or a new one of the shape `otherwise`."""
        allowed = (elements,) if isinstance(elements, str) else tuple(elements)
        low, high = ranks or self.limits.ranks
        fitting = [
            value
            for value in reversed(self.values)
            if value.type.is_tensor
            and value.type.element in allowed
            and low <= len(value.shape) <= high
            and where(value.shape)
        ]
        if (n := self.integer(0, len(fitting))) > 0:
            return fitting[n - 1]
        shape = otherwise() if otherwise is not None else self.shape((low, high))
        return self.new(Type(self.choose(*allowed), shape))

    def value(self, type: Type) -> Value:
        """A value of exactly that type: one that is there, an argument, a constant or a weight."""
        if not type.is_tensor:
            return self.scalar(type.element)
        fitting = [value for value in reversed(self.values) if value.type == type]
        n = self.integer(0, len(fitting))
        return fitting[n - 1] if n else self.new(type)

    def new(self, type: Type) -> Value:
        if type.element == TRIT:
            return self.weight(TRIT, type.axes, "trits")
        is_float = type.element in ("f32", "f16")
        match self.choose("argument", "splat", "weight" if is_float and not type.is_dynamic else "argument"):
            case "splat":
                return self.splat(type)
            case "weight":
                return self.weight(type.element, type.axes)
            case _:
                return self.argument(type)

    def argument(self, type: Type) -> Value:
        value = Value(self.name("x"), type)
        self.arguments.append(value)
        self.values.append(value)
        return value

    def is_argument(self, value: Value) -> bool:
        return value in self.arguments

    def weight(self, element: str, shape: Shape, kind: str = "floats") -> Value:
        weight = self.add_weight(Weight(self.name("w")[1:], Type(element, shape), kind))
        return self.load(weight)

    def add_weight(self, weight: Weight) -> Weight:
        self.shared.weights[weight.name] = weight
        return weight

    def load(self, weight: Weight) -> Value:
        (value,) = self.emit(f"ternary.load @{weight.name} : {weight.type}", weight.type)
        return value

    def scalar(self, element: str) -> Value:
        fitting = [value for value in reversed(self.values) if value.type == Type(element)]
        if (n := self.integer(0, len(fitting))) > 0:
            return fitting[n - 1]
        if element == "index":
            return self.constant("index", str(self.integer(0, 3)))
        return self.constant(element, self.literal(element))

    def literal(self, element: str) -> str:
        match element:
            case "f32":
                return self.float()
            case "f16":
                return f"{self.integer(-64, 64) / 8:e}"
            case "i1":
                return self.choose("false", "true")
            case _:
                bits = 32 if element == "index" else int(element[1:])
                return str(self.draw(st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)))

    def constant(self, element: str, literal: str) -> Value:
        suffix = "" if literal in ("true", "false") else f" : {element}"
        (value,) = self.emit(f"arith.constant {literal}{suffix}", Type(element))
        return value

    def index(self, number: int) -> Value:
        return self.constant("index", str(number))

    def rows(self) -> Value:
        """T, of an argument that has it."""
        if self._rows is None:
            dynamic = next((value for value in self.arguments if value.type.is_dynamic), None)
            argument = dynamic or self.argument(Type("f32", (None, self.size())))
            axis = self.index(argument.shape.index(None))
            (self._rows,) = self.emit(f"tensor.dim {argument}, {axis} : {argument.type}", Type("index"))
        return self._rows

    def sizes(self, shape: Shape) -> list[Value]:
        """The operands that give the dynamic sizes of a new tensor."""
        return [self.rows() for size in shape if size is None]

    def splat(self, type: Type) -> Value:
        scalar, sizes = self.scalar(type.element), self.sizes(type.axes)
        at = f"[{', '.join(map(str, sizes))}]" if sizes else ""
        (value,) = self.emit(f"tensor.splat {scalar}{at} : {type}", type)
        return value

    def empty(self, type: Type) -> Value:
        """Somewhere for an operation to write: no other operation may read it, so it is none of the values."""
        sizes = ", ".join(map(str, self.sizes(type.axes)))
        (value,) = self.emit(f"tensor.empty({sizes}) : {type}", type, reusable=False)
        return value

    # Lines.

    def emit(self, text: str, *types: Type, reusable: bool = True) -> tuple[Value, ...]:
        """Adds an operation with results of these types."""
        results = tuple(Value(self.name("v"), type) for type in types)
        names = tuple(str(value) for value in results)
        self.lines.append(Line(f"{', '.join(names)} = {text}", names))
        if reusable:
            self.values += results
        return results

    def nested(self) -> Drawing:
        """For the region of an operation, which reads what is here; its arguments are those of the function."""
        return Drawing(
            self.draw, self.limits, self.shared, [*self.values], arguments=self.arguments, _rows=self._rows
        )

    def block(self, results: Sequence[Value]) -> str:
        """The lines of a nested drawing that its results need."""
        lines, _ = _needed(self.lines, {str(value) for value in results})
        return "".join(f"    {line.text}\n" for line in lines)

    def name(self, letter: str) -> str:
        self.shared.names += 1
        return f"%{letter}{self.shared.names}"

    def function(self, name: str, results: Sequence[Value], *, private: bool = False) -> str:
        """The text of the function: what its results need, and nothing else. Fewer arguments and states may be left."""
        needed = {str(value) for value in results}
        kept: list[Line] = []
        states = list(self.states)
        pending = True
        while pending:
            kept, read = _needed(self.lines, needed)
            # A state that is read must be returned, which may need more.
            more = {str(last) for argument, last in states if str(argument) in read | needed} - needed
            needed |= more
            pending = bool(more)
        _, read = _needed(self.lines, needed)
        read |= needed
        self.lines = kept
        self.states = [(argument, last) for argument, last in states if str(argument) in read]
        held = [argument for argument, _ in self.states]
        if not private:
            plain = [value for value in self.arguments if str(value) in read and value not in held]
            self.arguments = [*plain, *held]
        returned = [*results, *(last for _, last in self.states)]
        arguments = ", ".join(f"{value} : {value.type}" for value in self.arguments)
        types = ", ".join(str(value.type) for value in returned)
        attributes = f" attributes {{sterna.states = {len(held)} : i64}}" if held else ""
        return "\n".join(
            [
                f"func.func {'private ' if private else ''}@{name}({arguments}) -> ({types}){attributes} {{",
                *(f"  {line.text}" for line in kept),
                f"  func.return {', '.join(map(str, returned))} : {types}",
                "}",
            ]
        )


def _needed(lines: Sequence[Line], results: set[str]) -> tuple[list[Line], set[str]]:
    """The lines that make the results, in order, and all names that those lines read."""
    wanted = set(results)
    kept: list[Line] = []
    for line in reversed(lines):
        if wanted & set(line.results):
            kept.append(line)
            wanted |= line.reads
    return kept[::-1], wanted


def float_literal(value: float) -> str:
    number = np.float32(value)
    if not np.isfinite(number):
        return f"0x{int(number.view(np.uint32)):08X}"
    return f"{float(number):.9e}"
