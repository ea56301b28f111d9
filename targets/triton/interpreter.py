# pyright: basic
"""Triton's interpreter, which prepares `triton.language` for every function that a kernel calls: here once a launch.

It exchanges the members of the module for its own, and to find them goes through all there are: milliseconds, where
most functions of the vocabulary compute for less. They stay exchanged until the launch ends, so once is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MARK = "prepares_once"


def prepare_once() -> None:
    """From now on in this process, which is one where Triton interprets."""
    import triton.language as tl
    from triton.language import core
    from triton.runtime import interpreter

    prepare: Callable[[Any], Any] | None = getattr(interpreter, "_patch_lang", None)
    if prepare is None or not hasattr(interpreter, "_LangPatchScope") or hasattr(prepare, MARK):
        return  # Another version of Triton, whose ways are not known here; or done.
    prepared: set[str] = set()

    def once(function: Any) -> Any:
        """What a launch undoes at its end; for a function that a kernel calls, None is enough."""
        names = {each.__name__ for each in function.__globals__.values() if each is tl or each is core}
        if prepared and names <= prepared:
            return None
        scope, is_launch = prepare(function), not prepared
        prepared.update(names)
        if is_launch:
            restore = scope.restore

            def end() -> None:
                prepared.clear()
                restore()

            scope.restore = end
        return scope

    setattr(once, MARK, True)
    interpreter._patch_lang = once
