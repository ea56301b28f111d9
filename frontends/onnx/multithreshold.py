"""FINN's MultiThreshold, of QONNX: how many of a channel's thresholds an element reaches."""

from __future__ import annotations

from xdsl.dialects import arith
from xdsl.dialects.builtin import i8
from xdsl.ir import SSAValue

from sterna.dialects.ternary import ThresholdOp
from sterna.frontends.onnx.data_types import BY_NAME, FLOAT
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.qonnx import EMITTERS, emits
from sterna.frontends.onnx.sizes import shape_text
from sterna.frontends.onnx.values import Tensor

__all__ = ["EMITTERS"]

INT8 = BY_NAME["int8"]
MOST_THRESHOLDS = 255
"""Their count must fit a byte."""
LAYOUTS = {2: "NC", 3: "NWC", 4: "NCHW"}


@emits("MultiThreshold")
def multi_threshold(to: Node, x: Tensor, thresholds: Tensor) -> Tensor:
    """out_scale * (how many of thresholds [C, N] are <= x) + out_bias; C = 1 where all channels have the same."""
    axis = _channel_axis(to, x)
    steps = thresholds.shape[1] if thresholds.rank == 2 else 0
    if thresholds.rank != 2 or thresholds.shape[0] not in (1, x.shape[axis]):
        raise OnnxError(
            f"{to.place}: thresholds: {shape_text(thresholds.shape)} do not fit the channels of {shape_text(x.shape)}"
        )
    if not isinstance(steps, int) or not 1 <= steps <= MOST_THRESHOLDS:
        raise Unsupported(f"{steps} thresholds a channel")
    base = 0 if steps <= INT8.largest else -128
    place, channels = x.ir_axis(axis), x.shape[axis]
    if place is None or steps == 1 or not isinstance(channels, int):
        counts = _counted(to, x, thresholds, axis, steps, base)
    else:
        table = to.broadcast(thresholds, (channels, steps))
        rank = len(x.ir_shape)
        order = [*(other for other in range(rank) if other != place), place]
        counts = to.build.add(ThresholdOp(to.build.transpose(to.value(x), order), table, base))
        counts = to.build.transpose(counts, [order.index(other) for other in range(rank)])
    value = to.value(to.cast(to.result(counts, x.shape, INT8), FLOAT))
    bias = to.number("out_bias", 0.0)
    if base:
        value = to.binary(arith.AddfOp, value, to.splat(-base, x.shape, FLOAT))
    if (factor := to.number("out_scale", 1.0)) != 1:
        value = to.binary(arith.MulfOp, value, to.splat(factor, x.shape, FLOAT))
    if bias:
        value = to.binary(arith.AddfOp, value, to.splat(bias, x.shape, FLOAT))
    return to.result(value, x.shape, FLOAT)


def _channel_axis(to: Node, x: Tensor) -> int:
    layout = to.text("data_layout", "") or LAYOUTS.get(x.rank, "")
    axis = layout.index("C") if "C" in layout else 1
    if axis >= x.rank:
        raise OnnxError(f"{to.place}: data_layout: {shape_text(x.shape)} has no axis {axis}")
    return axis


def _counted(to: Node, x: Tensor, thresholds: Tensor, axis: int, steps: int, base: int) -> SSAValue:
    """The counts as a sum of comparisons, one after the other."""
    place = len(Tensor(thresholds.shape[:1], FLOAT).ir_shape)
    total = to.splat(base, x.shape, INT8)
    for step in range(steps):
        column = to.value(thresholds)
        if steps > 1:
            column = to.build.slice(column, place, step, 1)
        sizes = (*thresholds.shape[:1], *([1] * (x.rank - axis - 1)))
        bound = to.stretch(column, sizes, x.shape)
        is_reached = to.compare("ge", to.value(x), bound, FLOAT)
        total = to.binary(arith.AddiOp, total, to.map(is_reached, i8, lambda b: arith.ExtUIOp(b, i8)))
    return total
