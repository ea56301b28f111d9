"""Saying what the compiler is doing: a bar on stderr, and nothing where stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def no_progress(what: str, done: int, total: int) -> None:
    """For a caller that shows none."""


@contextmanager
def reporting(quiet: bool) -> Generator[Progress]:
    """Yields the function to call; it draws the bar."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield no_progress
        return
    columns = (
        progress.TextColumn("{task.description:24}"),
        progress.BarColumn(),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def report(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        yield report
