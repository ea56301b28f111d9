"""Operations on rows of activations that are not products: look-up, norms, quantization, the recurrence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import (
    I64,
    Float32Type,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    TensorType,
    bf16,
    f16,
    f32,
)
from xdsl.ir import Attribute, SSAValue
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
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import Pure

from sterna.dialects.constraints import (
    Tensor,
    f32_attr,
    lanes_attr,
    quantized_types,
    require,
    require_lanes,
    require_quantized,
    require_type,
    tensor,
)
from sterna.dialects.numerics import NORM_LANES


@irdl_op_definition
class EmbeddingOp(IRDLOperation):
    """Row look-up: result[t, :] = table[tokens[t], :]. A token outside [0, V) is an error of the caller.

    tokens: integers `[T]`; table: `[V, H]` of f32, f16, bf16 (these widen exactly to f32) or integers; result: `[T, H]`
    of f32 or the same integers.
    """

    name = "ternary.embedding"
    tokens = operand_def(TensorType)
    table = operand_def(TensorType)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$tokens `,` $table attr-dict `:` type($tokens) `,` type($table) `->` type($result)"

    def __init__(self, tokens: SSAValue, table: SSAValue) -> None:
        shape = (*tensor(tokens).get_shape(), tensor(table).get_shape()[-1])
        held = tensor(table)
        type = (
            TensorType(held.element_type, shape, held.encoding)
            if _is_integer(held)
            else TensorType(f32, shape)
        )
        super().__init__(operands=[tokens, table], result_types=[type])

    def verify_(self) -> None:
        table = tensor(self.table)
        require(table.get_num_dims() == 2, "the table has two axes")
        shape = (*tensor(self.tokens).get_shape(), table.get_shape()[1])
        require(isinstance(tensor(self.tokens).element_type, IntegerType), "tokens are integers")
        require(
            table.element_type in (f32, f16, bf16) or _is_integer(table),
            "the table is of f32, f16 or bf16, or of integers",
        )
        require_type(self.result, "the result", table.element_type if _is_integer(table) else f32, shape)


def _is_integer(type: Tensor) -> bool:
    return isinstance(type.element_type, IntegerType)


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

    def __init__(self, x: SSAValue, weight: SSAValue, eps: float, lanes: int = NORM_LANES) -> None:
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
        lanes: int = NORM_LANES,
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
