"""Gives every value its place in memory: one arena for activations, one run of bytes for the packed weights.

    func.func @forward(%x: tensor<?x256xf32>) -> tensor<?x256xf32> {
      %w = ternary.load @w : tensor<256xf32>
      %a = ternary.rms_norm %x, %w ...
      %y = ternary.rms_norm %a, %w ...
      func.return %y : tensor<?x256xf32>
    }

becomes, for `plan-memory{max-rows=64}`, with `ternary.max_rows` and `ternary.weights_bytes` on the module,

    ternary.weight @w {offset = 0 : i64} : tensor<256xf32>
    func.func @forward(...) -> ... attributes {ternary.arena_bytes = 65536 : i64} {
      %w = ternary.load @w : tensor<256xf32>
      %a = ternary.rms_norm %x, %w ... {arena = array<i64: 0>}
      %y = ternary.rms_norm %a, %w ... {arena = array<i64: -1>}
      func.return ...

Sizes follow `dialects/layout.py`, dynamic axes being `max_rows` long. `arena` holds a byte offset a result, or
-(r + 1) for a value that the function returns as its result r: that one is written straight to the caller's
buffer. So that this can be, a returned argument or weight, and a value returned twice, is copied first
(`ternary.elementwise`, the identity). A call hands its callee the part of the arena from `callee_arena` on.
Tables of numbers become weights. A result of `scf.for`, what the loop is given for it and what it yields for it
have one offset, and so has what both branches of an `scf.if` yield (see `control_buffers.py`). A `tensor.empty`
that only says what type a result has takes no memory.

Why it is right: two values share bytes only if the last reader of one comes before the definition of the other.
A result is alive together with all operands of its operation, so nothing is ever computed in place. Larger
values are placed first, each at the lowest offset where it meets nothing that lives when it does. What a loop
reads from outside lives to its end. Weights lie in the order in which a run meets them first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.arith import ConstantOp
from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, ModuleOp, TensorType, i64
from xdsl.dialects.func import CallOp, FuncOp, ReturnOp
from xdsl.dialects.scf import ForOp, IfOp, YieldOp
from xdsl.dialects.tensor import EmptyOp
from xdsl.ir import Block, BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from sterna.dialects.errors import CompileError, describe_location
from sterna.dialects.layout import buffer_bytes
from sterna.dialects.ternary import AbsmeanOp, LoadOp, TernarizeOp, WeightOp, tensor
from sterna.passes.control_buffers import control_blocks, copy_before, settle_control
from sterna.passes.derived_weights import DerivedWeights, weight_name
from sterna.passes.dynamic_sizes import check_dynamic_sizes
from sterna.passes.operands import tensors_read

NO_KERNEL = (AbsmeanOp, TernarizeOp)
"""Operations that only weights are computed by."""


@dataclass(frozen=True)
class Buffer:
    """Bytes that are taken from operation number `first` of a function to number `last`, both included."""

    size: int
    first: int
    last: int

    def lives_with(self, other: Buffer) -> bool:
        return self.first <= other.last and other.first <= self.last


def place_buffers(buffers: Sequence[Buffer]) -> list[int]:
    """An offset for each, so that no two that live together overlap; offsets are sums of sizes."""
    offsets = [0] * len(buffers)
    placed: list[int] = []
    for n in sorted(range(len(buffers)), key=lambda n: (-buffers[n].size, buffers[n].first)):
        offset = 0
        for other in sorted(placed, key=lambda other: offsets[other]):
            if not buffers[n].lives_with(buffers[other]):
                continue
            if offset + buffers[n].size <= offsets[other]:
                break
            offset = max(offset, offsets[other] + buffers[other].size)
        offsets[n] = offset
        placed.append(n)
    return offsets


def check_blocks(functions: Sequence[FuncOp]) -> None:
    """CompileError for a function, or a region of one, of several blocks; for a loop that is not counted."""
    for func in functions:
        if not func.body.blocks:
            raise CompileError(f"@{func.sym_name.data} has no body", func.location)
        if len(func.body.blocks) != 1 or not isinstance(func.body.block.last_op, ReturnOp):
            raise CompileError(f"@{func.sym_name.data} has branches: expected one block", func.location)
        for op in func.walk():
            if any(len(region.blocks) > 1 for region in op.regions):
                raise CompileError(f"{op.name} has branches: expected one block", op.location)
            if op.name.startswith("scf.") and not isinstance(op, ForOp | IfOp | YieldOp):
                raise CompileError(f"{op.name} is not supported: expected scf.for or scf.if", op.location)


def check_planned_form(functions: Sequence[FuncOp]) -> None:
    """CompileError if no plan of a function can be made; for all operations at once that only packed weights take."""
    check_blocks(functions)
    check_dynamic_sizes(functions)
    for func in functions:
        is_entry = func.sym_visibility is None or func.sym_visibility.data != "private"
        scalars = [arg.type for arg in func.body.block.args if not isinstance(arg.type, TensorType)]
        if is_entry and scalars:
            raise CompileError(
                f"@{func.sym_name.data} takes a scalar of type {scalars[0]}; expected tensors", func.location
            )
    left = [
        f"{describe_location(op.location)} {op.name}".strip()
        for func in functions
        for op in func.walk()
        if isinstance(op, NO_KERNEL)
    ]
    if left:
        shown = "; ".join(dict.fromkeys(left))
        raise CompileError(
            f"{len(left)} operations are for weights alone, and no kernel computes them: {shown}"
        )


def store_tables(module: ModuleOp, functions: Sequence[FuncOp]) -> None:
    """Dense constants become derived weights."""
    weights = DerivedWeights(module)
    for func in functions:
        for op in list(func.walk()):
            if isinstance(op, ConstantOp) and isinstance(op.result.type, TensorType):
                load = weights.load(weights.derive("constant", (), lambda _, op=op: op.clone()))
                load.location = op.location
                Rewriter.replace_op(op, load)


def copy_returned(func: FuncOp) -> None:
    """Afterwards each returned value is the result of a kernel, and is returned once."""
    end = func.body.block.last_op
    assert isinstance(end, ReturnOp)
    returned: set[SSAValue] = set()
    for number, value in enumerate(end.operands):
        if not isinstance(value.type, TensorType):
            raise CompileError(f"a scalar of type {value.type} is returned; expected tensors", end.location)
        if isinstance(value, BlockArgument) or isinstance(value.owner, LoadOp) or value in returned:
            end.operands[number] = value = copy_before(end, value)
        returned.add(value)


def needs_memory(value: SSAValue) -> bool:
    """Whether a result is a tensor that a kernel writes: an empty one that nobody reads is not."""
    if not isinstance(value.type, TensorType) or isinstance(value.owner, LoadOp):
        return False
    return not isinstance(value.owner, EmptyOp) or any(
        value in tensors_read(use.operation) for use in value.uses
    )


class Lifetimes:
    """From which operation of a function to which its values live, loops' bodies counted in line."""

    def __init__(self, func: FuncOp) -> None:
        self.ops: list[Operation] = []
        self.first: dict[Operation, int] = {}
        self.last: dict[Operation, int] = {}
        self._count(func.body.block)
        self.block = func.body.block
        self.homes: dict[SSAValue, SSAValue] = {}
        """The result of the loop for which a value is kept where the loop keeps it."""
        for op in self.ops:
            if isinstance(op, ForOp | IfOp):
                self._join(op)

    def _count(self, block: Block) -> None:
        for op in block.ops:
            self.ops.append(op)
            self.first[op] = len(self.first)
            for inner in control_blocks(op):
                self._count(inner)
            self.last[op] = len(self.first)

    def _join(self, op: ForOp | IfOp) -> None:
        """What a loop is given, carries and yields, and what both branches yield, is kept where the result is."""
        groups = [tuple(block.last_op.operands) for block in control_blocks(op) if block.last_op is not None]
        if isinstance(op, ForOp):
            groups += [tuple(op.iter_args), op.body.block.args[1:]]
        for values in groups:
            for value, result in zip(values, op.results, strict=True):
                if isinstance(result.type, TensorType) and value is not result:
                    self.homes[value] = result

    def home(self, value: SSAValue) -> SSAValue:
        while value in self.homes:
            value = self.homes[value]
        return value

    def of(self, value: SSAValue) -> tuple[int, int]:
        """The first and the last operation that need the value's bytes."""
        op = value.owner
        assert isinstance(op, Operation)
        block = op.parent
        start = end = self.first[op]
        for use in value.uses:
            user: Operation = use.operation
            # What a loop reads from outside is read in every turn.
            while user.parent is not block:
                outer = user.parent_op()
                assert outer is not None
                user = outer
            end = max(end, self.last[user] if isinstance(user, ForOp | IfOp) else self.first[user])
        return start, end


@dataclass(frozen=True)
class PlanMemoryPass(ModulePass):
    name = "plan-memory"

    max_rows: int = 64

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.max_rows < 1:
            raise CompileError(f"max-rows is the rows of one step, at least 1, found {self.max_rows}")
        functions = {
            func.sym_name.data: func for func in op.ops if isinstance(func, FuncOp) and func.body.blocks
        }
        check_planned_form(list(functions.values()))
        store_tables(op, list(functions.values()))
        for func in functions.values():
            copy_returned(func)
            settle_control(func.body.block)
        arenas: dict[str, int] = {}
        for name in callees_first(functions):
            arenas[name] = self.plan(functions[name], arenas)
        op.attributes["ternary.max_rows"] = IntegerAttr(self.max_rows, i64)
        op.attributes["ternary.weights_bytes"] = IntegerAttr(self.place_weights(op, functions), i64)

    def plan(self, func: FuncOp, arenas: Mapping[str, int]) -> int:
        """Writes the offsets of a function; returns the bytes of its arena, those of its callees included."""
        lives = Lifetimes(func)
        end = func.body.block.last_op
        assert end is not None
        returned = {lives.home(value): r for r, value in enumerate(end.operands)}
        spans: dict[SSAValue | CallOp, tuple[int, int]] = {}
        sizes: dict[SSAValue | CallOp, int] = {}
        for op in lives.ops:
            if isinstance(op, CallOp):
                spans[op] = (lives.first[op], lives.first[op])
                sizes[op] = arenas[op.callee.string_value()]
            for value in filter(needs_memory, op.results):
                home = lives.home(value)
                if home not in returned:
                    first, last = lives.of(value)
                    known = spans.get(home, (first, last))
                    spans[home] = (min(first, known[0]), max(last, known[1]))
                    sizes[home] = buffer_bytes(tensor(home), self.max_rows)
        buffers = [Buffer(sizes[owner], *span) for owner, span in spans.items()]
        offsets = dict(zip(spans, place_buffers(buffers), strict=True))
        for op in lives.ops:
            if isinstance(op, CallOp):
                op.attributes["callee_arena"] = IntegerAttr(offsets[op], i64)
            homes = [lives.home(value) for value in op.results if needs_memory(value)]
            if homes:
                places = [-(returned[home] + 1) if home in returned else offsets[home] for home in homes]
                op.attributes["arena"] = DenseArrayBase.from_list(i64, places)
        total = max((offsets[owner] + size for owner, size in sizes.items()), default=0)
        func.attributes["ternary.arena_bytes"] = IntegerAttr(total, i64)
        return total

    def place_weights(self, module: ModuleOp, functions: Mapping[str, FuncOp]) -> int:
        """Writes the offsets of the weights that the functions load; returns the bytes of all."""
        weights = {op.sym_name.data: op for op in module.ops if isinstance(op, WeightOp)}
        called = {op.callee.string_value() for func in functions.values() for op in calls(func)}
        entries = [func for name, func in functions.items() if name not in called]
        end = 0
        for name in dict.fromkeys(name for func in entries for name in weights_met(func, (), functions)):
            if (weight := weights.get(name)) is None:
                raise CompileError(f"there is no weight @{name} in the module")
            weight.attributes["offset"] = IntegerAttr(end, i64)
            end += buffer_bytes(weight.type, self.max_rows)
        return end


def calls(func: FuncOp) -> Iterator[CallOp]:
    return (op for op in func.walk() if isinstance(op, CallOp))


def callees_first(functions: Mapping[str, FuncOp]) -> list[str]:
    """The names of all functions, each after those that it calls."""
    done: dict[str, None] = {}

    def visit(name: str, callers: tuple[str, ...]) -> None:
        if name in callers:
            raise CompileError(f"@{name} calls itself: its memory cannot be planned")
        if name not in functions:
            raise CompileError(f"@{callers[-1]} calls @{name}, which has no body")
        if name not in done:
            for call in calls(functions[name]):
                visit(call.callee.string_value(), (*callers, name))
            done[name] = None

    for name in functions:
        visit(name, ())
    return list(done)


def weights_met(
    func: FuncOp, arguments: Sequence[str | None], functions: Mapping[str, FuncOp]
) -> Iterator[str]:
    """The weights that a run of the function reads, in that order; `arguments` names those that it was given."""
    given = dict(zip(func.body.block.args, arguments, strict=False))

    def name_of(value: SSAValue) -> str | None:
        return given.get(value) if isinstance(value, BlockArgument) else weight_name(value)

    for op in func.walk():
        names: list[str | None] = [name_of(value) for value in op.operands]
        if isinstance(op, CallOp):
            yield from weights_met(functions[op.callee.string_value()], names, functions)
        else:
            yield from (name for name in names if name is not None)
