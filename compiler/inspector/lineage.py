"""Which ops became which in a pass.

An op that a pass leaves in place, or changes in place, is the same object before and after. What replaced an
op that went is watched while the pass runs: every rewrite in xDSL ends in `SSAValue.replace_all_uses_with` or
in a clone. Where a pass did something else (an operand set by hand, a function built anew), relations of
operands and then source locations tell; each link says by which of these it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from xdsl.dialects.builtin import UnknownLoc
from xdsl.ir import Operation, OpResult, SSAValue

MOST_LINKS = 8
"""Links of one op by location or absorption: more would say nothing."""


class Kind(StrEnum):
    REPLACED = "replaced"
    """The results of the old op were replaced by those of the new one."""
    CLONED = "cloned"
    ABSORBED = "absorbed"
    """Only ops that were replaced by the new op used the old one."""
    LOCATION = "location"
    """Both come from the same place of the user's program; nothing closer is known."""


@dataclass(frozen=True)
class Link:
    old: Operation
    new: Operation
    kind: Kind


@dataclass(frozen=True)
class Snapshot:
    """The ops of a module at one moment, in order, and what each one reads."""

    operands: dict[Operation, tuple[SSAValue, ...]]

    @staticmethod
    def of(ops: Iterable[Operation]) -> Snapshot:
        return Snapshot({op: tuple(op.operands) for op in ops})


@dataclass
class Rewrites:
    """What was seen while a pass ran: (old op, new op) in the order of the rewrites."""

    seen: dict[Operation, dict[Operation, Kind]] = field(
        default_factory=dict[Operation, dict[Operation, Kind]]
    )

    def replaced(self, old: SSAValue, new: SSAValue) -> None:
        if isinstance(old, OpResult) and isinstance(new, OpResult) and old.op is not new.op:
            self.seen.setdefault(old.op, {})[new.op] = Kind.REPLACED

    def cloned(self, old: Operation, new: Operation) -> None:
        self.seen.setdefault(old, {}).setdefault(new, Kind.CLONED)

    def outcome(self, old: Operation, survivors: Container[Operation]) -> dict[Operation, Kind]:
        """What of `survivors` the op led to, through ops that came and went within the pass."""
        found: dict[Operation, Kind] = {}
        queue, visited = [(old, Kind.CLONED)], {old}
        while queue:
            op, kind = queue.pop()
            for new, step in self.seen.get(op, {}).items():
                reached = kind if step is Kind.CLONED else step
                if new in survivors:
                    found.setdefault(new, reached)
                elif new not in visited:
                    visited.add(new)
                    queue.append((new, reached))
        return found


@contextmanager
def watch_rewrites() -> Generator[Rewrites]:
    """Sees the rewrites of whatever runs inside.

    xDSL's listeners belong to the rewriter that a pass makes for itself, so the methods that all rewriters
    end in are wrapped while this is open.
    """
    rewrites = Rewrites()
    replace_all, replace_some = SSAValue.replace_all_uses_with, SSAValue.replace_uses_with_if
    clone = Operation.clone_without_regions

    def replace_all_uses_with(self: SSAValue, value: SSAValue) -> None:
        rewrites.replaced(self, value)
        replace_all(self, value)

    def replace_uses_with_if(self: SSAValue, value: SSAValue, predicate: Callable[[Any], bool]) -> None:
        rewrites.replaced(self, value)
        replace_some(self, value, predicate)

    def clone_without_regions(self: Operation, *args: Any, **kwargs: Any) -> Operation:
        copy = clone(self, *args, **kwargs)
        rewrites.cloned(self, copy)
        return copy

    patched: dict[str, tuple[type, Any, Any]] = {
        "replace_all_uses_with": (SSAValue, replace_all, replace_all_uses_with),
        "replace_uses_with_if": (SSAValue, replace_some, replace_uses_with_if),
        "clone_without_regions": (Operation, clone, clone_without_regions),
    }
    for name, (owner, _, wrapper) in patched.items():
        setattr(owner, name, wrapper)
    try:
        yield rewrites
    finally:
        for name, (owner, original, _) in patched.items():
            setattr(owner, name, original)


def links(before: Snapshot, after: Snapshot, rewrites: Rewrites) -> list[Link]:
    """How the ops of `before` that went, and those of `after` that are new, belong together."""
    gone = [op for op in before.operands if op not in after.operands]
    new = {op: None for op in after.operands if op not in before.operands}
    found: dict[Operation, dict[Operation, Kind]] = {}
    for op in before.operands:
        outcome = rewrites.outcome(op, after.operands)
        if op in after.operands:
            outcome = {target: kind for target, kind in outcome.items() if target in new}
        if outcome:
            found[op] = outcome
    _operand_relations(before, after, found, new)
    _absorb(before, gone, found)
    _same_location(before, gone, new, found)
    return [Link(old, target, kind) for old, targets in found.items() for target, kind in targets.items()]


def _operand_relations(
    before: Snapshot,
    after: Snapshot,
    found: dict[Operation, dict[Operation, Kind]],
    new: dict[Operation, None],
) -> None:
    """An op that stayed reads, in the place of a value that went, the result of a new op."""
    for op, operands in before.operands.items():
        now = after.operands.get(op)
        if now is None or len(now) != len(operands):
            continue
        for old, value in zip(operands, now, strict=True):
            match old, value:
                case OpResult(), OpResult() if old.op not in after.operands and value.op in new:
                    found.setdefault(old.op, {}).setdefault(value.op, Kind.REPLACED)
                case _:
                    pass


def _absorb(before: Snapshot, gone: list[Operation], found: dict[Operation, dict[Operation, Kind]]) -> None:
    """An op that went without a successor went into what its users became."""
    users: dict[Operation, list[Operation]] = {}
    for op, operands in before.operands.items():
        for operand in operands:
            if isinstance(operand, OpResult):
                users.setdefault(operand.op, []).append(op)
    for op in reversed(gone):
        if op in found:
            continue
        targets = [target for user in users.get(op, []) for target in found.get(user, {})]
        if targets:
            found[op] = dict.fromkeys(list(dict.fromkeys(targets))[:MOST_LINKS], Kind.ABSORBED)


def _same_location(
    before: Snapshot,
    gone: list[Operation],
    new: dict[Operation, None],
    found: dict[Operation, dict[Operation, Kind]],
) -> None:
    """What is left without a link is linked by its place in the user's program."""
    linked = {target for targets in found.values() for target in targets}
    orphans = [op for op in new if op not in linked]
    at: dict[Any, list[Operation]] = {}
    for op in before.operands:
        if not isinstance(op.location, UnknownLoc):
            at.setdefault(op.location, []).append(op)
    lost = {op for op in gone if op not in found}
    for orphan in orphans:
        candidates = at.get(orphan.location, [])
        for old in ([op for op in candidates if op in lost] or candidates)[:MOST_LINKS]:
            found.setdefault(old, {}).setdefault(orphan, Kind.LOCATION)
