"""`linalg` that computes, and calls."""

from __future__ import annotations

from collections.abc import Callable

from sterna.testing.drawing import Drawing, Shape, Type, Value
from sterna.testing.recipes.elementwise import affine_map, generic_text
from sterna.testing.recipes.regions import body

COMBINE = {
    "f32": ("arith.addf", "arith.maximumf", "arith.minimumf", "arith.mulf"),
    "i32": (
        "arith.addi",
        "arith.maxsi",
        "arith.minsi",
        "arith.andi",
        "arith.ori",
        "arith.xori",
        "arith.muli",
    ),
}
REGION_ELEMENTS = ("f32", "i32", "i1")


def reduce(to: Drawing) -> None:
    x = to.tensor(tuple(COMBINE), (1, 3))
    element = x.type.element
    reduced = [axis for axis in range(len(x.shape)) if to.flag()] or [len(x.shape) - 1]
    kept = Type(element, tuple(size for axis, size in enumerate(x.shape) if axis not in reduced))
    init = to.value(kept)
    combine = to.choose(*COMBINE[element])
    a, b, c = (to.name("r") for _ in range(3))
    to.emit(
        f"linalg.reduce ins({x}:{x.type}) outs({init}:{kept}) dimensions = {reduced}\n"
        f"  ({a}: {element}, {b}: {element}) {{\n    {c} = {combine} {a}, {b} : {element}\n"
        f"    linalg.yield {c} : {element}\n  }}",
        kept,
    )


def matmul(to: Drawing) -> None:
    a = to.tensor(("f32", "i32"), (2, 2), where=lambda shape: shape[-1] is not None)
    n = to.size()
    b = to.value(Type(a.type.element, (a.shape[1], n)))
    out = to.value(Type(a.type.element, (a.shape[0], n)))
    to.emit(
        f"linalg.matmul ins({a}, {b} : {a.type}, {b.type}) outs({out} : {out.type}) -> {out.type}", out.type
    )


def generic(to: Drawing, indices: bool = False) -> None:
    """Parallel loops over operands that depend on some of the loops each."""
    shape: Shape = to.shape((1, 3))
    loops = len(shape)
    reads: list[tuple[int, ...]] = []
    values: list[Value] = []
    for _ in range(to.integer(1, 3)):
        read = tuple(n for n in range(loops) if not to.flag())
        if len(read) > 1 and to.flag():
            read = (read[-1], *read[:-1])
        reads.append(read)
        values.append(to.value(Type(to.choose("f32", "i32", "i1"), tuple(shape[n] for n in read))))
    elements = (*REGION_ELEMENTS, "i64") if indices else REGION_ELEMENTS
    type = Type("i64" if indices else to.choose("f32", "i32", "i1"), shape)
    out = to.empty(type)
    names = [to.name("r") for _ in (*values, out)]
    scalars = [(name, value.type.element) for name, value in zip(names, values, strict=False)]
    region = body(
        to, scalars, [type.element], elements, terminator="linalg.yield", indices=loops if indices else 0
    )
    to.emit(f"{generic_text(values, out, reads, names)}{region}  }} -> {type}", type)


def index(to: Drawing) -> None:
    generic(to, indices=True)


def contraction(to: Drawing) -> None:
    """Products summed over one loop, the last, for batches of matrices in any order of axes."""
    element = to.choose("f32", "i32")
    narrow = to.choose("i8", "i32") if element == "i32" else element
    shape, k = to.shape((0, 3)), to.size()
    loops = len(shape) + 1
    reads: list[tuple[int, ...]] = []
    values: list[Value] = []
    for _ in range(2):
        read = (*(n for n in range(loops - 1) if not to.flag()), loops - 1)
        if len(read) > 1 and to.flag():
            read = (read[-1], *read[:-1])
        reads.append(read)
        values.append(to.value(Type(narrow, tuple((*shape, k)[n] for n in read))))
    type = Type(element, shape)
    out = to.value(type)
    a, b, total, product, added = (to.name("r") for _ in range(5))
    wide = {a: a, b: b}
    lines: list[str] = []
    if narrow != element:
        for name in (a, b):
            wide[name] = to.name("r")
            lines.append(
                f"    {wide[name]} = {to.choose('arith.extsi', 'arith.extui')} {name} : {narrow} to {element}\n"
            )
    kind = "f" if element == "f32" else "i"
    maps = ", ".join(affine_map(loops, read) for read in (*reads, tuple(range(loops - 1))))
    kinds = ", ".join([*['"parallel"'] * (loops - 1), '"reduction"'])
    types = ", ".join(str(value.type) for value in values)
    to.emit(
        f"linalg.generic {{indexing_maps = [{maps}], iterator_types = [{kinds}]}}\n"
        f"  ins({values[0]}, {values[1]} : {types}) outs({out} : {type}) {{\n"
        f"  ^bb0({a} : {narrow}, {b} : {narrow}, {total} : {element}):\n{''.join(lines)}"
        f"    {product} = arith.mul{kind} {wide[a]}, {wide[b]} : {element}\n"
        f"    {added} = arith.add{kind} {total}, {product} : {element}\n"
        f"    linalg.yield {added} : {element}\n  }} -> {type}",
        type,
    )


def loop(to: Drawing) -> None:
    """A counted loop, a few turns or T, that carries a tensor."""
    carried = to.tensor("f32")
    first, step = to.index(0), to.index(1)
    end = to.index(to.integer(0, 3)) if not to.flag() else to.rows()
    inner = to.nested()
    turn = Value(to.name("k"), Type("index"))
    state = Value(to.name("s"), carried.type)
    inner.values += [turn, state]
    other, combine = inner.value(carried.type), to.choose("arith.addf", "arith.mulf", "arith.maximumf")
    (after,) = inner.emit(f"{combine} {state}, {other} : {carried.type}", carried.type)
    to.emit(
        f"scf.for {turn} = {first} to {end} step {step} iter_args({state} = {carried}) -> ({carried.type}) {{\n"
        f"{inner.block([after])}    scf.yield {after} : {carried.type}\n  }}",
        carried.type,
    )


def choice(to: Drawing) -> None:
    """One of two tensors, computed only if it is the one."""
    condition, x = to.scalar("i1"), to.tensor("f32")
    branches: list[str] = []
    for _ in range(2):
        inner = to.nested()
        (y,) = inner.emit(f"{to.choose('arith.negf', 'math.absf')} {inner.value(x.type)} : {x.type}", x.type)
        branches.append(f"{{\n{inner.block([y])}    scf.yield {y} : {x.type}\n  }}")
    to.emit(f"scf.if {condition} -> ({x.type}) {branches[0]} else {branches[1]}", x.type)


def call(to: Drawing) -> None:
    """A private function of one operation or two."""
    from sterna.testing.recipes import RECIPES

    inner = Drawing(to.draw, to.limits, to.shared)
    plain = [
        name for name in RECIPES if name != "func.call" and name.startswith(("arith.", "math.", "linalg."))
    ]
    for _ in range(to.integer(1, 2)):
        RECIPES[to.choose(*plain)](inner)
    results = [value for value in reversed(inner.values) if value.type.is_tensor]
    if not results:
        results = [inner.argument(Type("f32", (None, 2)))]
    name = to.name("f")[1:]
    returned = [results[0]]
    to.shared.functions[name] = inner.function(name, returned, private=True)
    given = [to.value(argument.type) for argument in inner.arguments]
    types = ", ".join(str(value.type) for value in given)
    to.emit(
        f"func.call @{name}({', '.join(map(str, given))}) : ({types}) -> {returned[0].type}", returned[0].type
    )


RECIPES: dict[str, Callable[[Drawing], None]] = {
    "linalg.reduce": reduce,
    "linalg.matmul": matmul,
    "linalg.generic": generic,
    "linalg.index": index,
    "contraction": contraction,
    "scf.for": loop,
    "scf.if": choice,
    "func.call": call,
}
