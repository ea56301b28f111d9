"""ONNX's own node tests on the interpreter and on the CPU target, and the table that docs/onnx.md has of them.

python tests/onnx_conformance.py            writes the table
python tests/onnx_conformance.py triton     counts those of another target; with TRITON_INTERPRET=1, in minutes
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
NOT_SUPPORTED = "not supported"
STATUSES = ("passed", "failed", NOT_SUPPORTED)

REASONS = {
    "float64": "float64",
    "FLOAT8|FLOAT4": "floats of 8 and 4 bits",
    "string": "strings",
    "sequence_type|optional_type|SequenceConstruct|SplitToSequence|Optional": "sequences and optionals",
    "bfloat16": "rounding to bfloat16",
    "training_mode": "training",
    "no version of the standard|of the domain": "another domain than ONNX's",
    "must be known when compiling": "places that are computed",
    "expected opset|: of opset": "older than opset 7, or an older form",
    "merging an axis": "axes of size 0",
    "Indices": "the output Indices",
    r"node \d+: (\w+: )?[\w.]+ on [^:]*$": "the operator",
}
"""What the messages of models that are refused say, and what that is in the document."""

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
        except CompileError as error:
            return f"{NOT_SUPPORTED}: {reason_of(str(error))}"
        except Exception as error:  # whatever it is, it is a defect, and the other tests are counted
            return f"failed: {type(error).__name__}: {error}"
        return "passed"


def reason_of(message: str) -> str:
    """Why a model is not supported, in a few words; LookupError for a message that says nothing known."""
    for pattern, reason in REASONS.items():
        if re.search(pattern, message):
            return reason
    raise LookupError(f"no reason for: {message}")


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


@dataclass(frozen=True)
class Measured:
    """An operator's tests on its devices: how many came out in which way, and why some are not supported."""

    counts: Counts
    reasons: Sequence[str]

    @property
    def is_supported(self) -> bool:
        return any(passed for passed, *_ in self.counts.values())


def measure(operator: str, cases: Sequence[Case]) -> Measured:
    counts: dict[str, tuple[int, int, int]] = {}
    reasons: Counter[str] = Counter()
    for device in devices(operator):
        found = [case.status(device).partition(": ") for case in cases]
        statuses = Counter(status for status, _, _ in found)
        passed, failed, missing = (statuses[status] for status in STATUSES)
        counts[device] = (passed, failed, missing)
        reasons.update(reason for status, _, reason in found if status == NOT_SUPPORTED)
    return Measured(counts, [reason for reason, _ in reasons.most_common()])


def devices(operator: str) -> tuple[str, ...]:
    """Functions that are written out run on the interpreter only: what they are made of has its own tests on both."""
    return DEVICES[:1] if operator.endswith(AS_A_FUNCTION) else DEVICES


def table_text(measured: Mapping[str, Measured]) -> str:
    """The part of the document between the marks."""
    lines = [
        "",
        "| | interpreter: passed | failed | not supported | CPU: passed | failed | not supported | because of |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    counts = [row.counts for row in measured.values()]
    total = {
        device: tuple(map(sum, zip(*(c[device] for c in counts if device in c), strict=True)))
        for device in DEVICES
    }
    lines.append(_row("**all**", total, ()))
    lines += [_row(name, row.counts, row.reasons) for name, row in measured.items() if row.is_supported]
    missing: dict[str, list[str]] = {}
    for name, row in measured.items():
        if not row.is_supported:
            missing.setdefault(", ".join(row.reasons), []).append(name)
    lines += ["", "Operators of which no test is supported, and what they lack:", ""]
    lines += [f"* {reasons}: {', '.join(names)}." for reasons, names in sorted(missing.items())]
    return "\n".join([*lines, ""])


def _row(name: str, counts: Mapping[str, Sequence[int]], reasons: Sequence[str]) -> str:
    cells = [str(n) for device in DEVICES for n in counts.get(device, ("", "", ""))]
    return f"| {name} | {' | '.join(cells)} | {', '.join(reasons)} |"


def committed() -> dict[str, Counts]:
    """The counts of the document's table, by operator."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    found: dict[str, Counts] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 8 and cells[1].isdecimal() and cells[0] != "**all**":
            numbers = [int(cell) for cell in cells[1:-1] if cell]
            thirds = ((numbers[n], numbers[n + 1], numbers[n + 2]) for n in range(0, len(numbers), 3))
            found[cells[0]] = dict(zip(DEVICES, thirds, strict=False))
    return found


def not_supported() -> Iterator[str]:
    """The operators that the document says are not supported."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    for names in re.findall(r"^\* .*?: (.*)\.$", text, re.M):
        yield from re.split(r", (?!as a function)", names)


def count(device: str) -> int:
    """Prints how many tests come out in which way on a device; which, of those that neither pass nor are refused."""
    statuses: Counter[str] = Counter()
    for operator, cases in cases_by_operator().items():
        for case in () if operator.endswith(AS_A_FUNCTION) else cases:
            status, _, why = case.status(device).partition(": ")
            statuses[status] += 1
            if status == "failed":
                print(f"{case.name}: {why}", flush=True)
    print(f"{device}: {', '.join(f'{statuses[status]} {status}' for status in STATUSES)}")
    return int(statuses["failed"] > 0)


def main() -> int:
    if len(sys.argv) > 1:
        return count(sys.argv[1])
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    measured = {operator: measure(operator, cases) for operator, cases in cases_by_operator().items()}
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table_text(measured)}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
