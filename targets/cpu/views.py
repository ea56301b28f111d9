"""Tensors as loops see them: where a loop nest finds its elements, one at a time or sixteen along one loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import llvm
from xdsl.dialects.builtin import i1, i8, i64
from xdsl.ir import Attribute, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap

from sterna.dialects.errors import CompileError
from sterna.dialects.layout import ALIGNMENT, element_bytes
from sterna.dialects.numerics import LANES
from sterna.targets.cpu.instructions import (
    add,
    constant,
    constants,
    icmp,
    index,
    insert,
    lane,
    load,
    mul,
    offset,
    smax,
    smin,
    splat,
    store,
    sub,
    udiv,
    vector_type,
    zext,
)
from sterna.targets.cpu.kernel import Buffer, Extent, Frame, each
from sterna.targets.cpu.region import machine_type


def blocks(frame: Frame, extent: Extent) -> SSAValue:
    """Vectors of 16 that cover a loop."""
    if extent is not None:
        return index(-(-extent // LANES))
    return udiv(add(frame.rows, index(LANES - 1)), index(LANES))


def load_element(address: SSAValue, element: Attribute) -> SSAValue:
    """A scalar; i1 is a byte in memory."""
    if element == i1:
        return icmp("ne", load(address, i8, 1), constant(0, i8))
    return load(address, element, bytes_of(element))


def store_element(value: SSAValue, address: SSAValue) -> None:
    stored = zext(value, i8) if value.type == i1 else value
    store(stored, address, bytes_of(value.type))


def bytes_of(element: Attribute) -> int:
    return 1 if element == i1 else element.size  # pyright: ignore


@dataclass(frozen=True)
class View:
    """A buffer and how far each loop moves in it, in bytes."""

    buffer: Buffer
    steps: tuple[int, ...]
    loops: tuple[int, ...]
    """The loop that runs over each axis."""

    @staticmethod
    def of(buffer: Buffer, map: AffineMap) -> View:
        """By an indexing map that takes some of the loops; CompileError for any other."""
        steps, loops = [0] * map.num_dims, list[int]()
        for expression, stride in zip(map.results, buffer.strides, strict=True):
            if not isinstance(expression, AffineDimExpr):
                raise CompileError(f"the indexing map {map} is not a projection of the loops")
            steps[expression.position] += stride
            loops.append(expression.position)
        return View(buffer, tuple(steps), tuple(loops))

    @property
    def element(self) -> Attribute:
        type = machine_type(self.buffer.type)
        if type is None:
            raise CompileError(f"the CPU target has no kernel for elements of {self.buffer.type}")
        return type

    @property
    def element_bytes(self) -> int:
        return element_bytes(self.buffer.type)

    def is_contiguous(self, loop: int) -> bool:
        return self.steps[loop] == self.element_bytes

    def is_invariant(self, loop: int) -> bool:
        return self.steps[loop] == 0

    def at(self, indices: Sequence[SSAValue | None]) -> SSAValue:
        """The address for the given indices of the loops; None for one that stands at 0."""
        address = self.buffer.pointer
        for step, number in zip(self.steps, indices, strict=True):
            if number is not None and step:
                address = offset(address, mul(number, index(step)))
        return address

    def load(self, indices: Sequence[SSAValue]) -> SSAValue:
        return load_element(self.at(indices), self.element)

    def load_lanes(self, base: SSAValue, loop: int, start: SSAValue, extent: SSAValue, used: int) -> SSAValue:
        """Sixteen elements from number `start` on along a loop; those past its end are anything. `used` are wanted."""
        if self.is_invariant(loop):
            return splat(load_element(base, self.element))
        if self.is_contiguous(loop):
            memory = i8 if self.element == i1 else self.element
            address = offset(base, mul(start, index(self.element_bytes)))
            value = load(address, vector_type(memory, LANES), self.vector_alignment)
            return icmp("ne", value, constant(0, value.type)) if self.element == i1 else value
        last = smax(sub(extent, index(1)), index(0))
        numbers = [smin(add(start, index(n)), last) for n in range(used)]
        step = index(self.steps[loop])
        return gather([load_element(offset(base, mul(n, step)), self.element) for n in numbers])

    def store_lanes(
        self, value: SSAValue, base: SSAValue, loop: int, start: SSAValue, extent: Extent, frame: Frame
    ) -> None:
        """Writes sixteen elements, those past the end of the loop into padding or not at all."""
        if self.element == i1:
            value = zext(value, i8)
        if self.is_contiguous(loop):
            store(value, offset(base, mul(start, index(self.element_bytes))), self.vector_alignment)
            return
        step = index(self.steps[loop])
        if extent is not None and extent <= LANES:
            for number in range(extent):
                store(lane(value, number), offset(base, mul(index(number), step)), self.element_bytes)
            return
        store(value, frame.scratch, ALIGNMENT)
        memory = i8 if self.element == i1 else self.element

        def write(number: SSAValue) -> None:
            element = load(offset(frame.scratch, mul(number, index(self.element_bytes))), memory, 1)
            store(element, offset(base, mul(add(start, number), step)), self.element_bytes)

        each(index(0), smin(sub(frame.extent(extent), start), index(LANES)), write)

    @property
    def vector_alignment(self) -> int:
        return min(ALIGNMENT, LANES * self.element_bytes)


def gather(values: Sequence[SSAValue]) -> SSAValue:
    """A vector of sixteen of up to sixteen scalars."""
    whole = llvm.UndefOp(vector_type(values[0].type, LANES)).res
    for number in range(LANES):
        # No lane is undefined: what divides by it would be, too.
        whole = insert(values[min(number, len(values) - 1)], whole, number)
    return whole


def numbers_from(start: SSAValue) -> SSAValue:
    """start, start + 1, ..., start + 15."""
    return add(splat(start), constants(range(LANES), i64))
