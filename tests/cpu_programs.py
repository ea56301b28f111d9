"""Planned programs on the targets, for tests: small IR texts, compiled once for each instruction set."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import IntegerAttr, TensorType

from sterna.dialects.context import make_context, parse
from sterna.dialects.encodings import EncodingAttr, TritType
from sterna.dialects.interpreter import ModuleInterpreter, evaluate_weight
from sterna.dialects.packing import pack
from sterna.dialects.ternary import WeightOp
from sterna.dialects.weights import ArrayStore
from sterna.passes.plan_memory import PlanMemoryPass
from sterna.targets.cpu import CpuTarget
from sterna.targets.cpu.codegen import LoadedCode
from sterna.targets.cpu.executable import CpuExecutable
from sterna.targets.cpu.isa import ISAS, host_flags
from sterna.targets.program import Program
from sterna.targets.triton import TritonTarget
from sterna.targets.triton.engine import INTERPRETER
from sterna.targets.triton.executable import TritonExecutable

Array = npt.NDArray[Any]

MAX_ROWS = 8
"""Of the programs here: small, so that few rows make several pieces."""


ENCODINGS = tuple(EncodingAttr.FORMATS)


def trits(rows: int, columns: int, encoding: str = "i2") -> str:
    """A type in IR text."""
    return str(TensorType(TritType(), (rows, columns), EncodingAttr.of(encoding)))


@dataclass
class PlannedProgram:
    """The IR text of a module before plan-memory, and its weights."""

    text: str
    weights: dict[str, Array]
    max_rows: int = MAX_ROWS
    _objects: dict[str, LoadedCode] = field(default_factory=dict[str, LoadedCode])

    @cached_property
    def module(self) -> Any:
        module = parse(self.text)
        PlanMemoryPass(self.max_rows).apply(make_context(), module)
        return module

    @cached_property
    def program(self) -> Program:
        return Program.of(self.module)

    @cached_property
    def interpreter(self) -> ModuleInterpreter:
        return ModuleInterpreter(self.module, ArrayStore(self.weights))

    @cached_property
    def packed(self) -> Array:
        """The bytes that the module's offsets point into."""
        data = np.zeros(self.program.weights_bytes, np.uint8)
        for op in self.module.ops:
            if isinstance(op, WeightOp) and isinstance(offset := op.attributes.get("offset"), IntegerAttr):
                start = offset.value.data
                value = pack(
                    evaluate_weight(self.module, op.sym_name.data, ArrayStore(self.weights)), op.type
                )
                data[start : start + value.nbytes] = value
        return data

    def executable(self, isa: str, threads: int) -> CpuExecutable:
        """On any machine: what this one lacks is emulated."""
        if isa not in self._objects:
            found = next(each for each in ISAS if each.name == isa)
            emulate = bool(found.missing(platform.machine(), host_flags()))
            self._objects[isa] = LoadedCode.of(CpuTarget().build_object(self.module, isa, emulate=emulate))
        code = self._objects[isa]
        return CpuExecutable(code, "forward", self.program, self.packed, isa=isa, threads=threads)

    @cached_property
    def on_triton(self) -> TritonExecutable:
        """Under Triton's interpreter, in a process of its own."""
        files = TritonTarget().build(self.module)
        return TritonTarget().load(files, self.program, self.packed, isa=INTERPRETER)

    def check_on_triton(self, inputs: Sequence[Array]) -> None:
        """The results of the GPU's kernels are the interpreter's, bit for bit."""
        expected, found = self.interpreter.run(inputs), self.on_triton.run(inputs)
        for output, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert same_bits(a, b), f"result {output}: {a} != {b}"

    def check(self, inputs: Sequence[Array], *, isa: str, threads: int) -> None:
        """The results are the interpreter's, bit for bit."""
        expected = self.interpreter.run(inputs)
        found = self.executable(isa, threads).run(inputs)
        assert len(found) == len(expected)
        for output, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert same_bits(a, b), f"result {output} on {isa} with {threads} threads: {a} != {b}"


def same_bits(a: Array, b: Array) -> bool:
    """Equal, zeros in sign too; any NaN is as good as another."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    both_nan, bits = np.isnan(a) & np.isnan(b), f"i{a.itemsize}"
    return bool(np.all(both_nan | (a.view(bits) == b.view(bits))))


def isa_names() -> tuple[str, ...]:
    return tuple(isa.name for isa in ISAS)
