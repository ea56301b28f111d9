"""Convolutions: windows, then sums of products with the weight as a matrix.

    Conv(x [N, C, H, W], w [M, C, KH, KW])
        ->  %c = ternary.windows %x ... : tensor<NxCxHxWxf32> -> tensor<NxOHxOWxCxKHxKWxf32>
            %y = the sums over C KH KW of %c * %w : tensor<NxOHxOWxMxf32>, transposed to [N, M, OH, OW]

Groups are one more axis that windows and weight share.
"""

from __future__ import annotations

from math import prod
from string import ascii_lowercase

from xdsl.dialects import arith
from xdsl.ir import SSAValue

from sterna.frontends.onnx.contractions import labelled_product
from sterna.frontends.onnx.emitters import EmitterTable
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.sizes import Shape, Size, shape_text
from sterna.frontends.onnx.values import Tensor
from sterna.frontends.onnx.windows import read_windows, slide, spatial_axes

EMITTERS = EmitterTable()
emits = EMITTERS.of

MOST_AXES = 16


@emits("Conv")
def conv(to: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    sums, shape = convolve(to, x, weight)
    if bias is not None:
        if bias.shape != weight.shape[:1]:
            raise OnnxError(
                f"{to.place}: input 'B': expected {shape_text(weight.shape[:1])}, found {shape_text(bias.shape)}"
            )
        sums = to.binary(arith.AddfOp, sums, to.broadcast(bias, shape))
    return channels_first(to, Tensor(shape, x.type, sums))


def channels_first(to: Node, x: Tensor) -> Tensor:
    """[N, *P, M] -> [N, M, *P]"""
    order = [0, x.rank - 1, *range(1, x.rank - 1)]
    places = [place for axis in order if (place := x.ir_axis(axis)) is not None]
    return to.result(to.build.transpose(to.value(x), places), [x.shape[axis] for axis in order], x.type)


def convolve(to: Node, x: Tensor, weight: Tensor) -> tuple[SSAValue, Shape]:
    """The sums of products, and their ONNX shape `[N, *positions, M]`. x and weight have one element type."""
    groups, channels, kernel = _weight_sizes(to, x, weight)
    spatial = spatial_axes(to, x.shape)
    if len(spatial) > MOST_AXES:
        raise Unsupported(f"{len(spatial)} spatial axes")
    windows = read_windows(to, spatial, kernel)
    columns, shape = slide(to, to.value(x), x.shape, windows, 0, x.type, leading=1)
    rows = shape[: 1 + len(spatial)]
    inner = prod(size for size in weight.shape[1:] if isinstance(size, int))
    columns = Tensor((*rows, groups, inner), x.type, to.reshape(columns, (*rows, groups, inner)))
    sizes = (groups, channels // groups, inner)
    matrix = Tensor(sizes, x.type, to.reshape(to.value(weight), sizes))
    outer = ascii_lowercase[: len(rows)]
    sums = labelled_product(to, columns, matrix, f"{outer}xz", "xyz", f"{outer}xy")
    result = (*rows, channels)
    return to.reshape(to.value(sums), result), result


def _weight_sizes(to: Node, x: Tensor, weight: Tensor) -> tuple[int, int, list[int]]:
    """Groups, output channels and kernel, each checked against x and the attributes."""
    groups = to.integer("group", 1)
    if x.rank != weight.rank:
        raise OnnxError(
            f"{to.place}: {shape_text(x.shape)} and a weight of {shape_text(weight.shape)} do not fit"
        )
    sizes = [size for size in weight.shape if isinstance(size, int)]
    if len(sizes) != weight.rank or isinstance(x.shape[1], Size):
        raise Unsupported("channels or a kernel of unknown size")
    channels, columns, *kernel = sizes
    if not 1 <= groups <= channels or channels % groups or x.shape[1] != columns * groups:
        raise OnnxError(
            f"{to.place}: group: {groups} groups do not fit {shape_text(x.shape)} "
            f"and a weight of {shape_text(weight.shape)}"
        )
    if (declared := to.integers("kernel_shape", kernel)) != kernel:
        raise OnnxError(f"{to.place}: kernel_shape: expected {kernel}, that of the weight, found {declared}")
    return groups, channels, kernel
