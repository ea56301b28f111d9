"""The dialects that Sterna accepts, and reading IR text with them."""

from __future__ import annotations

import re

from xdsl.context import Context
from xdsl.dialects import get_all_dialects
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.parser import Parser
from xdsl.utils.exceptions import DiagnosticException, ParseError

from sterna.dialects.errors import CompileError, describe_location
from sterna.dialects.fixed import Fixed
from sterna.dialects.llvm_vector import LLVMVector
from sterna.dialects.stream import Stream
from sterna.dialects.ternary import Ternary
from sterna.dialects.weights import Array, SternaContext, WeightStore

UPSTREAM = ("builtin", "func", "arith", "math", "tensor", "linalg", "scf", "cf", "memref", "vector", "llvm")
"""Imported IR uses the first six; the others are what lowering makes of them."""

UNQUOTED_OR_CLOSED = re.compile(
    r'(?:[^"/]++|//[^\n]*+|/|"(?:[^"\\\n\v\f]++|\\(?:["nt\\]|[0-9A-Fa-f]{2}))*+")*+'
)
"""Text up to a string literal that is not closed, which xDSL finds out in time exponential in its length."""


def make_context(
    weights: WeightStore | None = None, calibration_tokens: Array | None = None
) -> SternaContext:
    """A context that knows every accepted dialect; upstream ones are loaded when their first operation is met."""
    ctx = SternaContext(weights=weights, calibration_tokens=calibration_tokens)
    available = get_all_dialects()
    for name in UPSTREAM:
        ctx.register_dialect(name, available[name])
    ctx.load_registered_dialect("builtin")
    ctx.load_dialect(Ternary)
    ctx.register_dialect("stream", lambda: Stream)
    ctx.load_dialect(Fixed)
    ctx.register_dialect("llvm_vector", lambda: LLVMVector)
    return ctx


def parse(text: str, name: str = "<string>", ctx: SternaContext | None = None) -> ModuleOp:
    """The verified module that the text says; CompileError, naming `name` and the line, for any other text."""
    try:
        module = read(text, name, ctx or make_context())
    except ParseError as error:
        raise CompileError(first_line(error.msg), str(error.span.get_location())) from None
    except DiagnosticException as error:
        raise CompileError(first_line(str(error)), name) from None
    verify(module, name)
    return module


def read(text: str, name: str, ctx: Context, *, line: int = 1, implicit_module: bool = True) -> ModuleOp:
    """The module that the text says, not verified; `line` is the number of its first.

    Raises what xDSL's parser does (ParseError, DiagnosticException), and CompileError where that parser would hang,
    exhaust the stack, or stumble.
    """
    closed = UNQUOTED_OR_CLOSED.match(text)
    if closed is not None and closed.end() < len(text):
        place = f"{name}:{text.count(chr(10), 0, closed.end()) + line}"
        raise CompileError("this string is not closed, or has an escape that is not known", place)
    try:
        return Parser(ctx, text, name).parse_module(implicit_module)
    except (ParseError, DiagnosticException):
        raise
    except RecursionError:
        raise CompileError("the text is nested too deeply", name) from None
    except Exception as error:
        raise CompileError(f"the text cannot be read: {unforeseen(error)}", name) from error


def unforeseen(error: Exception) -> str:
    """What upstream's code stumbled over, where its checks of a text have a hole."""
    return f"{type(error).__name__}: {first_line(str(error))}"


def verify(module: ModuleOp, name: str) -> None:
    """CompileError, naming the first operation that breaks a rule of its own."""
    try:
        module.verify()
    except RecursionError:
        raise CompileError("the text is nested too deeply", name) from None
    except Exception as error:
        broken, cause = _first_broken(module) or (module, error)
        known = isinstance(cause, DiagnosticException)
        message = first_line(str(cause)) if known else f"cannot be checked: {unforeseen(cause)}"
        place = describe_location(broken.location) or name
        raise CompileError(f"{broken.name}: {message}", place) from None


def _first_broken(module: ModuleOp) -> tuple[Operation, Exception] | None:
    for op in module.walk():
        try:
            op.verify(verify_nested_ops=False)
        except Exception as error:
            return op, error
    return None


def first_line(text: str) -> str:
    """The complaint itself: xDSL adds a listing of the IR to it."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "invalid")
