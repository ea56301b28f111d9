"""`arith` and `math`: one row of a table for every operation, on tensors as a whole and on scalars in regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from xdsl.dialects import arith

from sterna.testing.drawing import Drawing, Type, Value

INTEGERS = ("i1", "i8", "i16", "i32", "i64")
WIDE = ("i8", "i16", "i32", "i64")


@dataclass(frozen=True)
class Elementwise:
    """An operation on every element. Elements are types, or `int` and `wide` for the same integer in all places."""

    name: str
    operands: tuple[str, ...]
    result: str
    form: str = "same"
    """How it is written: `same` (one type), `cast` (from, to), `compare` (a predicate first)."""
    reads_bits: bool = False
    """It tells one NaN from another, so its operands are numbers that came in or that are no NaN."""
    scalars_only: bool = False
    """Upstream has it on scalars alone, so tensors have it in the region of a `linalg.generic`."""

    def elements(self, to: Drawing, allowed: Sequence[str] | None = None) -> tuple[tuple[str, ...], str]:
        """The element types of operands and result, where the table leaves a choice."""
        pool = [each for each in INTEGERS if each in (allowed or to.limits.integers)]
        match self.form:
            case "extend":
                narrow, wide = to.choose(*_pairs(pool))
                return (narrow,), wide
            case "truncate":
                narrow, wide = to.choose(*_pairs(pool))
                return (wide,), narrow
            case _:
                choices = [each for each in pool if each != "i1"] if self._mentions("wide") else pool
                integer = to.choose(*choices) if choices else "i32"
                fill = {"int": integer, "wide": integer}
                return tuple(fill.get(each, each) for each in self.operands), fill.get(
                    self.result, self.result
                )

    def _mentions(self, element: str) -> bool:
        return element in (*self.operands, self.result)

    def text(self, to: Drawing, values: Sequence[str], types: Sequence[Type], result: Type) -> str:
        operands = ", ".join(values)
        match self.form:
            case "cast" | "extend" | "truncate":
                return f"{self.name} {operands} : {types[0]} to {result}"
            case "compare":
                names = (
                    arith.CMPF_COMPARISON_OPERATIONS
                    if self.name.endswith("f")
                    else arith.CMPI_COMPARISON_OPERATIONS
                )
                return f"{self.name} {to.choose(*names)}, {operands} : {types[0]}"
            case _:
                return f"{self.name} {operands} : {result}"


def _pairs(pool: Sequence[str]) -> list[tuple[str, str]]:
    return [(a, b) for n, a in enumerate(pool) for b in pool[n + 1 :]]


def fits(op: Elementwise, elements: Sequence[str]) -> bool:
    """Can the operation be drawn from these element types alone?"""
    integers = [each for each in elements if each in INTEGERS]
    if op.form in ("extend", "truncate"):
        return len(integers) > 1
    known = {"int": bool(integers), "wide": any(each in WIDE for each in integers)}
    return all(known.get(each, each in elements) for each in (*op.operands, op.result))


def _table() -> dict[str, Elementwise]:
    same: dict[tuple[str, ...], tuple[str, ...]] = {
        ("f32", "f32"): ("addf", "subf", "mulf", "divf", "maximumf", "minimumf", "maxnumf", "minnumf"),
        ("int", "int"): ("addi", "subi", "muli", "andi", "ori", "xori"),
        ("wide", "wide"): (
            *("minsi", "maxsi", "shli", "shrsi", "shrui", "divsi", "remsi", "floordivsi"),
            *("minui", "maxui", "divui", "remui"),
        ),
    }
    functions = (
        *("absf", "sqrt", "rsqrt", "floor", "ceil", "trunc", "round", "roundeven"),
        *("exp", "log", "tanh", "erf", "sin", "cos"),
    )
    rows = [
        *(Elementwise(f"arith.{name}", types, types[0]) for types, names in same.items() for name in names),
        *(Elementwise(f"math.{name}", ("f32",), "f32") for name in functions),
        Elementwise("arith.negf", ("f32",), "f32"),
        Elementwise("math.absi", ("wide",), "wide"),
        Elementwise("math.powf", ("f32", "f32"), "f32"),
        Elementwise("math.fma", ("f32", "f32", "f32"), "f32"),
        Elementwise("math.copysign", ("f32", "f32"), "f32", reads_bits=True),
        Elementwise("arith.cmpf", ("f32", "f32"), "i1", "compare", scalars_only=True),
        Elementwise("arith.cmpi", ("wide", "wide"), "i1", "compare", scalars_only=True),
        Elementwise("arith.select", ("i1", "f32", "f32"), "f32", scalars_only=True),
        Elementwise("arith.sitofp", ("wide",), "f32", "cast", scalars_only=True),
        Elementwise("arith.uitofp", ("int",), "f32", "cast", scalars_only=True),
        Elementwise("arith.fptosi", ("f32",), "wide", "cast", scalars_only=True),
        Elementwise("arith.fptoui", ("f32",), "wide", "cast", scalars_only=True),
        Elementwise("arith.extf", ("f16",), "f32", "cast"),
        Elementwise("arith.truncf", ("f32",), "f16", "cast"),
        Elementwise("arith.bitcast", ("f32",), "i32", "cast", reads_bits=True),
        Elementwise("arith.extsi", ("int",), "int", "extend", scalars_only=True),
        Elementwise("arith.extui", ("int",), "int", "extend", scalars_only=True),
        Elementwise("arith.trunci", ("int",), "int", "truncate", scalars_only=True),
    ]
    return {row.name: row for row in rows}


ELEMENTWISE = _table()


def on_tensors(op: Elementwise, to: Drawing) -> None:
    """The operation on tensors of one shape."""
    elements, result = op.elements(to)
    first = _operand(to, op, elements[0])
    values = [first, *(_like(to, op, Type(each, first.shape)) for each in elements[1:])]
    type = Type(result, first.shape)
    to.emit(op.text(to, [str(value) for value in values], [value.type for value in values], type), type)


def _operand(to: Drawing, op: Elementwise, element: str) -> Value:
    return to.argument(Type(element, to.shape())) if op.reads_bits else to.tensor(element)


def _like(to: Drawing, op: Elementwise, type: Type) -> Value:
    return to.argument(type) if op.reads_bits else to.value(type)


def in_generic(op: Elementwise, to: Drawing) -> None:
    """The operation on tensors of one shape, as importers write what upstream has on scalars alone."""
    elements, result = op.elements(to)
    first = to.tensor(elements[0])
    values = [first, *(to.value(Type(each, first.shape)) for each in elements[1:])]
    type = Type(result, first.shape)
    out = to.empty(type)
    names = [to.name("r") for _ in (*elements, result, result)]
    types = [Type(each) for each in elements]
    to.emit(
        generic_text(values, out, [tuple(range(len(first.shape)))] * len(values), names[:-1])
        + f"    {names[-1]} = {op.text(to, names[: len(elements)], types, Type(result))}\n"
        f"    linalg.yield {names[-1]} : {result}\n  }} -> {type}",
        type,
    )


def generic_text(
    values: Sequence[Value], out: Value, reads: Sequence[tuple[int, ...]], names: Sequence[str]
) -> str:
    """A `linalg.generic` up to and with the header of its region, whose arguments have these names.

    Its loops are the axes of `out`; operand n runs along the loops `reads[n]`.
    """
    loops = tuple(range(len(out.shape)))
    maps = ", ".join(affine_map(len(loops), read) for read in (*reads, loops))
    kinds = ", ".join(['"parallel"'] * len(loops))
    header = ", ".join(
        f"{name} : {value.type.element}" for name, value in zip(names, (*values, out), strict=True)
    )
    types = ", ".join(str(value.type) for value in values)
    ins = f"ins({', '.join(map(str, values))} : {types}) " if values else ""
    return (
        f"linalg.generic {{indexing_maps = [{maps}], iterator_types = [{kinds}]}}\n"
        f"  {ins}outs({out} : {out.type}) {{\n  ^bb0({header}):\n"
    )


def affine_map(loops: int, read: Sequence[int]) -> str:
    names = [f"d{n}" for n in range(loops)]
    return f"affine_map<({', '.join(names)}) -> ({', '.join(names[n] for n in read)})>"


def select(to: Drawing) -> None:
    """Element by element, or whole tensors by one scalar."""
    if not to.flag():
        in_generic(ELEMENTWISE["arith.select"], to)
        return
    condition, a = to.scalar("i1"), to.tensor("f32")
    b = to.value(a.type)
    to.emit(f"arith.select {condition}, {a}, {b} : {a.type}", a.type)


def index_cast(to: Drawing) -> None:
    (number,) = to.emit(f"arith.index_cast {to.rows()} : index to i64", Type("i64"))
    to.emit(f"arith.index_cast {number} : i64 to index", Type("index"))


def constant(to: Drawing) -> None:
    """A dense list of numbers."""
    element, count = to.choose("f32", "i32", "i64"), to.integer(1, 4)
    numbers = ", ".join(
        to.literal(element) if element != "f32" else f"{to.integer(-9, 9)}.5" for _ in range(count)
    )
    type = Type(element, (count,))
    to.emit(f"arith.constant dense<[{numbers}]> : {type}", type)


RECIPES: dict[str, Callable[[Drawing], None]] = {
    **{name: partial(in_generic if op.scalars_only else on_tensors, op) for name, op in ELEMENTWISE.items()},
    "arith.index_cast": index_cast,
    "arith.select": select,
    "arith.constant": constant,
}
