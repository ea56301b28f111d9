"""Imports an `nn.Module`: exports it, imports the program, and leaves its numbers where they are.

imported = TorchModuleFrontend().load(model.eval(), (tokens, state), dynamic_rows={"tokens": 1}, states=1)
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree
from xdsl.dialects.builtin import UnitAttr

from sterna.dialects.weight_ops import FLOAT_LAYERS
from sterna.frontends import Imported
from sterna.frontends.errors import FrontendError
from sterna.frontends.torch_export import constants_of, import_program, plainly

_WORDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class TensorStore:
    """A weight store over torch tensors, each turned into an array when it is read."""

    tensors: Mapping[str, torch.Tensor]

    def read(self, name: str) -> npt.NDArray[Any]:
        """As the importer types them: uint8 as the int8 of the same bits, bfloat16 and float64 as float32."""
        value = self.tensors[name].detach().cpu()
        if value.dtype in (torch.bfloat16, torch.float64):
            value = value.float()
        array: npt.NDArray[Any] = value.numpy()
        return array.view(np.int8) if array.dtype == np.uint8 else array

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)

    def dtype(self, name: str) -> str:
        return _WORDS[self.tensors[name].dtype]


@dataclass(frozen=True)
class TorchModuleFrontend:
    """Imports a module as it stands, in its present mode and with its present numbers."""

    def load(
        self,
        source: nn.Module,
        example_inputs: Sequence[Any],
        *,
        dynamic_rows: Mapping[str, int] | None = None,
        dynamic_shapes: Any = None,
        states: int = 0,
        input_names: Sequence[str] | None = None,
    ) -> Imported:
        """Imports `source` as called on `example_inputs`.

        Every size is that of the examples, except where `dynamic_rows` names an argument of `forward` and the axis of
        it that is T, the one open size (its example must be at least 2 long there); `dynamic_shapes`, as
        `torch.export` takes it, may stand in its place. The last `states` inputs and results are recurrent states.
        FrontendError for a module that torch cannot export; UnsupportedOpsError lists the ops that are not known.
        """
        program = export(source, example_inputs, dynamic_rows=dynamic_rows, dynamic_shapes=dynamic_shapes)
        module = import_program(program, states=states, input_names=input_names)
        # state_dict leaves out buffers that are not saved; the program may use them.
        tensors = {**dict(source.named_buffers()), **source.state_dict(), **constants_of(program)}
        module.attributes[FLOAT_LAYERS] = UnitAttr()
        return Imported(module, TensorStore(tensors))


def export(
    module: nn.Module,
    example_inputs: Sequence[Any],
    *,
    dynamic_rows: Mapping[str, int] | None = None,
    dynamic_shapes: Any = None,
) -> ExportedProgram:
    """`torch.export` without its traceback; the module may be on the meta device."""
    if dynamic_rows is not None and dynamic_shapes is not None:
        raise FrontendError("dynamic_rows and dynamic_shapes say the same thing: give one")
    if dynamic_rows is not None:
        dynamic_shapes = _row_shapes(module, example_inputs, dynamic_rows)
    try:
        with torch.no_grad(), plainly():
            return torch.export.export(
                module, tuple(example_inputs), dynamic_shapes=dynamic_shapes, strict=False
            )
    except Exception as error:  # torch raises many types, RuntimeError and its own among them
        reason = next(
            (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        raise FrontendError(f"torch.export cannot export {type(module).__name__}: {reason}") from error


def _row_shapes(module: nn.Module, example_inputs: Sequence[Any], rows: Mapping[str, int]) -> dict[str, Any]:
    """What `torch.export` calls dynamic shapes: a tree like the arguments, with None for a tensor that is static."""
    try:
        arguments = inspect.signature(module.forward).bind(*example_inputs).arguments
    except TypeError as error:
        raise FrontendError(
            f"the example inputs do not fit {type(module).__name__}.forward: {error}"
        ) from None
    if unknown := sorted(set(rows) - set(arguments)):
        raise FrontendError(
            f"dynamic_rows: forward has no argument '{unknown[0]}', only {', '.join(arguments)}"
        )
    for name, axis in rows.items():
        value = arguments[name]
        if not isinstance(value, torch.Tensor) or not 0 <= axis < value.dim():
            raise FrontendError(f"dynamic_rows: '{name}' is not a tensor with an axis {axis}")
        if value.shape[axis] < 2:
            raise FrontendError(f"dynamic_rows: the example of '{name}' is less than 2 long on axis {axis}")
    dim = Dim("rows", min=1)
    shapes = {name: pytree.tree_map(_static, value) for name, value in arguments.items()}
    return {**shapes, **{name: {axis: dim} for name, axis in rows.items()}}


def _static(_: object) -> None:
    """No axis of this argument is dynamic."""
