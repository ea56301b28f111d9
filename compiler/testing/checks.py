"""Assertions: two programs are equivalent, a pass keeps what a program computes, a module reads back as it prints.

A failure says the output, the index, both values and their distance, and ends in a test to paste.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.passes import ModulePass

from sterna.dialects.context import make_context, parse
from sterna.instruments.inputs import entry_function
from sterna.instruments.verify_each import generate_cases
from sterna.ir_text import print_ir
from sterna.passes import PASSES
from sterna.passes.tolerance import tolerance_of
from sterna.testing.contracts import Contract, bit_exact, compare, of_pass
from sterna.testing.source import array_source
from sterna.testing.subjects import Array, Interpreted, Program, Subject, Weights, as_subject


class NotEquivalent(AssertionError):
    """Two results differ by more than their contract allows. The text ends in a test that shows it again."""


def assert_equivalent(a: Any, b: Any, inputs: Sequence[Array], contract: Contract = bit_exact) -> None:
    """`b` gives on these inputs what `a` gives, as the contract says.

    Each of the two is a PyTorch module, IR (text, a module, a pair with its weights, `Interpreted` at any stage),
    `Compiled` for a target, a compiled model or the path of an artifact, an ONNX Runtime session, a llama.cpp model, or
    any function on numpy arrays. Raises NotEquivalent.
    """
    first, second = as_subject(a), as_subject(b)
    found = compare(contract, first.run(inputs), second.run(inputs))
    if found is None:
        return
    parts = [f"{second.name} is not {first.name}: {found}, by {contract.source}"]
    parts += [f"inputs:\n{_inputs_text(inputs)}", *_ir_of(first, second)]
    test = pytest_source(first, second, inputs, contract)
    parts.append(test or "no test to paste: one of the two, or its weights, cannot be written as source")
    raise NotEquivalent("\n\n".join(parts))


def assert_pass_preserves(
    rewrite: ModulePass | type[ModulePass] | str,
    module: Any,
    weights: Weights = None,
    inputs: Sequence[Array] | None = None,
) -> None:
    """The module computes the same after the pass, up to the tolerance that the pass states.

    The module (IR text, a ModuleOp, or a program of `ir_modules`) stays as it is. Without `inputs`, some are generated.
    """
    if isinstance(rewrite, str):
        rewrite = PASSES[rewrite]
    if isinstance(rewrite, type):
        rewrite = rewrite()
    program = as_subject(module if weights is None else (module, weights))
    assert isinstance(program, Interpreted), "a pass rewrites IR"
    after = program.op.clone()
    rewrite.apply(make_context(program.store), after)
    after.verify()
    contract = of_pass(tolerance_of(rewrite))
    entry = entry_function(program.op).sym_name.data
    cases = (
        [tuple(inputs)]
        if inputs is not None
        else [case.inputs for case in generate_cases(program.op, 3, 0) if case.function == entry]
    )
    rewritten = Interpreted(after, program.weights)
    for case in cases:
        if found := compare(contract, program.run(case), rewritten.run(case)):
            raise NotEquivalent(
                "\n\n".join(
                    [
                        f"pass '{rewrite.name}' changes the program: {found}, by {contract.source}",
                        f"inputs:\n{_inputs_text(case)}",
                        f"before:\n{program.text}",
                        f"after:\n{print_ir(after)}",
                        _pass_test_source(rewrite, program, case),
                    ]
                )
            )


def assert_round_trips(module: Any) -> None:
    """What the module prints reads back, and prints the same again."""
    program = as_subject(module)
    assert isinstance(program, Interpreted), "only IR has a text"
    text = print_ir(program.op)
    again = print_ir(parse(text))
    if again != text:
        lines = zip(text.splitlines(), again.splitlines(), strict=False)
        first = next(((a, b) for a, b in lines if a != b), ("(the end of one)", "(goes on in the other)"))
        raise NotEquivalent(
            f"the text changes when it is read back: {first[0]!r} became {first[1]!r}\n\n{text}"
        )


def pytest_source(a: Subject, b: Subject, inputs: Sequence[Array], contract: Contract) -> str | None:
    """A pytest function that fails as the comparison did; None where a side cannot be written as source."""
    first, second = a.source(), b.source()
    if first is None or second is None:
        return None
    names = sorted(
        {
            "assert_equivalent",
            "decode",
            *(name for name in ("Interpreted", "Compiled") if f"{name}(" in first[1] + second[1]),
            contract.source.partition("(")[0],
        }
    )
    head = ["import numpy as np", "", f"from sterna.testing import {', '.join(names)}"]
    if first[0] == second[0]:
        setup, expressions = [first[0]], (first[1], second[1])
    else:
        setup, expressions = _separate(first, second)
    lines = [
        "",
        "",
        "def test_reproduces() -> None:",
        f"    inputs = [{', '.join(map(array_source, inputs))}]",
        f"    assert_equivalent({expressions[0]}, {expressions[1]}, inputs, {contract.source})",
    ]
    return "\n".join([*head, "", *setup, *lines]) + "\n"


def _separate(first: tuple[str, str], second: tuple[str, str]) -> tuple[list[str], tuple[str, str]]:
    """Two programs side by side: the second one's names get a number."""
    setup, expression = second
    for name in ("IR", "WEIGHTS"):
        setup = setup.replace(f"{name} = ", f"{name}_2 = ", 1)
        expression = expression.replace(f"{name},", f"{name}_2,").replace(f"{name})", f"{name}_2)")
    return [first[0], setup], (first[1], expression)


def _pass_test_source(rewrite: ModulePass, program: Program, inputs: Sequence[Array]) -> str:
    setup = program.source_lines()
    if setup is None:
        return "no test to paste: the weights are too large to be written as source"
    kind = type(rewrite)
    expression = kind.__name__ if PASSES.get(rewrite.name) is not kind else repr(rewrite.name)
    imported = [f"from {kind.__module__} import {kind.__name__}"] if expression == kind.__name__ else []
    return "\n".join(
        [
            "import numpy as np",
            "",
            "from sterna.testing import assert_pass_preserves, decode",
            *imported,
            "",
            setup,
            "",
            "",
            "def test_reproduces() -> None:",
            f"    inputs = [{', '.join(map(array_source, inputs))}]",
            f"    assert_pass_preserves({expression}, IR, WEIGHTS, inputs)",
            "",
        ]
    )


def _ir_of(*subjects: Subject) -> list[str]:
    texts = dict.fromkeys(subject.text for subject in subjects if isinstance(subject, Program))
    return [f"IR:\n{text}" for text in texts]


def _inputs_text(inputs: Sequence[Array]) -> str:
    return "\n".join(f"  {n}: {array_source(np.asarray(value))[:400]}" for n, value in enumerate(inputs))
