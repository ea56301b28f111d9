"""The instructions that GPU kernels are written with (`targets/triton/packed.py`), on every 32-bit word, by z3.

Triton's interpreter runs none of them: it takes the way beside. Here their text is read from the file, and what the
PTX manual says of each instruction must be what that way computes, byte by byte.
"""

from __future__ import annotations

import ast
import re
from importlib.resources import files

import z3

from tests.proofs.test_base_3 import digit_and_rest
from tests.proofs.test_integer_products import prove

SOURCE = files("sterna.targets.triton").joinpath("packed.py").read_text()


def instructions(function: str) -> list[list[str]]:
    """Of the assembly in a function: a name and its operands each."""
    (node,) = (
        each for each in ast.parse(SOURCE).body if isinstance(each, ast.FunctionDef) and each.name == function
    )
    (text,) = (
        each.args[0].value
        for each in ast.walk(node)
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "tl.inline_asm_elementwise"
        if isinstance(each.args[0], ast.Constant)
    )
    statements = [each.strip() for each in str(text).strip("{} ").split(";")]
    return [re.split(r"[\s,]+", each) for each in statements if each and not each.startswith(".reg")]


def run(statements: list[list[str]], *inputs: z3.BitVecRef, outputs: int) -> dict[str, z3.BitVecRef]:
    """What is in the registers then; the first are `outputs`, the next `inputs`."""
    registers = {f"${outputs + n}": value for n, value in enumerate(inputs)}

    def value(operand: str) -> z3.BitVecRef:
        return registers[operand] if operand in registers else z3.BitVecVal(int(operand, 0), 32)

    for number, (name, target, *operands) in enumerate(statements):
        registers[target] = execute(name, [value(each) for each in operands])
        # A result may be in the register of an input, which nothing must read after it.
        later = {operand for _, _, *others in statements[number + 1 :] for operand in others}
        assert not (re.fullmatch(r"\$\d+", target) and any(re.fullmatch(r"\$\d+", each) for each in later))
    return registers


def execute(name: str, operands: list[z3.BitVecRef]) -> z3.BitVecRef:
    match name, operands:
        case "and.b32", [a, b]:
            return a & b
        case "xor.b32", [a, b]:
            return a ^ b
        case "add.u32", [a, b]:
            return a + b
        case "mul.lo.u32", [a, b]:
            return a * b
        case "shr.u32", [a, b]:
            return z3.LShR(a, b)
        case "prmt.b32", [a, b, selector]:
            chosen = [z3.simplify(selector).as_long() >> 4 * n & 0xF for n in range(4)]
            assert max(chosen) < 8, "a sign, not a byte"
            return z3.Concat(*(byte((a, b)[n // 4], n % 4) for n in reversed(chosen)))
        case _:
            raise AssertionError(f"{name} with {len(operands)} operands is not known here")


def byte(word: z3.BitVecRef, n: int) -> z3.BitVecRef:
    return z3.Extract(8 * n + 7, 8 * n, word)


def test_next_trits_takes_the_lowest_field_of_four_bytes() -> None:
    packed = z3.BitVec("packed", 32)
    found = run(instructions("next_trits"), packed, outputs=2)
    for n in range(4):
        prove(byte(found["$0"], n) == (byte(packed, n) & 3) - 1)
        # What comes down from the neighbour is above the fields that are left.
        prove(byte(found["$1"], n) & 0x3F == z3.LShR(byte(packed, n), 2))


def test_next_digits_triples_four_bytes() -> None:
    packed = z3.BitVec("packed", 32)
    found = run(instructions("next_digits"), packed, outputs=2)
    for n in range(4):
        digit, rest = digit_and_rest(z3.ZeroExt(24, byte(packed, n)))
        prove(z3.SignExt(24, byte(found["$0"], n)) == digit - 1)
        prove(z3.ZeroExt(24, byte(found["$1"], n)) == rest)


def test_dot4_adds_products_of_unsigned_and_signed_bytes() -> None:
    """The factors of the way beside: shifted up and down again, a byte has its sign."""
    assert instructions("dot4") == [["dp4a.u32.s32", "$0", "$1", "$2", "$3"]]
    fields, q = z3.BitVecs("fields q", 32)
    for n in range(4):
        prove((fields >> 8 * n) & 0xFF == z3.ZeroExt(24, byte(fields, n)))
        prove((q << (24 - 8 * n)) >> 24 == z3.SignExt(24, byte(q, n)))


def test_digits_dot4_takes_the_upper_bytes_of_both_words() -> None:
    *before, last = instructions("digits_dot4")
    assert last == ["dp4a.u32.s32", "$0", "digits", "$3", "$4"]
    even, odd = z3.BitVecs("even odd", 32)
    found = run(before, even, odd, outputs=1)
    prove(found["digits"] == ((even >> 8) & 0x00FF00FF) | (odd & -0x00FF0100))
