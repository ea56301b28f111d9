"""The functions of a fixed-point program that are tables: samples, and how far interpolation is from the function.

Each has 2^9 intervals, so that a word with its sample and the difference to the next, 18 bits each, fits the 512 x 36
memory of an FPGA. Between samples the line is off by h^2 / 8 max|f''|; rounding a sample and the result adds half a
unit in the last place each. `tests/unit/test_fixed_tables.py` measures every input:

| table | input | result | bound |
| --- | --- | --- | --- |
| sigmoid | -16 to 16 in steps of 2^-11 | 16 bits after the point | 6.3e-5 |
| rsqrt | 1/4 to 1 in steps of 2^-16 | 15 bits after the point | 4.3e-5 |
| reciprocal, times 127/128 | 1/2 to 1 in steps of 2^-16 | 16 bits after the point | 2.3e-5 |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.fixed import TableOp

INDEX_BITS = 9
MANTISSA_BITS = 16
"""Of a normalised row scalar, which is a number below 1: its binary point is left of all of them."""


@dataclass(frozen=True)
class Function:
    """A function, and the formats of its table."""

    name: str
    of: Callable[[float], float]
    is_signed: bool
    input_width: int
    input_point: int
    point: int
    bound: float
    """The largest distance of an interpolated value from the function, where inputs are used."""
    width: int = 18


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def rsqrt(x: float) -> float:
    """From 1/4 on: a mantissa has one of its top two bits set."""
    return 1.0 / math.sqrt(max(x, 0.25))


def reciprocal_127(x: float) -> float:
    """127/128 of the reciprocal, from 1/2 on: a mantissa has its top bit set."""
    return 127.0 / 128.0 / max(x, 0.5)


SIGMOID = Function("sigmoid", sigmoid, True, input_width=16, input_point=11, point=16, bound=6.3e-5)
RSQRT = Function("rsqrt", rsqrt, False, MANTISSA_BITS, input_point=16, point=15, bound=4.3e-5)
RECIPROCAL = Function(
    "reciprocal", reciprocal_127, False, MANTISSA_BITS, input_point=16, point=16, bound=2.3e-5
)
FUNCTIONS = (SIGMOID, RSQRT, RECIPROCAL)


def build_table(function: Function) -> TableOp:
    first = -(1 << function.input_width - 1) if function.is_signed else 0
    step = 1 << function.input_width - INDEX_BITS
    inputs = ((first + j * step) * 2.0**-function.input_point for j in range((1 << INDEX_BITS) + 1))
    samples = [math.floor(function.of(x) * 2.0**function.point + 0.5) for x in inputs]
    return TableOp(
        function.name,
        samples,
        is_signed=function.is_signed,
        input_width=function.input_width,
        result_width=function.width,
        input_point=function.input_point,
        point=function.point,
    )


class Tables:
    """The tables of a module, each of which is added when it is first asked for."""

    def __init__(self, module: ModuleOp) -> None:
        self._block = module.body.block
        self._tables: dict[str, TableOp] = {}

    def get(self, function: Function) -> TableOp:
        if (table := self._tables.get(function.name)) is None:
            table = self._tables[function.name] = build_table(function)
            first = self._block.first_op
            assert first is not None
            self._block.insert_op_before(table, first)
        return table
