"""Functions as samples: the read-only memories of a fixed-point program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import (
    DenseArrayBase,
    IntegerAttr,
    IntegerType,
    StringAttr,
    SymbolNameConstraint,
    UnitAttr,
    i64,
)
from xdsl.irdl import IRDLOperation, irdl_op_definition, opt_prop_def, prop_def, traits_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import SymbolOpInterface

from sterna.dialects.constraints import require
from sterna.dialects.fixed_numerics import limits


@irdl_op_definition
class TableOp(IRDLOperation):
    """Samples of a function at equal distances over all of its input's range, for `fixed.interpolate`.

    `fixed.table @f unsigned i16 -> i18 [s_0, ..., s_{2^B}]`: sample j is the function at j * 2^(N - B); of a `signed`
    table at j * 2^(N - B) - 2^(N - 1), for inputs of N bits. In hardware a word j of 2^B holds s_j and s_{j+1} - s_j.
    The attributes `input_point` and `point` state the binary points of input and result.
    """

    name = "fixed.table"
    sym_name = prop_def(SymbolNameConstraint())
    is_signed = opt_prop_def(UnitAttr)
    input_type = prop_def(IntegerType)
    result_type = prop_def(IntegerType)
    samples = prop_def(DenseArrayBase.constr(i64))
    traits = traits_def(SymbolOpInterface())

    def __init__(
        self,
        name: str,
        samples: Sequence[int],
        *,
        is_signed: bool,
        input_width: int,
        result_width: int,
        input_point: int | None = None,
        point: int | None = None,
    ) -> None:
        points = {"input_point": input_point, "point": point}
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "input_type": IntegerType(input_width),
                "result_type": IntegerType(result_width),
                "samples": DenseArrayBase.from_list(i64, list(samples)),
                **({"is_signed": UnitAttr()} if is_signed else {}),
            },
            attributes={key: IntegerAttr(bits, i64) for key, bits in points.items() if bits is not None},
        )

    @property
    def input_width(self) -> int:
        return self.input_type.width.data

    @property
    def result_width(self) -> int:
        return self.result_type.width.data

    @property
    def index_bits(self) -> int:
        """B: the words of the memory are 2^B."""
        return (len(self.samples) - 1).bit_length() - 1

    @property
    def values(self) -> npt.NDArray[np.int64]:
        return np.array(self.samples.get_values(), np.int64)

    @property
    def delta_width(self) -> int:
        """Bits, sign included, of the largest difference of two samples that are neighbours."""
        return int(np.abs(np.diff(self.values)).max(initial=0)).bit_length() + 1

    def verify_(self) -> None:
        count = len(self.samples) - 1
        require(count >= 1 and count & (count - 1) == 0, f"2^B + 1 samples, found {count + 1}")
        require(self.input_width <= 32, "the input has at most 32 bits")
        require(self.index_bits <= self.input_width, f"2^{self.input_width} inputs need no more samples")
        require(self.result_width <= 31, "the result has at most 31 bits")
        low, high = limits(self.result_width)
        fits = all(low <= sample <= high for sample in self.samples.get_values())
        require(fits, f"the samples are of i{self.result_width}")

    @classmethod
    def parse(cls, parser: Parser) -> TableOp:
        name = parser.parse_symbol_name()
        sign = parser.expect(
            lambda: parser.parse_optional_keyword("signed") or parser.parse_optional_keyword("unsigned"),
            "signed or unsigned",
        )
        types = [parser.parse_type()]
        parser.parse_punctuation("->")
        types.append(parser.parse_type())
        if not all(isinstance(type, IntegerType) for type in types):
            parser.raise_error("a table is from integers to integers")
        samples = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
        if any(not -(1 << 63) <= sample < 1 << 63 for sample in samples):
            parser.raise_error("a sample has at most 64 bits")
        attributes = parser.parse_optional_attr_dict_with_keyword()
        source, result = (cast(IntegerType, type).width.data for type in types)
        op = cls(name.data, samples, is_signed=sign == "signed", input_width=source, result_width=result)
        if attributes is not None:
            op.attributes |= attributes.data
        return op

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        sign = "signed" if self.is_signed is not None else "unsigned"
        samples = ", ".join(map(str, self.samples.get_values()))
        printer.print_string(f" {sign} i{self.input_width} -> i{self.result_width} [{samples}]")
        printer.print_op_attributes(self.attributes, print_keyword=True)
