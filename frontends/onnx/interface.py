"""The inputs of a model: their types, and which of their symbolic dimensions are numbers, T, or the batch.

A dimension that a model leaves open has a name (`dim_param`), or none, and is then called after its input and axis,
`x.0`. `sizes` gives some of them a number, or "T"; at most one stays open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from onnx import ModelProto, TypeProto, ValueInfoProto

from sterna.frontends.onnx.data_types import DataType, data_type
from sterna.frontends.onnx.errors import OnnxError, Unsupported, shown
from sterna.frontends.onnx.sizes import BATCH, ROWS, Dim, Shape, Size
from sterna.frontends.onnx.tensors import LARGEST_RANK
from sterna.frontends.onnx.values import Tensor, known

LARGEST_SIZE = 1 << 40


def model_inputs(proto: ModelProto) -> list[ValueInfoProto]:
    """The inputs that a caller gives: an initializer of the same name makes one a constant."""
    initialized = {tensor.name for tensor in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in initialized]


def input_type(value: ValueInfoProto, where: str) -> tuple[DataType, list[int | str]]:
    """The element type and the shape, open dimensions by their names. OnnxError for an input that is no tensor."""
    where = f"{where} '{shown(value.name)}'"
    if value.type.WhichOneof("value") != "tensor_type":
        found = value.type.WhichOneof("value") or "no type"
        raise OnnxError(f"{where}: expected a tensor, found {found}")
    tensor: TypeProto.Tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise OnnxError(f"{where}: shape: the model does not say how many axes it has")
    if len(tensor.shape.dim) > LARGEST_RANK:
        raise OnnxError(
            f"{where}: shape: expected at most {LARGEST_RANK} axes, found {len(tensor.shape.dim)}"
        )
    shape: list[int | str] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if not dim.HasField("dim_value"):
            shape.append(dim.dim_param or f"{value.name}.{axis}")
        elif 0 <= dim.dim_value <= LARGEST_SIZE:
            shape.append(dim.dim_value)
        else:
            raise OnnxError(f"{where}: shape: axis {axis}: expected a size >= 0, found {dim.dim_value}")
    try:
        type = data_type(tensor.elem_type)
        assert type.element
    except Unsupported as error:
        raise OnnxError(f"{where}: elem_type: {error} are not supported as an input") from None
    return type, shape


def bind_sizes(
    shapes: Sequence[Sequence[int | str]],
    sizes: Mapping[str, int | str],
    name: str,
    *,
    by_sample: bool = False,
) -> dict[str, Dim]:
    """What each open dimension is: of two, the one that is always a first axis is the batch; `by_sample`, of one.

    OnnxError for a name that no input has, or if more stay open.
    """
    open_names = list(dict.fromkeys(size for shape in shapes for size in shape if isinstance(size, str)))
    if unknown := sorted(set(sizes) - set(open_names)):
        known = ", ".join(f"'{shown(each)}'" for each in open_names) or "none"
        raise OnnxError(f"{name}: sizes: no input has a dimension '{shown(unknown[0])}', only: {known}")
    bound: dict[str, Dim] = {}
    for dimension, size in sizes.items():
        if size == ROWS:
            bound[dimension] = Size.symbol(ROWS)
        elif isinstance(size, int) and 0 < size <= LARGEST_SIZE:
            bound[dimension] = size
        else:
            raise OnnxError(f"{name}: sizes: '{shown(dimension)}': expected a number > 0 or T, found {size}")
    left = [dimension for dimension in open_names if dimension not in bound]
    is_taken = any(isinstance(size, Size) for size in bound.values())
    if len(left) + is_taken > 1 or by_sample:
        inner = {size for shape in shapes for size in shape[1:] if isinstance(size, str)}
        if batch := next((dimension for dimension in left if dimension not in inner), None):
            bound[batch] = Size.symbol(BATCH)
            left.remove(batch)
    if len(left) + is_taken > 1:
        listed = ", ".join(f"'{shown(each)}'" for each in left)
        raise OnnxError(
            f"{name}: the dimensions {listed} are open, and one at most may be, beside a batch in front: "
            f"give sizes, as in --size {shown(left[0])}=1"
        )
    return {**bound, **{dimension: Size.symbol(ROWS) for dimension in left}}


def constant_input(value: ValueInfoProto, given: ArrayLike, where: str) -> Tensor:
    """An input with the numbers that it is given. OnnxError if they are of another type or shape."""
    where = f"{where} '{shown(value.name)}'"
    try:
        type = data_type(value.type.tensor_type.elem_type)
    except Unsupported as error:
        raise OnnxError(f"{where}: elem_type: {error} are not supported") from None
    array = np.asarray(given)
    sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
    fits = len(sizes) == array.ndim and all(w in (-1, n) for w, n in zip(sizes, array.shape, strict=True))
    if not fits or not np.can_cast(array.dtype, type.held, "same_kind"):
        raise OnnxError(
            f"{where}: expected {type.name} of shape {sizes}, found {array.dtype} of {list(array.shape)}"
        )
    return known(array.astype(type.held), type, value.name)


def bound_shape(shape: Sequence[int | str], bound: Mapping[str, Dim]) -> Shape:
    return tuple(bound[size] if isinstance(size, str) else size for size in shape)
