"""Says, in the types, how the bytes of every weight lie in an artifact.

    ternary.weight @w : tensor<256x256x!ternary.trit> { ... }
    ternary.weight @embeddings : tensor<96x256xf32>
    %w = ternary.load @w : tensor<256x256x!ternary.trit>
    %table = ternary.load @embeddings : tensor<96x256xf32>

becomes, where the store holds the embedding table as float16 (or bfloat16: then bf16),

    ternary.weight @w : tensor<256x256x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>> { ... }
    ternary.weight @embeddings : tensor<96x256xf16>
    %w = ternary.load @w : tensor<256x256x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>
    %table = ternary.load @embeddings : tensor<96x256xf16>

`encoding` names the format of trits: `i2`, 2 bits each, or `b3`, 1.6 bits, which is less to read and more to unpack.

Why it is right: an encoding changes where a trit lies and not what it is, and float16 and bfloat16 widen exactly where
they are read. Only weights that a function loads take part: the others never reach an artifact. A table that anything
but an embedding reads (a tied head) stays f32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, TensorType, bf16, f16
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from sterna.dialects.encodings import EncodingAttr, encoding_of, is_trits
from sterna.dialects.errors import CompileError
from sterna.dialects.ternary import EmbeddingOp, LoadOp, Tensor, WeightOp
from sterna.dialects.weights import SternaContext, WeightStore
from sterna.passes.derived_weights import weight_name

STORED: dict[str, Attribute] = {"F16": f16, "BF16": bf16}
"""Types of two bytes that f32 holds exactly, as stores name them."""


@dataclass(frozen=True)
class ChooseEncodingsPass(ModulePass):
    name = "choose-encodings"

    encoding: str = "i2"
    """The format of trits, one of `EncodingAttr.FORMATS`."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.encoding not in EncodingAttr.FORMATS:
            known = ", ".join(EncodingAttr.FORMATS)
            raise CompileError(f"{self.name}: unknown encoding '{self.encoding}', expected one of {known}")
        trits = EncodingAttr.of(self.encoding)
        store = ctx.weights if isinstance(ctx, SternaContext) else None
        loads: dict[str, list[LoadOp]] = {}
        loaded_by_functions: set[str] = set()
        for top in op.ops:
            for load in top.walk():
                if isinstance(load, LoadOp) and (name := weight_name(load.result)) is not None:
                    loads.setdefault(name, []).append(load)
                    if isinstance(top, FuncOp):
                        loaded_by_functions.add(name)
        for weight in op.ops:
            if isinstance(weight, WeightOp) and (name := weight.sym_name.data) in loaded_by_functions:
                weight.type = stored_type(weight, trits, loads[name], store)
                for load in loads[name]:
                    Rewriter.replace_value_with_new_type(load.result, weight.type)


def stored_type(
    weight: WeightOp, trits: EncodingAttr, loads: Sequence[LoadOp], store: WeightStore | None
) -> Tensor:
    """The type that says how this weight lies in memory."""
    type = weight.type
    if is_trits(type) and encoding_of(type) is None:
        return TensorType(type.get_element_type(), type.get_shape(), trits)
    if store is None or weight.body is not None or not all(map(only_embeds, loads)):
        return type
    stored = STORED.get(store.dtype(weight.sym_name.data))
    return TensorType(stored, type.get_shape()) if stored is not None else type


def only_embeds(load: LoadOp) -> bool:
    readers = [use.operation for use in load.result.uses]
    return all(isinstance(op, EmbeddingOp) and op.table is load.result for op in readers)
