"""The `stream` dialect: a model as stages that run side by side, joined by streams with valid and ready.

A `stream.pipeline` is a graph of processes. Every value is a stream and has one reader: `stream.fork` copies
one for several, and `stream.fifo` is where beats wait. What a stage computes does not depend on time, so the
program means a function on rows (`semantics/stream.py`), whatever the lanes, the depths and the stalls (Kahn,
"The semantics of a simple language for parallel programming", 1974).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal, get_args

from xdsl.dialects.builtin import (
    I64,
    ArrayAttr,
    IntegerAttr,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
    i64,
)
from xdsl.ir import Block, Dialect, Operation, Region, SSAValue
from xdsl.irdl import (
    BaseAttr,
    IRDLOperation,
    VarConstraint,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import IsolatedFromAbove, IsTerminator, NoTerminator, Pure, SymbolOpInterface

from sterna.dialects.constraints import require
from sterna.dialects.regions import YieldOp as ElementYieldOp
from sterna.dialects.stream_types import RegionAttr, RowsType, rows_type

Design = Literal["adder-tree", "lut-ram", "folded", "shared-sums"]
DESIGNS: tuple[Design, ...] = get_args(Design)
WIRED: tuple[Design, ...] = ("folded", "shared-sums")
"""Designs whose weights are no memory's content."""
Reduction = Literal["sum", "max"]
STAGE = "stage"
"""The attribute that names a stage, and so its module in Verilog."""


def _integer(value: int) -> IntegerAttr[I64]:
    return IntegerAttr(value, i64)


@irdl_op_definition
class PipelineOp(IRDLOperation):
    """A model: the region's arguments are its input streams, and `stream.yield` names the output streams."""

    name = "stream.pipeline"
    sym_name = prop_def(SymbolNameConstraint())
    body = region_def("single_block")
    traits = traits_def(IsolatedFromAbove(), SymbolOpInterface(), NoTerminator())
    assembly_format = "$sym_name attr-dict-with-keyword $body"

    def __init__(self, name: str, inputs: Sequence[RowsType]) -> None:
        super().__init__(
            properties={"sym_name": StringAttr(name)}, regions=[Region(Block(arg_types=list(inputs)))]
        )

    def verify_(self) -> None:
        require(isinstance(self.body.block.last_op, YieldOp), "a pipeline ends in stream.yield")
        require(all(isinstance(arg.type, RowsType) for arg in self.body.block.args), "the inputs are streams")
        regions = sorted(regions_of(self).values(), key=lambda region: region.at.data)
        require(
            len({(region.width, region.ahead) for region in regions}) <= 1,
            "there is one memory outside, of one width, and queues of one depth",
        )
        for before, after in pairwise(regions):
            require(
                before.at.data + before.bytes <= after.at.data,
                f"the regions at {before.at.data} and {after.at.data} overlap",
            )


@irdl_op_definition
class YieldOp(IRDLOperation):
    """The output streams of a pipeline."""

    name = "stream.yield"
    values = var_operand_def(RowsType)
    traits = traits_def(IsTerminator())
    assembly_format = "$values attr-dict `:` type($values)"

    def __init__(self, *values: SSAValue) -> None:
        super().__init__(operands=[list(values)])


@irdl_op_definition
class LookupOp(IRDLOperation):
    """Row look-up in a read-only memory: row number token of the weight `[rows, N]`, for each token from 0 on."""

    name = "stream.lookup"
    tokens = operand_def(RowsType)
    table = prop_def(SymbolRefAttr)
    rows = prop_def(IntegerAttr[I64])
    result = result_def(RowsType)
    traits = traits_def(Pure())
    assembly_format = "$tokens `,` $table `rows` `=` $rows attr-dict `:` type($tokens) `->` type($result)"

    def __init__(self, tokens: SSAValue, table: str, rows: int, result: RowsType) -> None:
        super().__init__(
            operands=[tokens],
            properties={"table": SymbolRefAttr(table), "rows": _integer(rows)},
            result_types=[result],
        )

    def verify_(self) -> None:
        require(rows_type(self.tokens).size.data == 1, "one token a row")


@irdl_op_definition
class ArrayOp(IRDLOperation):
    """Ternary matrix times row: y[m] = sum_k x[k] w[m, k]. SIMD is the lanes of x, PE those of y.

    `adder-tree` and `lut-ram` read their weights from a memory, M / PE times K / SIMD words a row: on the chip, or
    from the region of the memory outside that is stated. `folded` and `shared-sums` have them as wiring and take a
    whole row at once.
    """

    name = "stream.array"
    x = operand_def(RowsType)
    weight = prop_def(SymbolRefAttr)
    design = prop_def(StringAttr)
    region = opt_prop_def(RegionAttr)
    result = result_def(RowsType)
    traits = traits_def(Pure())
    assembly_format = (
        "$x `,` $weight `design` `=` $design (`from` $region^)? attr-dict `:` type($x) `->` type($result)"
    )

    def __init__(self, x: SSAValue, weight: str, result: RowsType, design: Design = "adder-tree") -> None:
        super().__init__(
            operands=[x],
            properties={"weight": SymbolRefAttr(weight), "design": StringAttr(design)},
            result_types=[result],
        )

    def verify_(self) -> None:
        x, y, design = rows_type(self.x), rows_type(self.result), self.design.data
        require(design in DESIGNS, f"a design is one of {', '.join(DESIGNS)}, found {design}")
        needed = (x.size.data << (x.width - 1)).bit_length() + 1
        require(y.width >= needed, f"a sum of {x.size.data} products may need {needed} bits, has {y.width}")
        if design in WIRED:
            require(
                x.beats == y.beats == 1, "constant weights take a row in one beat and give one in one beat"
            )
            require(self.region is None, "weights that are wiring are in no memory")
        if self.region is not None:
            bits = weight_bits(design, y, x) * x.beats * y.beats
            stored = self.region.bytes * 8
            require(stored >= bits, f"weights of {bits} bits are not in a region of {stored}")


def weight_bits(design: str, y: RowsType, x: RowsType) -> int:
    """Of the weights that an array takes in a cycle: two bits a trit, or with tables of sums five bits three."""
    if design == "lut-ram":
        return y.lanes.data * -(-x.lanes.data // 3) * 5
    return y.lanes.data * x.lanes.data * 2


@irdl_op_definition
class MapOp(IRDLOperation):
    """Elementwise operations as one stage: element n of every result from elements n of the inputs and constants.

    An input with rows of one element is the same for the whole row. Constants are weights `[N]`, or of one element.
    The region takes the inputs' scalars, then the constants', and yields the results'.
    """

    name = "stream.map"
    inputs = var_operand_def(RowsType)
    constants = prop_def(ArrayAttr[SymbolRefAttr])
    outs = var_result_def(RowsType)
    body = region_def("single_block")
    traits = traits_def(IsolatedFromAbove(), Pure())
    assembly_format = (
        "`(` $inputs `:` type($inputs) `)` `constants` $constants $body attr-dict `->` type($outs)"
    )

    def __init__(
        self, inputs: Sequence[SSAValue], constants: Sequence[str], body: Region, outs: Sequence[RowsType]
    ) -> None:
        super().__init__(
            operands=[list(inputs)],
            properties={"constants": ArrayAttr([SymbolRefAttr(name) for name in constants])},
            regions=[body],
            result_types=[list(outs)],
        )

    @property
    def rows(self) -> RowsType:
        """Of the first result; all have the same size and lanes."""
        return rows_type(self.outs[0])

    @property
    def yielded(self) -> Sequence[SSAValue]:
        last = self.body.block.last_op
        assert isinstance(last, ElementYieldOp)
        return last.values

    def verify_(self) -> None:
        require(len(self.outs) > 0, "a stage has a result")
        require(len(self.inputs) > 0, "a stage has an input: a result needs a cause")
        shape = (self.rows.size, self.rows.lanes)
        for out in self.outs:
            require(
                (rows_type(out).size, rows_type(out).lanes) == shape, "results have one size and one lanes"
            )
        for value in self.inputs:
            type = rows_type(value)
            require(
                type.size.data == 1 or (type.size, type.lanes) == shape,
                f"an input is a scalar a row, or has the size and lanes of the results, found {type}",
            )
        arguments = [arg.type for arg in self.body.block.args]
        require(
            arguments[: len(self.inputs)] == [rows_type(value).element for value in self.inputs]
            and len(arguments) == len(self.inputs) + len(self.constants),
            "the region takes the elements of the inputs, and then the constants",
        )
        last = self.body.block.last_op
        require(
            isinstance(last, ElementYieldOp)
            and [value.type for value in last.values] == [rows_type(out).element for out in self.outs],
            "the region ends in a ternary.yield of one element a result",
        )


@irdl_op_definition
class ReduceOp(IRDLOperation):
    """The sum or the signed maximum of a row, as a row of one element; a sum has the bits that it may need."""

    name = "stream.reduce"
    x = operand_def(RowsType)
    kind = prop_def(StringAttr)
    result = result_def(RowsType)
    traits = traits_def(Pure())
    assembly_format = "$kind $x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, kind: Reduction, x: SSAValue, width: int) -> None:
        super().__init__(
            operands=[x], properties={"kind": StringAttr(kind)}, result_types=[RowsType.of(1, width)]
        )

    def verify_(self) -> None:
        x, y = rows_type(self.x), rows_type(self.result)
        require(self.kind.data in get_args(Reduction), f"a reduction is sum or max, found {self.kind.data}")
        needed = x.width + ((x.size.data - 1).bit_length() if self.kind.data == "sum" else 0)
        require(
            y.size.data == 1 and y.width >= needed, f"the result is a row of one, of {needed} bits or more"
        )


@irdl_op_definition
class ArgmaxOp(IRDLOperation):
    """The index of the greatest element of a row, the first of equal ones, as a row of one element."""

    name = "stream.argmax"
    x = operand_def(RowsType)
    result = result_def(RowsType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue) -> None:
        width = (rows_type(x).size.data - 1).bit_length() + 1
        super().__init__(operands=[x], result_types=[RowsType.of(1, width)])

    def verify_(self) -> None:
        needed = (rows_type(self.x).size.data - 1).bit_length() + 1
        result = rows_type(self.result)
        require(
            result.size.data == 1 and result.width == needed, f"the result is a row of one, of {needed} bits"
        )


@irdl_op_definition
class ScanOp(IRDLOperation):
    """The gated recurrence with its state in a memory: s = saturate(floor(f * s / 2^by + 1/2) + i), a state a sequence.

    `context` is a scalar a row: bit 0 starts the sequence from s = 0, the bits above number the sequence, below
    `sequences`.
    """

    name = "stream.scan"
    context = operand_def(RowsType)
    f = operand_def(RowsType)
    i = operand_def(RowsType)
    by = prop_def(IntegerAttr[I64])
    sequences = prop_def(IntegerAttr[I64])
    result = result_def(RowsType)
    traits = traits_def(Pure())
    assembly_format = (
        "$context `,` $f `,` $i `by` $by `sequences` $sequences attr-dict "
        "`:` type($context) `,` type($f) `,` type($i) `->` type($result)"
    )

    def __init__(
        self, context: SSAValue, f: SSAValue, i: SSAValue, width: int, *, by: int, sequences: int
    ) -> None:
        rows = rows_type(i)
        super().__init__(
            operands=[context, f, i],
            properties={"by": _integer(by), "sequences": _integer(sequences)},
            result_types=[RowsType.of(rows.size.data, width, rows.lanes.data)],
        )

    def verify_(self) -> None:
        rows = [rows_type(value) for value in (self.f, self.i, self.result)]
        require(len({(each.size, each.lanes) for each in rows}) == 1, "f, i and the state have one shape")
        require(rows[0].width + rows[2].width <= 63, "f * s has at most 63 bits")
        require(
            0 <= self.by.value.data <= 63 and self.sequences.value.data > 0,
            "by is 0 to 63; a sequence or more",
        )
        require(rows_type(self.context).size.data == 1, "the context is a scalar a row")


@irdl_op_definition
class LanesOp(IRDLOperation):
    """The same rows, so many elements at a time as the result's type says; one number of lanes divides the other."""

    name = "stream.lanes"
    x = operand_def(RowsType)
    result = result_def(RowsType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"

    def __init__(self, x: SSAValue, lanes: int) -> None:
        super().__init__(operands=[x], result_types=[rows_type(x).by(lanes)])

    def verify_(self) -> None:
        before, after = rows_type(self.x), rows_type(self.result)
        require(before.by(1) == after.by(1), "rows stay as they are")
        few, many = sorted((before.lanes.data, after.lanes.data))
        require(many % few == 0, f"{few} lanes do not divide {many}")


@irdl_op_definition
class FifoOp(IRDLOperation):
    """A queue of `depth` beats."""

    name = "stream.fifo"
    R: ClassVar = VarConstraint("R", BaseAttr(RowsType))
    x = operand_def(R)
    depth = prop_def(IntegerAttr[I64])
    result = result_def(R)
    traits = traits_def(Pure())
    assembly_format = "$x `depth` $depth attr-dict `:` type($result)"

    def __init__(self, x: SSAValue, depth: int) -> None:
        super().__init__(operands=[x], properties={"depth": _integer(depth)}, result_types=[x.type])

    def verify_(self) -> None:
        require(self.depth.value.data >= 2, "a queue holds two beats or more")


@irdl_op_definition
class ForkOp(IRDLOperation):
    """Every beat of x to each of the results, which take it when they can."""

    name = "stream.fork"
    x = operand_def(RowsType)
    outs = var_result_def(RowsType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($outs)"

    def __init__(self, x: SSAValue, copies: int) -> None:
        super().__init__(operands=[x], result_types=[[x.type] * copies])

    def verify_(self) -> None:
        require(len(self.outs) > 0, "a fork has a result")
        require(all(out.type == self.x.type for out in self.outs), "a fork does not change its stream")


def stage_name(op: Operation) -> str:
    """The name of a stage; of an op that has none, that of its operation."""
    name = op.attributes.get(STAGE)
    return name.data if isinstance(name, StringAttr) else op.name.removeprefix("stream.")


def regions_of(pipeline: PipelineOp) -> dict[Operation, RegionAttr]:
    """The arrays whose weights are in the memory outside, and where."""
    return {
        op: op.region for op in pipeline.body.block.ops if isinstance(op, ArrayOp) and op.region is not None
    }


def pipeline_of(operations: Sequence[Operation]) -> PipelineOp | None:
    return next((op for op in operations if isinstance(op, PipelineOp)), None)


Stream = Dialect(
    "stream",
    [
        PipelineOp,
        YieldOp,
        LookupOp,
        ArrayOp,
        MapOp,
        ReduceOp,
        ArgmaxOp,
        ScanOp,
        LanesOp,
        FifoOp,
        ForkOp,
    ],
    [RowsType, RegionAttr],
)
