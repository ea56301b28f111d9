"""Programs of any kind on the GPU target, in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sterna.dialects.context import make_context
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.in_memory import load_planned
from sterna.lowering import parse_passes
from sterna.pass_runner import run_passes
from sterna.targets.triton import TritonTarget
from sterna.targets.triton.engine import INTERPRETER
from sterna.testing import IrProgram
from tests.cpu_programs import same_bits
from tests.raised_models import Array


def check_on_gpu(program: IrProgram, inputs: Sequence[Array], encoding: str = "i2") -> None:
    """Against the interpreter on what the passes made of it: fusing a norm with a quantization moves a rounding."""
    planned, target = program.module.clone(), TritonTarget(encoding)
    passes = parse_passes(target, target.pipeline())
    run_passes(make_context(program.store), planned, passes, verify=False)
    with np.errstate(all="ignore"):
        expected = ModuleInterpreter(planned, program.store).run(inputs)
        found = load_planned(planned, program.store, "triton", isa=INTERPRETER).run(inputs)
    for a, b in zip(found, expected, strict=True):
        assert same_bits(a, b), f"{program!r}: {inputs}"
