"""What a user sees when something is wrong with the input: one line, and never a traceback."""

from __future__ import annotations

from xdsl.utils.exceptions import ArgSpecParseError, DiagnosticException, ParseError

from sterna.dialects.errors import CompileError

INPUT_ERRORS: tuple[type[BaseException], ...] = (
    CompileError,
    DiagnosticException,
    ParseError,
    ArgSpecParseError,
    OSError,
)
"""What bad input raises. Anything else is a defect of ours, and keeps its traceback."""


def one_line(error: BaseException) -> str:
    """The message without the listing of IR or text that xDSL adds to it.

    One line, but for the one error that is a list: every op of a model that is not supported.
    """
    match error:
        case ParseError():
            return f"{error.span.get_location()}: {_first_line(error.msg)}"
        case ArgSpecParseError():
            # The message is a heading, the offending text, carets, then what was expected.
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return f"cannot read the passes: {lines[-1]}" + (f", in '{lines[2]}'" if len(lines) > 3 else "")
        case CompileError():
            return str(error)
        case OSError() if error.filename is not None:
            return f"{error.filename}: {error.strerror}"
        case _:
            return _first_line(str(error)) or type(error).__name__


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
