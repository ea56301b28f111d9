"""Kernels of products with packed trits: `ternary.project`, whose region is the epilogue, and `ternary.accumulate`.

One kernel has two ways: for few rows, words of packed trits against words of activations; for many, tiles that are
unpacked for the tensor cores. How large its blocks are is tuned on the device (`runtime.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Attribute, Operation, SSAValue

from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import AccumulateOp, ProjectOp, ScanOp, tensor
from sterna.targets.triton.kernel import (
    TAKE_TURN,
    Builder,
    Host,
    Shape,
    encoding,
    number_of_row,
    place,
    product_text,
)
from sterna.targets.triton.rows import RowFunction
from sterna.targets.triton.scan import allocate_states
from sterna.targets.triton.source import Param, call, indented, tuple_text

SWITCHES = {"ALONE": "batch.alone", "STEP": "batch.length == 1"}
"""Constants that only some kernels have. Does a call have a single row, which its products compute themselves? One
token of each text, so that they compute the states that follow?"""

FEW_ROWS = {
    "ROWS": 1,
    "CHANNELS": 8,
    "TILES": 4,
    "SPLIT": 1,
    "MANY": False,
    "ALONE": True,
    "STEP": True,
}
MANY_ROWS = {**FEW_ROWS, "ROWS": 64, "CHANNELS": 128, "TILES": 1, "MANY": True, "ALONE": False, "STEP": False}
"""The constants of a kernel, as an example of each way that it has."""

LAST = (Param("partial", "*i32"), Param("arrived", "*i32"), Param("rows", "i32"), Param("many_as", "i32"))
"""What `Product` gives after the arguments: memory that programs share, rows, and what many rows are tuned by."""

MOST_FEW_ROWS = 4
"""`FEW_ROWS` of `runtime.py`."""

MOST_COLUMNS = 1 << 19
"""Sums of the highest field of a byte, 64 times too large until they are shifted, stay below 2^31."""


def emit_project(op: ProjectOp, host: Host, row: RowFunction | None = None) -> None:
    """With the function that computes a row of the activations, where a call has only one of them."""
    for value in op.outs:
        host.allocate(value)
    scan = scan_after(op, host)
    kernel = Product(op, op.q[0], op.weights[0], host)
    b, reads = kernel.builder, op.reads.get_values()
    before = len(b.lines)
    scales = [b.assign("scale_of", kernel.channel_number(scale)) for scale in op.scales]
    extras = [kernel.element(extra) for extra in op.extras]
    init = kernel.state(scan) if scan is not None else ""
    loads, b.lines[before:] = b.lines[before:], []
    steps = [b.assign("step_of", kernel.row_number(step)) for step in op.steps]
    loads_of_row, b.lines[before:] = b.lines[before:], []
    # Beside few sums there is room for what the region reads, and it comes while they are added.
    b.lines += ["if not MANY:", *indented(loads)]
    if row is not None:
        kernel.compute(row)
    b.lines += ["if not MANY:", *indented(loads_of_row)]
    totals = kernel.products([(op.q[read], weight) for read, weight in zip(reads, op.weights, strict=True)])
    kernel.complete(totals)
    b.lines += ["if MANY:", *indented([*loads, *loads_of_row])]
    sums = [
        b.assign("y", f"{total}.to(tl.float32) * ({steps[read]} * {scale})")
        for read, total, scale in zip(reads, totals, scales, strict=True)
    ]
    yielded = dict(zip(op.outs, b.region().run(op.body.block, [*sums, *extras]), strict=True))
    for value, text in yielded.items():
        kernel.store(value, text)
    if scan is not None:
        kernel.step(scan, yielded[scan.f], yielded[scan.i], init)
    kernel.launch()


def scan_after(op: ProjectOp, host: Host) -> ScanOp | None:
    """The recurrence whose gates and inputs a product makes, if it can compute the step of one token of each text."""
    users = dict.fromkeys(use.operation for value in op.outs for use in value.uses)
    for scan in users:
        if (
            isinstance(scan, ScanOp)
            and {scan.f, scan.i} <= set(op.outs)
            and scan.init in host.values
            and host.file.row_wise
            and Shape.of(scan.states).leading == (None,)
        ):
            allocate_states(scan, host)
            host.stepped.add(scan)
            return scan
    return None


def emit_accumulate(op: AccumulateOp, host: Host) -> None:
    """One group of few enough columns of int8; `gathered.py` has the others."""
    host.allocate(op.acc)
    kernel = Product(op, op.x, op.w, host)
    totals = kernel.products([(op.x, op.w)])
    kernel.complete(totals)
    kernel.store(op.acc, totals[0])
    kernel.launch()


class Product:
    """The kernel of an operation whose results are `[rows, M]`, being written."""

    def __init__(self, op: Operation, q: SSAValue, weight: SSAValue, host: Host) -> None:
        self.op, self.host = op, host
        self.switches: list[str] = []
        self.restored: str | None = None
        """The state that a launch may write over, which tuning has to put back."""
        self.m, self.k = tensor(weight).get_shape()
        self.leading = Shape.of(q).leading
        self.builder = b = Builder(op.name.removeprefix("ternary."), host)
        b.names.taken |= {"m", "t", "inside", "at", *(param.name for param in LAST)}
        if self.k >= MOST_COLUMNS:
            raise CompileError(
                f"{weight.type}: the GPU target adds fewer than {MOST_COLUMNS} columns exactly", op.location
            )
        for name, example in FEW_ROWS.items():
            if name not in SWITCHES:
                b.constant(name, example)
        b.lines += [
            "m = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)",
            "t = tl.program_id(1) * ROWS + tl.arange(0, ROWS)",
            f"inside = (t < rows)[:, None] & (m < {self.m})[None, :]",
            TAKE_TURN,
        ]
        b.helpers.add(TAKE_TURN.removesuffix("()"))

    def products(self, factors: Sequence[tuple[SSAValue, SSAValue]]) -> list[str]:
        """sum over k of q[t, k] * weight[m, k], of each pair (q, weight). Those of the same q are one call."""
        totals: dict[int, str] = {}
        readers: dict[tuple[SSAValue, Attribute], list[int]] = {}
        for n, (q, weight) in enumerate(factors):
            readers.setdefault((q, weight.type), []).append(n)
        for (q, _), numbers in readers.items():
            names = self.products_of(q, [factors[n][1] for n in numbers])
            totals |= zip(numbers, names, strict=True)
        return [totals[n] for n in range(len(factors))]

    def products_of(self, q: SSAValue, weights: Sequence[SSAValue]) -> list[str]:
        b, k = self.builder, tensor(weights[0]).get_shape()[1]
        packed = encoding(weights[0], self.op)
        row_bytes = packed.packed_bytes(packed.tile_rows, k) // packed.tile_rows
        pointers = [b.pointer(weight, "w", self.op) for weight in weights]
        for w in pointers:
            fetched = b.call("fetch", w, str(self.m), str(row_bytes), "CHANNELS", "SPLIT", "MANY")
            b.lines.insert(b.lines.index(TAKE_TURN), fetched)
        names = [b.names.new("total") for _ in weights]
        target = ", ".join(names) if len(names) > 1 else tuple_text(names)
        given = [
            tuple_text(pointers),
            b.pointer(q, "q", self.op),
            *("m", "t", "rows", str(self.m), str(k), str(packed.tile_rows)),
        ]
        for condition, way, more in (("if MANY:", "matrix", []), ("else:", "vector", ["TILES", "SPLIT"])):
            function = f"{packed.format.data}_{way}_products"
            b.helpers.add(function)
            text = call(function, [*given, *more], depth=2, before=f"{target} = ")
            b.lines += [condition, *indented(text)]
        return names

    def complete(self, totals: Sequence[str]) -> None:
        """Where programs share the columns, the last to arrive goes on, with the sums of all of them."""
        b, size = self.builder, MOST_FEW_ROWS * self.m
        self.sums = len(totals)
        places = [f"partial + {n * size} + at" if n else "partial + at" for n in range(len(totals))]
        b.lines += [
            "if SPLIT > 1:",
            f"    at = t[:, None] * {self.m} + m[None, :]",
            *(
                f'    tl.atomic_add({where}, {total}, mask=inside, sem="relaxed")'
                for where, total in zip(places, totals, strict=True)
            ),
            f"    inside = (inside & {b.call('is_last_of', 'arrived', 'SPLIT')}) != 0",
            *(
                f"    {total} = {b.call('take', where, total, 'inside')}"
                for where, total in zip(places, totals, strict=True)
            ),
        ]

    def switch(self, name: str) -> str:
        self.switches.append(f"{name}={SWITCHES[name]}")
        return self.builder.constant(name, FEW_ROWS[name])

    def compute(self, row: RowFunction) -> None:
        """The only row, in every program: all write the same, and read what they have written themselves."""
        b = self.builder
        given = [b.pointer(value, name, self.op) for value, name in row.pointers.items()]
        b.lines += [
            f"if {self.switch('ALONE')}:",
            *indented([*call(row.name, ["0", *given], depth=2), "tl.debug_barrier()"]),
        ]

    def state(self, scan: ScanOp) -> str:
        """Loads what the step of one token begins with."""
        b = self.builder
        pointer, name = b.pointer(scan.init, "init", self.op), b.names.new("state")
        load = f"{name} = tl.load({self.at(scan.init, pointer)}, mask=inside, other=0)"
        b.lines += [f"if {self.switch('STEP')}:", *indented([load])]
        return name

    def step(self, scan: ScanOp, f: str, i: str, state: str) -> None:
        """The state that follows, in the place of every row's and of the last one's."""
        b = self.builder
        before = len(b.lines)
        b.lines += [f"{state} = {f} * {state}", f"{state} = {state} + {i}"]
        self.restored = self.store(scan.last, state, "last")
        if scan.states.uses:
            self.store(scan.states, state, "states")
        b.lines[before:] = ["if STEP:", *indented(b.lines[before:])]

    def row_number(self, value: SSAValue) -> str:
        pointer = self.builder.pointer(value, "step", self.op)
        if not Shape.of(value).sizes:
            return f"tl.load({pointer})"
        return f"tl.load({number_of_row(value, pointer, self.builder)}, mask=t < rows, other=0)[:, None]"

    def channel_number(self, value: SSAValue) -> str:
        pointer = self.builder.pointer(value, "scale", self.op)
        if not Shape.of(value).sizes:
            return f"tl.load({pointer})"
        return f"tl.load({pointer} + m, mask=m < {self.m}, other=0)[None, :]"

    def element(self, value: SSAValue) -> str:
        """An extra input at [t, m]."""
        shape = Shape.of(value)
        pointer = self.builder.pointer(value, "extra", self.op)
        if len(shape.sizes) <= 1 and self.leading:
            text = self.channel_number(value)
        else:
            text = f"tl.load({self.at(value, pointer)}, mask=inside, other=0)"
        return self.builder.assign(f"{pointer}_tile", text)

    def at(self, value: SSAValue, pointer: str) -> str:
        return f"{pointer} + t.to(tl.int64)[:, None] * {Shape.of(value).row} + m[None, :]"

    def store(self, value: SSAValue, text: str, name: str = "out") -> str:
        """The parameter where it goes."""
        pointer = self.builder.pointer(value, name, self.op)
        self.builder.lines.append(f"tl.store({self.at(value, pointer)}, {text}, mask=inside)")
        return pointer

    def launch(self) -> None:
        b = self.builder
        b.doc += [place(self.op)]
        b.params += LAST
        restored = f', restored="{self.restored}"' if self.restored else ""
        name = self.host.file.add(b.kernel(tuned=f"tuned_product({self.m}, {self.sums}{restored})"))
        rows = product_text(self.leading, "batch.rows")
        self.host.lines += call(name, [rows, *b.arguments, *self.switches], depth=1 + self.host.depth)
