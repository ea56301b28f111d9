"""What the process of `child.py` runs: engines by number, until there are no more requests.

    TRITON_INTERPRET=1 python -m sterna.targets.triton.server

Requests come on stdin and answers go to stdout; what a kernel or an import prints goes to stderr.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from sterna.targets.triton.child import Message, receive, send
from sterna.targets.triton.engine import Array, Engine, import_torch


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    engines: dict[int, Engine] = {}
    # New memory is NaN, or the largest integers, so that a result tells whether a kernel read what none had written.
    import_torch().use_deterministic_algorithms(True)
    while (request := receive(sys.stdin.buffer)) is not None:
        message, arrays = request
        try:
            results = answer_to(message, arrays, engines)
        except Exception as error:
            send(answers, {"error": " ".join(f"{type(error).__name__}: {error}".split())})
        else:
            send(answers, {}, results)


def answer_to(message: Message, arrays: list[Array], engines: dict[int, Engine]) -> list[Array]:
    if "load" in message:
        number = max(engines, default=0) + 1
        engines[number] = Engine(Path(message["load"]), arrays[0], "cpu")
        return [np.array(number)]
    if "drop" in message:
        engines.pop(message["drop"], None)
        return []
    return engines[message["run"]].run(message["texts"], message["length"], arrays)


if __name__ == "__main__":
    main()
