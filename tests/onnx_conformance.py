"""ONNX's own node tests on the interpreter and on the CPU target, and the table that docs/onnx.md has of them.

python tests/onnx_conformance.py        writes the table
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner
from onnx.numpy_helper import to_array

from sterna.dialects.errors import CompileError
from sterna.onnx_backend import SternaBackend

DOCUMENT = Path(__file__).parent.parent / "docs" / "onnx.md"
BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"
DEVICES = ("interpreter", "cpu")
AS_A_FUNCTION = ", as a function"
STATUSES = ("passed", "failed", "not supported")

Counts = Mapping[str, tuple[int, int, int]]
"""For each device, how many tests passed, failed, and are not supported."""


@dataclass(frozen=True)
class Case:
    """One of ONNX's tests: a model, and inputs with the outputs that are expected."""

    name: str
    operator: str
    model: ModelProto
    data: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float

    def status(self, device: str) -> str:
        """`passed`, `not supported`, or what is wrong."""
        try:
            ready = SternaBackend.prepare(self.model, device)
            for inputs, expected in self.data:
                found = ready.run(list(inputs))
                Runner.assert_similar_outputs([_array(x) for x in expected], found, self.rtol, self.atol)
        except CompileError:
            return "not supported"
        except Exception as error:  # whatever it is, it is a defect, and the other tests are counted
            return f"failed: {type(error).__name__}: {error}"
        return "passed"


def _array(value: Any) -> Any:
    return to_array(value) if isinstance(value, TensorProto) else value


@cache
def cases_by_operator() -> dict[str, list[Case]]:
    """ONNX's node tests. A test of a function that is written out counts for `Operator, as a function`."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        tests = [test for test in load_model_tests(kind="node") if test.model is not None]
    operators = {test.name: _operator(test.model) for test in tests}
    grouped: dict[str, list[Case]] = {}
    for test in tests:
        base, expanded, _ = test.name.partition("_expanded")
        known = operators.get(base, operators[test.name])
        operator = f"{known}{AS_A_FUNCTION}" if expanded else known
        case = Case(test.name, operator, test.model, test.data_sets, test.rtol, test.atol)
        grouped.setdefault(operator, []).append(case)
    return dict(sorted(grouped.items()))


def _operator(model: ModelProto) -> str:
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    return (nodes or list(model.graph.node))[0].op_type


def counted(cases: Sequence[Case], device: str) -> tuple[int, int, int]:
    statuses = Counter(case.status(device).partition(":")[0] for case in cases)
    passed, failed, missing = (statuses[status] for status in STATUSES)
    return passed, failed, missing


def devices(operator: str) -> tuple[str, ...]:
    """Functions that are written out run on the interpreter only: what they are made of has its own tests on both."""
    return DEVICES[:1] if operator.endswith(AS_A_FUNCTION) else DEVICES


def measured() -> dict[str, Counts]:
    """Every operator's counts on its devices."""
    return {
        operator: {device: counted(cases, device) for device in devices(operator)}
        for operator, cases in cases_by_operator().items()
    }


def table_text(counts: Mapping[str, Counts]) -> str:
    """The part of the document between the marks."""
    lines = [
        "",
        "| | interpreter: passed | failed | not supported | CPU: passed | failed | not supported |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    total = {
        device: tuple(map(sum, zip(*(c[device] for c in counts.values() if device in c), strict=True)))
        for device in DEVICES
    }
    supported = {operator: c for operator, c in counts.items() if any(passed for passed, *_ in c.values())}
    lines += [_row("**all**", total), *(_row(operator, c) for operator, c in supported.items())]
    missing = [operator for operator in counts if operator not in supported]
    return "\n".join([*lines, "", f"Not supported: {', '.join(missing)}.", ""])


def _row(name: str, counts: Mapping[str, Sequence[int]]) -> str:
    cells = [str(n) for device in DEVICES for n in counts.get(device, ("", "", ""))]
    return f"| {name} | {' | '.join(cells)} |"


def committed() -> dict[str, Counts]:
    """The counts of the document's table, by operator."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    found: dict[str, Counts] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| \n").split("|")]
        if len(cells) >= 4 and cells[1].isdecimal() and cells[0] != "**all**":
            numbers = [int(cell) for cell in cells[1:] if cell]
            thirds = ((numbers[n], numbers[n + 1], numbers[n + 2]) for n in range(0, len(numbers), 3))
            found[cells[0]] = dict(zip(DEVICES, thirds, strict=False))
    return found


def not_supported() -> Iterator[str]:
    """The operators that the document says are not supported."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    match = re.search(r"Not supported: (.*)\.", text)
    yield from re.split(r", (?!as a function)", match[1]) if match else ()


def main() -> int:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table_text(measured())}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
