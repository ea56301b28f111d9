"""The dialects that Sterna accepts, and reading IR text with them."""

from __future__ import annotations

import re

from xdsl.dialects import get_all_dialects
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.parser import Parser
from xdsl.utils.exceptions import DiagnosticException, ParseError

from sterna.dialects.errors import CompileError, describe_location
from sterna.dialects.llvm_vector import LLVMVector
from sterna.dialects.ternary import Ternary
from sterna.dialects.weights import SternaContext, WeightStore

UPSTREAM = ("builtin", "func", "arith", "math", "tensor", "linalg", "scf", "cf", "memref", "vector", "llvm")
"""Imported IR uses the first six; the others are what lowering makes of them."""

UNQUOTED_OR_CLOSED = re.compile(
    r'(?:[^"/]++|//[^\n]*+|/|"(?:[^"\\\n\v\f]++|\\(?:["nt\\]|[0-9A-Fa-f]{2}))*+")*+'
)
"""Text up to a string literal that is not closed, which xDSL finds out in time exponential in its length."""


def make_context(weights: WeightStore | None = None) -> SternaContext:
    """A context that knows every accepted dialect; upstream ones are loaded when their first operation is met."""
    ctx = SternaContext(weights=weights)
    available = get_all_dialects()
    for name in UPSTREAM:
        ctx.register_dialect(name, available[name])
    ctx.load_registered_dialect("builtin")
    ctx.load_dialect(Ternary)
    ctx.register_dialect("llvm_vector", lambda: LLVMVector)
    return ctx


def parse(text: str, name: str = "<string>", ctx: SternaContext | None = None) -> ModuleOp:
    """The verified module that the text says; CompileError, naming `name` and the line, for any other text."""
    closed = UNQUOTED_OR_CLOSED.match(text)
    if closed is not None and closed.end() < len(text):
        line = text.count("\n", 0, closed.end()) + 1
        raise CompileError("this string is not closed, or has an escape that is not known", f"{name}:{line}")
    try:
        module = Parser(ctx or make_context(), text, name).parse_module()
    except ParseError as error:
        raise CompileError(first_line(error.msg), str(error.span.get_location())) from None
    except DiagnosticException as error:
        raise CompileError(first_line(str(error)), name) from None
    except RecursionError:
        raise CompileError("the text is nested too deeply", name) from None
    verify(module, name)
    return module


def verify(module: ModuleOp, name: str) -> None:
    """CompileError, naming the first operation that breaks a rule of its own."""
    try:
        module.verify()
    except DiagnosticException as error:
        broken, message = _first_broken(module) or (module, str(error))
        place = describe_location(broken.location) or name
        raise CompileError(f"{broken.name}: {first_line(message)}", place) from None


def _first_broken(module: ModuleOp) -> tuple[Operation, str] | None:
    for op in module.walk():
        try:
            op.verify(verify_nested_ops=False)
        except DiagnosticException as error:
            return op, str(error)
    return None


def first_line(text: str) -> str:
    """The complaint itself: xDSL adds a listing of the IR to it."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "invalid")
