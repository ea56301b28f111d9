"""Makes the stages of a pipeline of the operations of a fixed-point program.

    %acc = ternary.accumulate %q, %w : tensor<?x256xi8>, tensor<128x256x!ternary.trit> -> tensor<?x128xi17>
    %y = ternary.elementwise(%acc, %scale : tensor<?x128xi17>, tensor<?xi18>) axes = [...] {...}

becomes

    %acc = stream.array %q, @w design = "adder-tree" : !stream.rows<256 by 1 : i8> -> !stream.rows<128 by 1 : i17>
    %y = stream.map(%acc, %scale : !stream.rows<128 by 1 : i17>, !stream.rows<1 by 1 : i18>) constants [] {...}

Tensors of T rows are streams of rows, weights are memories of the stage that reads them, and a recurrent state
is a memory too: it is neither input nor output any more. With every token comes its context: whether it begins
a sequence, and which sequence it is of. With `output=tokens` the greatest logit's index leaves, with
`output=logits` all of them do.

Why it is right: each operation on rows means a function of each row and of the rows before (a state), and so
does its stage; the interpreter of the pipeline (`dialects/semantics/stream.py`) gives the integers that it
gives for the fixed-point program.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, StringAttr, TensorType, i64
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.transforms.dead_code_elimination import region_dce

from sterna.dialects.errors import CompileError, describe_location
from sterna.dialects.fixed import FromFloatOp, MaxOp, ScanOp, SumOp, ToFloatOp, point_of, width_of
from sterna.dialects.fixed_point import exact_width
from sterna.dialects.stream import (
    STAGE,
    ArgmaxOp,
    ArrayOp,
    LookupOp,
    MapOp,
    PipelineOp,
    ReduceOp,
    YieldOp,
)
from sterna.dialects.stream import ScanOp as StreamScanOp
from sterna.dialects.stream_types import RowsType
from sterna.dialects.ternary import AccumulateOp, ElementwiseOp, EmbeddingOp, LoadOp, tensor
from sterna.passes.derived_weights import weight_name
from sterna.targets.interface import find_entry, integer_attribute
from sterna.targets.verilog.stages.module import identifier

OUTPUTS = ("tokens", "logits")


@dataclass(frozen=True)
class ConvertFixedToStreamPass(ModulePass):
    name = "convert-fixed-to-stream"

    output: str = "tokens"
    sequences: int = 1

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.output not in OUTPUTS:
            raise CompileError(f"{self.name}: output is {' or '.join(OUTPUTS)}, not {self.output}")
        if self.sequences < 1:
            raise CompileError(f"{self.name}: sequences is a number from 1, not {self.sequences}")
        entry = find_entry(op)
        pipeline = _Conversion(entry, self.output, self.sequences).convert()
        op.body.block.insert_op_before(pipeline, entry)
        entry.detach()
        entry.erase()


@dataclass
class _Conversion:
    entry: FuncOp
    output: str
    sequences: int
    streams: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    names: dict[str, int] = field(default_factory=dict[str, int])

    def convert(self) -> PipelineOp:
        states = integer_attribute(self.entry, "sterna.states", default=0)
        arguments = self.entry.body.block.args
        if len(arguments) - states != 1:
            raise CompileError(
                f"a pipeline takes one stream of tokens, this program has {len(arguments) - states} inputs",
                self.entry.location,
            )
        tokens = arguments[0]
        vocabulary = self._vocabulary(tokens)
        context_bits = 1 + (self.sequences - 1).bit_length()
        types = [RowsType.of(1, (vocabulary - 1).bit_length() + 1), RowsType.of(1, max(context_bits, 2))]
        pipeline = PipelineOp(self.entry.sym_name.data, types)
        block = pipeline.body.block
        block.args[0].name_hint, block.args[1].name_hint = "tokens", "context"
        self.streams[tokens] = block.args[0]
        for op in self.entry.body.block.ops:
            if not isinstance(op, ReturnOp):
                self._stage(block, op)
                continue
            self._end(block, pipeline, op, states)
        return pipeline

    def _vocabulary(self, tokens: SSAValue) -> int:
        for use in tokens.uses:
            if isinstance(use.operation, EmbeddingOp):
                return tensor(use.operation.table).get_shape()[0]
        raise CompileError("a pipeline begins with the look-up of a token", self.entry.location)

    def _end(self, block: Block, pipeline: PipelineOp, op: ReturnOp, states: int) -> None:
        if len(op.arguments) - states != 1:
            raise CompileError("a pipeline has one result beside its states", op.location)
        logits = self._integers(op.arguments[0])
        if (point := point_of(logits.type)) is not None:
            pipeline.attributes["point"] = IntegerAttr(point, i64)
        result = self.streams[logits]
        if self.output == "tokens":
            argmax = ArgmaxOp(result)
            argmax.attributes[STAGE] = StringAttr(self._name("argmax"))
            argmax.result.name_hint = "next_token"
            block.add_op(argmax)
            result = argmax.result
        block.add_op(YieldOp(result))

    def _integers(self, value: SSAValue) -> SSAValue:
        return value.owner.x if isinstance(value.owner, ToFloatOp) else value

    def _stage(self, block: Block, op: Operation) -> None:
        match op:
            case LoadOp() | FromFloatOp() | ToFloatOp():
                return
            case EmbeddingOp():
                rows = tensor(op.table).get_shape()[0]
                table = self._weight(op.table, op)
                stage = LookupOp(self._stream(op.tokens, op), table, rows, self._rows(op.result))
            case AccumulateOp():
                stage = ArrayOp(self._stream(op.x, op), self._weight(op.w, op), self._rows(op.acc))
            case SumOp() | MaxOp():
                kind = "sum" if isinstance(op, SumOp) else "max"
                stage = ReduceOp(kind, self._stream(op.x, op), self._rows(op.result).width)
            case ScanOp():
                stage = self._scan(block, op)
            case ElementwiseOp():
                stage = self._map(op)
            case _:
                place = describe_location(op.location)
                raise CompileError(
                    f"{op.name} has no streaming form{f' ({place})' if place else ''}", op.location
                )
        stage.location = op.location
        stage.attributes[STAGE] = StringAttr(self._name(_hint(op)))
        block.add_op(stage)
        results = [result for result in op.results if isinstance(result.type, TensorType)]
        for before, after in zip(results, stage.results, strict=False):
            after.name_hint = before.name_hint
            self.streams[before] = after

    def _scan(self, block: Block, op: ScanOp) -> StreamScanOp:
        init = op.init.owner
        if not (isinstance(init, FromFloatOp) and init.x in self.entry.body.block.args):
            raise CompileError("a recurrence begins with a state of the program", op.location)
        width = exact_width(op.init)
        return StreamScanOp(
            block.args[1],
            self._stream(op.f, op),
            self._stream(op.i, op),
            width,
            by=op.by.value.data,
            sequences=self.sequences,
        )

    def _map(self, op: ElementwiseOp) -> MapOp:
        axes = op.input_axes()
        streamed = [n for n, value in enumerate(op.inputs) if weight_name(value) is None]
        constant = [n for n in range(len(op.inputs)) if n not in streamed]
        for n in streamed:
            if not axes[n] or axes[n][0] != 0:
                raise CompileError("an input of a stage is a row or a scalar of each row", op.location)
        body = op.body.clone()
        block = body.block
        order = [*streamed, *constant]
        arguments = [block.args[n] for n in order]
        fresh = [block.insert_arg(argument.type, len(block.args)) for argument in arguments]
        for before, after in zip(arguments, fresh, strict=True):
            after.name_hint = before.name_hint
            before.replace_all_uses_with(after)
        for argument in list(block.args)[: len(order)]:
            block.erase_arg(argument)
        region_dce(body)
        return MapOp(
            [self._stream(op.inputs[n], op) for n in streamed],
            [self._weight(op.inputs[n], op) for n in constant],
            body,
            [self._rows(out) for out in op.outs],
        )

    def _stream(self, value: SSAValue, reader: Operation) -> SSAValue:
        if (stream := self.streams.get(value)) is None:
            raise CompileError(f"{reader.name} reads what is no stream of rows", reader.location)
        return stream

    def _weight(self, value: SSAValue, reader: Operation) -> str:
        if (name := weight_name(value)) is None:
            raise CompileError(f"{reader.name} needs a weight, whose numbers are known", reader.location)
        return name

    def _rows(self, value: SSAValue) -> RowsType:
        """One element a beat; how many it will be is for `fold-stages` to say."""
        type = tensor(value)
        if (width := width_of(type)) is None:
            raise CompileError(f"hardware has integers, found {type}: run to-fixed-point first")
        shape = type.get_shape()
        return RowsType.of(shape[-1] if len(shape) > 1 else 1, width)

    def _name(self, hint: str) -> str:
        """Unique, in order of the program."""
        base = identifier(hint)
        self.names[base] = self.names.get(base, 0) + 1
        return base if self.names[base] == 1 else f"{base}_{self.names[base]}"


def _hint(op: Operation) -> str:
    """What a stage is called: the model's name of the layer and what it does."""
    kinds: dict[type[Operation], str] = {
        EmbeddingOp: "lookup",
        AccumulateOp: "accumulate",
        SumOp: "sum",
        MaxOp: "max",
        ScanOp: "scan",
        ElementwiseOp: "map",
    }
    kind = kinds[type(op)]
    if isinstance(op, AccumulateOp) and (name := weight_name(op.w)) is not None:
        return name.removeprefix("model.").replace(".trits", "")
    layer = describe_location(op.location).split(": ")[-1].removeprefix("model.")
    return f"{layer}_{kind}" if layer else kind
