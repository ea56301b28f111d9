"""Opsets 7 to 12: which operators mean there what they mean in opset 13, and the others in their older forms.

Most operators of those opsets only learned more types since. Some had an attribute where later there is an input; two
had another meaning, Softmax and LogSoftmax, which took all axes from `axis` on as one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sterna.frontends.onnx.data_types import INT64
from sterna.frontends.onnx.elementwise import clip
from sterna.frontends.onnx.emitters import EmitterTable, Outputs
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.reductions import log_softmax_along, softmax_along
from sterna.frontends.onnx.shapes import reshaped, squeeze, unsqueeze
from sterna.frontends.onnx.sizes import count_elements
from sterna.frontends.onnx.slicing import pad, slice_, split
from sterna.frontends.onnx.values import Tensor, known

EMITTERS = EmitterTable()
emits = EMITTERS.of

UNCHANGED = 13
"""The opset since which every operator means what its emitter says."""

SAME_SINCE: dict[str, int] = {
    **dict.fromkeys(
        ["Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Not", "Equal", "Less", "Greater"], 7
    ),
    **dict.fromkeys(
        ["Abs", "Neg", "Exp", "Log", "Sqrt", "Ceil", "Floor", "Reciprocal", "Sin", "Cos", "Tan"], 7
    ),
    **dict.fromkeys(["Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "PRelu"], 7),
    **dict.fromkeys(["Softplus", "Softsign", "Identity", "Constant", "Cast", "Dropout"], 7),
    **dict.fromkeys(
        ["MatMul", "Gemm", "Transpose", "Reshape", "Shape", "Size", "Concat", "Gather", "Tile"], 7
    ),
    **dict.fromkeys(["Conv", "MaxPool", "AveragePool", "LpPool", "BatchNormalization"], 7),
    **dict.fromkeys(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "InstanceNormalization"], 7),
    **dict.fromkeys(
        ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"], 7
    ),
    **dict.fromkeys(["ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "ArgMax", "ArgMin", "Flatten"], 7),
    **dict.fromkeys(["Max", "Min", "Sum", "Mean", "Expand"], 8),
    **dict.fromkeys(["If", "Loop"], 7),
    "Scan": 9,
    **dict.fromkeys(["Where", "Sign", "Erf", "Sinh", "Cosh", "IsNaN", "ConstantOfShape", "OneHot"], 9),
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear", "MatMulInteger", "ConvInteger"], 10),
    **dict.fromkeys(["QLinearMatMul", "QLinearConv", "Mod", "IsInf", "TopK"], 10),
    **dict.fromkeys(["DynamicQuantizeLinear", "Round", "BitShift", "CumSum"], 11),
    **dict.fromkeys(["LessOrEqual", "GreaterOrEqual", "Einsum"], 12),
}


def is_known(operator: str, version: int) -> bool:
    """Whether that version of ONNX's own operator means what its emitter says."""
    return version >= SAME_SINCE.get(operator, UNCHANGED) or ("", operator) in EMITTERS


def _given(numbers: list[int]) -> Tensor:
    """An attribute as the input that it became."""
    return known(np.array(numbers, np.int64), INT64)


@emits("Unsqueeze")
def unsqueeze_by_attribute(to: Node, x: Tensor) -> Outputs:
    return unsqueeze(to, x, _given(to.integers("axes")))


@emits("Squeeze")
def squeeze_by_attribute(to: Node, x: Tensor) -> Outputs:
    return squeeze(to, x, _given(to.integers("axes")) if to.has("axes") else None)


@emits("Split")
def split_by_attribute(to: Node, x: Tensor) -> Outputs:
    return split(to, x, _given(to.integers("split")) if to.has("split") else None)


@emits("Slice")
def slice_by_attribute(to: Node, x: Tensor) -> Outputs:
    axes = _given(to.integers("axes")) if to.has("axes") else None
    return slice_(to, x, _given(to.integers("starts")), _given(to.integers("ends")), axes)


@emits("Clip")
def clip_by_attribute(to: Node, x: Tensor) -> Outputs:
    bounds = [_number(to.number(name), x) if to.has(name) else None for name in ("min", "max")]
    return clip(to, x, *bounds)


def _number(number: float, like: Tensor) -> Tensor:
    return known(np.array(number, like.type.dtype), like.type)


@emits("Pad")
def pad_by_attribute(to: Node, x: Tensor) -> Outputs:
    return pad(to, x, _given(to.integers("pads")), _number(to.number("value", 0.0), x))


@emits("Softmax")
def softmax_of_matrix(to: Node, x: Tensor) -> Outputs:
    return _of_matrix(to, x, softmax_along)


@emits("LogSoftmax")
def log_softmax_of_matrix(to: Node, x: Tensor) -> Outputs:
    return _of_matrix(to, x, log_softmax_along)


def _of_matrix(to: Node, x: Tensor, along: Callable[[Node, Tensor, int], Tensor]) -> Outputs:
    """All axes before `axis` are rows, and those from there on one axis."""
    axis = x.axis(to.integer("axis", 1))
    rows, columns = count_elements(x.shape[:axis]), count_elements(x.shape[axis:])
    return reshaped(to, along(to, reshaped(to, x, [rows, columns]), 1), list(x.shape))
