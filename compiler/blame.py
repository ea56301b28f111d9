"""Which operation a pass was at when it raised, found from the exception's frames: no pass has to say it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation

from sterna.dialects.errors import describe_location


@dataclass(frozen=True)
class Blame:
    """An operation's name, and where in the user's source it came from, if that is known."""

    operation: str
    location: Attribute | None


def blame(error: BaseException) -> Blame | None:
    """The operation in the innermost frame that holds one; its location may be its parent's or an outer frame's."""
    operations = list(_operations(error))
    if not operations:
        return None
    locations = (place.location for op in operations for place in _with_parents(op))
    location = next((place for place in locations if describe_location(place)), None)
    return Blame(operations[0].name, location)


def _operations(error: BaseException) -> Iterator[Operation]:
    frames: list[FrameType] = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    for frame in reversed(frames):
        # A rewrite pattern calls what it matched `op`; in an operation's own verifier it is `self`.
        names = frame.f_locals
        for value in (names.get("op"), names.get("self"), *names.values()):
            if isinstance(value, Operation) and not isinstance(value, ModuleOp):
                yield value


def _with_parents(op: Operation | None) -> Iterator[Operation]:
    while op is not None and not isinstance(op, ModuleOp):
        yield op
        op = op.parent_op()
