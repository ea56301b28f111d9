"""Weights as operations: named tensors whose numbers lie in a store, and how a matrix of floats is taken for trits."""

from __future__ import annotations

from typing import cast

from xdsl.dialects.builtin import (
    ArrayAttr,
    Float32Type,
    FloatAttr,
    ModuleOp,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
    TensorType,
    f32,
)
from xdsl.ir import Attribute, Operation, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_region_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import IsolatedFromAbove, NoTerminator, Pure, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException

from sterna.dialects.constraints import Tensor, f32_attr, require, require_type, tensor
from sterna.dialects.encodings import BitType, TritType
from sterna.dialects.regions import YieldOp

FLOAT_LAYERS = "sterna.float_layers"
"""The attribute of a module of which nobody claims that it is ternary throughout: it may keep float layers, any or,
where the attribute is a list, those of the weights that it names."""
SAME_MAGNITUDE = 2.0**-16
"""By how much, relative to the largest, the magnitudes of a weight may differ that is ternary up to a scale."""


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
    """Decomposition of a weight that is ternary already: w = t * scale with t in {-1, 0, +1}.

    w: f32 `[M, K]` whose non-zero elements all have one magnitude, or one in every row; trits: `[M, K]`, or bits if no
    element is zero; scale: f32 scalar, or `[M]`, the magnitude; 1 where all is zero. Exact, but that magnitudes may
    differ by 2^-16 of the largest: an exporter that computes the straight-through form w + (t s - w) of a trained
    weight leaves its roundings in the file. The interpreter raises for any other weight; the pass `ternarize` proves it
    from the store.
    """

    name = "ternary.ternarize"
    w = operand_def(TensorType)
    trits = result_def(TensorType)
    scale = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$w attr-dict `:` type($w) `->` type($trits) `,` type($scale)"

    def __init__(self, w: SSAValue, *, per_channel: bool = False, is_binary: bool = False) -> None:
        shape = tensor(w).get_shape()
        trits = TensorType(BitType() if is_binary else TritType(), shape)
        super().__init__(
            operands=[w], result_types=[trits, TensorType(f32, shape[:1] if per_channel else [])]
        )

    def verify_(self) -> None:
        shape = tensor(self.w).get_shape()
        require_type(self.w, "w", f32)
        element = tensor(self.trits).element_type
        require_type(self.trits, "trits", BitType() if element == BitType() else TritType(), shape)
        require_type(self.scale, "scale", f32, shape[:1] if tensor(self.scale).get_num_dims() else ())


def find_weight(module: Operation, name: str) -> WeightOp | None:
    """The weight of that name in the module, or None."""
    assert isinstance(module, ModuleOp)
    return next((op for op in module.ops if isinstance(op, WeightOp) and op.sym_name.data == name), None)


def any_float_layer(module: ModuleOp) -> bool:
    """Whether every linear layer of the module may stay float."""
    return FLOAT_LAYERS in module.attributes and not isinstance(module.attributes[FLOAT_LAYERS], ArrayAttr)


def named_float_layers(module: ModuleOp) -> frozenset[str]:
    """The weights whose layers may stay float, where the module names them."""
    names = module.attributes.get(FLOAT_LAYERS)
    listed = cast("ArrayAttr[Attribute]", names).data if isinstance(names, ArrayAttr) else ()
    return frozenset(name.data for name in listed if isinstance(name, StringAttr))
