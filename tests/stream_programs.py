"""Small fixed-point language models as IR text, with the forms of operations that a real one consists of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.context import parse
from sterna.dialects.weights import ArrayStore

RSQRT = ", ".join(str(round(2**15 / np.sqrt(max(j / 16, 0.25)))) for j in range(17))
RECIPROCAL = ", ".join(str(round(2**16 / max(j / 16, 0.5)) - (j <= 8)) for j in range(17))
SIGMOID = ", ".join(str(min(round(2**16 / (1 + np.exp(-(j - 16) / 2))), 65535)) for j in range(33))


@dataclass(frozen=True)
class SmallModel:
    """Embedding, one gated recurrent layer and a head."""

    vocabulary: int = 10
    hidden: int = 8
    inner: int = 12
    seed: int = 0

    def text(self) -> str:
        v, h, d = self.vocabulary, self.hidden, self.inner
        acc, head = 8 + (h - 1).bit_length() + 1, 8 + (d - 1).bit_length() + 1
        squares = 28 + (h - 1).bit_length()
        even = squares if squares % 2 else squares + 1
        return f"""
builtin.module {{
  fixed.table @rsqrt unsigned i16 -> i18 [{RSQRT}]
  fixed.table @reciprocal unsigned i16 -> i18 [{RECIPROCAL}]
  fixed.table @sigmoid signed i16 -> i18 [{SIGMOID}]
  ternary.weight @embedding : tensor<{v}x{h}xi14>
  ternary.weight @gain : tensor<{h}xi12>
  ternary.weight @f_proj : tensor<{d}x{h}x!ternary.trit>
  ternary.weight @i_proj : tensor<{d}x{h}x!ternary.trit>
  ternary.weight @head : tensor<{v}x{d}x!ternary.trit>
  func.func @forward(%tokens: tensor<?xi64>, %state: tensor<{d}xf32>) -> (tensor<?x{v}xf32>, tensor<{d}xf32>)
      attributes {{sterna.states = 1 : i64}} {{
    %table = ternary.load @embedding : tensor<{v}x{h}xi14>
    %x = ternary.embedding %tokens, %table : tensor<?xi64>, tensor<{v}x{h}xi14> -> tensor<?x{h}xi14>
    %gain = ternary.load @gain : tensor<{h}xi12>
    %square, %y, %size = ternary.elementwise(%x, %gain : tensor<?x{h}xi14>, tensor<{h}xi12>) {{
    ^bb0(%a: i14, %g: i12):
      %wide = arith.extsi %a : i14 to i28
      %squared = arith.muli %wide, %wide : i28
      %left = arith.extsi %a : i14 to i26
      %right = arith.extsi %g : i12 to i26
      %product = arith.muli %left, %right : i26
      %scaled = fixed.rescale %product by 10 : i26 to i17
      %more = arith.extsi %scaled : i17 to i18
      %abs = math.absi %more : i18
      ternary.yield %squared, %scaled, %abs : i28, i17, i18
    }} -> tensor<?x{h}xi28>, tensor<?x{h}xi17>, tensor<?x{h}xi18>
    %sum = fixed.sum %square : tensor<?x{h}xi28> -> tensor<?xi{even}>
    %most = fixed.max %size : tensor<?x{h}xi18> -> tensor<?xi18>
    %factor, %step = ternary.elementwise(%sum, %most : tensor<?xi{even}>, tensor<?xi18>) {{
    ^bb0(%n: i{even}, %m: i18):
      %mantissa, %zeros = fixed.normalize %n step 2 : i{even} to i16, i{(even - 1).bit_length() + 1}
      %root = fixed.interpolate %mantissa, @rsqrt : i16 to i18
      %m2, %z2 = fixed.normalize %m step 1 : i18 to i16, i6
      %inverse = fixed.interpolate %m2, @reciprocal : i16 to i18
      %wide = arith.extsi %inverse : i18 to i36
      %halved = fixed.shift_right %wide by %z2 : i36, i6 to i18
      ternary.yield %halved, %root : i18, i18
    }} -> tensor<?xi18>, tensor<?xi18>
    %q = ternary.elementwise(%y, %factor : tensor<?x{h}xi17>, tensor<?xi18>) axes = [array<i64: 0, 1>, array<i64: 0>] {{
    ^bb0(%a: i17, %r: i18):
      %left = arith.extsi %a : i17 to i35
      %right = arith.extsi %r : i18 to i35
      %product = arith.muli %left, %right : i35
      %scaled = fixed.rescale %product by 14 : i35 to i8
      ternary.yield %scaled : i8
    }} -> tensor<?x{h}xi8>
    %wf = ternary.load @f_proj : tensor<{d}x{h}x!ternary.trit>
    %wi = ternary.load @i_proj : tensor<{d}x{h}x!ternary.trit>
    %f_acc = ternary.accumulate %q, %wf : tensor<?x{h}xi8>, tensor<{d}x{h}x!ternary.trit> -> tensor<?x{d}xi{acc}>
    %i_acc = ternary.accumulate %q, %wi : tensor<?x{h}xi8>, tensor<{d}x{h}x!ternary.trit> -> tensor<?x{d}xi{acc}>
    %f, %i = ternary.elementwise(%f_acc, %i_acc, %step : tensor<?x{d}xi{acc}>, tensor<?x{d}xi{acc}>, tensor<?xi18>)
        axes = [array<i64: 0, 1>, array<i64: 0, 1>, array<i64: 0>] {{
    ^bb0(%a: i{acc}, %b: i{acc}, %s: i18):
      %left = arith.extsi %a : i{acc} to i{acc + 18}
      %scale = arith.extsi %s : i18 to i{acc + 18}
      %product = arith.muli %left, %scale : i{acc + 18}
      %gate_in = fixed.rescale %product by 14 : i{acc + 18} to i16
      %gate = fixed.interpolate %gate_in, @sigmoid : i16 to i18
      %right = arith.extsi %b : i{acc} to i{acc + 18}
      %other = arith.muli %right, %scale : i{acc + 18}
      %value = fixed.rescale %other by 12 : i{acc + 18} to i16
      %one = arith.constant 65536 : i18
      %rest = arith.subi %one, %gate : i18
      %rest_wide = arith.extsi %rest : i18 to i34
      %value_wide = arith.extsi %value : i16 to i34
      %input = arith.muli %rest_wide, %value_wide : i34
      %input_scaled = fixed.rescale %input by 16 : i34 to i16
      %zero = arith.constant -5 : i16
      %above = arith.cmpi sgt, %input_scaled, %zero : i16
      %kept = arith.select %above, %input_scaled, %zero : i16
      %limit = arith.constant 30000 : i16
      %bounded = arith.minsi %kept, %limit : i16
      ternary.yield %gate, %bounded : i18, i16
    }} -> tensor<?x{d}xi18>, tensor<?x{d}xi16>
    %init = fixed.from_float %state : tensor<{d}xf32> -> tensor<{d}xi16, #fixed.point<8>>
    %states, %last = fixed.scan %f, %i, %init by 16
        : tensor<?x{d}xi18>, tensor<?x{d}xi16>, tensor<{d}xi16, #fixed.point<8>>
        -> tensor<?x{d}xi16, #fixed.point<8>>, tensor<{d}xi16, #fixed.point<8>>
    %o = ternary.elementwise(%states : tensor<?x{d}xi16, #fixed.point<8>>) {{
    ^bb0(%a: i16):
      %scaled = fixed.rescale %a by 5 : i16 to i8
      ternary.yield %scaled : i8
    }} -> tensor<?x{d}xi8>
    %wh = ternary.load @head : tensor<{v}x{d}x!ternary.trit>
    %logits = ternary.accumulate %o, %wh : tensor<?x{d}xi8>, tensor<{v}x{d}x!ternary.trit> -> tensor<?x{v}xi{head}>
    %plain = ternary.elementwise(%logits : tensor<?x{v}xi{head}>) {{
    ^bb0(%a: i{head}):
      %scaled = fixed.rescale %a by -1 : i{head} to i{head + 1}
      ternary.yield %scaled : i{head + 1}
    }} -> tensor<?x{v}xi{head + 1}, #fixed.point<6>>
    %y_out = fixed.to_float %plain : tensor<?x{v}xi{head + 1}, #fixed.point<6>> -> tensor<?x{v}xf32>
    %s_out = fixed.to_float %last : tensor<{d}xi16, #fixed.point<8>> -> tensor<{d}xf32>
    func.return %y_out, %s_out : tensor<?x{v}xf32>, tensor<{d}xf32>
  }}
}}
"""

    def module(self) -> ModuleOp:
        return parse(self.text(), "small-model.mlir")

    def weights(self) -> ArrayStore:
        rng = np.random.default_rng(self.seed)
        v, h, d = self.vocabulary, self.hidden, self.inner

        def trits(rows: int, columns: int) -> npt.NDArray[np.int8]:
            return rng.integers(-1, 2, (rows, columns)).astype(np.int8)

        return ArrayStore(
            {
                "embedding": rng.integers(-(1 << 13), 1 << 13, (v, h)).astype(np.int16),
                "gain": rng.integers(-(1 << 11), 1 << 11, h).astype(np.int16),
                "f_proj": trits(d, h),
                "i_proj": trits(d, h),
                "head": trits(v, d),
            }
        )


MODELS = st.builds(
    SmallModel,
    vocabulary=st.integers(2, 20),
    hidden=st.integers(2, 12),
    inner=st.integers(1, 14),
    seed=st.integers(0, 99),
)
