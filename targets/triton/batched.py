"""Kernels of contractions, `linalg.matmul` and a `linalg.generic` with one reduction loop: products of two tensors.

    result[b, t, m] = init[b, t, m] + sum over k of left[b, t, k] * right[b, m, k]

The loops b are those that both tensors lie along, t those of the left one alone, m those of the right one; there may be
any number of each, in any order of axes. A program has some t and some m of one b, so that what it loads is used more
than once, and 16 partial sums for each pair: a float sum has the order that the IR says, and one of integers is exact
in any. Rows of floats by a matrix are in `contraction.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from xdsl.dialects import arith
from xdsl.dialects.builtin import f32, i1, i64
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.ir import Attribute, SSAValue

from sterna.dialects.contraction import Widening, match_contraction
from sterna.dialects.elements import width_of
from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import tensor
from sterna.targets.triton.contraction import DenseProduct, emit_dense
from sterna.targets.triton.kernel import (
    Builder,
    Host,
    Shape,
    default_name,
    next_power_of_2,
    place,
    product_text,
)
from sterna.targets.triton.loops import emit_parallel
from sterna.targets.triton.places import Places, Sizes
from sterna.targets.triton.region import dtype_of

PAIRS, CHANNELS = 128, 32
"""Of t and m that a program has, and of m at most."""

LANES = 16


@dataclass(frozen=True)
class Factor:
    """An operand: which loop each of its axes lies along, and how its elements become those of the result."""

    value: SSAValue
    loops: Sequence[int]
    widening: Widening


@dataclass(frozen=True)
class Product:
    """Loops, of which the last is summed over."""

    extents: Sizes
    left: Factor
    right: Factor
    out: Sequence[int]

    @property
    def reduced(self) -> int:
        return len(self.extents) - 1

    def of(self, *, left: bool, right: bool) -> list[int]:
        """The loops of the result that these operands lie along; what neither does goes with the left one."""
        found = [(loop in self.left.loops, loop in self.right.loops) for loop in range(self.reduced)]
        wanted = [(left, right), *([(False, False)] if left and not right else [])]
        return [loop for loop, each in enumerate(found) if each in wanted]

    def sizes(self, loops: Sequence[int]) -> Sizes:
        return [self.extents[loop] for loop in loops]


def emit_matmul(op: linalg.MatmulOp, host: Host) -> None:
    if (product := DenseProduct.of(op)) is not None:
        emit_dense(op, product, host)
        return
    a, b = op.inputs
    (m, n), k = Shape.of(op.results[0]).sizes, Shape.of(a).sizes[1]
    element = tensor(op.results[0]).element_type
    widening = [None if tensor(value).element_type == element else arith.ExtSIOp for value in (a, b)]
    factors = Factor(a, (0, 2), widening[0]), Factor(b, (2, 1), widening[1])
    Contraction(op, Product((m, n, k), *factors, (0, 1)), host).emit()


def emit_generic(op: linalg.GenericOp, host: Host) -> None:
    """Parallel loops, or a contraction."""
    if all(kind.data == IteratorType.PARALLEL for kind in op.iterator_types):
        emit_parallel(op, host)
        return
    found = match_contraction(op)
    if found is None:
        raise CompileError(
            "a linalg.generic that reduces is a contraction: one such loop, the last, and total + a * b",
            op.location,
        )
    if (product := DenseProduct.of(op)) is not None:
        emit_dense(op, product, host)
        return
    extents: list[int | None] = [None] * len(op.iterator_types)
    for value, loops in ((op.inputs[0], found.left), (op.inputs[1], found.right), (op.outputs[0], found.out)):
        for loop, size in zip(loops, Shape.of(value).sizes, strict=True):
            extents[loop] = size
    left = Factor(op.inputs[0], found.left, found.widen_left)
    right = Factor(op.inputs[1], found.right, found.widen_right)
    Contraction(op, Product(extents, left, right, found.out), host).emit()


class Contraction:
    """The kernel of a contraction, being written."""

    def __init__(self, op: linalg.GenericOp | linalg.MatmulOp, product: Product, host: Host) -> None:
        self.op, self.product, self.host = op, product, host
        self.builder = b = Builder("contraction" if default_name(op) == "generic" else default_name(op), host)
        b.doc += [place(op)]
        b.names.taken |= {"t", "m", "k", "start", "known", "acc", "number", "blocks"}
        self.places = Places(op, b)
        self.element = tensor(op.results[0]).element_type
        self.batch = product.of(left=True, right=True)
        self.rows = product.of(left=True, right=False)
        self.columns = product.of(left=False, right=True)
        self.paired = not self.rows and not self.columns
        if self.paired:  # two rows of equal number each: a program has as many as it would have pairs
            self.rows, self.batch = self.batch, self.rows
        self.channels = self.at_most(CHANNELS, self.columns)
        self.together = self.at_most(PAIRS // self.channels, self.rows)

    def at_most(self, most: int, loops: Sequence[int]) -> int:
        """As many elements of these loops as there are, in a power of two."""
        sizes = self.product.sizes(loops)
        return most if None in sizes else min(next_power_of_2(max(prod(n or 0 for n in sizes), 1)), most)

    def emit(self) -> None:
        b, product = self.builder, self.product
        self.host.allocate(self.op.results[0])
        rows, columns = (self.places.size_text(product.sizes(loops)) for loops in (self.rows, self.columns))
        b.lines += [
            f"blocks = tl.cdiv({rows}, {self.together})",
            "number = tl.program_id(0).to(tl.int64) // blocks",
            f"t = tl.program_id(0).to(tl.int64) % blocks * {self.together} + tl.arange(0, {self.together})",
            f"m = tl.program_id(1).to(tl.int64) * {self.channels} + tl.arange(0, {self.channels})",
        ]
        along = self.along("number", self.batch)
        t, m = self.along("t", self.rows), self.along("m", self.columns)
        self.sum(along, t, m, (f"(t < {rows})", f"(m < {columns})"))
        self.store(along, t, m, b.assign("known", f"(t < {rows})[:, None] & (m < {columns})[None, :]"))
        blocks, channels = self.count(self.rows, self.together), self.count(self.columns, self.channels)
        batch = f" * {self.count(self.batch, 1)}" if self.batch else ""
        self.host.launch(b.kernel(), f"({blocks}{batch}, {channels})", b.all_arguments())

    def along(self, number: str, loops: Sequence[int]) -> dict[int, str]:
        return dict(zip(loops, self.places.coordinates(number, self.product.sizes(loops)), strict=True))

    def count(self, loops: Sequence[int], by: int) -> str:
        total = product_text(self.product.sizes(loops), "batch.rows")
        return total if by == 1 else f"triton.cdiv({total}, {by})"

    def sum(
        self, along: dict[int, str], t: dict[int, str], m: dict[int, str], inside: tuple[str, str]
    ) -> None:
        """`acc`, the sums `[t, m]`; each operand is loaded as rows of the columns k."""
        b, length = self.builder, self.places.size_text([self.product.extents[-1]])
        dtype = sum_dtype(self.element)
        b.lines += [
            f"acc = tl.zeros([{self.together}, {self.channels}, {LANES}], {dtype})",
            f"for start in range(0, {length}, {LANES}):",
        ]
        before = len(b.lines)
        b.lines.append(f"k = start + tl.arange(0, {LANES})")
        texts: list[str] = []
        of_left = (self.product.left, "t", t, inside[0])
        of_right = (self.product.right, "m", m, inside[1])
        if self.paired:
            of_right = (self.product.right, *of_left[1:])
        for factor, name, own, within in (of_left, of_right):
            places = along | {loop: f"{each}[:, None]" for loop, each in own.items()}
            places[self.product.reduced] = "k[None, :]"
            coordinates = [places[loop] for loop in factor.loops]
            if coordinates:  # the address has the mask's shape, also where it does not depend on all
                coordinates[-1] += "" if set(factor.loops) & set(own) else f" + {name}[:, None] * 0"
                if self.product.reduced not in factor.loops:
                    coordinates[-1] += " + k[None, :] * 0"
            mask = f"{within}[:, None] & (k < {length})[None, :]"
            value = self.places.load(factor.value, coordinates, mask=mask)
            if not coordinates:  # one number, for as many columns as there are
                value = b.assign("element", f"tl.where({mask}, {value}, 0)")
            texts.append(self.widened(value, factor))
        spread = "[:, None, :]" if self.paired else "[None, :, :]"
        b.lines.append(f"acc += {texts[0]}[:, None, :] * {texts[1]}{spread}")
        b.lines[before:] = [f"    {line}" for line in b.lines[before:]]
        if self.element != f32:
            b.lines.append("acc = tl.sum(acc, axis=2)")
            return
        flat = f"tl.reshape(acc, [{self.together * self.channels}, {LANES}])"
        b.lines += [
            f"acc = {b.call('halving_trees', flat, str(LANES))}",
            f"acc = tl.reshape(acc, [{self.together}, {self.channels}])",
        ]

    def store(self, along: dict[int, str], t: dict[int, str], m: dict[int, str], mask: str) -> None:
        b = self.builder
        places = along | {loop: f"{name}[:, None]" for loop, name in t.items()}
        places |= {loop: f"{name}[None, :]" for loop, name in m.items()}
        coordinates = [places[loop] for loop in self.product.out]
        # The address has the mask's shape, also where it does not depend on both.
        whole = "".join(f" + {text} * 0" for text, own in (("t[:, None]", t), ("m[None, :]", m)) if not own)
        init, out = (
            b.joined("place", [self.places.at(value, coordinates, name) + whole], "+")
            for value, name in ((self.op.outputs[0], "init"), (self.op.results[0], "out"))
        )
        initial = b.assign("initial", f"tl.load({init}, mask={mask}, other=0)")
        b.lines.append(f"tl.store({out}, {b.assign('result', self.total(initial))}, mask={mask})")

    def total(self, initial: str) -> str:
        if self.element == f32:
            return f"{initial} + acc"
        if self.element == i1:
            return f"({initial} != 0) ^ ((acc & 1) != 0)"
        return f"({initial} + acc).to({dtype_of(self.element, self.op)})"

    def widened(self, text: str, factor: Factor) -> str:
        """An operand as sums are kept."""
        if self.element == f32:
            return text
        before, dtype = tensor(factor.value).element_type, sum_dtype(self.element)
        if before == i1 and factor.widening is arith.ExtSIOp:
            return self.builder.assign("wide", f"0 - {text}.to({dtype})")
        if factor.widening is arith.ExtUIOp and before != i1:
            text = f"{text}.to(tl.uint{width_of(before)}, bitcast=True)"
        return self.builder.assign("wide", f"{text}.to({dtype})")


def sum_dtype(element: Attribute) -> str:
    """What sums are kept in; those of narrow integers are taken modulo their width at the end."""
    return "tl.float32" if element == f32 else "tl.int64" if element == i64 else "tl.int32"
