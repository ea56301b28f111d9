"""Programs of any kind on the GPU target, in Triton's interpreter."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from hypothesis import assume

from sterna.dialects.context import make_context
from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.in_memory import load_planned
from sterna.lowering import parse_passes
from sterna.pass_runner import run_passes
from sterna.targets.triton import TritonTarget
from sterna.targets.triton.engine import INTERPRETER
from sterna.testing import IrProgram, Limits
from sterna.testing.recipes import RECIPES
from tests.cpu_programs import same_bits
from tests.raised_models import Array

OPERATIONS = tuple(
    name for name in RECIPES if name not in ("math.fma", "ternary.absmean", "ternary.ternarize")
)
"""What kernels compute: `math.fma` has no arithmetic of fixed bits, and the others are for weights alone."""

SMALL = Limits(sizes=(2, 3, 4, 8, 16, 17, 33), elements=1 << 9)

REFUSED = re.compile("math.fma|not ternary|for weights alone")
"""What every target says of some programs of these operations."""


def check_any_on_gpu(program: IrProgram, inputs: Sequence[Array], encoding: str) -> None:
    """`check_on_gpu` for a program of any operations; of another one where it is refused."""
    try:
        check_on_gpu(program, inputs, encoding)
    except CompileError as error:
        assume(not REFUSED.search(str(error)))
        raise


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
