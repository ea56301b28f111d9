"""Turns a planned program into calls of kernels, and every `ternary` operation into a kernel of loops.

    func.func @forward(%x : tensor<?x256xf32>) -> tensor<?x256xf32> {
      %w = ternary.load @w : tensor<256xf32>
      %y = ternary.rms_norm %x, %w eps = 1.0e-06 lanes = 16 {arena = array<i64: -1>} : ...
      func.return %y : ...
    }

becomes

    func.func private @barrier(!llvm.ptr, i64)
    func.func private @rms_norm_0(%x, %w, %y : !llvm.ptr, %rows, %thread, %threads : i64) { scf.for ... }
    func.func @forward(%arguments : !llvm.ptr, %rows : i64, %thread : i64, %threads : i64) {
      ...          // loads of the pointers in %arguments: weights, arena, barrier, inputs, outputs
      func.call @rms_norm_0(%x, %w, %y, %rows, %thread, %threads)
      func.call @barrier(%barrier, %threads)
    }

Every thread runs the whole program; a kernel does its thread's share, and the barrier after it makes its
results visible. A value is the address that `plan-memory` gave it: weights + `offset`, arena + `arena`, or,
for result r of the function (`arena` = -(r + 1)), the caller's buffer. Operations that differ in their
operands alone share a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.builder import ImplicitBuilder
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import DenseArrayBase, IntegerType, ModuleOp, i64
from xdsl.ir import Attribute, Block, Operation, OpResult, Region, SSAValue
from xdsl.passes import ModulePass

from sterna.dialects import ternary
from sterna.dialects.errors import CompileError
from sterna.targets.cpu.dot import dot_function
from sterna.targets.cpu.elementwise import emit_elementwise
from sterna.targets.cpu.embedding import emit_embedding
from sterna.targets.cpu.instructions import POINTER, load, offset
from sterna.targets.cpu.isa import Isa, find_isa
from sterna.targets.cpu.kernel import Frame, kernel_function
from sterna.targets.cpu.norm_quantize import emit_norm_quantize
from sterna.targets.cpu.project import emit_project, widths
from sterna.targets.cpu.quantize import emit_quantize
from sterna.targets.cpu.rms_norm import emit_rms_norm
from sterna.targets.cpu.scan import emit_scan
from sterna.targets.interface import integer_attribute

KERNELS: dict[type[Operation], Callable[[Operation, Frame], None]] = {
    ternary.ElementwiseOp: emit_elementwise,
    ternary.EmbeddingOp: emit_embedding,
    ternary.NormQuantizeOp: emit_norm_quantize,
    ternary.ProjectOp: emit_project,
    ternary.QuantizeOp: emit_quantize,
    ternary.RmsNormOp: emit_rms_norm,
    ternary.ScanOp: emit_scan,
}

NO_KERNEL = (func.CallOp, func.ReturnOp, ternary.LoadOp)

BARRIER = "barrier"
POINTER_BYTES = 8


def _places(op: Operation) -> tuple[int, ...]:
    """Where `plan-memory` put the results: offsets into the arena, or -(r + 1) for the function's result r."""
    value = op.attributes.get("arena")
    places = (
        cast("DenseArrayBase[IntegerType]", value).get_values() if isinstance(value, DenseArrayBase) else ()
    )
    if len(places) != len(op.results):
        raise CompileError(f"{op.name} has no 'arena' offset a result: run plan-memory first", op.location)
    return tuple(int(place) for place in places)


def kernel_names(functions: Iterable[func.FuncOp]) -> dict[Operation, str]:
    """The kernel of every operation that has one; operations that compute the same share it."""
    names: dict[Operation, str] = {}
    firsts: list[Operation] = []
    for op in (
        op for function in functions for op in function.body.block.ops if not isinstance(op, NO_KERNEL)
    ):
        first = next((other for other in firsts if same_computation(op, other)), None)
        if first is None:
            names[op] = f"{op.name.removeprefix('ternary.')}_{len(firsts)}"
            firsts.append(op)
        else:
            names[op] = names[first]
    return names


def same_computation(op: Operation, other: Operation) -> bool:
    """Whether two operations differ in nothing but their operands and places in memory."""
    return (
        type(op) is type(other)
        and op.properties == other.properties
        and [value.type for value in op.operands] == [value.type for value in other.operands]
        and [value.type for value in op.results] == [value.type for value in other.results]
        and all(a.is_structurally_equivalent(b) for a, b in zip(op.regions, other.regions, strict=True))
    )


def make_kernels(names: dict[Operation, str], isa: Isa, max_rows: int) -> list[func.FuncOp]:
    """A function for each name, and the inner products that they call."""
    firsts = {name: op for op, name in reversed(names.items())}
    tiles = sorted({n for op in firsts.values() if isinstance(op, ternary.ProjectOp) for n in widths(op)})
    kernels = [dot_function(n, isa) for n in tiles]
    for name in dict.fromkeys(names.values()):
        op = firsts[name]
        if (emit := KERNELS.get(type(op))) is None:
            raise CompileError(f"the CPU target has no kernel for {op.name}", op.location)
        kernels.append(kernel_function(name, op, emit, isa, max_rows))
    return kernels


@dataclass(frozen=True)
class Machine:
    """What every function passes on to those it calls."""

    weights: SSAValue
    arena: SSAValue
    barrier: SSAValue
    rows: SSAValue
    thread: SSAValue
    threads: SSAValue

    @staticmethod
    def types() -> list[Attribute]:
        return [POINTER, POINTER, POINTER, i64, i64, i64]


@dataclass(frozen=True)
class FunctionLowering:
    """Lowers one function, given where the module's weights are and which kernel implements an operation."""

    offsets: dict[str, int]
    kernels: dict[Operation, str]

    def lower_entry(self, function: func.FuncOp) -> func.FuncOp:
        """The native entry: its pointers come in one array: weights, arena, barrier, inputs, results."""
        block = Block(arg_types=[POINTER, i64, i64, i64])
        with ImplicitBuilder(block):
            array, rows, thread, threads = block.args
            count = len(function.body.block.args) + len(function.function_type.outputs)
            addresses = [offset(array, POINTER_BYTES * n) for n in range(3 + count)]
            weights, arena, barrier, *values = [
                load(address, POINTER, POINTER_BYTES) for address in addresses
            ]
            self._lower_body(function, Machine(weights, arena, barrier, rows, thread, threads), values)
        types = [argument.type for argument in block.args]
        return func.FuncOp(function.sym_name.data, (types, []), Region(block))

    def lower_private(self, function: func.FuncOp) -> func.FuncOp:
        count = len(function.body.block.args) + len(function.function_type.outputs)
        types: list[Attribute] = [*[POINTER] * count, *Machine.types()]
        block = Block(arg_types=types)
        with ImplicitBuilder(block):
            self._lower_body(function, Machine(*block.args[count:]), block.args[:count])
        return func.FuncOp(function.sym_name.data, (types, []), Region(block), visibility="private")

    def _lower_body(self, function: func.FuncOp, machine: Machine, pointers: Sequence[SSAValue]) -> None:
        arguments = function.body.block.args
        results = pointers[len(arguments) :]
        places: dict[SSAValue, SSAValue] = dict(zip(arguments, pointers, strict=False))
        for op in function.body.block.ops:
            match op:
                case ternary.LoadOp() if not op.result.uses:
                    pass
                case ternary.LoadOp():
                    places[op.result] = offset(machine.weights, self._weight_offset(op))
                case func.ReturnOp():
                    _verify_returned(op)
                    func.ReturnOp()
                case _:
                    for value, place in zip(op.results, _places(op), strict=True):
                        places[value] = offset(machine.arena, place) if place >= 0 else results[-place - 1]
                    self._call(op, [places[value] for value in (*op.operands, *op.results)], machine)

    def _call(self, op: Operation, pointers: Sequence[SSAValue], machine: Machine) -> None:
        split = (machine.rows, machine.thread, machine.threads)
        if isinstance(op, func.CallOp):
            arena = offset(machine.arena, integer_attribute(op, "callee_arena"))
            func.CallOp(op.callee, [*pointers, machine.weights, arena, machine.barrier, *split], [])
            return
        func.CallOp(self.kernels[op], [*pointers, *split], [])
        func.CallOp(BARRIER, [machine.barrier, machine.threads], [])

    def _weight_offset(self, op: ternary.LoadOp) -> int:
        name = op.weight.string_value()
        if name not in self.offsets:
            raise CompileError(f"weight @{name} has no offset: run plan-memory first", op.location)
        return self.offsets[name]


def _verify_returned(op: func.ReturnOp) -> None:
    """Result r of the function was written to the caller's buffer r by the operation that made it."""
    for r, value in enumerate(op.arguments):
        if not isinstance(value, OpResult) or _places(value.op)[value.index] != -(r + 1):
            raise CompileError(f"result {r} is not written to its buffer: run plan-memory first", op.location)


@dataclass(frozen=True)
class ConvertTernaryToLoopsPass(ModulePass):
    name = "convert-ternary-to-loops"

    isa: str = "baseline"
    """The instruction set whose inner products the kernels use."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        weights = [weight for weight in op.ops if isinstance(weight, ternary.WeightOp)]
        offsets = {
            w.sym_name.data: integer_attribute(w, "offset") for w in weights if "offset" in w.attributes
        }
        functions = [function for function in op.ops if isinstance(function, func.FuncOp)]
        names = kernel_names(functions)
        kernels = make_kernels(names, find_isa(self.isa), integer_attribute(op, "ternary.max_rows"))
        lowering = FunctionLowering(offsets, names)
        lowered = [
            lowering.lower_private(function)
            if function.sym_visibility is not None and function.sym_visibility.data == "private"
            else lowering.lower_entry(function)
            for function in functions
        ]
        barrier = func.FuncOp(BARRIER, ([POINTER, i64], []), Region(), visibility="private")
        for replaced in (*weights, *functions):
            replaced.detach()
            replaced.erase(safe_erase=False)
        op.body.block.add_ops([barrier, *kernels, *lowered])
