"""The table of operators that Sterna imports: for each, the functions that emit it, by the opset since when they hold.

An emitter takes the `Node` and its inputs, None for one that is left out, and returns the node's outputs. There is a
file for each family of operators; `operators` joins their tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from sterna.frontends.onnx.values import Tensor

Outputs: TypeAlias = "Tensor | Sequence[Tensor | None]"
"""One output, or all of them; None for one that has no value here."""
Emitter: TypeAlias = Callable[..., Outputs]
E = TypeVar("E", bound=Emitter)
Key: TypeAlias = tuple[str, str]
"""Domain ("" for ONNX's own) and operator."""


class EmitterTable(Mapping[Key, Mapping[int, Emitter]]):
    """Which function emits which operator, since which version of its domain."""

    def __init__(self, *tables: EmitterTable) -> None:
        self._emitters: dict[Key, dict[int, Emitter]] = {}
        for table in tables:
            for key, versions in table.items():
                self._emitters.setdefault(key, {}).update(versions)

    def of(self, *operators: str, since: int = 1, domain: str = "") -> Callable[[E], E]:
        """Enters a function in the table for each of these operators."""

        def enter(emitter: E) -> E:
            for operator in operators:
                self.add(operator, emitter, since=since, domain=domain)
            return emitter

        return enter

    def add(self, operator: str, emitter: Emitter, *, since: int = 1, domain: str = "") -> None:
        self._emitters.setdefault((domain, operator), {})[since] = emitter

    def find(self, domain: str, operator: str, version: int) -> Emitter | None:
        """The emitter for a version of the domain: the newest one that is not newer."""
        versions: dict[int, Any] = self._emitters.get((domain, operator), {})
        fitting = [since for since in versions if since <= version]
        return versions[max(fitting)] if fitting else None

    def __getitem__(self, key: Key) -> Mapping[int, Emitter]:
        return self._emitters[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._emitters)

    def __len__(self) -> int:
        return len(self._emitters)
