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

Why it is right: two values share bytes only if the last reader of one comes before the definition of the other.
A result is alive together with all operands of its operation, so nothing is ever computed in place. Larger
values are placed first, each at the lowest offset where it meets nothing that lives when it does. Weights lie
in the order in which a run meets them first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, ModuleOp, TensorType, f32, i64
from xdsl.dialects.func import CallOp, FuncOp, ReturnOp
from xdsl.ir import Block, BlockArgument, SSAValue
from xdsl.passes import ModulePass

from sterna.dialects.errors import CompileError, describe_location
from sterna.dialects.layout import buffer_bytes
from sterna.dialects.ternary import (
    ElementwiseOp,
    EmbeddingOp,
    LoadOp,
    NormQuantizeOp,
    ProjectOp,
    QuantizeOp,
    RmsNormOp,
    ScanOp,
    WeightOp,
    YieldOp,
    scalar_region,
    tensor,
)
from sterna.passes.derived_weights import weight_name

KERNELS = (EmbeddingOp, RmsNormOp, QuantizeOp, NormQuantizeOp, ProjectOp, ElementwiseOp, ScanOp, CallOp)
"""Operations that a planned function consists of, beside loads and the return."""


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


def check_planned_form(functions: Sequence[FuncOp]) -> None:
    """CompileError, for all operations at once, if fusion left some that no kernel computes."""
    left = [
        f"{describe_location(op.location)} {op.name}".strip()
        for func in functions
        for op in func.body.block.ops
        if not isinstance(op, (*KERNELS, LoadOp, ReturnOp))
    ]
    if left:
        shown = "; ".join(dict.fromkeys(left))
        raise CompileError(f"{len(left)} operations are not part of any fused kernel: {shown}")


def copy_returned(func: FuncOp) -> None:
    """Afterwards each returned value is the result of a kernel, and is returned once."""
    block = func.body.block
    end = block.last_op
    assert isinstance(end, ReturnOp)
    returned: set[SSAValue] = set()
    for number, value in enumerate(end.operands):
        if isinstance(value, BlockArgument) or isinstance(value.owner, LoadOp) or value in returned:
            end.operands[number] = value = copy_before(end, value)
        returned.add(value)


def copy_before(end: ReturnOp, value: SSAValue) -> SSAValue:
    if not isinstance(value.type, TensorType) or tensor(value).element_type != f32:
        raise CompileError(
            f"an input of type {tensor(value)} is returned; only f32 can be copied", end.location
        )
    body = scalar_region(1)
    body.block.add_op(YieldOp(*body.block.args))
    copy = ElementwiseOp([value], body, [tensor(value)])
    copy.location = end.location
    assert isinstance(end.parent, Block)
    end.parent.insert_op_before(copy, end)
    return copy.outs[0]


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
        for func in functions.values():
            copy_returned(func)
        arenas: dict[str, int] = {}
        for name in callees_first(functions):
            arenas[name] = self.plan(functions[name], arenas)
        op.attributes["ternary.max_rows"] = IntegerAttr(self.max_rows, i64)
        op.attributes["ternary.weights_bytes"] = IntegerAttr(self.place_weights(op, functions), i64)

    def plan(self, func: FuncOp, arenas: Mapping[str, int]) -> int:
        """Writes the offsets of a function; returns the bytes of its arena, those of its callees included."""
        ops = list(func.body.block.ops)
        number = {op: n for n, op in enumerate(ops)}
        returned = {value: r for r, value in enumerate(ops[-1].operands)}
        buffers: list[Buffer] = []
        owners: list[SSAValue | CallOp] = []
        for n, op in enumerate(ops):
            if isinstance(op, CallOp):
                buffers.append(Buffer(arenas[op.callee.string_value()], n, n))
                owners.append(op)
            for value in () if isinstance(op, LoadOp) else op.results:
                if value not in returned:
                    last = max((number[use.operation] for use in value.uses), default=n)
                    buffers.append(Buffer(buffer_bytes(tensor(value), self.max_rows), n, last))
                    owners.append(value)

        offsets = dict(zip(owners, place_buffers(buffers), strict=True))
        for op in ops:
            if isinstance(op, CallOp):
                op.attributes["callee_arena"] = IntegerAttr(offsets[op], i64)
            if op.results and not isinstance(op, LoadOp):
                places = [-(returned[v] + 1) if v in returned else offsets[v] for v in op.results]
                op.attributes["arena"] = DenseArrayBase.from_list(i64, places)
        total = max((offsets[owner] + b.size for owner, b in zip(owners, buffers, strict=True)), default=0)
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
    return (op for op in func.body.block.ops if isinstance(op, CallOp))


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

    for op in func.body.block.ops:
        names: list[str | None] = [name_of(value) for value in op.operands]
        if isinstance(op, CallOp):
            yield from weights_met(functions[op.callee.string_value()], names, functions)
        else:
            yield from (name for name in names if name is not None)
