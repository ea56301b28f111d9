"""Sterna as a backend in ONNX's own sense: what its conformance tests run, and other tools that take backends.

    from sterna.onnx_backend import SternaBackend
    outputs = SternaBackend.prepare(model, "CPU").run([x])

The device is a target's name, in any case, or INTERPRETER, which runs the imported program by its definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto
from onnx.backend.base import Backend, BackendRep
from onnx.helper import tensor_dtype_to_np_dtype
from onnx.numpy_helper import to_array
from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, IntegerType, ModuleOp
from xdsl.ir import Attribute

from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.weights import WeightStore
from sterna.frontends.errors import UnsupportedOpsError
from sterna.frontends.onnx.frontend import OnnxFrontend
from sterna.in_memory import jit
from sterna.plugins import target_names
from sterna.targets.interface import find_entry

Array = npt.NDArray[Any]
Runner = Callable[[Sequence[Array]], Sequence[Array]]

INTERPRETER = "INTERPRETER"
KNOWN_WHEN_COMPILING = "must be known when compiling"


class SternaBackend(Backend):
    """Compiles models; CompileError for one that is malformed or has unsupported nodes."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.upper() == INTERPRETER or device.lower() in target_names()

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> SternaModel:
        """The model, ready to run; `sizes` gives open dimensions a number, by name."""
        return SternaModel(model, device, kwargs.get("sizes", {}))


class SternaModel(BackendRep):
    """A model on a device.

    Inputs that decide shapes (axes, sizes, k) are arrays like others to ONNX; Sterna knows them when it compiles. A
    model that has such inputs is compiled when it is run, for the values that it is given then.
    """

    def __init__(self, model: ModelProto, device: str, sizes: Mapping[str, int | str]) -> None:
        self._model = model
        self._device = device
        self._sizes = dict(sizes)
        initialized = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [value for value in model.graph.input if value.name not in initialized]
        self._outputs = [value.type.tensor_type.elem_type for value in model.graph.output]
        self._runner: Runner | None = None
        try:
            self._runner = self._compile({})
        except UnsupportedOpsError as error:
            if not all(KNOWN_WHEN_COMPILING in op.reason for op in error.ops):
                raise

    def _compile(self, constants: Mapping[str, Array]) -> Runner:
        imported = OnnxFrontend().load(self._model, sizes=self._sizes, constants=constants)
        if self._device.upper() != INTERPRETER:
            return jit(imported.module, imported.weights, self._device.lower()).run
        imported.module.verify()
        return _interpreted(imported.module, imported.weights)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """Runs on arrays in the order of the model's inputs, or by name."""
        names = [value.name for value in self._inputs]
        values: Sequence[Any] = [inputs[name] for name in names] if isinstance(inputs, Mapping) else inputs  # pyright: ignore[reportUnknownVariableType]
        arrays = {name: _array(value) for name, value in zip(names, values, strict=True)}
        runner = self._runner
        if runner is None:
            deciding = {name: array for name, array in arrays.items() if _may_decide_shapes(array)}
            runner = self._compile(deciding)
            arrays = {name: array for name, array in arrays.items() if name not in deciding}
        results = runner([_held(array) for array in arrays.values()])
        return tuple(_as_declared(result, code) for result, code in zip(results, self._outputs, strict=True))


def _interpreted(module: ModuleOp, weights: WeightStore) -> Runner:
    """Runs the imported program by its definition, on arrays of ONNX's shapes."""
    interpreter = ModuleInterpreter(module, weights)
    shapes = [
        tuple(cast("DenseArrayBase[IntegerType]", shape).get_values())
        for shape in cast("ArrayAttr[Attribute]", find_entry(module).attributes["sterna.output_shapes"])
    ]

    def run(arrays: Sequence[Array]) -> list[Array]:
        results = interpreter.run([array.reshape(_without_units(array.shape)) for array in arrays])
        return [_with_units(result, shape) for result, shape in zip(results, shapes, strict=True)]

    return run


def _without_units(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _with_units(array: Array, shape: Sequence[int]) -> Array:
    """A result with the axes of size 1 that the IR drops."""
    sizes = iter(array.shape)
    return array.reshape([1 if size == 1 else next(sizes) for size in shape])


def _array(value: Any) -> Array:
    return to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _may_decide_shapes(array: Array) -> bool:
    return array.ndim == 0 or (array.ndim == 1 and array.dtype.kind in "ib")


def _held(array: Array) -> Array:
    """As the program takes it: floats of 32 bits, integers by their bits, small ones in 8."""
    match array.dtype.name:
        case "float16" | "bfloat16":
            return array.astype(np.float32)
        case "int4" | "int2":
            return array.astype(np.int8)
        case "uint4" | "uint2":
            return array.astype(np.uint8).view(np.int8)
        case _:
            return array.view(f"int{8 * array.itemsize}") if array.dtype.kind == "u" else array


def _as_declared(array: Array, code: int) -> Array:
    """As ONNX's type of the output says."""
    if code in (TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64):
        return array.view(f"uint{8 * array.itemsize}")
    return array.astype(cast(Any, tensor_dtype_to_np_dtype(code)), copy=False)
