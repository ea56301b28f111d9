"""BitLinears and stacks of PyTorch layers, as they are drawn: import, passes and kernels agree; failures are small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from sterna.frontends import Imported
from sterna.plugins import configured_target, find_target
from sterna.testing import (
    Compiled,
    Interpreted,
    NotEquivalent,
    activations,
    assert_equivalent,
    bit_linears,
    inputs_of,
    tolerance,
    torch_modules,
)
from sterna.testing.torch_layers import LAYERS, BitLinear, Recurrence, Residual, Stack
from sterna.testing.torch_stacks import LAYER_KINDS
from sterna.verification.subjects import Machine, Subject, lowered
from tests.cpu_programs import ENCODINGS
from tests.raised_models import Array

CPU = find_target("cpu")
QUIET = list(HealthCheck)
AS_PYTORCH = tolerance(2**-5, of_largest=True)
"""Where no activation lies next to a half, as `is_decided_by_a_rounding` has it."""


ENCODING = st.sampled_from(ENCODINGS)


def lower(program: Interpreted, encoding: str) -> Subject:
    target = configured_target("cpu", {"encoding": encoding})
    return lowered(Imported(program.op, program.store), target, max_rows=8)


@settings(max_examples=15, suppress_health_check=QUIET)
@given(data=st.data())
def test_a_bit_linear_has_the_same_bits_on_every_level(data: st.DataObject) -> None:
    program = data.draw(bit_linears())
    subject = lower(Interpreted(program.text, program.weights), data.draw(ENCODING))
    inputs = data.draw(inputs_of(program.module, st.sampled_from((1, 0, 2, 8, 9))))
    threads = data.draw(st.integers(1, 3))
    for isa in CPU.levels():
        assert_equivalent(subject.interpreted, subject.load(Machine(isa, threads)), inputs)


@pytest.mark.slow  # torch.export takes a second a module
@settings(max_examples=12, suppress_health_check=QUIET)
@given(data=st.data())
def test_a_stack_computes_what_pytorch_does_and_the_same_bits_on_every_level(data: st.DataObject) -> None:
    stack = data.draw(torch_modules())
    x = data.draw(activations((data.draw(st.integers(2, 5)), stack.columns)))
    subject = lower(stack.imported, data.draw(ENCODING))
    if not stack.is_decided_by_a_rounding(x):
        assert_equivalent(stack, stack.imported, [x], AS_PYTORCH)
    for isa in CPU.levels():
        assert_equivalent(subject.interpreted, subject.load(Machine(isa, 2)), [x])


@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_every_kind_of_layer_is_drawn_and_imported(kind: str) -> None:
    quick = settings(max_examples=5, suppress_health_check=QUIET, phases=[Phase.generate])
    stack = find(torch_modules([kind], max_layers=1), lambda stack: True, settings=quick)
    x = np.random.default_rng(0).standard_normal((3, stack.columns), np.float32)
    assert not stack.is_decided_by_a_rounding(x)
    assert_equivalent(stack, stack.imported, [x], AS_PYTORCH)


def test_a_stack_that_fails_shrinks_to_the_layer() -> None:
    smallest = find(
        torch_modules(),
        lambda stack: any(isinstance(layer, Recurrence) for layer in stack.descriptions),
        settings=settings(max_examples=500, suppress_health_check=QUIET),
    )
    assert repr(smallest) == "Stack(2, (Recurrence(channels=2),), seed=0)"


def test_a_bit_linear_that_fails_shrinks_to_few_lines() -> None:
    smallest = find(
        bit_linears(),
        lambda program: "arith.mulf" in program.text,
        settings=settings(max_examples=500, suppress_health_check=QUIET),
    )
    assert len(smallest.text.splitlines()) <= 17 and "tensor<?x1xf32>" in smallest.text


def pasted(text: str) -> Any:
    names: dict[str, Any] = {}
    exec(compile(text[text.index("import numpy as np") :], "<pasted>", "exec"), names)
    return names["test_reproduces"]


def test_the_failure_of_a_stack_has_its_ir_and_is_a_test_to_paste() -> None:
    stack = Stack(4, (Residual(BitLinear(4)),), seed=1)
    other = Stack(4, (Residual(BitLinear(4)),), seed=2).imported
    x = np.ones((2, 4), np.float32)
    with pytest.raises(NotEquivalent) as caught:
        assert_equivalent(stack, Compiled(other.text, other.numbers()), [x], AS_PYTORCH)
    text = str(caught.value)
    assert "func.func @forward" in text and "MODULE = Stack(4, (Residual(layer=BitLinear(" in text
    with pytest.raises(NotEquivalent):
        pasted(text)()
    assert set(LAYERS) >= {"Stack", "Residual", "BitLinear"}


def test_a_choice_next_to_a_half_is_known() -> None:
    stack = Stack(2, (BitLinear(2, norm="none"),), seed=0)
    x: Array = np.array([[127.0, 0.5 * (1 + 2**-24)]], np.float32)
    assert not stack.is_decided_by_a_rounding(np.array([[127.0, 3.0]], np.float32))
    assert isinstance(stack.is_decided_by_a_rounding(x), bool)
