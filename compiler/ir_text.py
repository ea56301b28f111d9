"""IR as text, for people and for files."""

from __future__ import annotations

from io import StringIO

from xdsl.ir import Operation
from xdsl.printer import Printer
from xdsl.syntax_printer import SyntaxPrinter


def print_ir(op: Operation, *, locations: bool = False, color: bool = False) -> str:
    """The operation in its custom format, without a newline at its end; `locations` adds each known `loc(...)`."""
    out = StringIO()
    printer = SyntaxPrinter if color else Printer
    printer(stream=out, print_debuginfo=locations).print_op(op)
    return out.getvalue().replace(" loc(unknown)", "")


def first_line(op: Operation) -> str:
    """How the operation reads, without its regions."""
    return next(iter(print_ir(op).splitlines()), op.name)
