"""Other runtimes on the same inputs: the model's own PyTorch module, or ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from sterna.arrays import as_given
from sterna.dialects.errors import CompileError
from sterna.passes.tolerance import tolerance_of
from sterna.targets.program import ProgramTensor
from sterna.testing.contracts import Difference, compare, token_agreement, tolerance
from sterna.testing.subjects import Subject as Runnable
from sterna.testing.subjects import as_subject
from sterna.verification.arrays import Interface
from sterna.verification.checks import (
    EXAMPLES_A_STEP,
    failing,
    largest_error,
    load_all,
    plain,
    row_counts,
    timed,
    with_zero_states,
)
from sterna.verification.models import Model
from sterna.verification.rows import Row, Verdict
from sterna.verification.subjects import Machine, Subject

Array = npt.NDArray[Any]
Arrays = Sequence[Array]

AGREEMENT = 0.99
"""Part of the tokens that are the same, of those that are not decided by a single step of an int8 activation."""
ONE_STEP = 0.05
"""What such a step does to a logit. Another order of summation rounds some activation to the next integer."""

RUNTIMES = ("interpreter", "torch", "onnxruntime")


def reference_of(model: Model, runtime: str) -> Runnable:
    """The model in another runtime; CompileError, in one line, where there is none."""
    match runtime, model.kind:
        case "torch", "checkpoint":
            return as_subject(_torch_model(model.path))
        case "onnxruntime", "onnx":
            return as_subject(_session(model.path))
        case "onnxruntime", "checkpoint":
            return _exported(model)
        case _:
            held = {"onnx": "an ONNX file", "artifact": "an artifact"}[model.kind]
            raise CompileError(
                f"{model.path}: --against {runtime} cannot run {held}: give the checkpoint"
                + ("" if runtime == "torch" else " or the ONNX file")
                + " that it came from"
            )


def _torch_model(path: Path) -> Any:
    """The checkpoint's own module, in torch."""
    from sterna.frontends.huggingface import load_checkpoint_config
    from sterna.frontends.models import bitnet, hgrn_bit
    from sterna.frontends.models.bitnet_config import BitNetConfig

    is_bitnet = isinstance(load_checkpoint_config(path), BitNetConfig)
    return bitnet.load_model(path) if is_bitnet else hgrn_bit.load_model(path)


def _session(path: Path) -> Any:
    try:
        onnxruntime: Any = import_module("onnxruntime")
    except ImportError:
        raise CompileError(
            "--against onnxruntime needs onnxruntime, which is not installed: pip install onnxruntime"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        said = " ".join(str(error).split())
        raise CompileError(f"{path}: ONNX Runtime does not take it: {said[:300]}") from None


def _exported(model: Model) -> Runnable:
    """As `sterna export` writes it, which is another way through the compiler."""
    from sterna.onnx_export import export

    with TemporaryDirectory(prefix="sterna-verify-") as folder:
        path = Path(folder) / "model.onnx"
        export(model.path, path)
        return as_subject(_session(path))


@dataclass
class ReferenceCheck:
    """The whole program on the best machine of a target, against another runtime, as far as the passes say it moves."""

    runtime: str
    reference: Runnable
    subject: Subject
    machine: Machine
    seed: int
    rows: list[Row] = field(default_factory=list[Row])

    def __post_init__(self) -> None:
        target = self.subject.target.name
        contract = " and ".join(each.source for each in self.contracts)
        shape = "whole program"
        self.rows.append(
            Row(self.runtime, f"against {self.runtime}", shape, target, self.machine.isa, contract=contract)
        )

    @property
    def name(self) -> str:
        return self.rows[0].name

    @cached_property
    def contracts(self) -> list[Any]:
        stated = sum(tolerance_of(stage.rewrite).relative for stage in self.subject.stages)
        close = tolerance(stated or 2**-16, of_largest=True)
        return [close, token_agreement(AGREEMENT, ties=ONE_STEP)] if self._is_language_model else [close]

    @property
    def _is_language_model(self) -> bool:
        return any(tensor.limit is not None for tensor in self.subject.build.program.inputs)

    @cached_property
    def _running(self) -> Any:
        packed = self.subject.build.pack(self.subject.weights)
        running = list(load_all(self.rows, [self.machine], self.subject.build, packed))
        return running[0][2] if running else None

    def step(self, number: int, examples: int) -> None:
        row, program = self.rows[0], self.subject.build.program
        if row.is_bad or self._running is None:
            return
        generator = np.random.default_rng([self.seed, number])
        interface = Interface.of(self.subject.planned)
        counts = [n for n in row_counts(interface, program.max_rows, program.in_pieces) if n]
        with timed(row), failing([row]):
            for n in range(examples):
                rows = counts[(number * EXAMPLES_A_STEP + n) % len(counts)]
                drawn = interface.draw(generator, rows, special=False)
                inputs = with_zero_states([plain(value, generator) for value in drawn], program.inputs)
                expected = self.reference.run(_given(inputs, program.inputs))
                found = _given(self._running.run(inputs), program.outputs)
                if difference := self._difference(expected, found):
                    row.failed(Verdict.DIFFERS, str(difference), *self._worst(expected, found))
                    return
                row.passed(*self._worst(expected, found))

    def _difference(self, expected: Arrays, found: Arrays) -> Difference | None:
        """Tokens are those of the first result; states are compared as numbers."""
        close, *tokens = self.contracts
        if difference := compare(close, expected, found):
            return difference
        return compare(tokens[0], expected[:1], found[:1]) if tokens else None

    def _worst(self, expected: Arrays, found: Arrays) -> tuple[float, str]:
        worst = largest_error(expected, found)
        text = f"{worst:.1e} of largest"
        if self._is_language_model:
            same: Array = np.argmax(expected[0], -1) == np.argmax(found[0], -1)
            agreed = float(same.mean())
            text += f", {agreed:.1%} of tokens"
        return worst, text


def _given(arrays: Arrays, tensors: Sequence[ProgramTensor]) -> list[Array]:
    return [as_given(array, tensor) for array, tensor in zip(arrays, tensors, strict=True)]
