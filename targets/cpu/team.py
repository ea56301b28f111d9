"""A team of threads that run one native function together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from weakref import finalize

Task = Callable[[int], None]


class Team:
    """`run(task)` calls `task(n)` on thread n for every n at once; thread 0 is the caller's.

    The task must release Python's lock (a ctypes call does), or its threads would run one after the other.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._crew: _Crew | None = None

    def run(self, task: Task) -> None:
        if self.threads == 1:
            task(0)
            return
        # A fork takes only the thread that called it along.
        if self._crew is None or self._crew.process != os.getpid():
            self._crew = _Crew(self.threads - 1)
            finalize(self, _Crew.dismiss, self._crew)
        self._crew.run(task)


class _Crew:
    """The other threads. They know this and not the team, so that a forgotten team can be collected."""

    def __init__(self, size: int) -> None:
        self.process = os.getpid()
        self._task: Task | None = None
        self._unfinished = 0
        self._done = threading.Semaphore(0)
        self._starts = [threading.Semaphore(0) for _ in range(size)]
        for n, start in enumerate(self._starts):
            name = f"sterna-{n + 1}"
            threading.Thread(target=self._work, args=(n + 1, start), name=name, daemon=True).start()

    def _work(self, number: int, start: threading.Semaphore) -> None:
        while start.acquire() and self._perform(number):
            pass

    def _perform(self, number: int) -> bool:
        """In a call of its own: a thread that waits must not hold the task, which holds the team."""
        if self._task is None:
            return False
        self._task(number)
        self._done.release()
        return True

    def run(self, task: Task) -> None:
        self._join()
        self._task = task
        self._unfinished = len(self._starts)
        for start in self._starts:
            start.release()
        try:
            task(0)
        finally:
            self._join()
            self._task = None

    def _join(self) -> None:
        # An interrupt may break the wait; what is left of it comes first in the next run.
        while self._unfinished:
            self._done.acquire()
            self._unfinished -= 1

    def dismiss(self) -> None:
        self._task = None
        for start in self._starts:
            start.release()
