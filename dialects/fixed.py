"""The `fixed` dialect: what a fixed-point program needs and `arith` on integers does not say.

Integers have the exact width of their type (`i18`), and are signed two's complement. A tensor's type also says where
the binary point is: `tensor<?x256xi18, #fixed.point<12>>` holds numbers x * 2^-12. Rounding is half up everywhere,
floor(x + 1/2), which takes one adder; what does not fit saturates, and nothing wraps.
"""

from __future__ import annotations

from xdsl.ir import Dialect

from sterna.dialects.elements import width_of
from sterna.dialects.fixed_point import PointAttr, point_of, rows
from sterna.dialects.fixed_row_ops import FromFloatOp, MaxOp, ScanOp, SumOp, ToFloatOp
from sterna.dialects.fixed_scalar_ops import InterpolateOp, NormalizeOp, RescaleOp, ShiftRightOp
from sterna.dialects.fixed_table import TableOp

__all__ = [
    "Fixed",
    "FromFloatOp",
    "InterpolateOp",
    "MaxOp",
    "NormalizeOp",
    "PointAttr",
    "RescaleOp",
    "ScanOp",
    "ShiftRightOp",
    "SumOp",
    "TableOp",
    "ToFloatOp",
    "point_of",
    "rows",
    "width_of",
]

Fixed = Dialect(
    "fixed",
    [
        FromFloatOp,
        InterpolateOp,
        MaxOp,
        NormalizeOp,
        RescaleOp,
        ScanOp,
        ShiftRightOp,
        SumOp,
        TableOp,
        ToFloatOp,
    ],
    [PointAttr],
)
