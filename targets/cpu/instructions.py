"""The vocabulary that kernels are written in: one function an instruction.

`fadd(a, b)` appends an `llvm.fadd` to the block of the enclosing `ImplicitBuilder` and returns its value.
Scalars and vectors are alike; `loop` makes an `scf.for`. No function sets a fast-math or no-wrap flag.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import cast

from numpy import float32
from xdsl.builder import ImplicitBuilder
from xdsl.dialects import llvm, scf
from xdsl.dialects.builtin import (
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    Float32Type,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    VectorType,
    f32,
    i1,
    i8,
    i32,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, SSAValue

from sterna.dialects import llvm_vector
from sterna.dialects.llvm_vector import Vector, is_vector, vector
from sterna.dialects.numerics import LANES

POINTER = llvm.LLVMPointerType()
FLOATS: Vector = VectorType(f32, [LANES])
INTS: Vector = VectorType(i32, [LANES])
BYTES: Vector = VectorType(i8, [LANES])


def vector_type(element: Attribute, lanes: int) -> Vector:
    return VectorType(element, [lanes])


def lanes_of(value: SSAValue) -> int:
    """Lanes of a vector; 1 for a scalar."""
    return vector(value).get_shape()[0] if is_vector(value.type) else 1


def like(value: SSAValue, element: Attribute) -> Attribute:
    """`element`, or a vector of it if the value is a vector."""
    return vector_type(element, lanes_of(value)) if is_vector(value.type) else element


def constant(value: float, type: Attribute) -> SSAValue:
    """A number as an integer, a float, or a vector with that number in every lane."""
    if is_vector(type):
        element = type.get_element_type()
        if element == f32 and not _prints_in_decimal(value):
            return splat(constant(value, element), type.get_shape()[0])
        return llvm.ConstantOp(_dense(type, [value]), type).result
    if type == f32:
        return llvm.ConstantOp(FloatAttr(value, f32), f32).result
    return llvm.ConstantOp(IntegerAttr(_bits(value, type), cast(IntegerType, type)), type).result


def _bits(value: float, type: Attribute) -> int:
    """Of i1, xDSL reads back 0 and -1."""
    return -(int(value) & 1) if type == i1 else int(value)


def _dense(type: Vector, values: Sequence[float]) -> Attribute:
    """The numbers of a vector; one stands for all lanes."""
    if type.get_element_type() == f32:
        return DenseIntOrFPElementsAttr.from_list(cast("VectorType[Float32Type]", type), values)
    integers = [_bits(value, type.get_element_type()) for value in values]
    return DenseIntOrFPElementsAttr.from_list(cast("VectorType[IntegerType]", type), integers)


def _prints_in_decimal(value: float) -> bool:
    """Whether xDSL writes the number as one: the hexadecimal form of others it cannot read back in a vector."""
    return isfinite(value) and (float32(f"{value:.5e}") == float32(value) or "." in f"{value:.9g}")


def index(value: int) -> SSAValue:
    return constant(value, i64)


def _binary(op: type[Operation]) -> Callable[[SSAValue, SSAValue], SSAValue]:
    def emit(lhs: SSAValue, rhs: SSAValue) -> SSAValue:
        assert lhs.type == rhs.type, f"{op.name} of {lhs.type} and {rhs.type}"
        return op(lhs, rhs).results[0]  # pyright: ignore[reportCallIssue]

    return emit


fadd = _binary(llvm.FAddOp)
fsub = _binary(llvm.FSubOp)
fmul = _binary(llvm.FMulOp)
fdiv = _binary(llvm.FDivOp)
add = _binary(llvm.AddOp)
sub = _binary(llvm.SubOp)
mul = _binary(llvm.MulOp)
udiv = _binary(llvm.UDivOp)
urem = _binary(llvm.URemOp)
sdiv = _binary(llvm.SDivOp)
srem = _binary(llvm.SRemOp)
bitand = _binary(llvm.AndOp)
bitor = _binary(llvm.OrOp)
bitxor = _binary(llvm.XOrOp)
shl = _binary(llvm.ShlOp)
lshr = _binary(llvm.LShrOp)
ashr = _binary(llvm.AShrOp)


def add_bytes(lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    """lhs + rhs, as one instruction: of a chain of additions LLVM makes multiplications, which vectors of bytes lack.

    It does not look into additions with a mask, here of all lanes, before it turns them into plain ones.
    """
    type, lanes = lhs.type, lanes_of(lhs)
    arguments = [lhs, rhs, constant(1, vector_type(i1, lanes)), constant(lanes, i32)]
    return call_intrinsic(f"llvm.vp.add.{_mangled(type)}", arguments, type)


def shift_left(value: SSAValue, bits: int) -> SSAValue:
    return shl(value, constant(bits, value.type))


def shift_right(value: SSAValue, bits: int) -> SSAValue:
    """Arithmetic: the sign stays."""
    return ashr(value, constant(bits, value.type))


def icmp(predicate: str, lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    code = IntegerAttr(llvm.ICmpPredicateFlag(predicate).to_int(), i64)
    return llvm.ICmpOp(lhs, rhs, code).res


def fcmp(predicate: str, lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    if is_vector(lhs.type):
        return llvm_vector.FCmpOp(predicate, lhs, rhs).result
    return llvm.FCmpOp(lhs, rhs, predicate).res


def select(condition: SSAValue, lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    if is_vector(condition.type):
        return llvm_vector.SelectOp(condition, lhs, rhs).result
    return llvm.SelectOp(condition, lhs, rhs).res


def smax(lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    return select(icmp("sgt", lhs, rhs), lhs, rhs)


def smin(lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    return select(icmp("slt", lhs, rhs), lhs, rhs)


def umax(lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    return select(icmp("ugt", lhs, rhs), lhs, rhs)


def umin(lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    return select(icmp("ult", lhs, rhs), lhs, rhs)


def fneg(value: SSAValue) -> SSAValue:
    return llvm.FNegOp(value).res


def _mangled(type: Attribute) -> str:
    """A type as it stands in the names of intrinsics."""
    return f"v{type.get_shape()[0]}{type.get_element_type()}" if is_vector(type) else str(type)


def _extremum(name: str) -> Callable[[SSAValue, SSAValue], SSAValue]:
    def emit(lhs: SSAValue, rhs: SSAValue) -> SSAValue:
        return call_intrinsic(f"llvm.{name}.{_mangled(lhs.type)}", [lhs, rhs], lhs.type)

    return emit


# All four order -0 below +0. The first two give NaN if either operand is NaN, the others the other operand.
fmaximum = _extremum("maximum")
fminimum = _extremum("minimum")
fmaximum_number = _extremum("maximumnum")
fminimum_number = _extremum("minimumnum")


def sqrt(value: SSAValue) -> SSAValue:
    """Correctly rounded."""
    # xDSL declares the intrinsic of its own operation for one type only, the first that it meets in a module.
    return call_intrinsic(f"llvm.sqrt.{_mangled(value.type)}", [value], value.type)


def fabs(value: SSAValue) -> SSAValue:
    return call_intrinsic(f"llvm.fabs.{_mangled(value.type)}", [value], value.type)


def bitcast(value: SSAValue, type: Attribute) -> SSAValue:
    return llvm.BitcastOp(value, type).result


def sext(value: SSAValue, element: IntegerType) -> SSAValue:
    return llvm.SExtOp(value, like(value, element)).res


def zext(value: SSAValue, element: IntegerType) -> SSAValue:
    return llvm.ZExtOp(value, like(value, element)).res


def trunc(value: SSAValue, element: IntegerType) -> SSAValue:
    return llvm.TruncOp(value, like(value, element)).res


def int_to_float(value: SSAValue) -> SSAValue:
    """Signed integers to float32, rounded half to even."""
    return llvm.SIToFPOp(value, like(value, f32)).result


def unsigned_to_float(value: SSAValue) -> SSAValue:
    """Unsigned integers to float32, rounded half to even."""
    element = vector(value).get_element_type() if is_vector(value.type) else value.type
    if element != i64:
        return int_to_float(zext(value, i64))
    # Above 2^63, of which half is signed: the lost bit is kept in the last, so that rounding sees it.
    half = bitor(lshr(value, constant(1, value.type)), bitand(value, constant(1, value.type)))
    doubled = int_to_float(half)
    large = icmp("slt", value, constant(0, value.type))
    return select(large, fadd(doubled, doubled), int_to_float(value))


def _saturating(name: str) -> Callable[[SSAValue, IntegerType], SSAValue]:
    def emit(value: SSAValue, element: IntegerType) -> SSAValue:
        result = like(value, element)
        return call_intrinsic(f"llvm.{name}.sat.{_mangled(result)}.{_mangled(value.type)}", [value], result)

    return emit


# Truncated, saturated; 0 for NaN.
float_to_signed = _saturating("fptosi")
float_to_unsigned = _saturating("fptoui")


def fma(a: SSAValue, b: SSAValue, c: SSAValue) -> SSAValue:
    """a * b + c with one rounding."""
    return call_intrinsic(f"llvm.fma.{_mangled(a.type)}", [a, b, c], a.type)


def shuffle(lhs: SSAValue, rhs: SSAValue, mask: Sequence[int]) -> SSAValue:
    type = vector_type(vector(lhs).get_element_type(), len(mask))
    return llvm.ShuffleVectorOp(lhs, rhs, DenseArrayBase.from_list(i32, list(mask)), type).res


def splat(value: SSAValue, lanes: int = LANES) -> SSAValue:
    """A scalar in every lane."""
    empty = llvm.UndefOp(vector_type(value.type, lanes)).res
    first = llvm.InsertElementOp(empty, value, constant(0, i32)).res
    return shuffle(first, empty, [0] * lanes)


def lane(value: SSAValue, number: int) -> SSAValue:
    return llvm_vector.ExtractElementOp(value, number).result


def halves(value: SSAValue) -> tuple[SSAValue, SSAValue]:
    lanes = lanes_of(value)
    return shuffle(value, value, range(lanes // 2)), shuffle(value, value, range(lanes // 2, lanes))


def concatenate(parts: Sequence[SSAValue]) -> SSAValue:
    """The lanes of all parts, a power of two of them, in order."""
    while len(parts) > 1:
        width = 2 * lanes_of(parts[0])
        parts = [shuffle(a, b, range(width)) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def tree(combine: Callable[[SSAValue, SSAValue], SSAValue], value: SSAValue) -> SSAValue:
    """A halving tree over the lanes: lane i meets lane i + lanes / 2, as in `numerics.lane_sum`."""
    while lanes_of(value) > 1:
        value = combine(*halves(value))
    return lane(value, 0)


def lane_numbers() -> SSAValue:
    """0, 1, ..., 15."""
    return constants(range(LANES), i32)


def constants(values: Sequence[int], element: IntegerType) -> SSAValue:
    """A vector of these numbers."""
    type = vector_type(element, len(values))
    return llvm.ConstantOp(_dense(type, values), type).result


def insert(value: SSAValue, into: SSAValue, number: int) -> SSAValue:
    """The vector with another number in one lane."""
    return llvm.InsertElementOp(into, value, constant(number, i32)).res


def offset(pointer: SSAValue, bytes: SSAValue | int) -> SSAValue:
    """The address `bytes` further."""
    if isinstance(bytes, int) and bytes == 0:
        return pointer
    distance = index(bytes) if isinstance(bytes, int) else bytes
    return llvm.GEPOp.from_mixed_indices(pointer, [distance], i8).result


def load(pointer: SSAValue, type: Attribute, alignment: int) -> SSAValue:
    return llvm.LoadOp(pointer, type, alignment).dereferenced_value


def store(value: SSAValue, pointer: SSAValue, alignment: int) -> None:
    llvm.StoreOp(value, pointer, alignment)


def call_intrinsic(name: str, arguments: Sequence[SSAValue], result: Attribute) -> SSAValue:
    value = llvm.CallIntrinsicOp(name, arguments, [result]).ress
    assert value is not None
    return value


def prefetch(pointer: SSAValue) -> None:
    """Asks for a cache line to be read soon, into every level. Any address is harmless."""
    read, locality, data = 0, 3, 1
    arguments = [pointer, *(constant(value, i32) for value in (read, locality, data))]
    llvm.CallIntrinsicOp("llvm.prefetch.p0", arguments, [])


def loop(
    begin: SSAValue,
    end: SSAValue,
    body: Callable[..., Sequence[SSAValue]],
    carried: Sequence[SSAValue] = (),
    step: int | SSAValue = 1,
) -> tuple[SSAValue, ...]:
    """`for i in range(begin, end, step)`: `body(i, *carried)` gives the carried values of the next turn."""
    block = Block(arg_types=[i64, *(value.type for value in carried)])
    stride = index(step) if isinstance(step, int) else step
    with ImplicitBuilder(block):
        scf.YieldOp(*body(*block.args))
    return tuple(scf.ForOp(begin, end, stride, list(carried), block).results)
