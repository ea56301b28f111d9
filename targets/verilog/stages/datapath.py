"""Scalar operations as a pipeline: a register behind each, and delays that bring the operands of one together.

Every function below is the Verilog of one operation; its meaning is the interpreter's (`dialects/semantics`).
Latencies are in cycles. What only moves bits (extensions, constants) takes none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from xdsl.dialects import arith, math
from xdsl.dialects.builtin import IntegerAttr, IntegerType
from xdsl.ir import Block, Operation, SSAValue

from sterna.dialects.errors import CompileError
from sterna.dialects.fixed import InterpolateOp, NormalizeOp, RescaleOp, ShiftRightOp, TableOp
from sterna.dialects.fixed_point import width_of as integer_width
from sterna.dialects.regions import YieldOp
from sterna.targets.verilog.stages.module import (
    address_bits,
    identifier,
    image_name,
    literal,
    memory_image,
)

OPERATORS = re.compile(r" [-+?] | >>> \$|[^<]< |> ")
"""In Verilog, what takes about a look-up table a bit; shifts by constants are wires, and products go to multipliers."""


@dataclass(frozen=True)
class Signal:
    """A value in Verilog: a name or an expression, and when it is there."""

    text: str
    width: int
    time: int | None
    """Cycles after the inputs; None for a constant, which is always there."""
    extends: Signal | None = None
    """The narrower signal that this one only extends: what waits is that one, which takes fewer registers."""


@dataclass
class Datapath:
    """The statements of one lane, inside a generate loop."""

    tables: Mapping[str, TableOp]
    declarations: list[str] = field(default_factory=list[str])
    clocked: list[str] = field(default_factory=list[str])
    images: dict[str, str] = field(default_factory=dict[str, str])
    multipliers: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Operand widths of every product of two values that are not constants."""
    ff: int = 0
    lut: int = 0
    """About how many: a bit of an adder, of a choice or of a comparison each."""
    memories: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Words and bits of tables."""
    _values: dict[SSAValue, Signal] = field(default_factory=dict[SSAValue, Signal])
    _delays: dict[str, int] = field(default_factory=dict[str, int])
    _names: set[str] = field(default_factory=set[str])
    _extensions: set[str] = field(default_factory=set[str])

    def bind(self, value: SSAValue, signal: Signal) -> None:
        self._values[value] = signal

    def signal(self, value: SSAValue) -> Signal:
        return self._values[value]

    def name(self, value: SSAValue | str) -> str:
        """A fresh name, like the one in the IR."""
        hint = value if isinstance(value, str) else value.name_hint or "value"
        base = name = identifier(hint)
        number = 1
        while name in self._names:
            number += 1
            name = f"{base}_{number}"
        self._names.add(name)
        return name

    def declare(self, name: str, width: int) -> None:
        kind = "logic" if width == 1 else f"logic signed [{width - 1}:0]"
        self.declarations.append(f"{kind} {name};")

    def wire(self, name: str, width: int, expression: str) -> None:
        self.declare(name, width)
        self.declarations.append(f"assign {name} = {expression};")

    def register(
        self, name: str, width: int, expression: str, comment: str = "", *, lut: int | None = None
    ) -> str:
        """`lut`: about how many look-up tables the expression takes, if its operators do not tell."""
        self.declare(name, width)
        self.clocked.append(f"{name} <= {expression};" + (f"  // {comment}" if comment else ""))
        self.ff += width
        self.lut += width * len(OPERATORS.findall(expression)) if lut is None else lut
        return name

    def at(self, signal: Signal, time: int) -> str:
        """The signal as it is `time` cycles after the inputs."""
        if signal.extends is not None and signal.time is not None:
            return self._extended(signal, signal.extends, time - signal.time)
        if signal.time is None or signal.time == time:
            return signal.text
        assert signal.time < time
        made = self._delays.get(signal.text, 0)
        for waited in range(made + 1, time - signal.time + 1):
            before = signal.text if waited == 1 else f"{signal.text}_d{waited - 1}"
            self.register(f"{signal.text}_d{waited}", signal.width, before)
        self._delays[signal.text] = max(made, time - signal.time)
        return f"{signal.text}_d{time - signal.time}"

    def _extended(self, signal: Signal, source: Signal, wait: int) -> str:
        assert signal.time is not None
        name = f"{signal.text}_d{wait}" if wait else signal.text
        if name not in self._extensions:
            self._extensions.add(name)
            self.wire(
                name, signal.width, extension(self.at(source, signal.time + wait), source.width, signal.width)
            )
        return name

    def together(self, *signals: Signal) -> tuple[int, list[str]]:
        """The first time when all are there, and what they are called then."""
        time = max((signal.time for signal in signals if signal.time is not None), default=0)
        return time, [self.at(signal, time) for signal in signals]

    def run(self, block: Block) -> list[Signal]:
        """Prints the block, whose arguments are bound; the signals that it yields."""
        for op in block.ops:
            if isinstance(op, YieldOp):
                return [self.signal(value) for value in op.values]
            printer = PRINTERS.get(type(op))
            if printer is None:
                raise CompileError(f"{op.name} has no circuit", op.location)
            printer(self, op)
        raise AssertionError("the verifier saw a terminator")

    def constant(self, value: SSAValue) -> int | None:
        """Its number, if it is one."""
        owner = value.owner
        if isinstance(owner, arith.ConstantOp) and isinstance(owner.value, IntegerAttr):
            return cast("IntegerAttr[IntegerType]", owner.value).value.data
        return None


def width_of(value: SSAValue) -> int:
    if (width := integer_width(value.type)) is None:
        raise CompileError(f"hardware has integers, found a scalar of type {value.type}")
    return width


def _said(op: Operation) -> str:
    """The operation, for a comment."""
    types = ", ".join(str(value.type) for value in op.operands)
    return f"{op.name} : {types} -> {op.results[0].type}"


def _constant(path: Datapath, op: Operation) -> None:
    value = path.constant(op.results[0])
    if value is None:
        raise CompileError("a constant of hardware is an integer", op.location)
    width = width_of(op.results[0])
    path.bind(op.results[0], Signal(literal(value, width), width, None))


def _moves(expression: str) -> Callable[[Datapath, Operation], None]:
    """Wires: `{a}` is the operand, `{w}` the width of the result."""

    def printer(path: Datapath, op: Operation) -> None:
        source, width = path.signal(op.operands[0]), width_of(op.results[0])
        if source.time is None:
            path.bind(op.results[0], Signal(f"({expression.format(a=source.text, w=width)})", width, None))
            return
        text = expression.format(a=path.at(source, source.time), w=width)
        name = path.name(op.results[0])
        path.wire(name, width, text)
        path.bind(op.results[0], Signal(name, width, source.time))

    return printer


def extension(text: str, source: int, width: int) -> str:
    """A signed signal of more bits; one bit is 0 or -1."""
    return f"{width}'({text})" if source > 1 else f"{{{width}{{{text}}}}}"


def _extend(path: Datapath, op: Operation) -> None:
    source, width = path.signal(op.operands[0]), width_of(op.results[0])
    if source.time is None:
        text = f"({extension(source.text, source.width, width)})"
        path.bind(op.results[0], Signal(text, width, None))
    else:
        path.bind(op.results[0], Signal(path.name(op.results[0]), width, source.time, extends=source))


def _computes(expression: str, *, latency: int = 1) -> Callable[[Datapath, Operation], None]:
    """One register: `{a}`, `{b}`, `{c}` are the operands, `{w}` the width of the result."""

    def printer(path: Datapath, op: Operation) -> None:
        time, operands = path.together(*(path.signal(value) for value in op.operands))
        width, name = width_of(op.results[0]), path.name(op.results[0])
        named = dict(zip("abc", operands, strict=False))
        path.register(name, width, expression.format(**named, w=width), _said(op))
        path.bind(op.results[0], Signal(name, width, time + latency))

    return printer


def narrow_width(value: SSAValue) -> int:
    """The bits that a value really has: what was extended keeps the width that it had."""
    owner = value.owner
    if isinstance(owner, arith.ExtSIOp):
        return narrow_width(owner.input)
    if isinstance(owner, arith.ExtUIOp):
        return min(narrow_width(owner.input) + 1, width_of(value))
    return width_of(value)


def _multiply(path: Datapath, op: Operation) -> None:
    time, (a, b) = path.together(*(path.signal(value) for value in op.operands))
    width, name = width_of(op.results[0]), path.name(op.results[0])
    if not any(path.constant(value) is not None for value in op.operands):
        path.multipliers.append((narrow_width(op.operands[0]), narrow_width(op.operands[1])))
    path.register(f"{name}_product", width, f"{a} * {b}")
    path.register(name, width, f"{name}_product", _said(op))
    path.ff -= 2 * _unread_bits(op.results[0])
    path.bind(op.results[0], Signal(name, width, time + 2))


def _unread_bits(value: SSAValue) -> int:
    """The lowest bits that no reader sees: rounding by 2^n looks at the n-th from below and at those above it."""
    reads = [use.operation for use in value.uses]
    if not all(isinstance(op, RescaleOp) and op.by.value.data > 0 for op in reads):
        return 0
    return min((op.by.value.data - 1 for op in reads if isinstance(op, RescaleOp)), default=0)


def saturated(text: str, source: int, width: int) -> str:
    """A signal of `source` bits, saturated to `width`."""
    if source <= width:
        return f"{width}'({text})"
    low, high = literal(-(1 << width - 1), source), literal((1 << width - 1) - 1, source)
    return (
        f"{text} > {high} ? {literal((1 << width - 1) - 1, width)} : "
        f"{text} < {low} ? {literal(-(1 << width - 1), width)} : {width}'({text})"
    )


def _rescale(path: Datapath, op: Operation) -> None:
    assert isinstance(op, RescaleOp)
    by, width = op.by.value.data, width_of(op.result)
    time, (x,) = path.together(path.signal(op.x))
    source, name = width_of(op.x), path.name(op.result)
    if by > 0:
        wide = max(source, by) + 1
        kept = max(wide - by, 2)
        half = literal(1 << (by - 1), wide)
        x = path.register(f"{name}_rounded", kept, f"{kept}'(({wide}'({x}) + {half}) >>> {by})")
        source, time = kept, time + 1
    elif by < 0:
        source -= by
        path.wire(f"{name}_shifted", source, f"{source}'({x}) <<< {-by}")
        x = f"{name}_shifted"
    bound = source if source > width else 0  # a choice a bit, and whether the bits above are its sign
    path.register(name, width, saturated(x, source, width), f"{_said(op)}, by {by}", lut=bound)
    path.bind(op.result, Signal(name, width, time + 1))


def _shift_right(path: Datapath, op: Operation) -> None:
    """floor(2 x / 2^n), and one more bit with rounding: (that + 1) >> 1."""
    assert isinstance(op, ShiftRightOp)
    time, (x, by) = path.together(path.signal(op.x), path.signal(op.by))
    width, source, name = width_of(op.result), width_of(op.x), path.name(op.result)
    path.wire(f"{name}_doubled", source + 1, f"{{{x}, 1'b0}}")
    path.register(f"{name}_shifted", source + 1, f"{name}_doubled >>> $unsigned({by})")
    path.register(f"{name}_rounded", source + 1, f"({name}_shifted + {literal(1, source + 1)}) >>> 1")
    path.register(name, width, saturated(f"{name}_rounded", source + 1, width), _said(op), lut=source + 1)
    path.bind(op.result, Signal(name, width, time + 3))


def _normalize(path: Datapath, op: Operation) -> None:
    """Shifts out zeros, a power of two at a time, from the largest down to the step."""
    assert isinstance(op, NormalizeOp)
    time, (x,) = path.together(path.signal(op.x))
    source, capacity, step = width_of(op.x), width_of(op.x) - 1, op.step.value.data
    name, zeros_width = path.name(op.mantissa), width_of(op.zeros)
    value = path.register(
        f"{name}_positive", capacity, f"{x} > {literal(0, source)} ? {capacity}'({x}) : {capacity}'d1"
    )
    zeros, counts = f"{zeros_width}'d0", bool(list(op.zeros.uses))
    time += 1
    shift = 1 << (capacity - 1).bit_length() >> 1
    while shift >= step:
        empty = path.name(f"{name}_empty_{shift}")
        path.wire(empty, 1, f"{value}[{capacity - 1}:{capacity - shift}] == '0")
        if counts:
            counted = path.name(f"{name}_zeros_{shift}")
            zeros = path.register(
                counted, zeros_width, f"{empty} ? {zeros} + {zeros_width}'d{shift} : {zeros}"
            )
        moved = path.name(f"{name}_shifted_{shift}")
        path.register(moved, capacity, f"{empty} ? {value} << {shift} : {value}")
        value, time = moved, time + 1
        shift >>= 1
    mantissa = width_of(op.mantissa)
    if mantissa <= capacity:
        path.wire(name, mantissa, f"{mantissa}'({value} >>> {capacity - mantissa})")
    else:
        path.wire(name, mantissa, f"{{{value}, {mantissa - capacity}'d0}}")
    path.bind(op.mantissa, Signal(name, mantissa, time))
    path.bind(op.zeros, Signal(zeros, zeros_width, time))


def _interpolate(path: Datapath, op: Operation) -> None:
    """One memory holds a sample and the distance to the next; y = (sample * 2^L + 2^(L-1) + distance * l) >> L."""
    assert isinstance(op, InterpolateOp)
    table = path.tables[op.table.string_value()]
    time, (x,) = path.together(path.signal(op.x))
    name, width, delta = path.name(op.result), table.result_width, table.delta_width
    low = table.input_width - table.index_bits
    image = image_name(identifier(table.sym_name.data))
    masked = table.values[:-1] & ((1 << width) - 1)
    words = masked | ((table.values[1:] - table.values[:-1]) << width)
    path.images[image] = memory_image(words.reshape(-1, 1), width + delta)
    path.memories.append((len(words), width + delta))
    top = f"{x}[{table.input_width - 1}:{low}]"
    if table.is_signed is not None:
        inverted = f"~{x}[{table.input_width - 1}]"
        top = f"{{{inverted}, {x}[{table.input_width - 2}:{low}]}}" if table.index_bits > 1 else inverted
    path.declarations += [
        f"logic [{address_bits(len(words)) - 1}:0] {name}_index;",
        f"assign {name}_index = {top};",
        f"logic [{width + delta - 1}:0] {name}_word;",
        f'constant_rows #(.WORDS({len(words)}), .WIDTH({width + delta}), .IMAGE("{image}")) {name}_table (',
        f"    .clock, .advance, .address({name}_index), .data({name}_word));",
    ]
    path.wire(f"{name}_sample", width, f"{name}_word[{width - 1}:0]")
    sample = Signal(f"{name}_sample", width, time + 1)
    if low == 0:
        path.wire(f"{name}_unused", 1, f"&{{1'b0, {name}_word[{width + delta - 1}:{width}]}}")
        path.bind(op.result, sample)
        return
    path.wire(f"{name}_distance", delta, f"{name}_word[{width + delta - 1}:{width}]")
    path.wire(f"{name}_low", low, f"{x}[{low - 1}:0]")
    rest = path.at(Signal(f"{name}_low", low, time), time + 1)
    product = delta + low + 1
    path.multipliers.append((delta, low + 1))
    path.register(
        f"{name}_product", product, f"{product}'({name}_distance) * {product}'($signed({{1'b0, {rest}}}))"
    )
    path.register(f"{name}_moved", product, f"{name}_product")
    path.ff -= 2 * (low - 1)  # below the half that rounds, no bit is read
    half = f"{low}'d{1 << (low - 1)}"
    total = max(width + low, product) + 1
    path.wire(f"{name}_base", width + low, f"{{{path.at(sample, time + 3)}, {half}}}")
    path.register(
        name, width, f"{width}'(({total}'({name}_base) + {total}'({name}_moved)) >>> {low})", _said(op)
    )
    path.bind(op.result, Signal(name, width, time + 4))


def _compare(path: Datapath, op: Operation) -> None:
    assert isinstance(op, arith.CmpiOp)
    signs = ("==", "!=", "<", "<=", ">", ">=", "<", "<=", ">", ">=")
    predicate = op.predicate.value.data
    cast_to = "$unsigned({x})" if predicate >= 6 else "{x}"
    a, b = cast_to.format(x="{a}"), cast_to.format(x="{b}")
    _computes(f"{a} {signs[predicate]} {b}")(path, op)


def _shift_logical(path: Datapath, op: Operation) -> None:
    amount = path.constant(op.operands[1])
    if amount is None:
        raise CompileError("arith.shrui by a number that is no constant has no circuit", op.location)
    _moves(f"$signed({{w}}'($unsigned({{a}}) >> {amount}))")(path, op)


PRINTERS: dict[type[Operation], Callable[[Datapath, Any], None]] = {
    arith.ConstantOp: _constant,
    arith.ExtSIOp: _extend,
    arith.ExtUIOp: _moves("$signed({w}'($unsigned({a})))"),
    arith.TruncIOp: _moves("{w}'({a})"),
    arith.AddiOp: _computes("{a} + {b}"),
    arith.SubiOp: _computes("{a} - {b}"),
    arith.MuliOp: _multiply,
    arith.MaxSIOp: _computes("{a} > {b} ? {a} : {b}"),
    arith.MinSIOp: _computes("{a} < {b} ? {a} : {b}"),
    arith.ShRUIOp: _shift_logical,
    arith.CmpiOp: _compare,
    arith.SelectOp: _computes("{a} ? {b} : {c}"),
    math.AbsIOp: _computes("{a} < 0 ? -{a} : {a}"),
    RescaleOp: _rescale,
    ShiftRightOp: _shift_right,
    NormalizeOp: _normalize,
    InterpolateOp: _interpolate,
}
