"""Printed IR in which every line knows its ops and values, stored so that what repeats is stored once.

A line is a *template* and the ops and values that fill it. In a template, DEFINED and USED stand for the name
of a value, and OPENED and CLOSED for the places where the text of an op begins and ends:

    %5 = arith.mulf %3, %4 : f32        is        <OPENED><DEFINED> = arith.mulf <USED>, <USED> : f32<CLOSED>

So all layers of a model and all stages of a pipeline share their templates, a line whose values were only
renumbered is the same line, and nobody has to parse IR text to find what uses what.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from itertools import chain, islice

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.printer import Printer

# Private-use characters: printed IR is ASCII, since its string literals escape everything else.
DEFINED, USED, OPENED, CLOSED = "\ue000", "\ue001", "\ue002", "\ue003"


@dataclass(frozen=True)
class Line:
    template: str
    ops: tuple[Operation, ...]
    values: tuple[SSAValue, ...]

    @property
    def defined(self) -> list[bool]:
        """Whether each value is defined here, or used."""
        return [char == DEFINED for char in self.template if char in (DEFINED, USED)]


@dataclass(frozen=True)
class Listing:
    lines: tuple[Line, ...]
    names: dict[SSAValue, str]
    """The printed name of every value, without the percent sign, in the order of the text."""

    @cached_property
    def text(self) -> str:
        return "\n".join(self.line_text(line) for line in self.lines)

    def line_text(self, line: Line) -> str:
        values = iter(line.values)
        return "".join(
            f"%{self.names[next(values)]}" if char in (DEFINED, USED) else char
            for char in line.template
            if char not in (OPENED, CLOSED)
        )


def list_module(module: ModuleOp) -> Listing:
    printer = _ListingPrinter(StringIO())
    printer.print_op(module)
    assert isinstance(printer.stream, StringIO)
    ops, values = iter(printer.ops), iter(printer.values)
    lines = [
        Line(
            template,
            tuple(islice(ops, template.count(OPENED))),
            tuple(islice(values, template.count(DEFINED) + template.count(USED))),
        )
        for template in printer.stream.getvalue().split("\n")
    ]
    return Listing(tuple(lines), printer.names)


class _ListingPrinter(Printer):
    """Prints marks where names of values and bounds of ops would be, and keeps the list of what they stand for."""

    def __init__(self, stream: StringIO) -> None:
        super().__init__(stream)
        self.ops: list[Operation] = []
        self.values: list[SSAValue] = []
        self.names: dict[SSAValue, str] = {}
        self._in_results = False

    def print_op(self, op: Operation) -> None:
        self.ops.append(op)
        self.print_string(OPENED)
        super().print_op(op)
        self.print_string(CLOSED)

    def _print_results(self, op: Operation) -> None:
        self._in_results = True
        super()._print_results(op)
        self._in_results = False

    def print_ssa_value(self, value: SSAValue) -> str:
        # The base class chooses the name; what it prints is thrown away.
        out, self.stream = self.stream, StringIO()
        name = super().print_ssa_value(value)
        self.stream = out
        # An argument of a block is defined where its name stands first: only there can it be printed.
        defined = self._in_results or (isinstance(value, BlockArgument) and value not in self.names)
        self.print_string(DEFINED if defined else USED)
        self.values.append(value)
        self.names[value] = name
        return name


def all_ops(listing: Listing) -> list[Operation]:
    return list(chain.from_iterable(line.ops for line in listing.lines))
