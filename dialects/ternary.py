"""The `ternary` dialect: what is particular to MatMul-free models, and nothing that an upstream dialect says already.

Notation in the docstrings: a *row* is one token's vector; `T` rows, `K` columns in, `M` columns out. Rows may be absent
(a `tensor<K>` is one row) or dynamic (`tensor<?xKxf32>`). Reductions run over the last axis in the order of
`numerics.lane_sum`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

from xdsl.dialects.builtin import (
    I64,
    Float32Type,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
    TensorType,
    f16,
    f32,
    i8,
    i32,
)
from xdsl.ir import Attribute, Dialect, Operation, Region, SSAValue
from xdsl.irdl import (
    AnyAttr,
    AttrSizedOperandSegments,
    AttrSizedResultSegments,
    IRDLOperation,
    VarConstraint,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    opt_region_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import IsolatedFromAbove, NoTerminator, Pure, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException

from sterna.dialects.constraints import (
    Tensor,
    f32_attr,
    lanes_attr,
    quantized_types,
    require,
    require_lanes,
    require_quantized,
    require_type,
    rows_of,
    tensor,
)
from sterna.dialects.encodings import BitType, EncodingAttr, TritType, is_trits
from sterna.dialects.numerics import LANES
from sterna.dialects.regions import ElementwiseOp, ProjectOp, YieldOp, scalar_region

__all__ = [
    "AbsmeanOp",
    "AccumulateOp",
    "DequantizeOp",
    "ElementwiseOp",
    "EmbeddingOp",
    "LoadOp",
    "NormQuantizeOp",
    "ProjectOp",
    "QuantizeOp",
    "RmsNormOp",
    "ScanOp",
    "Tensor",
    "TernarizeOp",
    "Ternary",
    "WeightOp",
    "YieldOp",
    "f32_attr",
    "find_weight",
    "lanes_attr",
    "quantized_types",
    "rows_of",
    "scalar_region",
    "tensor",
]


@irdl_op_definition
class WeightOp(IRDLOperation):
    """A named tensor of the model. Its numbers live in a weight store beside the IR, never in the text.

    `ternary.weight @w : tensor<4x8xf32>` is read from the store under the key `w` (stored float16 and bfloat16 widen
    exactly). With a region, the weight is derived: the region computes it from other weights when it is needed, so
    constant folding moves work there without evaluating it, and a 2.7-billion-parameter program stays text.
    The type may carry a `#ternary.encoding`, which says how the bytes lie in a packed artifact.
    """

    name = "ternary.weight"
    sym_name = prop_def(SymbolNameConstraint())
    type = prop_def(TensorType)
    body = opt_region_def("single_block")
    traits = traits_def(IsolatedFromAbove(), SymbolOpInterface(), NoTerminator())

    def __init__(self, name: str, type: Tensor, body: Region | None = None) -> None:
        super().__init__(
            properties={"sym_name": StringAttr(name), "type": type}, regions=[[body] if body else []]
        )

    def verify_(self) -> None:
        if self.body is None:
            return
        last = self.body.block.last_op
        if not isinstance(last, YieldOp) or len(last.values) != 1:
            raise VerifyException("the region of a weight ends in a ternary.yield of one value")
        yielded = tensor(last.values[0])
        require(
            yielded.get_shape() == self.type.get_shape()
            and yielded.element_type == self.type.get_element_type(),
            f"yields {yielded}, but the weight is {self.type}",
        )

    @classmethod
    def parse(cls, parser: Parser) -> WeightOp:
        name = parser.parse_symbol_name()
        attributes = parser.parse_optional_attr_dict_with_keyword()
        parser.parse_punctuation(":")
        type = parser.parse_type()
        body = parser.parse_optional_region()
        op = cls(name.data, cast(Tensor, type), body)
        if attributes is not None:
            op.attributes |= attributes.data
        return op

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" : ")
        printer.print_attribute(self.type)
        if self.body is not None:
            printer.print_string(" ")
            printer.print_region(self.body)


@irdl_op_definition
class LoadOp(IRDLOperation):
    """The value of a weight: `%w = ternary.load @w : tensor<4x8xf32>`."""

    name = "ternary.load"
    weight = prop_def(SymbolRefAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$weight attr-dict `:` type($result)"

    def __init__(self, name: str, type: Tensor) -> None:
        super().__init__(properties={"weight": SymbolRefAttr(name)}, result_types=[type])


@irdl_op_definition
class EmbeddingOp(IRDLOperation):
    """Row look-up: result[t, :] = f32(table[tokens[t], :]). A token outside [0, V) is an error of the caller.

    tokens: integers `[T]`; table: `[V, H]` of f32 or f16 (f16 widens exactly); result: f32 `[T, H]`.
    """

    name = "ternary.embedding"
    tokens = operand_def(TensorType)
    table = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$tokens `,` $table attr-dict `:` type($tokens) `,` type($table) `->` type($result)"

    def __init__(self, tokens: SSAValue, table: SSAValue) -> None:
        shape = (*tensor(tokens).get_shape(), tensor(table).get_shape()[-1])
        super().__init__(operands=[tokens, table], result_types=[TensorType(f32, shape)])

    def verify_(self) -> None:
        table = tensor(self.table)
        require(table.get_num_dims() == 2, "the table has two axes")
        shape = (*tensor(self.tokens).get_shape(), table.get_shape()[1])
        require(isinstance(tensor(self.tokens).element_type, IntegerType), "tokens are integers")
        require(table.element_type in (f32, f16), "the table is of f32 or f16")
        require_type(self.result, "the result", f32, shape)


@irdl_op_definition
class RmsNormOp(IRDLOperation):
    """y = (x * (1 / sqrt(sum(x^2) / K + eps))) * weight, over the last axis. x, y: f32 `[T, K]`; weight: f32 `[K]`.

    Source: Zhang and Sennrich, arXiv 1910.07467.
    """

    name = "ternary.rms_norm"
    T: ClassVar = VarConstraint("T", AnyAttr())
    x = operand_def(T)
    weight = operand_def(TensorType)
    eps = prop_def(FloatAttr[Float32Type])
    lanes = prop_def(IntegerAttr[I64])
    result = result_def(T)
    traits = traits_def(Pure())
    assembly_format = (
        "$x `,` $weight `eps` `=` $eps `lanes` `=` $lanes attr-dict `:` type($result) `,` type($weight)"
    )

    def __init__(self, x: SSAValue, weight: SSAValue, eps: float, lanes: int = LANES) -> None:
        super().__init__(
            operands=[x, weight],
            properties={"eps": f32_attr(eps), "lanes": lanes_attr(lanes)},
            result_types=[x.type],
        )

    def verify_(self) -> None:
        x = tensor(self.x)
        require(x.get_num_dims() > 0, "x has a last axis")
        require_type(self.x, "x", f32)
        require_type(self.weight, "the weight", f32, x.get_shape()[-1:])
        require_lanes(self.lanes.value.data)


@irdl_op_definition
class QuantizeOp(IRDLOperation):
    """Per-row absmax quantization to int8.

    d = max(max|x|, eps); q = clamp(round_half_even(x * (127 / d)), -128, 127); step = d / 127.
    x: f32 `[T, K]`; q: i8 `[T, K]`; step: f32 `[T]`, so that q * step approximates x. An element whose product is NaN
    gives q = 0, and its row's step is NaN or inf: what follows is NaN. Source: BitNet b1.58, arXiv 2402.17764.
    """

    name = "ternary.quantize"
    x = operand_def(TensorType)
    eps = prop_def(FloatAttr[Float32Type])
    q = result_def(TensorType)
    step = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x `eps` `=` $eps attr-dict `:` type($x) `->` type($q) `,` type($step)"

    def __init__(self, x: SSAValue, eps: float) -> None:
        super().__init__(
            operands=[x], properties={"eps": f32_attr(eps)}, result_types=quantized_types(tensor(x))
        )

    def verify_(self) -> None:
        require_quantized(self.x, self.q, self.step)


@irdl_op_definition
class AbsmeanOp(IRDLOperation):
    """Weight quantization of BitNet b1.58: d = max(mean|w|, eps); t = clamp(round_half_even(w * (1 / d)), -1, 1).

    w: f32 `[M, K]`; trits: `[M, K]`; scale = d: f32 scalar, so that t * d approximates w.
    Source: arXiv 2402.17764, eq. 1-3.
    """

    name = "ternary.absmean"
    w = operand_def(TensorType)
    eps = prop_def(FloatAttr[Float32Type])
    trits = result_def(TensorType)
    scale = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$w `eps` `=` $eps attr-dict `:` type($w) `->` type($trits) `,` type($scale)"

    def __init__(self, w: SSAValue, eps: float) -> None:
        super().__init__(
            operands=[w],
            properties={"eps": f32_attr(eps)},
            result_types=[TensorType(TritType(), tensor(w).get_shape()), TensorType(f32, [])],
        )

    def verify_(self) -> None:
        require_type(self.w, "w", f32)
        require_type(self.trits, "trits", TritType(), tensor(self.w).get_shape())
        require_type(self.scale, "scale", f32, ())


@irdl_op_definition
class TernarizeOp(IRDLOperation):
    """Exact decomposition of a weight that is ternary already: w = t * scale with t in {-1, 0, +1}.

    w: f32 `[M, K]` whose non-zero elements all have one magnitude; trits: `[M, K]`; scale: f32 scalar, 1 for a weight
    that is all zero. The interpreter raises for any other weight; the pass `ternarize` proves it from the store.
    """

    name = "ternary.ternarize"
    w = operand_def(TensorType)
    trits = result_def(TensorType)
    scale = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$w attr-dict `:` type($w) `->` type($trits) `,` type($scale)"

    def __init__(self, w: SSAValue) -> None:
        super().__init__(
            operands=[w], result_types=[TensorType(TritType(), tensor(w).get_shape()), TensorType(f32, [])]
        )

    def verify_(self) -> None:
        require_type(self.w, "w", f32)
        require_type(self.trits, "trits", TritType(), tensor(self.w).get_shape())
        require_type(self.scale, "scale", f32, ())


@irdl_op_definition
class AccumulateOp(IRDLOperation):
    """acc[t, m] = sum_k q[t, k] * w[m, k], exact in int32: additions and subtractions only.

    q: i8 `[T, K]`; w: trits `[M, K]`; acc: i32 `[T, M]`. K < 2^24, so that no sum overflows.
    """

    name = "ternary.accumulate"
    q = operand_def(TensorType)
    w = operand_def(TensorType)
    acc = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$q `,` $w attr-dict `:` type($q) `,` type($w) `->` type($acc)"

    def __init__(self, q: SSAValue, w: SSAValue) -> None:
        shape = (*rows_of(tensor(q)), tensor(w).get_shape()[0])
        super().__init__(operands=[q, w], result_types=[TensorType(i32, shape)])

    def verify_(self) -> None:
        q, w = tensor(self.q), tensor(self.w)
        require(is_trits(w) and w.get_num_dims() == 2, "w is a matrix of trits or bits")
        require(
            q.get_shape()[-1] == w.get_shape()[1],
            f"q has {q.get_shape()[-1]} columns, w has {w.get_shape()[1]}",
        )
        require(w.get_shape()[1] < 1 << 24, "K must be below 2^24: a longer sum could overflow int32")
        require_type(self.q, "q", i8)
        require_type(self.acc, "acc", i32, (*rows_of(q), w.get_shape()[0]))


@irdl_op_definition
class DequantizeOp(IRDLOperation):
    """y[t, m] = f32(acc[t, m]) * (step[t] * scale): back to floats, in this order.

    acc: i32 `[T, M]`; step: f32 `[T]`; scale: f32 scalar (the weight's); y: f32 `[T, M]`.
    """

    name = "ternary.dequantize"
    acc = operand_def(TensorType)
    step = operand_def(TensorType)
    scale = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$acc `,` $step `,` $scale attr-dict "
        "`:` type($acc) `,` type($step) `,` type($scale) `->` type($result)"
    )

    def __init__(self, acc: SSAValue, step: SSAValue, scale: SSAValue) -> None:
        super().__init__(operands=[acc, step, scale], result_types=[TensorType(f32, tensor(acc).get_shape())])

    def verify_(self) -> None:
        shape = tensor(self.acc).get_shape()
        require(len(shape) > 0, "acc has a last axis")
        require_type(self.acc, "acc", i32)
        require_type(self.step, "step", f32, shape[:-1])
        require_type(self.scale, "scale", f32, ())
        require_type(self.result, "the result", f32, shape)


@irdl_op_definition
class ScanOp(IRDLOperation):
    """The gated linear recurrence over axis -2: s[t] = f[t] * s[t-1] + i[t], one multiplication, then one addition.

    f, i: f32 `[T, D]`; init = s[-1]: f32 `[D]`; states: f32 `[T, D]` (every s); last: f32 `[D]`.
    Source: HGRN / MatMul-free LM, arXiv 2406.02528, section 3.3.1.
    """

    name = "ternary.scan"
    T: ClassVar = VarConstraint("T", AnyAttr())
    S: ClassVar = VarConstraint("S", AnyAttr())
    f = operand_def(T)
    i = operand_def(T)
    init = operand_def(S)
    states = result_def(T)
    last = result_def(S)
    traits = traits_def(Pure())
    assembly_format = "$f `,` $i `,` $init attr-dict `:` type($states) `,` type($last)"

    def __init__(self, f: SSAValue, i: SSAValue, init: SSAValue) -> None:
        super().__init__(operands=[f, i, init], result_types=[i.type, init.type])

    def verify_(self) -> None:
        shape = tensor(self.i).get_shape()
        require(len(shape) == 2, "f and i are [T, D]")
        require_type(self.i, "i", f32)
        require_type(self.init, "init", f32, shape[1:])


@irdl_op_definition
class NormQuantizeOp(IRDLOperation):
    """Norm and quantization for several projections from one read of x; the norm's scalar never touches the elements.

    With r the reciprocal root mean square of the row, for every gain g_j:

        y_j = x * g_j                 d_j = max(max|y_j| * r, quantize_eps)
        q_j = clamp(round_half_even(y_j * (r * (127 / d_j))), -128, 127)        step_j = d_j / 127

    Without `outer`, r = 1 / sqrt(sum(x^2) / K + eps). With it (a norm of a norm, whose weight `outer` = a is already a
    factor of every gain), r_o = 1 / sqrt(sum(x^2) / K + outer_eps) and
    r = r_o * (1 / sqrt((r_o * r_o) * (sum((x a)^2) / K) + eps)).

    x: f32 `[T, K]`; outer, gains: f32 `[K]`; results: q_j i8 `[T, K]` for every gain, then step_j f32 `[T]` for every
    gain.
    """

    name = "ternary.norm_quantize"
    x = operand_def(TensorType)
    outer = opt_operand_def(TensorType)
    gains = var_operand_def(TensorType)
    outer_eps = opt_prop_def(FloatAttr[Float32Type])
    eps = prop_def(FloatAttr[Float32Type])
    quantize_eps = prop_def(FloatAttr[Float32Type])
    lanes = prop_def(IntegerAttr[I64])
    q = var_result_def(TensorType)
    step = var_result_def(TensorType)
    irdl_options = (AttrSizedOperandSegments(as_property=True), AttrSizedResultSegments(as_property=True))
    traits = traits_def(Pure())
    assembly_format = (
        "$x (`of` $outer^ `:` type($outer) `outer_eps` `=` $outer_eps)? `gains` `(` $gains `:` type($gains) `)` "
        "`eps` `=` $eps `quantize_eps` `=` $quantize_eps `lanes` `=` $lanes attr-dict "
        "`:` type($x) `->` `(` type($q) `)` `,` `(` type($step) `)`"
    )

    def __init__(
        self,
        x: SSAValue,
        gains: Sequence[SSAValue],
        *,
        eps: float,
        quantize_eps: float,
        outer: SSAValue | None = None,
        outer_eps: float | None = None,
        lanes: int = LANES,
    ) -> None:
        q, step = quantized_types(tensor(x))
        properties: dict[str, Attribute] = {
            "eps": f32_attr(eps),
            "quantize_eps": f32_attr(quantize_eps),
            "lanes": lanes_attr(lanes),
        }
        if outer_eps is not None:
            properties["outer_eps"] = f32_attr(outer_eps)
        super().__init__(
            operands=[x, [outer] if outer else [], list(gains)],
            properties=properties,
            result_types=[[q] * len(gains), [step] * len(gains)],
        )

    def verify_(self) -> None:
        require((self.outer is None) == (self.outer_eps is None), "outer and outer_eps come together")
        require(len(self.q) == len(self.step) == len(self.gains) > 0, "one q and one step a gain")
        for q, step in zip(self.q, self.step, strict=True):
            require_quantized(self.x, q, step)
        for gain in (*self.gains, *((self.outer,) if self.outer is not None else ())):
            require_type(gain, "a gain", f32, tensor(self.x).get_shape()[-1:])
        require_lanes(self.lanes.value.data)


def find_weight(module: Operation, name: str) -> WeightOp | None:
    """The weight of that name in the module, or None."""
    assert isinstance(module, ModuleOp)
    return next((op for op in module.ops if isinstance(op, WeightOp) and op.sym_name.data == name), None)


Ternary = Dialect(
    "ternary",
    [
        AbsmeanOp,
        AccumulateOp,
        DequantizeOp,
        ElementwiseOp,
        EmbeddingOp,
        LoadOp,
        NormQuantizeOp,
        ProjectOp,
        QuantizeOp,
        RmsNormOp,
        ScanOp,
        TernarizeOp,
        WeightOp,
        YieldOp,
    ],
    [TritType, BitType, EncodingAttr],
)
