"""Scalars: sizes, offsets, elements that are taken out of a tensor, and numbers that are computed from them.

A kernel that needs one computes it for itself, from constants, T, elements of tensors and what loops count: that is a
few instructions, where a launch is microseconds. What leaves a loop, a choice or a function lies on the device as a
tensor of one element. The host waits for a number only where it decides what is launched (`control.py`).
"""

from __future__ import annotations

from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerAttr, TensorType
from xdsl.ir import Operation, SSAValue

from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import tensor as type_of
from sterna.targets.triton.kernel import TORCH, Builder, Host, memory_element, place
from sterna.targets.triton.places import Places
from sterna.targets.triton.region import Region, full


def scalar(value: SSAValue, b: Builder, op: Operation) -> str:
    """The expression of a scalar in the kernel of `op`. CompileError if it has no Triton form."""
    if value not in b.scalars:
        text = computed(value, b, op)
        b.scalars[value] = text if text.isidentifier() else b.assign("number", text)
    return b.scalars[value]


def computed(value: SSAValue, b: Builder, op: Operation) -> str:
    if value in b.host.numbers:
        return f"tl.full([], {counted(value, b)}, tl.int64)"
    match value.owner:
        case _ if value in b.host.values:
            return f"tl.load({b.pointer(value, 'number', op)})" + (" != 0" if is_bit(value) else "")
        case arith.ConstantOp() as known:
            return full(known)
        case tensor.DimOp() as size:
            length = size_of(size)
            return f"tl.full([], {b.rows() if length is None else length}, tl.int64)"
        case tensor.ExtractOp() as taken:
            return element_at(taken, b, op)
        case Operation() as inner if inner.name.startswith(("arith.", "math.")) and len(inner.results) == 1:
            return region_of(b, op).expression(inner)
        case owner:
            name = owner.name if isinstance(owner, Operation) else "an argument"
            raise CompileError(f"the GPU target has no scalar of {name}", op.location)


def region_of(b: Builder, op: Operation) -> Region:
    """A region of the kernel of `op`, which may read scalars from outside."""
    region = b.region()
    region.outer = lambda value: None if isinstance(value.type, TensorType) else scalar(value, b, op)
    return region


def is_bit(value: SSAValue) -> bool:
    return str(value.type) == "i1"


def counted(value: SSAValue, b: Builder) -> str:
    """The parameter for what a loop of the host counts."""
    if value not in b.pointers:
        b.pointers[value] = b.new_pointer("turn", "i64", b.host.numbers[value])
    return b.pointers[value]


def size_of(op: tensor.DimOp) -> int | None:
    """The size that `tensor.dim` asks for; None is T. CompileError for an axis that is not known."""
    shape = type_of(op.source).get_shape()
    if set(shape) <= {DYNAMIC_INDEX}:
        return None
    axis = op.index.owner
    if not isinstance(axis, arith.ConstantOp) or not isinstance(axis.value, IntegerAttr):
        raise CompileError("tensor.dim asks for an axis that is not known", op.location)
    size = shape[axis.value.value.data]
    return None if size == DYNAMIC_INDEX else size


def element_at(taken: tensor.ExtractOp, b: Builder, op: Operation) -> str:
    along = [scalar(index, b, op) for index in taken.indices]
    address = Places(op, b).at(taken.tensor, along, "source")
    return f"tl.load({address})" + (" != 0" if is_bit(taken.result) else "")


def on_device(value: SSAValue, host: Host, op: Operation) -> str:
    """The Python name of a tensor of one element that holds a scalar; a kernel for it if there is none yet."""
    if value not in host.values:
        b = Builder("scalar", host)
        b.doc += [f"A number for {place(op)}"]
        text = scalar(value, b, op)
        name = host.names.new(value.name_hint or "number")
        dtype = memory_element(value, op)
        host.lines.append(f"{name} = batch.empty((), {TORCH[dtype]})")
        host.values[value] = name
        b.lines.append(f"tl.store({b.pointer(value, 'out', op)}, {text})")
        host.launch(b.kernel(num_warps=1), "(1,)", b.all_arguments())
    return host.values[value]


def on_host(value: SSAValue, host: Host, op: Operation) -> str:
    """The Python expression of a number; the host waits for it unless it is a constant, a size or a loop's."""
    if value in host.numbers:
        return host.numbers[value]
    match value.owner:
        case arith.ConstantOp(value=IntegerAttr(value=number)) if not is_bit(value):
            return str(number.data)
        case tensor.DimOp() as size:
            length = size_of(size)
            return "batch.rows" if length is None else str(length)
        case _:
            return f"int({on_device(value, host, op)})"
