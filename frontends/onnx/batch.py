"""Proves that a graph treats every sample of a batch by itself, so that it can be compiled for one and run for each.

The batch is a size B that the IR does not have. A tensor carries it as the outermost factor of one axis, and element b
of that axis depends on sample b alone: this holds of the inputs, and every node is shown here to keep it. Node by node:

* what is computed from a tensor with B has B in exactly one axis (reducing it, or taking an element of it, loses it;
  two tensors that carry it in different places make an axis each);
* an operator that mixes the elements of some axes mixes none that carries B;
* a reshape keeps B at its place in row-major order.

An operator that is not listed is not known to keep it, and so refuses a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from sterna.frontends.onnx.elementwise import BINARY, COMPARISONS, FLOAT_UNARY
from sterna.frontends.onnx.errors import Unsupported
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.sizes import count_elements, has_batch, is_equal, shape_text
from sterna.frontends.onnx.values import Tensor

Inputs: TypeAlias = Sequence[Tensor | None]
Rule: TypeAlias = Callable[[Node, Inputs, Sequence[Tensor | None]], None]


def batch_axis(tensor: Tensor | None) -> int | None:
    """The axis that carries the batch, if one does. Unsupported if several do."""
    axes = [axis for axis, size in enumerate(tensor.shape) if has_batch(size)] if tensor is not None else []
    if len(axes) > 1:
        assert tensor is not None
        raise Unsupported(f"samples of the batch meet each other: {shape_text(tensor.shape)}")
    return axes[0] if axes else None


def _nothing(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    """Elements are combined with those at the same place, or not at all."""


def _refuse(axis: int) -> None:
    raise Unsupported(f"axis {axis}, the batch, is mixed")


def _axis(default: int | None) -> Rule:
    """The axis of that attribute is mixed."""

    def check(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
        for tensor in inputs:
            place = batch_axis(tensor)
            if tensor is not None and place is not None and tensor.axis(to.integer("axis", default)) == place:
                _refuse(place)

    return check


def _from_axis(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    """The axes from that attribute on are mixed."""
    place = batch_axis(inputs[0])
    if inputs[0] is not None and place is not None and inputs[0].axis(to.integer("axis", -1)) <= place:
        _refuse(place)


def _last(count: int) -> Rule:
    """The last axes are mixed."""

    def check(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
        for tensor in inputs:
            place = batch_axis(tensor)
            if tensor is not None and place is not None and place >= tensor.rank - count:
                _refuse(place)

    return check


def _first_two_kept(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    """Samples and channels are the first axes; only the samples may be a batch, and only of the first input."""
    if any(batch_axis(tensor) is not None for tensor in inputs[1:]) or batch_axis(inputs[0]) not in (None, 0):
        raise Unsupported("the batch is not the first axis")


def _named_axes(input: int) -> Rule:
    """The axes that an input lists are mixed; all, if there is no list."""

    def check(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
        x, place = inputs[0], batch_axis(inputs[0])
        if x is None or place is None:
            return
        named = inputs[input] if input < len(inputs) else None
        axes = range(x.rank) if named is None else [x.axis(axis) for axis in to.ints(named, "axes")]
        if place in axes:
            _refuse(place)

    return check


def _kept_size(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    """Axes are cut, padded or repeated: not that of the batch, which stays where and as long as it is."""
    place = batch_axis(inputs[0])
    for output in outputs:
        if place is None or output is None or inputs[0] is None:
            continue
        if batch_axis(output) != place or output.shape[place] != inputs[0].shape[place]:
            _refuse(place)


def _reshape(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    x, y = inputs[0], outputs[0]
    place, after = batch_axis(x), batch_axis(y)
    if x is None or y is None or place is None or after is None:
        return
    if not is_equal(count_elements(x.shape[:place]), count_elements(y.shape[:after])):
        raise Unsupported(f"{shape_text(x.shape)} as {shape_text(y.shape)} moves elements between samples")


def _gather_elements(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    """Data and indices go together along every axis but one."""
    if batch_axis(inputs[0]) != batch_axis(inputs[1]):
        raise Unsupported("only one of the data and the indices is a batch")
    _axis(0)(to, inputs, outputs)


def _scan(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    """The body is checked by itself; what is scanned must not be the batch's axis."""
    count = to.integer("num_scan_inputs")
    scanned = inputs[len(inputs) - count :]
    for tensor, axis in zip(scanned, to.integers("scan_input_axes", [0] * count), strict=True):
        if tensor is not None and batch_axis(tensor) == tensor.axis(axis):
            _refuse(axis)


def _pool(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    if to.output_count > 1:
        raise Unsupported("indices of a pooling count through the batch")
    _first_two_kept(to, inputs, outputs)


def _product(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    """The last axis of the left meets the last but one of the right."""
    left, right = inputs[0], inputs[1]
    assert left is not None and right is not None
    inner = [left.rank - 1, max(right.rank - 2, 0)]
    for tensor, axis in zip((left, right), inner, strict=True):
        if batch_axis(tensor) == axis:
            _refuse(axis)


def _quantized_product(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    _product(to, (inputs[0], inputs[3]), outputs)


def _quantized_gemm(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    _gemm(to, (inputs[0], inputs[3]), outputs)


def _gemm(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    for tensor, transposed, inner in ((inputs[0], "transA", 1), (inputs[1], "transB", 0)):
        axis = 1 - inner if to.integer(transposed, 0) else inner
        if batch_axis(tensor) == axis:
            _refuse(axis)


def _gather(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    """Looks up along an axis of the data, which must not be the batch's."""
    data = inputs[0]
    if data is not None and batch_axis(data) == data.axis(to.integer("axis", 0)):
        _refuse(data.axis(to.integer("axis", 0)))


ELEMENTWISE = (
    *BINARY,
    *COMPARISONS,
    *FLOAT_UNARY,
    *("Sum", "Max", "Min", "Mean", "Neg", "Abs", "Reciprocal", "Sign", "Not", "BitwiseNot"),
    *("BitShift", "Where", "IsNaN", "IsInf", "Mod", "Pow", "Cast", "CastLike", "Clip", "Relu"),
    *("Sigmoid", "Swish", "LeakyRelu", "PRelu", "ThresholdedRelu", "Shrink", "Elu", "Selu", "Celu"),
    *("HardSigmoid", "HardSwish", "Softplus", "Softsign", "Mish", "Gelu", "Tan", "Sinh", "Cosh"),
    *("Identity", "Dropout", "Shape", "Size", "Transpose", "Expand", "If", "Loop", "OneHot"),
    *("ConstantOfShape", "QuantizeLinear", "DequantizeLinear", "Quant", "IntQuant", "BipolarQuant"),
    *("Trunc", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu"),
)
"""Also those that move whole axes: that one carries the batch afterwards is checked of every node."""

RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _nothing),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "TopK"), _axis(-1)),
    **dict.fromkeys(("Split", "ArgMax", "ArgMin"), _axis(0)),
    "GatherElements": _gather_elements,
    "Scan": _scan,
    "Concat": _axis(None),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _from_axis),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"), _kept_size),
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"), _kept_size
    ),
    "CumSum": _named_axes(1),
    "Trilu": _last(2),
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _quantized_product,
    "MatMulNBits": _last(1),
    "Gemm": _gemm,
    "QGemm": _quantized_gemm,
    "Gather": _gather,
    "Slice": _named_axes(3),
    **dict.fromkeys(("Pad", "Tile"), _kept_size),
    **dict.fromkeys(
        ("Conv", "ConvInteger", "QLinearConv", "BatchNormalization", "InstanceNormalization"), _first_two_kept
    ),
    **dict.fromkeys(("GroupNormalization", "MultiThreshold", "QLinearAveragePool"), _first_two_kept),
    "QLinearGlobalAveragePool": _first_two_kept,
    **dict.fromkeys(("AveragePool", "LpPool", "DepthToSpace", "SpaceToDepth"), _first_two_kept),
    "MaxPool": _pool,
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _first_two_kept),
}


def check_batch(to: Node, inputs: Inputs, outputs: Sequence[Tensor | None]) -> None:
    """Unsupported if the node is not known to treat every sample of the batch by itself."""
    is_carried = any(batch_axis(tensor) is not None for tensor in inputs)
    if not is_carried and not any(batch_axis(output) is not None for output in outputs):
        return
    rule = RULES.get(to.proto.op_type)
    if rule is None or (to.proto.op_type in ("Softmax", "LogSoftmax") and to.opset < 13):
        raise Unsupported(
            "not known to treat the samples of a batch one by one: give the batch a number with --size"
        )
    rule(to, inputs, outputs)
    for output in outputs:
        if is_carried and output is not None and output.value is not None and batch_axis(output) is None:
            raise Unsupported("samples of the batch are mixed: give the batch a number with --size")
