"""Property tests that kernels are equivalent: strategies that draw models, programs and inputs, and checks of them.

    from hypothesis import given, strategies as st
    from sterna.testing import inputs_of, ir_modules

    @given(st.data())
    def test_programs_run(data):
        program = data.draw(ir_modules())
        program.run(data.draw(inputs_of(program.module)))

The strategies need Hypothesis: `pip install 'sterna[testing]'`. The checks do not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sterna.dialects.errors import CompileError

if TYPE_CHECKING:
    from sterna.testing.arrays import activations, inputs_of, integers, shapes, ternary_weights
    from sterna.testing.checks import (
        NotEquivalent,
        assert_equivalent,
        assert_pass_preserves,
        assert_round_trips,
    )
    from sterna.testing.contracts import bit_exact, token_agreement, tolerance, ulp
    from sterna.testing.drawing import Limits
    from sterna.testing.linear_programs import bit_linears
    from sterna.testing.programs import ROW_OPS, ROWS, IrProgram, ir_modules
    from sterna.testing.source import decode
    from sterna.testing.subjects import Compiled, Foreign, Interpreted
    from sterna.testing.torch_stacks import torch_modules

__all__ = [
    "ROWS",
    "ROW_OPS",
    "Compiled",
    "Foreign",
    "Interpreted",
    "IrProgram",
    "Limits",
    "NotEquivalent",
    "activations",
    "assert_equivalent",
    "assert_pass_preserves",
    "assert_round_trips",
    "bit_exact",
    "bit_linears",
    "decode",
    "inputs_of",
    "integers",
    "ir_modules",
    "shapes",
    "ternary_weights",
    "token_agreement",
    "tolerance",
    "torch_modules",
    "ulp",
]

_HOMES = {
    "arrays": ("activations", "inputs_of", "integers", "shapes", "ternary_weights"),
    "linear_programs": ("bit_linears",),
    "checks": ("NotEquivalent", "assert_equivalent", "assert_pass_preserves", "assert_round_trips"),
    "contracts": ("bit_exact", "token_agreement", "tolerance", "ulp"),
    "drawing": ("Limits",),
    "subjects": ("Compiled", "Foreign", "Interpreted"),
    "programs": ("ROWS", "ROW_OPS", "IrProgram", "ir_modules"),
    "source": ("decode",),
    "torch_stacks": ("torch_modules",),
}


EXTRAS = {"hypothesis": "testing", "torch": "torch"}


def __getattr__(name: str) -> Any:
    # What needs Hypothesis, or PyTorch, must not be imported for what does not.
    for home, names in _HOMES.items():
        if name in names:
            try:
                return getattr(import_module(f"sterna.testing.{home}"), name)
            except ModuleNotFoundError as error:
                if error.name not in EXTRAS:
                    raise
                raise CompileError(
                    f"sterna.testing.{name} needs {error.name}, which is not installed: "
                    f"pip install 'sterna[{EXTRAS[error.name]}]'"
                ) from None
    raise AttributeError(f"module 'sterna.testing' has no attribute '{name}'")
