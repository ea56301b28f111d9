"""`ternary.windows`, `ternary.gather` and `ternary.top_k`."""

from __future__ import annotations

import numpy as np
from xdsl.interpreter import Interpreter, InterpreterFunctions, PythonValues, impl, register_impls

from sterna.dialects.constraints import tensor
from sterna.dialects.convolve_op import ConvolveOp
from sterna.dialects.errors import CompileError
from sterna.dialects.indexing_ops import GatherOp, TopKOp, WindowsOp
from sterna.dialects.semantics.arith import integer_of
from sterna.dialects.semantics.table import Array


def windows(x: Array, op: WindowsOp | ConvolveOp) -> Array:
    """`[*leading, *positions, *rest, *offsets]`, axes of size 1 included."""
    axes = op.axes.get_values()
    margins = [(0, 0)] * x.ndim
    for axis, low, high in zip(axes, op.low.get_values(), op.high.get_values(), strict=True):
        margins[axis] = (low, high)
    number = op.padding.value.data
    padding = integer_of(number, x.dtype) if isinstance(number, int) else x.dtype.type(number)
    slid: Array = np.pad(x, margins, constant_values=padding)
    sizes, strides, dilations = (n.get_values() for n in (op.sizes, op.strides, op.dilations))
    # From the last axis to the first, so that those before it keep their numbers.
    for j in reversed(range(len(axes))):
        axis, size, stride, dilation = axes[j], sizes[j], strides[j], dilations[j]
        count: int = (slid.shape[axis] - (size - 1) * dilation - 1) // stride + 1
        at = np.add.outer(np.arange(count) * stride, np.arange(size) * dilation)
        slid = np.moveaxis(slid.take(at, axis), axis + 1, x.ndim)
    leading = op.leading.value.data
    rest = [axis for axis in range(leading, x.ndim) if axis not in axes]
    return slid.transpose(*range(leading), *axes, *rest, *range(x.ndim, slid.ndim))


def order_keys(x: Array) -> Array:
    """Integers in the order of the elements: -0 as +0, NaN above all."""
    if x.dtype != np.float32:
        return x.astype(np.int64)
    bits = (x + np.float32(0.0)).view(np.int32)
    keys = np.where(bits < 0, bits ^ np.iinfo(np.int32).max, bits)
    return np.where(np.isnan(x), np.iinfo(np.int32).max, keys)


def top_k(x: Array, k: int, *, largest: bool) -> tuple[Array, Array]:
    """(values, indices), each `[..., k]`."""
    keys = order_keys(x)
    # ~key reverses the order of integers without overflow, and leaves ties in the order of their indices.
    indices = np.argsort(~keys if largest else keys, axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(x, indices, axis=-1), indices


@register_impls
class IndexingFunctions(InterpreterFunctions):
    @impl(WindowsOp)
    def windows(self, interpreter: Interpreter, op: WindowsOp, args: PythonValues) -> PythonValues:
        full = windows(args[0], op)
        declared = op.full_shape(tensor(op.x).get_shape())
        kept = [size for size, static in zip(full.shape, declared, strict=True) if static != 1]
        return (full.reshape(kept),)

    @impl(GatherOp)
    def gather(self, interpreter: Interpreter, op: GatherOp, args: PythonValues) -> PythonValues:
        data, indices = args
        axis = op.axis.value.data
        if data.shape[axis] == 0 and indices.size:
            raise CompileError(f"axis {axis} of data is empty")
        return (np.take(data, np.clip(indices.astype(np.int64), 0, data.shape[axis] - 1), axis),)

    @impl(TopKOp)
    def top_k(self, interpreter: Interpreter, op: TopKOp, args: PythonValues) -> PythonValues:
        k = op.k.value.data
        if args[0].shape[-1] < k:
            raise CompileError(f"there are {args[0].shape[-1]} elements, fewer than k = {k}")
        values, indices = top_k(args[0], k, largest=op.largest)
        if k == 1:
            values, indices = values[..., 0], indices[..., 0]
        return values, indices.astype(np.int64)
