"""Normalizations, as a model in use computes them."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import arith, math
from xdsl.ir import SSAValue

from sterna.frontends.onnx.data_types import FLOAT
from sterna.frontends.onnx.emitters import EmitterTable
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.pooling import element_count, total
from sterna.frontends.onnx.sizes import Dim, Shape, Size, shape_text
from sterna.frontends.onnx.values import Tensor

EMITTERS = EmitterTable()
emits = EMITTERS.of


def along_channels(to: Node, vector: Tensor, shape: Shape, name: str) -> SSAValue:
    """A number for each channel, repeated over a tensor [N, C, ...]."""
    channels = shape[1] if len(shape) > 1 else 1
    if vector.shape != (channels,):
        raise OnnxError(
            f"{to.place}: input '{name}': expected [{channels}], found {shape_text(vector.shape)}"
        )
    return to.stretch(to.value(vector), (channels, *([1] * (len(shape) - 2))), shape)


@emits("BatchNormalization")
def batch_normalization(
    to: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """x * a + b with a = scale / sqrt(variance + epsilon), b = bias - mean * a: numbers of the weights alone."""
    if to.has("training_mode") and to.integer("training_mode"):
        raise Unsupported("training_mode = 1: the running statistics would be outputs")
    if to.has("spatial") and not to.integer("spatial"):
        raise Unsupported("spatial = 0: statistics for each element")
    size = scale.shape
    epsilon = to.splat(to.number("epsilon", 1e-5), size, FLOAT)
    deviation = to.unary(math.SqrtOp, to.binary(arith.AddfOp, to.value(variance), epsilon))
    factor = to.binary(arith.DivfOp, to.value(scale), deviation)
    addend = to.binary(arith.SubfOp, to.value(bias), to.binary(arith.MulfOp, to.value(mean), factor))
    factors, addends = (
        along_channels(to, Tensor(size, FLOAT, value), x.shape, "scale") for value in (factor, addend)
    )
    product = to.binary(arith.MulfOp, to.value(x), factors)
    return to.result(to.binary(arith.AddfOp, product, addends), x.shape, x.type)


def mean_over(to: Node, value: SSAValue, shape: Shape, axes: Sequence[int]) -> SSAValue:
    """The mean of a value of ONNX's `shape` over `axes`, which stay with size 1."""
    places = Tensor(shape, FLOAT, value).ir_axes(list(axes))
    left = reduced(shape, axes)
    sizes = tuple(shape[axis] for axis in axes)
    return to.binary(arith.DivfOp, total(to, value, places), element_count(to, sizes, left, FLOAT))


def reduced(shape: Shape, axes: Sequence[int]) -> Shape:
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))


def standardized(
    to: Node, value: SSAValue, shape: Shape, axes: Sequence[int]
) -> tuple[SSAValue, SSAValue, SSAValue]:
    """(x - mean) / sqrt(variance + epsilon), the mean, and the factor 1 / sqrt(variance + epsilon)."""
    left = reduced(shape, axes)
    mean = mean_over(to, value, shape, axes)
    centred = to.binary(arith.SubfOp, value, to.stretch(mean, left, shape))
    variance = mean_over(to, to.binary(arith.MulfOp, centred, centred), shape, axes)
    factor = inverse_root(to, variance, left)
    return to.binary(arith.MulfOp, centred, to.stretch(factor, left, shape)), mean, factor


def inverse_root(to: Node, value: SSAValue, shape: Shape) -> SSAValue:
    """1 / sqrt(value + epsilon)"""
    epsilon = to.splat(to.number("epsilon", 1e-5), shape, FLOAT)
    root = to.unary(math.SqrtOp, to.binary(arith.AddfOp, value, epsilon))
    return to.binary(arith.DivfOp, to.splat(1.0, shape, FLOAT), root)


def _last_axes(to: Node, x: Tensor) -> list[int]:
    """From the attribute `axis` to the last."""
    if to.integer("stash_type", 1) != 1:
        raise Unsupported("a stash_type other than float32")
    return list(range(x.axis(to.integer("axis", -1)), x.rank))


@emits("LayerNormalization")
def layer_normalization(to: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> list[Tensor]:
    axes = _last_axes(to, x)
    value, mean, factor = standardized(to, to.value(x), x.shape, axes)
    value = to.binary(arith.MulfOp, value, _fitting(to, scale, x.shape, "Scale"))
    if bias is not None:
        value = to.binary(arith.AddfOp, value, _fitting(to, bias, x.shape, "B"))
    left = reduced(x.shape, axes)
    return [to.result(value, x.shape, x.type), to.result(mean, left, FLOAT), to.result(factor, left, FLOAT)]


@emits("RMSNormalization")
def rms_normalization(to: Node, x: Tensor, scale: Tensor) -> Tensor:
    """x * (1 / sqrt(mean(x^2) + epsilon)) * scale"""
    axes, value = _last_axes(to, x), to.value(x)
    left = reduced(x.shape, axes)
    factor = inverse_root(to, mean_over(to, to.binary(arith.MulfOp, value, value), x.shape, axes), left)
    value = to.binary(arith.MulfOp, value, to.stretch(factor, left, x.shape))
    value = to.binary(arith.MulfOp, value, _fitting(to, scale, x.shape, "scale"))
    return to.result(value, x.shape, x.type)


def _fitting(to: Node, tensor: Tensor, shape: Shape, name: str) -> SSAValue:
    """An input that must not widen x."""
    if to.broadcast_shape(tensor, Tensor(shape, tensor.type)) != shape:
        raise OnnxError(
            f"{to.place}: input '{name}' of {shape_text(tensor.shape)} does not fit {shape_text(shape)}"
        )
    return to.broadcast(tensor, shape)


@emits("InstanceNormalization")
def instance_normalization(to: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    value, _, _ = standardized(to, to.value(x), x.shape, list(range(2, x.rank)))
    value = to.binary(arith.MulfOp, value, along_channels(to, scale, x.shape, "scale"))
    return to.result(to.binary(arith.AddfOp, value, along_channels(to, bias, x.shape, "B")), x.shape, x.type)


@emits("GroupNormalization", since=18)
def group_normalization(to: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Until opset 20 with a scale and bias for each group, since 21 for each channel."""
    groups, channels = to.integer("num_groups"), x.shape[1] if x.rank > 1 else 1
    if isinstance(channels, Size) or groups < 1 or channels % groups:
        raise OnnxError(
            f"{to.place}: num_groups: {groups} do not divide the channels of {shape_text(x.shape)}"
        )
    if to.integer("stash_type", 1) != 1:
        raise Unsupported("a stash_type other than float32")
    split: tuple[Dim, ...] = (x.shape[0], groups, channels // groups, *x.shape[2:])
    value, _, _ = standardized(to, to.reshape(to.value(x), split), split, list(range(2, len(split))))
    for op, vector, name in ((arith.MulfOp, scale, "scale"), (arith.AddfOp, bias, "bias")):
        if to.opset < 21:
            repeated = along_channels(to, vector, split, name)
        else:
            if vector.shape != (channels,):
                raise OnnxError(
                    f"{to.place}: input '{name}': expected [{channels}], found {shape_text(vector.shape)}"
                )
            sizes = (groups, channels // groups)
            table = to.reshape(to.value(vector), sizes)
            repeated = to.stretch(table, (*sizes, *([1] * (x.rank - 2))), split)
        value = to.binary(op, value, repeated)
    return to.result(to.reshape(value, x.shape), x.shape, x.type)
