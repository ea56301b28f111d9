"""`--run`: interprets the module as it stands, and prints the results."""

from __future__ import annotations

from zlib import crc32

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.weights import Array, WeightStore
from sterna.instruments.inputs import (
    ROWS,
    describe,
    entry_function,
    generate_inputs,
    input_names,
    read_inputs,
    type_text,
)


def interpret(
    module: ModuleOp,
    weights: WeightStore | None,
    *,
    inputs: tuple[str, ...] = (),
    rows: int | None = None,
    seed: int = 0,
) -> str:
    """The results of the entry function, as text: each with its type, a checksum of its bits, and its numbers.

    Inputs that are not given are generated, recurrent states as zeros. Equal checksums are equal bits.
    """
    function = entry_function(module)
    names = input_names(function)
    given = read_inputs(inputs, names)
    given_rows = next((value.shape[0] for value in given.values() if value.ndim), ROWS)
    values = generate_inputs(
        module, function, rows=rows or given_rows, seed=seed, zero_states=True, given=given
    )
    results = ModuleInterpreter(module, weights).run(values, function=function.sym_name.data)
    lines = [
        f"// @{function.sym_name.data}, {describe(name, value)}"
        for name, value in zip(names, values, strict=True)
    ]
    lines += [result_text(number, result) for number, result in enumerate(results)]
    return "\n".join(lines) + "\n"


def result_text(number: int, result: Array) -> str:
    checksum = crc32(np.ascontiguousarray(result).tobytes())
    numbers = np.array2string(result, threshold=64, edgeitems=4, max_line_width=110)
    return f"result {number}: {type_text(result)}, bits {checksum:08x}\n{numbers}"
