"""A node against its operator's definition in the installed onnx: how many inputs, their types, which attributes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from inspect import Parameter, signature

from onnx import NodeProto
from onnx.defs import OpSchema, SchemaError, get_schema

from sterna.frontends.onnx.data_types import DataType
from sterna.frontends.onnx.emitters import Emitter
from sterna.frontends.onnx.errors import OnnxError, shown
from sterna.frontends.onnx.values import Tensor

WORDS = {"float32": "float", "float64": "double"}


@cache
def schema_of(domain: str, operator: str, version: int) -> OpSchema | None:
    """The operator's definition at a version of its domain; None for one that onnx does not define."""
    try:
        return get_schema(operator, version, domain)
    except SchemaError:
        return None


def check_node(node: NodeProto, schema: OpSchema, inputs: Sequence[Tensor | None], place: str) -> None:
    """OnnxError, which names the input or attribute, for a node that its definition does not allow."""
    for kind, count, low, high in (
        ("inputs", len(inputs), schema.min_input, schema.max_input),
        ("outputs", len(node.output), schema.min_output, schema.max_output),
    ):
        if not low <= count <= high:
            expected = f"{low}" if low == high else f"{low} or more" if high > 100 else f"{low} to {high}"
            raise OnnxError(f"{place}: expected {expected} {kind}, found {count}")
    seen: set[str] = set()
    for attribute in node.attribute:
        if attribute.name in seen:
            raise OnnxError(f"{place}: attribute '{shown(attribute.name)}' is there twice")
        if attribute.name not in schema.attributes:
            raise OnnxError(f"{place}: the operator has no attribute '{shown(attribute.name)}'")
        seen.add(attribute.name)
    _check_types(schema, inputs, place)


def check_call(emitter: Emitter, inputs: Sequence[Tensor | None], place: str) -> None:
    """OnnxError for inputs of an operator that onnx does not define, which its emitter does not take."""
    low, parameters, is_open = _parameters(emitter)
    if len(inputs) < low or (len(inputs) > len(parameters) and not is_open):
        expected = f"{low} or more" if is_open or len(parameters) > low else f"{low}"
        raise OnnxError(f"{place}: expected {expected} inputs, found {len(inputs)}")
    for number, tensor in enumerate(inputs):
        name, may_be_left_out = parameters[number] if number < len(parameters) else (f"{number}", False)
        if tensor is None and not may_be_left_out:
            raise OnnxError(f"{place}: input '{name}' is left out")


@cache
def _parameters(emitter: Emitter) -> tuple[int, list[tuple[str, bool]], bool]:
    """How many inputs an emitter needs, their names and whether None is one, and whether more may follow."""
    _, *after = signature(emitter).parameters.values()
    named = [each for each in after if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
    low = sum(each.default is Parameter.empty for each in named)
    is_open = any(each.kind is Parameter.VAR_POSITIONAL for each in after)
    return low, [(each.name, each.default is not Parameter.empty) for each in named], is_open


def _check_types(schema: OpSchema, inputs: Sequence[Tensor | None], place: str) -> None:
    allowed = {
        constraint.type_param_str: constraint.allowed_type_strs for constraint in schema.type_constraints
    }
    bound: dict[str, tuple[str, DataType]] = {}
    for number, tensor in enumerate(inputs):
        parameter = schema.inputs[min(number, len(schema.inputs) - 1)]
        if tensor is None:
            if parameter.option != OpSchema.FormalParameterOption.Optional:
                raise OnnxError(f"{place}: input '{parameter.name}' is left out")
            continue
        word = WORDS.get(tensor.type.name, tensor.type.name)
        if f"tensor({word})" not in allowed.get(parameter.type_str, [parameter.type_str]):
            raise OnnxError(
                f"{place}: input '{parameter.name}': a tensor of {tensor.type.name} is not allowed"
            )
        if not parameter.is_homogeneous:
            continue
        name, type = bound.setdefault(parameter.type_str, (parameter.name, tensor.type))
        if type != tensor.type:
            raise OnnxError(
                f"{place}: inputs '{name}' and '{parameter.name}' have one type, "
                f"found {type.name} and {tensor.type.name}"
            )
