"""Bugs in frontends: what a framework's operators become."""

from __future__ import annotations

from tests.mutation.mutant import Mutant

TORCH = (
    "tests/unit/test_torch_modules.py",
    "tests/unit/test_torch_networks.py",
    "tests/unit/test_torch_import.py",
    "tests/property/test_tensor_builder.py",
)
MODEL = ("tests/unit/test_hgrn_bit.py", "tests/unit/test_torch_language_model.py")
NORMS = ("tests/property/test_onnx_norms.py",)
QUANTIZATION = ("tests/property/test_onnx_quantization.py",)
CONVOLUTIONS = ("tests/property/test_onnx_convolutions.py",)
CONFORMANCE = ("tests/end_to_end/test_onnx_conformance.py",)
QONNX = ("tests/property/test_qonnx.py",)

MUTANTS = (
    Mutant(
        "frontends/models/hgrn_bit.py",
        "return self.down_proj(F.silu(gate) * up)",
        "return self.down_proj(gate * F.silu(up))",
        "MLP: gate and up swapped",
        MODEL,
    ),
    Mutant(
        "frontends/models/hgrn_bit.py",
        "x = h + x\n        return x",
        "x = h\n        return x",
        "block: the residual of the token mixer is lost",
        MODEL,
    ),
    Mutant(
        "frontends/models/hgrn_bit.py",
        "i = F.silu(i) * (1 - f)",
        "i = F.silu(i) * f",
        "recurrence: the input gate is f",
        MODEL,
    ),
    Mutant(
        "frontends/models/hgrn_bit.py",
        "return (x * scale).round().clamp(-128, 127) / scale",
        "return (x * scale).floor().clamp(-128, 127) / scale",
        "activations: rounded down",
        MODEL,
    ),
    Mutant(
        "frontends/models/hgrn_bit.py",
        "history[:, -cache.shape[1] :].clone()",
        "history[:, : cache.shape[1]].clone()",
        "short convolution: the cache keeps the oldest inputs",
        MODEL,
    ),
    Mutant(
        "frontends/recurrence.py",
        "return Recurrence(scanned.index(cast(Node, f)), scanned.index(cast(Node, i)), len(results) - 1)",
        "return Recurrence(scanned.index(cast(Node, i)), scanned.index(cast(Node, f)), len(results) - 1)",
        "recurrence: gate and input swapped",
        TORCH + MODEL,
    ),
    Mutant(
        "frontends/aten_norms.py",
        "root = to.unary(math.RsqrtOp, to.binary(arith.AddfOp, square,",
        "root = to.unary(math.RsqrtOp, to.binary(arith.MaximumfOp, square,",
        "torch rms_norm: eps is a floor",
        TORCH,
    ),
    Mutant(
        "frontends/aten_norms.py",
        "shift = to.binary(arith.SubfOp, start, to.binary(arith.MulfOp, centre, factor))",
        "shift = to.binary(arith.AddfOp, start, to.binary(arith.MulfOp, centre, factor))",
        "torch batch norm: the mean is added",
        TORCH,
    ),
    Mutant(
        "frontends/aten_reductions.py",
        "1 if correction is None else correction), centre",
        "0 if correction is None else correction), centre",
        "torch var: no correction",
        TORCH,
    ),
    Mutant(
        "frontends/aten_reductions.py",
        "beyond = to.build.splat((1 << 63) - 1, shape, i64)",
        "beyond = to.build.splat(0, shape, i64)",
        "torch argmax: index 0 where it is not",
        TORCH,
    ),
    Mutant(
        "frontends/aten.py",
        "return to.binary(arith.MulfOp, to.operand(x), sigmoid(to, x))",
        "return sigmoid(to, x)",
        "torch silu: sigmoid alone",
        TORCH,
    ),
    Mutant(
        "frontends/aten_windows.py",
        "if counts_padding or divisor or not any(low):",
        "if True:",
        "torch avg_pool: padding always counts",
        TORCH,
    ),
    Mutant(
        "frontends/aten_windows.py",
        'sliding, -inf if kind == "max" else 0.0)',
        "sliding, 0.0)",
        "torch max_pool: pads with 0",
        TORCH,
    ),
    Mutant(
        "frontends/tensor_builder.py",
        "elif right < left and j < len(target):\n                j += 1",
        "elif right < left and j + 1 < len(target):\n                j += 1",
        "reshape: a last axis is not split",
        TORCH,
    ),
    Mutant(
        "frontends/onnx/norms.py",
        "left = reduced(shape, axes)\n    mean = mean_over(to, value, shape, axes)\n    centred",
        "left = reduced(shape, axes)\n    mean = to.splat(0.0, left, FLOAT)\n    centred",
        "ONNX layer norm: not centred",
        NORMS,
    ),
    Mutant(
        "frontends/onnx/norms.py",
        'epsilon = to.splat(to.number("epsilon", 1e-5), shape, FLOAT)',
        "epsilon = to.splat(0.0, shape, FLOAT)",
        "ONNX norms: no epsilon",
        NORMS,
    ),
    Mutant(
        "frontends/onnx/norms.py",
        "addend = to.binary(arith.SubfOp, to.value(bias)",
        "addend = to.binary(arith.AddfOp, to.value(bias)",
        "ONNX batch norm: the mean is added",
        NORMS + CONVOLUTIONS + CONFORMANCE,
    ),
    Mutant(
        "frontends/onnx/norms.py",
        "split: tuple[Dim, ...] = (x.shape[0], groups, channels // groups, *x.shape[2:])",
        "split: tuple[Dim, ...] = (x.shape[0], channels // groups, groups, *x.shape[2:])",
        "ONNX group norm: groups of another size",
        NORMS,
    ),
    Mutant(
        "frontends/onnx/quantization.py",
        "value = to.unary(math.RoundEvenOp, to.binary(arith.DivfOp, to.value(x), scale))",
        "value = to.unary(math.RoundOp, to.binary(arith.DivfOp, to.value(x), scale))",
        "QuantizeLinear: ties away from zero",
        QUANTIZATION,
    ),
    Mutant(
        "frontends/onnx/quantization.py",
        "return to.build.slice(value, place, 0, length)",
        "return to.build.slice(value, place, count * block - length, length)",
        "blocks: the rest is cut off in front",
        QUANTIZATION,
    ),
    Mutant(
        "frontends/onnx/quantization.py",
        'value = to.binary(arith.SubfOp, value, parameter(to, as_floats(to, zero), x, "x_zero_point"))',
        'value = to.binary(arith.AddfOp, value, parameter(to, as_floats(to, zero), x, "x_zero_point"))',
        "DequantizeLinear: the zero point is added",
        QUANTIZATION,
    ),
    Mutant(
        "frontends/onnx/quantization.py",
        'to.compare("eq", span, zero, FLOAT)',
        'to.compare("ne", span, span, FLOAT)',
        "DynamicQuantizeLinear: no step for zeros",
        QUANTIZATION,
    ),
    Mutant(
        "frontends/onnx/integer_products.py",
        '_less(to, b, b_zero, -1, "b_zero_point")',
        '_less(to, b, None, -1, "b_zero_point")',
        "MatMulInteger: b's zero point is lost",
        QUANTIZATION,
    ),
    Mutant(
        "frontends/onnx/integer_products.py",
        'steps = spread(to, as_floats(to, y_scale), shape, along, "y_scale")',
        'steps = spread(to, as_floats(to, first), shape, first_axis, "y_scale")',
        "QLinearMatMul: a's scale for y's",
        QUANTIZATION,
    ),
    Mutant(
        "frontends/onnx/windows.py",
        "window = Window(size, stride, dilation, pads[axis], pads[rank + axis])",
        "window = Window(size, stride, dilation, pads[2 * axis], pads[2 * axis + 1])",
        "pads: read as pairs",
        CONVOLUTIONS,
    ),
    Mutant(
        "frontends/onnx/windows.py",
        "return replace(window, low=more if extra_is_low else less, high=less if extra_is_low else more)",
        "return replace(window, low=less if extra_is_low else more, high=more if extra_is_low else less)",
        "auto_pad: upper and lower swapped",
        CONVOLUTIONS,
    ),
    Mutant(
        "frontends/onnx/windows.py",
        "if (count - 1) * window.stride >= length + window.low:",
        "if (count - 1) * window.stride > length + window.low:",
        "ceil_mode: a window of padding alone",
        CONVOLUTIONS + CONFORMANCE,
    ),
    Mutant(
        "frontends/onnx/pooling.py",
        "low, high = (-window.low, length + window.high) if is_padding_counted else (0, length)",
        "low, high = (-window.low, length + window.high)",
        "AveragePool: padding always counts",
        CONVOLUTIONS,
    ),
    Mutant(
        "frontends/onnx/convolutions.py",
        "sizes = (groups, channels // groups, inner)\n    matrix",
        "sizes = (channels // groups, groups, inner)\n    matrix",
        "Conv: channels of another group",
        CONVOLUTIONS,
    ),
    Mutant(
        "frontends/onnx/reductions.py",
        "other = -1 if last else INT64.largest",
        "other = 0",
        "ArgMax: index 0 where it is not",
        (*CONFORMANCE, "tests/unit/test_onnx_import.py"),
    ),
    Mutant(
        "frontends/onnx/reductions.py",
        "return moved, exp, reduced_sum(to, exp, [axis])",
        "return to.value(x), exp, reduced_sum(to, exp, [axis])",
        "LogSoftmax: the maximum is not taken off",
        CONFORMANCE,
    ),
    Mutant(
        "frontends/onnx/qonnx.py",
        "half = to.binary(arith.SubfOp, to.unary(math.AbsFOp, value), to.splat(0.5, shape, FLOAT))",
        "half = to.binary(arith.AddfOp, to.unary(math.AbsFOp, value), to.splat(0.5, shape, FLOAT))",
        "QONNX HALF_DOWN: half is added",
        QONNX,
    ),
    Mutant(
        "frontends/onnx/multithreshold.py",
        "base = 0 if steps <= INT8.largest else -128",
        "base = 0",
        "MultiThreshold: 255 steps wrap",
        QONNX,
    ),
)
