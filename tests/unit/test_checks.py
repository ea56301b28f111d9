"""`assert_equivalent` and its kin: what they accept, what they say, and that the test they print fails the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sterna.dialects.errors import CompileError
from sterna.testing import (
    Compiled,
    Interpreted,
    NotEquivalent,
    assert_equivalent,
    assert_pass_preserves,
    assert_round_trips,
    bit_exact,
    decode,
    ir_modules,
    token_agreement,
    tolerance,
    ulp,
)
from sterna.testing.contracts import compare, ulps
from sterna.testing.programs import IrProgram
from sterna.testing.source import array_source
from tests.planted_passes import RoundPass, SwapOperandsPass

SCALE = """
ternary.weight @g : tensor<3xf32>
func.func @forward(%x : tensor<?x3xf32>) -> tensor<?x3xf32> {
  %g = ternary.load @g : tensor<3xf32>
  %y = ternary.rms_norm %x, %g eps = 1.0e-06 lanes = 16 : tensor<?x3xf32>, tensor<3xf32>
  func.return %y : tensor<?x3xf32>
}"""
GAIN = {"g": np.array([1, 2, 3], np.float32)}
X = np.array([[1, 2, 3], [-1, 0, 0.1]], np.float32)


def double(x: np.ndarray) -> np.ndarray:
    return x + x


def triple(x: np.ndarray) -> np.ndarray:
    return x + x + x


def complaint(check: Callable[[], None]) -> str:
    with pytest.raises(NotEquivalent) as caught:
        check()
    return str(caught.value)


def pasted(text: str) -> Callable[[], None]:
    """The function of the test that a complaint ends in."""
    source = text[text.index("import numpy as np") :]
    names: dict[str, Any] = {}
    exec(compile(source, "<pasted>", "exec"), names)
    return names["test_reproduces"]


def test_equal_subjects_of_all_kinds_are_equivalent() -> None:
    from sterna.dialects.context import parse

    program = Interpreted(SCALE, GAIN)
    for other in ((SCALE, GAIN), (parse(SCALE), GAIN), Compiled(SCALE, GAIN), IrProgram(SCALE, GAIN)):
        assert_equivalent(program, other, [X])


def test_a_function_is_as_good_as_a_program() -> None:
    def norm(x: np.ndarray) -> np.ndarray:
        r = 1 / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-6)
        return (x * r * GAIN["g"]).astype(np.float32)

    assert_equivalent((SCALE, GAIN), norm, [X], ulp(4))
    with pytest.raises(NotEquivalent, match="norm is not interpreter"):
        assert_equivalent((SCALE, GAIN), norm, [X * np.float32(1e30)], ulp(4))


def test_a_module_of_pytorch_is_a_subject() -> None:
    torch = pytest.importorskip("torch")
    assert_equivalent(torch.nn.Hardtanh(), lambda x: np.clip(x, -1, 1), [X])


def test_a_session_of_llama_cpp_is_a_subject() -> None:
    """Its binding is seldom installed: an object of its shape stands in for it."""

    class Llama:
        def reset(self) -> None:
            self.scores = np.zeros((8, 4), np.float32)

        def eval(self, tokens: list[int]) -> None:
            self.scores[np.arange(len(tokens)), tokens] = 1

    Llama.__module__ = "llama_cpp.llama"
    assert_equivalent(lambda tokens: np.eye(4, dtype=np.float32)[tokens], Llama(), [np.array([2, 0, 3])])


def test_a_difference_says_where_it_is_and_how_far() -> None:
    text = complaint(lambda: assert_equivalent(double, lambda x: np.nextafter(x + x, np.float32(9)), [X[:1]]))
    assert (
        "output 0 at [0, 0]: expected 2.0, found 2.0000002, 1 ulp apart (3 of 3 wrong), by bit_exact" in text
    )


def test_the_pasted_test_fails_as_the_comparison_did() -> None:
    text = complaint(lambda: assert_equivalent(double, triple, [X]))
    again = complaint(pasted(text))
    assert again.splitlines()[0] == text.splitlines()[0]


def test_the_pasted_test_of_programs_holds_ir_weights_and_inputs() -> None:
    other = SCALE.replace("1.0e-06", "1.0e+00")
    text = complaint(
        lambda: assert_equivalent(Interpreted(SCALE, GAIN), Compiled(other, GAIN, threads=1), [X])
    )
    assert "eps = 1.0e+00" in text
    again = complaint(pasted(text))
    assert again.splitlines()[0] == text.splitlines()[0]


def test_what_has_no_source_is_said() -> None:
    text = complaint(lambda: assert_equivalent(double, lambda x: x, [X]))
    assert text.endswith("cannot be written as source")


def test_a_pass_that_changes_the_program_is_caught_and_its_test_can_be_pasted() -> None:
    text = complaint(lambda: assert_pass_preserves(SwapOperandsPass, subtraction(), inputs=[X, 2 * X]))
    assert "pass 'swap-operands' changes the program: output 0 at" in text
    assert "before:\n" in text
    assert complaint(pasted(text)).splitlines()[0] == text.splitlines()[0]


def subtraction() -> str:
    return """func.func @forward(%x : tensor<?x3xf32>, %y : tensor<?x3xf32>) -> tensor<?x3xf32> {
      %z = arith.subf %x, %y : tensor<?x3xf32>
      func.return %z : tensor<?x3xf32>
    }"""


def test_a_pass_may_move_what_it_says_that_it_moves() -> None:
    text = subtraction().replace("%z = arith.subf", "%c = arith.constant 3.0 : f32\n %z = arith.subf")
    assert_pass_preserves(RoundPass(), text)
    assert_pass_preserves("expand-math", (SCALE, GAIN))


@pytest.mark.slow  # shrinking runs a program a few hundred times
def test_a_planted_bug_shrinks_to_the_operation_that_it_breaks() -> None:
    @given(program=ir_modules(["arith.addf", "arith.mulf", "arith.subf", "math.absf", "ternary.rms_norm"]))
    def check(program: IrProgram) -> None:
        assert_pass_preserves(SwapOperandsPass, program)

    text = complaint(check)
    before = text[text.index("before:\n") : text.index("after:\n")]
    assert before.count(" = ") == 1, before
    assert "arith.subf" in before
    assert complaint(pasted(text)).splitlines()[0] == text.splitlines()[0]


def test_modules_round_trip() -> None:
    assert_round_trips(SCALE)


def test_what_cannot_be_compared_is_named() -> None:
    with pytest.raises(CompileError, match="int cannot be compared"):
        assert_equivalent(1, 2, [])


FLOATS = arrays.arrays(np.float32, st.integers(0, 8), elements=st.floats(width=32))


@given(FLOATS)
def test_arrays_survive_as_source(x: np.ndarray) -> None:
    again = eval(array_source(x), {"np": np, "decode": decode})
    assert not compare(bit_exact, [x], [again])


def test_large_arrays_survive_as_source() -> None:
    x = np.random.default_rng(0).integers(-128, 127, (40, 50)).astype(np.int8)
    assert np.array_equal(eval(array_source(x), {"np": np, "decode": decode}), x)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 3))
def test_ulps_count_the_floats_in_between(value: float, steps: int) -> None:
    a = np.array([value], np.float32)
    b = a
    for _ in range(steps):
        # Past infinity lies nothing.
        assume(np.isfinite(b[0]))
        with np.errstate(over="ignore"):
            b = np.nextafter(b, np.float32(np.inf))
    # Between -0 and +0 lies no float, and yet they are two.
    signed = int(value < 0 <= b[0] or (value == 0 and np.signbit(a[0]) and steps > 0))
    assert ulps(a, b)[0] in (steps, steps + signed)
    assert (compare(ulp(steps + signed), [a], [b]) is None) == bool(np.isfinite(b[0]) or not steps)


def test_zeros_of_either_sign_differ_by_bits_alone() -> None:
    plus, minus = np.zeros(1, np.float32), -np.zeros(1, np.float32)
    assert compare(bit_exact, [plus], [minus]) is not None
    assert compare(tolerance(0.0), [plus], [minus]) is None


def test_tokens_agree_where_the_largest_is_the_same_or_noise_decides() -> None:
    a = np.array([[0, 1, 2], [3, 1, 2.9]], np.float32)
    b = np.array([[0, 1, 9], [3, 1, 3.1]], np.float32)
    assert compare(token_agreement(), [a], [a * 2]) is None
    assert compare(token_agreement(), [a], [b]) is not None
    assert compare(token_agreement(0.5), [a], [b]) is None
    assert compare(token_agreement(ties=0.2), [a], [b]) is None
