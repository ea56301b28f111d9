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
operands alone share a kernel. A scalar is no value in memory: every thread computes it, and a kernel that needs it
takes it as an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.builder import ImplicitBuilder
from xdsl.context import Context
from xdsl.dialects import arith, func, scf, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    DenseArrayBase,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    TensorType,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, OpResult, Region, SSAValue
from xdsl.passes import ModulePass

from sterna.dialects import ternary
from sterna.dialects.errors import CompileError
from sterna.dialects.layout import strides
from sterna.passes.control_buffers import IN_PLACE, control_blocks
from sterna.passes.plan_memory import check_blocks, needs_memory
from sterna.targets.cpu.instructions import POINTER, index, load, loop, mul, offset
from sterna.targets.cpu.isa import Isa, find_isa
from sterna.targets.cpu.kernel import Signature, kernel_function
from sterna.targets.cpu.kernels import emitter
from sterna.targets.cpu.project import packed_rows
from sterna.targets.cpu.region import Lanes, machine_type
from sterna.targets.cpu.views import load_element
from sterna.targets.interface import integer_attribute

NO_KERNEL = (func.CallOp, func.ReturnOp, scf.ForOp, scf.IfOp, scf.YieldOp, ternary.LoadOp)

BARRIER = "barrier"
POINTER_BYTES = 8


def _places(op: Operation) -> tuple[int, ...]:
    """Where `plan-memory` put the results: offsets into the arena, or -(r + 1) for the function's result r."""
    value = op.attributes.get("arena")
    places = (
        cast("DenseArrayBase[IntegerType]", value).get_values() if isinstance(value, DenseArrayBase) else ()
    )
    if len(places) != sum(needs_memory(value) for value in op.results):
        raise CompileError(f"{op.name} has no 'arena' offset a result: run plan-memory first", op.location)
    return tuple(int(place) for place in places)


def operations(block: Block) -> Iterator[Operation]:
    """The operations of a function, those in its loops and branches included."""
    for op in block.ops:
        yield op
        for inner in control_blocks(op):
            yield from operations(inner)


def has_kernel(op: Operation) -> bool:
    return not isinstance(op, NO_KERNEL) and any(needs_memory(value) for value in op.results)


def kernel_names(functions: Iterable[func.FuncOp]) -> dict[Operation, str]:
    """The kernel of every operation that has one; operations that compute the same share it."""
    names: dict[Operation, str] = {}
    firsts: dict[tuple[object, ...], list[Operation]] = {}
    count = 0
    for op in (op for function in functions for op in operations(function.body.block) if has_kernel(op)):
        alike = firsts.setdefault((op.name, *op.operand_types, *op.result_types), [])
        first = next((other for other in alike if same_computation(op, other)), None)
        if first is None:
            short = op.name.removeprefix("ternary.").replace(".", "_")
            names[op] = f"{short}_{count}"
            count += 1
            alike.append(op)
        else:
            names[op] = names[first]
    return names


def same_computation(op: Operation, other: Operation) -> bool:
    """Whether two operations differ in nothing but their operands and places in memory."""
    return (
        type(op) is type(other)
        and op.properties == other.properties
        and (IN_PLACE in op.attributes) == (IN_PLACE in other.attributes)
        and same_pattern(op, other)
        and [value.type for value in op.operands] == [value.type for value in other.operands]
        and [value.type for value in op.results] == [value.type for value in other.results]
        and all(a.is_structurally_equivalent(b) for a, b in zip(op.regions, other.regions, strict=True))
    )


def same_pattern(op: Operation, other: Operation) -> bool:
    """Whether the same operands of both are equal: scalars that are one value are one argument of a kernel."""
    return [op.operands.index(value) for value in op.operands] == [
        other.operands.index(value) for value in other.operands
    ]


def make_kernels(names: dict[Operation, str], isa: Isa, max_rows: int) -> list[func.FuncOp]:
    """A function for each name, and the inner products that they call."""
    firsts = {name: op for op, name in reversed(names.items())}
    packed = sorted({row for op in firsts.values() for row in packed_rows(op)})
    kernels = [row.dot_function(isa) for row in packed]
    for name in dict.fromkeys(names.values()):
        op = firsts[name]
        kernels.append(kernel_function(name, op, emitter(op), isa, max_rows))
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
    max_rows: int

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
        values = (*function.function_type.inputs, *function.function_type.outputs)
        given = [POINTER if isinstance(type, TensorType) else machine_type(type) or type for type in values]
        types: list[Attribute] = [*given, *Machine.types()]
        block = Block(arg_types=types)
        with ImplicitBuilder(block):
            self._lower_body(function, Machine(*block.args[len(given) :]), block.args[: len(given)])
        return func.FuncOp(function.sym_name.data, (types, []), Region(block), visibility="private")

    def _lower_body(self, function: func.FuncOp, machine: Machine, given: Sequence[SSAValue]) -> None:
        arguments = function.body.block.args
        places: dict[SSAValue, SSAValue] = dict(zip(arguments, given, strict=False))
        self._lower_block(function.body.block, machine, places, given[len(arguments) :])

    def _lower_block(
        self,
        block: Block,
        machine: Machine,
        places: dict[SSAValue, SSAValue],
        results: Sequence[SSAValue],
    ) -> None:
        """`places`: where the tensors are that are known so far, and the values of scalars."""
        for op in block.ops:
            match op:
                case ternary.LoadOp() if not op.result.uses:
                    pass
                case ternary.LoadOp():
                    places[op.result] = offset(machine.weights, self._weight_offset(op))
                case func.ReturnOp():
                    _verify_returned(op)
                    func.ReturnOp()
                case scf.YieldOp():
                    pass
                case _:
                    written = [value for value in op.results if needs_memory(value)]
                    for value, place in zip(written, _places(op), strict=True):
                        places[value] = offset(machine.arena, place) if place >= 0 else results[-place - 1]
                    self._lower_op(op, machine, places, results)

    def _lower_op(
        self,
        op: Operation,
        machine: Machine,
        places: dict[SSAValue, SSAValue],
        results: Sequence[SSAValue],
    ) -> None:
        split = (machine.rows, machine.thread, machine.threads)
        if isinstance(op, func.CallOp):
            values = [places[value] for value in (*op.operands, *op.results)]
            arena = offset(machine.arena, integer_attribute(op, "callee_arena"))
            func.CallOp(op.callee, [*values, machine.weights, arena, machine.barrier, *split], [])
        elif isinstance(op, scf.ForOp):
            self._lower_loop(op, machine, places, results)
        elif isinstance(op, scf.IfOp):
            self._lower_choice(op, machine, places, results)
        elif op in self.kernels:
            signature = Signature.of(op)
            values = [places[v] for v in (*signature.tensors, *signature.results, *signature.scalars)]
            func.CallOp(self.kernels[op], [*values, *split], [])
            func.CallOp(BARRIER, [machine.barrier, machine.threads], [])
        elif not isinstance(op, tensor.EmptyOp):
            places[op.results[0]] = self._scalar(op, machine, places)

    def _lower_loop(
        self,
        op: scf.ForOp,
        machine: Machine,
        places: dict[SSAValue, SSAValue],
        results: Sequence[SSAValue],
    ) -> None:
        """Every thread counts for itself. Tensors that the loop carries stay where they are, scalars go round."""
        number, *carried = op.body.block.args
        end = op.body.block.last_op
        assert isinstance(end, scf.YieldOp)
        scalars = [n for n, value in enumerate(carried) if not isinstance(value.type, TensorType)]
        for given, inside, outside in zip(op.iter_args, carried, op.results, strict=True):
            if isinstance(inside.type, TensorType):
                if _arena_place(given) != _arena_place(outside):
                    raise CompileError(
                        "what a loop carries has no one place: run plan-memory first", op.location
                    )
                places[inside] = places[outside]

        def turn(i: SSAValue, *values: SSAValue) -> Sequence[SSAValue]:
            places[number] = i
            places.update(zip((carried[n] for n in scalars), values, strict=True))
            self._lower_block(op.body.block, machine, places, results)
            return [places[end.operands[n]] for n in scalars]

        given = [places[op.iter_args[n]] for n in scalars]
        after = loop(places[op.lb], places[op.ub], turn, given, places[op.step])
        places.update(zip((op.results[n] for n in scalars), after, strict=True))

    def _lower_choice(
        self,
        op: scf.IfOp,
        machine: Machine,
        places: dict[SSAValue, SSAValue],
        results: Sequence[SSAValue],
    ) -> None:
        """Every thread finds the same condition, so that all meet at the same barriers."""
        scalars = [n for n, value in enumerate(op.results) if not isinstance(value.type, TensorType)]
        regions: list[Region] = []
        for branch in control_blocks(op):
            block = Block()
            end = branch.last_op
            assert end is not None
            for value, result in zip(end.operands, op.results, strict=True):
                if isinstance(result.type, TensorType) and _arena_place(value) != _arena_place(result):
                    raise CompileError(
                        "what branches yield has no one place: run plan-memory first", op.location
                    )
            with ImplicitBuilder(block):
                self._lower_block(branch, machine, places, results)
                scf.YieldOp(*(places[end.operands[n]] for n in scalars))
            regions.append(Region(block))
        types = [machine_type(op.results[n].type) or op.results[n].type for n in scalars]
        choice = scf.IfOp(places[op.cond], types, regions[0], regions[1] if regions[1:] else None)
        places.update(zip((op.results[n] for n in scalars), choice.results, strict=True))

    def _scalar(self, op: Operation, machine: Machine, places: Mapping[SSAValue, SSAValue]) -> SSAValue:
        """A value that every thread computes for itself."""
        match op:
            case tensor.DimOp():
                return _size(op, machine)
            case tensor.ExtractOp():
                address = places[op.tensor]
                type = ternary.tensor(op.tensor)
                for number, stride in zip(op.indices, strides(type, self.max_rows), strict=True):
                    address = offset(address, mul(places[number], index(stride)))
                element = machine_type(type)
                assert element is not None
                value = load_element(address, element)
                # The next kernel may write there, which another thread may reach first.
                func.CallOp(BARRIER, [machine.barrier, machine.threads], [])
                return value
            case _:
                return Lanes(1).emit(op, [places[value] for value in op.operands])

    def _weight_offset(self, op: ternary.LoadOp) -> int:
        name = op.weight.string_value()
        if name not in self.offsets:
            raise CompileError(f"weight @{name} has no offset: run plan-memory first", op.location)
        return self.offsets[name]


def _size(op: tensor.DimOp, machine: Machine) -> SSAValue:
    axis = op.index.owner
    shape = ternary.tensor(op.source).get_shape()
    if set(shape) <= {DYNAMIC_INDEX}:
        return machine.rows
    if not isinstance(axis, arith.ConstantOp) or not isinstance(axis.value, IntegerAttr):
        raise CompileError("tensor.dim asks for an axis that is not known", op.location)
    size = shape[axis.value.value.data]
    return machine.rows if size == DYNAMIC_INDEX else index(size)


def _arena_place(value: SSAValue) -> int | None:
    """Where the plan put a result."""
    if not isinstance(value, OpResult) or not needs_memory(value):
        return None
    written = [result for result in value.op.results if needs_memory(result)]
    return _places(value.op)[written.index(value)]


def _verify_returned(op: func.ReturnOp) -> None:
    """Result r of the function was written to the caller's buffer r by the operation that made it."""
    for r, value in enumerate(op.arguments):
        if _arena_place(value) != -(r + 1):
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
        check_blocks(functions)
        isa = find_isa(self.isa)
        names = kernel_names(functions)
        max_rows = integer_attribute(op, "ternary.max_rows")
        kernels = make_kernels(names, isa, max_rows)
        lowering = FunctionLowering(offsets, names, max_rows)
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
