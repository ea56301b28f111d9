"""Operators that ONNX itself defines by others: the definition is unfolded where there is no emitter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from onnx import AttributeProto, FunctionProto, NodeProto, TypeProto
from onnx.defs import OpSchema

from sterna.frontends.onnx.errors import Unsupported
from sterna.frontends.onnx.values import Tensor


class _Defined(Protocol):
    """What onnx's type stubs leave out of `OpSchema`."""

    function_opset_versions: Sequence[int]
    context_dependent_function_opset_versions: Sequence[int]

    def get_function_with_opset_version(self, version: int) -> bytes: ...

    def get_context_dependent_function_with_opset_version(
        self, version: int, node: bytes, types: Sequence[bytes]
    ) -> bytes: ...


def has_definition(schema: OpSchema) -> bool:
    defined = cast(_Defined, schema)
    return bool(defined.function_opset_versions or defined.context_dependent_function_opset_versions)


def definition(
    schema: OpSchema, node: NodeProto, inputs: Sequence[Tensor | None], version: int
) -> FunctionProto:
    """The operator's body, of the newest opset up to that of the model, or of the oldest that has one.

    A body may depend on the node's attributes and on the types of its inputs. The operator's own defaults of attributes
    are added to it. Unsupported for a node of which onnx makes none.
    """
    defined = cast(_Defined, schema)
    fixed = sorted(defined.function_opset_versions)
    by_context = sorted(defined.context_dependent_function_opset_versions)
    function = FunctionProto()
    try:
        if fixed:
            text = defined.get_function_with_opset_version(_newest(fixed, version))
        else:
            types = [_type(tensor).SerializeToString() for tensor in inputs]
            text = defined.get_context_dependent_function_with_opset_version(
                _newest(by_context, version), node.SerializeToString(), types
            )
        function.ParseFromString(text)
    except Exception as error:  # onnx's builders are C++, and raise whatever they like
        raise Unsupported("onnx makes no function of these attributes and inputs") from error
    given = {attribute.name for attribute in function.attribute_proto}
    for name, attribute in schema.attributes.items():
        if name not in given and attribute.default_value.type != AttributeProto.UNDEFINED:
            function.attribute_proto.append(attribute.default_value)
    return function


def _newest(versions: Sequence[int], version: int) -> int:
    return max((each for each in versions if each <= version), default=versions[0])


def _type(tensor: Tensor | None) -> TypeProto:
    """What onnx's builders are told of an input; nothing of one that is left out."""
    type = TypeProto()
    if tensor is not None:
        type.tensor_type.elem_type = tensor.type.code
        for size in tensor.shape:
            dim = type.tensor_type.shape.dim.add()
            if isinstance(size, int):
                dim.dim_value = size
        type.tensor_type.shape.SetInParent()
    return type
