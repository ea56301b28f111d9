"""Kernels of operations that work on rows: norms, quantizations, elementwise tails, look-up.

Neighbours become one kernel: one program a row, which holds the row in registers. A sum over a row has an order that
the IR states, strided partial sums, and reads the row from memory, as many elements at a time; so a row that was
computed in the kernel is stored first. One that was not has been loaded whole: those loads find it in the L1 cache.

A launch costs about a microsecond, and while one program computes one row the rest of the GPU waits. So where a call
has a single row, the product that reads it computes it too: every program of that does the same, and writes the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from xdsl.ir import Operation, SSAValue

from sterna.dialects.layout import round_up
from sterna.dialects.ternary import (
    DequantizeOp,
    ElementwiseOp,
    EmbeddingOp,
    NormQuantizeOp,
    ProjectOp,
    QuantizeOp,
    RmsNormOp,
    YieldOp,
    tensor,
)
from sterna.targets.triton.kernel import (
    Builder,
    Host,
    Shape,
    default_name,
    next_power_of_2,
    number_of_row,
    number_text,
    place,
    product_text,
)
from sterna.targets.triton.source import Param, call

LONGEST_ROW = 1 << 16
"""Elements that the programs of these kernels hold."""

SHORT_ROW = 1 << 13
"""Elements of a row of which a program can hold several."""

I8_ROW = 256

MOST_CHANNELS = 1 << 14
"""Of a product that computes its row itself: beyond, so many programs do that that a launch before it costs less."""


def row_shape(op: Operation) -> tuple[tuple[int | None, ...], int] | None:
    """(leading axes, columns) of the rows that an operation works on; None if it does not work on rows."""
    match op:
        case RmsNormOp() | NormQuantizeOp() | QuantizeOp():
            shape = Shape.of(op.x)
        case DequantizeOp():
            shape = Shape.of(op.acc)
        case EmbeddingOp():
            shape = Shape.of(op.result)
        case ElementwiseOp() if op.axes is None:
            shape = Shape.of(op.outs[0])
            if not shape.sizes:
                return None
        case _:
            return None
    if shape.columns is None or shape.columns > LONGEST_ROW:
        return None
    return shape.leading, shape.columns


@dataclass
class RowGroup:
    """Operations on the same rows, one after the other, that become one kernel."""

    host: Host
    leading: tuple[int | None, ...]
    columns: int
    ops: list[Operation] = field(default_factory=list[Operation])

    def accepts(self, op: Operation) -> bool:
        return row_shape(op) == (self.leading, self.columns)

    def is_computed_by(self, op: Operation) -> bool:
        """Whether a product reads what these make, and may compute it itself where that is one row."""
        return (
            isinstance(op, ProjectOp)
            and self.leading == (None,)
            and self.columns <= SHORT_ROW
            and tensor(op.weights[0]).get_shape()[0] <= MOST_CHANNELS
            and all(q.owner in self.ops for q in op.q)
            # A table may lie in the host's memory, and be read once at most.
            and not any(isinstance(each, EmbeddingOp) for each in self.ops)
        )

    def emit(self, reader: Operation) -> RowFunction | None:
        """Given the operation after them: the function of a row, if that operation may call it."""
        return RowKernel(self).emit(shared=self.is_computed_by(reader))


@dataclass(frozen=True)
class RowFunction:
    """A function of the file that computes row t: its name, and what it takes after t."""

    name: str
    pointers: Mapping[SSAValue, str]


class RowKernel:
    """Prints the kernel of a group."""

    def __init__(self, group: RowGroup) -> None:
        self.host, self.columns = group.host, group.columns
        self.leading, self.ops = group.leading, group.ops
        self.inside_ops = set(group.ops)
        quantizes = any(isinstance(op, NormQuantizeOp | QuantizeOp) for op in group.ops)
        self.block = next_power_of_2(max(self.columns, I8_ROW if quantizes else 16))
        self.masked = self.block != self.columns
        self.builder = Builder(
            "_to_".join(dict.fromkeys(map(default_name, group.ops[:: len(group.ops) - 1 or 1]))), group.host
        )
        self.tiles: dict[SSAValue, str] = {}
        self.stored: set[SSAValue] = set()
        self.rows: dict[SSAValue, str] = {}

    def emit(self, *, shared: bool) -> RowFunction | None:
        """The launch. With `shared` only for several rows, and the function that computes one."""
        b, t = self.builder, "tl.program_id(0).to(tl.int64)"
        self.write()
        found = None
        if shared:
            row = b.function(Param("t", "i64"))
            found = RowFunction(self.host.file.add(replace(row, stem=f"{row.stem}_row")), b.pointers)
            b.lines = call(found.name, [t, *(param.name for param in b.params)])
            self.host.lines.append("if not batch.alone:")
        else:
            b.lines.insert(0, f"t = {t}")
        kernel = b.kernel(num_warps=max(1, min(8, self.block // 512)))
        rows = product_text(self.leading, "batch.rows")
        self.host.launch(kernel, f"({rows},)", b.all_arguments(), depth=int(shared))
        return found

    def write(self) -> None:
        """The statements that compute row t."""
        b = self.builder
        b.lines.append(f"k = tl.arange(0, {self.block})")
        b.names.taken |= {"t", "k", "inside"}
        if self.masked:
            b.lines.append(f"inside = k < {self.columns}")
        for op in self.ops:
            self.load_inputs(op)
        for op in self.ops:
            self.emit_op(op)
        b.doc += dict.fromkeys(map(place, self.ops))

    def load_inputs(self, op: Operation) -> None:
        """All that comes from memory is asked for first: a load behind a store or a sum would wait for it."""
        match op:
            case RmsNormOp():
                inputs = [(op.x, "x"), (op.weight, "weight")]
            case NormQuantizeOp():
                inputs = [(op.x, "x"), *((gain, "gain") for gain in op.gains)]
            case ElementwiseOp():
                inputs = [(value, "x") for value in op.inputs]
            case _:
                inputs = []
        for value, name in inputs if self.block <= SHORT_ROW else []:
            if value.owner not in self.inside_ops:
                self.tile(value, op, name)

    def emit_op(self, op: Operation) -> None:
        self.builder.lines.append(f"# {op.name}")
        match op:
            case EmbeddingOp():
                self.emit_embedding(op)
            case RmsNormOp():
                self.emit_rms_norm(op)
            case ElementwiseOp():
                self.emit_elementwise(op)
            case DequantizeOp():
                self.emit_dequantize(op)
            case QuantizeOp():
                self.emit_quantize(op)
            case NormQuantizeOp():
                self.emit_norm_quantize(op)
            case _:
                raise AssertionError(op.name)

    # Values.

    def at(self, value: SSAValue, pointer: str) -> str:
        """Where this program's row of a tensor begins."""
        if value not in self.rows:
            row = Shape.of(value).row
            self.rows[value] = f"{pointer} + t * {row}" if self.leading else pointer
        return self.rows[value]

    def masks(self) -> str:
        return ", mask=inside, other=0" if self.masked else ""

    def tile(self, value: SSAValue, op: Operation, name: str = "x") -> str:
        """The row of a value: an input that is `[T, M]`, `[M]` or a scalar."""
        if value in self.tiles:
            return self.tiles[value]
        shape = Shape.of(value)
        pointer = self.builder.pointer(value, name, op)
        if not shape.sizes:
            text = f"tl.load({pointer})"
        elif len(shape.sizes) == 1 and self.leading:
            text = f"tl.load({pointer} + k{self.masks()})"
        else:
            text = f"tl.load({self.at(value, pointer)} + k{self.masks()})"
        if self.builder.params[-1].type == "*u8":
            text += " != 0"
        self.tiles[value] = self.builder.assign(f"{pointer}_row", text)
        return self.tiles[value]

    def is_needed_outside(self, value: SSAValue) -> bool:
        return any(use.operation not in self.inside_ops for use in value.uses)

    def is_used_inside(self, value: SSAValue) -> bool:
        return any(use.operation in self.inside_ops for use in value.uses)

    def store(self, value: SSAValue, tile: str, op: Operation) -> None:
        """Writes a row to memory, once."""
        if value in self.stored:
            return
        self.stored.add(value)
        if value not in self.host.values:
            self.host.allocate(value)
        pointer = self.builder.pointer(value, default_name(op), op)
        mask = ", mask=inside" if self.masked else ""
        self.builder.lines.append(f"tl.store({self.at(value, pointer)} + k, {tile}{mask})")

    def define(self, value: SSAValue, tile: str, op: Operation) -> None:
        self.tiles[value] = tile
        if self.is_needed_outside(value):
            self.store(value, tile, op)

    def in_memory(self, value: SSAValue, op: Operation) -> str:
        """The row's address, after whatever was computed here has been stored."""
        owner = value.owner
        if isinstance(owner, Operation) and owner in self.inside_ops:
            self.store(value, self.tiles[value], owner)
            self.builder.lines.append("tl.debug_barrier()")
        pointer = self.builder.pointer(value, "x", op)
        return self.at(value, pointer)

    # Operations.

    def emit_embedding(self, op: EmbeddingOp) -> None:
        b = self.builder
        tokens, table = b.pointer(op.tokens, "tokens", op), b.pointer(op.table, "table", op)
        row = Shape.of(op.table).row
        at = number_of_row(op.tokens, tokens, b) if self.leading else tokens
        token = b.assign("token", f"tl.load({at}).to(tl.int64)")
        found = f"tl.load({table} + {token} * {row} + k{self.masks()})"
        self.define(op.result, b.assign("looked_up", b.call("as_float", found)), op)

    def emit_rms_norm(self, op: RmsNormOp) -> None:
        b = self.builder
        x, weight = self.tile(op.x, op), self.tile(op.weight, op, "weight")
        r = self.reciprocal_rms(op.x, op.eps.value.data, op.lanes.value.data, op)
        self.define(op.result, b.assign("normed", f"({x} * {r}) * {weight}"), op)

    def reciprocal_rms(self, x: SSAValue, eps: float, lanes: int, op: Operation) -> str:
        b = self.builder
        total = b.call("sum_of_squares", self.in_memory(x, op), str(self.columns), str(lanes))
        squares = b.assign("squares", total)
        mean = f"tl.div_rn({squares}, {float(self.columns)})"
        return b.assign("r", b.call("reciprocal_root", f"{mean} + {number_text(eps)}"))

    def emit_elementwise(self, op: ElementwiseOp) -> None:
        arguments = [self.tile(value, op) for value in op.inputs]
        yielded = self.builder.region().run(op.body.block, arguments)
        end = op.body.block.last_op
        assert isinstance(end, YieldOp)
        rows = {inner for inner, x in zip(op.body.block.args, op.inputs, strict=True) if Shape.of(x).sizes}
        for inner_op in op.body.block.ops:
            if rows & set(inner_op.operands):
                rows |= set(inner_op.results)
        for value, text, inner in zip(op.outs, yielded, end.values, strict=True):
            # Numbers, and what was computed from numbers alone, become rows.
            row = (
                text
                if inner in rows
                else self.builder.assign("same", f"tl.broadcast_to({text}, [{self.block}])")
            )
            self.define(value, row, op)

    def emit_dequantize(self, op: DequantizeOp) -> None:
        acc = self.tile(op.acc, op, "acc")
        step, scale = self.row_number(op.step, op), self.tile(op.scale, op, "scale")
        text = f"{acc}.to(tl.float32) * ({step} * {scale})"
        self.define(op.result, self.builder.assign("y", text), op)

    def row_number(self, value: SSAValue, op: Operation) -> str:
        """One number a row, or one for all."""
        if value in self.tiles:
            return self.tiles[value]
        pointer = self.builder.pointer(value, "step", op)
        at = number_of_row(value, pointer, self.builder) if Shape.of(value).sizes else pointer
        return f"tl.load({at})"

    def emit_quantize(self, op: QuantizeOp) -> None:
        b, x = self.builder, self.tile(op.x, op)
        largest = b.call("largest_magnitude", x)
        d = b.assign("d", b.call("at_least", largest, number_text(op.eps.value.data)))
        q = b.call("to_int8", f"{x} * tl.div_rn(127.0, {d})")
        self.write_quantized(q, d, op.q, op.step, op)

    def write_quantized(self, q: str, d: str, out: SSAValue, step: SSAValue, op: Operation) -> None:
        """The row with zeros up to its padded end, and its step."""
        b = self.builder
        self.host.allocate(out, "q")
        self.host.allocate(step, "step")
        row = round_up(self.columns, I8_ROW)
        q_pointer, step_pointer = b.pointer(out, "q", op), b.pointer(step, "step", op)
        mask = f", mask=k < {row}" if row != self.block else ""
        length = f"tl.div_rn({d}, 127.0)"
        # Read back from memory it might not be there yet: another thread writes it.
        if self.is_used_inside(out):
            q = self.tiles[out] = b.assign("q_row", q)
        if self.is_used_inside(step):
            length = self.tiles[step] = b.assign("step_of", length)
        b.lines.append(f"tl.store({self.at(out, q_pointer)} + k, {q}{mask})")
        at = number_of_row(step, step_pointer, b) if self.leading else step_pointer
        b.lines.append(f"tl.store({at}, {length})")

    def emit_norm_quantize(self, op: NormQuantizeOp) -> None:
        b = self.builder
        eps, lanes = op.eps.value.data, op.lanes.value.data
        plain = op.outer is None
        x = self.tile(op.x, op)
        gains = [self.tile(gain, op, "gain") for gain in op.gains]
        r = self.reciprocal_rms(op.x, eps, lanes, op) if plain else self.reciprocal_rms_of_norm(op)
        for gain, q, step in zip(gains, op.q, op.step, strict=True):
            y = b.assign("y", f"{x} * {gain}")
            largest = b.call("largest_magnitude", y)
            d = b.assign("d", b.call("at_least", f"{largest} * {r}", number_text(op.quantize_eps.value.data)))
            rounded = b.call("to_int8", f"{y} * ({r} * tl.div_rn(127.0, {d}))")
            self.write_quantized(rounded, d, q, step, op)

    def reciprocal_rms_of_norm(self, op: NormQuantizeOp) -> str:
        b = self.builder
        assert op.outer is not None and op.outer_eps is not None
        row = self.in_memory(op.x, op)
        inside = op.outer.owner in self.inside_ops
        outer = self.in_memory(op.outer, op) if inside else b.pointer(op.outer, "outer", op)
        squares, scaled = b.names.new("squares"), b.names.new("scaled")
        k, lanes = str(self.columns), str(op.lanes.value.data)
        b.lines.append(f"{squares}, {scaled} = {b.call('sums_of_squares', row, outer, k, lanes)}")
        mean = f"tl.div_rn({squares}, {float(self.columns)})"
        r_outer = b.assign(
            "r_outer", b.call("reciprocal_root", f"{mean} + {number_text(op.outer_eps.value.data)}")
        )
        mean = f"({r_outer} * {r_outer}) * tl.div_rn({scaled}, {float(self.columns)})"
        inner = b.call("reciprocal_root", f"{mean} + {number_text(op.eps.value.data)}")
        return b.assign("r", f"{r_outer} * {inner}")
