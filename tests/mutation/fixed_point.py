"""Bugs in fixed point: what its operations mean, and how a program comes to them."""

from __future__ import annotations

from tests.mutation.mutant import Mutant

OPERATIONS = ("tests/property/test_fixed_ops.py",)
TABLES = ("tests/unit/test_fixed_tables.py",)
DIALECT = ("tests/unit/test_dialect_fixed.py",)
PASS = ("tests/property/test_to_fixed_point.py",)
REPORT = ("tests/unit/test_fixed_point_report.py",)

NUMERICS = "dialects/fixed_numerics.py"

MUTANTS = (
    Mutant(
        NUMERICS,
        "    above = values >> min(bits - 1, WIDEST)\n    return (above + 1) >> 1",
        "    above = values >> min(bits - 1, WIDEST)\n    return above >> 1",
        "rescale: truncates",
        OPERATIONS,
    ),
    Mutant(
        NUMERICS,
        "return np.where(values > highest, high,",
        "return np.where(values >= highest, high,",
        "left shift: saturates one number early",
        OPERATIONS,
    ),
    Mutant(
        NUMERICS,
        "shift = leading_zeros(positive, width) // step * step",
        "shift = leading_zeros(positive, width)",
        "normalize: any number of zeros",
        OPERATIONS,
    ),
    Mutant(
        NUMERICS,
        "if is_signed else as_unsigned(values, width)",
        "if is_signed else values.astype(np.int64)",
        "table: a mantissa has a sign",
        TABLES,
    ),
    Mutant(
        NUMERICS,
        "state = saturate(round_shift(forget[..., t, :] * state, bits) + inputs[..., t, :], width)",
        "state = saturate(round_shift(forget[..., t, :] * state + (inputs[..., t, :] << bits), bits + 0), width - 1)",
        "recurrence: a state of one bit less",
        OPERATIONS,
    ),
    Mutant(
        "dialects/fixed_row_ops.py",
        "return width + max(summands - 1, 0).bit_length()",
        "return width + max(summands - 1, 0).bit_length() - 1",
        "sum: a bit too few",
        DIALECT,
    ),
    Mutant(
        "dialects/product_ops.py",
        "return (summands << width - 1).bit_length() + 1",
        "return (summands << width - 1).bit_length()",
        "accumulate: a bit too few",
        DIALECT,
    ),
    Mutant(
        "passes/fixed_tables.py",
        "samples = [math.floor(function.of(x) * 2.0**function.point + 0.5) for x in inputs]",
        "samples = [math.floor(function.of(x) * 2.0**function.point) for x in inputs]",
        "table: samples are truncated",
        TABLES,
    ),
    Mutant(
        "passes/fixed_norms.py",
        "factor = math.sqrt(len(numbers)) * scale / 127.0",
        "factor = math.sqrt(len(numbers)) * scale / 128.0",
        "norm: steps of 1/128",
        PASS,
    ),
    Mutant(
        "passes/fixed_norms.py",
        "return Scalar(value, max(spare, 0) - most_zeros + RECIPROCAL.point - 7 + capacity)",
        "return Scalar(value, max(spare, 0) - most_zeros + RECIPROCAL.point - 8 + capacity)",
        "reciprocal: twice as large",
        PASS,
    ),
    Mutant(
        "passes/fixed_scalars.py",
        "width = a.width + b.width",
        "width = a.width + b.width - 2",
        "product: two bits too few",
        PASS,
    ),
    Mutant(
        "compiler/fixed_point_report.py",
        "following = tokens[number * PIECE + 1 :][: len(a)]",
        "following = tokens[number * PIECE :][: len(a)]",
        "report: each token predicts itself",
        REPORT,
    ),
)
