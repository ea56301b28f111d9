"""MatMul-free language models as text of the raised and folded stage, of any size: types only, no numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

BITLINEAR_EPS = "1.0e-08"
NORM_EPS = "1.0e-06"


@dataclass
class RaisedModel:
    """A MatMul-free LM (arXiv 2406.02528) as `raise` and `fold-weights` leave it."""

    layers: int = 2
    hidden: int = 256
    mlp: int = 768
    vocabulary: int = 96
    lower_bounds: bool = True
    head: bool = True
    _weights: list[str] = field(default_factory=list[str], init=False)
    _body: list[str] = field(default_factory=list[str], init=False)
    _values: int = field(default=0, init=False)

    def text(self) -> str:
        h, states = f"tensor<{self.hidden}xf32>", range(self.layers)
        rows, table = self._rows(self.hidden), f"tensor<{self.vocabulary}x{self.hidden}xf32>"
        self._weights.append(f"ternary.weight @embeddings : {table}")
        self._body += [
            "%c0 = arith.constant 0 : index",
            "%T = tensor.dim %tokens, %c0 : tensor<?xi64>",
            f"%table = ternary.load @embeddings : {table}",
            f"%x = ternary.embedding %tokens, %table : tensor<?xi64>, {table} -> {rows}",
            "%one = arith.constant 1.0 : f32",
            f"%ones = tensor.splat %one[%T] : {rows}",
            f"%mlp_ones = tensor.splat %one[%T] : {self._rows(self.mlp)}",
        ]
        x = "%x"
        for layer in states:
            x = self._layer(x, layer)
        x = self._norm(x, "norm", self.hidden)
        outputs, types = [f"%last{layer}" for layer in states], [h] * self.layers
        if self.head:
            x = self._bitlinear(x, "lm_head", self.hidden, self.vocabulary)
            outputs, types = [x, *outputs], [self._rows(self.vocabulary), *types]
        else:
            outputs, types = [x, *outputs], [rows, *types]
        arguments = ", ".join(["%tokens: tensor<?xi64>", *(f"%state{layer}: {h}" for layer in states)])
        return "\n".join(
            [
                *self._weights,
                f"func.func @forward({arguments}) -> ({', '.join(types)})",
                f"  attributes {{sterna.states = {self.layers} : i64}} {{",
                *("  " + line for line in self._body),
                f"  func.return {', '.join(outputs)} : {', '.join(types)}",
                "}\n",
            ]
        )

    def _layer(self, x: str, layer: int) -> str:
        p, h, rows = f"layers.{layer}", self.hidden, self._rows(self.hidden)
        normed = self._norm(x, f"{p}.attn_norm", h)
        i = self._bitlinear(normed, f"{p}.attn.i_proj", h, h)
        f = self._sigmoid(self._bitlinear(normed, f"{p}.attn.f_proj", h, h), h)
        if self.lower_bounds and layer > 0:
            bound = self._broadcast(f"{p}.lower_bound")
            rest = self._op(f"arith.subf %ones, {bound} : {rows}")
            f = self._op(f"arith.addf {bound}, {self._op(f'arith.mulf {rest}, {f} : {rows}')} : {rows}")
        keep = self._op(f"arith.subf %ones, {f} : {rows}")
        i = self._op(f"arith.mulf {self._silu(i, h)}, {keep} : {rows}")
        o = self._value()
        self._body.append(
            f"{o}, %last{layer} = ternary.scan {f}, {i}, %state{layer} : {rows}, tensor<{h}xf32>"
        )
        g = self._norm(self._bitlinear(normed, f"{p}.attn.g_proj", h, h), f"{p}.attn.g_norm", h)
        gated = self._op(f"arith.mulf {g}, {o} : {rows}")
        gated = self._op(f"arith.mulf {gated}, {self._sigmoid(o, h)} : {rows}")
        residual = self._op(f"arith.addf {self._bitlinear(gated, f'{p}.attn.o_proj', h, h)}, {x} : {rows}")
        return self._mlp(residual, f"{p}.mlp")

    def _mlp(self, x: str, p: str) -> str:
        m, rows = self.mlp, self._rows(self.mlp)
        both = self._bitlinear(self._norm(x, f"{p}_norm", self.hidden), f"{p}.gate_proj", self.hidden, 2 * m)
        gate, up = (
            self._op(f"tensor.extract_slice {both}[0, {at}] [%T, {m}] [1, 1] : {self._rows(2 * m)} to {rows}")
            for at in (0, m)
        )
        y = self._op(f"arith.mulf {self._silu(gate, m)}, {up} : {rows}")
        y = self._bitlinear(y, f"{p}.down_proj", m, self.hidden)
        return self._op(f"arith.addf {x}, {y} : {self._rows(self.hidden)}")

    def _bitlinear(self, x: str, name: str, k: int, m: int) -> str:
        w, trits = f"tensor<{m}x{k}xf32>", f"tensor<{m}x{k}x!ternary.trit>"
        self._weights.append(f"ternary.weight @{name}.weight : {w}")
        for part, type, result in (("trits", trits, "%t"), ("scale", "tensor<f32>", "%s")):
            self._weights += [
                f"ternary.weight @{name}.{part} : {type} {{",
                f"  %w = ternary.load @{name}.weight : {w}",
                f"  %t, %s = ternary.absmean %w eps = 1.0e-05 : {w} -> {trits}, tensor<f32>",
                f"  ternary.yield {result} : {type}",
                "}",
            ]
        normed = self._norm(x, f"{name}.norm", k, BITLINEAR_EPS)
        q, step = self._value(), self._value()
        rows, i8, i32 = self._rows(k), self._rows(k, "i8"), self._rows(m, "i32")
        self._body.append(
            f"{q}, {step} = ternary.quantize {normed} eps = 1.0e-05 : {rows} -> {i8}, tensor<?xf32>"
        )
        wt, s = self._load(f"{name}.trits", trits), self._load(f"{name}.scale", "tensor<f32>")
        acc = self._op(f"ternary.accumulate {q}, {wt} : {i8}, {trits} -> {i32}")
        return self._op(
            f"ternary.dequantize {acc}, {step}, {s} : {i32}, tensor<?xf32>, tensor<f32> -> {self._rows(m)}"
        )

    def _norm(self, x: str, name: str, k: int, eps: str = NORM_EPS) -> str:
        weight = self._weight(name, k)
        return self._op(
            f"ternary.rms_norm {x}, {weight} eps = {eps} lanes = 16 : {self._rows(k)}, tensor<{k}xf32>"
        )

    def _broadcast(self, name: str) -> str:
        vector, rows = self._weight(name, self.hidden), self._rows(self.hidden)
        empty = self._op(f"tensor.empty(%T) : {rows}")
        return self._op(
            f"linalg.broadcast ins({vector}:tensor<{self.hidden}xf32>) outs({empty}:{rows}) dimensions = [0]"
        )

    def _sigmoid(self, x: str, k: int) -> str:
        rows, ones = self._rows(k), "%ones" if k == self.hidden else "%mlp_ones"
        e = self._op(f"math.exp {self._op(f'arith.negf {x} : {rows}')} : {rows}")
        return self._op(f"arith.divf {ones}, {self._op(f'arith.addf {ones}, {e} : {rows}')} : {rows}")

    def _silu(self, x: str, k: int) -> str:
        return self._op(f"arith.mulf {x}, {self._sigmoid(x, k)} : {self._rows(k)}")

    def _weight(self, name: str, k: int) -> str:
        self._weights.append(f"ternary.weight @{name} : tensor<{k}xf32>")
        return self._load(name, f"tensor<{k}xf32>")

    def _load(self, name: str, type: str) -> str:
        return self._op(f"ternary.load @{name} : {type}")

    def _op(self, text: str) -> str:
        value = self._value()
        self._body.append(f"{value} = {text}")
        return value

    def _value(self) -> str:
        self._values += 1
        return f"%v{self._values}"

    def _rows(self, k: int, element: str = "f32") -> str:
        return f"tensor<?x{k}x{element}>"
