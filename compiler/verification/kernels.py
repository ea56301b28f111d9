"""Cuts the kernels out of a planned program: each distinct operation as a program of its own.

    %y = ternary.project quantized(%q ...) steps(%d ...) weights(%w0 ...) ...      // in @layer_0, called four times

becomes

    ternary.weight @w0 : tensor<256x256x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>
    func.func @forward(%q : tensor<?x256xi8>, %d : tensor<?xf32>) -> tensor<?x256xf32> {
      %w0 = ternary.load @w0 ...
      %y = ternary.project quantized(%q ...) steps(%d ...) weights(%w0 ...) ...
      func.return %y ...
    }

with a `place` for each of the four calls: which weight of the model @w0 stands for there. Scalars and empty or filled
tensors that the operation reads come along, with what computes them; every other tensor is an argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from xdsl.dialects import arith, func, scf, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerAttr, IntegerType, ModuleOp, TensorType, i64
from xdsl.ir import Attribute, Block, BlockArgument, Operation, Region, SSAValue

from sterna.dialects import ternary
from sterna.dialects.encodings import encoding_of
from sterna.dialects.weight_ops import WeightOp
from sterna.ir_text import print_ir
from sterna.passes.control_buffers import IN_PLACE, control_blocks
from sterna.passes.plan_memory import needs_memory
from sterna.targets.interface import find_entry

NOT_KERNELS = (func.CallOp, func.ReturnOp, scf.ForOp, scf.IfOp, scf.YieldOp, ternary.LoadOp, tensor.EmptyOp)
COMES_ALONG = (tensor.EmptyOp, tensor.SplatOp)
"""Tensors without numbers of their own, which an operation writes to."""

PLANNED = ("arena", "callee_arena", IN_PLACE)
"""Attributes that say where things lay in the whole program."""


@dataclass(frozen=True)
class Kernel:
    """One operation as a program. It is not planned."""

    name: str
    shape: str
    module: ModuleOp
    places: list[Mapping[str, str]] = field(default_factory=list[Mapping[str, str]])
    """For each place of the operation in a run of the model: the model's weight that a weight of this program is."""

    @property
    def text(self) -> str:
        return print_ir(self.module)


def cut_kernels(planned: ModuleOp) -> list[Kernel]:
    """The distinct operations of a planned module that have kernels, in the order in which a run meets them first."""
    functions = {op.sym_name.data: op for op in planned.ops if isinstance(op, func.FuncOp)}
    kernels: dict[str, Kernel] = {}
    for op, bound in operations_met(find_entry(planned), {}, functions):
        cut = _Cut(bound)
        module = cut.program(op)
        key = print_ir(module)
        if key not in kernels:
            short = op.name.removeprefix("ternary.").replace(".", "_")
            kernels[key] = Kernel(f"{short}_{len(kernels)}", shape_of(op), module)
        if cut.weights not in kernels[key].places:
            kernels[key].places.append(cut.weights)
    return list(kernels.values())


Bound = Mapping[SSAValue, SSAValue]
"""What a function's arguments are in its caller, callers' callers included."""


def operations_met(
    function: func.FuncOp, bound: Bound, functions: Mapping[str, func.FuncOp]
) -> Iterator[tuple[Operation, Bound]]:
    """Every operation with a kernel that a run meets, calls followed, with what its function's arguments are."""
    for op in operations(function.body.block):
        if isinstance(op, func.CallOp):
            callee = functions[op.callee.string_value()]
            arguments = dict(zip(callee.body.block.args, op.operands, strict=True))
            yield from operations_met(callee, {**bound, **arguments}, functions)
        elif not isinstance(op, NOT_KERNELS) and any(needs_memory(value) for value in op.results):
            yield op, bound


def operations(block: Block) -> Iterator[Operation]:
    for op in block.ops:
        yield op
        for inner in control_blocks(op):
            yield from operations(inner)


@dataclass
class _Cut:
    """A program while it is made around one operation."""

    bound: Bound
    weights: dict[str, str] = field(default_factory=dict[str, str])
    """The model's weights, by their names in the cut."""
    _block: Block = field(default_factory=Block)
    _values: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    """What stands for a value of the model."""
    _declared: list[WeightOp] = field(default_factory=list[WeightOp])

    def program(self, op: Operation) -> ModuleOp:
        for value in values_read(op):
            self._take(value)
        inner = self._clone(op)
        results = [value for value in inner.results if isinstance(value.type, TensorType)]
        self._block.add_op(func.ReturnOp(*results))
        types = ([argument.type for argument in self._block.args], [value.type for value in results])
        function = func.FuncOp("forward", types, Region(self._block))
        if isinstance(inner, ternary.ScanOp) and _is_last_argument(inner.operands[2], self._block):
            function.attributes["sterna.states"] = IntegerAttr(1, i64)
        return ModuleOp([*self._declared, function])

    def _take(self, value: SSAValue) -> None:
        origin = self._origin(value)
        if value in self._values:
            return
        if origin not in self._values:
            self._values[origin] = self._stand_in(origin)
        self._values[value] = self._values[origin]

    def _origin(self, value: SSAValue) -> SSAValue:
        """Weights and scalars are followed to the caller that has them; other tensors are what they are here."""
        origin = value
        while origin in self.bound:
            origin = self.bound[origin]
        if isinstance(origin.owner, ternary.LoadOp) or not isinstance(value.type, TensorType):
            return origin
        return value

    def _stand_in(self, value: SSAValue) -> SSAValue:
        owner = value.owner
        if isinstance(owner, ternary.LoadOp):
            return self._weight(owner)
        is_tensor = isinstance(value.type, TensorType)
        if isinstance(owner, Operation) and (not is_tensor or isinstance(owner, COMES_ALONG)):
            for operand in values_read(owner):
                self._take(operand)
            copy = self._clone(owner)
            return copy.results[owner.results.index(value)]
        if is_tensor:
            return self._block.insert_arg(value.type, len(self._block.args))
        # The number of a loop's turn.
        zero = arith.ConstantOp(IntegerAttr(0, cast("IntegerType", value.type)))
        self._block.add_op(zero)
        return zero.result

    def _weight(self, load: ternary.LoadOp) -> SSAValue:
        name = f"w{len(self.weights)}"
        self.weights[name] = load.weight.string_value()
        type = ternary.tensor(load.result)
        self._declared.append(WeightOp(name, type))
        copy = ternary.LoadOp(name, type)
        self._block.add_op(copy)
        return copy.result

    def _clone(self, op: Operation) -> Operation:
        copy = op.clone(dict(self._values))
        for inner in copy.walk():
            for name in PLANNED:
                inner.attributes.pop(name, None)
            for value in (*inner.results, *(arg for region in inner.regions for arg in region.block.args)):
                value.name_hint = None
        self._block.add_op(copy)
        return copy


def values_read(op: Operation) -> list[SSAValue]:
    """The operands, and what the regions read from outside them."""
    return [value for inner in op.walk() for value in inner.operands if not op.is_ancestor(value.owner)]


def _is_last_argument(value: SSAValue, block: Block) -> bool:
    return isinstance(value, BlockArgument) and value.block is block and value.index == len(block.args) - 1


def shape_of(op: Operation) -> str:
    """The tensors that an operation reads and writes, each kind once: `2 of ?x256 i8, 256x256 trit -> ?x256 f32`."""
    return f"{_types_text(op.operands)} -> {_types_text(op.results)}".strip()


def _types_text(values: Sequence[SSAValue]) -> str:
    texts = [_type_text(ternary.tensor(value)) for value in values if isinstance(value.type, TensorType)]
    counts = {text: texts.count(text) for text in texts}
    return ", ".join(f"{count} of {text}" if count > 1 else text for text, count in counts.items())


def _type_text(type: TensorType[Attribute]) -> str:
    sizes = "x".join("?" if size == DYNAMIC_INDEX else str(size) for size in type.get_shape())
    encoding = encoding_of(type)
    element = str(type.element_type).removeprefix("!ternary.")
    return " ".join(filter(None, (sizes, element, encoding.format.data if encoding is not None else "")))
