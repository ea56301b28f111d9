"""ATen's norms and softmaxes, composed of sums, maxima and arithmetic. See `aten` for what a table of emitters is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node
from xdsl.dialects import arith, math
from xdsl.ir import SSAValue

from sterna.frontends.aten import EmitterTable, aten
from sterna.frontends.aten_reductions import along, mean_of, reduce_axes
from sterna.frontends.lowering import Lowering, Meta, Unsupported
from sterna.frontends.tensor_builder import shape_of

EMITTERS = EmitterTable()
emits = EMITTERS.of


@emits(aten.softmax.int, aten._softmax.default)
def softmax(to: Lowering, x: Node, axis: int, *options: object) -> SSAValue:
    """exp(x - max(x)) / sum(exp(x - max(x)))"""
    return softmax_of(to, to.operand(x), to.result, axis)


def softmax_of(to: Lowering, value: SSAValue, meta: Meta, axis: int) -> SSAValue:
    high = along(to, reduce_axes(to, value, meta, axis, "max"), meta, axis)
    exp = to.unary(math.ExpOp, to.binary(arith.SubfOp, value, high))
    return to.binary(arith.DivfOp, exp, along(to, reduce_axes(to, exp, meta, axis, "sum"), meta, axis))


@emits(aten.log_softmax.int, aten._log_softmax.default)
def log_softmax(to: Lowering, x: Node, axis: int, *options: object) -> SSAValue:
    """x - max(x) - log(sum(exp(x - max(x))))"""
    meta, value = to.result, to.operand(x)
    shifted = to.binary(arith.SubfOp, value, along(to, reduce_axes(to, value, meta, axis, "max"), meta, axis))
    total = reduce_axes(to, to.unary(math.ExpOp, shifted), meta, axis, "sum")
    return to.binary(arith.SubfOp, shifted, along(to, to.unary(math.LogOp, total), meta, axis))


@emits(aten.rms_norm.default)
def rms_norm(to: Lowering, x: Node, shape: Sequence[int], weight: Node | None, eps: float | None) -> SSAValue:
    """(x * (1 / sqrt(mean(x^2) + eps))) * weight; the default eps is that of x's dtype."""
    meta = to.meta(x)
    axes = list(range(-len(shape), 0))
    value = to.value(x)
    epsilon = torch.finfo(meta.dtype).eps if eps is None else eps
    square = mean_of(to, to.binary(arith.MulfOp, value, value), meta, axes)
    root = to.unary(math.RsqrtOp, to.binary(arith.AddfOp, square, to.build.splat(epsilon, shape_of(square))))
    scaled = to.binary(arith.MulfOp, value, along(to, root, meta, axes))
    return scaled if weight is None else to.binary(arith.MulfOp, scaled, to.operand(weight, meta))


@emits(aten.layer_norm.default)
def layer_norm(
    to: Lowering,
    x: Node,
    shape: Sequence[int],
    weight: Node | None,
    bias: Node | None,
    eps: float,
    *options: Any,
) -> SSAValue:
    """(x - mean(x)) * (1 / sqrt(mean((x - mean(x))^2) + eps)) * weight + bias"""
    return _scaled_norm(to, x, shape, weight, bias, eps)


def _scaled_norm(
    to: Lowering, x: Node, shape: Sequence[int], weight: Node | None, bias: Node | None, eps: float
) -> SSAValue:
    meta = to.meta(x)
    value = _normalized(to, to.value(x), meta, list(range(-len(shape), 0)), eps)
    value = value if weight is None else to.binary(arith.MulfOp, value, to.operand(weight, meta))
    return value if bias is None else to.binary(arith.AddfOp, value, to.operand(bias, meta))


def _normalized(to: Lowering, value: SSAValue, meta: Meta, axes: Sequence[int], eps: float) -> SSAValue:
    """(x - mean(x)) * (1 / sqrt(mean((x - mean(x))^2) + eps))"""
    centred = to.binary(arith.SubfOp, value, along(to, mean_of(to, value, meta, axes), meta, axes))
    variance = mean_of(to, to.binary(arith.MulfOp, centred, centred), meta, axes)
    root = to.unary(math.RsqrtOp, to.binary(arith.AddfOp, variance, to.build.splat(eps, shape_of(variance))))
    return to.binary(arith.MulfOp, centred, along(to, root, meta, axes))


@emits(aten.native_layer_norm.default)
def native_layer_norm(
    to: Lowering, x: Node, shape: Sequence[int], weight: Node | None, bias: Node | None, eps: float
) -> tuple[SSAValue | None, ...]:
    return _scaled_norm(to, x, shape, weight, bias, eps), None, None


@emits(aten._fused_rms_norm.default)
def fused_rms_norm(
    to: Lowering, x: Node, shape: Sequence[int], weight: Node | None, eps: float | None
) -> tuple[SSAValue | None, ...]:
    return rms_norm(to, x, shape, weight, eps), None


@emits(aten.group_norm.default)
def group_norm(
    to: Lowering, x: Node, groups: int, weight: Node | None, bias: Node | None, eps: float, *options: object
) -> SSAValue:
    """The norm of each group of channels, then a weight and a bias a channel."""
    meta = to.meta(x)
    batch, channels, *spatial = meta.shape
    grouped = Meta((batch, groups, channels // groups, *spatial), meta.dtype)
    value = to.reshape(to.value(x), grouped.ir_shape)
    value = _normalized(to, value, grouped, range(2, len(grouped.shape)), eps)
    return _by_channel(to, to.reshape(value, meta.ir_shape), meta, weight, bias)


@emits(aten.native_group_norm.default)
def native_group_norm(
    to: Lowering,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    batch: object,
    channels: object,
    size: object,
    groups: int,
    eps: float,
) -> tuple[SSAValue | None, ...]:
    return group_norm(to, x, groups, weight, bias, eps), None, None


def _by_channel(
    to: Lowering, value: SSAValue, meta: Meta, weight: Node | None, bias: Node | None
) -> SSAValue:
    if weight is not None:
        value = to.binary(arith.MulfOp, value, to.channelwise(to.value(weight), meta))
    return value if bias is None else to.binary(arith.AddfOp, value, to.channelwise(to.value(bias), meta))


@emits(aten._native_batch_norm_legit_no_training.default)
def batch_norm_inference(
    to: Lowering,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    mean: Node,
    variance: Node,
    momentum: float,
    eps: float,
) -> tuple[SSAValue, None, None]:
    """x * a + (bias - mean * a), where a = weight * (1 / sqrt(variance + eps)), both of the channel alone."""
    meta = to.meta(x)
    centre, spread = to.value(mean), to.value(variance)
    shape = shape_of(spread)
    factor = to.unary(math.RsqrtOp, to.binary(arith.AddfOp, spread, to.build.splat(eps, shape)))
    if weight is not None:
        factor = to.binary(arith.MulfOp, to.value(weight), factor)
    start = to.value(bias) if bias is not None else to.build.splat(0.0, shape)
    shift = to.binary(arith.SubfOp, start, to.binary(arith.MulfOp, centre, factor))
    scaled = to.binary(arith.MulfOp, to.value(x), to.channelwise(factor, meta))
    return to.binary(arith.AddfOp, scaled, to.channelwise(shift, meta)), None, None


@emits(aten.batch_norm.default)
def batch_norm(
    to: Lowering,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    mean: Node | None,
    variance: Node | None,
    training: bool,
    momentum: float,
    eps: float,
    *options: object,
) -> SSAValue:
    if training or mean is None or variance is None:
        raise Unsupported("statistics of the batch; call .eval() on the module")
    return batch_norm_inference(to, x, weight, bias, mean, variance, momentum, eps)[0]


@emits(aten._native_batch_norm_legit.no_stats)
def norm_of_channels(
    to: Lowering,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[SSAValue | None, ...]:
    """Each channel by its own mean and variance: what torch makes of instance_norm."""
    meta = to.meta(x)
    axes = [axis for axis in range(len(meta.shape)) if axis != 1]
    value = _normalized(to, to.value(x), meta, axes, eps)
    return _by_channel(to, value, meta, weight, bias), None, None
