"""Random well-typed programs over everything that `docs/ir.md` accepts, with the numbers of their weights.

    @given(st.data())
    def test_my_pass(data):
        program = data.draw(ir_modules())
        inputs = data.draw(inputs_of(program.module))
        ...

A program is a handful of operations, each drawn by its recipe (`recipes/`), less what no result needs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.context import parse
from sterna.dialects.elements import truncated_to_bfloat16
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.weights import ArrayStore
from sterna.testing import arrays
from sterna.testing.arrays import Array
from sterna.testing.drawing import TRIT, Drawing, Limits, Value, Weight
from sterna.testing.recipes import ALL
from sterna.testing.source import array_source

STOP = 8
"""One in so many steps is the last."""
MOST_RESULTS = 6

ROWS = Limits(ranks=(2, 2), dynamic="leading", integers=("i32",), sizes=(2, 3, 8, 17, 33))
"""Rows of floats: the programs that a MatMul-free language model is made of."""
ROW_OPS = (
    "arith.addf",
    "arith.subf",
    "arith.mulf",
    "arith.divf",
    "arith.maximumf",
    "arith.minimumf",
    "arith.negf",
    "math.absf",
    "math.sqrt",
    "math.rsqrt",
    "math.exp",
    "ternary.rms_norm",
    "ternary.scan",
    "ternary.embedding",
    "ternary.rotate",
    "ternary.attention",
    "bit-linear",
    "gated",
    "sigmoid",
    "row-for-all",
)
"""And their operations, for `ir_modules(ROW_OPS, limits=ROWS)`: every target compiles these."""


@dataclass(frozen=True, repr=False)
class IrProgram:
    """IR text and the numbers of its weights."""

    text: str
    weights: Mapping[str, Array]

    @cached_property
    def module(self) -> ModuleOp:
        """Parsed and verified. Passes change a module in place: give them `.module.clone()`."""
        return parse(self.text)

    @property
    def store(self) -> ArrayStore:
        return ArrayStore(dict(self.weights))

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """What the interpreter makes of it."""
        return ModuleInterpreter(self.module, self.store).run(inputs)

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name!r}: {array_source(array)}" for name, array in self.weights.items())
        return f'IrProgram("""\n{self.text}\n""", {{{numbers}}})'


@st.composite
def ir_modules(
    draw: st.DrawFn, ops: Collection[str] | None = None, *, limits: Limits | None = None, max_ops: int = 8
) -> IrProgram:
    """A program of some of these operations (names as in the IR, or an idiom of `recipes/idioms.py`); all by default.

    It has one public function, `@forward`, whose results are tensors.
    """
    names = tuple(name for name in ALL if ops is None or name in ops)
    unknown = set(ops or ()) - set(ALL)
    assert not unknown, f"no recipe draws {', '.join(sorted(unknown))}"
    drawing = Drawing(draw, limits or Limits())
    for n in range(max_ops):
        if not draw(_step(drawing, names, first=n == 0)):
            break
    return finish(draw, drawing)


@st.composite
def _step(draw: st.DrawFn, drawing: Drawing, names: tuple[str, ...], *, first: bool) -> bool:
    """One operation, or the end; a choice of its own, so that shrinking drops operations whole."""
    if not first and draw(st.integers(0, STOP - 1)) == 0:
        return False
    ALL[draw(st.sampled_from(names))](drawing)
    return True


def finish(draw: st.DrawFn, drawing: Drawing) -> IrProgram:
    """The program of what was drawn: the last value is a result, and what no result needs is left out."""
    states = {value for pair in drawing.states for value in pair}
    last = drawing.values[-1]
    if not last.type.is_tensor:
        # The result is a tensor of the scalar.
        one = replace(last.type, shape=(1,))
        drawing.emit(f"tensor.from_elements {last} : {one}", one)
    made = [value for value in reversed(drawing.values) if _is_result(value) and value not in states]
    read = {name for line in drawing.lines for name in line.reads}
    unread = [value for value in made if str(value) not in read and value not in drawing.arguments]
    chosen = unread[:MOST_RESULTS] if unread and draw(st.booleans()) else made[:1]
    forward = drawing.function("forward", chosen)
    functions = [text for name, text in drawing.shared.functions.items() if f"@{name}(" in forward]
    body = "\n".join([forward, *functions])
    weights = _weights_of(body, drawing.shared.weights)
    text = "\n".join([*(weight.text for weight in weights), body])
    numbers = {weight.name: draw(weight_numbers(weight)) for weight in weights if not weight.body}
    return IrProgram(text, numbers)


def _is_result(value: Value) -> bool:
    return value.type.is_tensor and value.type.element != TRIT


def _weights_of(body: str, weights: Mapping[str, Weight]) -> list[Weight]:
    """The weights that the functions load, and those that these are derived from."""
    loaded = [weight for weight in weights.values() if f"@{weight.name} :" in body]
    sources = {name for weight in loaded for name in weight.reads}
    return [weight for weight in weights.values() if weight in loaded or weight.name in sources]


def weight_numbers(weight: Weight) -> st.SearchStrategy[Array]:
    """Numbers for a stored weight."""
    shape = tuple(size or 0 for size in weight.type.axes)
    match weight.kind:
        case "trits":
            return arrays.ternary_weights(shape)
        case "ternary":
            return arrays.ternary_weights(shape).flatmap(arrays.scaled)
        case "integers":
            return arrays.integers(shape, "int32")
        case _ if weight.type.element == "f16":
            return arrays.activations(shape).map(arrays.to_half)
        case _ if weight.type.element == "bf16":
            return arrays.activations(shape).map(truncated_to_bfloat16)
        case _:
            return arrays.activations(shape)
