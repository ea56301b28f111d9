"""Programs as text of the raised and folded stage: MatMul-free language models of any size, and parts of them.

Types only, no numbers: a store, random or not, holds those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.ternary import WeightOp
from sterna.dialects.weights import ArrayStore

Array = npt.NDArray[Any]

PIPELINE = (
    "ternarize",
    "fuse-norm-quantize",
    "fuse-projections",
    "fuse-elementwise",
    "expand-math",
    "choose-encodings",
    "outline-layers",
    "plan-memory",
)
SPECIAL = (0.0, -0.0, 1e-45, 1e-38, 3e38, np.inf, -np.inf, np.nan)
"""Kinds of floats that arithmetic treats in its own way."""

BITLINEAR_EPS = "1.0e-08"
NORM_EPS = "1.0e-06"


@dataclass
class RaisedProgram:
    """Writes one function, `@forward`, operation by operation. Values are rows `tensor<?xKxf32>` unless it is said."""

    weights: list[str] = field(default_factory=list[str], init=False)
    body: list[str] = field(default_factory=list[str], init=False)
    arguments: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]], init=False)
    _values: int = field(default=0, init=False)

    def argument(self, name: str, type: str) -> str:
        """A new argument; the first one says how many rows there are."""
        self.arguments.append((name, type))
        if len(self.arguments) == 1:
            self.body += ["%c0 = arith.constant 0 : index", f"%T = tensor.dim {name}, %c0 : {type}"]
        return name

    def function(self, results: list[tuple[str, str]], *, states: int = 0) -> str:
        """The text of the module, whose function returns these values of these types."""
        types = ", ".join(type for _, type in results)
        return "\n".join(
            [
                *self.weights,
                f"func.func @forward({', '.join(f'{name}: {type}' for name, type in self.arguments)})",
                f"  -> ({types}) attributes {{sterna.states = {states} : i64}} {{",
                *("  " + line for line in self.body),
                f"  func.return {', '.join(value for value, _ in results)} : {types}",
                "}\n",
            ]
        )

    def op(self, text: str) -> str:
        value = self.value()
        self.body.append(f"{value} = {text}")
        return value

    def value(self) -> str:
        self._values += 1
        return f"%v{self._values}"

    def load(self, name: str, type: str) -> str:
        return self.op(f"ternary.load @{name} : {type}")

    def vector(self, name: str, k: int) -> str:
        """A new weight `[K]`, and its value."""
        self.weights.append(f"ternary.weight @{name} : tensor<{k}xf32>")
        return self.load(name, f"tensor<{k}xf32>")

    def splat(self, number: float, k: int) -> str:
        scalar = self.op(f"arith.constant {number:.8e} : f32")
        return self.op(f"tensor.splat {scalar}[%T] : {rows(k)}")

    def broadcast(self, name: str, k: int) -> str:
        """A new weight `[K]`, the same in every row."""
        vector, empty = self.vector(name, k), self.op(f"tensor.empty(%T) : {rows(k)}")
        return self.op(
            f"linalg.broadcast ins({vector}:tensor<{k}xf32>) outs({empty}:{rows(k)}) dimensions = [0]"
        )

    def binary(self, name: str, a: str, b: str, k: int) -> str:
        return self.op(f"{name} {a}, {b} : {rows(k)}")

    def unary(self, name: str, a: str, k: int) -> str:
        return self.op(f"{name} {a} : {rows(k)}")

    def sigmoid(self, x: str, k: int) -> str:
        ones, e = self.splat(1.0, k), self.unary("math.exp", self.unary("arith.negf", x, k), k)
        return self.binary("arith.divf", ones, self.binary("arith.addf", ones, e, k), k)

    def silu(self, x: str, k: int) -> str:
        return self.binary("arith.mulf", x, self.sigmoid(x, k), k)

    def scan(self, f: str, i: str, state: str, k: int) -> tuple[str, str]:
        states, last = self.value(), self.value()
        self.body.append(f"{states}, {last} = ternary.scan {f}, {i}, {state} : {rows(k)}, tensor<{k}xf32>")
        return states, last

    def norm(self, x: str, name: str, k: int, eps: str = NORM_EPS) -> str:
        weight = self.vector(name, k)
        return self.op(f"ternary.rms_norm {x}, {weight} eps = {eps} lanes = 128 : {rows(k)}, tensor<{k}xf32>")

    def quantize(self, x: str, k: int) -> tuple[str, str]:
        q, step = self.value(), self.value()
        types = f"{rows(k)} -> {rows(k, 'i8')}, tensor<?xf32>"
        self.body.append(f"{q}, {step} = ternary.quantize {x} eps = 1.0e-05 : {types}")
        return q, step

    def bit_linear(self, x: str, name: str, k: int, m: int) -> str:
        """A norm, then int8 activations by ternary weights: rows of K to rows of M."""
        w, trits = f"tensor<{m}x{k}xf32>", f"tensor<{m}x{k}x!ternary.trit>"
        self.weights.append(f"ternary.weight @{name}.weight : {w}")
        for part, type, result in (("trits", trits, "%t"), ("scale", "tensor<f32>", "%s")):
            self.weights += [
                f"ternary.weight @{name}.{part} : {type} {{",
                f"  %w = ternary.load @{name}.weight : {w}",
                f"  %t, %s = ternary.absmean %w eps = 1.0e-05 : {w} -> {trits}, tensor<f32>",
                f"  ternary.yield {result} : {type}",
                "}",
            ]
        q, step = self.quantize(self.norm(x, f"{name}.norm", k, BITLINEAR_EPS), k)
        t, s = self.load(f"{name}.trits", trits), self.load(f"{name}.scale", "tensor<f32>")
        i32 = rows(m, "i32")
        acc = self.op(f"ternary.accumulate {q}, {t} : {rows(k, 'i8')}, {trits} -> {i32}")
        return self.op(
            f"ternary.dequantize {acc}, {step}, {s} : {i32}, tensor<?xf32>, tensor<f32> -> {rows(m)}"
        )

    def halves(self, x: str, k: int) -> tuple[str, str]:
        """The first and the second half of the columns of rows of 2K."""
        first, second = (
            self.op(f"tensor.extract_slice {x}[0, {at}] [%T, {k}] [1, 1] : {rows(2 * k)} to {rows(k)}")
            for at in (0, k)
        )
        return first, second


def rows(k: int, element: str = "f32") -> str:
    return f"tensor<?x{k}x{element}>"


@dataclass
class RaisedModel(RaisedProgram):
    """A MatMul-free LM (arXiv 2406.02528): `@forward(tokens, states) -> (logits, new states)`."""

    layers: int = 2
    hidden: int = 256
    mlp: int = 768
    vocabulary: int = 96
    lower_bounds: bool = True

    def text(self) -> str:
        h, table = self.hidden, f"tensor<{self.vocabulary}x{self.hidden}xf32>"
        tokens = self.argument("%tokens", "tensor<?xi64>")
        states = [self.argument(f"%state{layer}", f"tensor<{h}xf32>") for layer in range(self.layers)]
        self.weights.append(f"ternary.weight @embeddings : {table}")
        x = self.op(
            f"ternary.embedding {tokens}, {self.load('embeddings', table)} : tensor<?xi64>, {table} -> {rows(h)}"
        )
        new_states: list[str] = []
        for layer, state in enumerate(states):
            x, state = self._layer(x, state, layer)
            new_states.append(state)
        logits = self.bit_linear(self.norm(x, "norm", h), "lm_head", h, self.vocabulary)
        results = [(logits, rows(self.vocabulary)), *((state, f"tensor<{h}xf32>") for state in new_states)]
        return self.function(results, states=self.layers)

    def _layer(self, x: str, state: str, layer: int) -> tuple[str, str]:
        p, h = f"layers.{layer}", self.hidden
        normed = self.norm(x, f"{p}.attn_norm", h)
        i = self.bit_linear(normed, f"{p}.attn.i_proj", h, h)
        f = self.sigmoid(self.bit_linear(normed, f"{p}.attn.f_proj", h, h), h)
        if self.lower_bounds and layer > 0:
            bound = self.broadcast(f"{p}.lower_bound", h)
            rest = self.binary("arith.subf", self.splat(1.0, h), bound, h)
            f = self.binary("arith.addf", bound, self.binary("arith.mulf", rest, f, h), h)
        keep = self.binary("arith.subf", self.splat(1.0, h), f, h)
        i = self.binary("arith.mulf", self.silu(i, h), keep, h)
        o, state = self.scan(f, i, state, h)
        g = self.norm(self.bit_linear(normed, f"{p}.attn.g_proj", h, h), f"{p}.attn.g_norm", h)
        gated = self.binary("arith.mulf", self.binary("arith.mulf", g, o, h), self.sigmoid(o, h), h)
        x = self.binary("arith.addf", self.bit_linear(gated, f"{p}.attn.o_proj", h, h), x, h)

        both = self.bit_linear(self.norm(x, f"{p}.mlp_norm", h), f"{p}.mlp.gate_proj", h, 2 * self.mlp)
        gate, up = self.halves(both, self.mlp)
        y = self.binary("arith.mulf", self.silu(gate, self.mlp), up, self.mlp)
        y = self.bit_linear(y, f"{p}.mlp.down_proj", self.mlp, h)
        return self.binary("arith.addf", x, y, h), state


def store_for(module: ModuleOp, generator: np.random.Generator) -> ArrayStore:
    """Numbers for the weights of a module that are not derived; some float16, some zero or special."""
    arrays: dict[str, Array] = {}
    for op in module.ops:
        if isinstance(op, WeightOp) and op.body is None:
            array = generator.standard_normal(op.type.get_shape(), np.float32)
            match generator.integers(8):
                case 0:
                    array[...] = 0
                case 1 if array.ndim == 1:
                    array[generator.integers(array.size)] = generator.choice(SPECIAL)
                case 2:
                    array = array.astype(np.float16)
                case _:
                    pass
            arrays[op.sym_name.data] = array
    return ArrayStore(arrays)


@st.composite
def programs(draw: st.DrawFn, columns: int) -> tuple[str, int]:
    """A random program on rows, and how many states it has: projections, norms, scans and elementwise work, mixed."""
    program = RaisedProgram()
    x = program.argument("%x", rows(columns))
    values, states, k = [x], list[tuple[str, str]](), columns
    for n in range(draw(st.integers(1, 14))):
        a, b = (draw(st.sampled_from(values[-6:])) for _ in range(2))
        match draw(st.sampled_from(("linear", "gated", "norm", "scan", "row", "splat", "unary", "binary"))):
            case "linear":
                values.append(program.bit_linear(a, f"linear{n}", k, k))
            case "gated":
                normed = program.norm(a, f"norm{n}", k)
                values += program.halves(program.bit_linear(normed, f"gated{n}", k, 2 * k), k)
            case "norm":
                values.append(program.norm(a, f"norm{n}", k))
            case "scan":
                state = program.argument(f"%state{len(states)}", f"tensor<{k}xf32>")
                out, last = program.scan(a, b, state, k)
                values.append(out)
                states.append((last, f"tensor<{k}xf32>"))
            case "row":
                row = program.broadcast(f"row{n}", k)
                if draw(st.booleans()):
                    row = program.binary("arith.subf", program.splat(1.0, k), row, k)
                values.append(program.binary("arith.mulf", row, a, k))
                values.append(program.binary("arith.addf", row, b, k))
            case "splat":
                number = draw(st.sampled_from((1.0, -0.0, 0.5, 3.0e38)))
                values.append(program.binary("arith.addf", a, program.splat(number, k), k))
            case "unary":
                op = draw(st.sampled_from(("arith.negf", "math.exp", "math.sqrt", "math.rsqrt", "math.absf")))
                values.append(program.unary(op, a, k))
            case _:
                op = draw(st.sampled_from(("addf", "subf", "mulf", "divf", "maximumf", "minimumf")))
                values.append(program.binary(f"arith.{op}", a, b, k))
    returned = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    return program.function([*((value, rows(k)) for value in returned), *states]), len(states)
