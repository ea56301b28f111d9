"""A mismatch as a folder: the IR, the arrays, and a pytest file that fails as the verification did.

Inputs are cut to the rows that show it, and whatever number can be zero is made zero, in the weights too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp

from sterna.ir_text import print_ir
from sterna.shrinking import shrink as shrink_module
from sterna.targets.program import DYNAMIC
from sterna.testing.checks import NotEquivalent, assert_pass_preserves, pytest_source
from sterna.testing.contracts import bit_exact
from sterna.testing.subjects import Compiled, Interpreted
from sterna.verification.arrays import Interface
from sterna.verification.checks import Counterexample, PassCheck
from sterna.verification.rows import Row
from sterna.verification.subjects import PassStage

Array = npt.NDArray[Any]
Arrays = Sequence[Array]
Named = Mapping[str, Array]

SECONDS = 20.0
"""For making one counterexample small."""
SMALLEST_PART = 64
"""An array is made zero in halves, quarters, ... down to so many parts."""
LONGEST_TEST = 1 << 17
"""Characters of a test that holds its arrays; longer ones read them from a file beside them."""

FROM_FILES = '''"""{what}"""

from pathlib import Path

import numpy as np

from sterna.testing import Compiled, Interpreted, assert_equivalent, bit_exact

HERE = Path(__file__).parent


def test_reproduces() -> None:
    ir = (HERE / "program.mlir").read_text()
    arrays = dict(np.load(HERE / "arrays.npz"))
    inputs = [arrays.pop(f"input {{n}}") for n in range({inputs})]
    assert_equivalent(Interpreted(ir, arrays), Compiled(ir, arrays, {options}), inputs, bit_exact)
'''

OF_A_MODEL = '''"""{what}"""

from pathlib import Path

import numpy as np

from sterna.testing import assert_equivalent, bit_exact
from sterna.verification.models import subject_of
from sterna.verification.subjects import Machine

HERE = Path(__file__).parent


def test_reproduces() -> None:
    arrays = dict(np.load(HERE / "arrays.npz"))
    inputs = [arrays[f"input {{n}}"] for n in range({inputs})]
    subject = subject_of({model!r}, {target!r}{options})
    assert_equivalent(subject.interpreted, subject.load({machine!r}), inputs, bit_exact)
'''


@dataclass(frozen=True)
class Reproducers:
    """Writes below `folder`, which is made when something differs."""

    folder: Path
    model: Path
    sizes: Mapping[str, int | str]
    encoding: str | None = None

    def write(self, found: Counterexample) -> None:
        """Of a kernel or a program."""
        small = shrunk(found)
        place = self._place(small.row)
        what = f"{small.row.name} on {small.row.target} {small.row.isa}: {small.difference}"
        arrays = {f"input {n}": value for n, value in enumerate(small.inputs)} | dict(small.weights or {})
        np.savez_compressed(place / "arrays.npz", allow_pickle=False, **arrays)
        (place / "program.mlir").write_text(print_ir(small.module) + "\n", encoding="utf-8")
        (place / "test_reproduces.py").write_text(self._test(small, what), encoding="utf-8")
        found.row.reproducer = place

    def write_pass(self, row: Row, stage: PassStage, check: PassCheck, inputs: Arrays) -> None:
        """Of a pass: the smallest module that generated inputs tell apart, else the whole one."""
        weights = check.subject.weights
        failure = _pass_failure(stage.rewrite, stage.before, weights, None)
        module = stage.before
        if failure is not None:
            deadline = monotonic() + SECONDS

            def fails(candidate: ModuleOp) -> bool:
                # What takes too long is not tried: the smallest so far is kept.
                return monotonic() < deadline and (
                    _pass_failure(stage.rewrite, candidate, weights, None) is not None
                )

            module = shrink_module(stage.before, fails)
            failure = _pass_failure(stage.rewrite, module, weights, None) or failure
        else:
            failure = _pass_failure(stage.rewrite, module, weights, inputs)
        place = self._place(row)
        text = failure or f"pass '{row.name}': {row.detail}"
        (place / "program.mlir").write_text(print_ir(module) + "\n", encoding="utf-8")
        (place / "failure.txt").write_text(text + "\n", encoding="utf-8")
        test = text[text.index("import numpy as np") :] if "import numpy as np" in text else None
        if test is not None:
            (place / "test_reproduces.py").write_text(test, encoding="utf-8")
        row.reproducer = place

    def _place(self, row: Row) -> Path:
        words = [row.target, row.isa, f"{row.threads}-threads" if row.threads else "", row.name]
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(filter(None, words)))
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        return self.folder / name

    def _test(self, found: Counterexample, what: str) -> str:
        machine, row = found.machine, found.row
        count = len(found.inputs)
        if found.weights is None:
            options = f", sizes={dict(self.sizes)!r}" if self.sizes else ""
            options += f", encoding={self.encoding!r}" if self.encoding is not None else ""
            model = str(self.model.resolve())
            return OF_A_MODEL.format(
                what=what, inputs=count, model=model, target=row.target, options=options, machine=machine
            )
        compiled = Compiled(
            found.module,
            found.weights,
            row.target,
            isa=machine.isa,
            threads=machine.threads,
            emulate=machine.emulated,
            planned=True,
        )
        test = pytest_source(Interpreted(found.module, found.weights), compiled, found.inputs, bit_exact)
        if test is not None and len(test) <= LONGEST_TEST:
            return test
        options = f"{row.target!r}, isa={machine.isa!r}, threads={machine.threads}, "
        options += f"emulate={machine.emulated}, planned=True"
        return FROM_FILES.format(what=what, inputs=count, options=options)


def _pass_failure(rewrite: Any, module: ModuleOp, weights: Any, inputs: Arrays | None) -> str | None:
    try:
        assert_pass_preserves(rewrite, module, weights, inputs)
    except NotEquivalent as failure:
        return str(failure)
    except Exception:
        # A module that the pass or the interpreter does not take shows nothing.
        return None
    return None


def shrunk(found: Counterexample) -> Counterexample:
    """The same with fewer rows and more zeros, as far as the time goes."""
    deadline = monotonic() + SECONDS
    current = found

    def keep(weights: Named | None, inputs: Arrays) -> bool:
        nonlocal current
        try:
            difference = found.again(weights, inputs)
        except Exception:
            return False
        if difference is not None:
            current = replace(current, weights=weights, inputs=inputs, difference=difference)
        return difference is not None

    for candidate in _fewer_rows(found):
        if monotonic() > deadline or keep(found.weights, candidate):
            break
    _zero(lambda: list(current.inputs), lambda arrays: keep(current.weights, arrays), deadline)
    if current.weights is not None:
        names = list(current.weights)
        _zero(
            lambda: [(current.weights or {})[name] for name in names],
            lambda arrays: keep(dict(zip(names, arrays, strict=True)), current.inputs),
            deadline,
        )
    return current


def _fewer_rows(found: Counterexample) -> Iterator[list[Array]]:
    """The inputs at one row, at the first two, four, ..."""
    axes = [
        port.shape.index(DYNAMIC) if DYNAMIC in port.shape else None
        for port in Interface.of(found.module).inputs
    ]
    rows = next(
        (value.shape[axis] for value, axis in zip(found.inputs, axes, strict=True) if axis is not None), 0
    )

    def taken(which: Sequence[int]) -> list[Array]:
        return [
            value if axis is None else value.take(which, axis)
            for value, axis in zip(found.inputs, axes, strict=True)
        ]

    yield from (taken([row]) for row in range(rows) if rows > 1)
    yield from (taken(range(count)) for count in (2, 4, 8, 16, 32, 64) if count < rows)


def _zero(current: Callable[[], list[Array]], keep: Callable[[list[Array]], bool], deadline: float) -> None:
    """Makes parts of the arrays zero, large parts first, where the failure stays."""
    for number in range(len(current())):
        parts = 1
        while parts <= SMALLEST_PART:
            size = current()[number].size
            for part in range(parts):
                if monotonic() > deadline:
                    return
                arrays = current()
                start, stop = size * part // parts, size * (part + 1) // parts
                flat = arrays[number].reshape(-1).copy()
                if start == stop or not np.any(flat[start:stop]):
                    continue
                flat[start:stop] = 0
                arrays[number] = flat.reshape(arrays[number].shape)
                keep(arrays)
            parts *= 2
