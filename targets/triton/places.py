"""Where the elements of a tensor lie, as text of a kernel: coordinates from numbers, addresses from coordinates."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import i1, i8
from xdsl.ir import Operation, SSAValue

from sterna.dialects.layout import I8_ROW_BYTES, ROW_ELEMENTS
from sterna.dialects.ternary import tensor as type_of
from sterna.targets.triton.kernel import LONG, Builder, Shape, element, product_text

Sizes = Sequence[int | None]
"""Of the axes of a tensor; None is T."""


class Places:
    """Of the tensors that the kernel of an operation reads and writes."""

    whole = ""
    """What is added to the address of a scalar, so that as many are loaded as a program has elements."""

    def __init__(self, op: Operation, builder: Builder) -> None:
        self.op, self.builder = op, builder

    def size_text(self, sizes: Sizes) -> str:
        """How many elements such axes have."""
        return product_text(sizes, self.builder.rows() if None in sizes else "rows")

    def coordinates(self, number: str, sizes: Sizes, name: str = "i") -> list[str]:
        """Where the element of that number, a name, in row-major order, stands along each axis."""
        found: list[str] = []
        for axis, size in enumerate(sizes):
            inner = self.size_text(sizes[axis + 1 :])
            inner = inner if inner.isalnum() else f"({inner})"
            text = number if inner == "1" else f"{number} // {inner}"
            if axis:
                text += f" % {self.builder.rows() if size is None else size}"
            found.append(self.builder.assign(name, text))
        return found

    def at(self, value: SSAValue, coordinates: Sequence[str], name: str = "x") -> str:
        """The address of an element, as `dialects/layout.py` has it."""
        pointer = self.builder.pointer(value, name, self.op)
        shape = Shape.of(value)
        if not shape.sizes:
            return pointer
        row = str(shape.row) if shape.row is not None else self.padded_rows(value)
        terms = [coordinates[-1]] if coordinates[-1] != "0" else []
        for axis in range(len(shape.sizes) - 1):
            if coordinates[axis] == "0":
                continue
            between = self.size_text(shape.sizes[axis + 1 : -1])
            stride = row if between == "1" else f"({row} * {between})"
            terms.append(f"{coordinates[axis]} * {stride}")
        return f"{pointer} + {self.builder.joined('place', terms, '+')}" if terms else pointer

    def padded_rows(self, value: SSAValue) -> str:
        """Elements from one row to the next where a row is T long."""
        multiple = I8_ROW_BYTES if element(value, self.op) == i8 else ROW_ELEMENTS
        return f"(({self.builder.rows()} + {multiple - 1}) // {multiple} * {multiple})"

    def load(
        self, value: SSAValue, coordinates: Sequence[str], *, mask: str = "inside", name: str = "x"
    ) -> str:
        """An element, as a name; zero where the mask is not set."""
        address = self.at(value, coordinates, name)
        if len(address) + len(mask) > LONG:
            address = self.builder.assign("place", address)
            mask = mask if mask.isidentifier() else self.builder.assign("known", mask)
        masked = f", mask={mask}, other=0" if Shape.of(value).sizes else ""
        address += "" if Shape.of(value).sizes else self.whole
        text = f"tl.load({address}{masked})"
        if type_of(value).element_type == i1:
            text += " != 0"
        return self.builder.assign("element", text)


def all_of(b: Builder, conditions: Sequence[str]) -> str:
    """Whether all conditions hold, each of which is in parentheses."""
    return b.joined("within", conditions, "&") if len(conditions) > 1 else conditions[0][1:-1]
