"""What verification says: a row for each kernel, pass or program on each level and number of threads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Verdict(Enum):
    EQUAL = "equal"
    DIFFERS = "DIFFERS"
    FAILED = "FAILED"
    """It could not be compiled, or raised an exception."""
    NOT_RUN = "not run"


NO_TIME = "the time was up"


@dataclass
class Row:
    """One thing on one machine, and what became of it so far."""

    kind: str
    """`kernel`, `pass`, `program` or, against another runtime, its name."""
    name: str
    shape: str
    target: str
    isa: str = ""
    threads: int | None = None
    contract: str = "bit_exact"
    examples: int = 0
    verdict: Verdict = Verdict.NOT_RUN
    worst: float = 0.0
    """The largest error, in the unit of the contract."""
    worst_text: str = ""
    detail: str = NO_TIME
    """Why it was not run; what differs."""
    reproducer: Path | None = None
    seconds: float = 0.0

    @property
    def is_bad(self) -> bool:
        return self.verdict in (Verdict.DIFFERS, Verdict.FAILED)

    @property
    def is_over(self) -> bool:
        """Nothing more is to be run of it."""
        return self.is_bad or (self.verdict == Verdict.NOT_RUN and self.detail != NO_TIME)

    def left_out(self, why: str) -> None:
        self.verdict, self.detail = Verdict.NOT_RUN, why

    def passed(self, worst: float, text: str) -> None:
        """One more example that fulfils the contract."""
        self.examples += 1
        self.verdict, self.detail = Verdict.EQUAL, ""
        if worst >= self.worst:
            self.worst, self.worst_text = worst, text

    def failed(self, verdict: Verdict, detail: str, worst: float = 0.0, text: str = "") -> None:
        self.examples += verdict == Verdict.DIFFERS
        self.verdict, self.detail, self.worst, self.worst_text = verdict, detail, worst, text
