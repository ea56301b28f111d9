"""Small ONNX models, run by Sterna's interpreter and by the executors that they are compared with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from sterna.dialects.interpreter import run
from sterna.frontends.onnx.frontend import OnnxFrontend

Array = np.ndarray[Any, Any]

NEWEST_COMMON_OPSET = 22
"""One that the installed ONNX Runtime knows too."""


def node_model(
    operator: str,
    inputs: Mapping[str, Array],
    *,
    outputs: Sequence[int] = (TensorProto.FLOAT,),
    constants: Sequence[str] = (),
    order: Sequence[str] | None = None,
    opset: int = NEWEST_COMMON_OPSET,
    domain: str = "",
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node. `constants` names the inputs that are initializers; "" in `order` leaves one out."""
    names = [f"y{number}" for number in range(len(outputs))]
    node = helper.make_node(operator, list(order or inputs), names, domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "test",
        [value_info(name, array) for name, array in inputs.items() if name not in constants],
        [helper.make_tensor_value_info(name, type, None) for name, type in zip(names, outputs, strict=True)],
        [numpy_helper.from_array(inputs[name], name) for name in constants],
    )
    return finished(graph, opset, domain)


def value_info(name: str, array: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def finished(graph: onnx.GraphProto, opset: int = NEWEST_COMMON_OPSET, *domains: str) -> onnx.ModelProto:
    """The model of a graph, of an IR version that ONNX Runtime reads."""
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains if d)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def model_inputs(model: onnx.ModelProto) -> list[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in constants]


def interpreted(model: onnx.ModelProto, inputs: Mapping[str, Array], **options: Any) -> list[Array]:
    """The outputs as the interpreter computes them, in ONNX's shapes and types."""
    imported = OnnxFrontend().load(model, **options)
    imported.module.verify()
    arrays = [in_ir(inputs[name]) for name in model_inputs(model)]
    results = run(imported.module, arrays, weights=imported.weights)
    return [
        as_declared(array, shape, output.type.tensor_type.elem_type)
        for array, shape, output in zip(
            results, output_shapes(imported.module), model.graph.output, strict=True
        )
    ]


def in_ir(array: Array) -> Array:
    """An input without axes of size 1, unsigned integers as the signed ones of the same bits."""
    array = array.reshape([size for size in array.shape if size != 1])
    return array.view(f"i{array.itemsize}") if array.dtype.kind == "u" else array


def as_declared(array: Array, shape: Sequence[int], type: int) -> Array:
    """A result in ONNX's shape, where at most one size is -1, and type."""
    dtype = helper.tensor_dtype_to_np_dtype(type)
    array = np.asarray(array).reshape(shape)
    return array.view(dtype) if dtype.kind == "u" and dtype.itemsize == array.itemsize else array


def output_shapes(module: ModuleOp) -> list[tuple[int, ...]]:
    (forward,) = (op for op in module.ops if isinstance(op, FuncOp))
    shapes: Any = forward.attributes["sterna.output_shapes"]
    return [tuple(shape.get_values()) for shape in shapes]


def by_onnxruntime(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {name: inputs[name] for name in model_inputs(model)}))


def by_qonnx(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """By the reference executor of QONNX."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    with warnings.catch_warnings():
        # It warns of every shape that it could not infer.
        warnings.simplefilter("ignore")
        wrapper = ModelWrapper(model).transform(InferShapes())
        results = execute_onnx(wrapper, dict(inputs))
    return [results[output.name] for output in model.graph.output]
