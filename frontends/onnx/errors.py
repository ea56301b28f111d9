"""What the ONNX frontend raises, and how a message names a place in a model."""

from __future__ import annotations

from sterna.frontends.errors import FrontendError


class OnnxError(FrontendError):
    """A model that is malformed: one line, `file: node or field: what was found, and what was expected`."""


class Unsupported(Exception):
    """The node being imported cannot be; the message says why, if there is more to say than its name."""


def shown(text: str | bytes, limit: int = 60) -> str:
    """A name out of a file, fit for one line of a message; bytes that are no text come from damaged files."""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    clean = "".join(c if c.isprintable() else "?" for c in text[: limit + 1])
    return clean if len(text) <= limit else clean[:limit] + "..."
