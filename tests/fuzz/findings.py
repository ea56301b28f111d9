"""What fuzzing finds: one input and one traceback for each place that raised."""

from __future__ import annotations

import json
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

FOLDER = Path("build/fuzz")
TOTALS = FOLDER / "totals.jsonl"


class Hang(BaseException):
    """An input that took longer than it may. No handler of the code under test catches it."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises Hang in the main thread after so much of the processor's time: the machine may be busy."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise Hang(f"longer than {seconds} s")

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def limit_memory(bytes: int) -> None:
    """What is asked for beyond it is a MemoryError, which is a finding."""
    resource.setrlimit(resource.RLIMIT_AS, (bytes, bytes))


@dataclass
class Findings:
    """Runs a target on inputs, and keeps the first that raises at each place."""

    name: str
    seconds: int
    """That one input may take."""
    executions: int = 0
    _began: float = field(default_factory=time.monotonic)
    _reported: float = 0.0

    @property
    def folder(self) -> Path:
        return FOLDER / "findings" / self.name

    def try_input(self, run: Callable[[bytes], None], data: bytes) -> bool:
        """Whether the target took the input without a defect."""
        self.executions += 1
        try:
            with time_limit(self.seconds):
                run(data)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            self.keep(error, data)
            return False
        finally:
            if time.monotonic() - self._reported > 10:
                self.report()
        return True

    def keep(self, error: BaseException, data: bytes) -> None:
        place = traceback.extract_tb(error.__traceback__)[-1]
        name = f"{type(error).__name__}-{Path(place.filename).stem}-{place.lineno}"
        if not (self.folder / f"{name}.txt").exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{name}.bin").write_bytes(data)
            (self.folder / f"{name}.txt").write_text("".join(traceback.format_exception(error)))

    def report(self) -> None:
        """Where libFuzzer ends the process there is no other place to say how much was run."""
        self._reported = time.monotonic()
        lines = TOTALS.read_text().splitlines() if TOTALS.is_file() else []
        key = f"{self.name}-{id(self)}-{self._began}"
        line = json.dumps(
            {
                "run": key,
                "target": self.name,
                "executions": self.executions,
                "seconds": round(time.monotonic() - self._began, 1),
                "processor_seconds": round(time.process_time(), 1),
            }
        )
        kept = [other for other in lines if json.loads(other)["run"] != key]
        TOTALS.parent.mkdir(parents=True, exist_ok=True)
        TOTALS.write_text("\n".join([*kept, line]) + "\n")
