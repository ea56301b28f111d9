"""Any program of the IR, of any rank and with T anywhere, gives the interpreter's bits on the CPU target."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp

import sterna
from sterna.dialects.context import make_context, parse
from sterna.dialects.interpreter import run
from sterna.in_memory import load_planned
from sterna.passes.plan_memory import PlanMemoryPass
from sterna.targets import Executable
from sterna.targets.cpu.isa import best_isa
from tests.cpu_programs import same_bits

Array = npt.NDArray[Any]

MAX_ROWS = 5
SIZES = (0, 2, 3, 4, 17, "?")
DTYPES = {"i1": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64, "f32": np.float32}
INTEGERS = ("i8", "i16", "i32", "i64")
SPECIAL = (0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 3e38, 0.5, 1.5, 2.5)

Size = int | str


@dataclass(frozen=True)
class Value:
    name: str
    shape: tuple[Size, ...]
    element: str

    @property
    def type(self) -> str:
        return f"tensor<{'x'.join([*map(str, self.shape), self.element])}>"


@dataclass
class Writer:
    """A program in the making: its inputs, its lines, and the values that it has."""

    inputs: list[Value]
    values: list[Value] = field(default_factory=list[Value])
    lines: list[str] = field(default_factory=list[str])
    numbers: Any = field(default_factory=count)

    def __post_init__(self) -> None:
        self.values += self.inputs
        named = next(value for value in self.inputs if "?" in value.shape)
        axis = named.shape.index("?")
        self.lines += [
            "%zero = arith.constant 0 : index",
            "%one = arith.constant 1 : index",
            f"%axis = arith.constant {axis} : index",
            f"%T = tensor.dim {named.name}, %axis : {named.type}",
        ]

    def line(self, text: str, shape: tuple[Size, ...], element: str) -> Value:
        value = Value(f"%v{next(self.numbers)}", shape, element)
        self.lines.append(f"{value.name} = {text}")
        self.values.append(value)
        return value

    def filled(self, shape: tuple[Size, ...], element: str, number: str) -> Value:
        name = f"%c{next(self.numbers)}"
        self.lines.append(f"{name} = {constant(element, number)}")
        sizes = ", ".join("%T" for size in shape if size == "?")
        value = Value(f"%s{next(self.numbers)}", shape, element)
        self.lines.append(f"{value.name} = tensor.splat {name}[{sizes}] : {value.type}")
        return value

    def text(self, returned: list[Value]) -> str:
        arguments = ", ".join(f"{value.name} : {value.type}" for value in self.inputs)
        types = ", ".join(value.type for value in returned)
        body = "\n  ".join(self.lines)
        names = ", ".join(value.name for value in returned)
        return (
            f"func.func @forward({arguments}) -> ({types}) {{\n  {body}\n  func.return {names} : {types}\n}}"
        )


def constant(element: str, number: str) -> str:
    return f"arith.constant {number}" + ("" if element == "i1" else f" : {element}")


def zero(element: str) -> str:
    return "0.0" if element == "f32" else "false" if element == "i1" else "0"


def maps_of(*maps: str, loops: int) -> str:
    domain = ", ".join(f"d{n}" for n in range(loops))
    return ", ".join(f"affine_map<({domain}) -> ({map})>" for map in maps)


def loops_text(shape: tuple[Size, ...]) -> str:
    return ", ".join(f"d{n}" for n in range(len(shape)))


def generic(
    writer: Writer, inputs: list[tuple[Value, str]], out: Value, kinds: list[str], body: str, result: str
) -> None:
    arguments = ", ".join(f"%a{n} : {value.element}" for n, (value, _) in enumerate(inputs))
    maps = maps_of(*(map for _, map in inputs), result, loops=len(kinds))
    names, types = ", ".join(v.name for v, _ in inputs), ", ".join(v.type for v, _ in inputs)
    listed = ", ".join(f'"{kind}"' for kind in kinds)
    value = Value(f"%v{next(writer.numbers)}", out.shape, out.element)
    writer.lines.append(
        f"{value.name} = linalg.generic {{indexing_maps = [{maps}], iterator_types = [{listed}]}} "
        f"ins({names} : {types}) outs({out.name} : {out.type}) {{\n"
        f"  ^bb0({arguments}, %out : {out.element}):\n  {body}\n  }} -> {out.type}"
    )
    writer.values.append(value)


UNARY = {
    "f32": ("math.absf", "math.sqrt", "math.floor", "math.ceil", "math.roundeven", "arith.negf", "math.exp"),
}
BINARY = {
    "f32": ("addf", "subf", "mulf", "divf", "maximumf", "minnumf"),
    **dict.fromkeys(
        INTEGERS,
        ("addi", "muli", "subi", "divsi", "remsi", "floordivsi", "divui", "shli", "shrsi", "maxsi", "xori"),
    ),
    "i1": ("andi", "ori", "xori", "addi", "maxsi"),
}


@st.composite
def elementwise(draw: st.DrawFn, writer: Writer) -> None:
    """One or two operands, the second of a shape that broadcasts or is transposed, and a cast or a comparison."""
    x = draw(st.sampled_from(writer.values))
    result = loops_text(x.shape)
    alike = [v for v in writer.values if v.element == x.element and fits(v.shape, x.shape) is not None]
    y = draw(st.sampled_from(alike))
    kept = fits(y.shape, x.shape)
    assert kept is not None
    inputs = [(x, result), (y, ", ".join(f"d{axis}" for axis in kept))]
    name = draw(st.sampled_from(BINARY[x.element]))
    body = f"%b = arith.{name} %a0, %a1 : {x.element}\n"
    element, last = x.element, "%b"
    match draw(st.sampled_from(("plain", "cast", "compare", "number"))):
        case "cast" if x.element == "f32":
            element = draw(st.sampled_from(INTEGERS))
            body += f"  %c = arith.{draw(st.sampled_from(('fptosi', 'fptoui')))} %b : f32 to {element}\n"
            last = "%c"
        case "cast":
            element = "f32"
            body += f"  %c = arith.{draw(st.sampled_from(('sitofp', 'uitofp')))} %b : {x.element} to f32\n"
            last = "%c"
        case "compare" if x.element == "f32":
            element, last = "i1", "%c"
            body += (
                f"  %c = arith.cmpf {draw(st.sampled_from(('ogt', 'ueq', 'une', 'ole')))}, %b, %a1 : f32\n"
            )
        case "compare":
            element, last = "i1", "%c"
            predicate = draw(st.sampled_from(("slt", "uge", "eq")))
            body += f"  %c = arith.cmpi {predicate}, %b, %a1 : {x.element}\n"
        case "number" if x.shape and x.element in ("i32", "i64"):
            body += (
                f"  %i = linalg.index {len(x.shape) - 1} : index\n"
                f"  %j = arith.index_cast %i : index to {x.element}\n  %c = arith.addi %b, %j : {x.element}\n"
            )
            last = "%c"
        case _:
            pass
    out = writer.filled(x.shape, element, zero(element))
    body += f"  linalg.yield {last} : {element}"
    generic(writer, inputs, out, ["parallel"] * len(x.shape), body, result)


def fits(small: tuple[Size, ...], large: tuple[Size, ...]) -> list[int] | None:
    """Axes of `large`, from the last on, that those of `small` may follow."""
    axes: list[int] = []
    for size in small:
        found = next((n for n in reversed(range(len(large))) if large[n] == size and n not in axes), None)
        if found is None:
            return None
        axes.append(found)
    return axes


@st.composite
def unary(draw: st.DrawFn, writer: Writer) -> None:
    floats = [value for value in writer.values if value.element == "f32"]
    if floats:
        x = draw(st.sampled_from(floats))
        writer.line(f"{draw(st.sampled_from(UNARY['f32']))} {x.name} : {x.type}", x.shape, "f32")


@st.composite
def reduction(draw: st.DrawFn, writer: Writer) -> None:
    ranked = [value for value in writer.values if value.shape]
    if not ranked:
        return
    x = draw(st.sampled_from(ranked))
    axes = sorted(draw(st.sets(st.integers(0, len(x.shape) - 1), min_size=1)))
    kept = tuple(size for n, size in enumerate(x.shape) if n not in axes)
    names = {"f32": ("addf", "mulf", "maximumf"), "i1": ("andi", "ori")}.get(
        x.element, ("addi", "maxsi", "muli")
    )
    init = writer.filled(
        kept, x.element, "1.5" if x.element == "f32" else "true" if x.element == "i1" else "1"
    )
    writer.line(
        f"linalg.reduce ins({x.name}:{x.type}) outs({init.name}:{init.type}) dimensions = {axes}\n"
        f"  (%a: {x.element}, %b: {x.element}) {{\n  %c = arith.{draw(st.sampled_from(names))} %a, %b : {x.element}\n"
        f"  linalg.yield %c : {x.element}\n  }}",
        kept,
        x.element,
    )


@st.composite
def contraction(draw: st.DrawFn, writer: Writer) -> None:
    """A product over an axis that two tensors share; a second shared one is a batch."""
    numbers = [value for value in writer.values if value.shape and value.element in ("f32", "i32", "i8")]
    if not numbers:
        return
    x = draw(st.sampled_from(numbers))
    partners = [v for v in numbers if v.element == x.element and set(v.shape) & set(x.shape)]
    y = draw(st.sampled_from(partners))
    shared = draw(st.sampled_from(sorted(set(x.shape) & set(y.shape), key=str)))
    k = (x.shape.index(shared), y.shape.index(shared))
    loops: list[Size] = [size for n, size in enumerate(x.shape) if n != k[0]]
    left = ["k" if n == k[0] else f"d{n - (n > k[0])}" for n in range(len(x.shape))]
    right: list[str] = []
    batches = {size: n for n, size in enumerate(loops)} if draw(st.booleans()) else {}
    for n, size in enumerate(y.shape):
        if n == k[1]:
            right.append("k")
        elif size in batches:
            right.append(f"d{batches.pop(size)}")
        else:
            right.append(f"d{len(loops)}")
            loops.append(size)
    if len(loops) > 4:
        return
    element = "i32" if x.element == "i8" else x.element
    widen = (
        "  %p = arith.extsi %a0 : i8 to i32\n  %q = arith.extui %a1 : i8 to i32\n"
        if x.element == "i8"
        else ""
    )
    a, b = ("%p", "%q") if widen else ("%a0", "%a1")
    times, plus = ("mulf", "addf") if element == "f32" else ("muli", "addi")
    body = (
        f"{widen}  %m = arith.{times} {a}, {b} : {element}\n  %n = arith.{plus} %out, %m : {element}\n"
        f"  linalg.yield %n : {element}"
    )
    order = draw(st.permutations(range(len(loops))))
    out = writer.filled(tuple(loops[n] for n in order), element, zero(element))
    names = [", ".join(each).replace("k", f"d{len(loops)}") for each in (left, right)]
    kinds = ["parallel"] * len(loops) + ["reduction"]
    generic(writer, [(x, names[0]), (y, names[1])], out, kinds, body, ", ".join(f"d{n}" for n in order))


@st.composite
def movement(draw: st.DrawFn, writer: Writer) -> None:
    ranked = [value for value in writer.values if value.shape]
    if not ranked:
        return
    x = draw(st.sampled_from(ranked))
    rank = len(x.shape)
    match draw(
        st.sampled_from(("transpose", "concat", "pad", "slice", "insert", "collapse", "gather", "top_k"))
    ):
        case "transpose":
            order = draw(st.permutations(range(rank)))
            out = writer.filled(tuple(x.shape[n] for n in order), x.element, zero(x.element))
            writer.line(
                f"linalg.transpose ins({x.name}:{x.type}) outs({out.name}:{out.type}) permutation = {list(order)}",
                out.shape,
                x.element,
            )
        case "concat":
            axis = draw(st.integers(0, rank - 1))
            size = x.shape[axis]
            if isinstance(size, int) and size:
                shape = (*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
                result = Value("", shape, x.element).type
                operands = f"({x.type}, {x.type}) -> {result}"
                writer.line(f"tensor.concat dim({axis}) {x.name}, {x.name} : {operands}", shape, x.element)
        case "pad":
            low = [draw(st.integers(0, 2)) if isinstance(size, int) else 0 for size in x.shape]
            high = [draw(st.integers(1, 2)) if isinstance(size, int) else 0 for size in x.shape]
            padded = zip(x.shape, low, high, strict=True)
            shape = tuple(s + a + b if isinstance(s, int) else s for s, a, b in padded)
            if 1 not in shape:
                arguments = ", ".join(f"%i{n} : index" for n in range(rank))
                number = "2.5" if x.element == "f32" else "true" if x.element == "i1" else "7"
                result = Value("", shape, x.element).type
                writer.line(
                    f"tensor.pad {x.name} low{low} high{high} {{\n  ^bb0({arguments}):\n"
                    f"  %p = {constant(x.element, number)}\n  tensor.yield %p : {x.element}\n"
                    f"  }} : {x.type} to {result}",
                    shape,
                    x.element,
                )
        case "slice" | "insert" as what if all(isinstance(size, str) or size > 2 for size in x.shape):
            sizes = tuple(
                size if isinstance(size, str) else draw(st.integers(2, size - 1)) for size in x.shape
            )
            first = [0 if isinstance(size, str) else draw(st.integers(0, 1)) for size in x.shape]
            listed = f"{first} [{', '.join('%T' if s == '?' else str(s) for s in sizes)}] {[1] * rank}"
            part = Value("", sizes, x.element).type
            small = writer.line(
                f"tensor.extract_slice {x.name}{listed} : {x.type} to {part}", sizes, x.element
            )
            if what == "insert":
                moved = f"[{', '.join('0' for _ in first)}] {listed.split('] ', 1)[1]}"
                writer.line(
                    f"tensor.insert_slice {small.name} into {x.name}{moved} : {small.type} into {x.type}",
                    x.shape,
                    x.element,
                )
        case "collapse" if rank > 1 and isinstance(x.shape[-1], int) and isinstance(x.shape[-2], int):
            size = x.shape[-1] * x.shape[-2]
            groups = [[n] for n in range(rank - 2)] + [[rank - 2, rank - 1]]
            shape = (*x.shape[:-2], size)
            result = Value("", shape, x.element).type
            writer.line(f"tensor.collapse_shape {x.name} {groups} : {x.type} into {result}", shape, x.element)
        case "gather":
            indices = [value for value in writer.values if value.element in ("i32", "i64", "i8")]
            axis = draw(st.integers(0, rank - 1))
            if indices and x.shape[axis] not in (0, "?"):
                i = draw(st.sampled_from(indices))
                shape = (*x.shape[:axis], *i.shape, *x.shape[axis + 1 :])
                if len(shape) < 5:
                    result = Value("", shape, x.element).type
                    types = f"{x.type}, {i.type} -> {result}"
                    writer.line(
                        f"ternary.gather {x.name}, {i.name} axis = {axis} : {types}", shape, x.element
                    )
        case "top_k" if isinstance(x.shape[-1], int) and x.shape[-1] > 1 and x.element != "i1":
            shape = (*x.shape[:-1], 2)
            values, places = Value("", shape, x.element).type, Value("", shape, "i64").type
            order = draw(st.sampled_from(("largest", "smallest")))
            a, b = (
                Value(f"%v{next(writer.numbers)}", shape, x.element),
                Value(f"%v{next(writer.numbers)}", shape, "i64"),
            )
            writer.lines.append(
                f'{a.name}, {b.name} = ternary.top_k {x.name} k = 2 order = "{order}" : {x.type} -> {values}, {places}'
            )
            writer.values += [a, b]
        case _:
            pass


@st.composite
def loop(draw: st.DrawFn, writer: Writer) -> None:
    """Two tensors that change places, one of them added to, T times or three."""
    x = draw(st.sampled_from(writer.values))
    plus = {"f32": "addf", "i1": "xori"}.get(x.element, "addi")
    end = draw(st.sampled_from(("%T", "%end")))
    name = f"%v{next(writer.numbers)}"
    body = [
        f"%sum = arith.{plus} %s, %t : {x.type}",
        f"scf.yield {draw(st.sampled_from(('%t, %sum', '%sum, %t', '%t, %s', '%sum, %sum')))} : {x.type}, {x.type}",
    ]
    carried = f"iter_args(%s = {x.name}, %t = {x.name}) -> ({x.type}, {x.type})"
    joined = "\n    ".join(body)
    writer.lines.append(f"%end{name[1:]} = arith.constant 3 : index")
    bound = end if end == "%T" else f"%end{name[1:]}"
    writer.lines.append(
        f"{name}:2 = scf.for %i = %zero to {bound} step %one {carried} {{\n    {joined}\n  }}"
    )
    writer.values += [Value(f"{name}#0", x.shape, x.element), Value(f"{name}#1", x.shape, x.element)]


STEPS = (elementwise, elementwise, unary, reduction, contraction, movement, movement, loop)


@st.composite
def programs(draw: st.DrawFn) -> str:
    shapes = st.lists(st.sampled_from(SIZES), max_size=3).map(tuple)
    inputs = [Value("%x", (*draw(shapes), "?"), draw(st.sampled_from(tuple(DTYPES))))]
    inputs += [
        Value(f"%y{n}", draw(shapes), draw(st.sampled_from(tuple(DTYPES))))
        for n in range(draw(st.integers(0, 2)))
    ]
    writer = Writer(inputs)
    for _ in range(draw(st.integers(1, 6))):
        step = draw(
            st.sampled_from(
                (elementwise, elementwise, unary, reduction, contraction, movement, movement, loop)
            )
        )
        draw(step(writer))
    made = writer.values[len(inputs) :] or writer.values
    returned = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3))
    return writer.text([made[-1], *returned])


def array_of(type: Any, rows: int, generator: np.random.Generator) -> Array:
    shape = [rows if size < 0 else size for size in type.get_shape()]
    dtype = np.dtype(DTYPES[str(type.element_type)])
    if dtype == np.float32:
        values = (generator.standard_normal(shape) * generator.choice((1, 1e3, 1e20))).astype(np.float32)
        special = generator.random(shape) < 0.1
        return np.where(special, generator.choice(SPECIAL, shape), values).astype(np.float32)
    if dtype == np.bool_:
        return generator.random(shape) < 0.5
    low, high = (-5, 6) if generator.random() < 0.7 else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return generator.integers(low, high, shape, dtype)


def planned(module: ModuleOp) -> ModuleOp:
    copy = module.clone()
    PlanMemoryPass(MAX_ROWS).apply(make_context(), copy)
    copy.verify()
    return copy


def assert_equal_bits(executable: Executable, module: ModuleOp, rows: int, seed: int) -> None:
    entry: Any = next(iter(module.ops))
    generator = np.random.default_rng(seed)
    inputs = [array_of(type, rows, generator) for type in entry.function_type.inputs]
    with np.errstate(all="ignore"):
        expected = run(module, inputs)
    for number, (a, b) in enumerate(zip(executable.run(inputs), expected, strict=True)):
        assert same_bits(a, b), f"result {number} of T = {rows} on {executable.isa}: {a} != {b}"


EXAMPLES = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.mark.slow
@pytest.mark.parametrize("isa", sorted({"baseline", best_isa().name}))
@EXAMPLES
@given(text=programs(), seed=st.integers(0, 2**32), threads=st.integers(1, 3))
def test_any_program_unfused(isa: str, text: str, seed: int, threads: int) -> None:
    module = parse(text)
    if "math.exp" in text:
        return
    executable = load_planned(planned(module), isa=isa, threads=threads)
    for rows in (0, 1, MAX_ROWS):
        assert_equal_bits(executable, module, rows, seed)


@pytest.mark.slow
@EXAMPLES
@given(text=programs(), seed=st.integers(0, 2**32), threads=st.integers(1, 3))
def test_any_program_through_the_pipeline(text: str, seed: int, threads: int) -> None:
    module = parse(text)
    executable = sterna.jit(module, max_rows=MAX_ROWS, threads=threads)
    for rows in (0, 1, MAX_ROWS):
        assert_equal_bits(executable, module, rows, seed)


def test_functions_of_one_name_work_on_vectors_and_numbers() -> None:
    """A norm takes the root of a number, the elementwise operation beside it that of vectors."""
    x, g = "tensor<?x20xf32>", "tensor<20xf32>"
    module = parse(f"""
      func.func @forward(%x : {x}, %g : {g}) -> ({x}, {x}, {x}) {{
        %norm = ternary.rms_norm %x, %g eps = 1.0e-6 lanes = 16 : {x}, {g}
        %size = math.absf %x : {x}
        %root = math.sqrt %x : {x}
        func.return %norm, %size, %root : {x}, {x}, {x}
      }}""")
    assert_equal_bits(sterna.jit(module, max_rows=MAX_ROWS), module, 3, 0)
