"""Arithmetic on GPUs of the numbers on which it is nearly right: all pairs of what is special, for planted bugs.

Slow: Triton's interpreter takes milliseconds an operation of a program.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.property.test_triton_programs import Array, check

pytestmark = pytest.mark.slow


def of_all_pairs(operation: str, element: str, values: Array, result: str = "") -> None:
    """An operation on scalars, of every number with every other."""
    a, b = (each.ravel() for each in np.meshgrid(values, values))
    type, after = f"tensor<{a.size}x{element}>", f"tensor<{a.size}x{result or element}>"
    check(
        f"""func.func @forward(%a : {type}, %b : {type}) -> {after} {{
          %y = ternary.elementwise(%a, %b : {type}, {type}) {{
          ^bb0(%x : {element}, %z : {element}):
            %r = {operation} %x, %z : {element}
            ternary.yield %r : {result or element}
          }} -> {after}
          func.return %y : {after}
        }}""",
        a,
        b,
    )


FLOATS = np.array([0.0, -0.0, 1.0, -2.0, np.nan, np.inf, -np.inf], np.float32)


@pytest.mark.parametrize("operation", ["maximumf", "minimumf", "maxnumf", "minnumf"])
def test_the_larger_and_the_smaller_of_zeros_and_of_what_is_no_number(operation: str) -> None:
    of_all_pairs(f"arith.{operation}", "f32", FLOATS)


PREDICATES = (
    "oeq",
    "ogt",
    "oge",
    "olt",
    "ole",
    "one",
    "ord",
    "ueq",
    "ugt",
    "uge",
    "ult",
    "ule",
    "une",
    "uno",
)


@pytest.mark.parametrize("predicate", PREDICATES)
def test_comparisons_of_floats(predicate: str) -> None:
    of_all_pairs(f"arith.cmpf {predicate},", "f32", FLOATS, "i1")


@pytest.mark.parametrize("predicate", ["eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge"])
@pytest.mark.parametrize("element", ["i1", "i8"])
def test_comparisons_of_integers(element: str, predicate: str) -> None:
    values = np.array([0, 1], bool) if element == "i1" else np.array([0, 1, -1, 127, -128], np.int8)
    of_all_pairs(f"arith.cmpi {predicate},", element, values, "i1")


@pytest.mark.parametrize("operation", ["shli", "shrsi", "shrui"])
@pytest.mark.parametrize("element", ["i8", "i32"])
def test_shifts_by_as_much_as_the_width_and_more(element: str, operation: str) -> None:
    width = int(element[1:])
    values = np.array([0, 1, -1, 5, -5, width - 1, width, width + 1, -(2 ** (width - 1))], f"int{width}")
    of_all_pairs(f"arith.{operation}", element, values)


OF_BITS = (
    *("addi", "subi", "muli", "andi", "ori", "xori", "minsi", "maxsi", "minui", "maxui"),
    *("divsi", "floordivsi", "divui", "remsi", "remui", "shli", "shrsi", "shrui"),
)


@pytest.mark.parametrize("operation", OF_BITS)
def test_arithmetic_of_bits(operation: str) -> None:
    """One that is set is -1 to signed operations, and 1 to the others."""
    of_all_pairs(f"arith.{operation}", "i1", np.array([False, True]))


@pytest.mark.parametrize("widening", ["extsi", "extui"])
def test_bits_are_widened_with_or_without_a_sign(widening: str) -> None:
    """In a region, and in a sum of products."""
    check(
        f"""#x = affine_map<(m, k) -> (m, k)>
        #w = affine_map<(m, k) -> (k)>
        #y = affine_map<(m, k) -> (m)>
        func.func @forward(%x : tensor<2x3xi1>, %w : tensor<3xi32>, %init : tensor<2xi32>)
            -> (tensor<2xi32>, tensor<2x3xi32>) {{
          %y = linalg.generic {{indexing_maps = [#x, #w, #y], iterator_types = ["parallel", "reduction"]}}
            ins(%x, %w : tensor<2x3xi1>, tensor<3xi32>) outs(%init : tensor<2xi32>) {{
          ^bb0(%a : i1, %b : i32, %total : i32):
            %wide = arith.{widening} %a : i1 to i32
            %product = arith.muli %wide, %b : i32
            %sum = arith.addi %total, %product : i32
            linalg.yield %sum : i32
          }} -> tensor<2xi32>
          %z = ternary.elementwise(%x : tensor<2x3xi1>) {{
          ^bb0(%a : i1):
            %wide = arith.{widening} %a : i1 to i32
            ternary.yield %wide : i32
          }} -> tensor<2x3xi32>
          func.return %y, %z : tensor<2xi32>, tensor<2x3xi32>
        }}""",
        np.array([[True, False, True], [False, True, True]]),
        np.array([5, 7, 11], np.int32),
        np.array([100, 200], np.int32),
    )


@pytest.mark.parametrize(("widening", "result"), [("extui", "i64"), ("uitofp", "f32"), ("sitofp", "f32")])
def test_numbers_without_a_sign_are_widened(widening: str, result: str) -> None:
    check(
        f"""func.func @forward(%x : tensor<5xi32>) -> tensor<5x{result}> {{
          %z = ternary.elementwise(%x : tensor<5xi32>) {{
          ^bb0(%a : i32):
            %wide = arith.{widening} %a : i32 to {result}
            ternary.yield %wide : {result}
          }} -> tensor<5x{result}>
          func.return %z : tensor<5x{result}>
        }}""",
        np.array([0, 1, -1, 2**31 - 1, -(2**31)], np.int32),
    )
